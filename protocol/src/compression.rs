//! The five compression types of record batches. What comes out is capped: a cap stops a bomb
//! after the cap's worth of work.
//!
//! LZ4 here is the frame format as it is specified. The frames with a wrong header checksum
//! (KAFKA-3160) occur in messages of magic 0 and 1 only, which are refused before their records
//! are looked at.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use crate::error::{Error, Result, Source};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy, in the framing of xerial's Java library.
    Snappy = 2,
    /// LZ4, in its frame format.
    Lz4 = 3,
    /// Zstandard; from Produce version 7 on (KIP-110).
    Zstd = 4,
}

/// Start of xerial's framing; a version and a compatible version of 32 bits each follow.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// Bytes that xerial's library puts into one block.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Start of an LZ4 frame.
const LZ4_MAGIC: u32 = 0x184d_2204;
/// In a block's size: its bytes are as they were.
const LZ4_UNCOMPRESSED_BLOCK: u32 = 1 << 31;
/// Of a frame's flags: version, whether blocks are independent, a reserved bit, whether there is a
/// dictionary.
const LZ4_FIXED_FLAGS: u8 = 0b1110_0011;
/// What the Java client takes of those: version 1, independent blocks, nothing else.
const LZ4_TAKEN_FLAGS: u8 = 0b0110_0000;
/// Logarithms of windows that every zstd decoder should have, and that none has more than here.
const ZSTD_WINDOW_LOGS: (u32, u32) = (23, 27);
/// Three bytes of a snappy block can make 64 of output, and never more.
const SNAPPY_MAX_RATIO: usize = 22;

impl Compression {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The type with this number in the batch's attributes.
    ///
    /// # Errors
    /// If the format does not know it.
    pub fn from_id(id: u8) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|c| c.id() == id)
            .ok_or(Error::UnknownCompression { id })
    }

    /// The number in the batch's attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name used in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The type of this name in configurations.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Decompresses `payload` to at most `max_bytes`; without compression it is `payload` itself.
    ///
    /// # Errors
    /// If it is damaged, or if there is more.
    pub fn decompress(self, payload: &[u8], max_bytes: usize) -> Result<Cow<'_, [u8]>> {
        let decompressed = match self {
            Self::None => return Ok(Cow::Borrowed(payload)),
            Self::Snappy => self.read_snappy(payload, max_bytes)?,
            Self::Gzip | Self::Lz4 | Self::Zstd => {
                self.read(self.reader(payload, max_bytes)?, max_bytes)?
            }
        };
        Ok(Cow::Owned(decompressed))
    }

    /// Decompresses `payload` bit by bit. It does not end at `max_bytes`, but no single piece that
    /// is held in memory is larger, or larger than 8 MiB.
    ///
    /// # Errors
    /// If it is damaged at its very beginning; else reading fails when it comes to the damage.
    pub(crate) fn reader<'a>(
        self,
        payload: &'a [u8],
        max_bytes: usize,
    ) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(payload),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(payload)),
            Self::Snappy => Box::new(SnappyReader::new(payload, max_bytes)?),
            Self::Lz4 if is_lz4_frame(payload) => {
                Box::new(Lz4Reader(lz4_flex::frame::FrameDecoder::new(payload)))
            }
            Self::Lz4 => return Err(self.damaged("not one whole frame")),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)
                    .map_err(|error| self.damaged(error))?;
                decoder
                    .window_log_max(zstd_window_log(max_bytes))
                    .map_err(|error| self.damaged(error))?;
                Box::new(decoder)
            }
        })
    }

    /// Compresses `payload`.
    ///
    /// # Errors
    /// If the codec fails, which it has no reason to.
    pub fn compress(self, payload: &[u8]) -> Result<Cow<'_, [u8]>> {
        let compressed = match self {
            Self::None => return Ok(Cow::Borrowed(payload)),
            Self::Gzip => write_gzip(payload),
            Self::Snappy => write_snappy(payload),
            Self::Lz4 => write_lz4(payload),
            Self::Zstd => {
                zstd::bulk::compress(payload, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(Source::from)
            }
        };
        compressed
            .map(Cow::Owned)
            .map_err(|source| Error::Compress {
                codec: self.name(),
                source,
            })
    }

    pub(crate) fn damaged(self, source: impl Into<Source>) -> Error {
        Error::Decompress {
            codec: self.name(),
            source: source.into(),
        }
    }

    fn read(self, decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>> {
        let mut decompressed = Vec::new();
        // One byte over the cap tells that there is more.
        let cap = (max_bytes as u64).saturating_add(1);
        decoder
            .take(cap)
            .read_to_end(&mut decompressed)
            .map_err(|error| self.damaged(error))?;
        if decompressed.len() > max_bytes {
            return Err(Error::DecompressedTooLarge { limit: max_bytes });
        }
        Ok(decompressed)
    }

    fn read_snappy(self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
        let mut decompressed = Vec::new();
        let mut blocks = SnappyBlocks::new(payload)?;
        while let Some(block) = blocks.next()? {
            read_snappy_block(block, max_bytes, &mut decompressed)?;
        }
        Ok(decompressed)
    }
}

