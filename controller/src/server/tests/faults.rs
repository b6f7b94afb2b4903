//! Half-done changes of leaders and voters, and what they must not do.

use env::sim::NetworkFaults;
use tokio::time::{sleep, timeout};

use super::quorum::{Cluster, NODES, PORT, address, ip, level};
use super::*;
use crate::identity;
use crate::lease::Lease;
use crate::raft::LogStore;
use crate::rpc::wire;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_cut_off_fences_nobody() {
    for (seed, cut) in [(31, 7), (32, 10), (33, 20)] {
        let cluster = Cluster::begun(seed).await;
        let leader = cluster.leader().await;
        let others = NODES.into_iter().filter(|node| *node != leader);
        let mut keepers = Vec::new();
        for (n, node) in (1..).zip(others) {
            let client = cluster.client(node);
            let mut register = register(n);
            register.node = NodeId(node);
            let broker = client.register(register, true).await.unwrap();
            keepers.push(client.keep_lease(broker, ()).await.unwrap());
        }
        cluster.cut_off(leader);
        sleep(Duration::from_secs(cut)).await;
        cluster.network.heal_all();
        for _ in 0..40 {
            sleep(Duration::from_secs(1)).await;
            for keeper in &keepers {
                let state = *keeper.lease().state().borrow();
                assert_ne!(state, LeaseState::Fenced, "seed {seed}");
            }
        }
        cluster.client(leader).confirm_leader().await.unwrap();
        let live = cluster
            .client(leader)
            .image()
            .borrow()
            .live_brokers()
            .count();
        assert_eq!(live, keepers.len(), "seed {seed}");
        assert!(keepers.iter().all(|keeper| keeper.lease().valid_now()));
    }
}

/// While `lease.ms` is rolled, voters and brokers differ: no broker may rely on a lease for longer
/// than whoever leads, or led just now.
#[tokio::test(start_paused = true)]
async fn brokers_hold_no_lease_for_longer_than_the_leader_grants_or_a_leader_before_it() {
    let (short, long) = (Duration::from_secs(3), Duration::from_secs(9));
    let mut cluster = Cluster::new(38);
    cluster.leases = [(1, short), (2, short), (3, long)].into();
    let starting = NODES.map(|node| cluster.start(node, &NODES));
    let started = futures::future::join_all(starting).await;
    for (node, controller) in NODES.into_iter().zip(started) {
        cluster.running.insert(node, controller.unwrap());
    }
    for round in 0..6 {
        let leader = cluster.leader().await;
        // Everyone hears the leader, as nodes do that ask for its pulse.
        for node in NODES {
            cluster.client(node).confirm_leader().await.unwrap();
        }
        let client = cluster.client(3);
        let mut register = register(100 + round);
        register.node = NodeId(3);
        let broker = client.register(register, true).await.unwrap();
        let keeper = client.keep_lease(broker, ()).await.unwrap();
        let lease = keeper.lease();
        let granted = if leader == 3 { long } else { short };
        assert_eq!(lease.duration(), granted, "voter {leader} leads");
        assert!(lease.remaining() <= granted);
        // No renewal any more; another one leads.
        drop(keeper);
        let other = NODES.into_iter().find(|node| *node != leader).unwrap();
        cluster.kill(leader);
        let mut image = cluster.client(other).image();
        let fenced = image.wait_for(|image| image.live_brokers().next().is_none());
        timeout(Duration::from_secs(60), fenced)
            .await
            .unwrap()
            .unwrap();
        assert!(!lease.valid_now(), "fenced by another, and still held");
        cluster.restart(leader).await;
        sleep(SOON).await;
    }
}

