//! Volumes without space.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::pods::Values;
use super::scene::Scene;
use crate::load::{LIMIT, client_at};

#[test]
fn disk_full() {
    let values = Values {
        brokers: 1,
        wal: "disk",
        config: vec!["wal.segment.bytes=1048576", "upload.age.ms=3600000"],
        volumes_fail: true,
        ..Values::default()
    };
    let (controller, broker) = ("headwater-controller-1", "headwater-broker-100");
    let mut scene = Scene::begin("disk-full", values);
    scene.add("wide", 1000);
    scene.look();
    scene.pods.space(broker, Some(0));
    // More than the segments that were made ready, and no more than is flushed afterwards.
    let begun = Instant::now();
    while !scene.pods.log(broker).contains("the log waits") {
        assert!(begun.elapsed() < LIMIT, "the log goes on");
        if scene.unacknowledged() < 20_000 {
            scene.write(1000);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    scene.grows("headwater_wal_retries_total");
    scene.fires("HeadwaterWalRetries");
    scene.has("headwater_wal_segments_recycled_total");
    // The kubelet's figures of the volume.
    scene.asks(
        "HeadwaterDiskFilling",
        "kubelet_volume_stats_available_bytes",
    );

    // Commands, each a block of the controllers' log, until their volume holds no more.
    scene.pods.space(controller, Some(0));
    let said = "no space for the raft log: waiting";
    assert!(scene.book.logs.iter().any(|line| line == said));
    command_until(&scene, || scene.pods.logged(said));
    // A snapshot needs eight megabytes of log; `cargo test -p controller` has one without space.
    scene.logs(&["no space for a snapshot: the raft log grows until there is"]);

    let grow = scene.book.command("patch pvc");
    scene.line(&grow);
    scene.line(&grow.replace("controller-1", "broker-100"));
    scene.run("delete statefulset");
    scene.run("helm upgrade");
    scene.grows("headwater_wal_segments_created_total");
    scene.flush();
    scene.look();
    scene.write(10);
    scene.flush();
    scene.rests("HeadwaterWalRetries");
    scene.pods.await_ready(&scene.pods.names());
    scene.end();
}

/// Makes topics one after the other.
fn command_until(scene: &Scene, enough: impl Fn() -> bool) {
    let config = client_at(&scene.pods.bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let patience = AdminOptions::new().request_timeout(Some(Duration::from_secs(2)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let begun = Instant::now();
    for number in 0.. {
        let name = format!("more{number}");
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        // The last one finds no space, and is done when there is some.
        let made = runtime.block_on(admin.create_topics(&[topic], &patience));
        if (made.is_err() || number % 20 == 0) && enough() {
            println!("{number} topics in {:.1} s", begun.elapsed().as_secs_f64());
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{number} topics, and still space");
    }
}
