//! Words and bytes of Kafka: no runtime, no I/O.
//!
//! ```text
//! socket bytes ─▶ frame ─▶ guard ─▶ codec ─▶ Request ─▶ handlers ─▶ Response ─▶ codec ─▶ segments
//!                                              │                       ▲
//!                                records ─▶ BatchView ─▶ storage ─▶ Records (by reference)
//! ```
//!
//! - [`api`] is the one table of what is served.
//! - [`decode_request`] and [`encode_response`] turn frames into messages and back; the client's
//!   direction is [`encode_request`] and [`decode_response`].
//! - [`BatchView`] looks at record batches without copying them.
//!
//! **Invariants:** nothing here panics on bytes from outside; no length is used before it was
//! compared with the bytes that are there; the library's decoder runs only behind the guard.

pub mod api;
pub mod batch;
mod builder;
mod codec;
mod compression;
mod control;
mod error;
mod error_code;
pub mod frame;
mod generated;
pub mod guard;
mod ids;
pub mod limits;
pub mod messages;
mod record;
mod records;
#[cfg(any(test, feature = "test-util"))]
pub mod synth;
mod varint;
mod walk;

pub use api::{ApiEntry, ApiKey, Codec};
pub use batch::{
    BATCH_HEADER_BYTES, BatchView, Batches, TimestampType, crc32c, increment_sequence,
    set_base_offset, set_leader_epoch, set_log_append_time, set_max_timestamp,
};
pub use builder::BatchBuilder;
pub use codec::{
    EncodedFrame, Request, Response, advertised_api_keys, decode_request, decode_response,
    encode_request, encode_response, encode_unsupported_api_versions,
};
pub use compression::Compression;
pub use control::{EndTransactionMarker, TransactionResult};
pub use error::{Error, ErrorKind, Result, Source};
pub use error_code::ErrorCode;
pub use frame::{RequestHeader, RequestPeek};
pub use ids::*;
pub use record::{Header, HeaderIter, Headers, Record, RecordIter};
pub use records::Records;
pub use walk::{Visited, WalkLimits};
