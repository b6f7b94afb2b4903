//! Follows the image: opens the partitions that the controller gives to this broker epoch, closes
//! those that it takes away, and hands on changed configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{BrokerImage, ConfigResource, Image, PartitionImage, TopicImage};
use futures::StreamExt;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use storage::{Catalog, ErrorKind};
use tokio::sync::oneshot;

use crate::broker::{Broker, Epoch};
use crate::catalog::ControllerCatalog;
use crate::limits::{PARTITION_OPENS, RETRY_MOST};

/// Runs until the controller or the broker is gone. `first` is told when what the first image
/// wants has been tried.
pub(crate) async fn follow(broker: Arc<Broker>, epoch: Arc<Epoch>, first: oneshot::Sender<()>) {
    let mut images = broker.watch_image();
    let mut follower = Follower {
        catalog: ControllerCatalog::new(broker.controller.clone()),
        broker,
        epoch,
        seen: BTreeMap::new(),
        configs: Arc::default(),
        brokers: Arc::default(),
        open: BTreeMap::new(),
        later: BTreeMap::new(),
    };
    let mut first = Some(first);
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        follower.step(&image).await;
        if let Some(first) = first.take() {
            // Who does not wait any more does not care.
            let _ = first.send(());
        }
        let again = !follower.later.is_empty();
        tokio::select! {
            biased;
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_MOST), if again => {}
        }
    }
}

struct Follower {
    broker: Arc<Broker>,
    epoch: Arc<Epoch>,
    catalog: ControllerCatalog,
    /// Topics as they were acted upon.
    seen: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Configurations of brokers and the cluster, as they were acted upon.
    configs: Arc<BTreeMap<ConfigResource, BTreeMap<String, String>>>,
    /// Brokers, as they were acted upon.
    brokers: Arc<BTreeMap<BrokerEpoch, BrokerImage>>,
    /// What is open here, at which leader epoch.
    open: BTreeMap<TopicPartition, LeaderEpoch>,
    /// What could not be opened yet.
    later: BTreeMap<TopicPartition, Wanted>,
}

#[derive(Clone)]
struct Wanted {
    topic: Arc<TopicImage>,
    topic_partition: TopicPartition,
    leader_epoch: LeaderEpoch,
}

/// Who gives partitions away, and to whom.
struct Moves {
    takers: BTreeSet<NodeId>,
    drains: bool,
}

impl Moves {
    fn of(image: &Image, own: BrokerEpoch) -> Self {
        let takers = image.takers();
        let drains = image.brokers.get(&own).is_some_and(|own| own.draining);
        Self {
            // With nobody to take anything, all stays.
            drains: drains && !takers.is_empty(),
            takers,
        }
    }

    /// Whether a partition led here is about to be given away.
    fn wants(&self, partition: &PartitionImage) -> bool {
        let taken = partition.target.is_some_and(|to| self.takers.contains(&to));
        taken || self.drains
    }
}

impl Follower {
    async fn step(&mut self, image: &Image) {
        // Also where no client asks, so that a death is not taken for a new one long after it.
        self.broker.departed.lately(image);
        let mut wanted: Vec<Wanted> = std::mem::take(&mut self.later).into_values().collect();
        let gone: Vec<TopicId> = self
            .seen
            .keys()
            .filter(|id| !image.topics_by_id.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.seen.remove(&id);
            self.close_all(id);
            self.broker.topics.sweep(image);
        }
        // What lies below the topics' own configurations shows in all of them; so does who takes
        // partitions.
        let below = !Arc::ptr_eq(&self.configs, &image.configs)
            || !Arc::ptr_eq(&self.brokers, &image.brokers);
        self.configs = Arc::clone(&image.configs);
        self.brokers = Arc::clone(&image.brokers);
        let moves = Moves::of(image, self.epoch.id);
        for (id, topic) in image.topics_by_id.iter() {
            let same = self
                .seen
                .get(id)
                .is_some_and(|seen| Arc::ptr_eq(seen, topic));
            if !same || below {
                self.seen.insert(*id, Arc::clone(topic));
                self.topic(image, topic, &moves, &mut wanted);
            }
        }
        // Once each: what waited may have been gathered anew, with a newer topic.
        let wanted: BTreeMap<TopicPartition, Wanted> = wanted
            .into_iter()
            .map(|one| (one.topic_partition, one))
            .collect();
        let mut wanted: Vec<Wanted> = wanted.into_values().collect();
        // What waited may have been taken away meanwhile.
        wanted.retain(|one| {
            let current = image.partition(one.topic_partition);
            current.is_some_and(|partition| {
                partition.broker == Some(self.epoch.id)
                    && partition.leader_epoch == one.leader_epoch
            }) && self.open.get(&one.topic_partition) != Some(&one.leader_epoch)
        });
        self.open(image, wanted).await;
        self.broker.metrics.partitions.set(self.open.len() as i64);
        self.broker.set_assigned(image.applied);
    }

