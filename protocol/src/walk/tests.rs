use proptest::prelude::*;

use super::*;
use crate::batch::{
    ATTRIBUTES, BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, LAST_OFFSET_DELTA, LENGTH, RECORD_COUNT,
    update_crc,
};
use crate::builder::BatchBuilder;
use crate::error::ErrorKind;

const LIMITS: WalkLimits = WalkLimits {
    max_bytes: 64 << 20,
    max_record_bytes: 64 << 20,
};

fn walk(batch: &[u8], limits: WalkLimits) -> Result<Vec<Visited>> {
    let mut visited = Vec::new();
    let view = BatchView::new(batch)?;
    view.validate_produced()?;
    view.walk(limits, |record| visited.push(record))?;
    Ok(visited)
}

fn what(result: Result<Vec<Visited>>) -> &'static str {
    match result.unwrap_err() {
        Error::Record { what, .. } => what,
        other => panic!("{other}"),
    }
}

/// A batch whose header is `batch`'s, about `count` records, around `payload`.
fn around(batch: &[u8], codec: Compression, payload: &[u8], count: i32) -> Vec<u8> {
    let mut header = batch[..BATCH_HEADER_BYTES].to_vec();
    header[ATTRIBUTES + 1] = codec.id();
    wrapped(&header, &codec.compress(payload).unwrap(), count)
}

/// The same, of a payload that is compressed already.
fn wrapped(batch: &[u8], payload: &[u8], count: i32) -> Vec<u8> {
    let mut bytes = [&batch[..BATCH_HEADER_BYTES], payload].concat();
    let length = (bytes.len() - BATCH_LENGTH_OVERHEAD) as i32;
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    bytes[LAST_OFFSET_DELTA..LAST_OFFSET_DELTA + 4].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[RECORD_COUNT..RECORD_COUNT + 4].copy_from_slice(&count.to_be_bytes());
    update_crc(&mut bytes);
    bytes
}

fn batch(codec: Compression, sizes: &[usize]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec);
    for (index, &size) in (0i64..).zip(sizes) {
        let value: Vec<u8> = (0..size).map(|at| (at * at / 7) as u8).collect();
        let key = (index % 3 != 1).then_some(&b"key"[..]);
        let headers: &[(&str, Option<&[u8]>)] = &[("twice", Some(b"a")), ("twice", None)];
        let headers = if index % 2 == 0 { headers } else { &[] };
        builder.append(1_000 - index, key, Some(&value), headers);
    }
    builder.build().unwrap().to_vec()
}

/// What the iterator over a whole decompressed payload sees.
fn iterated(batch: &[u8]) -> Result<Vec<Visited>> {
    let view = BatchView::new(batch)?;
    let payload = view.decompress(LIMITS.max_bytes)?;
    view.records(&payload)
        .zip(0..)
        .map(|(record, index)| {
            let record = record?;
            assert_eq!(record.offset - view.base_offset(), i64::from(index));
            Ok(Visited {
                index,
                offset_delta: index,
                timestamp: record.timestamp,
                has_key: record.key.is_some(),
            })
        })
        .collect()
}

#[test]
fn every_codec_shows_what_the_iterator_shows() {
    for codec in Compression::ALL {
        for sizes in [&[0][..], &[1, 2, 3], &[70_000, 0, 200_000, 5], &[100; 2000]] {
            let batch = batch(codec, sizes);
            let visited = walk(&batch, LIMITS).unwrap();
            assert_eq!(visited.len(), sizes.len(), "{}", codec.name());
            assert_eq!(visited, iterated(&batch).unwrap(), "{}", codec.name());
        }
    }
}

#[test]
fn fields_may_lie_across_the_end_of_the_window() {
    for shift in 0..40 {
        let batch = batch(Compression::Gzip, &[WALK_WINDOW_BYTES - shift, 300, 300]);
        assert_eq!(walk(&batch, LIMITS).unwrap(), iterated(&batch).unwrap());
    }
}

