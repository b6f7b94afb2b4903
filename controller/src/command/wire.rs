//! Log entries and answers as stored: prost messages of ours.
//!
//! Field numbers are for ever; a field that is gone leaves its number unused. UUIDs are 16 bytes.

/// UUID of 16 bytes.
pub(crate) type Id = Vec<u8>;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Proposal {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Id,
    #[prost(int64, tag = "3")]
    pub(crate) now_ms: i64,
    #[prost(
        oneof = "Command",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, \
                30, 31, 32, 33, 34, 60, 61, 70"
    )]
    pub(crate) command: Option<Command>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Command {
    #[prost(message, tag = "10")]
    InitCluster(InitCluster),
    #[prost(message, tag = "11")]
    RegisterBroker(RegisterBroker),
    #[prost(uint64, tag = "12")]
    Goodbye(u64),
    #[prost(uint64, tag = "13")]
    FenceBroker(u64),
    #[prost(message, tag = "14")]
    ReportHighWatermarks(ReportHighWatermarks),
    #[prost(message, tag = "15")]
    OpenWal(OpenWal),
    #[prost(message, tag = "16")]
    ClaimWal(ClaimWal),
    #[prost(message, tag = "17")]
    CloseWal(CloseWal),
    #[prost(message, tag = "18")]
    AbandonWal(WalReason),
    #[prost(message, tag = "19")]
    ReportWalCorrupt(WalReason),
    #[prost(bytes = "vec", tag = "20")]
    UnquarantineWal(Id),
    #[prost(message, tag = "21")]
    CreateTopic(CreateTopic),
    #[prost(message, tag = "22")]
    CreatePartitions(CreatePartitions),
    #[prost(bytes = "vec", tag = "23")]
    DeleteTopic(Id),
    #[prost(message, tag = "24")]
    AlterConfigs(AlterConfigs),
    #[prost(message, tag = "25")]
    CommitUpload(CommitUpload),
    #[prost(message, tag = "26")]
    ReplaceSlices(ReplaceSlices),
    #[prost(message, tag = "27")]
    SetLogStart(SetLogStart),
    #[prost(message, tag = "28")]
    Release(Release),
    #[prost(message, tag = "29")]
    AllocateProducerIds(AllocateProducerIds),
    #[prost(message, tag = "30")]
    ForgetCondemned(ForgetCondemned),
    #[prost(message, tag = "31")]
    RecordProbe(RecordProbe),
    #[prost(message, tag = "32")]
    FinalizeFeature(FinalizeFeature),
    #[prost(string, tag = "33")]
    RecordCheckpoint(String),
    #[prost(bytes = "vec", tag = "34")]
    RecordSwept(Id),
    #[prost(message, tag = "60")]
    YieldWal(YieldWal),
    #[prost(bytes = "vec", tag = "61")]
    RecordHome(Id),
    #[prost(message, tag = "70")]
    Move(super::moves::wire::Move),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InitCluster {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) cluster: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) generation: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RegisterBroker {
    #[prost(int32, tag = "1")]
    pub(crate) node: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) incarnation: Id,
    #[prost(message, repeated, tag = "3")]
    pub(crate) listeners: Vec<Listener>,
    #[prost(string, optional, tag = "4")]
    pub(crate) rack: Option<String>,
    /// Empty for none.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) directory: Id,
    #[prost(uint64, optional, tag = "120")]
    pub(crate) lived: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Listener {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) host: String,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(string, tag = "4")]
    pub(crate) protocol: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Partition {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic: Id,
    #[prost(int32, tag = "2")]
    pub(crate) partition: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReportHighWatermarks {
    #[prost(uint64, tag = "1")]
    pub(crate) broker: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) marks: Vec<PartitionOffset>,
}

