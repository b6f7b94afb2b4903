//! A bucket that is away, refuses, or is slow.

use std::time::Duration;

use tests::faults::{FaultSettings, Latency};
use tests::s3::{ACCESS_KEY, S3Server, S3Settings, SECRET_KEY};

use super::pods::{BROKER, CONTROLLER, Values};
use super::scene::Scene;
use super::shell;

/// A bucket, and the Secret that opens it.
pub(super) struct Bucket(S3Server);

// === impl Bucket ===

impl Bucket {
    pub(super) async fn start() -> Self {
        Self(S3Server::start(S3Settings::default()).await.unwrap())
    }

    pub(super) fn values(&self) -> Values {
        let url = self.0.url("runbooks");
        // The keys come as environment, as the chart has it.
        let (store, _) = url.split_once("&access_key_id").unwrap();
        Values {
            store: store.to_owned(),
            secret: secret(SECRET_KEY),
            config: vec!["wal.object.puts.per.second=100"],
            ..Values::default()
        }
    }

    pub(super) fn away(&self) {
        self.0.set_faults(FaultSettings {
            away: true,
            ..FaultSettings::default()
        });
    }

    pub(super) fn back(&self) {
        self.0.set_faults(FaultSettings::default());
    }

    fn slow(&self) {
        let latency = Some(Latency {
            median: Duration::from_millis(2500),
            p99: Duration::from_millis(2600),
        });
        self.0.set_faults(FaultSettings {
            latency,
            ..FaultSettings::default()
        });
    }

    pub(super) async fn stop(self) {
        self.0.shutdown().await;
    }
}

fn secret(secret: &str) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bucket_unreachable() {
    let bucket = Bucket::start().await;
    let mut values = bucket.values();
    values.config.push("upload.age.ms=1000");
    let rehearsal = tokio::task::spawn_blocking(move || {
        let mut scene = Scene::begin("bucket-unreachable", values);
        unreachable(&mut scene, &bucket);
        denied(&mut scene, &bucket);
        scene.end();
        bucket
    });
    rehearsal.await.unwrap().stop().await;
}

fn unreachable(scene: &mut Scene, bucket: &Bucket) {
    scene.write(50);
    bucket.away();
    scene.look();
    scene.write(50);
    scene.has("headwater_store_requests_total");
    scene.fires("HeadwaterStoreUnreachable");
    let age = scene.book.metric("headwater_storage_unuploaded_age_ms");
    scene.until("what is not uploaded grows old", |_, now| {
        let brokers = ["headwater-broker-100", "headwater-broker-101"];
        brokers.iter().all(|pod| now.of(pod, &age) > Some(3000.0))
    });
    scene.logs(&[]);
    scene.asks("HeadwaterGroupsNotLoading", "groups_partitions_loading");
    let probe = scene.book.command("object probe");
    let told = shell::run(&mut scene.pods, &probe);
    assert!(!told.ok, "{}", told.text);

    bucket.back();
    scene.line(&probe);
    scene.flush();
    scene.look();
    scene.write(10);
    scene.flush();
    scene.rests("HeadwaterStoreUnreachable");
    scene.until("all is uploaded", |_, now| now.sum(&age) < 3000.0);
}

/// Its key is another one from now on; pods have the old one until they are made anew.
fn denied(scene: &mut Scene, bucket: &Bucket) {
    scene.look();
    bucket.0.rotate("another secret");
    scene.write(50);
    scene.fires("HeadwaterStoreDenied");
    scene.pods.values.secret = secret("another secret");
    scene.run(&format!("rollout restart statefulset {BROKER}"));
    scene.run(&format!("rollout restart statefulset {CONTROLLER}"));
    scene.flush();
    scene.look();
    scene.write(10);
    scene.flush();
    scene.rests("HeadwaterStoreDenied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_store() {
    let bucket = Bucket::start().await;
    let values = bucket.values();
    let rehearsal = tokio::task::spawn_blocking(move || {
        let mut scene = Scene::begin("slow-store", values);
        slow(&mut scene, &bucket);
        scene.end();
        bucket
    });
    rehearsal.await.unwrap().stop().await;
}

fn slow(scene: &mut Scene, bucket: &Bucket) {
    bucket.slow();
    scene.look();
    scene.write(500);
    scene.shows("headwater_wal_queued_bytes", |sum| sum > 0.0);
    scene.grows("headwater_store_request_seconds_bucket");
    scene.grows("headwater_wal_store_seconds_bucket");
    scene.fires("HeadwaterStoreSlow");
    scene.fires("HeadwaterWalSlow");
    scene.grows("headwater_wal_hedges_total");
    // Ten minutes of it, and half a day.
    scene.asks(
        "HeadwaterUploadsBehind",
        "headwater_storage_unuploaded_age_ms",
    );
    scene.has("headwater_storage_unuploaded_age_ms");
    scene.asks("HeadwaterBackgroundFailures", "background_failures_total");
    scene.asks("HeadwaterNotCollecting", "collector_last_round");
    scene.run("object probe");
    scene.run("top pod");
    scene.run("broker drain 101 --wait");
    let led = scene.topics_of("headwater-broker-101");
    assert!(led.is_empty(), "{led:?}");
    scene.run("broker resume 101");

    bucket.back();
    scene.flush();
    scene.look();
    scene.write(50);
    scene.flush();
    scene.rests("HeadwaterStoreSlow");
    scene.rests("HeadwaterWalSlow");
}
