use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::batch::tests::unhex;
use crate::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::synth::{self, Flavour};

fn recode(side: Side, key: ApiKey, version: i16, frame: &Bytes) -> Result<Bytes> {
    match side {
        Side::Request => {
            let (header, request) = decode_request(frame.clone())?;
            assert_eq!((header.key, header.version), (key, version));
            let (id, client) = (header.correlation_id, header.client_id.as_deref());
            Ok(encode_request(version, id, client, &request)?.to_frame())
        }
        Side::Response => {
            let (id, response) = decode_response(key, version, frame.clone())?;
            Ok(encode_response(key, version, id, &response)?.to_frame())
        }
    }
}

/// The lines of a file of frames, in words.
fn frames(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
}

#[test]
fn what_clients_really_send_survives_decoding_and_encoding() {
    let mut clients = Vec::new();
    for words in frames(include_str!("../../testdata/client-frames.txt")) {
        let key = ApiKey::from_code(words[1].parse().unwrap()).unwrap();
        let version = words[2].parse().unwrap();
        let side = if words[3] == "request" {
            Side::Request
        } else {
            Side::Response
        };
        let frame = Bytes::from(unhex(words[4]));
        let again = recode(side, key, version, &frame);
        assert_eq!(
            again.unwrap(),
            frame,
            "{} {key} {version} {side:?}",
            words[0]
        );
        clients.push(words[0]);
    }
    clients.dedup();
    assert_eq!(clients.len(), 7);
}

#[test]
fn frames_of_the_java_client_survive_decoding_and_encoding() {
    let mut covered = Vec::new();
    for words in frames(include_str!("../../testdata/java-frames.txt")) {
        let key = ApiKey::from_code(words[0].parse().unwrap()).unwrap();
        let version = words[1].parse().unwrap();
        let side = if words[2] == "request" {
            Side::Request
        } else {
            Side::Response
        };
        let frame = Bytes::from(unhex(words[3]));
        let again = recode(side, key, version, &frame);
        assert_eq!(again.unwrap(), frame, "{key} {version} {side:?}");
        covered.push((key, version, side == Side::Response));
    }
    covered.sort();
    let served = api::all().iter().flat_map(|entry| {
        entry
            .versions()
            .flat_map(|v| [(entry.key, v, false), (entry.key, v, true)])
    });
    assert_eq!(covered, served.collect::<Vec<_>>());
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn any_frame_survives_decoding_and_encoding(
        row in 0..api::all().len(), version: u16, seed: u64, full: bool, request: bool,
    ) {
        let entry = &api::all()[row];
        let versions = entry.max_version - entry.min_version + 1;
        let version = entry.min_version + (version % versions as u16) as i16;
        let flavour = if full { Flavour::Full } else { Flavour::Sparse };
        let side = if request { Side::Request } else { Side::Response };
        let frame = synth::frame(side, entry, version, flavour, seed);
        prop_assert_eq!(recode(side, entry.key, version, &frame).unwrap(), frame);
    }
}

#[test]
fn an_unsupported_api_versions_request_is_answered_so_that_it_can_be_repeated() {
    let request = Request::ApiVersions(ApiVersionsRequest::default());
    let mut frame = BytesMut::from(
        &encode_request(4, 77, Some("c"), &request)
            .unwrap()
            .to_frame()[..],
    );
    frame[2..4].copy_from_slice(&99i16.to_be_bytes());
    let error = decode_request(frame.freeze()).unwrap_err();
    let Error::UnsupportedVersion {
        key,
        version: 99,
        correlation_id,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((key, correlation_id), (ApiKey::ApiVersions, 77));
    let answer = encode_unsupported_api_versions(correlation_id)
        .unwrap()
        .to_bytes();
    // Length, correlation id, error 35, one entry: key 18, versions 0 to 5.
    let expected = unhex(concat!(
        "00000010", "0000004d", "0023", "00000001", "0012", "0000", "0005"
    ));
    assert_eq!(answer[..], expected[..]);
}

#[test]
fn an_api_versions_response_has_header_version_0() {
    let response = ApiVersionsResponse::default().with_api_keys(advertised_api_keys());
    for version in ApiKey::ApiVersions.entry().versions() {
        let frame = encode_response(ApiKey::ApiVersions, version, 5, &response.clone().into());
        let frame = frame.unwrap().to_frame();
        // The error code follows the correlation id at once.
        assert_eq!(frame[..6], [0, 0, 0, 5, 0, 0], "version {version}");
        let (id, back) = decode_response(ApiKey::ApiVersions, version, frame).unwrap();
        assert_eq!((id, back), (5, response.clone().into()));
    }
    assert_eq!(
        response.api_keys[0].min_version, 0,
        "Produce is advertised from 0"
    );
}

fn produce(records: Bytes) -> Request {
    let partition = PartitionProduceData::default()
        .with_index(3)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(TopicName("t".into()))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic])
        .into()
}

