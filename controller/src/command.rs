//! What can be asked of the state: versioned log entries.
//!
//! ```text
//!   Command ──▶ Proposal{id, now_ms, command} ──wire──▶ log entry ──wire──▶ Proposal ──▶ apply
//! ```
//!
//! **Invariant:** everything that `apply` reads is in the state or in the entry: the proposer's
//! clock and ids travel in the entry, so that every voter comes to the same state.

mod convert;
mod moves;
mod parts;
mod response;
mod response_convert;
mod slices;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::collections::BTreeMap;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use uuid::Uuid;
use wal::{Sequence, WalId};

pub use moves::{Load, MoveCommand, Release, Target};
pub(crate) use moves::{get_load, put_load, wire as moves_wire};
pub(crate) use parts::{
    Decoded, Malformed, get_backend, get_configs, get_digest, get_id, get_int, get_listeners,
    get_partition, get_register, get_resource, malformed, put_backend, put_configs, put_digest,
    put_id, put_listeners, put_partition, put_register, put_resource,
};
pub use response::{Claimed, ClaimedPartition, Response};
pub(crate) use response_convert::{decode_answer, encode_answer, get_outcomes, put_outcomes};
pub(crate) use slices::{ObjectTable, get_objects, get_slice, put_slice};

use crate::types::{Claim, ClusterId, CommandId, SliceRef};

/// Version of the log entries that this build writes.
pub(crate) const VERSION: u32 = 1;

/// A command with what its proposer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// The idempotence key.
    pub(crate) id: CommandId,
    /// The proposer's clock, milliseconds since the Unix epoch: labels, orders nothing.
    pub(crate) now_ms: i64,
    /// What is asked.
    pub(crate) command: Command,
}

/// Where a broker can be reached under one listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name.
    pub name: String,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// Security protocol, by Kafka's name.
    pub protocol: String,
}

/// A broker process asks for an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// Kafka's `node.id`.
    pub node: NodeId,
    /// Random, drawn anew at each start of the process and after each fence.
    pub incarnation: Uuid,
    /// Named listeners.
    pub listeners: Vec<Listener>,
    /// Kafka's `broker.rack`.
    pub rack: Option<String>,
    /// Drawn once for its data directory, and kept there; nil when there is none.
    pub directory: Uuid,
    /// The epoch that this very process held last: that it was fenced killed nobody. Not below
    /// level 2.
    pub lived: Option<BrokerEpoch>,
}

/// Where a log lives, and so who can recover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalBackend {
    /// On a node's disk: by the same node only.
    Disk,
    /// In the object store: by any broker.
    Object,
    /// Nowhere: it is abandoned at start.
    Memory,
}

/// A topic to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// Its id, drawn by the proposer.
    pub id: TopicId,
    /// True for `__consumer_offsets` and its like.
    pub internal: bool,
    /// How many partitions; ignored when `assignments` is not empty.
    pub partitions: u32,
    /// Any positive number is accepted; durability is the object store's.
    pub replication_factor: i16,
    /// Per partition the nodes listed; the first is honoured while it lives. Empty: placed.
    pub assignments: Vec<Vec<NodeId>>,
    /// Its own configuration entries.
    pub configs: BTreeMap<String, String>,
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// One broker.
    Broker(NodeId),
    /// Every broker: the cluster's default.
    Cluster,
}

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Give it this value.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add the values (comma-separated) to the list, which is `default` while unset.
    Append {
        /// What to add.
        value: String,
        /// What the list is while unset.
        default: String,
    },
    /// Take the values from the list, which is `default` while unset.
    Subtract {
        /// What to take away.
        value: String,
        /// What the list is while unset.
        default: String,
    },
}

/// One upload round (ARCHITECTURE §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitUpload {
    /// Epoch of the broker that commits.
    pub broker_epoch: BrokerEpoch,
    /// The log whose entries were uploaded.
    pub wal: WalId,
    /// Claim under which an heir commits; `None` for the log's owner.
    pub claim: Option<Claim>,
    /// First group of the round: must be the trim point, unless `from == to`.
    pub from: Sequence,
    /// One past its last group: becomes the trim point. `from == to` moves nothing (an early
    /// upload of one partition).
    pub to: Sequence,
    /// Per partition in order of offsets.
    pub slices: Vec<SliceRef>,
}

/// A compaction: runs of slices give way to others over the same offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaceSlices {
    /// Epoch of the broker that leads the partitions.
    pub broker_epoch: BrokerEpoch,
    /// At most one per partition.
    pub runs: Vec<ReplaceRun>,
}

/// One partition's part of a [`ReplaceSlices`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaceRun {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which the broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// What is replaced, by (first offset, end offset, object key).
    pub old: Vec<OldSlice>,
    /// What stands there instead: same first and end offset over all.
    pub new: Vec<SliceRef>,
}

/// Names a slice that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldSlice {
    /// Its first offset.
    pub first_offset: i64,
    /// One past its last offset.
    pub end_offset: i64,
    /// Key of its object.
    pub key: String,
}

/// How far a led partition is durable, as its leader reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighWatermark {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which it is led.
    pub leader_epoch: LeaderEpoch,
    /// Its high watermark.
    pub offset: i64,
}

