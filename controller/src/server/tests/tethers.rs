//! Who is fenced for evidence of death, and who is not.

use std::net::SocketAddr;

use env::sim::SimHost;
use env::{BoxStream, Listener as Socket};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::quorum::{Cluster, NODES, ip};
use super::*;
use crate::client::LeaseKeeper;
use crate::command::Listener;
use crate::limits::TETHER_AGE;

const SOON: Duration = Duration::from_secs(2);

/// A broker whose lease is kept from elsewhere, so that only evidence ends it.
struct Broker {
    epoch: BrokerEpoch,
    _lease: LeaseKeeper,
    accepting: JoinHandle<()>,
    /// What it accepted.
    _held: Arc<Mutex<Vec<BoxStream>>>,
    _host: Option<SimHost>,
}

async fn accept(socket: Box<dyn Socket>, held: Arc<Mutex<Vec<BoxStream>>>) {
    while let Ok((stream, _)) = socket.accept().await {
        held.lock().push(stream);
    }
}

async fn broker(cluster: &Cluster, node: i32, backend: WalBackend) -> Broker {
    let host =
        (!cluster.hosts.contains_key(&node)).then(|| Cluster::host(77, &cluster.network, node));
    let env = host.as_ref().or(cluster.hosts.get(&node)).unwrap().env();
    let socket = env.net.bind(SocketAddr::new(ip(node), 9092)).await.unwrap();
    let held = Arc::default();
    let accepting = tokio::spawn(accept(socket, Arc::clone(&held)));
    let asked = NODES.into_iter().find(|voter| *voter != node).unwrap();
    let client = cluster.client(asked);
    let at = Listener {
        name: "PLAINTEXT".to_owned(),
        host: ip(node).to_string(),
        port: 9092,
        protocol: "PLAINTEXT".to_owned(),
    };
    let number = u128::try_from(node).unwrap();
    let register = RegisterBroker {
        node: NodeId(node),
        listeners: vec![at],
        ..register(number)
    };
    let epoch = client.register(register, true).await.unwrap();
    let wal = WalId(Uuid::from_u128(1000 + number));
    let open = Command::OpenWal {
        broker: epoch,
        wal,
        backend,
    };
    client.submit(open).await.unwrap();
    let lease = client.keep_lease(epoch, ()).await.unwrap();
    // The tethers stand.
    sleep(Duration::from_secs(2)).await;
    Broker {
        epoch,
        _lease: lease,
        accepting,
        _held: held,
        _host: host,
    }
}

/// How long until the broker is fenced; `None` when it is not within a minute.
async fn fenced(cluster: &Cluster, broker: &Broker) -> Option<Duration> {
    let began = Instant::now();
    let asked = cluster.running.keys().next().unwrap();
    let mut image = cluster.client(*asked).image();
    let gone = image.wait_for(|image| {
        let live = |(epoch, _): (BrokerEpoch, _)| epoch == broker.epoch;
        !image.live_brokers().any(live)
    });
    let gone = timeout(Duration::from_secs(60), gone).await;
    gone.ok().map(|_| began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_gone_from_a_host_that_answers_is_fenced_at_once() {
    let cluster = Cluster::begun(61).await;
    let broker = broker(&cluster, 7, WalBackend::Object).await;
    cluster.network.kill_host(ip(7));
    let took = fenced(&cluster, &broker).await.expect("evidence");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_time_outs_and_broken_connections_are_no_evidence() {
    let cluster = Cluster::begun(62).await;
    let broker = broker(&cluster, 7, WalBackend::Object).await;
    for node in NODES {
        assert!(cluster.network.reset(ip(node), ip(7)) > 0, "a tether stood");
    }
    assert_eq!(fenced(&cluster, &broker).await, None, "it listens still");
    for node in NODES {
        cluster.network.cut(ip(node), ip(7));
        cluster.network.reset(ip(node), ip(7));
    }
    assert_eq!(fenced(&cluster, &broker).await, None, "nobody refused");
    cluster.network.heal_all();
    sleep(Duration::from_secs(10)).await;
    cluster.network.kill_host(ip(7));
    assert!(fenced(&cluster, &broker).await.unwrap() < SOON);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_network_forgot_is_no_proof_of_life() {
    let cluster = Cluster::begun(65).await;
    let broker = broker(&cluster, 7, WalBackend::Object).await;
    // It takes new ones for as long as it lives.
    assert_eq!(fenced(&cluster, &broker).await, None, "it lives");
    // Nobody listens any more, and the end of what stood never comes.
    broker.accepting.abort();
    let took = fenced(&cluster, &broker).await.expect("evidence");
    assert!(took < TETHER_AGE + SOON, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_never_reached_or_logs_to_a_disk_is_let_alone() {
    let cluster = Cluster::begun(63).await;
    let disk = broker(&cluster, 7, WalBackend::Disk).await;
    cluster.network.kill_host(ip(7));
    assert_eq!(fenced(&cluster, &disk).await, None);

    for node in NODES {
        cluster.network.cut(ip(node), ip(8));
    }
    let far = broker(&cluster, 8, WalBackend::Object).await;
    cluster.network.kill_host(ip(8));
    cluster.network.heal_all();
    assert_eq!(fenced(&cluster, &far).await, None, "no connection stood");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_died_with_the_leader_is_fenced_by_the_next_one() {
    let mut cluster = Cluster::begun(64).await;
    let leader = cluster.leader().await;
    let broker = broker(&cluster, leader, WalBackend::Object).await;
    cluster.kill(leader);
    let took = fenced(&cluster, &broker).await.expect("evidence");
    println!("fenced {took:?} after the leader's death");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
