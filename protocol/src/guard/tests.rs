use bytes::{Bytes, BytesMut};

use super::program::{Counts, Width};
use super::*;
use crate::codec::{decode_request, decode_response, encode_request, encode_response};
use crate::error::Error;
use crate::limits::{MAX_ELEMENT_BYTES, MAX_RESPONSE_ELEMENTS, MIN_REQUEST_ELEMENTS};
use crate::synth::{self, Flavour, Numbers};

const SIDES: [Side; 2] = [Side::Request, Side::Response];

/// Calls `check` for both sides of every version of every API served.
fn for_every_message(mut check: impl FnMut(Side, &'static ApiEntry, i16)) {
    for entry in api::all() {
        for version in entry.versions() {
            SIDES
                .into_iter()
                .for_each(|side| check(side, entry, version));
        }
    }
}

fn decode(side: Side, entry: &ApiEntry, version: i16, frame: &Bytes) -> Result<Bytes> {
    match side {
        Side::Request => {
            let (header, request) = decode_request(frame.clone())?;
            let (id, name) = (header.correlation_id, header.client_id);
            Ok(encode_request(header.version, id, name.as_deref(), &request)?.to_frame())
        }
        Side::Response => {
            let (id, response) = decode_response(entry.key, version, frame.clone())?;
            Ok(encode_response(entry.key, version, id, &response)?.to_frame())
        }
    }
}

/// Where the message starts behind the header of a frame made by `synth`.
fn body_at(side: Side, entry: &ApiEntry, version: i16) -> usize {
    match side {
        Side::Request => 15 + (entry.request_header_version(version) - 1) as usize,
        Side::Response => 4 + entry.response_header_version(version) as usize,
    }
}

struct Lengths(Vec<(usize, Length)>);

impl Observer for Lengths {
    fn length(&mut self, at: usize, length: &Length) {
        self.0.push((at, *length));
    }
}

fn lengths(side: Side, entry: &ApiEntry, version: i16, frame: &[u8]) -> Vec<(usize, Length)> {
    let mut lengths = Lengths(Vec::new());
    let at = body_at(side, entry, version);
    walk(
        program(side, entry, version),
        frame,
        at,
        MAX_RESPONSE_ELEMENTS,
        &mut lengths,
    )
    .expect("a frame made from the tables passes");
    lengths.0
}

#[test]
fn the_tables_cover_every_version_served() {
    let tables = table::parse(TABLES);
    for_every_message(|side, entry, version| {
        let message = table::find(&tables, side, entry.key.code());
        assert_eq!(&message.compile(version), program(side, entry, version));
        assert_eq!(message.flexible_from, entry.flexible_from, "{}", entry.name);
    });
}

#[test]
fn every_message_passes_and_survives_decoding_and_encoding() {
    for_every_message(|side, entry, version| {
        for seed in 0..8 {
            let flavour = if seed < 4 {
                Flavour::Full
            } else {
                Flavour::Sparse
            };
            let frame = synth::frame(side, entry, version, flavour, seed);
            let again = decode(side, entry, version, &frame)
                .unwrap_or_else(|e| panic!("{side:?} {} {version} {seed}: {e}", entry.name));
            assert_eq!(frame, again, "{side:?} {} {version} {seed}", entry.name);
        }
    });
}

/// Puts `bytes` in place of the length at `at`.
fn replace(frame: &[u8], at: usize, length: &Length, bytes: &[u8]) -> Bytes {
    let old = match length.width {
        Width::Two => 2,
        Width::Four => 4,
        Width::Varint => read_varint(&frame[at..]).expect("a varint").1,
    };
    let mut damaged = BytesMut::from(&frame[..at]);
    damaged.extend_from_slice(bytes);
    damaged.extend_from_slice(&frame[at + old..]);
    damaged.freeze()
}

/// Lengths that no frame of test size can back, as they are written.
fn hostile(length: &Length) -> Vec<Vec<u8>> {
    match length.width {
        Width::Two => [-2i16, i16::MIN, i16::MAX, 30_000]
            .map(|n| n.to_be_bytes().to_vec())
            .into(),
        Width::Four => [-2i32, i32::MIN, i32::MAX, i32::MAX - 1, 1 << 30, 1 << 24]
            .map(|n| n.to_be_bytes().to_vec())
            .into(),
        Width::Varint => vec![
            vec![0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0x80, 0x80, 0x80, 0x80, 0x08],
            vec![0xff, 0xff, 0xff, 0xff, 0x07],
            vec![0x80, 0x80, 0x80, 0x40],
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            vec![0xff, 0xff, 0xff, 0xff, 0x7f],
        ],
    }
}

#[test]
fn hostile_lengths_are_refused_wherever_they_stand() {
    let mut tried = 0;
    for_every_message(|side, entry, version| {
        let frame = synth::frame(side, entry, version, Flavour::Full, 7);
        for (at, length) in lengths(side, entry, version, &frame) {
            for bytes in hostile(&length) {
                let damaged = replace(&frame, at, &length, &bytes);
                let error = decode(side, entry, version, &damaged).expect_err("a hostile length");
                assert!(
                    matches!(error, Error::Malformed { .. } | Error::TrailingBytes { .. }),
                    "{side:?} {} {version} at {at} {bytes:x?}: {error}",
                    entry.name
                );
                tried += 1;
            }
        }
    });
    assert!(tried > 20_000, "only {tried} lengths were tried");
}

#[test]
fn hostile_lengths_that_nest_are_refused() {
    // Each array claims as many elements as bytes remain, inside one that claims the same.
    for_every_message(|side, entry, version| {
        let frame = synth::frame(side, entry, version, Flavour::Full, 11);
        let arrays: Vec<_> = lengths(side, entry, version, &frame)
            .into_iter()
            .filter(|(_, length)| length.counts == Counts::Elements)
            .collect();
        let mut damaged = frame.clone();
        for (at, length) in arrays.iter().rev() {
            let remain = frame.len() - at;
            let bytes = match length.width {
                Width::Four => (remain as i32).to_be_bytes().to_vec(),
                Width::Two => (remain as i16).to_be_bytes().to_vec(),
                Width::Varint => {
                    let mut writer = crate::codec::segments::Writer::default();
                    writer.varint(remain as u32 + 1);
                    writer.buffer().to_vec()
                }
            };
            damaged = replace(&damaged, *at, length, &bytes);
            assert!(
                decode(side, entry, version, &damaged).is_err(),
                "{} {version}",
                entry.name
            );
        }
    });
}

#[test]
fn null_is_refused_where_the_version_does_not_allow_it() {
    for_every_message(|side, entry, version| {
        let frame = synth::frame(side, entry, version, Flavour::Full, 3);
        for (at, length) in lengths(side, entry, version, &frame) {
            let null: &[u8] = match length.width {
                Width::Two => &[0xff, 0xff],
                Width::Four => &[0xff; 4],
                Width::Varint => continue, // 0 is null; for tags it is none, which is right.
            };
            if !length.nullable {
                let damaged = replace(&frame, at, &length, null);
                assert!(
                    decode(side, entry, version, &damaged).is_err(),
                    "{} {version}",
                    entry.name
                );
            }
        }
    });
}

#[test]
fn a_frame_cut_anywhere_is_refused_and_a_response_with_more_behind_it_too() {
    for_every_message(|side, entry, version| {
        let frame = synth::frame(side, entry, version, Flavour::Full, 5);
        for end in 0..frame.len() {
            assert!(
                decode(side, entry, version, &frame.slice(..end)).is_err(),
                "{side:?} {} {version} cut at {end} of {}",
                entry.name,
                frame.len()
            );
        }
        let mut longer = BytesMut::from(&frame[..]);
        longer.extend_from_slice(&[0]);
        let decoded = decode(side, entry, version, &longer.freeze());
        match side {
            // librdkafka sends requests with bytes behind them, which Kafka ignores.
            Side::Request => assert_eq!(decoded.expect("what is left over is ignored"), frame),
            Side::Response => {
                let error = decoded.unwrap_err();
                let extra = matches!(error, Error::TrailingBytes { extra: 1, .. });
                assert!(extra, "{error}");
            }
        }
    });
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // A struct's tagged fields are its last: the message's own count is the last byte.
    for entry in api::all()
        .iter()
        .filter(|entry| entry.flexible_from <= entry.max_version)
    {
        let version = entry.max_version;
        let frame = synth::frame(Side::Request, entry, version, Flavour::Full, 5);
        let last = program(Side::Request, entry, version).ops.last();
        if last.is_some_and(|op| *op != Op::Tagged(Vec::new())) {
            continue; // Tagged fields that are known stand there.
        }
        let mut tagged = BytesMut::from(&frame[..frame.len() - 1]);
        tagged.extend_from_slice(&[1, 99, 3, 1, 2, 3]);
        let tagged = tagged.freeze();
        assert!(
            decode(Side::Request, entry, version, &tagged).is_ok(),
            "{}",
            entry.name
        );
    }
}

#[test]
fn tags_beyond_31_bits_are_refused() {
    // Metadata version 9: null client id, null topics, two flags, then one tagged field.
    let mut frame = vec![0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let plain = [&frame[..], &[5, 0]].concat();
    assert!(decode_request(Bytes::from(plain)).is_ok());
    frame.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    let error = decode_request(Bytes::from(frame)).unwrap_err();
    assert!(error.to_string().contains("beyond 31 bits"), "{error}");
}

#[test]
fn strings_are_bounded_where_their_length_is_a_varint_too() {
    // Metadata version 9: null client id, one topic's name, its tags, three flags, tags.
    let request = |len: usize| {
        let mut writer = crate::codec::segments::Writer::default();
        writer.varint(len as u32 + 1);
        let head = [0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 2];
        let frame = [&head[..], writer.buffer(), &vec![b'a'; len], &[0; 5]].concat();
        decode_request(Bytes::from(frame))
    };
    assert!(request(32_767).is_ok());
    let error = request(32_768).unwrap_err();
    assert!(error.to_string().contains("string too long"), "{error}");
}

#[test]
fn elements_are_bounded_across_all_arrays() {
    // Metadata version 0: an array of strings, each of two bytes at least.
    let mut frame = BytesMut::from(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff][..]);
    let names = MIN_REQUEST_ELEMENTS * 2;
    frame.extend_from_slice(&(names as i32).to_be_bytes());
    frame.resize(frame.len() + 2 * names, 0);
    let error = decode_request(frame.freeze()).unwrap_err();
    assert!(matches!(error, Error::TooManyElements { .. }), "{error}");
}

#[test]
fn requests_of_real_names_and_many_topics_are_within_the_budget() {
    let mut frame = BytesMut::from(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff][..]);
    let names = 300_000i32;
    frame.extend_from_slice(&names.to_be_bytes());
    for name in 0..names {
        frame.extend_from_slice(&[0, 16]);
        frame.extend_from_slice(format!("topic-name{name:06}").as_bytes());
    }
    assert!(decode_request(frame.freeze()).is_ok());
}

