//! What the leader does for whoever asks: a client here, or one at another node.

mod election;
mod membership;
mod queries;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env::Env;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use parking_lot::Mutex;
use protocol::BrokerEpoch;

use super::errors::{READ_POLICY, classify_read, classify_write};
use super::{ProposalBytes, Raft, Shared, TypeConfig};
use crate::command::{Command, Proposal, RegisterBroker, Response, decode_answer, encode_answer};
use crate::error::{Error, Refusal};
use crate::image::BrokerImage;
use crate::lease::{Heard, Sessions};
use crate::level::VERSION_FEATURE;
use crate::rpc::{Channels, Target, wire};
use crate::state::State;
use crate::types::CommandId;

/// The voter of this process, as its clients and those of other nodes see it.
pub(crate) struct Local {
    pub(crate) env: Env,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) voter: Target,
    pub(crate) channels: Channels,
    /// Other nodes can call here.
    pub(crate) listens: bool,
    /// The promise to a leader that this voter took for dead last.
    released: Mutex<Option<election::Released>>,
    /// Calls of other nodes that were answered, raft's own not counted.
    calls: AtomicU64,
    /// Times that another voter came to lead, as seen here.
    leaders: AtomicU64,
}

/// Why something was not done here.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// That one leads.
    Elsewhere(Target),
    /// Of kind retry when nobody leads now.
    Failed(Error),
}

impl NotDone {
    /// As somebody sees it who asks nobody else.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Elsewhere(other) => unavailable(&format!("voter {} leads now", other.node)),
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

// === impl Local ===

impl Local {
    pub(crate) fn new(
        env: Env,
        raft: Raft,
        shared: Arc<Shared>,
        lease: Duration,
        voter: Target,
        channels: Channels,
    ) -> Self {
        Self {
            env,
            raft,
            shared,
            sessions: Mutex::new(Sessions::new(lease)),
            voter,
            channels,
            listens: true,
            released: Mutex::default(),
            calls: AtomicU64::new(0),
            leaders: AtomicU64::new(0),
        }
    }

    /// Another node asks something.
    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Another voter leads from now on.
    pub(crate) fn led_anew(&self) {
        self.leaders.fetch_add(1, Ordering::Relaxed);
    }

    /// Times that another voter came to lead, as seen here.
    pub(crate) fn leaders(&self) -> u64 {
        self.leaders.load(Ordering::Relaxed)
    }

    /// How many calls of other nodes were answered.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Does what is asked, if this voter leads, and says how long a lease is to it.
    pub(crate) async fn answer(&self, ask: &wire::Ask) -> Result<wire::Outcome, NotDone> {
        let mut outcome = self.done(ask).await?;
        let lease = self.sessions.lock().lease();
        outcome.lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        Ok(outcome)
    }

    async fn done(&self, ask: &wire::Ask) -> Result<wire::Outcome, NotDone> {
        if let Some(submit) = &ask.submit {
            return self.write(submit).await;
        }
        if let Some(broker) = ask.renew {
            return self.grant(BrokerEpoch(broker), ask).await;
        }
        if let Some(change) = &ask.change_voter {
            return self.change_voter(change).await;
        }
        if ask.quorum.is_some() {
            return self.quorum().await;
        }
        let index = self.confirm().await?;
        let mut outcome = wire::Outcome {
            index,
            ..Default::default()
        };
        if let Some(query) = &ask.query {
            self.query(query, &mut outcome)?;
        }
        Ok(outcome)
    }

    async fn write(&self, submit: &wire::Submit) -> Result<wire::Outcome, NotDone> {
        let malformed = |e: crate::command::Malformed| Error::corrupt("proposal", e.0);
        let proposal = Proposal::decode(&submit.proposal).map_err(malformed)?;
        if let Err(refusal) = self.check_level(&proposal.command).await? {
            return Ok(refused(&refusal));
        }
        let mut registers = false;
        if let Command::RegisterBroker(register) = &proposal.command {
            registers = true;
            // What an earlier leader let in must be in the state that is looked at.
            let term = self.term();
            self.confirm().await?;
            let proven = submit.death_proven.then_some(register.directory);
            if let Err(refusal) = self.take_node(term, register, proven)? {
                return Ok(refused(&refusal));
            }
        }
        let term = self.term();
        let bytes = ProposalBytes((&*submit.proposal).into());
        let written = match self.raft.client_write(bytes).await {
            Ok(written) => written,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                return Err(self.elsewhere(to));
            }
            Err(error) => return Err(classify_write(error).into()),
        };
        let answer = written.data.0;
        if registers && let Ok(Ok(Response::Registered { broker })) = decode_answer(&answer) {
            let now = self.env.clock.monotonic();
            let mut sessions = self.sessions.lock();
            // Of no use in another term: its leader grants everyone a full lease.
            if sessions.in_term(term) {
                sessions.renew(broker, now);
            }
        }
        Ok(wire::Outcome {
            index: written.log_id.index(),
            answer: answer.into(),
            ..Default::default()
        })
    }

