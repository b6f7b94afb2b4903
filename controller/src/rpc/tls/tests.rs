//! Two simulated machines. The certificates are made by `tests/make.sh`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use env::OpenMode;
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;
use uuid::Uuid;

use super::super::accept::Incoming;
use super::super::server::serve_incoming;
use super::super::{Channels, Service, Target, method, wire};
use super::*;
use crate::limits::{MAX_TLS_HANDSHAKES, TLS_ACCEPT};

const PORT: u16 = 9093;

/// Certificate, key and authority of a name, as `make.sh` made them.
pub(crate) fn made(name: &str) -> [&'static [u8]; 3] {
    macro_rules! of {
        ($name:literal, $ca:literal) => {
            [
                include_bytes!(concat!("tests/", $name, ".pem")).as_slice(),
                include_bytes!(concat!("tests/", $name, ".key")).as_slice(),
                include_bytes!(concat!("tests/", $ca, ".pem")).as_slice(),
            ]
        };
    }
    match name {
        "node" => of!("node", "ca"),
        "rotated" => of!("rotated", "ca"),
        "brief" => of!("brief", "ca"),
        "expired" => of!("expired", "ca"),
        "elsewhere" => of!("elsewhere", "ca"),
        "client" => of!("client", "ca"),
        "stranger" => of!("stranger", "other-ca"),
        // Of an authority that the others do not know, and knows theirs.
        "impostor" => of!("stranger", "ca"),
        other => panic!("{other} was not made"),
    }
}

/// Writes files anew, durably.
pub(crate) fn put(env: &Env, dir: &str, [certificate, key, ca]: [&[u8]; 3]) -> TlsFiles {
    let dir = Path::new(dir);
    env.disk.create_dir_all(dir).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        if env.disk.file_len(&path).unwrap().is_some() {
            env.disk.remove_file(&path).unwrap();
        }
        let file = env.disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        path
    };
    let files = TlsFiles {
        certificate: put("tls.crt", certificate),
        key: put("tls.key", key),
        ca: put("ca.crt", ca),
    };
    env.disk.sync_dir(dir).unwrap();
    files
}

/// Says that it is voter 7.
#[derive(Clone)]
struct Seven;

impl Service for Seven {
    fn call(
        self,
        _: String,
        request: http::Request<tonic::body::Body>,
    ) -> BoxFuture<'static, Result<http::Response<tonic::body::Body>, Status>> {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<wire::Identity, wire::Nothing>::default());
            let says = service_fn(|_: Request<wire::Nothing>| async {
                Ok::<_, Status>(Response::new(wire::Identity {
                    node: 7,
                    ..Default::default()
                }))
            });
            Ok(grpc.unary(says, request).await)
        })
    }

    fn identity(&self) -> (u64, Uuid, &'static str) {
        (7, Uuid::nil(), method::IDENTIFY)
    }
}

fn ip(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node])
}

struct Pair {
    network: SimNetwork,
    hosts: [SimHost; 2],
    caller: Env,
    callee: Env,
    /// Why the callee takes no calls.
    why: Why,
    channels: Channels,
    serving: JoinHandle<()>,
}

// === impl Pair ===

impl Pair {
    /// Names of certificates; none for plaintext. They are not checked beforehand: others change.
    async fn new(caller: Option<&str>, callee: Option<&str>) -> Self {
        let network = SimNetwork::new(5, NetworkFaults::QUIET);
        let hosts = [1, 2]
            .map(|node| SimHost::new(u64::from(node), &network, &format!("n{node}"), ip(node)));
        let (one, two) = (hosts[0].env(), hosts[1].env());
        let listener = two.net.bind(SocketAddr::new(ip(2), PORT)).await.unwrap();
        let incoming = Incoming::new(listener, open(&two, callee).await);
        let why = incoming.why.clone();
        let channels = Channels::new(one.net.clone(), open(&one, caller).await);
        Self {
            network,
            hosts,
            caller: one,
            callee: two,
            why,
            channels,
            serving: tokio::spawn(serve_incoming(incoming, Seven)),
        }
    }

    fn jump(&self, by_ms: i64) {
        for host in &self.hosts {
            host.clock.jump_wall(by_ms);
        }
    }

