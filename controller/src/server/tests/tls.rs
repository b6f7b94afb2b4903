//! Three voters and processes without one, whose calls are all over mutual TLS.

use env::Env;
use tokio::time::{sleep, timeout};

use super::quorum::{Cluster, NODES, address, ip, level};
use super::*;
use crate::identify::identify;
use crate::limits::{ELECTION_MIN_MS, TLS_ACCEPT};
use crate::observer::{Observer, ObserverSettings};
use crate::rpc::tls::tests::{made, put};
use crate::rpc::tls::{Tls, TlsFiles};

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough to hear why.
const BRIEFLY: Duration = Duration::from_secs(10);

pub(super) async fn open(env: &Env, certificate: &str) -> Result<Tls, Error> {
    Tls::open(env, files(env, certificate)).await
}

fn files(env: &Env, certificate: &str) -> TlsFiles {
    put(env, "/data/tls", made(certificate))
}

async fn begun(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    cluster.tls = NODES.map(|node| (node, "node")).into();
    Cluster::begun_with(cluster).await
}

fn host(cluster: &mut Cluster, node: i32) -> Env {
    let host = Cluster::host(77, &cluster.network, node);
    let env = host.env();
    cluster.hosts.insert(node, host);
    env
}

fn settings(tls: Option<Tls>) -> ObserverSettings {
    ObserverSettings {
        controllers: NODES.map(address).into(),
        lease: Duration::from_secs(6),
        tls,
        newest_level: NEWEST_LEVEL,
    }
}

#[tokio::test(start_paused = true)]
async fn voters_and_a_broker_work_over_tls_and_survive_the_leader() {
    let mut cluster = begun(81).await;
    let env = host(&mut cluster, 11);
    let tls = open(&env, "node").await.unwrap();
    let observing = Observer::start(env.clone(), settings(Some(tls.clone())));
    let observer = timeout(PATIENCE, observing).await.unwrap().unwrap();
    let client = observer.client();
    client.submit(level("on", 1)).await.unwrap();
    let found = identify(&env, &address(2), Some(&tls), PATIENCE).await;
    assert_eq!(found.unwrap().node, NodeId(2));
    let leader = cluster.leader().await;
    cluster.kill(leader);
    client.submit(level("on", 2)).await.unwrap();
    cluster.restart(leader).await;
    cluster.assert_equal_states().await;
    assert_eq!(client.image().borrow().features["on"], 2);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_of_voters_stand_and_tell_of_the_leaders_death() {
    let mut cluster = begun(84).await;
    // Longer than a handshake may take.
    sleep(4 * TLS_ACCEPT).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let next = NODES.into_iter().find(|node| *node != leader).unwrap();
    let began = tokio::time::Instant::now();
    cluster.client(next).submit(level("on", 1)).await.unwrap();
    // Sooner than a time-out of an election: somebody saw the process go.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(ELECTION_MIN_MS), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_certificate_of_the_authority_learns_and_changes_nothing() {
    let mut cluster = begun(82).await;
    let env = host(&mut cluster, 11);
    let impostor = open(&env, "stranger").await.unwrap();
    for (tls, cause) in [
        (None, "set controller.tls.certificate.path"),
        (Some(impostor), "of no authority"),
    ] {
        let refused = identify(&env, &address(1), tls.as_ref(), PATIENCE).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(cause), "{refused}");
        let told = Mutex::new(String::new());
        let starting = Observer::start_telling(env.clone(), settings(tls), |why| {
            *told.lock() = why.to_owned();
        });
        assert!(
            timeout(BRIEFLY, starting).await.is_err(),
            "nobody answers it"
        );
        assert!(told.lock().contains(cause), "{}", told.lock());
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_are_exchanged_while_the_cluster_works() {
    let cluster = begun(83).await;
    let leader = cluster.leader().await;
    let victim = NODES.into_iter().find(|node| *node != leader).unwrap();
    // Its certificate is exchanged, one after the other: connections that stand do not mind.
    for certificate in ["brief", "rotated"] {
        for node in NODES {
            files(&cluster.hosts[&node].env(), certificate);
        }
        sleep(Duration::from_secs(5)).await;
        for node in NODES.into_iter().filter(|node| *node != victim) {
            cluster.network.reset(ip(node), ip(victim));
        }
        sleep(Duration::from_secs(5)).await;
        cluster
            .client(victim)
            .submit(level(certificate, 1))
            .await
            .unwrap();
    }
    // Past the end of the brief one, everybody reaches everybody anew.
    for host in cluster.hosts.values() {
        host.clock.jump_wall(3_700_000);
    }
    for node in NODES {
        for other in NODES.into_iter().filter(|other| *other > node) {
            cluster.network.reset(ip(node), ip(other));
        }
    }
    cluster.client(victim).submit(level("on", 1)).await.unwrap();
    cluster.assert_equal_states().await;
}
