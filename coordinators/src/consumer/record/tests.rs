//! Bytes by hand from Kafka's schemas.

use super::*;
use crate::consumer::tests::partitions;
use crate::consumer::{ClassicMember, MemberState};
use crate::{Error, ErrorKind};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn member() -> MemberMetadata {
    MemberMetadata {
        instance_id: Some("i".into()),
        rack_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        topics: ["t".into(), "u".into()].into(),
        regex: Some("r.*".into()),
        rebalance_timeout_ms: 300_000,
        assignor: Some("range".into()),
        classic: None,
    }
}

/// Each record with its key and value.
fn golden() -> Vec<(Record, &'static str, &'static str)> {
    let id = "0000000000000000 0000000000000001";
    let topic: &'static str = Box::leak(
        format!("0000 02 {id} 02 74 00000003 02 00000000 03 02 61 02 62 00 00 00").into(),
    );
    let target: &'static str = Box::leak(format!("0000 02 {id} 03 00000000 00000002 00 00").into());
    let current: &'static str = Box::leak(
        format!("0000 00000007 00000006 02 02 {id} 02 00000001 00 02 {id} 02 00000003 00 00")
            .into(),
    );
    let metadata = |epoch, metadata_hash| {
        Record::Group(Some(GroupMetadata {
            epoch,
            metadata_hash,
        }))
    };
    let classic = MemberMetadata {
        instance_id: None,
        rack_id: Some("z".into()),
        topics: [].into(),
        regex: None,
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: 45_000,
            protocols: vec![("range".into(), Bytes::from_static(&[0, 1]))],
        }),
        ..member()
    };
    vec![
        (metadata(5, 0), "0003 0001 67", "0000 00000005 00"),
        (
            metadata(5, 0x0102_0304_0506_0708),
            "0003 0001 67",
            "0000 00000005 01 00 08 0102030405060708",
        ),
        (
            Record::PartitionMetadata(Some(vec![TopicMetadata {
                id: TopicId(uuid::Uuid::from_u128(1)),
                name: "t".into(),
                partitions: 3,
                racks: vec![(0, vec!["a".into(), "b".into()])],
            }])),
            "0004 0001 67",
            topic,
        ),
        (
            Record::Member("m".into(), Some(member())),
            "0005 0001 67 0001 6d",
            "0000 02 69 00 02 63 03 2f68 03 02 74 02 75 04 722e2a 000493e0 06 72616e6765 00",
        ),
        (
            Record::Member("m".into(), Some(classic)),
            "0005 0001 67 0001 6d",
            "0000 00 02 7a 02 63 03 2f68 01 00 000493e0 00 01 00 11 \
             01 0000afc8 02 06 72616e6765 03 0001 00 00",
        ),
        (
            Record::TargetEpoch(Some(9)),
            "0006 0001 67",
            "0000 00000009 00",
        ),
        (
            Record::Target("m".into(), Some(partitions(1, &[0, 2]))),
            "0007 0001 67 0001 6d",
            target,
        ),
        (
            Record::Current(
                "m".into(),
                Some(CurrentAssignment {
                    epoch: 7,
                    previous_epoch: 6,
                    state: MemberState::UnrevokedPartitions,
                    assigned: partitions(1, &[1]),
                    revoking: partitions(1, &[3]),
                }),
            ),
            "0008 0001 67 0001 6d",
            current,
        ),
        (
            Record::Regex(
                "r.*".into(),
                Some(ResolvedRegex {
                    topics: ["t".into()].into(),
                    version: 12,
                    timestamp_ms: 256,
                }),
            ),
            "0010 0001 67 0003 722e2a",
            "0000 02 02 74 000000000000000c 0000000000000100 00",
        ),
    ]
}

#[test]
fn bytes_are_those_of_kafkas_schemas() {
    for (record, key, value) in golden() {
        assert_eq!(record.encode_key("g"), hex(key), "{record:?}");
        assert_eq!(record.encode_value().unwrap(), hex(value), "{record:?}");
        let decoded = Record::decode(&hex(key), Some(&hex(value))).unwrap();
        assert_eq!(decoded, Some(("g".into(), record.clone())));

        let (_, tombstone) = Record::decode(&hex(key), None).unwrap().unwrap();
        assert_eq!(tombstone.encode_value(), None);
        assert_eq!(tombstone.encode_key("g"), hex(key));
    }
}

#[test]
fn damage_is_refused_wherever_it_is() {
    for (record, key, value) in golden() {
        let (key, value) = (hex(key), hex(value));
        for end in 2..key.len() {
            assert!(Record::decode(&key[..end], None).is_err(), "{record:?} cut");
        }
        for end in 0..value.len() {
            let error = Record::decode(&key, Some(&value[..end])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{record:?} cut at {end}");
        }
        let mut long = value.clone();
        long.push(0);
        assert!(
            Record::decode(&key, Some(&long)).is_err(),
            "{record:?} and more"
        );
        let mut later = value.clone();
        later[1] = 1;
        let error = Record::decode(&key, Some(&later)).unwrap_err();
        assert!(matches!(error, Error::Version { version: 1, .. }));
        // Any byte may be anything: that is read or refused, and nothing else.
        for at in 0..value.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = value.clone();
                changed[at] = byte;
                let _ = Record::decode(&key, Some(&changed));
            }
        }
    }
    let negative = hex("0000 ffffffff 00");
    assert!(Record::decode(&hex("0003 0001 67"), Some(&negative)).is_err());
    assert!(Record::decode(&hex("0006 0001 67"), Some(&negative)).is_err());
}

#[test]
fn what_later_versions_tag_is_skipped() {
    let key = hex("0006 0001 67");
    let value = hex("0000 00000009 01 05 02 aabb");
    let (_, record) = Record::decode(&key, Some(&value)).unwrap().unwrap();
    assert_eq!(record, Record::TargetEpoch(Some(9)));
    let key = hex("0008 0001 67 0001 6d");
    let value = hex("0000 00000007 00000006 09 01 01 00");
    let (_, record) = Record::decode(&key, Some(&value)).unwrap().unwrap();
    let Record::Current(_, Some(current)) = record else {
        panic!("{record:?}");
    };
    assert_eq!(current.state, MemberState::Unknown);
}

#[test]
fn keys_of_others_are_left_alone() {
    for key in [
        "0000 0001 67",
        "0001",
        "0002 0001 67",
        "0009",
        "000f",
        "0011",
    ] {
        assert_eq!(Record::decode(&hex(key), None), Ok(None));
    }
    assert!(Record::decode(&[0], None).is_err());
}
