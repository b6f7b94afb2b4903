//! How brokers speak to the controller: through the voter of the same process, which does what is
//! asked when it leads, and else asks the one that does.

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use parking_lot::Mutex;
use protocol::{BrokerEpoch, NodeId, TopicPartition};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::command::{Command, HighWatermark, Proposal, RegisterBroker, Response, decode_answer};
use crate::error::{Error, ErrorKind, Refusal};
use crate::image::Image;
use crate::lease::{Lease, Marks, Sessions};
use crate::limits::{
    MAX_COMMAND_BYTES, MAX_COMMANDS_IN_FLIGHT, MAX_KEYS_PER_QUERY, MAX_MARKS_PER_COMMAND,
    RPC_TIMEOUT, SUBMIT_RETRY, SUBMIT_TIMEOUT,
};
use crate::raft::{NotDone, Raft, Shared};
use crate::rpc::{Channels, Target, method, wire};
use crate::state::{Condemned, PartitionState, State};
use crate::types::CommandId;

/// Asks and commands the controller. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) lease: Duration,
    /// The voter of this process.
    pub(crate) voter: Target,
    pub(crate) channels: Channels,
    in_flight: Semaphore,
}

/// Renews a lease in the background until dropped, or until the epoch is fenced.
pub struct LeaseKeeper {
    lease: Lease,
    task: JoinHandle<()>,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(
        env: Env,
        raft: Raft,
        shared: Arc<Shared>,
        lease: Duration,
        voter: Target,
        channels: Channels,
    ) -> Self {
        let sessions = Mutex::new(Sessions::new(lease));
        let in_flight = Semaphore::new(MAX_COMMANDS_IN_FLIGHT);
        Self {
            inner: Arc::new(Inner {
                env,
                raft,
                shared,
                sessions,
                lease,
                voter,
                channels,
                in_flight,
            }),
        }
    }

    /// A fresh command id, for [`submit_as`](Self::submit_as).
    pub fn command_id(&self) -> CommandId {
        CommandId(self.inner.env.entropy.uuid())
    }

    /// Has `command` done. An outcome that stays unknown is asked for again under the same id, for
    /// up to 30 s. When it returns, the local image holds the change.
    ///
    /// # Errors
    /// What the state machine refused; `Unavailable` when no answer came: the command may still
    /// be done.
    pub async fn submit(&self, command: Command) -> Result<Response, Error> {
        self.submit_as(self.command_id(), command).await
    }

