//! A small S3 server on loopback: one mutex over a map, and faults on demand. Large objects lie in
//! files where a directory is given.
//!
//! ```text
//!   hyper ─▶ faults (503, latency, lost answers, late puts, short or flipped bodies)
//!              ─▶ s3s (signatures, XML) ─▶ Buckets: conditional create, ranges, head, list, delete
//! ```
//!
//! **Invariant:** it listens on loopback only, and a conditional create has one winner unless the
//! fault settings say otherwise.

mod buckets;
mod serve;

pub use serve::{S3Server, S3Settings};

/// The bucket that is there from the start.
pub const BUCKET: &str = "headwater-test";
/// The one access key.
pub const ACCESS_KEY: &str = "test-access-key";
/// Its secret.
pub const SECRET_KEY: &str = "test-secret-key";