/// A registration lets a lapsed process of its node pass: that one must not come back meanwhile.
#[tokio::test(start_paused = true)]
async fn who_is_let_pass_by_a_registration_gets_no_lease_before_it_is_applied() {
    let cluster = Cluster::begun(37).await;
    let leader = cluster.leader().await;
    let client = cluster.client(leader);
    let local = client.local().clone();
    let mut shown = 0;
    for n in 1..10 {
        // Leases run out at all points between two ticks; some are seen before they are fenced.
        sleep(Duration::from_millis(60)).await;
        let mut first = register(n);
        first.node = NodeId(i32::try_from(n).unwrap());
        let broker = client.register(first.clone(), true).await.unwrap();
        let lease = Lease::new(broker, local.env.clock.clone(), Duration::from_secs(6));
        client.renew(&lease, Vec::new()).await.unwrap();
        let lives = || local.shared.read(|state| state.is_live(broker));
        let now = || local.env.clock.monotonic();
        while lives() && local.sessions.lock().may_live(broker, now()) {
            sleep(Duration::from_millis(5)).await;
        }
        let second = RegisterBroker {
            incarnation: Uuid::from_u128(1000 + n),
            directory: Uuid::from_u128(2000 + n),
            ..first
        };
        let taken = local.take_node(local.term(), &second, None).unwrap();
        taken.expect("its lease has run out");
        if lives() {
            shown += 1;
            let renewed = timeout(Duration::from_millis(1), client.renew(&lease, Vec::new()));
            assert!(!matches!(renewed.await, Ok(Ok(()))), "let pass already");
            assert!(!lease.valid_now());
        }
        client.register(second, false).await.unwrap();
        let renewed = client.renew(&lease, Vec::new()).await;
        assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert!(shown > 0, "none was seen between its lapse and its fence");
}

/// Without a quorum nobody can renew: that is no broker's fault.
#[tokio::test(start_paused = true)]
async fn a_leader_without_a_quorum_fences_nobody_afterwards() {
    let cluster = Cluster::begun(34).await;
    let leader = cluster.leader().await;
    let client = cluster.client(leader);
    let broker = client.register(register(1), true).await.unwrap();
    let keeper = client.keep_lease(broker, ()).await.unwrap();
    for node in NODES {
        cluster.cut_off(node);
    }
    sleep(Duration::from_secs(20)).await;
    assert!(!keeper.lease().valid_now(), "it lapsed");
    cluster.network.heal_all();
    sleep(Duration::from_secs(20)).await;
    assert!(keeper.lease().valid_now(), "and came back");
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_the_leader_cannot_reach_does_not_count() {
    let mut cluster = Cluster::new(35);
    let first = cluster.start(1, &[1]).await.unwrap();
    cluster.running.insert(1, first);
    let client = cluster.client(1);
    let starting = tokio::spawn(cluster.start(2, &[1, 2]));
    assert_eq!(client.add_voter(&address(2)).await.unwrap(), NodeId(2));
    cluster.running.insert(2, starting.await.unwrap().unwrap());
    let leader = cluster.leader().await;
    let other = if leader == 1 { 2 } else { 1 };
    let third = tokio::spawn(cluster.start(3, &NODES));
    sleep(SOON).await;
    cluster.network.cut(ip(3), ip(leader));
    let refused = cluster.client(other).add_voter(&address(3)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Retry);
    for n in 0..10 {
        let client = cluster.client(other);
        let wrote = timeout(SOON, client.submit(level(&format!("f{n}"), 1))).await;
        wrote.expect("it goes on").unwrap();
    }
    let voters: Vec<_> = cluster.running[&leader].raft.voter_ids().collect();
    assert_eq!(voters, [1, 2]);
    cluster.network.heal_all();
    let added = cluster.client(other).add_voter(&address(3)).await;
    assert_eq!(added.unwrap(), NodeId(3), "later it does");
    cluster.running.insert(3, third.await.unwrap().unwrap());
    cluster.assert_equal_states().await;
}

/// A voter that began alone, by a file that names no voters, cannot be called back.
#[tokio::test(start_paused = true)]
async fn one_that_listens_nowhere_takes_no_other_voter() {
    let mut cluster = Cluster::new(41);
    let alone = ControllerSettings {
        node: NodeId(1),
        voters: [(NodeId(1), address(1))].into(),
        ..settings(std::path::Path::new("/data"))
    };
    let alone = Controller::start(cluster.hosts[&1].env(), alone).await;
    let alone = alone.unwrap();
    let second = tokio::spawn(cluster.start(2, &[1, 2]));
    let refused = alone.client().add_voter(&address(2)).await.unwrap_err();
    assert!(refused.to_string().contains("CONTROLLER"), "{refused}");
    alone.client().submit(level("f", 1)).await.unwrap();
    alone.shutdown().await.unwrap();
    // Started anew with a listener it does, over the log that it has.
    let first = cluster.start(1, &[1]).await.unwrap();
    let added = first.client().add_voter(&address(2)).await.unwrap();
    assert_eq!(added, NodeId(2));
    cluster.running.insert(1, first);
    cluster.running.insert(2, second.await.unwrap().unwrap());
    cluster.assert_equal_states().await;
}

#[tokio::test(start_paused = true)]
async fn a_learner_that_never_came_up_is_taken_out_again_and_may_move() {
    let mut cluster = Cluster::new(36);
    let first = cluster.start(1, &[1]).await.unwrap();
    cluster.running.insert(1, first);
    let client = cluster.client(1);
    let voter = |address: &str| wire::ChangeVoter {
        node: 2,
        address: Some(address.to_owned()),
        directory: Uuid::from_u128(5).as_bytes().to_vec(),
    };
    let learner = |client: &Client| client.local().members().get_node(&2).cloned();
    for at in ["10.0.0.2:1", "10.0.0.2:2"] {
        let ask = wire::Ask {
            change_voter: Some(voter(at)),
            ..Default::default()
        };
        let refused = client.local().answer(&ask).await;
        assert!(refused.is_err(), "nobody is there");
        assert_eq!(
            learner(&client).unwrap().address,
            at,
            "the last word counts"
        );
    }
    let nil = wire::Ask {
        change_voter: Some(wire::ChangeVoter {
            directory: vec![0; 16],
            ..voter("10.0.0.2:1")
        }),
        ..Default::default()
    };
    assert!(
        client.local().answer(&nil).await.is_err(),
        "of no directory"
    );
    client.submit(level("on", 1)).await.unwrap();
    client.remove_voter(NodeId(2)).await.unwrap();
    assert_eq!(learner(&client), None);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_takes_itself_out_is_told_so() {
    for (seed, leads) in [(37, false), (38, true)] {
        let mut cluster = Cluster::begun(seed).await;
        let leader = cluster.leader().await;
        let gone = NODES
            .into_iter()
            .find(|node| (*node == leader) == leads)
            .unwrap();
        let client = cluster.client(gone);
        let removed = timeout(SOON, client.remove_voter(NodeId(gone))).await;
        removed
            .expect("it does not wait for what it is not sent")
            .unwrap();
        cluster.kill(gone);
        let left = *cluster.running.first_key_value().unwrap().0;
        cluster.client(left).submit(level("on", 1)).await.unwrap();
        let voters: Vec<_> = cluster.running[&left].raft.voter_ids().collect();
        assert_eq!(voters.len(), 2);
        assert!(!voters.contains(&u64::try_from(gone).unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_moved_is_followed_by_the_leader_that_stands() {
    let mut cluster = Cluster::begun(39).await;
    let leader = cluster.leader().await;
    let moved = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.kill(moved);
    let again = cluster.start_at(moved, &NODES, PORT + 1);
    let starting = tokio::spawn(again);
    let new = format!("{}:{}", ip(moved), PORT + 1);
    let client = cluster.client(leader);
    assert_eq!(client.add_voter(&new).await.unwrap(), NodeId(moved));
    let started = timeout(Duration::from_secs(20), starting).await;
    let controller = started.expect("it is reached").unwrap().unwrap();
    cluster.running.insert(moved, controller);
    assert_eq!(cluster.leader().await, leader);
    cluster.assert_equal_states().await;
}

#[tokio::test(start_paused = true)]
async fn voters_wait_for_a_quorum_as_long_as_it_takes() {
    let mut cluster = Cluster::begun(40).await;
    for node in NODES {
        cluster.kill(node);
    }
    let starting = tokio::spawn(cluster.start(1, &NODES));
    sleep(Duration::from_secs(120)).await;
    assert!(!starting.is_finished());
    cluster.restart(2).await;
    cluster.running.insert(1, starting.await.unwrap().unwrap());
    cluster.client(1).submit(level("on", 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_names_the_cluster_second_takes_the_name_that_stands() {
    let cluster = Cluster::begun(41).await;
    let standing = cluster.client(1).image().borrow().cluster.unwrap();
    let mut settings = settings(std::path::Path::new("/x"));
    let late = ClusterId(Uuid::from_u128(9));
    name_cluster(&cluster.client(2), late, &settings)
        .await
        .unwrap();
    settings.cluster = Some(late);
    let refused = name_cluster(&cluster.client(2), late, &settings).await;
    assert!(refused.unwrap_err().to_string().contains("the cluster is"));
    let still = cluster.client(2).image().borrow().cluster;
    assert_eq!(still, Some(standing));
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_makes_another_voter_or_none() {
    let mut cluster = Cluster::begun(42).await;
    let leader = cluster.leader().await;
    let lost = NODES.into_iter().find(|node| *node != leader).unwrap();
    let before = cluster.client(lost).local().voter.directory;
    cluster.kill(lost);
    remove_log(&cluster, lost);
    let waiting = tokio::spawn(cluster.start(lost, &NODES));
    sleep(Duration::from_secs(20)).await;
    assert!(
        !waiting.is_finished(),
        "it is another voter: nobody sends to it"
    );
    let client = cluster.client(leader);
    client.remove_voter(NodeId(lost)).await.unwrap();
    client.add_voter(&address(lost)).await.unwrap();
    cluster
        .running
        .insert(lost, waiting.await.unwrap().unwrap());
    assert_ne!(cluster.client(lost).local().voter.directory, before);
    cluster.assert_equal_states().await;

    let mut alone = Cluster::new(43);
    let first = alone.start(1, &[1]).await.unwrap();
    alone.running.insert(1, first);
    alone.kill(1);
    remove_log(&alone, 1);
    let refused = alone.start(1, &[1]).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
}

/// Wherever the first start is cut short, the next one goes on.
#[tokio::test(start_paused = true)]
async fn a_first_start_cut_short_is_no_lost_log() {
    let network = env::sim::SimNetwork::new(44, NetworkFaults::QUIET);
    let host = SimHost::new(44, &network, "n1", ip(1));
    let dir = std::path::Path::new("/data/raft");
    let fresh = Uuid::from_u128;
    let open = |host: &SimHost, n| identity::open(&*host.env().disk, dir, 1, fresh(n)).unwrap();
    let proposed = open(&host, 7);
    // The directory above is the operator's, and old.
    host.env().disk.sync_dir(std::path::Path::new("/")).unwrap();
    assert_eq!((proposed.log, proposed.begun), (WalId(fresh(7)), false));
    host.disk.power_loss();
    let again = open(&host, 8);
    assert_eq!((again.log, again.begun), (WalId(fresh(7)), false));
    // Its log is made, the identity is not published.
    let (store, log) = LogStore::open(&host.env(), &dir.join("log"), again.log, true)
        .await
        .unwrap()
        .unwrap();
    drop((store, log));
    sleep(SOON).await;
    host.disk.power_loss();
    let mut cluster = Cluster::new(44);
    cluster.hosts.insert(1, host);
    let first = cluster.start(1, &[1]).await.unwrap();
    assert_eq!(first.client().local().voter.directory, fresh(7));
    assert!(open(&cluster.hosts[&1], 9).begun);
}

fn remove_log(cluster: &Cluster, node: i32) {
    let disk = cluster.hosts[&node].env().disk.clone();
    let dir = std::path::Path::new("/data/raft/log");
    for path in disk.read_dir(dir).unwrap() {
        if path.extension().is_some_and(|ending| ending == "wal") {
            disk.remove_file(&path).unwrap();
        }
    }
    disk.sync_dir(dir).unwrap();
}

/// Connections that others hold open keep nothing of a stopped controller alive.
#[tokio::test(start_paused = true)]
async fn connections_end_with_the_controller() {
    let mut cluster = Cluster::begun(45).await;
    let leader = cluster.leader().await;
    let stopped = NODES.into_iter().find(|node| *node != leader).unwrap();
    let controller = cluster.running.remove(&stopped).unwrap();
    let inner = Arc::downgrade(controller.client().local());
    controller.shutdown().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(inner.upgrade().is_none(), "somebody still holds it");
    cluster.client(leader).submit(level("on", 1)).await.unwrap();
}

/// Watermarks that cannot be told.
struct Broken;

impl Marks for Broken {
    fn moved(&mut self) -> Vec<HighWatermark> {
        panic!("planted: the keeper of a lease fails");
    }

    fn reported(&mut self, _: &[HighWatermark]) {}
}

/// Whoever relies on a lease is told that nobody keeps it any more, and it lapses.
#[tokio::test(start_paused = true)]
async fn a_keeper_that_has_failed_says_so_and_its_lease_lapses() {
    let cluster = Cluster::begun(46).await;
    let client = cluster.client(1);
    let broker = client.register(register(1), true).await.unwrap();
    let mut keeper = client.keep_lease(broker, Broken).await.unwrap();
    let lease = keeper.lease();
    assert!(lease.valid_now(), "the first renewal stands");
    let why = timeout(SOON, keeper.ended()).await.expect("it is told");
    assert!(why.contains("the keeper of the lease has failed"), "{why}");
    let mut image = client.image();
    let fenced = image.wait_for(|image| image.live_brokers().next().is_none());
    let fenced = timeout(Duration::from_secs(30), fenced).await;
    fenced.expect("the controllers fence it").unwrap();
    assert!(!lease.valid_now(), "and it had lapsed by then");
}
