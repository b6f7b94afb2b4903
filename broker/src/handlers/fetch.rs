//! Fetch, key 1, versions 4 to 18.
//!
//! - Partitions are served in the order of the request; the first that has data may give one batch
//!   larger than every limit, then all limits hold. 5+: log start. 7+: sessions (KIP-227). 9+:
//!   leader epochs (KIP-320). 12+: divergence (KIP-595). 13+: topics by id (KIP-516). 16+: the leader
//!   in the error itself (KIP-951). 11+: consumers of other zones (KIP-392), see `zone`.
//! - Waits for `min_bytes` or `max_wait_ms`, and wakes on append and on movement of the high
//!   watermark. An error or a divergence is answered at once; a partition that has just been given to
//!   this broker and is not open yet is waited for, a moment.
//! - Batches go out as they lie: whole, from the one that holds the offset.

mod session;
mod zone;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controller::{Image, TopicImage};
use protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use protocol::messages::{BrokerId, FetchRequest, ProducerId, TopicName};
use protocol::{Batches, ErrorCode, LeaderEpoch, NodeId, Records, TopicId, TopicPartition};
use storage::{Isolation, Partition, Position, ReadResult};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{check_epoch, partition_of, text};
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::connection::Answer;
use crate::context::RequestContext;
use crate::error::storage_code;
use crate::limits::FETCH_WAIT_MOST;
use crate::opening::{NotLed, Patience};
use crate::quotas::{Use, throttle_ms};
pub(crate) use session::Sessions;
use session::{SessionRequest, TopicKey, Wanted};
use zone::Beside;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchRequest,
) -> Answer {
    let by_id = context.version >= 13;
    let asked = SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        by_id,
        topics: &request.topics,
        forgotten: &request.forgotten_topics_data,
    };
    let begun = match broker.sessions.begin(&asked, Instant::now()) {
        Ok(begun) => begun,
        Err(code) => {
            let response = FetchResponse::default().with_error_code(code.code());
            return Answer::new(response);
        }
    };
    let cap = broker.config.size("fetch.max.bytes");
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(cap);
    let fetching = Fetching {
        broker,
        context,
        isolation: match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
        zone: zone::of(context, &request.rack_id),
        max_bytes,
        // More than may be given is never waited for.
        min_bytes: usize::try_from(request.min_bytes)
            .unwrap_or(0)
            .min(max_bytes),
        deadline: context.received
            + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0))
                .min(FETCH_WAIT_MOST),
    };
    // The frame that it lies in is paid back; what is wanted was copied.
    drop(request);
    let mut round = fetching.long_poll(begun.wanted).await;
    // Nothing is left to wait for: a wanted partition that moved since is told next time.
    let draw = || broker.env.entropy.next_u64();
    let now = Instant::now();
    let session_id = broker
        .sessions
        .finish(begun.mode, by_id, &mut round.answers, now, draw);
    broker.metrics.fetched_bytes.inc_by(round.bytes as u64);
    broker.metrics.fetched_records.inc_by(round.records);
    let mute = broker.quota.charge(context, Use::Fetch(round.bytes));
    let node_endpoints = fetching.endpoints(&round.leaders);
    let response = FetchResponse::default()
        .with_throttle_time_ms(throttle_ms(mute))
        .with_session_id(session_id)
        .with_responses(by_topic(round.answers))
        .with_node_endpoints(node_endpoints);
    Answer {
        response: Some(response.into()),
        mute,
    }
}

struct Fetching<'a> {
    broker: &'a Broker,
    context: &'a RequestContext,
    isolation: Isolation,
    /// Where the consumer is.
    zone: Option<String>,
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
}

/// One pass over everything wanted.
#[derive(Default)]
struct Round {
    records: u64,
    answers: Vec<(Wanted, PartitionData)>,
    bytes: usize,
    /// An error or a divergence: answered at once.
    urgent: bool,
    /// A partition is not open yet.
    opening: bool,
    leaders: BTreeSet<NodeId>,
}

/// What a partition may give in a round.
struct Room<'a> {
    limit: usize,
    /// Nothing has been given yet: one batch may be larger.
    min_one: bool,
    beside: &'a Beside,
}

/// What a partition has for this reader.
enum Outcome {
    Found(ReadResult),
    /// Another broker is to be asked.
    Sent(NodeId, Position),
}

/// Why a partition has nothing for this reader.
enum Failed {
    Code(ErrorCode),
    NotLed(NotLed),
    /// Led elsewhere, and asked for at an epoch that is over.
    Fenced(NotLed),
    /// Given to this broker, and not open yet.
    Opening(TopicPartition, NotLed),
    /// Led elsewhere: perhaps it may be read beside its leader.
    Elsewhere(TopicPartition, NotLed),
    Storage(storage::Error, Partition),
    Diverged(LeaderEpoch, i64, Partition),
}

