//! The coordinator of transactions (KIP-98, KIP-360, KIP-447, KIP-588, KIP-664, KIP-890).
//!
//! ```text
//!                       ┌──────────────── Coordinator ────────────────┐
//!  InitProducerId ─────▶│ init ─┐                                     │
//!  AddPartitions  ─────▶│ add ──┤  propose       appended             │
//!  EndTxn         ─────▶│ end ──┼─────────▶ log ─────────▶ current ───┼─▶ Answer
//!  time           ─────▶│ tick ─┘   one per id at a time     │        │
//!                       │                                    ▼        │
//!                       │       completed ◀─ markers ◀─ decided ──────┼─▶ MarkerBatch per broker
//!                       │                                             │
//!  records of the log ─▶│ load, open: what was decided is completed   │
//!                       └─────────────────────────────────────────────┘
//! ```
//!
//! One [`Coordinator`] has the ids of one partition of `__transaction_state`, for one leader epoch.
//! A partition that is not led here has none: the answer is NOT_COORDINATOR.
//!
//! **Invariants:**
//! - What the machine knows is what the log says; a transition is on its way or done, and only a
//!   record that is durable is acted upon. The fold of the log is the machine.
//! - An id has one transition at a time. Meanwhile everybody else is told
//!   CONCURRENT_TRANSACTIONS.
//! - A decision is written before its first marker, and no other follows before every partition
//!   has its marker: nothing is both committed and aborted, and nothing in part.
//! - The epoch of a producer id never goes down, and no two producers get the same one: what was
//!   given out was in the log first.

mod add;
mod coordinator;
mod describe;
mod effect;
mod end;
mod errors;
mod init;
pub mod limits;
mod load;
mod markers;
mod marking;
mod metadata;
mod producer_ids;
mod record;
mod settings;
mod state;
mod timers;
mod types;

pub use add::AddPartitions;
pub use coordinator::{Coordinator, World};
pub use describe::{ListFilter, Listed};
pub use effect::{
    Answer, AppendId, Appended, BatchId, ConnectionId, Effect, Leader, Marker, MarkerBatch,
    Refusal, RequestId,
};
pub use end::EndTxn;
pub use errors::{TransactionApi, Verification};
pub use init::InitProducerId;
pub use markers::MarkerResults;
pub use metadata::Metadata;
pub use producer_ids::ProducerIds;
pub use record::RecordKey;
pub use settings::Settings;
pub use state::TransactionState;
pub use types::{Decision, Partition, Producer, TransactionVersion, partition_for};

#[cfg(test)]
mod tests;
