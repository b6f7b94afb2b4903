//! Connections of other nodes, with their handshakes behind them.
//!
//! **Invariant:** a handshake holds up no other one: there is room for so many, and beyond them the
//! oldest of the source that has most is given up. So whoever opens connections and says nothing,
//! however fast, keeps out itself and nobody else. Where many sources have equally many, age alone
//! tells: no address is better off than another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use env::{BoxStream, Listener};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::tls::{Link, Side, Tls, Why};
use crate::limits::{MAX_TLS_HANDSHAKES, RPC_ACCEPT_PAUSE};

/// A listener whose connections are ready for calls.
pub(super) struct Incoming {
    listener: Box<dyn Listener>,
    tls: Option<Tls>,
    pub(super) why: Why,
    shaking: JoinSet<Option<Link>>,
    handshakes: Handshakes,
}

/// Those under way.
#[derive(Default)]
struct Handshakes {
    /// Of each source the oldest first.
    sources: BTreeMap<IpAddr, VecDeque<Handshake>>,
    /// How many there ever were.
    added: u64,
}

struct Handshake {
    /// How many came before.
    number: u64,
    task: AbortHandle,
}

// === impl Handshakes ===

impl Handshakes {
    /// Makes room for another one.
    fn make_room(&mut self, most: usize) {
        if self.count() < most {
            return;
        }
        self.sources.retain(|_, oldest_first| {
            oldest_first.retain(|handshake| !handshake.task.is_finished());
            !oldest_first.is_empty()
        });
        while self.count() >= most {
            let largest = self.sources.values_mut().max_by_key(|oldest_first| {
                let oldest = oldest_first.front().map(|handshake| handshake.number);
                (oldest_first.len(), Reverse(oldest))
            });
            let Some(oldest) = largest.and_then(VecDeque::pop_front) else {
                return;
            };
            oldest.task.abort();
        }
    }

    fn add(&mut self, source: IpAddr, task: AbortHandle) {
        let number = self.added;
        self.added += 1;
        let handshakes = self.sources.entry(source).or_default();
        handshakes.push_back(Handshake { number, task });
    }

    fn count(&self) -> usize {
        self.sources.values().map(VecDeque::len).sum()
    }
}

/// Who may be one and the same: an address, or a network of IPv6, of which a host has all.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

// === impl Incoming ===

impl Incoming {
    pub(super) fn new(listener: Box<dyn Listener>, tls: Option<Tls>) -> Self {
        Self {
            listener,
            tls,
            why: Why::default(),
            shaking: JoinSet::new(),
            handshakes: Handshakes::default(),
        }
    }

    /// The next connection.
    pub(super) async fn next(&mut self) -> Link {
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                Some(shaken) = self.shaking.join_next() => match shaken {
                    Ok(Some(link)) => return link,
                    // Refused, and told.
                    Ok(None) => continue,
                    Err(error) => {
                        if error.is_panic() {
                            tracing::error!(%error, "a TLS handshake panicked");
                        }
                        continue;
                    }
                },
                accepted = accept(&*self.listener) => accepted,
            };
            let name = peer.to_string();
            let Some(tls) = self.tls.clone() else {
                return Link::new(stream, None, Side::Callee, name, self.why.clone());
            };
            self.handshakes.make_room(MAX_TLS_HANDSHAKES);
            let why = self.why.clone();
            let shaking = async move {
                match tls.accept(stream).await {
                    Ok(stream) => Some(Link::new(stream, Some(tls), Side::Callee, name, why)),
                    Err(error) => {
                        why.set(Side::Callee, &name, &error.to_string());
                        None
                    }
                }
            };
            let handle = self.shaking.spawn(shaking);
            self.handshakes.add(source(peer.ip()), handle);
        }
    }
}

async fn accept(listener: &dyn Listener) -> (BoxStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a node's connection");
                sleep(RPC_ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn addresses_of_one_host_are_one_source() {
        let of = |ip: &str| source(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1:2"), of("2001:db8::7"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }

    #[tokio::test]
    async fn room_is_made_by_who_has_most_of_it_and_longest_first() {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut handshakes = Handshakes::default();
        let [one, two] = [1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        let honest = tasks.spawn(pending());
        handshakes.add(two, honest.clone());
        let mut of_one = Vec::new();
        for _ in 0..20 {
            handshakes.make_room(8);
            let handle = tasks.spawn(pending());
            of_one.push(handle.clone());
            handshakes.add(one, handle);
            assert!(handshakes.count() <= 8);
        }
        while tasks.len() > 8 {
            assert!(tasks.join_next().await.unwrap().is_err(), "it was given up");
        }
        assert!(!honest.is_finished(), "it has one, the other has many");
        let given_up = of_one.iter().filter(|handle| handle.is_finished()).count();
        assert_eq!(given_up, 13);
        assert!(
            of_one[..13].iter().all(AbortHandle::is_finished),
            "the oldest"
        );
        // Those that have ended take no room.
        tasks.shutdown().await;
        handshakes.make_room(8);
        assert_eq!(handshakes.count(), 0);
    }

    #[tokio::test]
    async fn among_sources_with_equally_many_age_tells_and_no_address() {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut handshakes = Handshakes::default();
        let of = |n: u32| IpAddr::from(n.to_be_bytes());
        let most = u32::try_from(MAX_TLS_HANDSHAKES).unwrap();
        let mut add = |handshakes: &mut Handshakes, source| {
            handshakes.make_room(MAX_TLS_HANDSHAKES);
            let task = tasks.spawn(pending());
            handshakes.add(source, task);
            assert!(handshakes.count() <= MAX_TLS_HANDSHAKES);
        };
        let standing = |handshakes: &Handshakes, source| handshakes.sources[&source].len() == 1;
        for n in 0..most {
            add(&mut handshakes, of((1 << 24) | n));
        }
        // The highest address, the lowest, and one in between.
        let honest = [of(u32::MAX), of(1), of((1 << 24) | (512 << 8))];
        for source in honest {
            add(&mut handshakes, source);
        }
        // For as long as older ones stand, and no longer.
        for n in 0..most - 3 {
            add(&mut handshakes, of((2 << 24) | n));
            for source in honest {
                assert!(standing(&handshakes, source), "{source} after {n}");
            }
        }
        for (n, source) in (0..).zip(honest) {
            add(&mut handshakes, of((3 << 24) | n));
            let left = handshakes.sources.get(&source);
            assert!(left.is_none_or(VecDeque::is_empty), "{source}");
        }
    }
}
