//! Waiting for partitions that have just been given to this broker and are not open here yet: their
//! clients are faster than their opening.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::Image;
use parking_lot::Mutex;
use protocol::{LeaderEpoch, NodeId, TopicPartition};
use storage::Partition;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::broker::Broker;
use crate::limits::{OPENING_LOOKS, OPENING_PATIENCE};

/// A partition that is not led here, and who leads it as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotLed {
    /// Its leader, when there is one. Never this broker: who is sent back to where it just was comes
    /// again at once.
    pub(crate) leader: Option<NodeId>,
    /// At which epoch.
    pub(crate) leader_epoch: LeaderEpoch,
}

impl NotLed {
    /// What `image` says to those who ask the node `own`.
    pub(crate) fn of(image: &Image, own: NodeId, tp: TopicPartition) -> Self {
        let known = image.partition(tp);
        let leader = known.and_then(|partition| partition.leader);
        Self {
            leader: leader.filter(|leader| *leader != own),
            leader_epoch: known.map_or(LeaderEpoch(-1), |partition| partition.leader_epoch),
        }
    }
}

/// Requests that wait for partitions to open. Each is woken for its own only: thousands wait while
/// thousands open one after the other, when a broker takes over from another.
#[derive(Default)]
pub(crate) struct Openings(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u64,
    places: BTreeMap<(TopicPartition, u64), Arc<Notify>>,
}

/// One request's place among them; dropped, it waits no more.
pub(crate) struct Place<'a> {
    openings: &'a Openings,
    number: u64,
    told: Arc<Notify>,
    waits_for: BTreeSet<TopicPartition>,
}

// === impl Openings ===

impl Openings {
    /// A place that waits for nothing yet.
    pub(crate) fn place(&self) -> Place<'_> {
        let mut waiting = self.0.lock();
        waiting.last += 1;
        Place {
            openings: self,
            number: waiting.last,
            told: Arc::default(),
            waits_for: BTreeSet::new(),
        }
    }

    /// Wakes those who wait for `tp`.
    pub(crate) fn tell(&self, tp: TopicPartition) {
        let waiting = self.0.lock();
        for told in waiting.places.range((tp, 0)..=(tp, u64::MAX)) {
            told.1.notify_one();
        }
    }

    /// Wakes those who wait for what is not going to open here any more.
    pub(crate) fn tell_unless(&self, opens: impl Fn(TopicPartition) -> bool) {
        let waited: BTreeSet<TopicPartition> = {
            let waiting = self.0.lock();
            waiting.places.keys().map(|(tp, _)| *tp).collect()
        };
        for tp in waited.into_iter().filter(|tp| !opens(*tp)) {
            self.tell(tp);
        }
    }
}

// === impl Place ===

impl Place<'_> {
    /// From now on it is told of `tp`, too.
    pub(crate) fn wait_for(&mut self, tp: TopicPartition) {
        if self.waits_for.insert(tp) {
            let told = Arc::clone(&self.told);
            let mut waiting = self.openings.0.lock();
            waiting.places.insert((tp, self.number), told);
        }
    }

    /// Resolves once one of them has opened, or is not going to, since it began to wait for it.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waits_for.is_empty() {
            return;
        }
        let mut waiting = self.openings.0.lock();
        for tp in &self.waits_for {
            waiting.places.remove(&(*tp, self.number));
        }
    }
}

/// One request's patience, for all of its partitions together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    /// Until when it waits, once it had to wait.
    until: Option<Instant>,
    /// When it looked again the last time.
    looked: Option<Instant>,
}

