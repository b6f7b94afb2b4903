//! What can be wrong with bytes from outside, and what the caller does about it.

use thiserror::Error;

use crate::api::ApiKey;
use crate::error_code::ErrorCode;

/// The reason that a library gives; its type is of no use to a caller.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What the caller of this crate does about an [`Error`](enum@Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The sender broke the protocol or asks for what is not served: refuse it.
    Invalid,
    /// Stored or sent bytes contradict their own checksum or lengths.
    Corrupt,
    /// We handed this crate something that cannot be encoded: a defect of ours.
    Internal,
}

/// Every error of this crate.
#[derive(Debug, Error)]
pub enum Error {
    /// A length prefix below zero, or below the shortest header.
    #[error("a frame of {declared} bytes is too short (the shortest has {min})")]
    FrameTooShort {
        /// Length that was declared or found, in bytes.
        declared: i64,
        /// Shortest that makes sense, in bytes.
        min: usize,
    },
    /// A length prefix above the limit.
    #[error("a frame of {declared} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Length that was declared, in bytes.
        declared: i64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// An API key that is not served: the connection is closed.
    #[error("API key {key} is not served")]
    UnknownApi {
        /// The number on the wire.
        key: i16,
    },
    /// A version that is not served. For ApiVersions it is answered with
    /// [`encode_unsupported_api_versions`](crate::encode_unsupported_api_versions); for every
    /// other API the connection is closed.
    #[error("version {version} of {key} is not served")]
    UnsupportedVersion {
        /// The API.
        key: ApiKey,
        /// Version that was asked for.
        version: i16,
        /// To answer with.
        correlation_id: i32,
    },
    /// A length, count or marker in a message that its own bytes contradict.
    #[error("malformed message: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Position in the frame, after the length prefix.
        at: usize,
    },
    /// More array elements and tagged fields than a message may hold.
    #[error("more than {limit} elements in one message, at byte {at}")]
    TooManyElements {
        /// The budget.
        limit: usize,
        /// Position in the frame, after the length prefix.
        at: usize,
    },
    /// Bytes are left after the message.
    #[error("{extra} bytes left over after the message, from byte {at}")]
    TrailingBytes {
        /// Position in the frame, after the length prefix.
        at: usize,
        /// How many.
        extra: usize,
    },
    /// The codec refused what the guard let pass, such as a string that is not UTF-8.
    #[error("cannot decode {key} version {version}: {source}")]
    Decode {
        /// The API.
        key: ApiKey,
        /// Version of the API.
        version: i16,
        /// Why.
        source: Source,
    },
    /// A message that its version cannot express.
    #[error("cannot encode {key} version {version}: {source}")]
    Encode {
        /// The API.
        key: ApiKey,
        /// Version of the API.
        version: i16,
        /// Why.
        source: Source,
    },
    /// A batch of another format than v2.
    #[error("a batch of magic {magic} where only 2 is taken")]
    BatchMagic {
        /// The magic byte.
        magic: i8,
    },
    /// A batch whose length does not fit the bytes it comes in.
    #[error("a batch of {declared} bytes in {available}")]
    BatchLength {
        /// Length by the batch's own header, in bytes, all of the header included.
        declared: i64,
        /// Bytes there are.
        available: usize,
    },
    /// A batch whose CRC-32C does not match.
    #[error("batch checksum {stored:#010x} stored, {computed:#010x} computed")]
    BatchChecksum {
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// A header field of a batch that contradicts another one or the format.
    #[error("malformed batch: {what}")]
    BatchHeader {
        /// What is wrong.
        what: &'static str,
    },
    /// A produced batch that claims the broker's time for its timestamps.
    #[error("a producer may not set the timestamp type to log append time")]
    BatchTimestampType,
    /// A compression type that the format does not know.
    #[error("unknown compression type {id}")]
    UnknownCompression {
        /// The lowest three bits of the attributes.
        id: u8,
    },
    /// A compressed payload that does not decompress.
    #[error("cannot decompress {codec}: {source}")]
    Decompress {
        /// The codec's name.
        codec: &'static str,
        /// Why.
        source: Source,
    },
    /// A payload that decompresses to more than the cap.
    #[error("a batch decompresses to more than {limit} bytes")]
    DecompressedTooLarge {
        /// The cap, in bytes.
        limit: usize,
    },
    /// A payload that could not be compressed.
    #[error("cannot compress {codec}: {source}")]
    Compress {
        /// The codec's name.
        codec: &'static str,
        /// Why.
        source: Source,
    },
    /// A record that its own lengths contradict.
    #[error("malformed record: {what} at byte {at} of the payload")]
    Record {
        /// What is wrong.
        what: &'static str,
        /// Position in the decompressed payload.
        at: usize,
    },
    /// A batch that cannot be built from what it was given.
    #[error("cannot build a batch: {what}")]
    Build {
        /// What is wrong.
        what: &'static str,
    },
}

impl Error {
    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FrameTooShort { .. }
            | Self::FrameTooLarge { .. }
            | Self::UnknownApi { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Malformed { .. }
            | Self::TooManyElements { .. }
            | Self::TrailingBytes { .. }
            | Self::Decode { .. }
            | Self::BatchMagic { .. }
            | Self::BatchTimestampType
            | Self::UnknownCompression { .. }
            | Self::DecompressedTooLarge { .. } => ErrorKind::Invalid,
            Self::BatchLength { .. }
            | Self::BatchChecksum { .. }
            | Self::BatchHeader { .. }
            | Self::Decompress { .. }
            | Self::Record { .. } => ErrorKind::Corrupt,
            Self::Encode { .. } | Self::Compress { .. } | Self::Build { .. } => ErrorKind::Internal,
        }
    }

    /// The code a client is answered with, where this error has an answer at all.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::FrameTooShort { .. }
            | Self::FrameTooLarge { .. }
            | Self::UnknownApi { .. }
            | Self::Malformed { .. }
            | Self::TooManyElements { .. }
            | Self::TrailingBytes { .. }
            | Self::Decode { .. } => ErrorCode::InvalidRequest,
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::BatchMagic { .. } | Self::BatchHeader { .. } => ErrorCode::InvalidRecord,
            Self::BatchLength { .. }
            | Self::BatchChecksum { .. }
            | Self::Decompress { .. }
            | Self::Record { .. } => ErrorCode::CorruptMessage,
            Self::BatchTimestampType => ErrorCode::InvalidTimestamp,
            Self::UnknownCompression { .. } => ErrorCode::UnsupportedCompressionType,
            Self::DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Encode { .. } | Self::Compress { .. } | Self::Build { .. } => {
                ErrorCode::UnknownServerError
            }
        }
    }
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