    async fn call(&self) -> Result<u64, Status> {
        call(&self.channels).await
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn open(env: &Env, name: Option<&str>) -> Option<Tls> {
    let files = put(env, "/tls", made("node"));
    let tls = Tls::open(env, files).await.unwrap();
    let files = put(env, "/tls", made(name?));
    // As if it had become unusable since it was read.
    let contents = Contents::read(env, &files).await.unwrap();
    tls.0.state.lock().loaded = Arc::new(Loaded::unchecked(env, &files, contents).unwrap());
    Some(tls)
}

async fn call(channels: &Channels) -> Result<u64, Status> {
    let target = Target {
        node: 7,
        address: format!("10.0.0.2:{PORT}"),
        directory: Uuid::nil(),
    };
    let within = Duration::from_secs(4);
    let asked = channels.ask(&target, method::IDENTIFY, wire::Nothing {}, within);
    let identity: wire::Identity = asked.await?;
    Ok(identity.node)
}

#[tokio::test(start_paused = true)]
async fn both_sides_show_a_certificate_of_the_authority() {
    let pair = Pair::new(Some("node"), Some("rotated")).await;
    assert_eq!(pair.call().await.unwrap(), 7);
    assert_eq!(pair.why.get(), None);
}

#[tokio::test(start_paused = true)]
async fn each_failure_names_cause_and_remedy_on_both_sides() {
    for (caller, callee, at_caller, at_callee) in [
        // The callee's certificate.
        (
            Some("node"),
            Some("impostor"),
            "is of no authority in",
            "of no authority that it knows",
        ),
        (
            Some("node"),
            Some("expired"),
            "its certificate has expired",
            "which has expired",
        ),
        (
            Some("node"),
            Some("elsewhere"),
            "subjectAltName",
            "subjectAltName",
        ),
        (
            Some("node"),
            Some("client"),
            "extendedKeyUsage needs",
            "serverAuth",
        ),
        // The caller's.
        (
            Some("impostor"),
            Some("node"),
            "of no authority that it knows",
            "is of no authority in",
        ),
        (
            Some("expired"),
            Some("node"),
            "which has expired",
            "its certificate has expired",
        ),
        // One side without.
        (
            None,
            Some("node"),
            "speaks TLS and this one does not",
            "does not speak TLS",
        ),
        (
            Some("node"),
            None,
            "controller.tls",
            "speaks TLS and this one does not",
        ),
    ] {
        let pair = Pair::new(caller, callee).await;
        let refused = pair.call().await.expect_err("refused");
        let text = refused.message();
        assert!(text.contains(at_caller), "{caller:?} to {callee:?}: {text}");
        // The alert is on its way.
        sleep(Duration::from_secs(1)).await;
        let text = pair.why.get().unwrap_or_default();
        assert!(text.contains(at_callee), "{caller:?} to {callee:?}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_put_in_place_is_used_without_a_restart() {
    let pair = Pair::new(Some("node"), Some("expired")).await;
    pair.call().await.expect_err("it has expired");
    sleep(TLS_FILES_PAUSE).await;
    // Half of a rotation: the key does not fit yet.
    let [certificate, key, ca] = made("rotated");
    let [_, other_key, _] = made("node");
    put(&pair.callee, "/tls", [certificate, other_key, ca]);
    let refused = pair.call().await.expect_err("the old one stays");
    assert!(refused.message().contains("expired"), "{refused}");
    put(&pair.callee, "/tls", [certificate, key, ca]);
    sleep(TLS_FILES_PAUSE).await;
    assert_eq!(pair.call().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_expires_while_it_is_in_use() {
    let pair = Pair::new(Some("brief"), Some("node")).await;
    assert_eq!(pair.call().await.unwrap(), 7);
    pair.jump(3_700_000);
    // The connection that stands goes on; a new one does not come to stand.
    assert_eq!(pair.call().await.unwrap(), 7);
    let tls = Tls::open(&pair.caller, put(&pair.caller, "/new", made("node"))).await;
    let fresh = Channels::new(pair.caller.net.clone(), Some(tls.unwrap()));
    assert_eq!(call(&fresh).await.unwrap(), 7);
    let expired = put(&pair.caller, "/old", made("brief"));
    let refused = Tls::open(&pair.caller, expired).await.unwrap_err();
    assert!(refused.to_string().contains("/old/tls.crt has expired"));
}

#[tokio::test(start_paused = true)]
async fn those_that_stall_hold_nobody_up() {
    let pair = Pair::new(Some("node"), Some("node")).await;
    let address = SocketAddr::new(ip(2), PORT);
    let mut stalled = Vec::new();
    for n in 0..2 * MAX_TLS_HANDSHAKES {
        let mut stream = pair.caller.net.connect(address).await.unwrap();
        // Some say nothing, some begin a handshake: a header, and less than it promises.
        if n % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        stalled.push(stream);
    }
    let began = tokio::time::Instant::now();
    assert_eq!(pair.call().await.unwrap(), 7);
    assert!(began.elapsed() < TLS_ACCEPT, "simulated time");
    // All of them are given up: the oldest for the younger, the others in time.
    for mut stream in stalled {
        let mut rest = Vec::new();
        let ended = timeout(TLS_ACCEPT * 2, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it was let be");
    }
    assert_eq!(pair.call().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_connects_without_end_keeps_out_nobody_else() {
    let pair = Pair::new(Some("node"), Some("node")).await;
    let address = SocketAddr::new(ip(2), PORT);
    // A node that takes its time.
    let slow = pair.caller.net.connect(address).await.unwrap();
    let net = SimHost::new(3, &pair.network, "n3", ip(3)).env().net;
    let flood = tokio::spawn(async move {
        let mut held = Vec::new();
        while held.len() < 3 * MAX_TLS_HANDSHAKES {
            held.extend(net.connect(address).await);
        }
        held
    });
    let held = flood.await.unwrap();
    assert_eq!(pair.call().await.unwrap(), 7, "one that is quick");
    let tls = pair.channels.tls().unwrap();
    let mut slow = tls.connect(slow, "10.0.0.2").await.unwrap();
    // What an HTTP/2 server says to whoever it has let in.
    let mut first = [0; 1];
    assert_eq!(slow.read(&mut first).await.unwrap(), 1, "it was given up");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_used_say_which_and_why() {
    let network = SimNetwork::new(5, NetworkFaults::QUIET);
    let env = SimHost::new(1, &network, "n1", ip(1)).env();
    let [certificate, key, ca] = made("node");
    let [_, other_key, _] = made("rotated");
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    for (contents, cause) in [
        (
            [certificate, other_key, ca],
            "tls.key is not the key of /tls/tls.crt",
        ),
        (
            [b"".as_slice(), key, ca],
            "controller.tls.certificate.path: /tls/tls.crt: no certificate",
        ),
        ([certificate, encrypted.as_slice(), ca], "not encrypted"),
        (
            [certificate, key, key],
            "controller.tls.ca.path: /tls/ca.crt: no certificate",
        ),
        (made("expired"), "has expired"),
        (
            made("stranger").map(|bytes| {
                if bytes == made("stranger")[2] {
                    ca
                } else {
                    bytes
                }
            }),
            "of no authority",
        ),
    ] {
        let files = put(&env, "/tls", contents);
        let refused = Tls::open(&env, files).await.unwrap_err().to_string();
        assert!(refused.contains(cause), "{refused}");
    }
    let mut files = put(&env, "/tls", made("node"));
    files.key = "/tls/none".into();
    let refused = Tls::open(&env, files).await.unwrap_err().to_string();
    assert!(
        refused.contains("controller.tls.key.path: /tls/none"),
        "{refused}"
    );
}

fn check_serves(tls: &Tls, host: &str) -> Result<(), String> {
    let loaded = tls.0.state.lock().loaded.clone();
    loaded.check_serves(&tls.0.env, &tls.0.files, host)
}

#[tokio::test(start_paused = true)]
async fn a_voter_is_told_when_its_certificate_does_not_name_it() {
    let network = SimNetwork::new(5, NetworkFaults::QUIET);
    let env = SimHost::new(1, &network, "n1", ip(1)).env();
    let tls = Tls::open(&env, put(&env, "/tls", made("elsewhere")))
        .await
        .unwrap();
    check_serves(&tls, "10.9.9.9").unwrap();
    let wrong = check_serves(&tls, "10.0.0.1").unwrap_err();
    assert!(wrong.contains("does not name this node"), "{wrong}");
    let tls = Tls::open(&env, put(&env, "/tls", made("client")))
        .await
        .unwrap();
    let wrong = check_serves(&tls, "10.0.0.1").unwrap_err();
    assert!(wrong.contains("serverAuth and clientAuth"), "{wrong}");
}
