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
    /// At most one of each node of the cluster.
    died: BTreeMap<NodeId, (Instant, BrokerImage)>,
}

// === impl Departed ===

impl Departed {
    /// Those who died lately, as of `image`, and how they were reached. Who left in order is not among
    /// them: its clients had been told where to go.
    pub(crate) fn lately(&self, image: &Image) -> Vec<BrokerImage> {
        let now = Instant::now();
        let mut seen = self.0.lock();
        let seen = &mut *seen;
        let before = seen.brokers.replace(Arc::clone(&image.brokers));
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, &image.brokers)) {
            let lived = before.values().filter(|one| !one.fenced && !one.draining);
            for broker in lived {
                seen.died.insert(broker.node, (now, broker.clone()));
            }
            for (_, broker) in image.live_brokers() {
                seen.died.remove(&broker.node);
            }
        }
        seen.died
            .retain(|_, (at, _)| now.duration_since(*at) < NAMED_AFTER_DEATH);
        seen.died.values().map(|(_, one)| one.clone()).collect()
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
}
