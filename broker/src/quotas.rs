//! The seam at which use is counted and slowed down.
//!
//! As in Kafka since KIP-219 the answer goes out first, with its throttle time; then the
//! connection is muted for as long.

use std::time::Duration;

use crate::context::RequestContext;

/// What a request used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Bytes of records taken.
    Produce(usize),
    /// Bytes of records given.
    Fetch(usize),
    /// A request of any kind.
    Request,
}

/// Counts use, and says for how long the client is slowed down.
pub trait Quota: Send + Sync + 'static {
    /// The throttle time after this use; zero for none.
    fn charge(&self, context: &RequestContext, used: Use) -> Duration;
}

/// No quotas: until they come.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Quota for Unlimited {
    fn charge(&self, _: &RequestContext, _: Use) -> Duration {
        Duration::ZERO
    }
}

/// A throttle time as answers carry it.
pub(crate) fn throttle_ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
