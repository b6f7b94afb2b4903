//! How brokers speak to the controller: one type, wherever the voters are.
//!
//! ```text
//!   Client ──▶ Local: the voter of this process, which answers when it leads ──▶ else the leader
//!          └─▶ Remote: no voter here ──▶ the leader, found by asking any controller
//! ```
//!
//! **Invariant:** whoever is told that a command was done has it in the image here.

mod lease;
mod query;
mod reach;
mod voters;

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use protocol::BrokerEpoch;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::command::{Command, Proposal, RegisterBroker, Response, decode_answer};
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::limits::{
    MAX_COMMAND_BYTES, MAX_COMMANDS_IN_FLIGHT, RPC_TIMEOUT, SUBMIT_RETRY, SUBMIT_RETRY_MOST,
    SUBMIT_TIMEOUT,
};
use crate::observer::Remote;
use crate::raft::{Local, NotDone};
use crate::rpc::{Channels, method, wire};
use crate::types::CommandId;

pub use lease::LeaseKeeper;

/// Asks and commands the controller. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    /// How long a lease lasts.
    lease: Duration,
    pub(crate) way: Way,
    in_flight: Semaphore,
}

/// Who answers.
pub(crate) enum Way {
    /// The voter of this process; the leader of the others when it does not lead.
    Local(Arc<Local>),
    /// Voters elsewhere.
    Remote(Arc<Remote>),
}

// === impl Client ===

impl Client {
    pub(crate) fn new(env: Env, lease: Duration, way: Way) -> Self {
        let in_flight = Semaphore::new(MAX_COMMANDS_IN_FLIGHT);
        Self {
            inner: Arc::new(Inner {
                env,
                lease,
                way,
                in_flight,
            }),
        }
    }

    /// A fresh command id, for [`submit_as`](Self::submit_as).
    pub fn command_id(&self) -> CommandId {
        CommandId(self.inner.env.entropy.uuid())
    }

