//! Voters that come back at another address.

use tokio::time::{sleep, timeout};

use super::quorum::{Cluster, NODES, PORT, ip, level};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn at(node: i32, port: u16) -> (NodeId, String) {
    (NodeId(node), format!("{}:{port}", ip(node)))
}

/// Where the voters are, as `node` knows it.
fn known(cluster: &Cluster, node: i32) -> BTreeMap<NodeId, String> {
    let members = cluster.client(node).local().members();
    let members = members.nodes().map(|(id, voter)| {
        let node = NodeId(i32::try_from(*id).unwrap());
        (node, voter.address.clone())
    });
    members.collect()
}

/// Waits until all know that.
async fn agree(cluster: &Cluster, on: &BTreeMap<NodeId, String>) {
    let agreed = async {
        while !NODES.into_iter().all(|node| known(cluster, node) == *on) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, agreed).await.expect("they agree");
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_comes_back_elsewhere_tells_the_others() {
    for (seed, leads) in [(111, false), (112, true)] {
        let mut cluster = Cluster::begun(seed).await;
        let leader = cluster.leader().await;
        let moved = NODES.into_iter().find(|node| (*node == leader) == leads);
        let moved = moved.unwrap();
        cluster.kill(moved);
        // Only its own file has the new address.
        let voters: BTreeMap<_, _> = NODES
            .map(|node| at(node, PORT + u16::from(node == moved)))
            .into();
        let starting = cluster.start_knowing(moved, voters.clone(), PORT + 1);
        let started = timeout(PATIENCE, starting).await.expect("it is reached");
        cluster.running.insert(moved, started.unwrap());
        agree(&cluster, &voters).await;
        let client = cluster.client(moved);
        client.submit(level("here", 1)).await.unwrap();
        cluster.assert_equal_states().await;
        // It counts: without it there is no quorum.
        let other = NODES.into_iter().find(|node| *node != moved).unwrap();
        cluster.kill(other);
        client.submit(level("on", 1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn voters_that_all_moved_find_each_other_by_their_files() {
    let mut cluster = Cluster::begun(113).await;
    cluster.client(1).submit(level("before", 1)).await.unwrap();
    for node in NODES {
        cluster.kill(node);
    }
    let voters: BTreeMap<_, _> = NODES.map(|node| at(node, PORT + 1)).into();
    // Two of them suffice.
    for node in [1, 2] {
        let host = &cluster.hosts[&node];
        assert!(!host.disk.files().is_empty(), "it has a log");
    }
    let starting = [1, 2].map(|node| cluster.start_knowing(node, voters.clone(), PORT + 1));
    let started = timeout(PATIENCE, futures::future::join_all(starting)).await;
    for (node, controller) in [1, 2].into_iter().zip(started.expect("a quorum")) {
        cluster.running.insert(node, controller.unwrap());
    }
    cluster.client(1).submit(level("two", 1)).await.unwrap();
    // The third comes later, and its file has only itself right.
    let late = BTreeMap::from([at(1, PORT), at(2, PORT), at(3, PORT + 1)]);
    let third = cluster.start_knowing(3, late, PORT + 1);
    let third = timeout(PATIENCE, third).await.expect("the others find it");
    cluster.running.insert(3, third.unwrap());
    agree(&cluster, &voters).await;
    cluster.assert_equal_states().await;
    let image = cluster.client(3).image().borrow().clone();
    assert!(image.features.contains_key("before"));
}

/// A file with an address at which nobody answers costs no voter that works.
#[tokio::test(start_paused = true)]
async fn a_wrong_address_in_a_file_is_not_believed() {
    let mut cluster = Cluster::begun(114).await;
    let leader = cluster.leader().await;
    let right = known(&cluster, leader);
    let wrong = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.kill(wrong);
    let mut voters = right.clone();
    voters.extend([at(wrong, PORT + 7)]);
    let starting = cluster.start_knowing(wrong, voters, PORT);
    let started = timeout(PATIENCE, starting).await.expect("it is reached");
    cluster.running.insert(wrong, started.unwrap());
    sleep(PATIENCE).await;
    agree(&cluster, &right).await;
    cluster.client(wrong).submit(level("on", 1)).await.unwrap();
    cluster.assert_equal_states().await;
}
