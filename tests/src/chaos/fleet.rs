//! The processes of one cluster: each with ports of its own that it keeps over restarts.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::net::Net;
use crate::process::{self, binary};

/// How long an admin page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);

/// Number of a node, from 1.
pub(super) type Node = i32;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Nodes that are controllers and brokers.
    pub(super) combined: i32,
    /// Nodes that are brokers only.
    pub(super) brokers: i32,
    pub(super) store_url: String,
    /// Further settings, for every node.
    pub(super) settings: Vec<(String, String)>,
    /// Where nodes run, if not all on loopback.
    pub(super) net: Option<Net>,
}

/// What a node runs, if not the build under test as one of its fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Its program.
    pub(super) program: Option<PathBuf>,
    /// Its settings, but for addresses and the store.
    pub(super) settings: Option<Vec<(String, String)>>,
}

struct Ports {
    kafka: SocketAddr,
    controller: SocketAddr,
    admin: SocketAddr,
}

/// The processes. Dropped, they are killed.
pub(super) struct Fleet {
    dir: PathBuf,
    plan: Plan,
    ports: BTreeMap<Node, Ports>,
    own: BTreeMap<Node, Own>,
    running: BTreeMap<Node, Child>,
}

// === impl Fleet ===

impl Fleet {
    /// Chooses ports; starts nothing.
    pub(super) fn new(dir: &Path, plan: Plan) -> Result<Self> {
        let nodes: Vec<Node> = (1..=plan.combined + plan.brokers).collect();
        let ports = match &plan.net {
            Some(net) => {
                net.add(&nodes)?;
                let of_node = |node: Node| {
                    let at = |port| SocketAddr::new(net.address(node), port);
                    Ports {
                        kafka: at(9092),
                        controller: at(9093),
                        admin: at(9644),
                    }
                };
                nodes.into_iter().map(|n| (n, of_node(n))).collect()
            }
            None => free_ports(&nodes)?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            plan,
            ports,
            own: BTreeMap::new(),
            running: BTreeMap::new(),
        })
    }

    /// Whether packets between nodes can be lost.
    pub(super) fn net(&self) -> Option<&Net> {
        self.plan.net.as_ref()
    }

    /// Gives a node a program or settings of its own, from its next start on.
    pub(super) fn give(&mut self, node: Node, own: Own) {
        self.own.insert(node, own);
    }

    /// Whether a node is a voter of the controllers.
    pub(super) fn votes(&self, node: Node) -> bool {
        node <= self.plan.combined
    }

    /// Where the controller of `node` listens.
    pub(super) fn controller_address(&self, node: Node) -> SocketAddr {
        self.ports[&node].controller
    }

    /// Where the Kafka listener of `node` is.
    pub(super) fn kafka(&self, node: Node) -> SocketAddr {
        self.ports[&node].kafka
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        self.ports.keys().copied().collect()
    }

    /// Kafka addresses of all nodes.
    pub(super) fn bootstrap(&self) -> String {
        let all: Vec<String> = self.ports.values().map(|p| p.kafka.to_string()).collect();
        all.join(",")
    }

    pub(super) fn log(&self, node: Node) -> PathBuf {
        self.dir.join(format!("node-{node}.log"))
    }

    /// Starts the process of `node`, and waits for nothing.
    pub(super) fn start(&mut self, node: Node) -> Result<()> {
        ensure!(!self.running.contains_key(&node), "node {node} runs");
        let program = self.own.get(&node).and_then(|own| own.program.clone());
        let program = program.map_or_else(binary, Ok)?;
        let command = match &self.plan.net {
            Some(net) => net.command(node, &program),
            None => Command::new(&program),
        };
        let settings = self.settings(node).into_iter();
        let set =
            settings.flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]);
        let child = process::serve(
            process::without_ours(command),
            &self.dir.join(format!("node-{node}")),
            &set.collect::<Vec<_>>(),
            &self.log(node),
            Stdio::null(),
        )?;
        self.running.insert(node, child);
        Ok(())
    }

    fn settings(&self, node: Node) -> Vec<(String, String)> {
        let ports = &self.ports[&node];
        let own = self.own.get(&node).and_then(|own| own.settings.clone());
        let fixed = [
            ("node.id", node.to_string()),
            ("admin.listen", ports.admin.to_string()),
            ("object.store.url", self.plan.store_url.clone()),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
        let of_fleet = own.unwrap_or_else(|| self.of_fleet(node));
        let all = fixed.into_iter().chain(of_fleet);
        all.chain(self.plan.settings.clone()).collect()
    }

    /// What makes a node one of the fleet.
    fn of_fleet(&self, node: Node) -> Vec<(String, String)> {
        let ports = &self.ports[&node];
        let voters = self.ports.iter().take(self.plan.combined as usize);
        let voters: Vec<String> = voters
            .map(|(node, ports)| format!("{node}@{}", ports.controller))
            .collect();
        let kafka = format!("PLAINTEXT://{}", ports.kafka);
        let (roles, listeners) = if self.votes(node) {
            let both = format!("{kafka},CONTROLLER://{}", ports.controller);
            ("broker,controller", both)
        } else {
            ("broker", kafka)
        };
        let own = [
            ("process.roles", roles.to_owned()),
            ("listeners", listeners),
            ("controller.quorum.voters", voters.join(",")),
        ];
        own.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Runs `headwater ARGUMENTS` of the build under test until it has ended; gives what it printed.
    pub(super) fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(binary()?)
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("headwater {}: {}", arguments.join(" "), errors.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The admin address of a node that runs and is not one of `but`.
    pub(super) fn admin_of_another(&self, but: &[Node]) -> Result<SocketAddr> {
        let mut others = self.running.keys().filter(|node| !but.contains(node));
        let other = others.next().context("no other node runs")?;
        Ok(self.ports[other].admin)
    }

    /// How many partitions `node` leads, as another one says that is not one of `but`; none when it
    /// is not known to live.
    pub(super) fn leads(&self, node: Node, but: &[Node]) -> Result<Option<u64>> {
        let (_, page) = get(self.admin_of_another(but)?, "/v1/brokers")?;
        let page: serde_json::Value = serde_json::from_str(&page)?;
        let of_node = |one: &&serde_json::Value| one["node"].as_i64() == Some(node.into());
        let told = page.as_array().into_iter().flatten().find(of_node);
        let lives = |one: &&serde_json::Value| one["state"].as_str() != Some("absent");
        Ok(told.filter(lives).and_then(|one| one["leads"].as_u64()))
    }

    /// Kills the process at once.
    pub(super) fn kill_9(&mut self, node: Node) -> Result<()> {
        let mut child = self.running.remove(&node).context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&self, node: Node, signal: &str) -> Result<()> {
        let child = self.running.get(&node).context("it does not run")?;
        process::send_signal(child.id(), signal).with_context(|| format!("node {node}"))
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub(super) fn stop(&mut self, node: Node, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        self.signal(node, "TERM")?;
        let child = self.running.get_mut(&node).context("it does not run")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.running.remove(&node);
                ensure!(status.success(), "node {node} ended with {status}");
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                bail!("node {node} still runs {limit:?} after SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nodes that do not run.
    pub(super) fn absent(&self) -> Vec<Node> {
        let all = self.nodes().into_iter();
        all.filter(|node| !self.running.contains_key(node))
            .collect()
    }

    /// Nodes whose process has ended by itself.
    pub(super) fn ended(&mut self) -> Result<Vec<Node>> {
        let mut ended = Vec::new();
        for (node, child) in &mut self.running {
            if child.try_wait()?.is_some() {
                ended.push(*node);
            }
        }
        Ok(ended)
    }

    /// Waits until all that run say that they are ready.
    pub(super) fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let waiting: Vec<Node> = self.running.keys().copied().collect();
            let waiting: Vec<Node> = waiting
                .into_iter()
                .filter(|node| !self.is_ready(*node))
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > limit {
                bail!("nodes {waiting:?} are not ready after {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self, node: Node) -> bool {
        matches!(self.get(node, "/readyz"), Ok((200, _)))
    }

    /// The node whose controller leads, as any node says.
    pub(super) fn controller(&self) -> Option<Node> {
        let told = |node: &Node| {
            let (_, page) = self.get(*node, "/status").ok()?;
            let page: serde_json::Value = serde_json::from_str(&page).ok()?;
            page["cluster"]["controller"].as_i64()
        };
        let leader = self.running.keys().find_map(told)?;
        Node::try_from(leader).ok()
    }

    /// A figure of `/metrics`.
    pub(super) fn metric(&self, node: Node, name: &str) -> Result<f64> {
        let (_, page) = self.get(node, "/metrics")?;
        let mut lines = page.lines().map(|line| line.split_once(' '));
        let found = lines.find_map(|line| line.filter(|(named, _)| *named == name));
        let (_, value) = found.with_context(|| format!("node {node} has no {name}"))?;
        Ok(value.trim().parse()?)
    }

    fn get(&self, node: Node, path: &str) -> Result<(u16, String)> {
        get(self.ports[&node].admin, path)
    }
}

/// Status and body of an admin page.
fn get(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    process::page(admin, path, PAGE_PATIENCE)
}

/// Free ports of loopback: all at once, so that none is given twice.
fn free_ports(nodes: &[Node]) -> Result<BTreeMap<Node, Ports>> {
    let mut held = Vec::new();
    let mut port = || -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        held.push(listener);
        Ok(address)
    };
    let mut ports = BTreeMap::new();
    for node in nodes {
        let (kafka, controller, admin) = (port()?, port()?, port()?);
        let of_node = Ports {
            kafka,
            controller,
            admin,
        };
        ports.insert(*node, of_node);
    }
    Ok(ports)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
