//! How brokers speak to the controller: over the local voter.

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use parking_lot::Mutex;
use protocol::{BrokerEpoch, TopicPartition};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::command::{Command, HighWatermark, Proposal, RegisterBroker, Response, decode_answer};
use crate::error::{Error, ErrorKind, Refusal};
use crate::image::Image;
use crate::lease::{Lease, Marks, Sessions};
use crate::limits::{
    MAX_COMMAND_BYTES, MAX_COMMANDS_IN_FLIGHT, MAX_KEYS_PER_QUERY, MAX_MARKS_PER_COMMAND,
    SUBMIT_RETRY, SUBMIT_TIMEOUT,
};
use crate::raft::errors::{READ_POLICY, classify_read, classify_write};
use crate::raft::{ProposalBytes, Raft, Shared};
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
    in_flight: Semaphore,
}

/// Renews a lease in the background until dropped, or until the epoch is fenced.
pub struct LeaseKeeper {
    lease: Lease,
    task: JoinHandle<()>,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(env: Env, raft: Raft, shared: Arc<Shared>, lease: Duration) -> Self {
        let sessions = Mutex::new(Sessions::new(lease));
        let in_flight = Semaphore::new(MAX_COMMANDS_IN_FLIGHT);
        Self {
            inner: Arc::new(Inner {
                env,
                raft,
                shared,
                sessions,
                lease,
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
        if let Command::RegisterBroker(register) = &command {
            self.check_node_is_free(register)?;
        }
        self.propose(id, command).await
    }

    /// Registers a broker. `death_proven`: the caller holds the lock of the node's directory, so
    /// that no earlier process of it lives, and its lease need not be waited for.
    ///
    /// # Errors
    /// `NodeInUse` (retry) while another process of the node may hold a lease.
    pub async fn register(
        &self,
        register: RegisterBroker,
        death_proven: bool,
    ) -> Result<BrokerEpoch, Error> {
        if !death_proven {
            self.check_node_is_free(&register)?;
        }
        let answer = self
            .propose(self.command_id(), Command::RegisterBroker(register))
            .await?;
        let Response::Registered { broker } = answer else {
            return Err(Error::corrupt(
                "answer",
                format!("{answer:?} to a registration"),
            ));
        };
        let now = self.inner.env.clock.monotonic();
        self.inner.sessions.lock().renew(broker, now);
        Ok(broker)
    }

    fn check_node_is_free(&self, register: &RegisterBroker) -> Result<(), Error> {
        let now = self.inner.env.clock.monotonic();
        let image = self.inner.shared.image().borrow().clone();
        let sessions = self.inner.sessions.lock();
        for (epoch, broker) in image.live_brokers() {
            let other = broker.node == register.node && broker.incarnation != register.incarnation;
            if other && sessions.may_live(epoch, now) {
                return Err(Refusal::NodeInUse {
                    node: register.node,
                }
                .into());
            }
        }
        Ok(())
    }

    async fn propose(&self, id: CommandId, command: Command) -> Result<Response, Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let unavailable = |reason: &str| Error::Unavailable {
            reason: reason.to_owned(),
        };
        let permit = timeout_at(deadline, self.inner.in_flight.acquire()).await;
        let _permit = permit
            .map_err(|_| unavailable("too many commands wait"))?
            .expect("the semaphore is never closed");
        let mut proposal = Proposal {
            id,
            now_ms: 0,
            command,
        };
        loop {
            proposal.now_ms = self.inner.env.clock.wall_ms();
            let bytes = proposal.encode();
            if bytes.len() > MAX_COMMAND_BYTES {
                return Err(Error::TooLarge {
                    bytes: bytes.len(),
                    limit: MAX_COMMAND_BYTES,
                });
            }
            let write = self.inner.raft.client_write(ProposalBytes(bytes.into()));
            let Ok(written) = timeout_at(deadline, write).await else {
                return Err(unavailable("no answer in time"));
            };
            let failed = match written {
                Ok(written) => {
                    let answer = decode_answer(&written.data.0);
                    return Ok(answer.map_err(|e| Error::corrupt("answer", e.0))??);
                }
                Err(error) => classify_write(error),
            };
            if failed.kind() != ErrorKind::Retry || Instant::now() + SUBMIT_RETRY >= deadline {
                return Err(failed);
            }
            sleep(SUBMIT_RETRY).await;
        }
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
    async fn confirm_leader(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        loop {
            let confirm = self.inner.raft.ensure_linearizable(READ_POLICY);
            let Ok(confirmed) = timeout_at(deadline, confirm).await else {
                return Err(Error::Unavailable {
                    reason: "no quorum in time".to_owned(),
                });
            };
            let Err(error) = confirmed else { return Ok(()) };
            let failed = classify_read(error);
            if failed.kind() != ErrorKind::Retry || Instant::now() + SUBMIT_RETRY >= deadline {
                return Err(failed);
            }
            sleep(SUBMIT_RETRY).await;
        }
    }

    /// Renews once, reporting `marks`. The lease counts from before the request is sent.
    ///
    /// # Errors
    /// `StaleBroker` (fenced) for good; anything of kind retry leaves the lease as it was.
    pub async fn renew(&self, lease: &Lease, marks: Vec<HighWatermark>) -> Result<(), Error> {
        let sent = self.inner.env.clock.monotonic();
        let broker = lease.broker();
        if marks.is_empty() {
            self.confirm_leader().await?;
            if !self.inner.shared.read(|state| state.is_live(broker)) {
                return Err(Refusal::StaleBroker { broker }.into());
            }
        }
        // Committing says both that the leader leads and that the broker lives.
        for marks in marks.chunks(MAX_MARKS_PER_COMMAND) {
            let marks = marks.to_vec();
            let report = Command::ReportHighWatermarks { broker, marks };
            self.propose(self.command_id(), report).await?;
        }
        let now = self.inner.env.clock.monotonic();
        self.inner.sessions.lock().renew(broker, now);
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