/// The logarithm of the largest zstd window for pieces of `max_bytes`.
fn zstd_window_log(max_bytes: usize) -> u32 {
    let (least, most) = ZSTD_WINDOW_LOGS;
    let log = usize::BITS - max_bytes.saturating_sub(1).leading_zeros();
    log.clamp(least, most)
}

/// The decoder takes a block that makes no bytes for the end of the frame; here it is read beyond.
struct Lz4Reader<'a>(lz4_flex::frame::FrameDecoder<&'a [u8]>);

impl Read for Lz4Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let left = self.0.get_ref().len();
            let read = self.0.read(into)?;
            let left_after = self.0.get_ref().len();
            // Each turn eats a block at least; the last eats the end mark, and all is eaten.
            if read > 0 || left_after == 0 || left_after == left {
                return Ok(read);
            }
        }
    }
}

/// Whether the bytes are one LZ4 frame up to its end mark, such as the Java client takes: it refuses
/// linked blocks. The decoder takes a frame that is cut off between two blocks for its end, the Java
/// client does not.
fn is_lz4_frame(payload: &[u8]) -> bool {
    let field = |at: usize| -> Option<u32> {
        let bytes = payload.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let walk = || {
        if field(0)? != LZ4_MAGIC {
            return None;
        }
        let flags = *payload.get(4)?;
        if flags & LZ4_FIXED_FLAGS != LZ4_TAKEN_FLAGS {
            return None;
        }
        let sized = |bit: u8, bytes: usize| usize::from(flags >> bit & 1) * bytes;
        // Magic, flags, block size, content size, header checksum.
        let mut at = 6 + sized(3, 8) + 1;
        loop {
            let size = field(at)?;
            at += 4;
            if size == 0 {
                return Some(at + sized(2, 4));
            }
            let size = size & !LZ4_UNCOMPRESSED_BLOCK;
            if size == 0 {
                // An empty block, which no encoder writes and decoders disagree about.
                return None;
            }
            at = at.checked_add(size as usize + sized(4, 4))?;
        }
    };
    walk() == Some(payload.len())
}

/// The compressed blocks in xerial's framing, or the one raw block without any, as some clients
/// send.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    raw: bool,
}

