//! How a store misbehaves, drawn from a seed: the same seed and the same requests give the same
//! faults.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use env::SplitMix;
use parking_lot::Mutex;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Storing an object.
    Put,
    /// Bytes, or the length, of an object.
    Get,
    /// Names.
    List,
    /// Deletion.
    Delete,
}

/// Latency of a request: lognormal, as object stores have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of the requests are faster.
    pub median: Duration,
    /// One in a hundred is slower.
    pub p99: Duration,
}

impl Latency {
    /// What a regional bucket shows from within its region.
    pub fn regional() -> Self {
        Self {
            median: Duration::from_millis(30),
            p99: Duration::from_millis(150),
        }
    }
}

impl FromStr for Latency {
    type Err = anyhow::Error;

    /// Of `MEDIAN/P99` in milliseconds.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (median, p99) = text.split_once('/').context("not MEDIAN/P99")?;
        Ok(Self {
            median: Duration::from_millis(median.parse()?),
            p99: Duration::from_millis(p99.parse()?),
        })
    }
}

/// What conditional creates are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditions {
    /// One create wins, always.
    #[default]
    Honoured,
    /// The condition is not looked at: a create overwrites.
    Ignored,
    /// The condition is checked without a lock: a race has several winners.
    Racy,
}

/// Which faults, and how often (probabilities from 0 to 1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultSettings {
    /// Time that every request takes.
    pub latency: Option<Latency>,
    /// 503 before anything was done.
    pub unavailable: f64,
    /// Done, but the answer is lost.
    pub lost_answers: f64,
    /// A put that is refused, yet lands after `late_by`.
    pub late_puts: f64,
    /// How late.
    pub late_by: Duration,
    /// Bodies that end early under a status of success.
    pub truncated: f64,
    /// Bodies with one bit flipped.
    pub flipped: f64,
    /// Objects put less than this ago are missing in listings.
    pub listing_lag: Duration,
    /// What conditional creates are worth.
    pub conditions: Conditions,
    /// Every request fails at once, as when the store is away.
    pub away: bool,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is wrong.
    None,
    /// 503, nothing done.
    Unavailable,
    /// Done, answer lost.
    LostAnswer,
    /// Refused now, done later.
    LatePut(Duration),
    /// The body ends after this share of it, in 1/65536.
    Truncated(u16),
    /// The bit at this position, modulo the body's length, is flipped.
    Flipped(u64),
}

/// The fate of one request: how long it takes and what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Before it is done.
    pub before: Duration,
    /// Between its being done and the answer.
    pub after: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

/// Draws fates.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: SplitMix,
    settings: FaultSettings,
    injected: u64,
}

// === impl Faults ===

impl Faults {
    /// Faults of `settings`, drawn from `seed`.
    pub fn new(seed: u64, settings: FaultSettings) -> Self {
        let random = SplitMix::new(seed);
        Self {
            state: Mutex::new(State {
                random,
                settings,
                injected: 0,
            }),
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set(&self, settings: FaultSettings) {
        self.state.lock().settings = settings;
    }

    /// What goes wrong at present.
    pub fn settings(&self) -> FaultSettings {
        self.state.lock().settings
    }

    /// Requests that something went wrong with.
    pub fn injected(&self) -> u64 {
        self.state.lock().injected
    }

    /// The fate of the next request.
    pub fn draw(&self, asked: Asked) -> Fate {
        let mut state = self.state.lock();
        let settings = state.settings;
        // Always as many draws, so that switching one fault on leaves the others where they were.
        let total = settings
            .latency
            .map_or(Duration::ZERO, |l| lognormal(&mut state.random, l));
        let share = state.random.unit();
        let rolls: [f64; 5] = std::array::from_fn(|_| state.random.unit());
        let detail = state.random.draw();
        let before = total.mul_f64(share);
        let hit = |roll: usize, chance: f64| rolls[roll] < chance;
        let fault = match asked {
            _ if settings.away || hit(0, settings.unavailable) => Fault::Unavailable,
            Asked::Put if hit(1, settings.late_puts) => Fault::LatePut(settings.late_by),
            Asked::Put | Asked::Delete if hit(2, settings.lost_answers) => Fault::LostAnswer,
            Asked::Get if hit(3, settings.truncated) => Fault::Truncated(detail as u16),
            Asked::Get if hit(4, settings.flipped) => Fault::Flipped(detail),
            Asked::Put | Asked::Get | Asked::List | Asked::Delete => Fault::None,
        };
        state.injected += u64::from(fault != Fault::None);
        Fate {
            before,
            after: total - before,
            fault,
        }
    }
}

/// Cuts or flips `body` as `fault` says; other faults leave it alone.
pub fn damage(fault: Fault, body: bytes::Bytes) -> bytes::Bytes {
    match fault {
        Fault::Truncated(share) => {
            let kept = (body.len() as u64 * u64::from(share) / 65_536) as usize;
            body.slice(..kept)
        }
        Fault::Flipped(position) if !body.is_empty() => {
            let bit = position % (body.len() as u64 * 8);
            let mut flipped = body.to_vec();
            flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
            flipped.into()
        }
        Fault::Flipped(_)
        | Fault::None
        | Fault::Unavailable
        | Fault::LostAnswer
        | Fault::LatePut(_) => body,
    }
}

fn lognormal(random: &mut SplitMix, latency: Latency) -> Duration {
    /// The 99th percentile of the standard normal distribution.
    const Z99: f64 = 2.326_347_9;
    let median = latency.median.as_secs_f64().max(1e-9);
    let sigma = (latency.p99.as_secs_f64().max(median) / median).ln() / Z99;
    // Box–Muller; 1 - unit() is never 0.
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.unit()).cos();
    // Beyond five sigma nothing is learnt, and tests would hang.
    let seconds = median * (sigma * normal.clamp(-5.0, 5.0)).exp();
    Duration::from_nanos((seconds * 1e9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_fates() {
        let settings = FaultSettings {
            latency: Some(Latency::regional()),
            unavailable: 0.1,
            lost_answers: 0.2,
            truncated: 0.3,
            ..FaultSettings::default()
        };
        let draw = |seed| {
            let faults = Faults::new(seed, settings);
            let fates = (0..200).map(|n| faults.draw([Asked::Put, Asked::Get][n % 2]));
            fates.collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn latency_has_the_median_and_tail_that_were_asked_for() {
        let mut random = SplitMix::new(7);
        let mut drawn: Vec<_> = (0..20_000)
            .map(|_| lognormal(&mut random, Latency::regional()))
            .collect();
        drawn.sort();
        let at = |share: f64| drawn[(drawn.len() as f64 * share) as usize].as_secs_f64();
        assert!((at(0.5) - 0.030).abs() < 0.002, "median {}", at(0.5));
        assert!((at(0.99) - 0.150).abs() < 0.020, "p99 {}", at(0.99));
    }
}
