//! The whole state as stored: prost messages of ours. Field numbers are for ever.

use crate::command::wire::{Config, Digest, Id, RegisterBroker, Resource, Slice};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct State {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) applied: u64,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) cluster: Option<Id>,
    #[prost(uint32, tag = "4")]
    pub(crate) generation: u32,
    #[prost(message, repeated, tag = "5")]
    pub(crate) features: Vec<Number>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) brokers: Vec<Broker>,
    #[prost(uint64, tag = "7")]
    pub(crate) last_broker_epoch: u64,
    #[prost(message, repeated, tag = "8")]
    pub(crate) wals: Vec<Wal>,
    #[prost(uint64, tag = "9")]
    pub(crate) wals_closed: u64,
    #[prost(message, repeated, tag = "10")]
    pub(crate) topics: Vec<Topic>,
    #[prost(uint64, tag = "11")]
    pub(crate) last_object: u64,
    #[prost(message, repeated, tag = "12")]
    pub(crate) objects: Vec<Object>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) condemned: Vec<Number>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) configs: Vec<ResourceConfigs>,
    #[prost(int64, tag = "15")]
    pub(crate) next_producer_id: i64,
    #[prost(message, repeated, tag = "16")]
    pub(crate) probes: Vec<Number>,
    #[prost(message, repeated, tag = "17")]
    pub(crate) recent: Vec<Recent>,
    #[prost(string, repeated, tag = "18")]
    pub(crate) checkpoints: Vec<String>,
    #[prost(bytes = "vec", optional, tag = "60")]
    pub(crate) home: Option<Id>,
    #[prost(int32, repeated, tag = "70")]
    pub(crate) draining: Vec<i32>,
}

/// A name with a number: a feature's level, a probe's or a condemnation's time.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "2")]
    pub(crate) number: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Broker {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) register: Option<RegisterBroker>,
    #[prost(int64, tag = "3")]
    pub(crate) registered_ms: i64,
    #[prost(bool, tag = "4")]
    pub(crate) fenced: bool,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) wal: Option<Id>,
    #[prost(bool, tag = "70")]
    pub(crate) leaving: bool,
    #[prost(message, repeated, tag = "71")]
    pub(crate) loads: Vec<crate::command::moves_wire::Load>,
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
    #[prost(uint64, tag = "10")]
    pub(crate) trim: u64,
    #[prost(uint32, tag = "11")]
    pub(crate) claims: u32,
    #[prost(bytes = "vec", optional, tag = "12")]
    pub(crate) last_commit: Option<Id>,
    #[prost(bytes = "vec", tag = "13")]
    pub(crate) last_outcomes: Vec<u8>,
    #[prost(string, optional, tag = "14")]
    pub(crate) quarantine: Option<String>,
    #[prost(int64, tag = "15")]
    pub(crate) closed_ms: i64,
    #[prost(bool, tag = "16")]
    pub(crate) swept: bool,
    #[prost(uint32, tag = "60")]
    pub(crate) yields: u32,
    #[prost(int32, repeated, tag = "62")]
    pub(crate) deaths: Vec<i32>,
    /// Of which epoch each of them was.
    #[prost(uint64, repeated, tag = "121")]
    pub(crate) death_epochs: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Topic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Id,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bool, tag = "3")]
    pub(crate) internal: bool,
    #[prost(int64, tag = "4")]
    pub(crate) created_ms: i64,
    #[prost(message, repeated, tag = "5")]
    pub(crate) configs: Vec<Config>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Partition {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) leader: Option<u64>,
    #[prost(int32, tag = "2")]
    pub(crate) leader_epoch: i32,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) awaits: Option<Id>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) preferred: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) last_node: Option<i32>,
    #[prost(int64, tag = "6")]
    pub(crate) log_start: i64,
    #[prost(int64, tag = "7")]
    pub(crate) committed_end: i64,
    #[prost(int64, tag = "8")]
    pub(crate) reported: i64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) epochs: Vec<Epoch>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) slices: Vec<Slice>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) gaps: Vec<Gap>,
    #[prost(int32, optional, tag = "70")]
    pub(crate) target: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Epoch {
    #[prost(int32, tag = "1")]
    pub(crate) epoch: i32,
    #[prost(int64, tag = "2")]
    pub(crate) start: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Gap {
    #[prost(int64, tag = "1")]
    pub(crate) from: i64,
    #[prost(int64, tag = "2")]
    pub(crate) to: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Object {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(uint64, tag = "3")]
    pub(crate) length: u64,
    #[prost(message, optional, tag = "4")]
    pub(crate) digest: Option<Digest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceConfigs {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) configs: Vec<Config>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Recent {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Id,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) answer: Vec<u8>,
}
