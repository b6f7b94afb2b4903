//! Evidence of death: an idle connection to each process whose end is to be known at once.
//!
//! ```text
//!   connect ─▶ established ─▶ breaks ─▶ connect: refused, and again refused ─▶ evidence, while it is
//!                   ▲                       └── taken: a new tether
//!   of a broker, with the leader of the controllers ─▶ FenceBroker       (brokers)
//!   of the leader's process, with every other voter ─▶ ask for its votes  (leader)
//! ```
//!
//! **Invariants:** only a host that answers and refuses is evidence, and only where a connection had
//! stood before: time-outs, silence and whatever else say nothing. Wrong evidence does no harm: who
//! is wrongly fenced is stopped by the seal of its log, and who is wrongly voted against loses
//! nothing but its turn.

pub(crate) mod brokers;
pub(crate) mod leader;

use std::io::ErrorKind as Io;
use std::sync::Arc;
use std::time::Duration;

use env::{BoxStream, Network};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{
    TETHER_AGE, TETHER_BRIEF, TETHER_BRIEF_PAUSE, TETHER_CONNECT, TETHER_PAUSE, TETHER_REFUSAL,
    TETHER_REFUSAL_MOST, UNCLEAR_AGAIN,
};
use crate::rpc::tls::Tls;

/// What a connect came to.
enum Reached {
    Stands(BoxStream),
    /// The host answers, and nobody listens.
    Refused,
    Unclear,
}

/// What is done about evidence.
trait Judge: Send + Sync {
    /// Told at every refusal, from the second in a row on. `anew`: the first time since a connection
    /// stood.
    fn refused(&self, anew: bool) -> impl Future<Output = ()> + Send;

    /// Returns after `pause`, or sooner when [`refused`](Self::refused) would do more than it did.
    fn wait(&self, pause: Duration) -> impl Future<Output = ()> + Send;
}

/// The tether of one process.
struct Tether<J> {
    net: Arc<dyn Network>,
    host: String,
    port: u16,
    /// Where the listener is one of TLS.
    tls: Option<Tls>,
    judge: J,
}

// === impl Tether ===

impl<J: Judge> Tether<J> {
    async fn hold(self) {
        loop {
            let mut next = self.reach().await;
            let mut pause = TETHER_REFUSAL;
            while let Reached::Stands(stream) = next {
                let stood = Instant::now();
                next = match self.watch(stream).await {
                    Some(anew) => Reached::Stands(anew),
                    None => {
                        pause = match stood.elapsed() < TETHER_BRIEF {
                            true => (pause * 2).min(TETHER_BRIEF_PAUSE),
                            false => TETHER_REFUSAL,
                        };
                        self.look(pause).await
                    }
                };
            }
            sleep(TETHER_PAUSE).await;
        }
    }

    /// Until it breaks, or stands anew: a network may forget an idle connection and tell nobody.
    async fn watch(&self, mut stream: BoxStream) -> Option<BoxStream> {
        while timeout(TETHER_AGE, broken(&mut stream)).await.is_err() {
            match self.reach().await {
                // The old one is let go only now.
                Reached::Stands(stream) => return Some(stream),
                Reached::Refused => break,
                Reached::Unclear => {}
            }
        }
        None
    }

    /// A tether broke. For as long as the host refuses, there is evidence; ends with a new tether,
    /// used no sooner than after a pause `at_least` as long, or with nothing that says anything.
    async fn look(&self, at_least: Duration) -> Reached {
        let mut pause = TETHER_REFUSAL;
        let mut refused = 0;
        let mut unclear = 0;
        let mut anew = true;
        loop {
            match self.reach().await {
                Reached::Refused => refused += 1,
                // Cut off in the middle of a handshake, perhaps by the very death.
                Reached::Unclear if unclear < UNCLEAR_AGAIN => {
                    unclear += 1;
                    refused = 0;
                    sleep(TETHER_REFUSAL).await;
                    continue;
                }
                Reached::Stands(stream) => {
                    // One that breaks as soon as it stands shall not keep us busy: a TLS side tells
                    // that it refuses our certificate only when our handshake is done.
                    sleep(pause.max(at_least)).await;
                    return Reached::Stands(stream);
                }
                Reached::Unclear => return Reached::Unclear,
            }
            if refused > 1 {
                self.judge.refused(anew).await;
                anew = false;
                pause = (pause * 2).min(TETHER_REFUSAL_MOST);
            }
            self.judge.wait(pause).await;
        }
    }

    async fn reach(&self) -> Reached {
        let reaching = async {
            let Ok(addresses) = self.net.resolve(&self.host, self.port).await else {
                return Reached::Unclear;
            };
            let mut reached = Reached::Unclear;
            for address in addresses {
                match self.net.connect(address).await {
                    Ok(stream) => return self.secured(stream).await,
                    Err(error) if error.kind() == Io::ConnectionRefused => {
                        reached = Reached::Refused;
                    }
                    Err(_) => return Reached::Unclear,
                }
            }
            reached
        };
        let reached = timeout(TETHER_CONNECT, reaching).await;
        reached.unwrap_or(Reached::Unclear)
    }

    /// A TLS side does not keep those that say nothing. One that refuses a certificate lives.
    async fn secured(&self, stream: BoxStream) -> Reached {
        match &self.tls {
            None => Reached::Stands(stream),
            Some(tls) => match tls.connect(stream, &self.host).await {
                Ok(stream) => Reached::Stands(stream),
                Err(_) => Reached::Unclear,
            },
        }
    }
}

/// Waits until the other side closes or resets. What it says is not listened to: HTTP/2 servers
/// send their settings to whoever connects.
async fn broken(stream: &mut BoxStream) {
    let mut bytes = [0; 256];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use env::sim::{NetworkFaults, SimHost, SimNetwork};

    use super::*;

    struct Nobody;

    impl Judge for Nobody {
        async fn refused(&self, _: bool) {
            panic!("the host took every connection");
        }

        async fn wait(&self, pause: Duration) {
            sleep(pause).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_connections_and_ends_them_is_asked_ever_less_often() {
        let network = SimNetwork::new(7, NetworkFaults::QUIET);
        let ip = |host| IpAddr::from([10, 0, 0, host]);
        let hosts = [1, 2].map(|n| SimHost::new(u64::from(n), &network, &format!("n{n}"), ip(n)));
        let [near, far] = hosts.each_ref().map(SimHost::env);
        let listener = far.net.bind(SocketAddr::new(ip(2), 9093)).await.unwrap();
        let taking = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let tether = Tether {
            net: near.net.clone(),
            host: "10.0.0.2".to_owned(),
            port: 9093,
            tls: None,
            judge: Nobody,
        };
        let held = tokio::spawn(tether.hold());
        sleep(Duration::from_secs(120)).await;
        assert!(!held.is_finished());
        let made = network.connections_made();
        // A few while pauses double, then one in ten seconds.
        assert!((10..=22).contains(&made), "{made} connections");
        held.abort();
        taking.abort();
    }
}
