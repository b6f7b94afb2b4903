//! Damage is found, wherever it lies, and never served.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutResult, Result,
};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ErrorKind;
use crate::catalog::Digest;
use crate::format::limits::DAMAGED_READS;
use crate::store::StoreMetrics;

fn small_sample() -> FinishedObject {
    let mut writer = ObjectWriter::new();
    add_slice(
        &mut writer,
        tp(1, 0),
        &[batch(3, 2, 80), batch(5, 1, 90)],
        None,
    );
    let checkpoint = Some(Bytes::from_static(b"state"));
    add_slice(&mut writer, tp(1, 1), &[batch(0, 9, 130)], checkpoint);
    writer.finish(KEY.to_owned()).unwrap()
}

/// True when reading by the references finds something wrong.
async fn detected(object: &FinishedObject, bytes: Vec<u8>) -> bool {
    let store = store_with(bytes).await;
    let report = verify_object(&store, KEY, Some(&object.object))
        .await
        .unwrap();
    !report.is_whole() && report.all_errors().next().is_some()
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let object = small_sample();
    let bytes = bytes_of(&object);
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(
            detected(&object, flipped).await,
            "flip at {position} of {}",
            bytes.len()
        );
    }
}

#[tokio::test]
async fn every_flipped_disk_block_of_a_large_object_is_found() {
    let object = sample();
    let bytes = bytes_of(&object);
    for block in 0..bytes.len().div_ceil(4096) {
        let mut flipped = bytes.clone();
        let position = (block * 4096 + block * 37 % 4096).min(bytes.len() - 1);
        flipped[position] ^= 0x10;
        assert!(detected(&object, flipped).await, "flip at {position}");
    }
}

