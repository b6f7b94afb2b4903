//! Newtypes for the ids and epochs that travel between crates.
//!
//! Offsets, timestamps and byte counts stay plain integers: they are added and compared on every
//! hot path, and their names carry the unit.

use std::fmt;

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    };
}

id! {
    /// A topic's id (KIP-516): a deleted and re-created topic gets a new one.
    TopicId(Uuid)
}
id! {
    /// Kafka's leader epoch of one partition; raised at every change of owner.
    LeaderEpoch(i32)
}
id! {
    /// Kafka's `node.id`.
    NodeId(i32)
}
id! {
    /// Number the controller gives a broker at each registration; the token of every commit.
    BrokerEpoch(u64)
}
id! {
    /// Kafka's producer id.
    ProducerId(i64)
}
id! {
    /// Kafka's producer epoch.
    ProducerEpoch(i16)
}

/// One partition of one topic, by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// Index of the partition within the topic, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: TopicId, partition: i32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