    /// Closes what is no longer ours, and gathers what is new.
    fn topic(
        &mut self,
        image: &Image,
        topic: &Arc<TopicImage>,
        moves: &Moves,
        wanted: &mut Vec<Wanted>,
    ) {
        let settings = self.broker.settings(image, topic);
        for (partition, index) in topic.partitions.iter().zip(0i32..) {
            let tp = TopicPartition::new(topic.id, index);
            let ours = partition.broker == Some(self.epoch.id);
            match self.open.get(&tp).copied() {
                Some(at) if ours && at == partition.leader_epoch => {
                    if let Some(open) = self.epoch.storage.partition(tp) {
                        open.set_config(settings.storage.clone());
                        open.set_leaving(moves.wants(partition));
                    }
                }
                held => {
                    if held.is_some() {
                        self.close(tp);
                    }
                    if ours {
                        wanted.push(Wanted {
                            topic: Arc::clone(topic),
                            topic_partition: tp,
                            leader_epoch: partition.leader_epoch,
                        });
                    }
                }
            }
        }
    }

    fn close(&mut self, tp: TopicPartition) {
        self.open.remove(&tp);
        self.epoch.storage.close_partition(tp);
    }

    fn close_all(&mut self, topic: TopicId) {
        let first = TopicPartition::new(topic, 0);
        let last = TopicPartition::new(topic, i32::MAX);
        let held: Vec<TopicPartition> = self.open.range(first..=last).map(|(tp, _)| *tp).collect();
        for tp in held {
            self.close(tp);
        }
    }

    async fn open(&mut self, image: &Image, wanted: Vec<Wanted>) {
        let (broker, epoch, catalog) = (&self.broker, &self.epoch, &self.catalog);
        let opening = wanted.into_iter().map(|one| async move {
            let result = open(broker, epoch, catalog, image, &one).await;
            (one, result)
        });
        let opened: Vec<(Wanted, Result<bool, storage::Error>)> = futures::stream::iter(opening)
            .buffered(PARTITION_OPENS)
            .collect()
            .await;
        for (one, result) in opened {
            let tp = one.topic_partition;
            match result {
                Ok(true) => {
                    self.open.insert(tp, one.leader_epoch);
                }
                Ok(false) => {}
                Err(error) => {
                    self.broker.metrics.background_failures.inc();
                    match error.kind() {
                        ErrorKind::Retry => {
                            tracing::warn!(partition = %tp, %error, "not opened yet");
                            self.later.insert(tp, one);
                        }
                        ErrorKind::Fenced => {}
                        ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Internal => {
                            tracing::error!(partition = %tp, %error, "stays offline");
                        }
                    }
                }
            }
        }
    }
}

/// Opens one partition; false when it is no longer ours.
async fn open(
    broker: &Broker,
    epoch: &Epoch,
    catalog: &ControllerCatalog,
    image: &Image,
    wanted: &Wanted,
) -> Result<bool, storage::Error> {
    let Some(view) = catalog.partition(wanted.topic_partition).await? else {
        return Ok(false);
    };
    if view.leader_epoch != wanted.leader_epoch {
        return Ok(false);
    }
    let settings = broker.settings(image, &wanted.topic);
    epoch.storage.open(view, settings.storage.clone()).await?;
    // Whoever waits for it need not wait for the others.
    broker.openings.tell(wanted.topic_partition);
    Ok(true)
}
