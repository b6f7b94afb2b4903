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
    /// kill -9 of two brokers at once; a quorum of the voters stays.
    KillTwo,
    /// kill -9 of as many voters as the quorum needs; one of them is started again.
    KillQuorum,
    /// SIGSTOP of one broker for a while (`--pause`), then SIGCONT.
    Pause,
    /// SIGSTOP of one broker until it is fenced, while its clients go on sending to it; drained, so
    /// that it leads nothing, it is resumed and may acknowledge nothing.
    Zombie,
    /// SIGTERM of one broker.
    Stop,
    /// SIGTERM and start of every node, one after the other.
    Roll,
    /// `broker drain` of one broker.
    Drain,
    /// `topic move` of all partitions of one broker to another.
    Move,
    /// The store answers nothing for 5 to 15 s.
    StoreAway,
    /// The store answers 503, loses answers, cuts bodies, lands puts late.
    StoreFlaky,
    /// What one broker sends to the voters is lost for 12 to 16 s; what they send arrives.
    CutOneWay,
    /// One broker and all voters cannot reach each other for 12 to 16 s.
    CutBroker,
    /// The voter that leads and the other voters cannot reach each other for 12 to 16 s.
    CutController,
    /// The same, and kill -9 of a broker without a vote a second later: its log is recovered while
    /// the controllers are cut apart.
    CutAndKill,
    /// One broker cannot reach the store for 40 s; everything else it can.
    CutStore,
    /// Not one of a run: what the build before left is rolled to this one and back. Only by itself.
    Upgrade,
}

/// What a machine must let us do for a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// Networks of our own.
    Net,
    /// A run of its own.
    Alone,
}

// === impl Trouble ===

impl Trouble {
    pub(super) fn needs(self) -> Needs {
        match self {
            Self::Kill
            | Self::KillController
            | Self::KillTwo
            | Self::KillQuorum
            | Self::Pause
            | Self::Zombie
            | Self::Stop
            | Self::Roll
            | Self::Drain
            | Self::Move
            | Self::StoreAway
            | Self::StoreFlaky => Needs::Nothing,
            Self::CutOneWay
            | Self::CutBroker
            | Self::CutController
            | Self::CutAndKill
            | Self::CutStore => Needs::Net,
            Self::Upgrade => Needs::Alone,
        }
    }

    /// Whether it needs a network of our own.
    pub fn needs_net(self) -> bool {
        self.needs() == Needs::Net
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
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
