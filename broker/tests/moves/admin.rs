//! The admin listener does nothing for a web page that a browser beside it has open.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The status that a request with just these lines is answered with.
async fn ask(nodes: &Nodes, request: &str, lines: &[&str]) -> u16 {
    page(nodes, request, lines).await[9..12].parse().unwrap()
}

/// The whole answer.
async fn page(nodes: &Nodes, request: &str, lines: &[&str]) -> String {
    let net = nodes.network.host("browser", IpAddr::from([10, 0, 1, 50]));
    let at = SocketAddr::new(ip(1), 9644);
    let mut stream = env::Network::connect(&*net, at).await.unwrap();
    let lines = lines.join("\r\n");
    let request =
        format!("{request} HTTP/1.1\r\n{lines}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn what_a_page_could_have_sent_is_refused() {
    let nodes = Nodes::begun(37).await;
    let (host, json) = ("host: 10.0.0.1:9644", "content-type: application/json");
    let drain = "POST /v1/brokers/3/drain";
    for (lines, code) in [
        (vec![host], 415),
        (vec![host, "content-type: text/plain"], 415),
        (vec!["host: page.example:9644", json], 403),
        (vec![host, json, "origin: http://page.example"], 403),
        (vec![host, json, "origin: http://10.0.0.1:9644"], 403),
    ] {
        assert_eq!(ask(&nodes, drain, &lines).await, code, "{lines:?}");
        let balance = ask(&nodes, "POST /v1/balance", &lines).await;
        assert_eq!(balance, code, "{lines:?}");
    }
    // Who only looks may come from anywhere, but under no name of its own: a page with another one
    // never sees the answer.
    for (page, code) in [
        ("GET /v1/brokers", 403),
        ("GET /v1/cluster", 403),
        ("HEAD /v1/balance", 403),
        ("GET /status", 403),
        ("GET /metrics", 200),
        ("GET /healthz", 200),
        ("GET /readyz", 200),
    ] {
        let rebound = ["host: page.example", "origin: http://page.example"];
        assert_eq!(ask(&nodes, page, &rebound).await, code, "{page}");
        let lines = [host, "origin: http://page.example"];
        assert_eq!(ask(&nodes, page, &lines).await, 200, "{page}");
    }
    create(&mut nodes.client(2), "t", 9).await;
    assert!(nodes.leaders("t").await.contains(&3), "nothing was drained");
    assert_eq!(ask(&nodes, "POST /v1/balance", &[host, json]).await, 200);
    assert_eq!(ask(&nodes, drain, &[host, json]).await, 200);
    let deadline = Instant::now() + PATIENCE;
    while nodes.leaders("t").await.contains(&3) {
        assert!(Instant::now() < deadline, "not drained");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Partitions that an operator has placed, as `/v1/cluster` of a node tells them.
async fn pinned(nodes: &Nodes) -> serde_json::Value {
    let answer = page(nodes, "GET /v1/cluster", &["host: 10.0.0.1:9644"]).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let whole: serde_json::Value = serde_json::from_str(body).unwrap();
    whole["partitions"]["pinned"].clone()
}

/// What an operator has placed stays until the word is taken back.
#[tokio::test(start_paused = true)]
async fn a_partition_is_pinned_by_a_move_and_let_go_of_by_its_taking_back() {
    let nodes = Nodes::begun(38).await;
    let mut client = nodes.client(1);
    create(&mut client, "t", 3).await;
    assert_eq!(pinned(&nodes).await, serde_json::json!([]));
    let to = |node: i32| [(0, Some(vec![node]))].into_iter();
    let back = || (0..3).map(|index| (index, None));
    let none = 85;
    assert_eq!(reassign(&mut client, "t", back()).await, [none; 3]);
    assert_eq!(reassign(&mut client, "t", to(2)).await, [0]);
    none_moves(&mut client).await;
    let placed = serde_json::json!([{ "topic": "t", "partition": 0, "node": 2 }]);
    assert_eq!(pinned(&nodes).await, placed);
    assert_eq!(reassign(&mut client, "t", back()).await, [0, none, none]);
    assert_eq!(pinned(&nodes).await, serde_json::json!([]));
    let found = client.topic("t").await.unwrap();
    let stays = found.partitions.iter().find(|p| p.partition == 0);
    assert_eq!(stays.unwrap().leader, 2, "nothing has moved for it");
}
