//! Golden bytes: what Kafka 4.3.1's own generated classes write for the same values.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

const OFFSET_KEYS: [&str; 2] = [
    "000000076772c3bc7070650007746f7069632d6100000007",
    "000100076772c3bc7070650007746f7069632d6100000007",
];
const GROUP_KEY: &str = "000200076772c3bc707065";
const OFFSET_VALUES: [&str; 5] = [
    "00000000011f71fb04cb00056dc3a974610000018bcfe56800",
    "00010000011f71fb04cb00056dc3a974610000018bcfe568000000018bcfe65260",
    "00020000011f71fb04cb00056dc3a974610000018bcfe56800",
    "00030000011f71fb04cb0000002a00056dc3a974610000018bcfe56800",
    "00040000011f71fb04cb0000002a066dc3a974610000018bcfe5680000",
];
const GROUP_VALUES: [&str; 5] = [
    "00000008636f6e73756d657200000009000572616e676500036d2d310000000200036d2d3100026331000a2f313237\
     2e302e302e310000afc80000000301020300000002040500036d2d3200026332000a2f3132372e302e302e32000027\
     10000000000000000106",
    "00010008636f6e73756d657200000009000572616e676500036d2d310000000200036d2d3100026331000a2f313237\
     2e302e302e31000493e00000afc80000000301020300000002040500036d2d3200026332000a2f3132372e302e302e\
     320000ea6000002710000000000000000106",
    "00020008636f6e73756d657200000009000572616e676500036d2d310000018bcfe568000000000200036d2d310002\
     6331000a2f3132372e302e302e31000493e00000afc80000000301020300000002040500036d2d3200026332000a2f\
     3132372e302e302e320000ea6000002710000000000000000106",
    "00030008636f6e73756d657200000009000572616e676500036d2d310000018bcfe568000000000200036d2d310004\
     696e737400026331000a2f3132372e302e302e31000493e00000afc80000000301020300000002040500036d2d32ff\
     ff00026332000a2f3132372e302e302e320000ea6000002710000000000000000106",
    "000409636f6e73756d6572000000090672616e6765046d2d310000018bcfe5680003046d2d3105696e73740363310b\
     2f3132372e302e302e31000493e00000afc80401020303040500046d2d32000363320b2f3132372e302e302e320000\
     ea60000027100102060000",
];
const EMPTY_GROUP_VALUE: &str = "00030008636f6e73756d657200000003ffffffffffffffffffffffff00000000";

fn offset_key() -> OffsetKey {
    OffsetKey {
        group: "grüppe".into(),
        topic: "topic-a".into(),
        partition: 7,
    }
}

fn offset_value(version: usize) -> OffsetValue {
    OffsetValue {
        offset: 1_234_567_890_123,
        leader_epoch: if version >= 3 { 42 } else { -1 },
        metadata: "méta".into(),
        commit_ms: 1_700_000_000_000,
        expire_ms: (version == 1).then_some(1_700_000_060_000),
    }
}

fn group_value(version: usize) -> GroupMetadataValue {
    let member =
        |n: u8, instance: Option<&str>, rebalance, session, sub: &[u8], asg: &[u8]| MemberValue {
            member_id: format!("m-{n}").into(),
            instance_id: instance.filter(|_| version >= 3).map(Name::from),
            client_id: format!("c{n}").into(),
            client_host: format!("/127.0.0.{n}").into(),
            rebalance_timeout_ms: if version >= 1 { rebalance } else { session },
            session_timeout_ms: session,
            subscription: Bytes::copy_from_slice(sub),
            assignment: Bytes::copy_from_slice(asg),
        };
    GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 9,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        state_since_ms: if version >= 2 { 1_700_000_000_000 } else { -1 },
        members: vec![
            member(1, Some("inst"), 300_000, 45_000, &[1, 2, 3], &[4, 5]),
            member(2, None, 60_000, 10_000, &[], &[6]),
        ],
    }
}

#[test]
fn keys_are_kafkas_bytes() {
    for golden in OFFSET_KEYS {
        assert_eq!(
            RecordKey::decode(&hex(golden)),
            Ok(RecordKey::Offset(offset_key()))
        );
    }
    assert_eq!(offset_key().encode(), hex(OFFSET_KEYS[1]));
    let key = GroupKey {
        group: "grüppe".into(),
    };
    assert_eq!(key.encode(), hex(GROUP_KEY));
    assert_eq!(
        RecordKey::decode(&hex(GROUP_KEY)),
        Ok(RecordKey::Group(key))
    );
}