#[test]
fn decoded_elements_take_no_more_than_is_reckoned_with() {
    use crate::messages::*;
    let sizes = [
        size_of::<StrBytes>(),
        // Unknown tagged fields: an entry of a B-tree map, with its share of the node.
        2 * size_of::<(i32, Bytes)>(),
        size_of::<produce_request::PartitionProduceData>(),
        size_of::<produce_request::TopicProduceData>(),
        size_of::<fetch_request::FetchPartition>(),
        size_of::<fetch_request::FetchTopic>(),
        size_of::<fetch_request::ForgottenTopic>(),
        size_of::<list_offsets_request::ListOffsetsPartition>(),
        size_of::<list_offsets_request::ListOffsetsTopic>(),
        size_of::<metadata_request::MetadataRequestTopic>(),
        size_of::<offset_commit_request::OffsetCommitRequestPartition>(),
        size_of::<offset_commit_request::OffsetCommitRequestTopic>(),
        size_of::<offset_fetch_request::OffsetFetchRequestGroup>(),
        size_of::<offset_fetch_request::OffsetFetchRequestTopic>(),
        size_of::<offset_fetch_request::OffsetFetchRequestTopics>(),
        size_of::<join_group_request::JoinGroupRequestProtocol>(),
        size_of::<leave_group_request::MemberIdentity>(),
        size_of::<sync_group_request::SyncGroupRequestAssignment>(),
        size_of::<create_topics_request::CreatableReplicaAssignment>(),
        size_of::<create_topics_request::CreatableTopic>(),
        size_of::<create_topics_request::CreatableTopicConfig>(),
        size_of::<delete_topics_request::DeleteTopicState>(),
        size_of::<delete_records_request::DeleteRecordsPartition>(),
        size_of::<delete_records_request::DeleteRecordsTopic>(),
        size_of::<offset_for_leader_epoch_request::OffsetForLeaderPartition>(),
        size_of::<offset_for_leader_epoch_request::OffsetForLeaderTopic>(),
        size_of::<describe_configs_request::DescribeConfigsResource>(),
        size_of::<alter_configs_request::AlterConfigsResource>(),
        size_of::<alter_configs_request::AlterableConfig>(),
        size_of::<describe_log_dirs_request::DescribableLogDirTopic>(),
        size_of::<create_partitions_request::CreatePartitionsAssignment>(),
        size_of::<create_partitions_request::CreatePartitionsTopic>(),
        size_of::<incremental_alter_configs_request::AlterConfigsResource>(),
        size_of::<incremental_alter_configs_request::AlterableConfig>(),
        size_of::<elect_leaders_request::TopicPartitions>(),
        size_of::<describe_quorum_request::TopicData>(),
        size_of::<describe_quorum_request::PartitionData>(),
        size_of::<update_features_request::FeatureUpdateKey>(),
        size_of::<add_raft_voter_request::Listener>(),
        size_of::<alter_partition_reassignments_request::ReassignablePartition>(),
        size_of::<alter_partition_reassignments_request::ReassignableTopic>(),
        size_of::<list_partition_reassignments_request::ListPartitionReassignmentsTopics>(),
        size_of::<offset_delete_request::OffsetDeleteRequestPartition>(),
        size_of::<offset_delete_request::OffsetDeleteRequestTopic>(),
    ];
    let largest = sizes.into_iter().max().unwrap();
    assert!(largest <= MAX_ELEMENT_BYTES, "{largest}");
}

