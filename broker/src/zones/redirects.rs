//! Consumers that were sent from the leader to a broker of their zone, and whether that helped.
//!
//! **Invariant:** who comes back without a record is served by the leader: nobody is sent to and fro
//! between two brokers that both refuse him, whatever keeps the other one from serving.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use protocol::TopicPartition;
use tokio::time::Instant;

use crate::limits::{MAX_SENT, SENT_IN_VAIN, SERVED_BY_LEADER};

#[derive(Clone, Copy, Debug)]
struct Sent {
    offset: i64,
    at: Instant,
    /// Until then the leader serves.
    stays: Option<Instant>,
}

/// By connection and partition.
#[derive(Debug, Default)]
pub(crate) struct Redirects(Mutex<BTreeMap<(u64, TopicPartition), Sent>>);

impl Redirects {
    /// Whether the consumer may be sent away from `offset`; if so, that is remembered.
    pub(crate) fn may(
        &self,
        connection: u64,
        tp: TopicPartition,
        offset: i64,
        now: Instant,
    ) -> bool {
        let mut held = self.0.lock();
        if let Some(sent) = held.get_mut(&(connection, tp)) {
            if sent.stays.is_some_and(|until| now < until) {
                return false;
            }
            if sent.stays.is_none() && sent.offset == offset && now < sent.at + SENT_IN_VAIN {
                sent.stays = Some(now + SERVED_BY_LEADER);
                return false;
            }
        }
        if held.len() >= MAX_SENT {
            held.retain(|_, sent| now < sent.stays.unwrap_or(sent.at + SENT_IN_VAIN));
            // All of them lately: what is forgotten costs each a way in vain.
            if held.len() >= MAX_SENT {
                held.clear();
            }
        }
        let sent = Sent {
            offset,
            at: now,
            stays: None,
        };
        held.insert((connection, tp), sent);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::TopicId;
    use uuid::Uuid;

    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_with_nothing_stays_for_a_while() {
        let (redirects, now) = (Redirects::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(redirects.may(1, tp(0), 100, now));
        assert!(redirects.may(2, tp(0), 100, now), "another consumer");
        assert!(redirects.may(1, tp(1), 100, now), "another partition");
        assert!(
            redirects.may(1, tp(0), 101, now + second),
            "it read something"
        );
        assert!(!redirects.may(1, tp(0), 101, now + 2 * second));
        let until = now + 2 * second + SERVED_BY_LEADER;
        assert!(!redirects.may(1, tp(0), 500, until - second));
        assert!(redirects.may(1, tp(0), 500, until));
        // Long after, it is another read of the same place.
        assert!(redirects.may(1, tp(0), 500, until + SENT_IN_VAIN));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (redirects, now) = (Redirects::default(), Instant::now());
        for connection in 0..3 * MAX_SENT as u64 + 5 {
            assert!(redirects.may(connection, tp(0), 0, now));
        }
        assert_eq!(redirects.0.lock().len(), 5);
        let later = now + SENT_IN_VAIN;
        for connection in 0..MAX_SENT as u64 {
            assert!(redirects.may(connection, tp(1), 0, later));
        }
        assert!(redirects.0.lock().keys().all(|(_, of)| *of == tp(1)));
    }
}
