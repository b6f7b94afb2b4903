//! Waiting for partitions that have just been given to this broker and are not open here yet: their
//! clients are faster than their opening.

use controller::Image;
use protocol::{LeaderEpoch, NodeId, TopicPartition};
use storage::Partition;
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
        loop {
            let told = broker.opened();
            tokio::pin!(told);
            // Before looking, so that nothing slips through between.
            told.as_mut().enable();
            let image = broker.image();
            let not_led = match broker.led(&image, tp) {
                Ok(partition) => return Ok(partition),
                Err(not_led) => not_led,
            };
            if !broker.is_opening(&image, tp) || timeout_at(self.over_at(), told).await.is_err() {
                // It may have opened in the very moment.
                return broker.led(&image, tp).map_err(|_| not_led);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::sleep;

    use super::*;

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
