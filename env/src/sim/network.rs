//! A network of simulated hosts over in-memory pipes.
//!
//! ```text
//!   HostNetwork a ─connect─▶ pipe ─▶ carrier (latency, partition, reset) ─▶ pipe ─▶ HostNetwork b
//! ```
//!
//! Bytes are never lost or reordered within a connection, as in TCP: a partition holds them until
//! it heals, a reset ends the connection for both sides.

mod pipe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

use super::SimEntropy;
use crate::{BoxStream, Listener, Network};
use pipe::Connection;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 128;
/// First port given for port 0.
const FIRST_PORT: u16 = 32_768;

/// How the network behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFaults {
    /// Least time of one way.
    pub least: Duration,
    /// Most time of one way.
    pub most: Duration,
    /// How long a connect to a host that does not answer takes to fail.
    pub connect_timeout: Duration,
}

impl NetworkFaults {
    /// A quiet local network: 50 to 200 µs a way.
    pub const QUIET: Self = Self {
        least: Duration::from_micros(50),
        most: Duration::from_micros(200),
        connect_timeout: Duration::from_secs(3),
    };
}

/// All hosts. Clones are the same network.
#[derive(Clone)]
pub struct SimNetwork(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told at every change of who reaches whom.
    changed: Notify,
}

struct State {
    entropy: SimEntropy,
    faults: NetworkFaults,
    names: BTreeMap<String, IpAddr>,
    listeners: BTreeMap<SocketAddr, mpsc::Sender<(BoxStream, SocketAddr)>>,
    next_port: u16,
    /// Processes that died on each host: what an earlier one still holds is dead.
    deaths: BTreeMap<IpAddr, u64>,
    /// One way: what `from` sends does not reach `to`.
    cut: BTreeSet<(IpAddr, IpAddr)>,
    /// Nothing comes to them or from them.
    held: BTreeSet<IpAddr>,
    /// One way: when `from` connects to `to`, it is refused.
    refused: BTreeSet<(IpAddr, IpAddr)>,
    connections: Vec<Arc<Connection>>,
    /// Connections made, ever.
    made: u64,
}

// === impl SimNetwork ===

impl SimNetwork {
    /// A network without hosts whose latencies come from `seed`.
    pub fn new(seed: u64, faults: NetworkFaults) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                entropy: SimEntropy::new(seed),
                faults,
                names: BTreeMap::new(),
                listeners: BTreeMap::new(),
                next_port: FIRST_PORT,
                deaths: BTreeMap::new(),
                cut: BTreeSet::new(),
                held: BTreeSet::new(),
                refused: BTreeSet::new(),
                connections: Vec::new(),
                made: 0,
            }),
            changed: Notify::new(),
        }))
    }

    /// The network as the host `address`, also called `name`, sees it.
    pub fn host(&self, name: &str, address: IpAddr) -> Arc<HostNetwork> {
        let mut state = self.state();
        state.names.insert(name.to_owned(), address);
        let born = state.deaths.get(&address).copied();
        drop(state);
        Arc::new(HostNetwork {
            network: self.clone(),
            address,
            born,
        })
    }

    /// Latencies from now on.
    pub fn set_faults(&self, faults: NetworkFaults) {
        self.state().faults = faults;
    }

    /// What `from` sends no longer reaches `to`.
    pub fn cut_one_way(&self, from: IpAddr, to: IpAddr) {
        self.state().cut.insert((from, to));
    }

    /// Neither side reaches the other.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// What `from` sends reaches `to` again; bytes that were held go on.
    pub fn heal_one_way(&self, from: IpAddr, to: IpAddr) {
        self.state().cut.remove(&(from, to));
        self.0.changed.notify_waiters();
    }

    /// Both sides reach each other again; bytes that were held go on.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        let mut state = self.state();
        state.cut.remove(&(a, b));
        state.cut.remove(&(b, a));
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Connects of `from` to `to` are refused, as by a host on which nothing listens, whether they
    /// reach each other or not.
    pub fn refuse(&self, from: IpAddr, to: IpAddr) {
        self.state().refused.insert((from, to));
    }

    /// They are not refused any more.
    pub fn admit(&self, from: IpAddr, to: IpAddr) {
        self.state().refused.remove(&(from, to));
    }

    /// Everybody reaches everybody again.
    pub fn heal_all(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.refused.clear();
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Nothing comes to the host or from it until [`SimNetwork::release_host`], then all of it.
    pub fn hold_host(&self, host: IpAddr) {
        self.state().held.insert(host);
    }

    /// What was held goes on.
    pub fn release_host(&self, host: IpAddr) {
        self.state().held.remove(&host);
        self.0.changed.notify_waiters();
    }

    /// How many connections were made so far, between all hosts.
    pub fn connections_made(&self) -> u64 {
        self.state().made
    }

    /// Resets all connections between two hosts; gives how many.
    pub fn reset(&self, a: IpAddr, b: IpAddr) -> usize {
        self.reset_where(|one, other| (one, other) == (a, b) || (one, other) == (b, a))
    }

    /// The host's process dies: its listeners close, its connections are reset, and what is left of
    /// it binds and connects no more.
    pub fn kill_host(&self, host: IpAddr) -> usize {
        let mut state = self.state();
        *state.deaths.entry(host).or_default() += 1;
        state.listeners.retain(|address, _| address.ip() != host);
        drop(state);
        self.reset_where(|one, other| one == host || other == host)
    }

    fn reset_where(&self, chosen: impl Fn(IpAddr, IpAddr) -> bool) -> usize {
        let connections = std::mem::take(&mut self.state().connections);
        let (gone, kept): (Vec<_>, Vec<_>) = connections
            .into_iter()
            .partition(|c| chosen(c.from.ip(), c.to.ip()));
        self.state().connections.extend(kept);
        for connection in &gone {
            connection.reset();
        }
        gone.iter()
            .filter(|connection| connection.is_open())
            .count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic under this lock")
    }

    fn latency(&self) -> Duration {
        let state = self.state();
        let span = state.faults.most.saturating_sub(state.faults.least);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        state.faults.least + Duration::from_nanos(state.entropy.below(nanos.saturating_add(1)))
    }

    fn reaches(&self, from: IpAddr, to: IpAddr) -> bool {
        let state = self.state();
        let held = state.held.contains(&from) || state.held.contains(&to);
        !held && !state.cut.contains(&(from, to))
    }

    /// Waits until what `from` sends reaches `to`.
    async fn wait_reaches(&self, from: IpAddr, to: IpAddr) {
        loop {
            let changed = self.0.changed.notified();
            if self.reaches(from, to) {
                return;
            }
            changed.await;
        }
    }
}

