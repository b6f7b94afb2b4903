//! The cluster's memory: brokers, logs, topics, slices and objects, replicated by Raft.
//!
//! ```text
//!   Command ──▶ Client ──▶ Proposal (prost) ──▶ raft log (one sync per batch) ──▶ State::apply
//!                 ▲                                                                 │
//!                 └──── Response, Image (watch, swapped whole) ◀────────────────────┤
//!                                      snapshots on disk, checkpoints in the bucket ┤
//!   Observer: a Client where no voter is ◀── changes of the image, from any voter ──┘
//! ```
//!
//! **Invariants.** `apply` is pure: the same log gives the same state anywhere. A refused command
//! changes nothing. A command is done once, however often it comes. A log's trim point moves only
//! by a committed round (R4), whole or not at all (R6); no partition opens before the log that may
//! hold its data is closed (R13). Nothing of openraft's is stored or sent.

mod balance;
mod checkpoint;
mod client;
mod command;
mod duties;
mod error;
mod identify;
mod identity;
mod image;
mod lease;
mod level;
pub mod limits;
mod observer;
mod placement;
mod quorum;
mod raft;
mod rpc;
mod server;
mod state;
mod tether;
mod types;

pub use balance::{BalanceMove, Balancer, BalancerSettings};
pub use checkpoint::{
    CheckpointKeeper, CheckpointReport, verify_checkpoint, verify_newest_checkpoint,
};
pub use client::{Client, LeaseKeeper};
pub use command::{
    Claimed, ClaimedPartition, Command, CommitUpload, ConfigOp, ConfigResource, CreateTopic,
    HighWatermark, Listener, Load, MoveCommand, OldSlice, RegisterBroker, Release, ReplaceRun,
    ReplaceSlices, Response, Target, WalBackend,
};
pub use error::{Error, ErrorKind, Refusal};
pub use identify::{VoterIdentity, identify};
pub use image::{BrokerImage, ConfigMap, Image, PartitionImage, TopicImage, UnsweptWal, WalImage};
pub use lease::{Lease, LeaseState, Marks};
pub use level::{NEWEST_LEVEL, OLDEST_LEVEL, VERSION_FEATURE};
pub use observer::{Observer, ObserverSettings};
pub use quorum::{Quorum, QuorumMember};
pub use rpc::tls::{Tls, TlsFiles};
pub use server::{Controller, ControllerSettings};
pub use state::{Condemned, PartitionState, State, WalPhase, check_topic_name};
pub use types::{Claim, ClusterId, CommandId, Digest, ObjectRef, SliceOutcome, SliceRef};