impl<'a> SnappyBlocks<'a> {
    fn new(payload: &'a [u8]) -> Result<Self> {
        if !payload.starts_with(XERIAL_MAGIC) {
            let (rest, raw) = (payload, true);
            return Ok(Self { rest, raw });
        }
        let rest = payload.get(XERIAL_HEADER_BYTES..);
        let rest = rest.ok_or_else(|| Compression::Snappy.damaged("the header is cut off"))?;
        Ok(Self { rest, raw: false })
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>> {
        if self.raw {
            self.raw = false;
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let damaged = |what: &'static str| Compression::Snappy.damaged(what);
        let (len, blocks) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| damaged("the length of a block is cut off"))?;
        let (block, rest) = blocks
            .split_at_checked(u32::from_be_bytes(*len) as usize)
            .ok_or_else(|| damaged("a block longer than the payload"))?;
        self.rest = rest;
        Ok(Some(block))
    }
}

/// One block after the other.
struct SnappyReader<'a> {
    blocks: SnappyBlocks<'a>,
    max_bytes: usize,
    block: Vec<u8>,
    at: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(payload: &'a [u8], max_bytes: usize) -> Result<Self> {
        Ok(Self {
            blocks: SnappyBlocks::new(payload)?,
            max_bytes,
            block: Vec::new(),
            at: 0,
        })
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            let Some(block) = self.blocks.next().map_err(io::Error::other)? else {
                return Ok(0);
            };
            self.block.clear();
            self.at = 0;
            read_snappy_block(block, self.max_bytes, &mut self.block).map_err(io::Error::other)?;
        }
        let len = into.len().min(self.block.len() - self.at);
        into[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn read_snappy_block(block: &[u8], max_bytes: usize, into: &mut Vec<u8>) -> Result<()> {
    let damaged = |error: Source| Compression::Snappy.damaged(error);
    let len = snap::raw::decompress_len(block).map_err(|error| damaged(error.into()))?;
    if len > max_bytes - into.len() {
        return Err(Error::DecompressedTooLarge { limit: max_bytes });
    }
    if len > block.len() * SNAPPY_MAX_RATIO {
        return Err(damaged(
            "a block that declares more than it can hold".into(),
        ));
    }
    let start = into.len();
    into.resize(start + len, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut into[start..])
        .map_err(|error| damaged(error.into()))?;
    into.truncate(start + written);
    Ok(())
}

fn write_gzip(payload: &[u8]) -> Result<Vec<u8>, Source> {
    let compressed = Vec::with_capacity(payload.len() / 2);
    let mut encoder = flate2::write::GzEncoder::new(compressed, flate2::Compression::default());
    encoder.write_all(payload)?;
    Ok(encoder.finish()?)
}

fn write_snappy(payload: &[u8]) -> Result<Vec<u8>, Source> {
    let mut compressed = Vec::with_capacity(payload.len() / 2);
    compressed.extend_from_slice(XERIAL_MAGIC);
    compressed.extend_from_slice(&1u32.to_be_bytes());
    compressed.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in payload.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block)?;
        compressed.extend_from_slice(&(block.len() as u32).to_be_bytes());
        compressed.extend_from_slice(&block);
    }
    Ok(compressed)
}

