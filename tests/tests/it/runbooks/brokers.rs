//! A broker that is silent from one moment to the next, while its log cannot be read at once.

use super::scene::Scene;
use super::stores::Bucket;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_lost() {
    let bucket = Bucket::start().await;
    let values = bucket.values();
    let rehearsal = tokio::task::spawn_blocking(move || {
        rehearse(Scene::begin("broker-lost", values), &bucket);
        bucket
    });
    rehearsal.await.unwrap().stop().await;
}

fn rehearse(mut scene: Scene, bucket: &Bucket) {
    let (controller, dead, heir) = (
        "headwater-controller-1",
        "headwater-broker-100",
        "headwater-broker-101",
    );
    scene.write(100);
    // Its heir cannot read its log yet: what is shown meanwhile stays long enough to be looked at.
    bucket.away();
    scene.pods.halt(dead);
    scene.fires("HeadwaterNodeDown");
    assert!(!scene.pods.is_ready(dead));
    let live = scene.book.metric("headwater_controller_live_brokers");
    scene.until("a broker less", |before, now| {
        let of = |look: &super::alerts::Look| look.of(controller, &live);
        before.of(controller, &live) == Some(2.0) && of(now) == Some(1.0)
    });
    scene.shows("headwater_controller_offline_partitions", |sum| sum > 0.0);
    scene.fires("HeadwaterPartitionsOffline");
    scene.shows("headwater_broker_takeover_dead_logs", |sum| sum > 0.0);
    scene.fires("HeadwaterDeadLogsOpen");
    scene.grows("headwater_broker_takeover_retries_total");
    scene.has("headwater_broker_takeover_failures_total");
    scene.run_until("curl", |page| page.contains("\"why\""));

    bucket.back();
    scene.rests("HeadwaterDeadLogsOpen");
    scene.rests("HeadwaterPartitionsOffline");
    scene.grows("headwater_broker_takeover_recovered_total");
    scene.grows("headwater_broker_takeover_seconds_bucket");
    let led = scene.book.metric("headwater_broker_partitions");
    scene.until("its partitions are the heir's", |before, now| {
        now.of(heir, &led) > before.of(heir, &led)
    });
    scene.logs(&[]);

    scene.run("get pods");
    scene.run("delete pod");
    scene.pods.await_ready(&[dead.to_owned()]);
    scene.rests("HeadwaterNodeDown");
    scene.until("a broker more", |_, now| {
        now.of(controller, &live) == Some(2.0)
    });
    scene.run("broker drain 100");
    scene.run_until("broker list", |listed| listed.contains("100"));
    scene.run("broker resume 100");
    scene.end();
}
