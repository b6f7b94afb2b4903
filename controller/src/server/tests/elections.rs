//! How soon another voter leads, and what makes none lead.

use tokio::time::{Instant, sleep, timeout};

use super::quorum::{Cluster, NODES, address, ip, level};
use super::*;
use crate::limits::TETHER_AGE;

/// The term that every running voter is in, and whom it takes for the leader.
fn seen(cluster: &Cluster) -> Vec<(u64, Option<i32>)> {
    let seen = cluster.running.values().map(|controller| {
        let local = controller.client().local().clone();
        let leader = local.shared.image().borrow().controller;
        (local.term(), leader.map(|node| node.0))
    });
    seen.collect()
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_process_is_gone_is_followed_without_a_time_out() {
    for seed in 71..77 {
        let mut cluster = Cluster::begun(seed).await;
        for round in 0..3 {
            // Tethers stand.
            sleep(Duration::from_secs(3)).await;
            let leader = cluster.leader().await;
            let other = NODES.into_iter().find(|node| *node != leader).unwrap();
            cluster.kill(leader);
            let began = Instant::now();
            let command = level(&format!("f{round}"), 1);
            cluster.client(other).submit(command).await.unwrap();
            let gap = began.elapsed();
            println!("seed {seed}: voter {leader} gone, commands went on after {gap:?}");
            assert!(gap < Duration::from_secs(1), "seed {seed}: {gap:?}");
            cluster.restart(leader).await;
        }
        cluster.assert_equal_states().await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_voters_connect_to_nobody_anew_but_for_aged_tethers() {
    let cluster = Cluster::begun(80).await;
    sleep(Duration::from_secs(5)).await;
    let before = cluster.network.connections_made();
    sleep(4 * TETHER_AGE).await;
    let made = cluster.network.connections_made() - before;
    println!("{made} connections in {:?}", 4 * TETHER_AGE);
    // Each of two followers keeps one, and lets it go for a new one when it is old.
    assert!((6..=16).contains(&made), "{made}");
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_in_order_is_followed_as_soon() {
    let mut cluster = Cluster::begun(78).await;
    sleep(Duration::from_secs(3)).await;
    let leader = cluster.leader().await;
    let other = NODES.into_iter().find(|node| *node != leader).unwrap();
    let stopped = cluster.running.remove(&leader).unwrap();
    let began = Instant::now();
    let client = cluster.client(other);
    let (stopped, done) = tokio::join!(stopped.shutdown(), client.submit(level("f", 1)));
    stopped.unwrap();
    done.unwrap();
    let gap = began.elapsed();
    println!("commands went on after {gap:?}");
    assert!(gap < Duration::from_secs(1), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn broken_connections_and_silence_end_no_leaders_time_at_once() {
    let cluster = Cluster::begun(79).await;
    sleep(Duration::from_secs(3)).await;
    let leader = cluster.leader().await;
    let before = seen(&cluster);
    for _ in 0..5 {
        for node in NODES.into_iter().filter(|node| *node != leader) {
            assert!(cluster.network.reset(ip(node), ip(leader)) > 0);
        }
        sleep(Duration::from_millis(500)).await;
        assert_eq!(seen(&cluster), before, "it listens still");
    }
    cluster.cut_off(leader);
    sleep(Duration::from_millis(1900)).await;
    assert_eq!(seen(&cluster), before, "silence is no evidence");
    cluster.network.heal_all();
    sleep(Duration::from_secs(10)).await;
    cluster.assert_equal_states().await;
}

#[tokio::test(start_paused = true)]
async fn the_evidence_of_one_voter_alone_changes_nothing() {
    let cluster = Cluster::begun(80).await;
    sleep(Duration::from_secs(3)).await;
    let leader = cluster.leader().await;
    let before = seen(&cluster);
    let other = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.network.refuse(ip(other), ip(leader));
    assert!(cluster.network.reset(ip(other), ip(leader)) > 0);
    for _ in 0..20 {
        sleep(Duration::from_millis(150)).await;
        assert_eq!(seen(&cluster), before, "the third voter refuses");
    }
    cluster.network.admit(ip(other), ip(leader));
    let client = cluster.client(other);
    client.submit(level("f", 1)).await.unwrap();
    cluster.assert_equal_states().await;
    assert_eq!(seen(&cluster), before);
}

#[tokio::test(start_paused = true)]
async fn a_removed_voter_says_so_unless_it_is_added_again() {
    for leads in [false, true] {
        let cluster = Cluster::begun(81).await;
        sleep(Duration::from_secs(8)).await;
        let leader = cluster.leader().await;
        let gone = NODES.into_iter().find(|node| (*node == leader) == leads);
        let gone = gone.unwrap();
        let other = NODES.into_iter().find(|node| *node != gone).unwrap();
        let client = cluster.client(other);
        let mut failure = cluster.running[&gone].failure();
        client.remove_voter(NodeId(gone)).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        client.add_voter(&address(gone)).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        for controller in cluster.running.values() {
            assert_eq!(*controller.failure().borrow(), None, "all are members");
        }
        client.remove_voter(NodeId(gone)).await.unwrap();
        let said = failure.wait_for(Option::is_some);
        let said = timeout(Duration::from_secs(30), said).await.unwrap();
        let said = said.unwrap().clone().unwrap();
        assert!(said.contains("was removed"), "{said}");
        client.submit(level("on", 1)).await.unwrap();
        let left = cluster.running.iter().filter(|(node, _)| **node != gone);
        for (_, controller) in left {
            assert_eq!(*controller.failure().borrow(), None);
            assert!(controller.client().elections().unwrap().1 > 0);
        }
    }
}

/// One wrong piece of evidence is forgotten when the leader gives a sign of life.
#[tokio::test(start_paused = true)]
async fn who_took_a_living_leader_for_dead_keeps_it_again() {
    for seed in 82..85 {
        let mut cluster = Cluster::begun(seed).await;
        sleep(Duration::from_secs(3)).await;
        let leader = cluster.leader().await;
        let others: Vec<_> = NODES.into_iter().filter(|node| *node != leader).collect();
        let (deceived, blind) = (others[0], others[1]);
        let terms = |cluster: &Cluster| seen(cluster).into_iter().map(|(term, _)| term);
        let term = cluster.client(leader).local().term();
        cluster.network.refuse(ip(deceived), ip(leader));
        assert!(cluster.network.reset(ip(deceived), ip(leader)) > 0);
        sleep(Duration::from_secs(2)).await;
        cluster.network.admit(ip(deceived), ip(leader));
        sleep(Duration::from_secs(3)).await;
        // It asks the one that was deceived, and is refused.
        cluster.network.cut(ip(blind), ip(leader));
        for _ in 0..20 {
            sleep(Duration::from_millis(500)).await;
            assert!(terms(&cluster).all(|now| now == term), "seed {seed}");
        }
        cluster.network.heal_all();
        sleep(Duration::from_secs(5)).await;
        // A true death counts as soon as any.
        cluster.kill(leader);
        let began = Instant::now();
        let client = cluster.client(deceived);
        client.submit(level("f", 1)).await.unwrap();
        let gap = began.elapsed();
        assert!(gap < Duration::from_secs(1), "seed {seed}: {gap:?}");
    }
}

/// A packet filter that refuses new connections lets those live that stand, for hours.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_heard_is_not_dead_however_long_its_host_refuses() {
    for seed in 82..86 {
        let mut cluster = Cluster::begun(seed).await;
        sleep(Duration::from_secs(3)).await;
        let leader = cluster.leader().await;
        let others: Vec<_> = NODES.into_iter().filter(|node| *node != leader).collect();
        let (deceived, blind) = (others[0], others[1]);
        let term = cluster.client(leader).local().term();
        cluster.network.refuse(ip(deceived), ip(leader));
        // No tether comes to stand again; the leader's own calls go on.
        assert!(cluster.network.reset(ip(deceived), ip(leader)) > 0);
        sleep(Duration::from_secs(5)).await;
        cluster.network.cut(ip(blind), ip(leader));
        for _ in 0..40 {
            sleep(Duration::from_millis(500)).await;
            let mut terms = seen(&cluster).into_iter().map(|(term, _)| term);
            assert!(terms.all(|now| now == term), "seed {seed}");
        }
        cluster.network.heal(ip(blind), ip(leader));
        sleep(Duration::from_secs(5)).await;
        // Refused as before, and silent now.
        cluster.kill(leader);
        let began = Instant::now();
        let client = cluster.client(deceived);
        client.submit(level("f", 1)).await.unwrap();
        let gap = began.elapsed();
        println!("seed {seed}: commands went on after {gap:?}");
        assert!(gap < Duration::from_millis(1500), "seed {seed}: {gap:?}");
    }
}

/// Voters that were added learn who leads before they learn where that one is.
#[tokio::test(start_paused = true)]
async fn voters_that_were_added_see_the_leaders_process_go() {
    let mut cluster = Cluster::new(86);
    let first = cluster.start(1, &[1]).await.unwrap();
    let client = first.client();
    cluster.running.insert(1, first);
    for node in [2, 3] {
        let starting = tokio::spawn(cluster.start(node, &NODES));
        client.add_voter(&address(node)).await.unwrap();
        let started = starting.await.unwrap().unwrap();
        cluster.running.insert(node, started);
    }
    assert_eq!(cluster.leader().await, 1);
    sleep(Duration::from_secs(3)).await;
    cluster.kill(1);
    let began = Instant::now();
    cluster.client(2).submit(level("f", 1)).await.unwrap();
    let gap = began.elapsed();
    assert!(gap < Duration::from_secs(1), "{gap:?}");
}
