//! Keeps the coordinator in step with what is led here.

use std::sync::Arc;

use controller::Image;
use protocol::TopicPartition;
use tokio::time::{Duration, sleep};

use super::api::Name;
use super::storage_log::StorageLog;
use crate::broker::Broker;
use crate::handlers::CONSUMER_OFFSETS;

/// How often the lease is looked at: far below the shortest session, so that a lapse stops the
/// coordinators before they blame members whom nobody could hear.
const LOOK: Duration = Duration::from_millis(250);

/// Opens and closes coordinator partitions as partitions of `__consumer_offsets` come and go, and
/// drops the offsets of deleted topics. Runs until it is dropped.
pub(crate) async fn follow(broker: Arc<Broker>) {
    let mut assigned = broker.watch_assigned();
    let mut known = broker.image();
    loop {
        let image = broker.image();
        sync(&broker, &image);
        let deleted = deleted(&known, &image);
        if !deleted.is_empty() {
            broker.groups.topics_deleted(&deleted).await;
        }
        known = image;
        tokio::select! {
            biased;
            changed = assigned.changed() => if changed.is_err() {
                return;
            },
            () = sleep(LOOK) => {}
        }
    }
}

/// Opens what is led here and not open, closes what is open and not led. While the lease has
/// lapsed nothing is led.
pub(crate) fn sync(broker: &Broker, image: &Image) {
    let Some(topic) = image.topic(CONSUMER_OFFSETS) else {
        broker.groups.close_all();
        return;
    };
    for index in (0..).take(topic.partitions.len()) {
        match broker.led(image, TopicPartition::new(topic.id, index)) {
            Ok(partition) => {
                let version = (topic.id, partition.leader_epoch());
                broker
                    .groups
                    .opened(index, version, || Arc::new(StorageLog::new(partition)));
            }
            Err(_) => broker.groups.closed(index),
        }
    }
}

/// Names of topics that were there and are gone, or were made anew under their name.
fn deleted(before: &Image, now: &Image) -> Vec<Name> {
    if Arc::ptr_eq(&before.topics_by_id, &now.topics_by_id) {
        return Vec::new();
    }
    let gone = before
        .topics_by_id
        .iter()
        .filter(|(id, _)| !now.topics_by_id.contains_key(*id));
    gone.map(|(_, topic)| topic.name.clone()).collect()
}
