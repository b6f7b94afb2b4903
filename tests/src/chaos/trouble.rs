//! What goes wrong, one thing at a time.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::faults::{FaultSettings, Latency};

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Trouble {
    /// kill -9 of one broker that does not lead the controllers.
    Kill,
    /// kill -9 of the node whose controller leads.
    KillController,
    /// kill -9 of two brokers at once.
    KillTwo,
    /// SIGSTOP of one broker for 10 to 20 s, then SIGCONT.
    Pause,
    /// SIGTERM of one broker.
    Stop,
    /// SIGTERM and start of every node, one after the other.
    Roll,
    /// The store answers nothing for 5 to 15 s.
    StoreAway,
    /// The store answers 503, loses answers, cuts bodies, lands puts late.
    StoreFlaky,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::KillController => "kill-controller",
            Self::KillTwo => "kill-two",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Roll => "roll",
            Self::StoreAway => "store-away",
            Self::StoreFlaky => "store-flaky",
        })
    }
}

/// A store on a bad day.
pub(super) fn flaky(latency: Option<Latency>) -> FaultSettings {
    FaultSettings {
        latency,
        unavailable: 0.15,
        lost_answers: 0.08,
        late_puts: 0.04,
        late_by: Duration::from_secs(5),
        truncated: 0.04,
        flipped: 0.02,
        listing_lag: Duration::from_secs(2),
        ..FaultSettings::default()
    }
}

/// A store that answers nothing.
pub(super) fn away(latency: Option<Latency>) -> FaultSettings {
    FaultSettings {
        latency,
        away: true,
        ..FaultSettings::default()
    }
}
