//! Leases: the controller's sessions (pure) and the broker's side of one.
//!
//! **Invariant:** a broker's lease counts from when it *sent* the renewal, the controller's session
//! from when it took it, on clocks that run during suspend: the broker stops acknowledging before
//! it can be fenced. Lapsed is not fenced: only an applied `FenceBroker` is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use env::Clock;
use protocol::BrokerEpoch;
use tokio::sync::watch;

use crate::command::HighWatermark;
use crate::limits::{LEASE_TICK_LATE, MAX_VOTERS};

/// Who has been heard of, by monotonic time. Kept by the leader only, never stored: a new leader
/// grants everyone a full lease.
#[derive(Debug)]
pub(crate) struct Sessions {
    lease: Duration,
    /// The leadership that all this is of.
    term: u64,
    deadlines: BTreeMap<BrokerEpoch, Duration>,
    /// Their fence is on its way: it may take effect at any time, so nothing is granted any more.
    being_fenced: BTreeSet<BrokerEpoch>,
    last_tick: Option<Duration>,
    heard: BTreeMap<BrokerEpoch, Heard>,
    /// How long a lease was to other voters, when they led.
    told: BTreeMap<u64, Duration>,
}

/// What a renewal said of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// When, by the monotonic clock.
    pub(crate) at: Duration,
    /// The last log entry that its image held.
    pub(crate) applied: u64,
    /// The newest level that its build knows; 0 when it knows of none.
    pub(crate) level: u32,
    /// Its object store answered it lately.
    pub(crate) store_answers: bool,
}

// === impl Sessions ===

impl Sessions {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            term: 0,
            deadlines: BTreeMap::new(),
            being_fenced: BTreeSet::new(),
            last_tick: None,
            heard: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// How long a lease is here.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// `voter`, which leads, said how long a lease is to it: brokers may hold one of that length
    /// when this voter comes to lead.
    pub(crate) fn heard_lease(&mut self, voter: u64, lease: Duration) {
        if self.told.len() < MAX_VOTERS || self.told.contains_key(&voter) {
            self.told.insert(voter, lease);
        }
    }

    /// How long one lasts that nobody has been heard of since: another leader may have granted it.
    pub(crate) fn longest(&self) -> Duration {
        self.told.values().copied().fold(self.lease, Duration::max)
    }

    /// A live broker said this of itself.
    pub(crate) fn hear(&mut self, broker: BrokerEpoch, heard: Heard) {
        self.heard.insert(broker, heard);
    }

    /// Whether the object store answers any broker but `broker`, as they said within a lease.
    pub(crate) fn others_reach_store(&self, broker: BrokerEpoch, now: Duration) -> bool {
        let others = self.heard.iter().filter(|(other, _)| **other != broker);
        let lately = |heard: &Heard| heard.store_answers && now < heard.at + self.lease;
        others.map(|(_, heard)| heard).any(lately)
    }

    /// What a broker said of itself last, in this term.
    pub(crate) fn heard(&self, broker: BrokerEpoch) -> Option<Heard> {
        self.heard.get(&broker).copied()
    }

    /// To be asked before anything else: false when `term` is over. What was heard in earlier
    /// terms is forgotten.
    pub(crate) fn in_term(&mut self, term: u64) -> bool {
        if term > self.term {
            *self = Self {
                term,
                told: std::mem::take(&mut self.told),
                ..Self::new(self.lease)
            };
        }
        term == self.term
    }

    /// A renewal of `broker` was confirmed.
    pub(crate) fn renew(&mut self, broker: BrokerEpoch, now: Duration) {
        self.deadlines.insert(broker, now + self.lease);
    }

    /// True while the broker may hold a lease. One never heard of may: it counts from the next
    /// tick.
    pub(crate) fn may_live(&self, broker: BrokerEpoch, now: Duration) -> bool {
        self.deadlines
            .get(&broker)
            .is_none_or(|deadline| now < *deadline)
    }

