//! The replicated state: pure `apply`, command in, answer and effects out.
//!
//! **Invariants** (checked by `validate`): a refused command changes nothing; a partition's slices
//! and gaps are contiguous up to its committed end; an object is named by exactly as many slices
//! as it counts; a partition has uncommitted data in at most one log (R1), and is not led while it
//! waits for one (R13).

mod brokers;
mod commit;
mod configs;
mod heirs;
mod moves;
mod objects;
mod partitions;
mod recent;
mod replace;
mod snapshot;
mod snapshot_wire;
#[cfg(test)]
mod tests;
mod topics;
mod validate;
mod view;
mod wals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{BrokerEpoch, NodeId, TopicId};
use uuid::Uuid;
use wal::WalId;

use crate::command::{Command, ConfigResource, MoveCommand, Proposal, Response};
use crate::error::Refusal;
use crate::limits::{
    CHECKPOINTS_KEPT, MAX_FEATURES, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_PROBES,
    MAX_PRODUCER_ID_BLOCK,
};
use crate::types::ClusterId;

pub(crate) use brokers::Broker;
pub(crate) use configs::Configs;
use heirs::Ending;
pub(crate) use objects::{ObjectId, Objects};
pub(crate) use partitions::{Partition, Slice};
pub(crate) use recent::Recent;
pub use topics::check_topic_name;
pub(crate) use topics::{Topic, Topics};
pub use view::{Condemned, PartitionState};
pub use wals::WalPhase;
pub(crate) use wals::{Death, LastCommit, Wal};

/// What the controller knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Index of the last log entry applied.
    pub(crate) applied: u64,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) features: BTreeMap<String, u16>,
    /// Brokers that live, or whose log is not closed.
    pub(crate) brokers: BTreeMap<BrokerEpoch, Broker>,
    /// The last broker epoch given.
    pub(crate) last_broker_epoch: u64,
    pub(crate) wals: BTreeMap<WalId, Wal>,
    /// Logs closed so far: orders them for forgetting.
    pub(crate) wals_closed: u64,
    pub(crate) topics: Topics,
    pub(crate) objects: Objects,
    /// Of brokers and of the cluster; a topic's stand with the topic.
    pub(crate) configs: BTreeMap<ConfigResource, Configs>,
    pub(crate) next_producer_id: i64,
    /// What the object store of this cluster carries, and no other one does.
    pub(crate) home: Option<Uuid>,
    /// When each store passed the probe last.
    pub(crate) probes: BTreeMap<String, i64>,
    pub(crate) recent: Recent,
    /// Keys of the checkpoints in the bucket, oldest first.
    pub(crate) checkpoints: Vec<String>,
    /// Nodes that give their partitions away and take none, by an operator's word.
    pub(crate) draining: BTreeSet<NodeId>,
}

/// The cluster's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) generation: u32,
}

/// What of the image a command touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Topics made, changed or deleted.
    pub(crate) topics: BTreeSet<TopicId>,
    /// Brokers or their logs.
    pub(crate) brokers: bool,
    /// Cluster, features, probes, configurations of brokers.
    pub(crate) cluster: bool,
}

type Answer = Result<Response, Refusal>;

// === impl Effects ===

impl Effects {
    /// Adds what another command touched.
    pub(crate) fn merge(&mut self, other: Self) {
        self.topics.extend(other.topics);
        self.brokers |= other.brokers;
        self.cluster |= other.cluster;
    }
}

// === impl State ===

impl State {
    /// Applies the log entry at `index`. The same state and entry give the same result anywhere.
    pub(crate) fn apply(&mut self, index: u64, proposal: &Proposal) -> (Answer, Effects) {
        assert!(
            index > self.applied || self.applied == 0,
            "entry {index} applied twice"
        );
        self.applied = index;
        let mut effects = Effects::default();
        let known = self.recent.answer(proposal.id);
        if let Some(answer) = known.filter(|_| !env::planted!("command-done-twice")) {
            return (Ok(answer), effects);
        }
        let answer = self
            .check_level(proposal.command.level())
            .and_then(|()| self.dispatch(proposal, &mut effects));
        match &answer {
            // What only reads or merely repeats itself need not be remembered.
            Ok(_) if matches!(proposal.command, Command::ReportHighWatermarks { .. }) => {}
            Ok(_)
                if matches!(
                    proposal.command,
                    Command::Move(MoveCommand::ReportLoads { .. })
                ) => {}
            Ok(response) => self.recent.remember(index, proposal.id, response),
            Err(_) => effects = Effects::default(),
        }
        (answer, effects)
    }

