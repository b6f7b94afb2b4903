//! The admin listener does nothing for a web page that a browser beside it has open.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The status that a request with just these lines is answered with.
async fn ask(nodes: &Nodes, request: &str, lines: &[&str]) -> u16 {
    let net = nodes.network.host("browser", IpAddr::from([10, 0, 1, 50]));
    let at = SocketAddr::new(ip(1), 9644);
    let mut stream = env::Network::connect(&*net, at).await.unwrap();
    let lines = lines.join("\r\n");
    let request =
        format!("{request} HTTP/1.1\r\n{lines}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].parse().unwrap()
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
    // Who only looks may come from anywhere.
    for page in ["GET /v1/brokers", "GET /v1/balance", "GET /metrics"] {
        let lines = ["host: page.example", "origin: http://page.example"];
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
