//! A log that is given up while its owner writes on.

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// Writes to a partition through its leader of that time, whatever others say, until the leader has
/// refused for long. Gives when each was acknowledged.
fn write_on(mut client: Cluster, info: PartitionInfo) -> JoinHandle<Vec<Instant>> {
    tokio::spawn(async move {
        let (mut acknowledged, mut refused) = (Vec::new(), Instant::now());
        while refused.elapsed() < 2 * LONG {
            if client.produce("t", info, batch("on"), 3_000).await.is_ok() {
                refused = Instant::now();
                acknowledged.push(refused);
            }
            sleep(Duration::from_millis(100)).await;
        }
        acknowledged
    })
}

/// The id of the log of `owner`, once `node` has heard that it is fenced.
async fn dead_log(nodes: &Nodes, node: u8, owner: u8) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page: serde_json::Value =
            serde_json::from_str(&get(nodes, node, "/v1/cluster").await).unwrap();
        let logs = page["wals"]["open"].as_array().unwrap();
        let dead = |log: &&serde_json::Value| log["node"] == owner && log["phase"] != "active";
        if let Some(log) = logs.iter().find(dead) {
            return log["wal"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "it is not fenced: {page}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_given_up_when_nobody_acknowledges_from_it_any_more() {
    // The operator asks node 4, to which a lease is short; to the controllers it is long.
    let mut nodes = Nodes::none(22, 3, "object");
    for node in 1..=3 {
        nodes.start_with(node, &[("lease.ms", "30000")]).await;
    }
    nodes.start_with(4, &[("lease.ms", "6000")]).await;
    nodes.settled().await;
    nodes.topic().await;
    let leader = nodes.running[&1].controllers_leader().unwrap().0;
    let owner = if leader == 1 { 2 } else { 1 };
    let led = nodes.leaders().await;
    let info = led.iter().find(|info| info.leader == i32::from(owner));
    let info = *info.unwrap();
    // It knows where that one is.
    let mut client = nodes.client();
    produce(&mut client, info.partition, "before").await;
    // It seems dead to the controllers, and lives; whoever is to read its log comes to nothing.
    nodes.stop_at(owner, Stop::Read);
    for other in (1..=4).filter(|other| *other != owner) {
        nodes.network.cut(ip(owner), ip(other));
        nodes.network.refuse(ip(other), ip(owner));
        nodes.network.reset(ip(other), ip(owner));
    }
    let writing = write_on(client, info);
    let id = dead_log(&nodes, 4, owner).await;
    let fenced = Instant::now();
    let path = format!("/v1/wals/{id}/abandon");
    let yes = r#"{"by":"me","reason":"damaged","yes":true}"#;
    let (code, told) = post(&nodes, 4, &path, yes).await;
    let answered = Instant::now();
    assert_eq!(code, 200, "{told}");
    assert!(told.contains("sealed_at"), "{told}");
    let acknowledged = writing.await.unwrap();
    let last = *acknowledged.last().unwrap();
    assert!(last < answered, "{:?} after the answer", last - answered);
    // A wait of node 4's own lease would have been too short.
    assert!(last > fenced + LEASE, "only {:?}", last - fenced);
}