    fn dispatch(&mut self, proposal: &Proposal, effects: &mut Effects) -> Answer {
        let now_ms = proposal.now_ms;
        match &proposal.command {
            Command::InitCluster {
                cluster,
                generation,
            } => self.init_cluster(*cluster, *generation, effects),
            Command::RegisterBroker(register) => self.register_broker(register, now_ms, effects),
            Command::Goodbye { broker } => self.fence_broker(*broker, Ending::Goodbye, effects),
            Command::FenceBroker { broker } => self.fence_broker(*broker, Ending::Death, effects),
            Command::ReportHighWatermarks { broker, marks } => {
                self.report_high_watermarks(*broker, marks)
            }
            Command::OpenWal { .. }
            | Command::ClaimWal { .. }
            | Command::CloseWal { .. }
            | Command::AbandonWal { .. }
            | Command::ReportWalCorrupt { .. }
            | Command::UnquarantineWal { .. }
            | Command::YieldWal { .. }
            | Command::RecordSwept { .. } => self.dispatch_wal(&proposal.command, now_ms, effects),
            Command::CreateTopic(create) => self.create_topic(create, now_ms, effects),
            Command::CreatePartitions {
                topic,
                count,
                assignments,
            } => self.create_partitions(*topic, *count, assignments, effects),
            Command::DeleteTopic { topic } => self.delete_topic(*topic, now_ms, effects),
            Command::AlterConfigs {
                resource,
                changes,
                replace,
            } => self.alter_configs(resource, changes, *replace, effects),
            Command::Move(command) => self.dispatch_move(command, effects),
            Command::CommitUpload(commit) => self.commit_upload(proposal.id, now_ms, commit),
            Command::ReplaceSlices(replace) => self.replace_slices(replace, now_ms),
            Command::SetLogStart {
                broker,
                topic_partition,
                leader_epoch,
                log_start,
            } => {
                let led = (*broker, *topic_partition, *leader_epoch);
                self.set_log_start(led, *log_start, now_ms, effects)
            }
            Command::Release {
                broker,
                topic_partition,
                leader_epoch,
                end,
                to,
            } => self.release(
                (*broker, *topic_partition, *leader_epoch),
                *end,
                *to,
                effects,
            ),
            Command::AllocateProducerIds { broker, count } => {
                self.allocate_producer_ids(*broker, *count)
            }
            Command::ForgetCondemned { .. }
            | Command::RecordHome { .. }
            | Command::RecordCheckpoint { .. }
            | Command::RecordProbe { .. }
            | Command::FinalizeFeature { .. } => {
                self.dispatch_note(&proposal.command, now_ms, effects)
            }
        }
    }

    fn dispatch_note(&mut self, command: &Command, now_ms: i64, effects: &mut Effects) -> Answer {
        match command {
            Command::ForgetCondemned { keys } => self.forget_condemned(keys),
            Command::RecordHome { mark } => self.record_home(*mark, effects),
            Command::RecordCheckpoint { key } => self.record_checkpoint(key, now_ms),
            Command::RecordProbe { store_url, at_ms } => {
                self.record_probe(store_url, *at_ms, effects)
            }
            Command::FinalizeFeature { name, level } => {
                self.finalize_feature(name, *level, effects)
            }
            other => unreachable!("{other:?} notes nothing"),
        }
    }

