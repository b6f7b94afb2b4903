//! Three real processes over one directory of objects: each a controller and a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::process::{BrokerProcess, binary};

use crate::load::{LIMIT, Load, check, read_all};

const NODES: [u8; 3] = [1, 2, 3];

/// The processes, and what they are started with.
pub(crate) struct Processes {
    dir: tempfile::TempDir,
    /// Settings of single nodes, beyond those of all.
    more: BTreeMap<u8, Vec<String>>,
    /// Where each node's Kafka listener and controller are: kept over restarts.
    ports: BTreeMap<u8, [u16; 2]>,
    pub(crate) running: BTreeMap<u8, BrokerProcess>,
}

/// Ports below those that the system gives to connections, so that one keeps free while its process
/// is away.
const PORTS: std::ops::Range<u16> = 12_000..30_000;
/// How many of them this program has looked at.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// A port that is free, and that nobody else in this program is given.
pub(crate) fn free_port() -> u16 {
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in PORTS {
        let next = u32::from(LOOKED_AT.fetch_add(1, Ordering::Relaxed));
        // Programs beside this one begin elsewhere.
        let port = (std::process::id() % count * 97 + next) % count;
        let port = PORTS.start + u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of {PORTS:?} is free");
}

/// What a command printed. One that does not end is killed.
pub(crate) fn output(command: &mut Command) -> Output {
    let said = format!("{command:?}");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match done.recv_timeout(2 * LIMIT) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
            panic!("{said} does not end");
        }
    }
}

