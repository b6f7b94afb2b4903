//! Time from tokio's clock, which a simulation pauses.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::Clock;

/// 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// A clock that starts at a fixed date. Make it inside the runtime.
pub struct SimClock {
    start: Instant,
    /// How much faster than time itself, in millionths.
    drift: i32,
    /// Added to the wall clock, milliseconds.
    skew_ms: Mutex<i64>,
    /// What it shows while its machine is held still.
    held: Mutex<Option<Duration>>,
}

impl SimClock {
    /// A clock that starts now.
    #[expect(
        clippy::new_without_default,
        reason = "it reads the clock of its runtime"
    )]
    pub fn new() -> Self {
        Self::drifting(0)
    }

    /// One that is fast by so many millionths, or slow.
    pub fn drifting(millionths: i32) -> Self {
        Self {
            start: Instant::now(),
            drift: millionths,
            skew_ms: Mutex::new(0),
            held: Mutex::new(None),
        }
    }

    /// Shows the same time until [`SimClock::release`]: a process that is paused does not see time
    /// go by, and sees that it went by when it runs again.
    pub fn hold(&self) {
        let now = self.monotonic();
        *self.held.lock().expect("no panic under this lock") = Some(now);
    }

    /// Shows the time that it is.
    pub fn release(&self) {
        *self.held.lock().expect("no panic under this lock") = None;
    }

    /// Sets the wall clock right.
    pub fn set_wall_right(&self) {
        *self.skew_ms.lock().expect("no panic under this lock") = 0;
    }

    /// Makes the wall clock jump; the monotonic one never does.
    pub fn jump_wall(&self, by_ms: i64) {
        *self.skew_ms.lock().expect("no panic under this lock") += by_ms;
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        let skew = *self.skew_ms.lock().expect("no panic under this lock");
        EPOCH_MS.saturating_add(elapsed).saturating_add(skew)
    }

    fn monotonic(&self) -> Duration {
        if let Some(held) = *self.held.lock().expect("no panic under this lock") {
            return held;
        }
        let elapsed = self.start.elapsed();
        let by = elapsed / 1_000_000 * self.drift.unsigned_abs();
        match self.drift < 0 {
            true => elapsed.saturating_sub(by),
            false => elapsed + by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_held_clock_sees_afterwards_that_time_went_by() {
        let clock = SimClock::new();
        tokio::time::advance(Duration::from_secs(1)).await;
        clock.hold();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.monotonic(), Duration::from_secs(1));
        assert_eq!(clock.wall_ms(), EPOCH_MS + 1000);
        clock.release();
        assert_eq!(clock.monotonic(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_drift_apart() {
        let (fast, slow) = (SimClock::drifting(10_000), SimClock::drifting(-10_000));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(fast.monotonic(), Duration::from_secs(101));
        assert_eq!(slow.monotonic(), Duration::from_secs(99));
    }
}