/// One process's view of a [`SimNetwork`].
pub struct HostNetwork {
    network: SimNetwork,
    address: IpAddr,
    /// Deaths on this host before it.
    born: Option<u64>,
}

impl HostNetwork {
    /// The host's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Fails when the process has died.
    fn check_alive(&self, state: &State) -> io::Result<()> {
        match state.deaths.get(&self.address).copied() == self.born {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::NetworkDown,
                "the process has died",
            )),
        }
    }

    fn free_port(state: &mut State, ip: IpAddr) -> u16 {
        loop {
            let port = state.next_port;
            state.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !state.listeners.contains_key(&SocketAddr::new(ip, port)) {
                return port;
            }
        }
    }
}

#[async_trait]
impl Network for HostNetwork {
    async fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut state = self.network.state();
        self.check_alive(&state)?;
        let ip = if address.ip().is_unspecified() || address.ip().is_loopback() {
            self.address
        } else {
            address.ip()
        };
        if ip != self.address {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match address.port() {
            0 => Self::free_port(&mut state, ip),
            port => port,
        };
        let address = SocketAddr::new(ip, port);
        // A listener whose socket is dropped has a closed channel.
        if state
            .listeners
            .get(&address)
            .is_some_and(|listener| !listener.is_closed())
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        state.listeners.insert(address, sender);
        Ok(Box::new(SimListener {
            address,
            accepted: tokio::sync::Mutex::new(receiver),
        }))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<BoxStream> {
        let ip = if address.ip().is_loopback() {
            self.address
        } else {
            address.ip()
        };
        let to = SocketAddr::new(ip, address.port());
        let (out, back) = (self.network.latency(), self.network.latency());
        if self.network.state().refused.contains(&(self.address, ip)) {
            tokio::time::sleep(out + back).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if !self.network.reaches(self.address, ip) || !self.network.reaches(ip, self.address) {
            let timeout = self.network.state().faults.connect_timeout;
            tokio::time::sleep(timeout).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        tokio::time::sleep(out + back).await;
        let (listener, from) = {
            let mut state = self.network.state();
            self.check_alive(&state)?;
            let listener = state.listeners.get(&to).cloned();
            (
                listener,
                SocketAddr::new(self.address, Self::free_port(&mut state, self.address)),
            )
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = listener.ok_or_else(refused)?;
        let (near, far, connection) = pipe::connect(self.network.clone(), from, to);
        listener
            .try_send((Box::new(far), from))
            .map_err(|_| refused())?;
        let mut state = self.network.state();
        state.connections.retain(|connection| connection.is_open());
        state.connections.push(connection);
        state.made += 1;
        Ok(Box::new(near))
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if host == "localhost" {
            return Ok(vec![SocketAddr::new(self.address, port)]);
        }
        match self.network.state().names.get(host) {
            Some(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no host {host}"),
            )),
        }
    }
}

struct SimListener {
    address: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<(BoxStream, SocketAddr)>>,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(BoxStream, SocketAddr)> {
        let accepted = self.accepted.lock().await.recv().await;
        // The host was killed: its listeners are gone with it.
        accepted.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
