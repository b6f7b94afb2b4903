//! Words that requests, records and effects share.

use std::fmt;
use std::sync::Arc;

use protocol::{ProducerEpoch, ProducerId};

use super::limits::EXHAUSTED_EPOCH;

/// A partition by its topic's name, as `__transaction_state` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic.
    pub topic: Arc<str>,
    /// Index of the partition, from 0.
    pub index: i32,
}

impl Partition {
    /// Partition `index` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, index: i32) -> Self {
        let topic = topic.into();
        Self { topic, index }
    }

    /// The partition of `__consumer_offsets` that holds the offsets of `group`, which
    /// AddOffsetsToTxn adds. `partitions` is how many that topic has.
    pub fn of_offsets(group: &str, partitions: i32) -> Self {
        Self::new("__consumer_offsets", partition_for(group, partitions))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// The partition, of as many as the coordinators' topic has, that an id belongs to: Java's hash
/// of the string without its sign.
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's `abs` of the one number that has none is 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// A producer id and the epoch under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// The producer id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// Producer `id` at `epoch`.
    pub fn new(id: i64, epoch: i16) -> Self {
        Self {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
        }
    }

    /// Whether no client may get a higher epoch under this id.
    pub const fn is_exhausted(self) -> bool {
        self.epoch.0 >= EXHAUSTED_EPOCH
    }

    /// The same id at the next epoch. The last epoch there is has none, and stays: only fencing
    /// reaches it, and the id is given up afterwards.
    pub const fn bumped(self) -> Self {
        Self {
            id: self.id,
            epoch: ProducerEpoch(self.epoch.0.saturating_add(1)),
        }
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.epoch)
    }
}

/// Levels of the feature `transaction.version`, which also tell how a client behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum TransactionVersion {
    /// Before KIP-890.
    #[default]
    Tv0 = 0,
    /// Records may have tagged fields.
    Tv1 = 1,
    /// Each transaction has an epoch of its own (KIP-890, part 2).
    Tv2 = 2,
}

impl TransactionVersion {
    /// The number of the level.
    pub const fn level(self) -> i16 {
        self as i16
    }

    /// The level of this number.
    pub const fn from_level(level: i16) -> Option<Self> {
        match level {
            0 => Some(Self::Tv0),
            1 => Some(Self::Tv1),
            2 => Some(Self::Tv2),
            _ => None,
        }
    }

    /// Whether the end of each transaction raises the epoch.
    pub const fn bumps_epochs(self) -> bool {
        matches!(self, Self::Tv2)
    }

    /// Version of the records in `__transaction_state` at this level.
    pub const fn record_version(self) -> i16 {
        match self {
            Self::Tv0 => 0,
            Self::Tv1 | Self::Tv2 => 1,
        }
    }

    /// What the client of an AddPartitionsToTxn request does: from version 4 on it is a broker
    /// that adds what a TV2 client produces to.
    pub const fn of_add_partitions(api_version: i16) -> Self {
        if api_version >= 4 {
            Self::Tv2
        } else {
            Self::Tv0
        }
    }

    /// What the client of an EndTxn request does.
    pub const fn of_end_txn(api_version: i16) -> Self {
        if api_version >= 5 {
            Self::Tv2
        } else {
            Self::Tv0
        }
    }
}

/// How a transaction is to end, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Its records are to be skipped by readers of committed data.
    Abort,
    /// Its records are valid.
    Commit,
}

impl From<Decision> for protocol::TransactionResult {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Abort => Self::Abort,
            Decision::Commit => Self::Commit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hashed_as_java_does() {
        // "abc".hashCode() is 96354; the second one's is Integer.MIN_VALUE.
        assert_eq!(partition_for("abc", 50), 96_354 % 50);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("", 50), 0);
        // One character beyond the basic plane is two units: 31 * 0xd83d + 0xde00.
        assert_eq!(partition_for("😀", 1_000), (31 * 0xd83d + 0xde00) % 1_000);
    }

    #[test]
    fn the_last_epoch_has_no_next_one() {
        assert_eq!(Producer::new(1, 5).bumped(), Producer::new(1, 6));
        assert!(!Producer::new(1, i16::MAX - 2).is_exhausted());
        assert!(Producer::new(1, i16::MAX - 1).is_exhausted());
        assert_eq!(
            Producer::new(1, i16::MAX).bumped(),
            Producer::new(1, i16::MAX)
        );
    }

    #[test]
    fn versions_of_requests_tell_how_clients_behave() {
        assert_eq!(TransactionVersion::of_end_txn(4), TransactionVersion::Tv0);
        assert_eq!(TransactionVersion::of_end_txn(5), TransactionVersion::Tv2);
        assert_eq!(
            TransactionVersion::of_add_partitions(3),
            TransactionVersion::Tv0
        );
        assert_eq!(
            TransactionVersion::of_add_partitions(4),
            TransactionVersion::Tv2
        );
        for level in 0..=2 {
            assert_eq!(
                TransactionVersion::from_level(level).unwrap().level(),
                level
            );
        }
        assert_eq!(TransactionVersion::from_level(3), None);
    }
}