/// Waits for an end. Who does not come to one is killed.
pub(crate) fn ended(child: &mut Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Said by a command that is given again, of what was done before.
const DONE: [&str; 3] = ["TOPIC_ALREADY_EXISTS", "DUPLICATE_VOTER", "is no voter"];

// === impl Processes ===

impl Processes {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            more: BTreeMap::new(),
            ports: NODES.map(|node| (node, [free_port(), free_port()])).into(),
            running: BTreeMap::new(),
        }
    }

    fn begun() -> Self {
        Self::begun_with(BTreeMap::new())
    }

    /// With settings of single nodes.
    pub(crate) fn begun_with(more: BTreeMap<u8, Vec<String>>) -> Self {
        let mut processes = Self::new();
        processes.more = more;
        processes.start(&NODES);
        processes
    }

    fn data(&self, node: u8) -> PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    fn flags(&self, node: u8) -> Vec<String> {
        let voters = self.ports.iter();
        let voters: Vec<String> = voters
            .map(|(id, [_, controller])| format!("{id}@127.0.0.1:{controller}"))
            .collect();
        let [kafka, controller] = self.ports[&node];
        let objects = self.dir.path().join("objects");
        let listeners =
            format!("PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}");
        [
            format!("node.id={node}"),
            format!("listeners={listeners}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("object.store.url={}", objects.display()),
            "wal.backend=object".to_owned(),
            "wal.object.puts.per.second=500".to_owned(),
            // As while it is rolled.
            format!("lease.ms={}", if node == 1 { 5000 } else { 6000 }),
        ]
        .into_iter()
        .chain(self.more.get(&node).into_iter().flatten().cloned())
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect()
    }

    /// From its next start on, its clients find the node elsewhere.
    pub(crate) fn move_listener(&mut self, node: u8) {
        self.ports.get_mut(&node).unwrap()[0] = free_port();
    }

    /// Starts one in the background: it is ready when there is a quorum.
    fn spawn(&self, node: u8) -> JoinHandle<BrokerProcess> {
        let (data, flags) = (self.data(node), self.flags(node));
        std::thread::spawn(move || {
            let any = "127.0.0.1:0";
            BrokerProcess::start(&data, any, any, &flags).unwrap()
        })
    }

    pub(crate) fn start(&mut self, nodes: &[u8]) {
        let starting = nodes.iter().map(|node| (*node, self.spawn(*node)));
        let starting: Vec<_> = starting.collect();
        for (node, started) in starting {
            self.running.insert(node, started.join().unwrap());
        }
    }

    pub(crate) fn kill_9(&mut self, node: u8) {
        self.running.remove(&node).unwrap().kill_9().unwrap();
    }

    fn some(&self) -> &BrokerProcess {
        self.running.values().next().unwrap()
    }

    pub(crate) fn bootstrap(&self) -> String {
        let addresses = self.running.values().map(|one| one.kafka);
        let addresses: Vec<String> = addresses.map(|one: SocketAddr| one.to_string()).collect();
        addresses.join(",")
    }

    /// Runs a command against the cluster; JSON comes back.
    pub(crate) fn try_command(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        let output = run(arguments, &["--bootstrap", &self.bootstrap(), "-o", "json"]);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{arguments:?}: {errors}"));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// Until it succeeds: a broker whose lease lapsed on a busy machine breaks connections off, and
    /// controllers who elect somebody have no time. Null when an earlier one had done it unheard.
    pub(crate) fn command_again(&self, arguments: &[&str]) -> serde_json::Value {
        let begun = Instant::now();
        loop {
            let error = match self.try_command(arguments) {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            if DONE.iter().any(|done| error.contains(done)) {
                return serde_json::Value::Null;
            }
            assert!(begun.elapsed() < LIMIT, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Null when it is not told now.
    fn page(&self) -> serde_json::Value {
        let page = self.some().get("/v1/cluster").unwrap_or_default();
        serde_json::from_str(&page).unwrap_or_default()
    }

    /// Waits until the page of the cluster is so.
    fn page_until(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let begun = Instant::now();
        loop {
            let page = self.page();
            if is_so(&page) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{what}: {page:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn controllers_leader(&self) -> u8 {
        let begun = Instant::now();
        loop {
            if let Some(leader) = self.page()["controller"].as_u64() {
                return u8::try_from(leader).unwrap();
            }
            assert!(begun.elapsed() < LIMIT, "nobody leads the controllers");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn read(&self, topic: &str) -> Vec<(i64, String)> {
        read_all(self.some(), topic)
    }

    pub(crate) fn stop(self) {
        let stopping = self.running.into_values();
        let stopping: Vec<_> = stopping
            .map(|process| std::thread::spawn(move || process.stop(LIMIT)))
            .collect();
        for stopped in stopping {
            stopped.join().unwrap().unwrap();
        }
    }
}

fn run(arguments: &[&str], more: &[&str]) -> Output {
    output(Command::new(binary().unwrap()).args(arguments).args(more))
}

/// One partition a topic, led by as many nodes as there are.
fn topics(processes: &Processes) -> Vec<String> {
    let names: Vec<String> = (0..3).map(|number| format!("t{number}")).collect();
    for name in &names {
        processes.command_again(&["topic", "create", name]);
    }
    names
}

#[test]
fn processes_serve_through_each_other_and_outlive_each_other() {
    let mut processes = Processes::begun();
    let names = topics(&processes);
    // Each written through another node than the one that leads it, most of the time.
    let mut loads: Vec<Load> = NODES
        .iter()
        .map(|node| Load::new(&processes.running[node]))
        .collect();
    for (load, name) in loads.iter_mut().zip(&names) {
        load.send(name, 500);
        load.acknowledged.wait_for(200);
    }
    // The leader of the controllers dies under load; commands go on.
    let leader = processes.controllers_leader();
    processes.kill_9(leader);
    processes.command_again(&["topic", "create", "without"]);
    for (load, name) in loads.iter_mut().zip(&names) {
        load.send(name, 500);
    }
    processes.start(&[leader]);
    for load in &loads {
        load.acknowledged.wait_for(1000);
    }
    // All die at once, and come back.
    for (load, name) in loads.iter_mut().zip(&names) {
        load.send(name, 500);
        load.acknowledged.wait_for(1100);
    }
    for node in NODES {
        processes.kill_9(node);
    }
    processes.start(&NODES);
    for (load, name) in loads.iter().zip(&names) {
        load.acknowledged.wait_for(1500);
        check(&processes.read(name), &load.acknowledged, 1500);
    }
    processes.page_until("all live, and lead", |page| {
        let live = page["nodes"].as_array().into_iter().flatten();
        let live: BTreeSet<u64> = live.filter_map(|node| node["node"].as_u64()).collect();
        page["partitions"]["offline"] == 0 && live == BTreeSet::from([1, 2, 3])
    });
    processes.stop();
}

fn log_of(data: &Path) -> String {
    std::fs::read_to_string(data.with_extension("log")).unwrap_or_default()
}

#[test]
fn a_node_alone_says_whom_it_waits_for_and_stops_when_told() {
    let processes = Processes::new();
    let mut child = Command::new(binary().unwrap())
        .arg("serve")
        .arg("--data-dir")
        .arg(processes.data(1))
        .args(["--admin-listen", "127.0.0.1:0"])
        .args(processes.flags(1))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(processes.data(1).with_extension("log")).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !log_of(&processes.data(1)).contains("waiting for voter 2") {
        assert!(begun.elapsed() < LIMIT, "{}", log_of(&processes.data(1)));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    let pid = child.id().to_string();
    let told = Command::new("kill").arg(&pid).status().unwrap();
    assert!(told.success());
    let status = ended(&mut child).expect("it stops");
    assert!(status.success(), "{status}: {}", log_of(&processes.data(1)));
}

/// The directories of all three voters, by node, once `cluster status` tells them.
fn voters(processes: &Processes) -> BTreeMap<u64, String> {
    let begun = Instant::now();
    loop {
        let rows = processes.command_again(&["cluster", "status"]);
        let voters = rows.as_array().into_iter().flatten();
        let voters = voters.filter(|row| row["role"] != "observer");
        let voters = voters.filter_map(|row| {
            let directory = row["directory"].as_str()?.to_owned();
            Some((row["node"].as_u64()?, directory))
        });
        let voters: BTreeMap<u64, String> = voters.collect();
        if voters.len() == NODES.len() {
            return voters;
        }
        assert!(begun.elapsed() < LIMIT, "{rows:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `cluster describe` tells each broker's own `lease.ms`, which the first one has from its flags.
/// (Not at once: one whose lease lapsed on a busy machine does not answer.)
fn check_leases(processes: &Processes) {
    let begun = Instant::now();
    loop {
        let described = processes.try_command(&["cluster", "describe"]);
        let described = described.unwrap_or_default();
        let brokers = described["brokers"].as_array().into_iter().flatten();
        let told: BTreeMap<Option<u64>, Option<i64>> = brokers
            .map(|broker| (broker["node"].as_u64(), broker["lease_ms"].as_i64()))
            .collect();
        let all = [(1, 5000), (2, 6000), (3, 6000)];
        if told == all.map(|(node, lease)| (Some(node), Some(lease))).into() {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{described:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A broker that lives is not let go of.
fn check_kept(processes: &Processes, node: &str) {
    let begun = Instant::now();
    loop {
        // All answer just before.
        check_leases(processes);
        let refused = processes.try_command(&["cluster", "unregister", node]);
        let refused = refused.expect_err("it lives");
        if refused.contains(&format!("broker {node}")) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{refused}");
    }
}

#[test]
fn a_voter_that_lost_its_disk_is_replaced_by_the_commands() {
    let mut processes = Processes::new();
    let named: Vec<String> = processes
        .ports
        .iter()
        .map(|(id, [_, at])| format!("{id}@127.0.0.1:{at}"))
        .collect();
    let init = ["cluster", "init", "--voters", &named.join(",")];
    // Nobody is there, and the command says so.
    let failed = run(&init, &["--timeout", "1", "-o", "json"]);
    assert_eq!(failed.status.code(), Some(1));
    let rows: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(rows[2]["answers"], false, "{rows:#}");
    processes.start(&NODES);
    let made = processes.command_again(&init);
    let described = processes.command_again(&["cluster", "describe"]);
    assert_eq!(made["cluster"], described["cluster"], "{made:#}");
    assert_eq!(made["voters"][0]["log"], "begun", "{made:#}");
    check_leases(&processes);
    processes.command_again(&["topic", "create", "kept"]);
    let before = voters(&processes);

    processes.kill_9(3);
    std::fs::remove_dir_all(processes.data(3)).unwrap();
    processes.command_again(&["cluster", "remove-voter", "3"]);
    let starting = processes.spawn(3);
    let [_, port] = processes.ports[&3];
    // As soon as it listens.
    processes.command_again(&["cluster", "add-voter", &format!("127.0.0.1:{port}")]);
    let after = voters(&processes);
    assert_ne!(before[&3], after[&3], "another directory is another voter");
    let started = starting.join().unwrap();
    processes.running.insert(3, started);

    // It counts: without another one, it and the third are a quorum.
    processes.kill_9(1);
    processes.command_again(&["topic", "create", "after"]);
    processes.start(&[1]);
    // The level stands already; a broker that lives is not let go of.
    processes.command_again(&["cluster", "finalize"]);
    check_kept(&processes, "2");

    // One that is taken out for good ends, and says why.
    processes.command_again(&["cluster", "remove-voter", "3"]);
    let ended = processes.running.get_mut(&3).unwrap().wait(LIMIT);
    let log = log_of(&processes.data(3));
    assert_eq!(ended.unwrap().code(), Some(1), "{log}");
    assert!(log.contains("voter 3 was removed"), "{log}");
    processes.running.remove(&3);
    processes.command_again(&["topic", "create", "without-three"]);
    processes.stop();
}
