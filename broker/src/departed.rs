//! Brokers that have just died, and are still named among the brokers of Metadata, leading nothing.
//!
//! A client may give up a broker that Metadata names no longer, and with it what the very same answer
//! told of its partitions: librdkafka (2.12) then asks again only a second later
//! (`adr/0003-the-dead-are-named-for-a-while.md`).

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{BrokerImage, Image};
use parking_lot::Mutex;
use protocol::{BrokerEpoch, NodeId};
use tokio::time::Instant;

use crate::limits::NAMED_AFTER_DEATH;

type Brokers = Arc<BTreeMap<BrokerEpoch, BrokerImage>>;

/// Who died when, as far as this broker saw it.
#[derive(Debug, Default)]
pub(crate) struct Departed(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    brokers: Option<Brokers>,
    /// The generation and the log entry that these are of.
    as_of: (u32, u64),
    /// At most one of each node of the cluster.
    died: BTreeMap<NodeId, (Instant, BrokerImage)>,
}

// === impl Departed ===

impl Departed {
    /// Those who died lately, as of `image`, and how they were reached. Who left in order is not among
    /// them: its clients had been told where to go. An image from before the newest that was seen
    /// tells nothing: requests keep theirs while they wait.
    pub(crate) fn lately(&self, image: &Image) -> Vec<BrokerImage> {
        let now = Instant::now();
        let mut seen = self.0.lock();
        let seen = &mut *seen;
        let as_of = (image.generation, image.applied);
        if as_of >= seen.as_of {
            seen.as_of = as_of;
            seen.step(now, &image.brokers);
        }
        seen.died
            .retain(|_, (at, _)| now.duration_since(*at) < NAMED_AFTER_DEATH);
        seen.died.values().map(|(_, one)| one.clone()).collect()
    }
}

// === impl Seen ===

impl Seen {
    fn step(&mut self, now: Instant, brokers: &Brokers) {
        let before = self.brokers.replace(Arc::clone(brokers));
        let Some(before) = before.filter(|before| !Arc::ptr_eq(before, brokers)) else {
            return;
        };
        for (epoch, broker) in before
            .iter()
            .filter(|(_, one)| !one.fenced && !one.draining)
        {
            // It may have begun to leave and have left since.
            if !brokers.get(epoch).is_some_and(|now| now.draining) {
                self.died.insert(broker.node, (now, broker.clone()));
            }
        }
        for broker in brokers.values().filter(|one| !one.fenced) {
            self.died.remove(&broker.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;
    use uuid::Uuid;

    fn broker(node: i32) -> BrokerImage {
        BrokerImage {
            node: NodeId(node),
            incarnation: Uuid::nil(),
            directory: Uuid::nil(),
            listeners: Vec::new(),
            rack: None,
            fenced: false,
            wal: None,
            draining: false,
        }
    }

    fn image(brokers: impl IntoIterator<Item = (u64, BrokerImage)>) -> Image {
        let brokers = brokers.into_iter();
        let brokers = brokers.map(|(epoch, broker)| (BrokerEpoch(epoch), broker));
        Image {
            brokers: Arc::new(brokers.collect()),
            ..Image::default()
        }
    }

    fn named(departed: &Departed, image: &Image) -> Vec<i32> {
        let lately = departed.lately(image);
        lately.iter().map(|broker| broker.node.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_are_named_for_a_while_and_no_longer() {
        let departed = Departed::default();
        let both = image([(1, broker(1)), (2, broker(2))]);
        assert!(named(&departed, &both).is_empty());
        let fenced = BrokerImage {
            fenced: true,
            ..broker(2)
        };
        let one = image([(1, broker(1)), (2, fenced)]);
        assert_eq!(named(&departed, &one), [2]);
        // Its log is closed.
        let one = image([(1, broker(1))]);
        assert_eq!(named(&departed, &one), [2]);
        advance(NAMED_AFTER_DEATH).await;
        assert!(named(&departed, &one).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_back_or_left_in_order_is_not_among_the_dead() {
        let departed = Departed::default();
        let leaving = BrokerImage {
            draining: true,
            ..broker(3)
        };
        let all = image([(1, broker(1)), (2, broker(2)), (3, leaving)]);
        assert!(named(&departed, &all).is_empty());
        assert_eq!(named(&departed, &image([(1, broker(1))])), [2]);
        let back = image([(1, broker(1)), (4, broker(2))]);
        assert!(named(&departed, &back).is_empty());
        // Registered again, it never died.
        let again = image([(1, broker(1)), (5, broker(2))]);
        assert!(named(&departed, &again).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_from_before_brings_nobody_back_among_the_dead() {
        let departed = Departed::default();
        let at = |applied, brokers: Vec<(u64, BrokerImage)>| Image {
            applied,
            ..image(brokers)
        };
        let leaving = BrokerImage {
            draining: true,
            ..broker(3)
        };
        let old = at(1, vec![(1, broker(1)), (2, broker(2)), (3, broker(3))]);
        let left = at(2, vec![(1, broker(1)), (2, broker(2)), (3, leaving)]);
        let new = at(3, vec![(1, broker(1))]);
        assert!(named(&departed, &old).is_empty());
        assert!(named(&departed, &left).is_empty());
        assert_eq!(named(&departed, &new), [2]);
        advance(NAMED_AFTER_DEATH / 2).await;
        // A request that waited for a topic ends.
        assert_eq!(named(&departed, &old), [2], "3 had left in order");
        assert_eq!(named(&departed, &new), [2]);
        advance(NAMED_AFTER_DEATH / 2).await;
        assert!(named(&departed, &old).is_empty(), "no new ten seconds");
        assert!(named(&departed, &new).is_empty());
        // A cluster that was restored counts anew.
        let restored = Image {
            generation: 1,
            ..at(2, Vec::new())
        };
        assert_eq!(named(&departed, &restored), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_to_leave_and_leaves_at_one_look_has_left_in_order() {
        let departed = Departed::default();
        assert!(named(&departed, &image([(1, broker(1)), (2, broker(2))])).is_empty());
        let left = BrokerImage {
            draining: true,
            fenced: true,
            ..broker(2)
        };
        let gone = image([(1, broker(1)), (2, left)]);
        assert!(named(&departed, &gone).is_empty());
    }
}
