//! Three real processes over one directory of objects: each a controller and a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread::JoinHandle;
use std::time::Instant;

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

/// Free at this moment.
fn free_ports<const N: usize>() -> [u16; N] {
    let bound = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

// === impl Processes ===

impl Processes {
    fn new() -> Self {
        let [a, b, c, d, e, f] = free_ports();
        Self {
            dir: tempfile::tempdir().unwrap(),
            more: BTreeMap::new(),
            ports: [(1, [a, b]), (2, [c, d]), (3, [e, f])].into(),
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
        let [port] = free_ports();
        self.ports.get_mut(&node).unwrap()[0] = port;
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

    pub(crate) fn command(&self, arguments: &[&str]) -> serde_json::Value {
        self.try_command(arguments).unwrap()
    }

    /// Until it succeeds: a broker whose lease lapsed on a busy machine breaks connections off.
    pub(crate) fn command_again(&self, arguments: &[&str]) {
        let begun = Instant::now();
        while let Err(error) = self.try_command(arguments) {
            assert!(begun.elapsed() < LIMIT, "{error}");
            if error.contains("TOPIC_ALREADY_EXISTS") {
                return;
            }
        }
    }

    fn page(&self) -> serde_json::Value {
        serde_json::from_str(&self.some().get("/v1/cluster").unwrap()).unwrap()
    }

    fn controllers_leader(&self) -> u8 {
        let begun = Instant::now();
        loop {
            if let Some(leader) = self.page()["controller"].as_u64() {
                return u8::try_from(leader).unwrap();
            }
            assert!(begun.elapsed() < LIMIT, "nobody leads the controllers");
            std::thread::sleep(std::time::Duration::from_millis(20));
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
    std::process::Command::new(binary().unwrap())
        .args(arguments)
        .args(more)
        .output()
        .unwrap()
}

/// One partition a topic, led by as many nodes as there are.
fn topics(processes: &Processes) -> Vec<String> {
    let names: Vec<String> = (0..3).map(|number| format!("t{number}")).collect();
    for name in &names {
        processes.command(&["topic", "create", name]);
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
    let begun = Instant::now();
    processes.command_again(&["topic", "create", "without"]);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
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
    let page = processes.page();
    assert_eq!(page["partitions"]["offline"], 0, "{page:#}");
    let live = page["nodes"].as_array().unwrap().iter();
    let live: BTreeSet<u64> = live.filter_map(|node| node["node"].as_u64()).collect();
    assert_eq!(live, BTreeSet::from([1, 2, 3]));
    processes.stop();
}

fn log_of(data: &Path) -> String {
    std::fs::read_to_string(data.with_extension("log")).unwrap_or_default()
}

#[test]
fn a_node_alone_says_whom_it_waits_for_and_stops_when_told() {
    let processes = Processes::new();
    let mut child = std::process::Command::new(binary().unwrap())
        .arg("serve")
        .arg("--data-dir")
        .arg(processes.data(1))
        .args(["--admin-listen", "127.0.0.1:0"])
        .args(processes.flags(1))
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(processes.data(1).with_extension("log")).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !log_of(&processes.data(1)).contains("waiting for voter 2") {
        assert!(begun.elapsed() < LIMIT, "{}", log_of(&processes.data(1)));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    let pid = child.id().to_string();
    let told = std::process::Command::new("kill")
        .arg(&pid)
        .status()
        .unwrap();
    assert!(told.success());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", log_of(&processes.data(1)));
}

/// The directories of the voters, by node, as `cluster status` tells them.
fn voters(processes: &Processes) -> BTreeMap<u64, String> {
    let rows = processes.command(&["cluster", "status"]);
    let rows = rows.as_array().unwrap().iter();
    let voters = rows.filter(|row| row["role"] != "observer");
    let voters = voters.map(|row| {
        let directory = row["directory"].as_str().unwrap().to_owned();
        (row["node"].as_u64().unwrap(), directory)
    });
    voters.collect()
}

/// `cluster describe` tells each broker's own `lease.ms`, which the first one has from its flags.
/// (Not at once: one whose lease lapsed on a busy machine does not answer.)
fn check_leases(processes: &Processes) {
    let begun = Instant::now();
    loop {
        let described = processes.command(&["cluster", "describe"]);
        let brokers = described["brokers"].as_array().unwrap().iter();
        let told: BTreeMap<u64, Option<i64>> = brokers
            .map(|broker| {
                let lease = broker["lease_ms"].as_i64();
                (broker["node"].as_u64().unwrap(), lease)
            })
            .collect();
        if told == BTreeMap::from([(1, Some(5000)), (2, Some(6000)), (3, Some(6000))]) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{described:#}");
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
    let made = processes.command(&init);
    let described = processes.command(&["cluster", "describe"]);
    assert_eq!(made["cluster"], described["cluster"], "{made:#}");
    assert_eq!(made["voters"][0]["log"], "begun", "{made:#}");
    assert_eq!(described["brokers"].as_array().unwrap().len(), 3);
    check_leases(&processes);
    processes.command(&["topic", "create", "kept"]);
    let before = voters(&processes);
    assert_eq!(before.len(), 3, "{before:?}");

    processes.kill_9(3);
    std::fs::remove_dir_all(processes.data(3)).unwrap();
    processes.command(&["cluster", "remove-voter", "3"]);
    let starting = processes.spawn(3);
    let [_, port] = processes.ports[&3];
    // As soon as it listens.
    processes.command_again(&["cluster", "add-voter", &format!("127.0.0.1:{port}")]);
    let after = voters(&processes);
    assert_eq!(after.len(), 3, "{after:?}");
    assert_ne!(before[&3], after[&3], "another directory is another voter");
    let started = starting.join().unwrap();
    processes.running.insert(3, started);

    // It counts: without another one, it and the third are a quorum.
    processes.kill_9(1);
    processes.command_again(&["topic", "create", "after"]);
    processes.start(&[1]);
    // The level stands already; a broker that lives is not let go of.
    processes.command(&["cluster", "finalize"]);
    let refused = processes.try_command(&["cluster", "unregister", "2"]);
    assert!(refused.unwrap_err().contains("broker 2"));

    // One that is taken out for good ends, and says why.
    processes.command(&["cluster", "remove-voter", "3"]);
    let ended = processes.running.get_mut(&3).unwrap().wait(LIMIT);
    let log = log_of(&processes.data(3));
    assert_eq!(ended.unwrap().code(), Some(1), "{log}");
    assert!(log.contains("voter 3 was removed"), "{log}");
    processes.running.remove(&3);
    processes.command_again(&["topic", "create", "without-three"]);
    processes.stop();
}