/// A partition at a leader epoch, with an offset of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartitionOffset {
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<Partition>,
    #[prost(int32, tag = "2")]
    pub(crate) leader_epoch: i32,
    #[prost(int64, tag = "3")]
    pub(crate) offset: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OpenWal {
    #[prost(uint64, tag = "1")]
    pub(crate) broker: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) wal: Id,
    /// 1 disk, 2 object, 3 memory.
    #[prost(uint32, tag = "3")]
    pub(crate) backend: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClaimWal {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) wal: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) heir: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct YieldWal {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) wal: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) claim: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) heir: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CloseWal {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) wal: Id,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) claim: Option<u32>,
    #[prost(uint64, tag = "3")]
    pub(crate) broker: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) end: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WalReason {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) wal: Id,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) claim: Option<u32>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) heir: Option<u64>,
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nodes {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) nodes: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Config {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateTopic {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Id,
    #[prost(bool, tag = "3")]
    pub(crate) internal: bool,
    #[prost(uint32, tag = "4")]
    pub(crate) partitions: u32,
    #[prost(int32, tag = "5")]
    pub(crate) replication_factor: i32,
    #[prost(message, repeated, tag = "6")]
    pub(crate) assignments: Vec<Nodes>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) configs: Vec<Config>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreatePartitions {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) assignments: Vec<Nodes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Resource {
    /// 1 topic, 2 broker, 3 cluster.
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(string, tag = "2")]
    pub(crate) topic: String,
    #[prost(int32, tag = "3")]
    pub(crate) node: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConfigChange {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// 1 set, 2 delete, 3 append, 4 subtract.
    #[prost(uint32, tag = "2")]
    pub(crate) op: u32,
    #[prost(string, tag = "3")]
    pub(crate) value: String,
    #[prost(string, tag = "4")]
    pub(crate) default: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AlterConfigs {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) changes: Vec<ConfigChange>,
    #[prost(bool, tag = "3")]
    pub(crate) replace: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Digest {
    #[prost(uint32, tag = "1")]
    pub(crate) algorithm: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Object {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(uint64, tag = "2")]
    pub(crate) length: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) digest: Option<Digest>,
}

/// A slice without its partition, which stands around it. Also the snapshot's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Slice {
    /// In a command: index into its table of objects. In a snapshot: the object's number.
    #[prost(uint64, tag = "1")]
    pub(crate) object: u64,
    #[prost(int32, tag = "2")]
    pub(crate) leader_epoch: i32,
    #[prost(int64, tag = "3")]
    pub(crate) first_offset: i64,
    /// Offsets covered: end − first.
    #[prost(uint64, tag = "4")]
    pub(crate) span: u64,
    #[prost(int64, tag = "5")]
    pub(crate) max_timestamp_ms: i64,
    #[prost(uint64, tag = "6")]
    pub(crate) bytes: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) index_position: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) index_length: u64,
    #[prost(message, optional, tag = "9")]
    pub(crate) index_digest: Option<Digest>,
    #[prost(bool, tag = "10")]
    pub(crate) checkpoint: bool,
}

/// Slices of one partition, in a row.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartitionSlices {
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<Partition>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) slices: Vec<Slice>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CommitUpload {
    #[prost(uint64, tag = "1")]
    pub(crate) broker_epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) wal: Id,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) claim: Option<u32>,
    #[prost(uint64, tag = "4")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) to: u64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) objects: Vec<Object>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) partitions: Vec<PartitionSlices>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReplaceSlices {
    #[prost(uint64, tag = "1")]
    pub(crate) broker_epoch: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) objects: Vec<Object>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) runs: Vec<ReplaceRun>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReplaceRun {
    #[prost(message, optional, tag = "1")]
    pub(crate) partition: Option<Partition>,
    #[prost(int32, tag = "2")]
    pub(crate) leader_epoch: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) old: Vec<OldSlice>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) new: Vec<Slice>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OldSlice {
    #[prost(int64, tag = "1")]
    pub(crate) first_offset: i64,
    #[prost(int64, tag = "2")]
    pub(crate) end_offset: i64,
    #[prost(string, tag = "3")]
    pub(crate) key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SetLogStart {
    #[prost(uint64, tag = "1")]
    pub(crate) broker: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<PartitionOffset>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Release {
    #[prost(uint64, tag = "1")]
    pub(crate) broker: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<PartitionOffset>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) to: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AllocateProducerIds {
    #[prost(uint64, tag = "1")]
    pub(crate) broker: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ForgetCondemned {
    #[prost(string, repeated, tag = "1")]
    pub(crate) keys: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RecordProbe {
    #[prost(string, tag = "1")]
    pub(crate) store_url: String,
    #[prost(int64, tag = "2")]
    pub(crate) at_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FinalizeFeature {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) level: u32,
}

/// An answer, done or refused.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(oneof = "AnswerKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 70")]
    pub(crate) kind: Option<AnswerKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum AnswerKind {
    #[prost(bool, tag = "1")]
    Done(bool),
    #[prost(message, tag = "2")]
    Refused(Refused),
    #[prost(uint64, tag = "3")]
    Registered(u64),
    #[prost(message, tag = "4")]
    Claimed(Claimed),
    #[prost(message, tag = "5")]
    Topic(Topic),
    #[prost(message, tag = "6")]
    Committed(Committed),
    #[prost(int64, tag = "7")]
    LogStart(i64),
    #[prost(message, tag = "8")]
    Released(Released),
    #[prost(message, tag = "9")]
    ProducerIds(ProducerIds),
    #[prost(message, tag = "70")]
    Many(Many),
}

/// One answer for each part of a command.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Many {
    #[prost(message, repeated, tag = "1")]
    pub(crate) answers: Vec<Answer>,
}

/// A refusal by number, with what its text is made of.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refused {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) partition: Option<Partition>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) wal: Id,
    #[prost(int64, tag = "6")]
    pub(crate) given: i64,
    #[prost(int64, tag = "7")]
    pub(crate) current: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Claimed {
    #[prost(uint32, tag = "1")]
    pub(crate) claim: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) backend: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) trim: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) partitions: Vec<PartitionOffset>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Topic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) partitions: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Committed {
    /// Per slice 1 committed, 2 dropped.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) outcomes: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Released {
    #[prost(int32, tag = "1")]
    pub(crate) leader_epoch: i32,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) broker: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProducerIds {
    #[prost(int64, tag = "1")]
    pub(crate) first: i64,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
}
