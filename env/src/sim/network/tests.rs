use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

async fn pair(network: &SimNetwork) -> (BoxStream, BoxStream) {
    let (a, b) = (network.host("a", ip(1)), network.host("b", ip(2)));
    let listener = b.bind(SocketAddr::new(ip(2), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let near = a.connect(address).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), ip(1));
    (near, far)
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_in_order_after_a_latency_and_the_end_follows() {
    let network = SimNetwork::new(1, NetworkFaults::QUIET);
    let (mut near, mut far) = pair(&network).await;
    let sent: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let copy = sent.clone();
    let started = tokio::time::Instant::now();
    let sender = tokio::spawn(async move {
        near.write_all(&copy).await.unwrap();
        near.shutdown().await.unwrap();
        near
    });
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    assert!(started.elapsed() >= NetworkFaults::QUIET.least);
    // Half closed: the other direction still works.
    let mut near = sender.await.unwrap();
    far.write_all(b"back").await.unwrap();
    let mut back = [0; 4];
    near.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
}

#[tokio::test(start_paused = true)]
async fn a_partition_holds_bytes_until_it_heals_and_a_reset_ends_both_sides() {
    let network = SimNetwork::new(2, NetworkFaults::QUIET);
    let (mut near, mut far) = pair(&network).await;
    network.cut_one_way(ip(1), ip(2));
    near.write_all(b"held").await.unwrap();
    let mut four = [0; 4];
    let held = tokio::time::timeout(Duration::from_secs(60), far.read_exact(&mut four)).await;
    assert!(held.is_err(), "nothing passes a partition");
    far.write_all(b"other way").await.unwrap();
    let mut nine = [0; 9];
    near.read_exact(&mut nine).await.unwrap();
    assert_eq!(&nine, b"other way");
    network.heal(ip(1), ip(2));
    far.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"held");

    assert_eq!(network.reset(ip(2), ip(1)), 1);
    let reset = far.read(&mut four).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    let reset = near.write_all(b"x").await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_refuses_and_who_is_cut_off_times_out() {
    let network = SimNetwork::new(3, NetworkFaults::QUIET);
    let (a, _b) = (network.host("a", ip(1)), network.host("b", ip(2)));
    let address = a.resolve("b", 9).await.unwrap()[0];
    assert_eq!(address, SocketAddr::new(ip(2), 9));
    let error = a.connect(address).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    network.cut(ip(1), ip(2));
    let error = a.connect(address).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_killed_host_ends_a_read_that_waits_and_frees_its_port() {
    let network = SimNetwork::new(4, NetworkFaults::QUIET);
    let b = network.host("b", ip(2));
    let address = SocketAddr::new(ip(2), 9092);
    let listener = b.bind(address).await.unwrap();
    assert_eq!(
        b.bind(address).await.err().unwrap().kind(),
        io::ErrorKind::AddrInUse
    );
    let mut near = network.host("a", ip(1)).connect(address).await.unwrap();
    let _far = listener.accept().await.unwrap();
    let waiting = tokio::spawn(async move { near.read_u8().await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(network.kill_host(ip(2)), 1);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(listener.accept().await.is_err());
    let dead = b.bind(address).await.err().unwrap();
    assert_eq!(dead.kind(), io::ErrorKind::NetworkDown);
    let a = SocketAddr::new(ip(1), 1);
    assert_eq!(
        b.connect(a).await.err().unwrap().kind(),
        io::ErrorKind::NetworkDown
    );
    let next = network.host("b", ip(2));
    next.bind(address).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_held_host_waits_for_its_release() {
    let network = SimNetwork::new(3, NetworkFaults::QUIET);
    let (mut near, mut far) = pair(&network).await;
    network.hold_host(ip(2));
    near.write_all(b"held").await.unwrap();
    far.write_all(b"back").await.unwrap();
    let (mut there, mut here) = ([0; 4], [0; 4]);
    let minute = Duration::from_secs(60);
    let arrived = tokio::time::timeout(minute, far.read_exact(&mut there)).await;
    assert!(arrived.is_err(), "nothing reaches a held host");
    let arrived = tokio::time::timeout(minute, near.read_exact(&mut here)).await;
    assert!(arrived.is_err(), "nothing leaves a held host");
    network.release_host(ip(2));
    far.read_exact(&mut there).await.unwrap();
    near.read_exact(&mut here).await.unwrap();
    assert_eq!((&there, &here), (b"held", b"back"));
}