#[test]
fn every_version_of_the_values_is_read_and_kafkas_is_written() {
    for (version, golden) in OFFSET_VALUES.iter().enumerate() {
        assert_eq!(
            OffsetValue::decode(&hex(golden)),
            Ok(offset_value(version)),
            "v{version}"
        );
    }
    assert_eq!(offset_value(3).encode(), hex(OFFSET_VALUES[3]));
    assert_eq!(offset_value(1).encode(), hex(OFFSET_VALUES[1]));
    for (version, golden) in GROUP_VALUES.iter().enumerate() {
        assert_eq!(
            GroupMetadataValue::decode(&hex(golden)),
            Ok(group_value(version))
        );
    }
    assert_eq!(group_value(3).encode(), hex(GROUP_VALUES[3]));
    let empty = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: None,
        leader: None,
        state_since_ms: -1,
        members: Vec::new(),
    };
    assert_eq!(empty.encode(), hex(EMPTY_GROUP_VALUE));
    assert_eq!(
        GroupMetadataValue::decode(&hex(EMPTY_GROUP_VALUE)),
        Ok(empty)
    );
}

#[test]
fn a_cut_record_is_refused_wherever_it_ends() {
    for golden in OFFSET_KEYS.iter().chain([&GROUP_KEY]) {
        let bytes = hex(golden);
        for end in 0..bytes.len() {
            assert!(
                RecordKey::decode(&bytes[..end]).is_err(),
                "{golden} cut at {end}"
            );
        }
    }
    for golden in OFFSET_VALUES {
        let bytes = hex(golden);
        for end in 0..bytes.len() {
            assert!(
                OffsetValue::decode(&bytes[..end]).is_err(),
                "{golden} cut at {end}"
            );
        }
    }
    for golden in GROUP_VALUES {
        let bytes = hex(golden);
        for end in 0..bytes.len() {
            assert!(
                GroupMetadataValue::decode(&bytes[..end]).is_err(),
                "cut at {end}"
            );
        }
    }
}

#[test]
fn hostile_lengths_and_versions_are_refused_by_name() {
    let too_many = hex("00030008636f6e73756d657200000003ffffffffffffffffffffffff7fffffff");
    assert_eq!(
        GroupMetadataValue::decode(&too_many),
        Err(RecordError::Length {
            field: "members",
            length: i32::MAX.into()
        })
    );
    let negative = hex("0002ffff");
    assert_eq!(
        RecordKey::decode(&negative),
        Err(RecordError::Length {
            field: "group",
            length: -1
        })
    );
    assert_eq!(
        OffsetValue::decode(&hex("0005")),
        Err(RecordError::Version {
            record: "OffsetCommitValue",
            version: 5
        })
    );
    assert_eq!(
        RecordKey::decode(&hex("ffff")),
        Err(RecordError::Version {
            record: "key",
            version: -1
        })
    );
    assert_eq!(
        RecordKey::decode(&hex("0003")),
        Ok(RecordKey::Other { version: 3 })
    );
    assert_eq!(
        RecordKey::decode(&hex("00020002ff00")),
        Err(RecordError::NotUtf8 { field: "group" })
    );
}

#[test]
fn a_string_too_long_for_the_format_is_cut_between_characters() {
    let group = Name::from("ü".repeat(20_000));
    let Ok(RecordKey::Group(read)) = RecordKey::decode(&GroupKey { group }.encode()) else {
        panic!("a key that was written can be read")
    };
    assert_eq!(read.group.len(), 32_766);
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..5_usize) {
        // The outcome is free; that there is one is the property.
        let _ = RecordKey::decode(&bytes).is_ok();
        let _ = OffsetValue::decode(&bytes).is_ok();
        let _ = GroupMetadataValue::decode(&bytes).is_ok();
        let mut golden = hex(GROUP_VALUES[at]);
        for (i, byte) in bytes.iter().take(8).enumerate() {
            let len = golden.len();
            golden[(*byte as usize * 31 + i) % len] ^= byte;
        }
        let _ = GroupMetadataValue::decode(&golden).is_ok();
    }

    #[test]
    fn values_round_trip(
        offset in any::<i64>(), leader_epoch in any::<i32>(), metadata in ".{0,40}",
        commit_ms in any::<i64>(), group in ".{0,20}", topic in ".{0,20}", partition in any::<i32>(),
        blobs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), ".{0,9}"), 0..5),
    ) {
        let value = OffsetValue { offset, leader_epoch, metadata: metadata.into(), commit_ms, expire_ms: None };
        prop_assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
        let key = OffsetKey { group: group.into(), topic: topic.into(), partition };
        prop_assert_eq!(RecordKey::decode(&key.encode()), Ok(RecordKey::Offset(key.clone())));
        let members = blobs.into_iter().map(|(bytes, id)| MemberValue {
            member_id: id.clone().into(), instance_id: Some(id.as_str().into()), client_id: id.as_str().into(),
            client_host: id.into(), rebalance_timeout_ms: leader_epoch, session_timeout_ms: partition,
            subscription: bytes.clone().into(), assignment: bytes.into(),
        }).collect();
        let value = GroupMetadataValue {
            protocol_type: key.group, generation: partition, protocol: Some(key.topic), leader: None,
            state_since_ms: commit_ms, members,
        };
        prop_assert_eq!(GroupMetadataValue::decode(&value.encode()), Ok(value));
    }
}
