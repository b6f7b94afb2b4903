//! A network of our own: one namespace for each node around a bridge, so that packets between any
//! two can be lost one way. Nothing in it reaches this machine's network, or is reached from it.
//!
//! ```text
//!   hub (clients, store, this program) ── bridge ──┬── node 1
//!                                                  ├── node 2
//!                                                  └── ...
//! ```
//!
//! A cut is a neighbour entry of the sender with a hardware address that nobody has: its packets
//! leave and arrive nowhere, without an error, as behind a broken switch.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::fleet::Node;

/// Says to the program inside the hub that it is there.
const INSIDE: &str = "CHAOS_HUB";
const PREFIX: &str = "hwchaos-";
/// No interface has it: locally administered, of nobody.
const NOWHERE: &str = "02:00:00:00:de:ad";
/// Stands for the store where nodes are named.
pub(super) const STORE: Node = 253;
/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The network, as seen from the hub.
#[derive(Clone, Debug)]
pub(super) struct Net {
    hub: String,
}

/// The namespaces of one run. Dropped, they are gone.
struct Namespaces(String);

// === impl Net ===

impl Net {
    /// The network that this program runs in, if it does.
    pub(super) fn inside() -> Option<Self> {
        let hub = std::env::var(INSIDE).ok()?;
        Some(Self { hub })
    }

    /// Where the store listens: in the hub, at an address of its own.
    pub(super) fn store(&self) -> IpAddr {
        address(STORE)
    }

    /// Adds the namespaces of nodes.
    pub(super) fn add(&self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            let (space, port) = (self.space(*node), format!("v{node}"));
            // From within the hub, so that nothing is ever seen in the machine's own namespace.
            ip(&["netns", "add", &space])?;
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &space];
            ip(&[&["link", "add", &port][..], &pair].concat())?;
            ip(&["link", "set", &port, "master", "br0", "up"])?;
            let own = format!("{}/24", address(*node));
            ip(&["-n", &space, "addr", "add", &own, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn space(&self, node: Node) -> String {
        format!("{}-{node}", self.hub)
    }

    /// Where `node` listens.
    pub(super) fn address(&self, node: Node) -> IpAddr {
        address(node)
    }

    /// A command that runs in the namespace of `node`, in a process that takes its place.
    pub(super) fn command(&self, node: Node, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(node)]);
        command.arg(program);
        command
    }

    /// From now on what `from` sends to `to` is lost.
    pub(super) fn cut(&self, from: Node, to: Node) -> Result<()> {
        let to = address(to).to_string();
        let lost = ["neigh", "replace", &to, "lladdr", NOWHERE];
        let lost = [&lost[..], &["nud", "permanent", "dev", "eth0"]].concat();
        ip(&[&["-n", &self.space(from)][..], &lost].concat())
    }

    /// What `from` sends to `to` arrives again.
    pub(super) fn mend(&self, from: Node, to: Node) -> Result<()> {
        let to = address(to).to_string();
        let space = self.space(from);
        ip(&["-n", &space, "neigh", "del", &to, "dev", "eth0"])
    }
}

// === impl Namespaces ===

impl Namespaces {
    fn new() -> Result<Self> {
        let hub = format!("{PREFIX}{}", std::process::id());
        ip(&["netns", "add", &hub])?;
        let made = Self(hub.clone());
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        for address in [address(0), address(STORE)] {
            let own = format!("{address}/24");
            ip(&["-n", &hub, "addr", "add", &own, "dev", "br0"])?;
        }
        ip(&["-n", &hub, "link", "set", "br0", "up"])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        // One pair, to know that the rest will be possible: a node that nobody asked for.
        let probe = Net { hub: hub.clone() };
        let space = probe.space(250);
        ip(&["netns", "add", &space])?;
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", &space];
        ip(&[&["-n", &hub, "link", "add", "v250"][..], &pair].concat())?;
        ip(&["netns", "del", &space])?;
        Ok(made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Deletes the namespace `hub` and those of its nodes.
fn remove(hub: &str) {
    let nodes = format!("{hub}-");
    for name in listed().unwrap_or_default() {
        if (name == hub || name.starts_with(&nodes))
            && let Err(error) = ip(&["netns", "del", &name])
        {
            eprintln!("the namespace {name} stays: {error:#}");
        }
    }
}

fn listed() -> Result<Vec<String>> {
    let output = Command::new("ip").args(["netns", "list"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// What runs that were killed have left.
fn remove_stale() -> Result<()> {
    for name in listed()? {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{owner}")).exists() {
            remove(&format!("{PREFIX}{owner}"));
        }
    }
    Ok(())
}

/// Runs this program again inside a network of its own, and gives what it came to; None when it is
/// inside already.
///
/// # Errors
/// Why this machine lets us make no network: not Linux's way, no right to, no `ip`.
pub fn enter() -> Result<Option<bool>> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(None);
    }
    remove_stale()?;
    let spaces = Namespaces::new()?;
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &spaces.0])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, &spaces.0)
        // A group of its own: this process is the one that is interrupted, and cleans up after it.
        .process_group(0);
    let child = command.spawn().context("cannot run inside the network")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ended(child)).map(Some)
}

/// Waits for its end; when we are told to end, everything inside does first.
async fn ended(mut child: Child) -> Result<bool> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let told = async {
        tokio::select! {
            biased;
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    tokio::pin!(told);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if timeout(LOOK, &mut told).await.is_ok() {
            let group = format!("-{}", child.id());
            Command::new("kill")
                .args(["-KILL", "--", &group])
                .status()?;
            child.wait()?;
            return Ok(false);
        }
    }
}

/// Of a node, the store, or (0) the rest of the hub.
fn address(node: Node) -> IpAddr {
    let last = u8::try_from(node + 1).expect("few nodes");
    IpAddr::V4(Ipv4Addr::new(10, 213, 77, last))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("there is no `ip`")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), errors.trim());
    }
    Ok(())
}