fn write_lz4(payload: &[u8]) -> Result<Vec<u8>, Source> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // What Kafka's own clients write: independent blocks of 64 KiB.
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(payload.len() / 2));
    encoder.write_all(payload)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Compression; 4] = [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn text(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| b"the quick brown fox "[i * 7 % 20] ^ (i / 97 % 5) as u8)
            .collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in Compression::ALL {
            for len in [
                0,
                1,
                100,
                XERIAL_BLOCK_BYTES,
                XERIAL_BLOCK_BYTES + 1,
                300_000,
            ] {
                let payload = text(len);
                let compressed = codec.compress(&payload).unwrap();
                let back = codec.decompress(&compressed, len).unwrap();
                assert_eq!(*back, payload, "{} of {len}", codec.name());
            }
        }
    }

    #[test]
    fn a_cap_is_exact() {
        for codec in CODECS {
            let payload = text(100_000);
            let compressed = codec.compress(&payload).unwrap();
            assert!(codec.decompress(&compressed, 100_000).is_ok());
            let error = codec.decompress(&compressed, 99_999).unwrap_err();
            assert!(
                matches!(error, Error::DecompressedTooLarge { limit: 99_999 }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_cap() {
        for codec in CODECS {
            let bomb = codec.compress(&vec![0; 64 << 20]).unwrap().into_owned();
            let error = codec.decompress(&bomb, 1 << 20).unwrap_err();
            assert!(
                matches!(error, Error::DecompressedTooLarge { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_snappy_block_cannot_declare_what_it_does_not_hold() {
        // A declared length of 100 MiB in five bytes.
        let hostile = [0x80, 0x80, 0x80, 0x32, 0x00];
        let error = Compression::Snappy
            .decompress(&hostile, 1 << 30)
            .unwrap_err();
        assert!(matches!(error, Error::Decompress { .. }), "{error}");
    }

    #[test]
    fn raw_snappy_is_read() {
        let payload = text(5000);
        let raw = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
        assert_eq!(
            *Compression::Snappy.decompress(&raw, 5000).unwrap(),
            payload
        );
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_within_the_cap() {
        let payload = text(3000);
        for codec in CODECS {
            let whole = codec.compress(&payload).unwrap().into_owned();
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                if let Ok(bytes) = codec.decompress(&damaged, 10_000) {
                    assert!(bytes.len() <= 10_000);
                }
                if let Ok(bytes) = codec.decompress(&whole[..at], 10_000) {
                    assert!(payload.starts_with(&bytes), "{} cut at {at}", codec.name());
                }
            }
        }
    }

    #[test]
    fn an_lz4_frame_ends_with_its_mark_whatever_its_options() {
        use lz4_flex::frame::{FrameEncoder, FrameInfo};
        let payload = text(150_000);
        for options in 0..8u32 {
            let info = FrameInfo::new()
                .block_checksums(options & 1 != 0)
                .content_checksum(options & 2 != 0)
                .content_size((options & 4 != 0).then_some(payload.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&payload).unwrap();
            let whole = encoder.finish().unwrap();
            let back = Compression::Lz4.decompress(&whole, payload.len()).unwrap();
            assert_eq!(*back, payload, "options {options}");
            for cut in 1..60 {
                let cut = &whole[..whole.len() - cut];
                assert!(Compression::Lz4.decompress(cut, payload.len()).is_err());
            }
            let more = [&whole[..], &[0]].concat();
            assert!(Compression::Lz4.decompress(&more, payload.len()).is_err());
        }
    }

    /// A frame of blocks as they are, each `(is compressed, bytes)`, with an end mark.
    fn lz4_frame(flags: u8, blocks: &[(bool, &[u8])]) -> Vec<u8> {
        let mut frame = write_lz4(b"").unwrap();
        frame.truncate(7);
        // With other flags the header's checksum is wrong: that is looked at last.
        frame[4] = flags;
        for (compressed, bytes) in blocks {
            let raw = if *compressed {
                0
            } else {
                LZ4_UNCOMPRESSED_BLOCK
            };
            frame.extend_from_slice(&(bytes.len() as u32 | raw).to_le_bytes());
            frame.extend_from_slice(bytes);
        }
        frame.extend_from_slice(&[0; 4]);
        frame
    }

    #[test]
    fn an_lz4_block_without_bytes_is_no_end() {
        // A token for no literals and nothing more: a block that decompresses to nothing.
        let empty: (bool, &[u8]) = (true, &[0]);
        let [first, last] = [b"first".as_slice(), b"last"].map(|bytes| (false, bytes));
        let read = |blocks: &[(bool, &[u8])]| {
            let frame = lz4_frame(LZ4_TAKEN_FLAGS, blocks);
            Compression::Lz4
                .decompress(&frame, 100)
                .map(Cow::into_owned)
        };
        assert_eq!(read(&[first, empty, last]).unwrap(), b"firstlast");
        assert_eq!(read(&[empty, empty, first]).unwrap(), b"first");
        assert_eq!(read(&[first, empty]).unwrap(), b"first");
        assert_eq!(read(&[empty]).unwrap(), b"");
        // And this is no end mark, though its length is 0.
        assert!(read(&[first, (false, b"")]).is_err());
        assert!(read(&[first, (false, b""), last]).is_err());
    }

    #[test]
    fn an_lz4_frame_that_the_java_client_refuses_is_refused() {
        use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
        let payload = text(150_000);
        let info = FrameInfo::new().block_mode(BlockMode::Linked);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&payload).unwrap();
        let linked = encoder.finish().unwrap();
        assert!(Compression::Lz4.decompress(&linked, payload.len()).is_err());
        for bit in [0, 1, 5, 6, 7] {
            let frame = lz4_frame(LZ4_TAKEN_FLAGS ^ 1 << bit, &[(false, b"bytes")]);
            assert!(!is_lz4_frame(&frame), "bit {bit}");
        }
        assert!(is_lz4_frame(&lz4_frame(
            LZ4_TAKEN_FLAGS,
            &[(false, b"bytes")]
        )));
    }

    #[test]
    fn a_zstd_window_is_as_large_as_what_may_come_out() {
        assert_eq!(zstd_window_log(0), 23);
        assert_eq!(zstd_window_log(8 << 20), 23);
        assert_eq!(zstd_window_log((8 << 20) + 1), 24);
        assert_eq!(zstd_window_log(128 << 20), 27);
        assert_eq!(zstd_window_log(usize::MAX), 27);
    }

    #[test]
    fn names_and_numbers_are_kafkas() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
            assert_eq!(Compression::from_id(codec.id()).unwrap(), codec);
        }
        assert!(matches!(
            Compression::from_id(5),
            Err(Error::UnknownCompression { id: 5 })
        ));
    }
}
