//! Giving partitions away, from outside the uploader.

use protocol::{LeaderEpoch, TopicPartition};

use super::Storage;
use crate::Error;
use crate::uploader::{HandOverBounds, Held};

impl Storage {
    /// Uploads what these partitions hold while they serve, holds their appends (reads go on),
    /// waits until all that was queued is durable, and uploads the rest. Gives those that may be
    /// released at their end; each must then be [released](Storage::released) or
    /// [kept](Storage::keep), whatever becomes of the caller. The others take appends as before.
    ///
    /// # Errors
    /// What stopped the uploader for good. Nothing is held then that could still be served.
    pub async fn hand_over(
        &self,
        partitions: &[(TopicPartition, LeaderEpoch)],
        bounds: HandOverBounds,
    ) -> Result<Vec<Held>, Error> {
        let mut led = Vec::with_capacity(partitions.len());
        for (tp, epoch) in partitions {
            let found = self.shared.partitions.read().led.get(tp).cloned();
            led.extend(found.filter(|inner| inner.leader_epoch == *epoch));
        }
        match self.shared.uploader.get() {
            Some(uploader) => uploader.hand_over(led, bounds).await,
            None => Err(Error::NotOpen),
        }
    }

    /// A partition was released: it is closed, and who waits is told.
    pub fn released(&self, tp: TopicPartition, epoch: LeaderEpoch) {
        let shared = self.shared();
        let mut partitions = shared.partitions.write();
        // Under one lock: it may come back at once, at a higher epoch, and is open then.
        if partitions
            .led
            .get(&tp)
            .is_some_and(|led| led.leader_epoch == epoch)
            && let Some(inner) = partitions.led.remove(&tp)
        {
            shared.close(&mut partitions, inner);
        }
    }

    /// A partition was **certainly not** released, and never will be by what was asked so far: it
    /// takes appends again.
    pub fn keep(&self, tp: TopicPartition, epoch: LeaderEpoch) {
        let led = self.shared.partitions.read().led.get(&tp).cloned();
        if let Some(inner) = led.filter(|inner| inner.leader_epoch == epoch) {
            inner.go_on();
        }
    }
}
