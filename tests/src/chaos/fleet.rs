//! The processes of one cluster: each with ports of its own that it keeps over restarts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::binary;

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
    running: BTreeMap<Node, Child>,
}

// === impl Fleet ===

impl Fleet {
    /// Chooses ports; starts nothing.
    pub(super) fn new(dir: &Path, plan: Plan) -> Result<Self> {
        let nodes = 1..=plan.combined + plan.brokers;
        // All at once, so that no port is given twice.
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
            ports.insert(node, of_node);
        }
        Ok(Self {
            dir: dir.to_owned(),
            plan,
            ports,
            running: BTreeMap::new(),
        })
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
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(node))?;
        let mut command = Command::new(binary()?);
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.dir.join(format!("node-{node}")));
        for (name, value) in self.settings(node) {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start headwater")?;
        self.running.insert(node, child);
        Ok(())
    }

    fn settings(&self, node: Node) -> Vec<(String, String)> {
        let ports = &self.ports[&node];
        let voters = self.ports.iter().take(self.plan.combined as usize);
        let voters: Vec<String> = voters
            .map(|(node, ports)| format!("{node}@{}", ports.controller))
            .collect();
        let kafka = format!("PLAINTEXT://{}", ports.kafka);
        let (roles, listeners) = if node <= self.plan.combined {
            let both = format!("{kafka},CONTROLLER://{}", ports.controller);
            ("broker,controller", both)
        } else {
            ("broker", kafka)
        };
        let own = [
            ("node.id", node.to_string()),
            ("process.roles", roles.to_owned()),
            ("listeners", listeners),
            ("admin.listen", ports.admin.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            ("object.store.url", self.plan.store_url.clone()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        own.into_iter().chain(self.plan.settings.clone()).collect()
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
        let status = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status()?;
        ensure!(
            status.success(),
            "kill -s {signal} of node {node}: {status}"
        );
        Ok(())
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

    /// Status and body of an admin page.
    fn get(&self, node: Node, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.ports[&node].admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: headwater\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