    /// [`submit`](Self::submit) with an id of the caller's, who can so repeat the command later and
    /// have it done once only.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_as(&self, id: CommandId, command: Command) -> Result<Response, Error> {
        self.propose(id, command, false).await
    }

    /// Registers a broker. `death_proven`: the caller holds the lock of the directory that it names,
    /// so that no earlier process that registered from there lives, and its lease need not be waited
    /// for.
    ///
    /// # Errors
    /// `NodeInUse` (retry) while another process of the node may hold a lease.
    pub async fn register(
        &self,
        register: RegisterBroker,
        death_proven: bool,
    ) -> Result<BrokerEpoch, Error> {
        let command = Command::RegisterBroker(register);
        let answer = self
            .propose(self.command_id(), command, death_proven)
            .await?;
        let Response::Registered { broker } = answer else {
            return Err(Error::corrupt(
                "answer",
                format!("{answer:?} to a registration"),
            ));
        };
        Ok(broker)
    }

    async fn propose(
        &self,
        id: CommandId,
        command: Command,
        death_proven: bool,
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let permit = timeout_at(deadline, self.inner.in_flight.acquire()).await;
        let _permit = permit
            .map_err(|_| unavailable("too many commands wait"))?
            .expect("the semaphore is never closed");
        let mut proposal = Proposal {
            id,
            now_ms: 0,
            command,
        };
        let answered = self.ask(deadline, || {
            proposal.now_ms = self.inner.env.clock.wall_ms();
            let bytes = proposal.encode();
            if bytes.len() > MAX_COMMAND_BYTES {
                return Err(Error::TooLarge {
                    bytes: bytes.len(),
                    limit: MAX_COMMAND_BYTES,
                });
            }
            Ok(wire::Ask {
                submit: Some(wire::Submit {
                    proposal: bytes.into(),
                    death_proven,
                }),
                ..Default::default()
            })
        });
        let answer = decode_answer(&answered.await?.answer);
        Ok(answer.map_err(|e| Error::corrupt("answer", e.0))??)
    }

    /// Has the leader, whoever it is, do what `ask` makes, again and again until `deadline`; then
    /// waits until the state here holds it.
    async fn ask(
        &self,
        deadline: Instant,
        mut ask: impl FnMut() -> Result<wire::Ask, Error>,
    ) -> Result<wire::Outcome, Error> {
        loop {
            let ask = ask()?;
            let asked = timeout_at(deadline, self.ask_once(ask)).await;
            let failed = match asked {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(failed)) => failed,
                Err(_) => return Err(unavailable("no answer in time")),
            };
            if failed.kind() != ErrorKind::Retry || Instant::now() + SUBMIT_RETRY >= deadline {
                return Err(failed);
            }
            sleep(SUBMIT_RETRY).await;
        }
    }

    async fn ask_once(&self, ask: wire::Ask) -> Result<wire::Outcome, Error> {
        // Boxed: the type of all that a leader may do is too deep for the compiler in one piece.
        let leader = match Box::pin(self.inner.answer(&ask)).await {
            Ok(outcome) => return Ok(outcome),
            Err(NotDone::Failed(error)) => return Err(error),
            Err(NotDone::Elsewhere(leader)) => leader,
        };
        let removes_itself = ask
            .change_voter
            .as_ref()
            .is_some_and(|change| change.address.is_none() && change.node == self.inner.voter.node);
        let asked = self
            .inner
            .channels
            .ask(&leader, method::ASK, ask, RPC_TIMEOUT);
        let outcome: wire::Outcome = asked.await.map_err(|status| match status.code() {
            tonic::Code::InvalidArgument => Error::Settings {
                reason: status.message().to_owned(),
            },
            _ => unavailable(status.message()),
        })?;
        // One that is no member any more is not told of it.
        if !removes_itself {
            self.wait_for(outcome.index).await?;
        }
        Ok(outcome)
    }

    /// The image, swapped whole.
    pub fn image(&self) -> watch::Receiver<Arc<Image>> {
        self.inner.shared.image()
    }

    /// Waits until the image holds the log entry at `applied`.
    ///
    /// # Errors
    /// `Stopped` when the controller is gone.
    pub async fn wait_for(&self, applied: u64) -> Result<Arc<Image>, Error> {
        let mut image = self.image();
        let found = image.wait_for(|image| image.applied >= applied).await;
        let stopped = |_| Error::Stopped {
            reason: "the image is no longer swapped".to_owned(),
        };
        Ok(found.map_err(stopped)?.clone())
    }

    /// Everything about one partition, slices included; linearizable. `None` when it is not there.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionState>, Error> {
        self.read(|state| state.partition_state(tp)).await
    }

    /// Bytes of a partition's slices, from the local state.
    pub fn partition_bytes(&self, tp: TopicPartition) -> Option<u64> {
        self.inner.shared.read(|state| state.partition_bytes(tp))
    }

    /// Objects condemned before `before_ms`, at most `limit`, oldest first; linearizable.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn condemned(&self, before_ms: i64, limit: usize) -> Result<Vec<Condemned>, Error> {
        self.read(|state| state.condemned_before(before_ms, limit))
            .await
    }

    /// Of `keys`, those that nothing names and nothing can ever name; linearizable. More than
    /// 10,000 are asked for in several queries: what can never be named stays so between them.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn orphans(&self, mut keys: Vec<String>) -> Result<Vec<String>, Error> {
        let mut orphans = Vec::new();
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(MAX_KEYS_PER_QUERY));
            let asked = std::mem::replace(&mut keys, rest);
            orphans.extend(self.read(|state| state.orphans(asked)).await?);
        }
        Ok(orphans)
    }

    /// Whether `command` would be done, without doing it (Kafka's `validate_only`). Looks at
    /// topics, partitions and configurations; of other commands it knows nothing and says yes.
    ///
    /// # Errors
    /// The refusal.
    pub async fn check(&self, command: &Command) -> Result<(), Error> {
        Ok(self.read(|state| state.check(command)).await??)
    }

    pub(crate) async fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, Error> {
        self.confirm_leader().await?;
        Ok(self.inner.shared.read(read))
    }

    /// Returns once a quorum has confirmed the leader after the call, and the local state holds
    /// all that was committed before it.
    pub(crate) async fn confirm_leader(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let asked = self.ask(deadline, || {
            Ok(wire::Ask {
                read_index: Some(wire::Nothing {}),
                ..Default::default()
            })
        });
        asked.await.map(drop)
    }

    /// Adds the voter that answers at `address`, or tells the others where it is now. Returns when
    /// it has caught up and counts.
    ///
    /// # Errors
    /// `Settings` when it stands with another directory (remove it first), or when nine stand;
    /// `Unavailable`, `Stopped`.
    pub async fn add_voter(&self, address: &str) -> Result<NodeId, Error> {
        let at = Target {
            node: 0,
            address: address.to_owned(),
            directory: uuid::Uuid::nil(),
        };
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let found: wire::Identity = loop {
            let (channels, question) = (&self.inner.channels, wire::Nothing {});
            let asked = channels.ask(&at, method::IDENTIFY, question, RPC_TIMEOUT);
            match asked.await {
                Ok(found) => break found,
                Err(_) if Instant::now() + SUBMIT_RETRY < deadline => sleep(SUBMIT_RETRY).await,
                Err(e) => return Err(unavailable(&format!("{address}: {}", e.message()))),
            }
        };
        let change = wire::ChangeVoter {
            node: found.node,
            address: Some(address.to_owned()),
            directory: found.directory,
        };
        self.change_voter(change).await?;
        i32::try_from(found.node)
            .map(NodeId)
            .map_err(|e| Error::corrupt("identity", format!("node {}: {e}", found.node)))
    }

    /// Takes a voter out.
    ///
    /// # Errors
    /// `Settings` when it is the only one; `Unavailable`, `Stopped`.
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), Error> {
        let node = u64::try_from(node.0).map_err(|_| Error::Settings {
            reason: format!("no voter has the id {node}"),
        })?;
        let change = wire::ChangeVoter {
            node,
            address: None,
            directory: Vec::new(),
        };
        self.change_voter(change).await
    }

    async fn change_voter(&self, change: wire::ChangeVoter) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let asked = self.ask(deadline, || {
            Ok(wire::Ask {
                change_voter: Some(change.clone()),
                ..Default::default()
            })
        });
        asked.await.map(drop)
    }

    /// Renews once, reporting `marks`. The lease counts from before the request is sent.
    ///
    /// # Errors
    /// `StaleBroker` (fenced) for good; anything of kind retry leaves the lease as it was.
    pub async fn renew(&self, lease: &Lease, marks: Vec<HighWatermark>) -> Result<(), Error> {
        let sent = self.inner.env.clock.monotonic();
        let broker = lease.broker();
        for marks in marks.chunks(MAX_MARKS_PER_COMMAND) {
            let marks = marks.to_vec();
            let report = Command::ReportHighWatermarks { broker, marks };
            self.propose(self.command_id(), report, false).await?;
        }
        let asked = self.ask(Instant::now() + SUBMIT_TIMEOUT, || {
            Ok(wire::Ask {
                renew: Some(broker.0),
                ..Default::default()
            })
        });
        if !asked.await?.granted {
            return Err(Refusal::StaleBroker { broker }.into());
        }
        lease.renewed(sent);
        Ok(())
    }

    /// Takes a lease for a registered broker, and keeps it: a renewal every third of it, with the
    /// high watermarks that `marks` gives (those that moved). They count as reported only once the
    /// renewal that carried them is granted.
    ///
    /// # Errors
    /// As [`renew`](Self::renew), for the first renewal.
    pub async fn keep_lease(
        &self,
        broker: BrokerEpoch,
        marks: impl Marks,
    ) -> Result<LeaseKeeper, Error> {
        let lease = Lease::new(broker, self.inner.env.clock.clone(), self.inner.lease);
        self.renew(&lease, Vec::new()).await?;
        let task = tokio::spawn(keep(self.clone(), lease.clone(), marks));
        Ok(LeaseKeeper { lease, task })
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
    }
}

async fn keep(client: Client, lease: Lease, mut marks: impl Marks) {
    let third = lease.duration() / 3;
    let mut due = Instant::now();
    loop {
        // From one sending to the next: after a renewal that came to nothing in its time there is
        // time for another one before the lease lapses.
        due = (due + third).max(Instant::now());
        sleep_until(due).await;
        lease.note();
        // Waiting longer than the lease would only hide that it lapsed.
        let deadline = Instant::now() + third;
        let moved = marks.moved();
        let renewed = timeout_at(deadline, client.renew(&lease, moved.clone())).await;
        match renewed {
            Ok(Ok(())) => marks.reported(&moved),
            Ok(Err(error)) if error.kind() == ErrorKind::Fenced => {
                tracing::warn!(broker = %lease.broker(), %error, "fenced");
                lease.fenced();
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(broker = %lease.broker(), %error, "lease not renewed");
            }
            Err(_) => tracing::warn!(broker = %lease.broker(), "lease not renewed in time"),
        }
        lease.note();
    }
}

// === impl LeaseKeeper ===

impl LeaseKeeper {
    /// The lease that it keeps.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
