//! The coordinator's timers as data: what falls due when, in order.
//!
//! A timer is armed at a time and never disarmed: the group looks at its own deadline when one
//! rings, and ignores it or arms it again. A member's heartbeat thus costs one assignment.

use std::collections::BTreeSet;

use super::api::Name;

/// What a timer is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKind {
    /// End of the join phase.
    Join,
    /// Members that joined must have synced.
    Sync,
    /// A member's session.
    Session(Name),
    /// A member id given out and not used.
    Pending(Name),
}

/// A timer that rang.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    /// When it was armed for, monotonic milliseconds.
    pub(super) at_ms: u64,
    /// The group.
    pub(super) group: Name,
    /// What for.
    pub(super) kind: TimerKind,
}

/// All armed timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<Timer>,
}

impl Timers {
    /// Arms a timer; arming the same one twice is once.
    pub(super) fn arm(&mut self, at_ms: u64, group: &Name, kind: TimerKind) {
        self.queue.insert(Timer {
            at_ms,
            group: group.clone(),
            kind,
        });
    }

    /// When the next timer rings.
    pub(super) fn next(&self) -> Option<u64> {
        self.queue.first().map(|timer| timer.at_ms)
    }

    /// Takes the first timer that is due at `now_ms`.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next()? > now_ms {
            return None;
        }
        self.queue.pop_first()
    }
}