#[tokio::test]
async fn every_truncation_and_growth_is_found() {
    let object = small_sample();
    let bytes = bytes_of(&object);
    for length in 0..bytes.len() {
        assert!(
            detected(&object, bytes[..length].to_vec()).await,
            "cut to {length}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(detected(&object, longer).await);
    let stale = bytes_of(&sample());
    assert!(detected(&object, stale).await, "another whole object");
}

#[tokio::test]
async fn damage_is_named_and_not_served() {
    let object = sample();
    let mut bytes = bytes_of(&object);
    let good = store_with(bytes.clone()).await;
    bytes[700] ^= 1;
    let bad = store_with(bytes).await;
    let metrics = StoreMetrics::default();
    let reader = ObjectReader::new(bad, metrics.clone());
    let intact = ObjectReader::new(good, StoreMetrics::default());
    let index = intact.slice_index(&object.slices[1]).await.unwrap();
    let error = reader.block(KEY, &index.blocks[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        format!("object {KEY} is damaged, block at 500: checksum mismatch")
    );
    assert_eq!(metrics.damaged_reads(), u64::from(DAMAGED_READS));
    // Its neighbours are served.
    assert!(reader.block(KEY, &index.blocks[1]).await.is_ok());
    assert!(reader.blocks(KEY, &index.blocks).await.is_err());
}

#[tokio::test]
async fn an_object_that_is_gone_is_not_damage() {
    let object = small_sample();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let reader = ObjectReader::new(store, StoreMetrics::default());
    let error = reader.slice_index(&object.slices[0]).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

/// Answers the first gets with damage.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn ObjectStore>,
    damaged: AtomicU32,
    short: bool,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, l: &Path, p: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(l, p, o).await
    }

    async fn put_multipart_opts(
        &self,
        l: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(l, o).await
    }

    async fn get_opts(&self, l: &Path, o: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(l, o).await?;
        if self.damaged.load(Ordering::Relaxed) == 0 {
            return Ok(result);
        }
        self.damaged.fetch_sub(1, Ordering::Relaxed);
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let mut bytes = result.bytes().await?.to_vec();
        if self.short {
            bytes.pop();
        } else {
            bytes[0] ^= 1;
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter([Ok(bytes.into())]).boxed()),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        l: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(l)
    }

    fn list(&self, p: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(p)
    }

    async fn list_with_delimiter(&self, p: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(p).await
    }

    async fn copy_opts(&self, a: &Path, b: &Path, o: CopyOptions) -> Result<()> {
        self.inner.copy_opts(a, b, o).await
    }
}

#[tokio::test]
async fn a_wrong_answer_is_counted_and_asked_for_again() {
    let object = small_sample();
    for short in [false, true] {
        let inner = store_with(bytes_of(&object)).await;
        let damaged = AtomicU32::new(DAMAGED_READS - 1);
        let metrics = StoreMetrics::default();
        let reader = ObjectReader::new(
            Arc::new(Flaky {
                inner,
                damaged,
                short,
            }),
            metrics.clone(),
        );
        let index = reader.slice_index(&object.slices[0]).await.unwrap();
        assert_eq!(index.batches.len(), 2);
        assert_eq!(metrics.damaged_reads(), u64::from(DAMAGED_READS) - 1);
    }
}

/// A message with only the field under test, as a later version might write it.
#[derive(Clone, PartialEq, Message)]
struct Later {
    #[prost(bytes = "vec", tag = "1")]
    topic_id: Vec<u8>,
    #[prost(uint32, tag = "9")]
    block_encoding: u32,
    #[prost(uint64, tag = "10")]
    key_id: u64,
    #[prost(string, repeated, tag = "16")]
    critical: Vec<String>,
    #[prost(string, tag = "99")]
    unknown: String,
}

fn read_later(later: &Later) -> std::result::Result<SliceIndex, Error> {
    let bytes = later.encode_to_vec();
    decode_slice_index(KEY, 0, &bytes, &Digest::crc32(&bytes))
}

#[test]
fn what_is_critical_and_unknown_is_refused_by_name() {
    let base = Later {
        topic_id: vec![1; 16],
        ..Later::default()
    };
    let refused = |later: Later, name: &str| {
        let error = read_later(&later).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("object {KEY} needs a later version: {name}")
        );
    };
    refused(
        Later {
            critical: vec!["erasure-parity".into()],
            ..base.clone()
        },
        "feature \"erasure-parity\"",
    );
    refused(
        Later {
            block_encoding: 2,
            ..base.clone()
        },
        "block encoding 2",
    );
    refused(
        Later {
            key_id: 77,
            ..base.clone()
        },
        "encryption key 77",
    );
    // What is unknown but not critical is skipped.
    assert!(
        read_later(&Later {
            unknown: "x".into(),
            ..base
        })
        .is_ok()
    );

    let unknown_digest = Digest {
        algorithm: 9,
        bytes: vec![0; 32],
    };
    let error = decode_slice_index(KEY, 0, b"", &unknown_digest).unwrap_err();
    assert!(error.to_string().contains("digest algorithm 9"), "{error}");
}

#[test]
fn a_footer_of_a_later_version_is_refused_by_name() {
    let object = small_sample();
    let bytes = bytes_of(&object);
    let length = bytes.len() as u64;
    let footer = &bytes[bytes.len() - 128..];
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut changed = footer.to_vec();
        change(&mut changed[..92]);
        let crc = crc32fast::hash(&changed[..92]).to_be_bytes();
        changed[96..100].copy_from_slice(&crc);
        Footer::decode(KEY, length, &changed, None)
    };
    assert!(with(&|_| {}).is_ok());
    let error = with(&|footer| footer[9] = 2).unwrap_err().to_string();
    assert!(error.contains("object format version 2"), "{error}");
    let error = with(&|footer| footer[15] = 4).unwrap_err().to_string();
    assert!(error.contains("critical footer flag 2"), "{error}");
    assert_eq!(with(&|footer| footer[19] = 4).unwrap().flags, 4);
    for (position, rule) in [
        (23, "reserved"),
        (31, "index does not end"),
        (47, "directory"),
    ] {
        let error = with(&|footer| footer[position] ^= 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains(rule), "{position}: {error}");
    }
}

proptest! {
    /// No bytes make a decoder panic.
    #[test]
    fn decoders_survive_anything(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_slice_index(KEY, 0, &bytes, &Digest::crc32(&bytes));
        let _ = Footer::decode(KEY, bytes.len() as u64, &bytes, None);
        let mut footer = bytes;
        footer.resize(128, 0);
        footer[0..8].copy_from_slice(b"HWOBJECT");
        footer[92..96].copy_from_slice(&[0, 1, 0, 4]);
        let crc = crc32fast::hash(&footer[..92]).to_be_bytes();
        footer[96..100].copy_from_slice(&crc);
        footer[100..].fill(0);
        let _ = Footer::decode(KEY, 128, &footer, None);
    }

    /// Nor does a slice index with any values in any field that a checksum would not catch.
    #[test]
    fn valid_messages_with_mad_values_are_refused_or_sound(
        position in 0_usize..200, value: u8, insert in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let object = small_sample();
        let bytes = bytes_of(&object);
        let slice = &object.slices[0];
        let mut part =
            bytes[slice.index_position as usize..][..slice.index_length as usize].to_vec();
        let at = position % part.len();
        part[at] = value;
        part.splice(at..at, insert);
        if let Ok(index) = decode_slice_index(KEY, 0, &part, &Digest::crc32(&part)) {
            for number in 0..index.blocks.len() {
                prop_assert_eq!(
                    index.batches_of(number).len(),
                    index.blocks[number].batches as usize
                );
            }
            let _ = index.block_for(index.first_offset);
        }
    }
}