    fn dispatch_wal(&mut self, command: &Command, now_ms: i64, effects: &mut Effects) -> Answer {
        match command {
            Command::OpenWal {
                broker,
                wal,
                backend,
            } => self.open_wal(*broker, *wal, *backend, effects),
            Command::ClaimWal { wal, heir } => self.claim_wal(*wal, *heir, effects),
            Command::CloseWal {
                wal,
                claim,
                broker,
                end,
            } => self.close_wal(*wal, (*claim, *broker), *end, now_ms, effects),
            Command::AbandonWal { wal, reason: _ } => self.abandon_wal(*wal, now_ms, effects),
            Command::ReportWalCorrupt {
                wal,
                claim,
                heir,
                reason,
            } => self.report_wal_corrupt(*wal, *claim, *heir, reason, effects),
            Command::UnquarantineWal { wal } => self.unquarantine_wal(*wal, effects),
            Command::YieldWal { wal, claim, heir } => self.yield_wal(*wal, *claim, *heir, effects),
            Command::RecordSwept { wal } => self.record_swept(*wal, effects),
            other => unreachable!("{other:?} is no command about logs"),
        }
    }

    fn init_cluster(&mut self, id: ClusterId, generation: u32, effects: &mut Effects) -> Answer {
        let cluster = Cluster { id, generation };
        match self.cluster {
            Some(standing) if standing != cluster => {
                Err(Refusal::invalid(format!("the cluster is {}", standing.id)))
            }
            _ => {
                self.cluster = Some(cluster);
                effects.cluster = true;
                Ok(Response::Done)
            }
        }
    }

    fn allocate_producer_ids(&mut self, broker: BrokerEpoch, count: u32) -> Answer {
        self.live_broker(broker)?;
        if !(1..=MAX_PRODUCER_ID_BLOCK).contains(&count) {
            return Err(Refusal::invalid(format!("a block of {count} producer ids")));
        }
        let first = self.next_producer_id;
        let Some(next) = first.checked_add(i64::from(count)) else {
            return Err(Refusal::limit("producer ids"));
        };
        self.next_producer_id = next;
        Ok(Response::ProducerIds { first, count })
    }

    fn record_probe(&mut self, store_url: &str, at_ms: i64, effects: &mut Effects) -> Answer {
        check_length("store url", store_url)?;
        self.probes.insert(store_url.to_owned(), at_ms);
        while self.probes.len() > MAX_PROBES {
            let oldest = self
                .probes
                .iter()
                .min_by_key(|(url, at)| (**at, (*url).clone()));
            let oldest = oldest.map(|(url, _)| url.clone()).expect("more than none");
            self.probes.remove(&oldest);
        }
        effects.cluster = true;
        Ok(Response::Done)
    }

    fn record_home(&mut self, mark: Uuid, effects: &mut Effects) -> Answer {
        self.home.get_or_insert(mark);
        effects.cluster = true;
        Ok(Response::Done)
    }

    fn forget_condemned(&mut self, keys: &[String]) -> Answer {
        self.objects.forget(keys);
        Ok(Response::Done)
    }

    fn record_checkpoint(&mut self, key: &str, now_ms: i64) -> Answer {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || self.objects.knows(key) {
            return Err(Refusal::invalid(format!(
                "checkpoint key of {} bytes",
                key.len()
            )));
        }
        self.checkpoints.push(key.to_owned());
        while self.checkpoints.len() > CHECKPOINTS_KEPT {
            self.objects
                .condemn_unnamed(&self.checkpoints.remove(0), now_ms);
        }
        Ok(Response::Done)
    }

    fn finalize_feature(&mut self, name: &str, level: u16, effects: &mut Effects) -> Answer {
        check_length("feature", name)?;
        let standing = self.features.get(name).copied().unwrap_or(0);
        if level != 0 && level < standing {
            return Err(Refusal::invalid(format!(
                "feature {name} is at level {standing}"
            )));
        }
        if level == 0 {
            self.features.remove(name);
        } else if standing == 0 && self.features.len() >= MAX_FEATURES {
            return Err(Refusal::limit("features"));
        } else {
            self.features.insert(name.to_owned(), level);
        }
        effects.cluster = true;
        Ok(Response::Done)
    }
}

/// A name that fits [`MAX_NAME_BYTES`].
fn check_length(what: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Refusal::invalid(format!("{what} of {} bytes", name.len())));
    }
    Ok(())
}

/// Names are held once, and shared by the image.
pub(crate) type Name = Arc<str>;
