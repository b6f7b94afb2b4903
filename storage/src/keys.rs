//! Where objects lie.
//!
//! ```text
//!   {prefix}/{cluster id}/{generation:08}/data/{two hash characters}/{node}-{epoch}-{nonce}
//!                                        /wal/{node}/{wal id}/{sequence:020}
//!                                        /meta/…
//! ```
//!
//! **Invariant (R2):** every key carries its writer's nonce (the random WAL id is the nonce there),
//! so that no two writers ever mean the same object.

use protocol::{BrokerEpoch, NodeId};
use uuid::Uuid;
use wal::{Sequence, WalId};

/// The keys of one cluster generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    root: String,
}

/// What a data key says of its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Who wrote it.
    pub node: NodeId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
    /// Under which nonce.
    pub nonce: Uuid,
}

impl KeySpace {
    /// Keys under `prefix` (may be empty) of `cluster_id` in its `generation`.
    pub fn new(prefix: &str, cluster_id: &str, generation: u32) -> Self {
        let prefix = prefix.trim_matches('/');
        let separator = if prefix.is_empty() { "" } else { "/" };
        Self {
            root: format!("{prefix}{separator}{cluster_id}/{generation:08}"),
        }
    }

    /// What all keys start with, without a slash at the end.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The prefix of one of the 256 parts that data keys are spread over, without a slash at the
    /// end.
    pub fn data_part(&self, part: u8) -> String {
        format!("{}/data/{part:02x}", self.root)
    }

    /// Key of a new data object. The hash characters spread keys over a store's partitions.
    pub fn data(&self, node: NodeId, broker_epoch: BrokerEpoch, nonce: Uuid) -> String {
        let name = format!("{node}-{broker_epoch}-{}", nonce.as_simple());
        format!("{}/data/{}/{name}", self.root, hash_characters(&name))
    }

    /// Reads a data key back; `None` when it is not one of this key space.
    pub fn parse_data(&self, key: &str) -> Option<DataKey> {
        let rest = key.strip_prefix(&self.root)?.strip_prefix("/data/")?;
        let (hash, name) = rest.split_once('/')?;
        if hash != hash_characters(name) {
            return None;
        }
        let mut parts = name.splitn(3, '-');
        let parsed = DataKey {
            node: NodeId(parts.next()?.parse().ok()?),
            broker_epoch: BrokerEpoch(parts.next()?.parse().ok()?),
            nonce: Uuid::try_parse(parts.next()?).ok()?,
        };
        // Only the one spelling that we write.
        (self.data(parsed.node, parsed.broker_epoch, parsed.nonce) == key).then_some(parsed)
    }

    /// True for a data key of this cluster, of this or another generation: after a rebuild, objects
    /// of earlier generations are still named.
    pub fn is_data(&self, key: &str) -> bool {
        self.of_generation(key)
            .is_some_and(|keys| keys.parse_data(key).is_some())
    }

    /// True for a metadata checkpoint of this cluster, of this or another generation:
    /// `…/meta/checkpoint-{20 digits}-{32 hex digits}`.
    pub fn is_checkpoint(&self, key: &str) -> bool {
        let name = self.of_generation(key).and_then(|keys| {
            let name = key.strip_prefix(&keys.root)?;
            name.strip_prefix("/meta/checkpoint-")?.split_once('-')
        });
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        name.is_some_and(|(index, nonce)| {
            index.len() == 20
                && index.bytes().all(|byte| byte.is_ascii_digit())
                && nonce.len() == 32
                && nonce.bytes().all(is_hex)
        })
    }

    /// The keys of the generation of this cluster that `key` names, if it does.
    fn of_generation(&self, key: &str) -> Option<Self> {
        let (cluster, _) = self.root.rsplit_once('/')?;
        let rest = key.strip_prefix(cluster)?.strip_prefix('/')?;
        let (generation, _) = rest.split_once('/')?;
        let spelled = generation.len() == 8 && generation.bytes().all(|b| b.is_ascii_digit());
        spelled.then(|| Self {
            root: format!("{cluster}/{generation}"),
        })
    }

    /// The prefix of a log's groups, without a slash at the end.
    pub fn wal_prefix(&self, node: NodeId, wal_id: WalId) -> String {
        format!("{}/wal/{node}/{wal_id}", self.root)
    }