    /// Brokers whose lease ran out. `live` are those that are not fenced.
    ///
    /// When the tick itself comes late, the controller was held up (overloaded, suspended, newly
    /// leading): renewals may lie unread, so everyone gets a full lease and nobody is fenced.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        live: impl IntoIterator<Item = BrokerEpoch>,
    ) -> Vec<BrokerEpoch> {
        let held_up = self
            .last_tick
            .is_none_or(|last| now > last + LEASE_TICK_LATE);
        self.last_tick = Some(now);
        let fresh = now + self.longest();
        let standing = std::mem::take(&mut self.deadlines);
        for broker in live {
            let fenced = self.being_fenced.contains(&broker);
            let deadline = standing.get(&broker).copied();
            let deadline = deadline.filter(|_| fenced || !held_up);
            self.deadlines.insert(broker, deadline.unwrap_or(fresh));
        }
        let deadlines = &self.deadlines;
        self.heard
            .retain(|broker, _| deadlines.contains_key(broker));
        self.being_fenced
            .retain(|broker| deadlines.contains_key(broker));
        let lapsed = self
            .deadlines
            .iter()
            .filter(|(_, deadline)| now >= **deadline);
        lapsed.map(|(broker, _)| *broker).collect()
    }

    /// No quorum confirmed the leader: renewals may have failed for that. The next tick grants
    /// everyone a full lease, except those whose fence is on its way.
    pub(crate) fn held_up(&mut self) {
        self.last_tick = None;
    }

    /// True when the lease of `broker` has still run out; from then on it is being fenced, until
    /// it is no longer live or the term ends.
    pub(crate) fn begin_fence(&mut self, broker: BrokerEpoch, now: Duration) -> bool {
        let lapsed = !self.may_live(broker, now);
        if lapsed {
            self.being_fenced.insert(broker);
        }
        lapsed
    }

    /// The broker is known to be dead: from here on it is being fenced.
    pub(crate) fn end(&mut self, broker: BrokerEpoch, now: Duration) {
        self.deadlines.insert(broker, now);
        self.being_fenced.insert(broker);
    }

    /// True while a fence is on its way.
    pub(crate) fn is_being_fenced(&self, broker: BrokerEpoch) -> bool {
        self.being_fenced.contains(&broker)
    }
}

/// The high watermarks that the renewals of a lease carry.
pub trait Marks: Send + 'static {
    /// Those that moved since they were last reported.
    fn moved(&mut self) -> Vec<HighWatermark>;

    /// `marks` stand in the controller. What [`moved`](Self::moved) gave and what did not come to
    /// this is told again.
    fn reported(&mut self, marks: &[HighWatermark]);

    /// Resolves when the next renewal should not wait for its time: a partition is far ahead of
    /// what was reported of it.
    fn wanted(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Of a broker that leads nothing.
impl Marks for () {
    fn moved(&mut self) -> Vec<HighWatermark> {
        Vec::new()
    }

    fn reported(&mut self, _marks: &[HighWatermark]) {}
}

/// What a broker may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Renewals go through.
    Held,
    /// The last renewal is too long ago: acknowledge nothing, go on renewing.
    Lapsed,
    /// Refused: the epoch is fenced for good.
    Fenced,
}

struct Inner {
    broker: BrokerEpoch,
    clock: Arc<dyn Clock>,
    /// As configured here.
    own: Duration,
    /// As configured here, or as the leader says if that is shorter: nanoseconds.
    duration: AtomicU64,
    /// What the leader said last, in nanoseconds; 0 for nothing.
    told: AtomicU64,
    /// End by the monotonic clock, in nanoseconds; 0 when fenced or given back.
    until: AtomicU64,
    state: watch::Sender<LeaseState>,
    /// How often it lapsed after it had been held.
    lapses: AtomicU64,
    /// The object store answers here, as renewals tell the controller.
    store_answers: AtomicBool,
    /// It answers another broker, as the controller said with the last renewal.
    others_reach_store: AtomicBool,
}

