//! One pod after the other, while records are written. Both versions are this build: what an older
//! one says is the chaos run's to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pods::{BROKER, CONTROLLER, Values};
use super::scene::Scene;

#[test]
fn rolling_upgrade() {
    let values = Values {
        controllers: 3,
        config: vec!["controller.checkpoint.interval.ms=1000"],
        ..Values::default()
    };
    let mut scene = Scene::begin("rolling-upgrade", values);
    scene.run("kubectl -n kafka get pods");
    scene.run_until("curl", |page| !page.contains("\"why\""));
    scene.run_until("checkpoint verify", |told| told.contains("checkpoint-"));
    let writing = Writing::begin(&mut scene);

    let controllers = scene
        .book
        .command("--set image.tag=NEW --set brokers.updatePartition=100000");
    scene.line(&controllers.replace("NEW", "new"));
    scene.run("rollout status statefulset headwater-controller");
    assert_eq!(tags(&scene, CONTROLLER), ["new", "new", "new"]);
    assert_eq!(tags(&scene, BROKER), ["old", "old"]);
    let some = scene.book.command("--set brokers.updatePartition=102");
    scene.line(&some.replace("NEW", "new").replace("102", "101"));
    assert_eq!(tags(&scene, BROKER), ["new", "old"]);
    let all = scene.book.ending("helm upgrade", "--set image.tag=NEW");
    scene.line(&all.replace("NEW", "new"));
    scene.run("rollout status statefulset headwater-broker");
    assert_eq!(tags(&scene, BROKER), ["new", "new"]);

    // And back, brokers first.
    let back = controllers.replace("NEW", "old");
    scene.line(&back.replace("brokers.updatePartition", "controllers.updatePartition"));
    assert_eq!(tags(&scene, BROKER), ["old", "old"]);
    assert_eq!(tags(&scene, CONTROLLER), ["new", "new", "new"]);
    scene.line(&all.replace("NEW", "new"));

    writing.end(&mut scene);
    scene.shows("headwater_controller_offline_partitions", |sum| sum == 0.0);
    scene.has("headwater_broker_lease_lapses_total");
    scene.run_until("cluster describe", |told| {
        told.contains("headwater.version")
    });
    scene.run("cluster finalize");
    scene.end();
}

/// The tags of a StatefulSet's pods, newest first.
fn tags(scene: &Scene, set: &str) -> Vec<String> {
    let pods = scene.pods.of_set(set);
    pods.iter()
        .map(|pod| scene.pods.tag(pod).to_owned())
        .collect()
}

/// A record to each topic, again and again.
struct Writing {
    enough: Arc<AtomicBool>,
    writer: std::thread::JoinHandle<Vec<(String, crate::load::Load)>>,
}

// === impl Writing ===

impl Writing {
    fn begin(scene: &mut Scene) -> Self {
        let mut loads = std::mem::take(&mut scene.loads);
        let enough = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let enough = Arc::clone(&enough);
            move || {
                while !enough.load(Ordering::Relaxed) {
                    for (name, load) in &mut loads {
                        load.send(name, 1);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                loads
            }
        });
        Self { enough, writer }
    }

    fn end(self, scene: &mut Scene) {
        self.enough.store(true, Ordering::Relaxed);
        scene.loads = self.writer.join().unwrap();
        scene.flush();
    }
}
