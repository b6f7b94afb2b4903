//! Where a transactional id stands.
//!
//! ```text
//!            InitProducerId              partitions                 EndTxn
//!   (none) ───────────────▶ Empty ────────────────────▶ Ongoing ──────────────┐
//!                            ▲ ▲                         ▲ │ ▲ partitions     │
//!             InitProducerId │ │ expired                 │ │ └──┘             │
//!                            │ ▼                         │ │ InitProducerId,  │
//!                            │ Dead          partitions  │ │ timeout          ▼
//!                            │ ▲                         │ ▼           PrepareCommit
//!                            │ │ expired                 │ PrepareEpochFence  PrepareAbort
//!                            │ │                         │ └─────────────▶──────┘ │
//!                 CompleteCommit, CompleteAbort ─────────┘                        │
//!                            ▲                                  markers written   │
//!                            └────────────────────────────────────────────────────┘
//! ```
//!
//! Dead and PrepareEpochFence are never written: an id expires by a tombstone, and an epoch that
//! is fenced goes into the log with PrepareAbort.

/// Where a transactional id stands. Numbers and names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum TransactionState {
    /// A producer id was given out, and no transaction begun.
    Empty = 0,
    /// Partitions were added.
    Ongoing = 1,
    /// Decided to commit; markers are being written.
    PrepareCommit = 2,
    /// Decided to abort; markers are being written.
    PrepareAbort = 3,
    /// Committed, and every partition has its marker.
    CompleteCommit = 4,
    /// Aborted, and every partition has its marker.
    CompleteAbort = 5,
    /// Expired; its tombstone is being written.
    Dead = 6,
    /// A newer producer, or the timeout, is about to abort the transaction under a higher epoch.
    PrepareEpochFence = 7,
}

impl TransactionState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// The number in `__transaction_state`.
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The state with this number.
    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// The name in DescribeTransactions and ListTransactions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether an id that rests in this state may expire.
    pub const fn may_expire(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort
        )
    }

    /// Whether an id may go from `before` to here. PrepareAbort follows the states between
    /// transactions, too: a client with an epoch for each transaction may abort one of which the
    /// coordinator has not heard (KIP-890), and gets a new epoch.
    pub const fn may_follow(self, before: Self) -> bool {
        let between = before.may_expire();
        match self {
            Self::Empty | Self::Dead => between,
            Self::Ongoing | Self::PrepareAbort => between || matches!(before, Self::Ongoing),
            Self::PrepareCommit | Self::PrepareEpochFence => matches!(before, Self::Ongoing),
            Self::CompleteCommit => matches!(before, Self::PrepareCommit),
            Self::CompleteAbort => matches!(before, Self::PrepareAbort),
        }
    }

    /// Whether the state is ever written to the log.
    pub const fn is_recorded(self) -> bool {
        !matches!(self, Self::Dead | Self::PrepareEpochFence)
    }

    /// Whether the outcome is decided and markers are being written.
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_told_apart() {
        for (number, state) in TransactionState::ALL.into_iter().enumerate() {
            assert_eq!(state.id(), i8::try_from(number).unwrap());
            assert_eq!(TransactionState::from_id(state.id()), Some(state));
            assert_eq!(TransactionState::from_name(state.name()), Some(state));
        }
        assert_eq!(TransactionState::from_id(8), None);
        assert_eq!(TransactionState::from_id(-1), None);
        assert_eq!(TransactionState::from_name("empty"), None);
    }
}
