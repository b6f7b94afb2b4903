//! Voters that die until there is no quorum.

use super::alerts::Look;
use super::pods::{BROKER, CONTROLLER, Values};
use super::scene::Scene;

#[test]
fn controller_quorum_lost() {
    let values = Values {
        controllers: 3,
        config: vec![
            "controller.checkpoint.interval.ms=1000",
            "upload.age.ms=1000",
        ],
        ..Values::default()
    };
    let mut scene = Scene::begin("controller-quorum-lost", values);
    let leads = scene.book.metric("headwater_controller_is_leader");
    let voters = scene.pods.of_set(CONTROLLER);
    scene.write(50);
    let leader = scene.only(&leads);
    // Two of three: the last one is the leader, which has lost the others.
    for voter in voters.iter().filter(|voter| **voter != leader) {
        scene.pods.kill_9(voter);
    }
    let lapses = scene.book.metric("headwater_broker_lease_lapses_total");
    let brokers = scene.pods.of_set(BROKER);
    scene.until(
        "leases lapse on every broker",
        |before: &Look, now: &Look| {
            let lapsed = |pod: &String| now.of(pod, &lapses) > before.of(pod, &lapses);
            brokers.iter().all(lapsed)
        },
    );
    scene.asks(
        "HeadwaterLeaseLapses",
        "headwater_broker_lease_lapses_total",
    );
    scene.write(50);
    let said = "leases ran out, but no quorum confirms this controller: nobody is fenced";
    assert!(scene.book.logs.contains(&said.to_owned()));
    scene.until("the leader fences nobody", |_, _| scene.pods.logged(said));
    scene.has("headwater_controller_quorum_age_ms");
    scene.fires("HeadwaterQuorumLost");
    // And it is started anew, alone.
    scene.pods.kill_9(&leader);
    scene.pods.start(&leader);
    scene.logs(&[]);
    scene.until("nobody leads", |_, now| now.sum(&leads) == 0.0);
    let known = scene.book.metric("headwater_controller_leader");
    scene.until("it knows of no leader", |_, now| {
        now.of(&leader, &known) == Some(-1.0)
    });
    for pod in brokers.iter().chain([&leader]) {
        assert!(!scene.pods.is_ready(pod), "{pod} is ready without a quorum");
    }
    scene.run("get pods,pvc");
    scene.run("describe pod");
    scene.run("logs headwater-controller-1");
    scene.run_until("checkpoint verify", |told| told.contains("checkpoint-"));

    for voter in voters.iter().filter(|voter| **voter != leader) {
        scene.pods.start(voter);
    }
    scene.pods.await_ready(&scene.pods.names());
    scene.rests("HeadwaterQuorumLost");
    scene.until("one leads", |_, now| now.sum(&leads) == 1.0);
    scene.end();
}