    /// Key of one group of a log, or of the seal at its place.
    pub fn wal(&self, node: NodeId, wal_id: WalId, sequence: Sequence) -> String {
        format!("{}/{sequence:020}", self.wal_prefix(node, wal_id))
    }

    /// Key of something about the cluster, such as a checkpoint of its metadata. `name` carries
    /// the writer's nonce.
    pub fn meta(&self, name: &str) -> String {
        format!("{}/meta/{name}", self.root)
    }
}

fn hash_characters(name: &str) -> String {
    format!("{:02x}", crc32fast::hash(name.as_bytes()) & 0xff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_spelled_as_documented() {
        let keys = KeySpace::new("/lake/one/", "abc", 1);
        let wal_id = WalId(Uuid::from_u128(0x0102));
        assert_eq!(
            keys.wal(NodeId(3), wal_id, 42),
            "lake/one/abc/00000001/wal/3/00000000-0000-0000-0000-000000000102/00000000000000000042"
        );
        let data = keys.data(NodeId(3), BrokerEpoch(7), Uuid::from_u128(0xff));
        assert_eq!(
            data,
            "lake/one/abc/00000001/data/bd/3-7-000000000000000000000000000000ff"
        );
        assert_eq!(KeySpace::new("", "abc", 1).meta("x"), "abc/00000001/meta/x");
    }

    #[test]
    fn data_of_earlier_generations_is_data_and_nothing_else_is() {
        let keys = KeySpace::new("p/00000001", "abc", 2);
        let earlier = KeySpace::new("p/00000001", "abc", 1);
        let key = earlier.data(NodeId(3), BrokerEpoch(7), Uuid::from_u128(0xff));
        assert!(keys.is_data(&key));
        let wal_id = WalId(Uuid::from_u128(1));
        for wrong in [
            keys.wal(NodeId(3), wal_id, 1),
            keys.meta("data/x"),
            key.replace("abc", "abd"),
            key.replace("00000001/data", "0000001/data"),
            KeySpace::new("p", "abc", 2).data(NodeId(3), BrokerEpoch(7), Uuid::nil()),
            String::new(),
        ] {
            assert!(!keys.is_data(&wrong), "{wrong}");
        }
    }

    #[test]
    fn checkpoints_are_known_by_their_whole_name() {
        let keys = KeySpace::new("p", "abc", 2);
        let name = format!("checkpoint-{:020}-{}", 7, Uuid::from_u128(0xab).as_simple());
        let key = keys.meta(&name);
        assert!(keys.is_checkpoint(&key) && !keys.is_data(&key));
        assert!(KeySpace::new("p", "abc", 1).is_checkpoint(&key));
        for wrong in [
            key.replace("abc", "abd"),
            key.replace("/meta/", "/data/"),
            key.replace("-0000", "-000"),
            format!("{key}0"),
            key.to_uppercase(),
            keys.meta("checkpoint"),
            keys.meta(&format!("x/{name}")),
        ] {
            assert!(!keys.is_checkpoint(&wrong), "{wrong}");
        }
    }

    #[test]
    fn other_keys_are_not_taken_for_data() {
        let keys = KeySpace::new("", "abc", 1);
        let key = keys.data(NodeId(3), BrokerEpoch(7), Uuid::from_u128(0xff));
        assert!(keys.parse_data(&key).is_some());
        for wrong in [
            key.replace("/data/", "/wal/"),
            key.replace("00000001", "00000002"),
            key.replace("3-7-", "+3-7-"),
            key.replace("3-7-", "3-8-"),
            format!("{key}0"),
            format!("x/{key}"),
            keys.meta("x"),
        ] {
            assert_eq!(keys.parse_data(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn data_keys_read_back(
            node in 0..i32::MAX,
            epoch: u64,
            nonce: u128,
            prefix in "[a-z/]{0,9}",
        ) {
            let keys = KeySpace::new(&prefix, "c", 9);
            let expected = DataKey {
                node: NodeId(node),
                broker_epoch: BrokerEpoch(epoch),
                nonce: Uuid::from_u128(nonce),
            };
            let key = keys.data(expected.node, expected.broker_epoch, expected.nonce);
            prop_assert_eq!(keys.parse_data(&key), Some(expected));
        }
    }
}