impl Fetching<'_> {
    async fn long_poll(&self, wanted: Vec<Wanted>) -> Round {
        let mut patience = Patience::until(self.deadline);
        let image = self.broker.image();
        let round = self.round(&image, &wanted).await;
        if self.is_enough(&round) {
            return round;
        }
        loop {
            // A new one each turn: partitions that did not wake us forget the old one.
            let notify = Arc::new(Notify::new());
            // Subscribed before looking, so that nothing slips through between.
            let mut place = self.broker.openings.place();
            let image = self.broker.image();
            for one in &wanted {
                match self.locate(&image, one) {
                    Ok(partition) => partition.wake_on_change(&notify),
                    Err(Failed::Opening(tp, _)) => {
                        place.wait_for(tp);
                        // It may have opened in the very moment.
                        if let Ok(partition) = self.locate(&self.broker.image(), one) {
                            partition.wake_on_change(&notify);
                        }
                    }
                    Err(_) => {}
                }
            }
            let round = self.round(&image, &wanted).await;
            if self.is_enough(&round) {
                return round;
            }
            if !round.opening {
                if timeout_at(self.deadline, notify.notified()).await.is_err() {
                    return round;
                }
                continue;
            }
            let over = patience.over_at();
            if Instant::now() >= over {
                return round;
            }
            // Once more, whichever it is.
            tokio::select! {
                biased;
                () = notify.notified() => {}
                () = patience.opened(place.told()) => {}
                () = sleep_until(over) => {}
            }
        }
    }

    fn is_enough(&self, round: &Round) -> bool {
        round.urgent
            || round.answers.is_empty()
            || round.bytes >= self.min_bytes
            || Instant::now() >= self.deadline
    }

    async fn round(&self, image: &Image, wanted: &[Wanted]) -> Round {
        let mut round = Round::default();
        let beside = Beside::default();
        for one in wanted {
            let left = self.max_bytes.saturating_sub(round.bytes);
            let room = Room {
                limit: one.max_bytes.min(left),
                min_one: round.bytes == 0,
                beside: &beside,
            };
            let data = match self.read(image, one, room).await {
                Ok(Outcome::Found(read)) => {
                    round.bytes += read.bytes;
                    round.records += records_in(&read);
                    found(read)
                }
                Ok(Outcome::Sent(to, position)) => {
                    round.urgent = true;
                    zone::sent(to, position)
                }
                Err(failed) => {
                    let opening = matches!(failed, Failed::Opening(..));
                    round.opening |= opening;
                    round.urgent |= !opening;
                    self.failed(failed, &mut round.leaders)
                }
            };
            let mut data = data.with_partition_index(one.partition);
            // Librdkafka takes an answer without any for a broken one, and what else it says is lost.
            data.records.get_or_insert_default();
            round.answers.push((one.clone(), data));
        }
        round
    }

    fn locate(&self, image: &Image, wanted: &Wanted) -> Result<Partition, Failed> {
        let topic: &Arc<TopicImage> = match &wanted.topic {
            TopicKey::Name(name) => image
                .topic(name)
                .ok_or(Failed::Code(ErrorCode::UnknownTopicOrPartition))?,
            TopicKey::Id(id) => image
                .topic_by_id(*id)
                .ok_or(Failed::Code(ErrorCode::UnknownTopicId))?,
        };
        if !self
            .broker
            .allows(self.context, Operation::Read, Resource::Topic(&topic.name))
        {
            return Err(Failed::Code(ErrorCode::TopicAuthorizationFailed));
        }
        let unknown = Failed::Code(ErrorCode::UnknownTopicOrPartition);
        let tp = partition_of(topic, wanted.partition).ok_or(unknown)?;
        self.broker.led(image, tp).map_err(|not_led| {
            if self.broker.is_opening(image, tp) {
                Failed::Opening(tp, not_led)
            } else {
                Failed::Elsewhere(tp, not_led)
            }
        })
    }

    async fn read(
        &self,
        image: &Image,
        wanted: &Wanted,
        room: Room<'_>,
    ) -> Result<Outcome, Failed> {
        let partition = match self.locate(image, wanted) {
            Ok(partition) => partition,
            Err(Failed::Elsewhere(tp, not_led)) => {
                return self.beside(image, wanted, (tp, not_led), room).await;
            }
            Err(failed) => return Err(failed),
        };
        check_epoch(&partition, wanted.current_leader_epoch).map_err(Failed::Code)?;
        if wanted.last_fetched_epoch >= 0 {
            let asked = LeaderEpoch(wanted.last_fetched_epoch);
            let known = partition.epoch_end_offset(asked);
            let (epoch, end) = known.unwrap_or((LeaderEpoch(-1), partition.log_start()));
            let truncated = epoch < asked || end < wanted.fetch_offset;
            // What retention dropped is out of range, not diverged.
            if truncated && known.is_some() {
                return Err(Failed::Diverged(epoch, end, partition));
            }
        }
        let offset = wanted.fetch_offset;
        if let Some(to) = self.better(image, &partition, offset, room.beside) {
            return Ok(Outcome::Sent(to, partition.position()));
        }
        let read = partition.read(offset, room.limit, room.min_one, self.isolation);
        match read.await {
            Ok(read) => Ok(Outcome::Found(read)),
            // Given away since it was looked up.
            Err(storage::Error::NotLeader { .. }) => {
                let not_led = self.broker.not_led(partition.topic_partition());
                Err(Failed::NotLed(not_led))
            }
            Err(error) => Err(Failed::Storage(error, partition)),
        }
    }

    /// `data`, with who leads now (KIP-951, from version 16 on).
    fn with_leader(
        &self,
        data: PartitionData,
        not_led: NotLed,
        leaders: &mut BTreeSet<NodeId>,
    ) -> PartitionData {
        let (Some(leader), true) = (not_led.leader, self.context.version >= 16) else {
            return data;
        };
        leaders.insert(leader);
        data.with_current_leader(
            LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(leader.0))
                .with_leader_epoch(not_led.leader_epoch.0),
        )
    }

    fn failed(&self, failed: Failed, leaders: &mut BTreeSet<NodeId>) -> PartitionData {
        let data = PartitionData::default().with_high_watermark(-1);
        match failed {
            Failed::Code(code) => data.with_error_code(code.code()),
            Failed::NotLed(not_led)
            | Failed::Opening(_, not_led)
            | Failed::Elsewhere(_, not_led) => {
                let data = data.with_error_code(ErrorCode::NotLeaderOrFollower.code());
                self.with_leader(data, not_led, leaders)
            }
            Failed::Fenced(not_led) => {
                let data = data.with_error_code(ErrorCode::FencedLeaderEpoch.code());
                self.with_leader(data, not_led, leaders)
            }
            Failed::Storage(error, partition) => {
                let code = storage_code(&error);
                if code == ErrorCode::CorruptMessage {
                    tracing::error!(partition = %partition.topic_partition(), %error, "damaged");
                }
                positioned(&partition, data.with_error_code(code.code()))
            }
            Failed::Diverged(epoch, end_offset, partition) => {
                let diverging = EpochEndOffset::default()
                    .with_epoch(epoch.0)
                    .with_end_offset(end_offset);
                positioned(&partition, data.with_diverging_epoch(diverging))
            }
        }
    }

    fn endpoints(&self, leaders: &BTreeSet<NodeId>) -> Vec<NodeEndpoint> {
        if leaders.is_empty() {
            return Vec::new();
        }
        let known = self.broker.endpoints(&self.broker.image(), self.context);
        let named = known
            .into_values()
            .filter(|endpoint| leaders.contains(&endpoint.node));
        let told = |endpoint: crate::broker::Endpoint| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(endpoint.node.0))
                .with_host(endpoint.host)
                .with_port(endpoint.port)
                .with_rack(endpoint.rack)
        };
        named.map(told).collect()
    }
}