/// A broker's lease. Cheap to clone; asked again whenever a reply leaves.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

// === impl Lease ===

impl Lease {
    /// Not held until the first renewal.
    pub(crate) fn new(broker: BrokerEpoch, clock: Arc<dyn Clock>, own: Duration) -> Self {
        let (until, state) = (AtomicU64::new(0), watch::Sender::new(LeaseState::Lapsed));
        Self(Arc::new(Inner {
            broker,
            clock,
            own,
            duration: AtomicU64::new(nanos(own)),
            told: AtomicU64::new(0),
            until,
            state,
            lapses: AtomicU64::new(0),
            store_answers: AtomicBool::new(false),
            others_reach_store: AtomicBool::new(false),
        }))
    }

    /// Whose lease this is.
    pub fn broker(&self) -> BrokerEpoch {
        self.0.broker
    }

    /// How long one renewal lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.0.duration.load(Ordering::Acquire))
    }

    /// How long a lease is to the controllers' leader, as it said last.
    pub fn told(&self) -> Option<Duration> {
        let told = self.0.told.load(Ordering::Acquire);
        (told > 0).then(|| Duration::from_nanos(told))
    }

    /// True while the broker may acknowledge. One clock read and one load.
    pub fn valid_now(&self) -> bool {
        self.0.clock.monotonic().as_nanos() < u128::from(self.0.until.load(Ordering::Acquire))
    }

    /// What is left of it; zero when lapsed.
    pub fn remaining(&self) -> Duration {
        self.expires().saturating_sub(self.0.clock.monotonic())
    }

    /// When it lapses, by the monotonic clock.
    pub fn expires(&self) -> Duration {
        Duration::from_nanos(self.0.until.load(Ordering::Acquire))
    }

    /// Changes of its state, as its keeper sees them. A lapse shows here up to a renewal interval
    /// late (not while the process is stopped, and not as a state of its own when a renewal is
    /// granted at once: see [`lapses`](Self::lapses)); to decide, ask [`valid_now`](Self::valid_now).
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.0.state.subscribe()
    }

    /// How often it lapsed after it had been held. It never misses one: rises before the state
    /// changes.
    pub fn lapses(&self) -> u64 {
        self.0.lapses.load(Ordering::Acquire)
    }

    /// Has the next renewals say whether the object store answers here.
    pub fn tell_store(&self, answers: bool) {
        self.0.store_answers.store(answers, Ordering::Relaxed);
    }

    /// Whether the object store answers another broker, as of the last renewal.
    pub fn others_reach_store(&self) -> bool {
        self.0.others_reach_store.load(Ordering::Relaxed)
    }

    pub(crate) fn store_answers(&self) -> bool {
        self.0.store_answers.load(Ordering::Relaxed)
    }

    pub(crate) fn told_of_others(&self, reach_store: bool) {
        let told = &self.0.others_reach_store;
        told.store(reach_store, Ordering::Relaxed);
    }

    /// A renewal sent at `sent` was granted, by a leader to which a lease is as long as `told`.
    pub(crate) fn renewed(&self, sent: Duration, told: Option<Duration>) {
        // It may have run out on the way.
        self.note();
        let was = self.duration();
        let duration = told.map_or(self.0.own, |told| told.min(self.0.own));
        if let Some(told) = told
            && told != self.0.own
            && self.told() != Some(told)
        {
            tracing::warn!(
                configured = ?self.0.own,
                ?told,
                "the controllers' leader has another lease.ms: the shorter one counts"
            );
        }
        self.0.told.store(told.map_or(0, nanos), Ordering::Release);
        self.0.duration.store(nanos(duration), Ordering::Release);
        let until = nanos(sent + duration);
        if duration < was {
            // What an earlier leader granted for longer, this one does not know of.
            self.0.until.store(until, Ordering::Release);
        } else {
            self.0.until.fetch_max(until, Ordering::AcqRel);
        }
        self.note();
    }

    /// The epoch is fenced.
    pub(crate) fn fenced(&self) {
        self.0.until.store(0, Ordering::Release);
        self.0.state.send_replace(LeaseState::Fenced);
    }

    /// Looks whether it lapsed.
    pub(crate) fn note(&self) {
        let held = if self.valid_now() {
            LeaseState::Held
        } else {
            LeaseState::Lapsed
        };
        self.0.state.send_if_modified(|state| {
            let moved = *state != LeaseState::Fenced && *state != held;
            if moved {
                if held == LeaseState::Lapsed {
                    self.0.lapses.fetch_add(1, Ordering::AcqRel);
                }
                *state = held;
            }
            moved
        });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ticks every 250 ms over `[from, to)`; who lapsed, and when first.
    fn run(sessions: &mut Sessions, from: u64, to: u64) -> Option<(u64, Vec<BrokerEpoch>)> {
        (from..to).step_by(250).find_map(|ms| {
            let lapsed = sessions.tick(at(ms), [BrokerEpoch(1)]);
            (!lapsed.is_empty()).then_some((ms, lapsed))
        })
    }

    #[test]
    fn a_silent_broker_lapses_after_a_full_lease() {
        let mut sessions = Sessions::new(LEASE);
        assert_eq!(
            run(&mut sessions, 1000, 60_000),
            Some((7000, vec![BrokerEpoch(1)]))
        );
        assert!(!sessions.may_live(BrokerEpoch(1), at(7000)));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_taken() {
        let mut sessions = Sessions::new(LEASE);
        assert_eq!(run(&mut sessions, 0, 5000), None);
        sessions.renew(BrokerEpoch(1), at(5000));
        assert_eq!(
            run(&mut sessions, 5000, 60_000),
            Some((11_000, vec![BrokerEpoch(1)]))
        );
    }

    #[test]
    fn a_controller_that_was_held_up_fences_nobody() {
        let mut sessions = Sessions::new(LEASE);
        assert_eq!(run(&mut sessions, 0, 1000), None);
        assert_eq!(sessions.tick(at(30_000), [BrokerEpoch(1)]), []);
        assert_eq!(
            run(&mut sessions, 30_250, 60_000),
            Some((36_000, vec![BrokerEpoch(1)]))
        );
    }

    #[test]
    fn a_new_leader_grants_everyone_a_full_lease() {
        let mut sessions = Sessions::new(LEASE);
        assert_eq!(run(&mut sessions, 0, 5750), None);
        assert!(sessions.in_term(2));
        assert!(!sessions.in_term(1), "that one is over");
        assert_eq!(
            run(&mut sessions, 6000, 60_000),
            Some((12_000, vec![BrokerEpoch(1)]))
        );
    }

    #[test]
    fn renewals_of_an_earlier_term_count_for_nothing() {
        let mut sessions = Sessions::new(LEASE);
        assert!(sessions.in_term(1));
        sessions.renew(BrokerEpoch(1), at(0));
        assert!(!sessions.may_live(BrokerEpoch(1), at(6000)));
        assert!(sessions.in_term(2), "before the first tick, too");
        assert!(sessions.may_live(BrokerEpoch(1), at(6000)));
    }

    #[test]
    fn a_fence_on_its_way_is_not_outrun_by_a_late_tick() {
        let mut sessions = Sessions::new(LEASE);
        assert!(sessions.in_term(1));
        let (first, other) = (BrokerEpoch(1), BrokerEpoch(2));
        assert_eq!(sessions.tick(at(0), [first, other]), []);
        sessions.renew(other, at(5900));
        assert!(!sessions.begin_fence(other, at(6000)), "renewed meanwhile");
        assert!(sessions.begin_fence(first, at(6000)));
        sessions.held_up();
        assert_eq!(sessions.tick(at(6250), [first, other]), [first]);
        assert!(sessions.is_being_fenced(first));
        assert_eq!(sessions.tick(at(6500), [other]), []);
        assert!(!sessions.is_being_fenced(first), "it is fenced");
    }

    struct Manual(AtomicU64);

    impl Clock for Manual {
        fn wall_ms(&self) -> i64 {
            0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_lease_lapses_by_itself_and_comes_back_unless_fenced() {
        let clock = Arc::new(Manual(AtomicU64::new(100)));
        let lease = Lease::new(BrokerEpoch(3), clock.clone(), LEASE);
        assert!(
            !lease.valid_now(),
            "nothing is granted before the first renewal"
        );
        lease.renewed(at(100), None);
        assert!(lease.valid_now());
        assert_eq!(lease.remaining(), LEASE);
        clock.0.store(6100, Ordering::Relaxed);
        assert!(!lease.valid_now(), "it counts from sending");
        lease.note();
        assert_eq!(*lease.state().borrow(), LeaseState::Lapsed);
        lease.renewed(at(6000), None);
        assert!(lease.valid_now());
        assert_eq!(*lease.state().borrow(), LeaseState::Held);
        lease.fenced();
        lease.note();
        assert!(!lease.valid_now());
        assert_eq!(*lease.state().borrow(), LeaseState::Fenced);
    }

    #[test]
    fn a_lapse_is_counted_although_the_next_renewal_comes_before_anybody_looks() {
        let clock = Arc::new(Manual(AtomicU64::new(0)));
        let lease = Lease::new(BrokerEpoch(3), clock.clone(), LEASE);
        let mut state = lease.state();
        assert_eq!(
            (lease.lapses(), *state.borrow_and_update()),
            (0, LeaseState::Lapsed)
        );
        lease.renewed(at(0), None);
        assert_eq!(
            (lease.lapses(), *state.borrow_and_update()),
            (0, LeaseState::Held)
        );
        let later = u64::try_from(LEASE.as_millis()).unwrap() + 1;
        clock.0.store(later, Ordering::Relaxed);
        lease.renewed(at(later), None);
        assert!(state.has_changed().unwrap());
        assert_eq!(
            (lease.lapses(), *state.borrow_and_update()),
            (1, LeaseState::Held)
        );
    }

    #[test]
    fn the_shorter_lease_counts_and_one_granted_for_longer_is_cut() {
        let clock = Arc::new(Manual(AtomicU64::new(0)));
        let lease = Lease::new(BrokerEpoch(3), clock.clone(), LEASE);
        lease.renewed(at(0), Some(2 * LEASE));
        assert_eq!((lease.duration(), lease.remaining()), (LEASE, LEASE));
        assert_eq!(lease.told(), Some(2 * LEASE));
        clock.0.store(1000, Ordering::Relaxed);
        lease.renewed(at(1000), Some(LEASE / 2));
        assert_eq!(lease.duration(), LEASE / 2);
        assert_eq!(lease.expires(), at(4000), "not those 6 s of before");
        lease.renewed(at(2000), None);
        assert_eq!(lease.expires(), at(8000), "an old build says nothing");
    }

    #[test]
    fn a_new_leader_waits_for_the_longest_lease_that_another_one_told() {
        let mut sessions = Sessions::new(LEASE);
        sessions.heard_lease(2, at(10_000));
        sessions.heard_lease(3, at(1000));
        assert!(sessions.in_term(2));
        assert_eq!(
            run(&mut sessions, 1000, 60_000),
            Some((11_000, vec![BrokerEpoch(1)]))
        );
        sessions.heard_lease(2, LEASE);
        assert!(sessions.in_term(3));
        sessions.renew(BrokerEpoch(1), at(20_000));
        assert_eq!(
            run(&mut sessions, 20_000, 60_000),
            Some((26_000, vec![BrokerEpoch(1)])),
            "its own, to those that it has granted one"
        );
    }
}
