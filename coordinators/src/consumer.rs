//! The consumer group of KIP-848: the coordinator decides who has what, and members follow.
//!
//! ```text
//!  subscriptions, topics ─▶ group epoch ─▶ target epoch: an assignor's targets ─▶ member epochs
//!                                                                                    │
//!   heartbeat ─▶ validated ─▶ records (applied here, to be written) ─▶ answer ◀──────┘
//!                                 │
//!   opening:  records of the log ─┴▶ fold ─▶ the same group
//! ```
//!
//! Every change is a [`Record`] that is applied at once and given out to be written, and the
//! answer may be sent when it is durable. A record that could not be written ends the machine:
//! whoever drives it folds the log anew.
//!
//! **Invariants:** a partition has one owner at a time, from when a member is told to take it
//! until it said that it gave it up, left, or was fenced. The group's epoch, the targets' epoch
//! and each member's epoch never go back, and none is above the one before it.

mod assignment;
pub mod assignors;
mod classic;
mod commits;
mod describe;
mod embedded;
mod group;
mod heartbeat;
mod limits;
mod member;
mod migrate;
mod pattern;
mod reconcile;
mod record;
mod regexes;
mod request;
mod target;
mod timers;

use std::sync::Arc;

pub use assignment::Assignment;
pub use classic::{CONSUMER_PROTOCOL_TYPE, ClassicJoin, ClassicJoined, ClassicSender};
pub use commits::{CommitCheck, FetchCheck};
pub use describe::{DescribedGroup, DescribedMember};
pub use group::{ConsumerGroup, GroupConfig, GroupState};
pub use limits::*;
pub use member::{
    ClassicMember, CurrentAssignment, JOIN_EPOCH, LEAVE_EPOCH, Member, MemberMetadata, MemberState,
    STATIC_LEAVE_EPOCH,
};
pub use migrate::{ClassicGroup, ClassicGroupMember, MigrationPolicy};
pub use pattern::{InvalidPattern, Pattern};
pub use record::{GroupMetadata, Record, ResolvedRegex, TopicMetadata};
pub use request::{Heartbeat, HeartbeatAnswer, Outcome, Refusal};
pub use target::{Topic, Topics};

/// A name of a group, member, topic or client.
pub type Name = Arc<str>;

#[cfg(test)]
mod tests;
