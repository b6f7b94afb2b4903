//! Consumers in another zone than the leader (KIP-392).
//!
//! - The leader sends a consumer to the reader of its zone while enough of what it asks for lies in
//!   the object store (`replica.selector.min.bytes`): no record comes with that answer.
//! - The reader gives what is committed. At its end it sends the consumer to the leader in the same
//!   way, which costs no error and no look at the metadata, and which Java, librdkafka and franz-go
//!   all follow; without a known leader it answers NOT_LEADER_OR_FOLLOWER.
//! - What it cannot read, for whatever reason, or not soon, the leader is asked for: it keeps whoever
//!   comes back.
//! - It never answers OFFSET_OUT_OF_RANGE or a divergence: what it knows may be older than what
//!   the consumer has read.

use std::sync::OnceLock;
use std::time::Duration;

use controller::Image;
use parking_lot::Mutex;
use protocol::{ErrorCode, LeaderEpoch, NodeId, TopicPartition};
use storage::{Followed, Partition, Position};
use tokio::time::Instant;

use super::session::Wanted;
use super::{Failed, Fetching, Outcome, Room};
use crate::context::RequestContext;
use crate::limits::LOOKING_PATIENCE;
use crate::opening::NotLed;
use crate::zones::{self, Readers};

/// The zone of the consumer: its rack, else the tag of its client id. Only clients that know of
/// preferred replicas (11+) have one here.
pub(super) fn of(context: &RequestContext, rack: &str) -> Option<String> {
    if context.version < 11 {
        return None;
    }
    let rack = zones::of_rack(rack).map(str::to_owned);
    rack.or_else(|| context.zone().map(|zone| zone.into_owned()))
}

/// What the partitions of one round share.
pub(super) struct Beside {
    /// Who reads for which zone.
    readers: OnceLock<Readers>,
    /// How long controllers are still waited for.
    patience: Mutex<Duration>,
}

impl Default for Beside {
    fn default() -> Self {
        Self {
            readers: OnceLock::new(),
            patience: Mutex::new(LOOKING_PATIENCE),
        }
    }
}

impl Fetching<'_> {
    /// The broker of the consumer's zone that it is better served by than by the leader, this one.
    pub(super) fn better(
        &self,
        image: &Image,
        partition: &Partition,
        offset: i64,
        beside: &Beside,
    ) -> Option<NodeId> {
        let zone = self.zone.as_deref().filter(|zone| !self.is_own(zone))?;
        if !zones::selects(self.broker, image) {
            return None;
        }
        let least = self.broker.config.size("replica.selector.min.bytes") as u64;
        let position = partition.position();
        if offset < position.log_start || partition.committed_bytes_from(offset) < least {
            return None;
        }
        let tp = partition.topic_partition();
        let readers = beside.readers.get_or_init(|| {
            let endpoints = self.broker.endpoints(image, self.context);
            Readers::of(self.broker, image, &endpoints)
        });
        let reader = readers.reader(tp, zone)?;
        let now = Instant::now();
        let may = self
            .broker
            .redirects
            .may(self.context.connection, tp, offset, now);
        (may && reader != self.broker.config.node_id).then(|| {
            self.broker.metrics.fetch_sent.inc();
            reader
        })
    }

    fn is_own(&self, zone: &str) -> bool {
        self.broker.config.values.text("broker.rack") == zone
    }

    /// Serves a consumer of this broker's zone from objects.
    pub(super) async fn beside(
        &self,
        image: &Image,
        wanted: &Wanted,
        (tp, not_led): (TopicPartition, NotLed),
        room: Room<'_>,
    ) -> Result<Outcome, Failed> {
        let leads = image.partition(tp).and_then(|partition| partition.leader);
        let leads = leads == Some(self.broker.config.node_id);
        let Some(zone) = self.zone.as_deref().filter(|_| !leads) else {
            return Err(Failed::NotLed(not_led));
        };
        if !zones::selects(self.broker, image) {
            return Err(Failed::NotLed(not_led));
        }
        let known = match LeaderEpoch(wanted.current_leader_epoch) {
            LeaderEpoch(..=-1) => false,
            asked if asked < not_led.leader_epoch => {
                return Err(Failed::Fenced(not_led));
            }
            asked if asked > not_led.leader_epoch => {
                return Err(Failed::Code(ErrorCode::UnknownLeaderEpoch));
            }
            _ => true,
        };
        let storage = self.broker.followed().filter(|_| self.is_own(zone));
        let Some(storage) = storage else {
            // He knows the leader, and was sent here by it all the same: in another zone's name, or
            // before this broker was in another zone. By an error some would stay.
            return match not_led.leader.filter(|_| known) {
                Some(leader) => Ok(Outcome::Sent(leader, Position::UNKNOWN)),
                None => Err(Failed::NotLed(not_led)),
            };
        };
        let mut patience = *room.beside.patience.lock();
        let read = storage.read_followed(
            tp,
            wanted.fetch_offset,
            room.limit,
            room.min_one,
            self.isolation,
            &mut patience,
        );
        let read = read.await;
        *room.beside.patience.lock() = patience;
        match read {
            Ok(Followed::Found(read)) => {
                self.broker.metrics.followed_bytes.inc_by(read.bytes as u64);
                Ok(Outcome::Found(read))
            }
            Ok(Followed::Elsewhere(position)) => match not_led.leader {
                Some(leader) => Ok(Outcome::Sent(leader, position)),
                None => Err(Failed::NotLed(not_led)),
            },
            // Not as an error: some clients would ask here again until they look at the metadata.
            Err(error) => {
                tracing::debug!(partition = %tp, %error, "not read beside the leader");
                let leader = not_led.leader.ok_or(Failed::NotLed(not_led))?;
                Ok(Outcome::Sent(leader, Position::UNKNOWN))
            }
        }
    }
}

/// What is told with a partition that is to be fetched from another broker.
pub(super) fn sent(
    to: NodeId,
    position: Position,
) -> protocol::messages::fetch_response::PartitionData {
    super::at(position, Default::default()).with_preferred_read_replica(to.0.into())
}
