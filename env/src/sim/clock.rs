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
    /// Added to the wall clock, milliseconds.
    skew_ms: Mutex<i64>,
}

impl SimClock {
    /// A clock that starts now.
    #[expect(
        clippy::new_without_default,
        reason = "it reads the clock of its runtime"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            skew_ms: Mutex::new(0),
        }
    }

    /// Makes the wall clock jump; the monotonic one never does.
    pub fn jump_wall(&self, by_ms: i64) {
        *self.skew_ms.lock().expect("no panic under this lock") += by_ms;
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        let skew = *self.skew_ms.lock().expect("no panic under this lock");
        EPOCH_MS.saturating_add(elapsed).saturating_add(skew)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
