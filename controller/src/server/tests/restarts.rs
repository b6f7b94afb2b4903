//! Processes that come back, and others that come in their place.

use tokio::time::{sleep, timeout};

use super::quorum::{Cluster, NODES, address, ip, level};
use super::*;

/// Log entries go to followers before they are durable at the leader: one that died before they
/// were must not go on in its term, where it would give their places to others.
#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_its_last_entry_leads_no_more_in_that_term() {
    for seed in 101..104 {
        let mut cluster = Cluster::begun(seed).await;
        sleep(Duration::from_secs(3)).await;
        let leader = cluster.leader().await;
        let client = cluster.client(leader);
        client.submit(level("before", 1)).await.unwrap();
        let term = client.local().term();
        let last = |node: i32| cluster.client(node).image().borrow().applied;
        let before = last(leader);
        // Its disk writes nothing any more; the followers' do.
        cluster.hosts[&leader].threads.hold();
        let lost = tokio::spawn(async move { client.submit(level("lost", 1)).await });
        sleep(Duration::from_millis(50)).await;
        let others: Vec<_> = NODES.into_iter().filter(|node| *node != leader).collect();
        // They hold the entry: each has told the leader so.
        let holds = cluster.client(leader).local().replicated();
        for node in &others {
            let node = u64::try_from(*node).unwrap();
            assert!(holds[&node] > Some(before), "voter {node}: {holds:?}");
        }
        lost.abort();
        // Nobody sees it die, and it is back before anybody misses it.
        NODES.into_iter().for_each(|node| cluster.cut_off(node));
        cluster.kill(leader);
        cluster.hosts[&leader].threads.release();
        let starting = tokio::spawn(cluster.start(leader, &NODES));
        sleep(Duration::from_millis(50)).await;
        cluster.network.heal_all();
        let started = timeout(Duration::from_secs(60), starting).await;
        let again = started.expect("a quorum is there").unwrap().unwrap();
        cluster.running.insert(leader, again);
        for node in NODES {
            let client = cluster.client(node);
            client.submit(level(&format!("f{node}"), 1)).await.unwrap();
        }
        assert!(cluster.client(leader).local().term() > term, "seed {seed}");
        cluster.assert_equal_states().await;
        let image = cluster.client(leader).image().borrow().clone();
        assert!(image.features.contains_key("lost"), "two of three held it");
    }
}

/// A dead voter's address may be given to a machine of another cluster.
#[tokio::test(start_paused = true)]
async fn another_clusters_voter_at_a_dead_voters_address_ends_nobody() {
    let mut cluster = Cluster::begun(105).await;
    sleep(Duration::from_secs(5)).await;
    let leader = cluster.leader().await;
    let dead = NODES.into_iter().find(|node| *node != leader).unwrap();
    let term = cluster.client(leader).local().term();
    cluster.kill(dead);
    let stranger = Cluster::host(905, &cluster.network, dead);
    cluster.hosts.insert(dead, stranger);
    // Terms rise with each start of one that is alone.
    let mut other = cluster.start(dead, &[dead]).await.unwrap();
    while other.client().local().term() <= term + 3 {
        other.shutdown().await.unwrap();
        cluster.network.kill_host(ip(dead));
        other = cluster.start(dead, &[dead]).await.unwrap();
    }
    sleep(Duration::from_secs(60)).await;
    for (node, controller) in &cluster.running {
        assert_eq!(*controller.failure().borrow(), None, "voter {node}");
        let client = controller.client();
        client.submit(level(&format!("f{node}"), 1)).await.unwrap();
    }
    assert_eq!(*other.failure().borrow(), None);
    let named = |client: &Client| client.image().borrow().cluster;
    assert_ne!(named(&other.client()), named(&cluster.client(leader)));
    // Nor is its build taken for that of the dead one.
    let finalize = level(VERSION_FEATURE, NEWEST_LEVEL);
    let refused = cluster.client(leader).submit(finalize).await.unwrap_err();
    let why = "another one answers there";
    assert!(refused.to_string().contains(why), "{refused}");
    // Nor does it become one of them by its address.
    let refused = cluster.client(leader).add_voter(&address(dead)).await;
    assert!(refused.unwrap_err().to_string().contains("remove it first"));
    cluster.assert_equal_states().await;
}