impl Patience {
    /// Of a request that is answered by `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            until: None,
            looked: None,
        }
    }

    /// When it is over; it begins with the first call.
    pub(crate) fn over_at(&mut self) -> Instant {
        let most = || self.deadline.min(Instant::now() + OPENING_PATIENCE);
        *self.until.get_or_insert_with(most)
    }

    /// Resolves some time after `told`, when a request of many partitions should look again: not more
    /// often than every [`OPENING_LOOKS`], however many partitions open.
    pub(crate) async fn opened(&mut self, told: impl Future<Output = ()>) {
        told.await;
        if let Some(looked) = self.looked {
            sleep_until(looked + OPENING_LOOKS).await;
        }
        self.looked = Some(Instant::now());
    }

    /// As [`Broker::led`], but waits for a partition that is opening.
    pub(crate) async fn led(
        &mut self,
        broker: &Broker,
        tp: TopicPartition,
    ) -> Result<Partition, NotLed> {
        let image = broker.image();
        let led = broker.led(&image, tp);
        if led.is_ok() || !broker.is_opening(&image, tp) {
            return led;
        }
        let mut place = broker.openings.place();
        place.wait_for(tp);
        loop {
            // After the place was taken, so that nothing slips through between.
            let image = broker.image();
            let not_led = match broker.led(&image, tp) {
                Ok(partition) => return Ok(partition),
                Err(not_led) => not_led,
            };
            let opening = broker.is_opening(&image, tp);
            if !opening || timeout_at(self.over_at(), place.told()).await.is_err() {
                // It may have opened in the very moment.
                return broker.led(&image, tp).map_err(|_| not_led);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use protocol::TopicId;
    use tokio::time::sleep;
    use uuid::Uuid;

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken_for_its_own_partition_only() {
        const COUNT: i32 = 1000;
        let (openings, wakes) = (Arc::new(Openings::default()), Arc::new(AtomicUsize::new(0)));
        let mut waiting = tokio::task::JoinSet::new();
        for partition in 0..COUNT {
            let (openings, wakes) = (Arc::clone(&openings), Arc::clone(&wakes));
            waiting.spawn(async move {
                // The neighbour's, too, as a Fetch of two.
                let mut place = openings.place();
                place.wait_for(tp(partition));
                place.wait_for(tp(partition + 1));
                place.wait_for(tp(partition));
                for _ in 0..2 {
                    place.told().await;
                    wakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sleep(Duration::from_secs(1)).await;
        for partition in 0..COUNT {
            openings.tell(tp(partition));
            sleep(Duration::from_millis(1)).await;
        }
        // All but the last one: of its neighbour nobody spoke.
        assert_eq!(wakes.load(Ordering::Relaxed), 2 * COUNT as usize - 1);
        openings.tell_unless(|_| true);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            waiting.len() - 1,
            std::iter::from_fn(|| waiting.try_join_next()).count()
        );
        openings.tell_unless(|other| other != tp(COUNT));
        waiting.join_next().await.unwrap().unwrap();
        assert!(
            openings.0.lock().places.is_empty(),
            "nothing is left behind"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_opened_between_looking_and_waiting_is_told() {
        let openings = Openings::default();
        let mut place = openings.place();
        place.wait_for(tp(0));
        openings.tell(tp(0));
        place.told().await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_openings_are_looked_at_together_and_a_single_one_at_once() {
        let (told, began) = (Notify::new(), Instant::now());
        let mut patience = Patience::until(began + Duration::from_secs(60));
        // Each opens a millisecond after the one before, as in a takeover.
        let opening = async {
            for _ in 0..1000 {
                sleep(Duration::from_millis(1)).await;
                told.notify_waiters();
            }
        };
        tokio::pin!(opening);
        let mut looks = 0;
        loop {
            let opened = told.notified();
            tokio::select! {
                biased;
                () = patience.opened(opened) => looks += 1,
                () = &mut opening => break,
            }
        }
        let most = Duration::from_secs(1).div_duration_f64(OPENING_LOOKS) as usize + 2;
        assert!((10..=most).contains(&looks), "{looks} looks");
        sleep(Duration::from_secs(1)).await;
        let (told, began) = (Notify::new(), Instant::now());
        let opened = told.notified();
        tokio::pin!(opened);
        opened.as_mut().enable();
        told.notify_waiters();
        patience.opened(opened).await;
        assert_eq!(Instant::now(), began);
    }
}