    /// Has `command` done. An outcome that stays unknown is asked for again under the same id, for
    /// up to 30 s. When it returns, the image here holds the change.
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
        // A lease does not hang on how far the image here is.
        let wait = !matches!(proposal.command, Command::ReportHighWatermarks { .. });
        let answered = self.ask(deadline, wait, || {
            proposal.now_ms = self.inner.env.clock.wall_ms();
            Ok(wire::Ask {
                submit: Some(wire::Submit {
                    proposal: encode(&proposal)?.into(),
                    death_proven,
                }),
                ..Default::default()
            })
        });
        let answer = decode_answer(&answered.await?.answer);
        Ok(answer.map_err(|e| Error::corrupt("answer", e.0))??)
    }

    /// Has the leader, whoever it is, do what `ask` makes, again and again until `deadline`, with
    /// pauses that grow; then, if it is to `wait`, does so until the image here holds it.
    async fn ask(
        &self,
        deadline: Instant,
        wait: bool,
        mut ask: impl FnMut() -> Result<wire::Ask, Error>,
    ) -> Result<wire::Outcome, Error> {
        let mut pause = SUBMIT_RETRY;
        loop {
            let ask = ask()?;
            let asked = timeout_at(deadline, self.ask_once(ask, wait)).await;
            let failed = match asked {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(failed)) => failed,
                Err(_) => return Err(unavailable("no answer in time")),
            };
            if failed.kind() != ErrorKind::Retry || Instant::now() + pause >= deadline {
                return Err(failed);
            }
            sleep(pause).await;
            pause = (2 * pause).min(SUBMIT_RETRY_MOST);
        }
    }

    async fn ask_once(&self, ask: wire::Ask, wait: bool) -> Result<wire::Outcome, Error> {
        let outcome = match &self.inner.way {
            Way::Local(local) => self.ask_local(local, ask).await?,
            Way::Remote(remote) => remote.ask(ask).await?,
        };
        if wait {
            self.wait_for(outcome.index).await?;
        }
        Ok(outcome)
    }

    async fn ask_local(&self, local: &Local, ask: wire::Ask) -> Result<wire::Outcome, Error> {
        // Boxed: the type of all that a leader may do is too deep for the compiler in one piece.
        let leader = match Box::pin(local.answer(&ask)).await {
            Ok(outcome) => return Ok(outcome),
            Err(NotDone::Failed(error)) => return Err(error),
            Err(NotDone::Elsewhere(leader)) => leader,
        };
        let removes_itself = ask
            .change_voter
            .as_ref()
            .is_some_and(|change| change.address.is_none() && change.node == local.voter.node);
        let asked = local.channels.ask(&leader, method::ASK, ask, RPC_TIMEOUT);
        let mut outcome: wire::Outcome = asked.await.map_err(|status| refused(&status))?;
        if let Some(lease) = lease_told(&outcome) {
            let mut sessions = local.sessions.lock();
            sessions.heard_lease(leader.node, lease);
        }
        // One that is no member any more is not told of it.
        if removes_itself {
            outcome.index = 0;
        }
        Ok(outcome)
    }

    /// The voter of this process, whose client this is.
    pub(crate) fn local(&self) -> &Arc<Local> {
        match &self.inner.way {
            Way::Local(local) => local,
            Way::Remote(_) => unreachable!("asked of the client of a voter only"),
        }
    }

    /// The longest lease that a broker may hold, as far as it is known here: a broker's is as long
    /// as it and the leader that granted it both say.
    pub fn longest_lease(&self) -> Duration {
        let told = match &self.inner.way {
            Way::Local(local) => local.sessions.lock().longest(),
            Way::Remote(remote) => remote.longest_lease(),
        };
        told.max(self.inner.lease)
    }

    fn channels(&self) -> &Channels {
        match &self.inner.way {
            Way::Local(local) => &local.channels,
            Way::Remote(remote) => remote.channels(),
        }
    }

    /// True while the voter of this process leads, as far as it knows.
    pub fn leads(&self) -> bool {
        match &self.inner.way {
            Way::Local(local) => local.raft.is_leader(),
            Way::Remote(_) => false,
        }
    }

    /// The term of the controllers, and how often another of them came to lead: as the voter of this
    /// process has seen it, or nothing where none is.
    pub fn elections(&self) -> Option<(u64, u64)> {
        match &self.inner.way {
            Way::Local(local) => Some((local.term(), local.leaders())),
            Way::Remote(_) => None,
        }
    }

    /// Entries of the log that the voter of this process applied and that need a level which was not
    /// finalized before them: none, unless something is wrong.
    pub fn entries_above_level(&self) -> u64 {
        match &self.inner.way {
            Way::Local(local) => local.shared.above_level(),
            Way::Remote(_) => 0,
        }
    }

    /// The image, swapped whole.
    pub fn image(&self) -> watch::Receiver<Arc<Image>> {
        match &self.inner.way {
            Way::Local(local) => local.shared.image(),
            Way::Remote(remote) => remote.image(),
        }
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
}

// === impl Way ===

impl Way {
    /// The last log entry that is held here.
    fn applied(&self) -> u64 {
        match self {
            Self::Local(local) => local.shared.image().borrow().applied,
            Self::Remote(remote) => remote.image().borrow().applied,
        }
    }

    /// The newest level that this process knows.
    fn newest_level(&self) -> u16 {
        match self {
            Self::Local(local) => local.shared.newest_level(),
            Self::Remote(remote) => remote.newest_level(),
        }
    }
}

/// A command's bytes, if one log entry holds them.
fn encode(proposal: &Proposal) -> Result<Vec<u8>, Error> {
    let bytes = proposal.encode();
    if bytes.len() > MAX_COMMAND_BYTES {
        return Err(Error::TooLarge {
            bytes: bytes.len(),
            limit: MAX_COMMAND_BYTES,
        });
    }
    Ok(bytes)
}

/// How long a lease is to the leader that answered, if its build says so.
pub(crate) fn lease_told(outcome: &wire::Outcome) -> Option<Duration> {
    (outcome.lease_ms > 0).then(|| Duration::from_millis(outcome.lease_ms))
}

/// What a failed call to the leader means.
pub(crate) fn refused(status: &tonic::Status) -> Error {
    match status.code() {
        tonic::Code::InvalidArgument => Error::Settings {
            reason: status.message().to_owned(),
        },
        _ => unavailable(status.message()),
    }
}

pub(crate) fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
    }
}