#[test]
fn produced_records_are_slices_of_their_frame() {
    let frame = encode_request(12, 1, None, &produce(Bytes::from(vec![9; 5000]))).unwrap();
    let frame = frame.to_frame();
    let (header, request) = decode_request(frame.clone()).unwrap();
    assert_eq!(header.client_id, None);
    let Request::Produce(request) = request else {
        panic!("another request")
    };
    let records = request.topic_data[0].partition_data[0]
        .records
        .clone()
        .unwrap();
    assert_eq!(records[..], [9; 5000]);
    assert!(frame.as_ptr_range().contains(&records.as_ptr()), "copied");
}

#[test]
fn records_to_produce_stand_in_the_request_by_reference() {
    let records = Bytes::from(vec![9; 70_000]);
    for version in ApiKey::Produce.entry().versions() {
        let mut request = produce(records.clone());
        if let (Request::Produce(request), 13) = (&mut request, version) {
            request.topic_data[0].name = TopicName::default();
        }
        let frame = encode_request(version, 1, Some("c"), &request).unwrap();
        let (referenced, copied): (Vec<&Bytes>, Vec<&Bytes>) = frame
            .segments()
            .iter()
            .partition(|segment| segment.as_ptr() == records.as_ptr());
        assert_eq!(referenced, [&records], "version {version}");
        assert!(copied.iter().map(|segment| segment.len()).sum::<usize>() < 200);
        let (_, back) = decode_request(frame.to_frame()).unwrap();
        assert_eq!(back, request);
    }
}

#[test]
fn fetched_records_stand_in_the_answer_by_reference() {
    let pieces = vec![Bytes::from(vec![1; 70_000]), Bytes::from(vec![2; 3000])];
    let partition = PartitionData::default().with_records(Some(pieces.clone().into()));
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let response = FetchResponse::default().with_responses(vec![topic]).into();
    let answer = encode_response(ApiKey::Fetch, 17, 1, &response).unwrap();
    for piece in &pieces {
        assert!(
            answer
                .segments()
                .iter()
                .any(|segment| segment.as_ptr() == piece.as_ptr())
        );
    }
    let copied: usize = answer
        .segments()
        .iter()
        .map(Bytes::len)
        .filter(|&len| len < 3000)
        .sum();
    assert!(copied < 200, "{copied} bytes copied");
    let (_, back) = decode_response(ApiKey::Fetch, 17, answer.to_frame()).unwrap();
    assert_eq!(back, response);
}

#[test]
fn what_is_not_served_is_refused() {
    let frame = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        frame.put_i16(-1);
        frame.freeze()
    };
    for key in [-1, 4, 5, 6, 7, 68, 1000] {
        let error = decode_request(frame(key, 0)).unwrap_err();
        assert!(matches!(error, Error::UnknownApi { .. }), "{key}: {error}");
    }
    for entry in api::all() {
        for version in [-1, entry.min_version - 1, entry.max_version + 1, i16::MAX] {
            let error = decode_request(frame(entry.key.code(), version)).unwrap_err();
            assert!(
                matches!(error, Error::UnsupportedVersion { .. }),
                "{entry:?}: {error}"
            );
            let response = Bytes::from_static(&[0; 4]);
            assert!(decode_response(entry.key, version, response).is_err());
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    for tail in [&[0x7f, 0xff][..], &[0xff, 0xfe], &[0, 1, 0xff], &[0], &[]] {
        let frame = [&[0, 18, 0, 0, 0, 0, 0, 1][..], tail].concat();
        let error = decode_request(Bytes::from(frame)).unwrap_err();
        assert!(
            matches!(error, Error::Malformed { .. }),
            "{tail:?}: {error}"
        );
    }
}

#[test]
fn defects_of_ours_are_errors_and_not_panics() {
    let response = Response::from(HeartbeatResponse::default());
    assert!(matches!(
        encode_response(ApiKey::Fetch, 12, 1, &response),
        Err(Error::Encode {
            key: ApiKey::Fetch,
            ..
        })
    ));
    let request = Request::from(HeartbeatRequest::default());
    assert!(matches!(
        encode_request(99, 1, None, &request),
        Err(Error::Encode { .. })
    ));
    let long = "x".repeat(40_000);
    assert!(matches!(
        encode_request(0, 1, Some(&long), &request),
        Err(Error::Encode { .. })
    ));
}

macro_rules! define_defaults {
    ($($name:ident($request:ident, $response:ident) = $key:literal,
       $min:literal ..= $max:literal, from $flexible:literal,
       advertised $advertised:literal,
       codecs $request_codec:ident $(($request_last:literal))?
       $response_codec:ident $(($response_last:literal))?;)*) => {
        fn defaults() -> Vec<(Request, Response)> {
            vec![$(($request::default().into(), $response::default().into()),)*]
        }
    };
}
with_api_table!(define_defaults);

#[test]
fn empty_messages_can_be_expressed_in_every_version() {
    for (request, response) in defaults() {
        let key = request.key();
        for version in key.entry().versions() {
            let frame = encode_request(version, 1, None, &request)
                .unwrap()
                .to_frame();
            decode_request(frame).unwrap_or_else(|e| panic!("{key} {version}: {e}"));
            let frame = encode_response(key, version, 1, &response)
                .unwrap()
                .to_frame();
            decode_response(key, version, frame).unwrap_or_else(|e| panic!("{key} {version}: {e}"));
        }
    }
}