/// Everything that changes the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives the cluster its identity; refused when it has another.
    InitCluster {
        /// The identity.
        cluster: ClusterId,
        /// The generation: raised when a cluster is rebuilt from its bucket.
        generation: u32,
    },
    /// Gives a broker an epoch, and fences the earlier ones of its node.
    RegisterBroker(RegisterBroker),
    /// Fences the broker's own epoch.
    Goodbye {
        /// The epoch.
        broker: BrokerEpoch,
    },
    /// Fences a broker whose lease ran out.
    FenceBroker {
        /// The epoch.
        broker: BrokerEpoch,
    },
    /// Records how far led partitions are durable (sent with a renewal when it moved).
    ReportHighWatermarks {
        /// The reporter.
        broker: BrokerEpoch,
        /// What moved.
        marks: Vec<HighWatermark>,
    },
    /// Records a broker epoch's log. It then can lead, and takes the partitions that wait.
    OpenWal {
        /// Whose.
        broker: BrokerEpoch,
        /// The log.
        wal: WalId,
        /// Where it lives.
        backend: WalBackend,
    },
    /// Makes a broker the heir of a fenced log.
    ClaimWal {
        /// The log.
        wal: WalId,
        /// The heir's epoch.
        heir: BrokerEpoch,
    },
    /// Says that everything in a log is committed. Its partitions may open.
    CloseWal {
        /// The log.
        wal: WalId,
        /// The heir's claim; `None` for the owner.
        claim: Option<Claim>,
        /// Epoch of the heir or owner.
        broker: BrokerEpoch,
        /// One past its last group: must be the trim point.
        end: Sequence,
    },
    /// Gives a log up: what was not committed is lost. Its partitions skip
    /// [`ABANDON_OFFSET_GAP`](crate::limits::ABANDON_OFFSET_GAP) offsets.
    AbandonWal {
        /// The log.
        wal: WalId,
        /// Who and why, for the record.
        reason: String,
    },
    /// An heir found the log damaged: it is set aside.
    ReportWalCorrupt {
        /// The log.
        wal: WalId,
        /// The heir's claim.
        claim: Claim,
        /// The heir's epoch.
        heir: BrokerEpoch,
        /// Where and what.
        reason: String,
    },
    /// An heir that cannot recover a log lets another one try.
    YieldWal {
        /// The log.
        wal: WalId,
        /// The heir's claim.
        claim: Claim,
        /// The heir's epoch.
        heir: BrokerEpoch,
    },
    /// Lets a quarantined log be claimed again.
    UnquarantineWal {
        /// The log.
        wal: WalId,
    },
    /// Records that nothing of a closed log is left in the store but its seal.
    RecordSwept {
        /// The log.
        wal: WalId,
    },
    /// Makes a topic.
    CreateTopic(CreateTopic),
    /// Raises a topic's partition count.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// The count to reach.
        count: u32,
        /// Per new partition the nodes listed. Empty: placed.
        assignments: Vec<Vec<NodeId>>,
    },
    /// Deletes a topic; its objects are condemned.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Changes configuration entries.
    AlterConfigs {
        /// Whose.
        resource: ConfigResource,
        /// By name.
        changes: Vec<(String, ConfigOp)>,
        /// Entries that are not named go back to their defaults (Kafka's non-incremental form).
        replace: bool,
    },
    /// Records an upload round.
    CommitUpload(CommitUpload),
    /// Records a compaction.
    ReplaceSlices(ReplaceSlices),
    /// Raises a partition's log start.
    SetLogStart {
        /// Epoch of the broker that leads it.
        broker: BrokerEpoch,
        /// The partition.
        topic_partition: TopicPartition,
        /// Epoch at which it is led.
        leader_epoch: LeaderEpoch,
        /// First offset that may still be read.
        log_start: i64,
    },
    /// Gives a led partition to another broker.
    Release {
        /// Epoch of the broker that leads it.
        broker: BrokerEpoch,
        /// The partition.
        topic_partition: TopicPartition,
        /// Epoch at which it is led.
        leader_epoch: LeaderEpoch,
        /// Its end: must be the committed end.
        end: i64,
        /// Who takes it; `None`: placed.
        to: Option<NodeId>,
    },
    /// Gives a broker a block of producer ids.
    AllocateProducerIds {
        /// Whose.
        broker: BrokerEpoch,
        /// How many.
        count: u32,
    },
    /// Forgets condemned objects that are deleted from the store.
    ForgetCondemned {
        /// Their keys.
        keys: Vec<String>,
    },
    /// Records that a store passed the probe.
    RecordProbe {
        /// The store.
        store_url: String,
        /// When, milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// Records the mark that the object store of this cluster carries. The first one stands.
    RecordHome {
        /// What was read there.
        mark: Uuid,
    },
    /// Records a checkpoint of the state in the bucket; all but the newest are condemned.
    RecordCheckpoint {
        /// Its key.
        key: String,
    },
    /// Raises (or with 0 drops) a feature's finalized level.
    FinalizeFeature {
        /// The feature.
        name: String,
        /// Its level.
        level: u16,
    },
    /// Planned moves.
    Move(MoveCommand),
}
