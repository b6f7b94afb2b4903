//! How often to put: a token bucket that trades latency against the price of puts.
//!
//! With a token and nothing in flight, at once. Else gather: until the pace allows the next put,
//! or a full group is there, which always goes.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Pace;
use crate::limits::GROUP_BYTES;

pub(super) struct TokenBucket {
    interval: Duration,
    burst: u32,
    /// When the bucket will be full, if nothing is taken until then.
    full_at: Option<Instant>,
    last: Option<Instant>,
}

impl TokenBucket {
    pub(super) fn new(per_second: u32) -> Self {
        assert!(per_second > 0, "a log must be able to put");
        let interval = Duration::from_secs(1) / per_second;
        Self {
            interval,
            burst: per_second,
            full_at: None,
            last: None,
        }
    }

    /// `Now` takes a token.
    pub(super) fn pace(&mut self, now: Instant, queued_bytes: usize, in_flight: usize) -> Pace {
        let capacity = self.interval * self.burst;
        let full_at = self.full_at.unwrap_or(now).max(now);
        let token_at = (full_at + self.interval)
            .checked_sub(capacity)
            .unwrap_or(now);
        let due = match self.last {
            Some(last) if in_flight > 0 => token_at.max(last + self.interval),
            _ => token_at,
        };
        if queued_bytes < GROUP_BYTES && due > now {
            return Pace::At(due);
        }
        // A full group goes without a token too, but never pushes the debt beyond one bucket.
        self.full_at = Some((full_at + self.interval).min(now + capacity));
        self.last = Some(now);
        Pace::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_then_the_pace_holds() {
        let mut bucket = TokenBucket::new(8);
        let start = Instant::now();
        for put in 0..8 {
            assert_eq!(bucket.pace(start, 1, 0), Pace::Now, "put {put}");
        }
        let tick = Duration::from_millis(125);
        assert_eq!(bucket.pace(start, 1, 0), Pace::At(start + tick));
        assert_eq!(bucket.pace(start + tick, 1, 0), Pace::Now);
        assert_eq!(bucket.pace(start + tick, 1, 0), Pace::At(start + 2 * tick));
        // A full group always goes.
        assert_eq!(bucket.pace(start + tick, GROUP_BYTES, 7), Pace::Now);
        // A second later the bucket is full again.
        let later = start + Duration::from_secs(60);
        for put in 0..8 {
            assert_eq!(bucket.pace(later, 1, 0), Pace::Now, "put {put}");
        }
        assert_eq!(bucket.pace(later, 1, 0), Pace::At(later + tick));
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_put_is_in_flight_the_next_gathers_for_one_interval() {
        let mut bucket = TokenBucket::new(8);
        let start = Instant::now();
        assert_eq!(bucket.pace(start, 1, 0), Pace::Now);
        let tick = Duration::from_millis(125);
        assert_eq!(bucket.pace(start, 1, 1), Pace::At(start + tick));
        // Nothing in flight any more: the token may be used.
        assert_eq!(bucket.pace(start, 1, 0), Pace::Now);
    }
}