fn positioned(partition: &Partition, data: PartitionData) -> PartitionData {
    at(partition.position(), data)
}

fn at(position: Position, data: PartitionData) -> PartitionData {
    data.with_high_watermark(position.high_watermark)
        .with_last_stable_offset(position.last_stable_offset)
        .with_log_start_offset(position.log_start)
}

/// Records by the headers of their batches.
fn records_in(read: &ReadResult) -> u64 {
    let batches = read.batches.iter().flat_map(|bytes| Batches::whole(bytes));
    let counts = batches
        .flatten()
        .map(|batch| u64::try_from(batch.record_count()).unwrap_or(0));
    counts.sum()
}

fn found(read: ReadResult) -> PartitionData {
    let aborted = read.aborted.map(|aborted| {
        let told = |one: storage::AbortedTransaction| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(one.producer_id))
                .with_first_offset(one.first_offset)
        };
        aborted.into_iter().map(told).collect()
    });
    PartitionData::default()
        .with_high_watermark(read.position.high_watermark)
        .with_last_stable_offset(read.position.last_stable_offset)
        .with_log_start_offset(read.position.log_start)
        .with_aborted_transactions(aborted)
        .with_records(Some(Records::from(read.batches)))
}

/// Neighbours of one topic share an entry; the order of the request stays.
fn by_topic(answers: Vec<(Wanted, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<(TopicKey, FetchableTopicResponse)> = Vec::new();
    for (wanted, data) in answers {
        match topics.last_mut() {
            Some((key, topic)) if *key == wanted.topic => topic.partitions.push(data),
            _ => {
                let (name, id) = match &wanted.topic {
                    TopicKey::Name(name) => (TopicName(text(&**name)), TopicId::default()),
                    TopicKey::Id(id) => (TopicName::default(), *id),
                };
                let topic = FetchableTopicResponse::default()
                    .with_topic(name)
                    .with_topic_id(id.0)
                    .with_partitions(vec![data]);
                topics.push((wanted.topic, topic));
            }
        }
    }
    topics.into_iter().map(|(_, topic)| topic).collect()
}
