//! Time.

use std::time::Duration;

/// Wall and monotonic time. Timers are tokio's and not here.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump: never orders anything, only labels it.
    fn wall_ms(&self) -> i64;

    /// Time since an arbitrary start, which never goes back and runs while the machine is
    /// suspended (CLOCK_BOOTTIME): what leases are counted on.
    fn monotonic(&self) -> Duration;
}