#[test]
fn four_hostile_bytes_do_not_abort_the_process() {
    // What once reserved memory for 2³¹-1 topics.
    let frame = [0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let error = decode_request(Bytes::copy_from_slice(&frame)).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

/// Damages `frame` in one of the ways that find most.
fn mutate(frame: &[u8], numbers: &mut Numbers) -> Bytes {
    let mut bytes = frame.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(6) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = numbers.draw() as u8,
            2 => bytes[at] = [0, 0x7f, 0x80, 0xff][numbers.below(4)],
            3 => bytes.insert(at, numbers.draw() as u8),
            4 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    Bytes::from(bytes)
}

#[test]
fn damaged_frames_never_panic_and_what_decodes_encodes() {
    let mut numbers = Numbers::new(0x5eed);
    let (mut refused, mut taken) = (0, 0);
    for_every_message(|side, entry, version| {
        let frame = synth::frame(side, entry, version, Flavour::Full, numbers.draw());
        for _ in 0..250 {
            let damaged = mutate(&frame, &mut numbers);
            match decode(side, entry, version, &damaged) {
                Ok(_) => taken += 1,
                Err(Error::Encode { .. }) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    });
    assert!(
        refused > 1000 && taken > 1000,
        "{refused} refused, {taken} taken"
    );
}