#[test]
fn counts_offsets_and_ends_must_be_right() {
    let good = batch(Compression::None, &[3, 4, 5]);
    let payload = &good[BATCH_HEADER_BYTES..];
    for codec in Compression::ALL {
        let of = |payload: &[u8], count| walk(&around(&good, codec, payload, count), LIMITS);
        assert_eq!(of(payload, 3).unwrap().len(), 3);
        assert_eq!(what(of(payload, 2)), "bytes left after the last record");
        assert_eq!(
            what(of(&[payload, &[0]].concat(), 3)),
            "bytes left after the last record"
        );
        let none = codec == Compression::None;
        let twice = [payload, payload].concat();
        assert_eq!(what(of(&twice, 6)), "an offset that is not the next one");
        let cut = &payload[..payload.len() - 1];
        let expected = ["the records are cut off", "a length beyond the end"];
        assert_eq!(what(of(cut, 3)), expected[usize::from(none)]);
        if !none {
            assert_eq!(what(of(payload, 4)), "the records are cut off");
        }
    }
}

#[test]
fn no_length_in_a_record_is_believed() {
    let good = batch(Compression::None, &[3]);
    // Length, attributes, timestamp, offset, key, value, header count.
    for (payload, expected) in [
        (&[1, 0, 0, 0, 1, 1, 0][..], "a negative length"),
        (
            &[14, 0, 0, 0, 1, 1, 0, 0],
            "a record that does not fill its length",
        ),
        (&[12, 0, 0, 0, 20, 1, 0], "a length beyond the record"),
        (&[12, 0, 0, 0, 3, 1, 0], "a negative length"),
        (&[12, 0, 0, 0, 1, 20, 0], "a length beyond the record"),
        (&[12, 0, 0, 0, 1, 1, 2], "more headers than there can be"),
        (&[12, 0, 0, 0, 1, 1, 1], "a negative header count"),
        (&[14, 0, 0, 0, 1, 1, 2, 1], "a header without key"),
        (
            &[12, 0, 0, 2, 1, 1, 0],
            "an offset that is not the next one",
        ),
        (
            &[10, 0, 0, 0, 1, 1, 0],
            "a record that does not fill its length",
        ),
        (&[12, 0, 255, 255, 255, 255, 255], "the records are cut off"),
        (
            &[255, 255, 255, 255, 255, 255, 0],
            "a varint that does not end",
        ),
        (&[255, 255, 255, 255, 127, 0, 0], "a varint beyond 32 bits"),
        (&[0, 0, 0, 0, 0, 0, 0], "a length beyond the record"),
    ] {
        for codec in [Compression::None, Compression::Lz4] {
            let bad = around(&good, codec, payload, 1);
            assert_eq!(what(walk(&bad, LIMITS)), expected, "{payload:?}");
        }
    }
    let far = around(&good, Compression::None, &[254, 255, 255, 255, 15, 0, 0], 1);
    assert_eq!(what(walk(&far, LIMITS)), "a record longer than may be");
}

#[test]
fn what_is_not_compressed_as_it_says_is_corrupt() {
    let good = batch(Compression::None, &[100; 50]);
    let payload = &good[BATCH_HEADER_BYTES..];
    for codec in &Compression::ALL[1..] {
        let mut header = good.clone();
        header[ATTRIBUTES + 1] = codec.id();
        let plain = wrapped(&header, payload, 50);
        let whole = codec.compress(payload).unwrap();
        let cut = wrapped(&header, &whole[..whole.len() / 2], 50);
        for bad in [plain, cut, wrapped(&header, &[], 50)] {
            let error = walk(&bad, LIMITS).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{}: {error}",
                codec.name()
            );
        }
    }
}

