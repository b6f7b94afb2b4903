//! The real side: the one module that touches the operating system.

mod disk;
mod net;
mod threads;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::{Clock, Entropy, Env};

/// The operating system as [`Env`].
pub fn env() -> Env {
    Env {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        disk: Arc::new(disk::SystemDisk),
        net: Arc::new(net::SystemNetwork),
        threads: Arc::new(threads::SystemThreads),
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970 labels records with 0 rather than failing produce.
            Err(_) => 0,
        }
    }

    fn monotonic(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).expect("boot time is not negative");
        let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds are below 1e9");
        Duration::new(seconds, nanos)
    }
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let n = getrandom(&mut *out, GetRandomFlags::empty())
                .or_else(|e| {
                    if e == rustix::io::Errno::INTR {
                        Ok(0)
                    } else {
                        Err(e)
                    }
                })
                .expect("the kernel gives random bytes");
            out = &mut out[n..];
        }
    }
}