    /// Whether the log may hold the command: what cannot be read by all is never written.
    async fn check_level(&self, command: &Command) -> Result<Result<(), Refusal>, NotDone> {
        let check = |state: &State| match command {
            Command::FinalizeFeature { name, level } => {
                state.check_finalize(name, *level, self.shared.newest_level())
            }
            command => state.check_level(command.level()),
        };
        if self.shared.read(check).is_err() {
            // The level may have been raised just now: only a leader that holds all may refuse.
            self.confirm().await?;
            if let Err(refusal) = self.shared.read(check) {
                return Ok(Err(refusal));
            }
        }
        match command {
            Command::FinalizeFeature { name, level } if name == VERSION_FEATURE => {
                // Brokers are heard of by the leader alone.
                self.confirm().await?;
                self.check_builds(*level).await
            }
            _ => Ok(Ok(())),
        }
    }

    /// The term that this voter is in, or was in just now.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// That no other process of the node may hold a lease, nor gets one while the registration is
    /// on its way. The lock of the directory `proven` says that those which registered from there
    /// are dead; of those elsewhere it says nothing.
    pub(crate) fn take_node(
        &self,
        term: u64,
        register: &RegisterBroker,
        proven: Option<uuid::Uuid>,
    ) -> Result<Result<(), Refusal>, NotDone> {
        let now = self.env.clock.monotonic();
        let image = self.shared.image().borrow().clone();
        let mut sessions = self.sessions.lock();
        if !sessions.in_term(term) {
            return Err(unavailable("the controller changes").into());
        }
        let of_node = |broker: &BrokerImage| {
            broker.node == register.node && broker.incarnation != register.incarnation
        };
        let others = image.live_brokers().filter(|(_, other)| of_node(other));
        let others: Vec<_> = others.collect();
        for (epoch, other) in &others {
            let dead = proven == Some(other.directory);
            if !dead && sessions.may_live(*epoch, now) {
                let node = register.node;
                return Ok(Err(Refusal::NodeInUse { node }));
            }
        }
        // The registration fences them when it is applied. If it comes to nothing, their leases
        // have run out all the same.
        for (epoch, _) in others {
            sessions.end(epoch, now);
        }
        Ok(Ok(()))
    }

    /// Returns once a quorum has confirmed this leader after the call, and the state here holds
    /// all that was committed before it: up to the index given.
    pub(crate) async fn confirm(&self) -> Result<u64, NotDone> {
        match self.raft.ensure_linearizable(READ_POLICY).await {
            Ok(_) => Ok(self.shared.image().borrow().applied),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(self.elsewhere(to))
            }
            Err(error) => Err(classify_read(error).into()),
        }
    }

    async fn grant(&self, broker: BrokerEpoch, ask: &wire::Ask) -> Result<wire::Outcome, NotDone> {
        let term = self.term();
        let index = self.confirm().await?;
        let granted = self.shared.read(|state| state.is_live(broker));
        let mut others_reach_store = false;
        if granted {
            let now = self.env.clock.monotonic();
            let mut sessions = self.sessions.lock();
            if !sessions.in_term(term) {
                return Err(unavailable("the controller changes").into());
            }
            if sessions.is_being_fenced(broker) {
                return Err(unavailable("its lease ran out: it is being fenced").into());
            }
            sessions.renew(broker, now);
            let heard = Heard {
                at: now,
                applied: ask.applied,
                level: ask.level,
                store_answers: ask.store_answers,
            };
            sessions.hear(broker, heard);
            others_reach_store = sessions.others_reach_store(broker, now);
        }
        Ok(wire::Outcome {
            index,
            granted,
            others_reach_store,
            ..Default::default()
        })
    }

    /// Fences a broker whose lease ran out, through this voter's own log or not at all: whoever
    /// leads by then has heard of the broker, maybe, and this voter has not.
    pub(crate) async fn fence(&self, broker: BrokerEpoch) -> Result<(), NotDone> {
        let proposal = Proposal {
            id: CommandId(self.env.entropy.uuid()),
            now_ms: self.env.clock.wall_ms(),
            command: Command::FenceBroker { broker },
        };
        let submit = wire::Submit {
            proposal: proposal.encode().into(),
            death_proven: false,
        };
        let answer = self.write(&submit).await?.answer;
        match decode_answer(&answer).map_err(|e| Error::corrupt("answer", e.0))? {
            Ok(_) | Err(Refusal::StaleBroker { .. }) => Ok(()),
            Err(refusal) => Err(Error::from(refusal).into()),
        }
    }

    fn write_failed(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> NotDone {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => self.elsewhere(to),
            error => classify_write(error).into(),
        }
    }

    fn elsewhere(&self, to: ForwardToLeader<TypeConfig>) -> NotDone {
        let other = to.leader_id.zip(to.leader_node);
        match other {
            Some((node, voter)) if node != self.voter.node => {
                NotDone::Elsewhere(voter.target(node))
            }
            _ => unavailable("no controller leads now").into(),
        }
    }
}

fn refused(refusal: &Refusal) -> wire::Outcome {
    wire::Outcome {
        answer: encode_answer(&Err(refusal.clone())).into(),
        ..Default::default()
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
    }
}