#[test]
fn bounds_hold_for_all_records_and_for_each() {
    let limits = |max_bytes, max_record_bytes| WalkLimits {
        max_bytes,
        max_record_bytes,
    };
    let plain = batch(Compression::None, &[1000; 100]);
    let whole = plain.len() - BATCH_HEADER_BYTES;
    // Without compression the bounds are the batch's own.
    assert_eq!(walk(&plain, limits(1, 1)).unwrap().len(), 100);
    for codec in &Compression::ALL[1..] {
        let batch = batch(*codec, &[1000; 100]);
        assert_eq!(walk(&batch, limits(whole, 2000)).unwrap().len(), 100);
        let error = walk(&batch, limits(whole - 1, 2000)).unwrap_err();
        let large = matches!(error, Error::DecompressedTooLarge { .. });
        assert!(large, "{}: {error}", codec.name());
        assert_eq!(
            what(walk(&batch, limits(whole, 1000))),
            "a record longer than may be"
        );
        let bomb = around(&plain, *codec, &vec![0x0c; 32 << 20], 1 << 22);
        let error = walk(&bomb, limits(1 << 20, 1 << 20)).unwrap_err();
        assert!(matches!(error, Error::Record { .. }), "{error}");
    }
}

#[test]
fn a_raw_snappy_block_beyond_the_bound_is_too_large_and_not_damaged() {
    let plain = batch(Compression::None, &[1000; 100]);
    let payload = &plain[BATCH_HEADER_BYTES..];
    let raw = snap::raw::Encoder::new().compress_vec(payload).unwrap();
    let mut header = plain.clone();
    header[ATTRIBUTES + 1] = Compression::Snappy.id();
    let whole = wrapped(&header, &raw, 100);
    let limits = |max_bytes| WalkLimits {
        max_bytes,
        max_record_bytes: 2000,
    };
    assert_eq!(walk(&whole, limits(payload.len())).unwrap().len(), 100);
    let error = walk(&whole, limits(payload.len() - 1)).unwrap_err();
    let large = matches!(error, Error::DecompressedTooLarge { .. });
    assert!(large, "{error}");
}

#[test]
fn what_compaction_left_is_walked_until_the_visitor_has_enough() {
    let good = batch(Compression::None, &[3, 4, 5, 6]);
    let payload = &good[BATCH_HEADER_BYTES..];
    let first = 1 + payload[0] as usize / 2;
    let second = first + 1 + payload[first] as usize / 2;
    let left = [&payload[..first], &payload[second..]].concat();
    for codec in Compression::ALL {
        let kept = around(&good, codec, &left, 3);
        assert!(walk(&kept, LIMITS).is_err(), "no producer may send this");
        let view = BatchView::new(&kept).unwrap();
        let mut deltas = Vec::new();
        let walked = view.walk_kept(LIMITS, |record| {
            deltas.push((record.index, record.offset_delta));
            ControlFlow::Continue(())
        });
        walked.unwrap();
        assert_eq!(deltas, [(0, 0), (1, 2), (2, 3)]);
        // Damage behind the end that the visitor sets is not looked for.
        let cut = around(&good, codec, &left[..left.len() - 2], 3);
        let view = BatchView::new(&cut).unwrap();
        let until = |last: i32| {
            view.walk_kept(LIMITS, |record| match record.index {
                at if at == last => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        };
        assert!(until(1).is_ok());
        assert!(until(2).is_err());
        let twice = around(&good, codec, &[&left[..], &left].concat(), 6);
        let view = BatchView::new(&twice).unwrap();
        let walked = view.walk_kept(LIMITS, |_| ControlFlow::Continue(()));
        assert!(walked.is_err(), "offsets rise");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    /// Nothing panics, and what is passed the iterator passes too, with the same records.
    #[test]
    fn what_the_walk_passes_the_iterator_reads(
        codec in 0..Compression::ALL.len(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        compressed: bool,
    ) {
        let codec = Compression::ALL[codec];
        let good = batch(codec, &[5, 0, 40, 300]);
        let view = BatchView::new(&good).unwrap();
        let mut bytes = if compressed {
            view.payload().to_vec()
        } else {
            view.decompress(1 << 20).unwrap().into_owned()
        };
        for (at, flip) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let bad = if compressed {
            wrapped(&good, &bytes, 4)
        } else {
            around(&good, codec, &bytes, 4)
        };
        if let Ok(visited) = walk(&bad, LIMITS) {
            prop_assert_eq!(visited, iterated(&bad).unwrap());
        }
    }
}
