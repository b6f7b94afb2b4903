//! What of an image changed, as it travels. Field numbers are for ever.

use crate::command::wire::{Config, Id, Listener, Resource};
use crate::rpc::wire::Member;

/// The change from one image to a later one; from the empty one it is the whole.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Delta {
    #[prost(uint64, tag = "1")]
    pub(crate) applied: u64,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) cluster: Option<Id>,
    #[prost(uint32, tag = "3")]
    pub(crate) generation: u32,
    #[prost(int32, optional, tag = "4")]
    pub(crate) controller: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub(crate) brokers: Option<Brokers>,
    #[prost(message, optional, tag = "6")]
    pub(crate) wals: Option<Wals>,
    #[prost(message, optional, tag = "7")]
    pub(crate) unswept: Option<UnsweptWals>,
    #[prost(message, optional, tag = "8")]
    pub(crate) configs: Option<Configs>,
    #[prost(message, optional, tag = "9")]
    pub(crate) features: Option<Numbers>,
    #[prost(message, optional, tag = "10")]
    pub(crate) probes: Option<Numbers>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) topics: Vec<Topic>,
    /// Topics that are gone.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub(crate) removed: Vec<Id>,
    /// The voters, when they changed: not of the image, but of whom to ask.
    #[prost(message, optional, tag = "13")]
    pub(crate) members: Option<Members>,
    /// Nodes that an operator drains.
    #[prost(message, optional, tag = "14")]
    pub(crate) draining: Option<Nodes>,
    #[prost(bytes = "vec", optional, tag = "15")]
    pub(crate) home: Option<Id>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Members {
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Brokers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) brokers: Vec<Broker>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Broker {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(int32, tag = "2")]
    pub(crate) node: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) incarnation: Id,
    #[prost(message, repeated, tag = "4")]
    pub(crate) listeners: Vec<Listener>,
    #[prost(string, optional, tag = "5")]
    pub(crate) rack: Option<String>,
    #[prost(bool, tag = "6")]
    pub(crate) fenced: bool,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(crate) wal: Option<Id>,
    /// Nil for none.
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) directory: Id,
    #[prost(bool, tag = "9")]
    pub(crate) draining: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nodes {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) nodes: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wals {
    #[prost(message, repeated, tag = "1")]
    pub(crate) wals: Vec<Wal>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wal {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) broker: u64,
    #[prost(int32, tag = "3")]
    pub(crate) node: i32,
    #[prost(uint32, tag = "4")]
    pub(crate) backend: u32,
    /// 1 active, 2 fenced, 3 claimed, 4 closed, 5 abandoned.
    #[prost(uint32, tag = "5")]
    pub(crate) phase: u32,
    #[prost(uint64, tag = "6")]
    pub(crate) heir: u64,
    #[prost(uint32, tag = "7")]
    pub(crate) claim: u32,
    #[prost(uint64, tag = "8")]
    pub(crate) end: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) number: u64,
    #[prost(string, optional, tag = "10")]
    pub(crate) quarantine: Option<String>,
    #[prost(uint32, tag = "11")]
    pub(crate) yields: u32,
    #[prost(uint32, tag = "62")]
    pub(crate) deaths: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnsweptWals {
    #[prost(message, repeated, tag = "1")]
    pub(crate) wals: Vec<UnsweptWal>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnsweptWal {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Id,
    #[prost(int32, tag = "2")]
    pub(crate) node: i32,
    #[prost(uint64, tag = "3")]
    pub(crate) end: u64,
    #[prost(int64, tag = "4")]
    pub(crate) closed_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Configs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resources: Vec<ResourceConfigs>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceConfigs {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) configs: Vec<Config>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Numbers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) numbers: Vec<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "2")]
    pub(crate) number: i64,
}

/// A topic that is new or that changed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Topic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Id,
    /// When it is new or something of it changed; else what stood before stands.
    #[prost(message, optional, tag = "2")]
    pub(crate) head: Option<TopicHead>,
    /// How many partitions it has.
    #[prost(uint32, tag = "3")]
    pub(crate) count: u32,
    /// Those that are new or that changed.
    #[prost(message, repeated, tag = "4")]
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TopicHead {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bool, tag = "2")]
    pub(crate) internal: bool,
    #[prost(int64, tag = "3")]
    pub(crate) created_ms: i64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) configs: Vec<Config>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Partition {
    #[prost(uint32, tag = "1")]
    pub(crate) index: u32,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) broker: Option<u64>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) leader: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) home: Option<i32>,
    #[prost(sint32, tag = "5")]
    pub(crate) leader_epoch: i32,
    #[prost(int64, tag = "6")]
    pub(crate) log_start: i64,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(crate) awaits: Option<Id>,
    #[prost(int32, optional, tag = "8")]
    pub(crate) target: Option<i32>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) preferred: Option<i32>,
}
