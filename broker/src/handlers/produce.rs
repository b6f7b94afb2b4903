//! Produce, key 0, versions 3 to 13 (advertised from 0: KAFKA-18659).
//!
//! - Exactly one v2 batch per partition; zstd from 7 on; 8+: errors of single records (KIP-467); 10+: the
//!   leader in the error itself (KIP-951); 13: topics by id only (KIP-516).
//! - Every record is read before any is kept: one that no consumer could read, without the key that
//!   its topic needs or out of the topic's time refuses its batch. A header whose highest timestamp
//!   is not its records' is set right.
//! - A batch is answered when it and all before it in the log are durable, for acks=0 and 1 too. A
//!   time-out does not take a queued batch back.
//! - acks=0 has no answer; an error then closes the connection.

mod check;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use controller::{Image, TopicImage};
use env::IoThread;
use protocol::messages::produce_request::PartitionProduceData;
use protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};
use protocol::{BatchView, Compression, ErrorCode, NodeId, TopicId, TopicPartition};
use storage::{AppendContext, Appended, Partition};
use tokio::sync::Semaphore;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{partition_of, text, topic_names};
use crate::auth::{Operation, Resource};
use crate::broker::{AddressName, Broker};
use crate::connection::{Answer, Frame, Hangup, Pending};
use crate::context::RequestContext;
use crate::error::storage_code;
use crate::limits::{MAX_RECORD_ERRORS, POOLED_CHECK_BYTES};
use crate::opening::{NotLed, Patience};
use crate::quotas::{Use, throttle_ms};
use crate::refused::Sequenced;
use crate::topics::TopicSettings;
use check::{Checked, Refused, Terms};

/// Version from which an answer names single records (KIP-467).
const RECORD_ERRORS_FROM: i16 = 8;

/// Appends everything, in order; the rest waits for durability.
pub(crate) async fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ProduceRequest,
    frame: &Arc<Frame>,
) -> Result<Pending, Hangup> {
    let deadline = broker.deadline(context, request.timeout_ms);
    let image = broker.image();
    let told = request.acks != 0 && context.version >= RECORD_ERRORS_FROM;
    let mut producing = Producing {
        broker,
        context,
        image: &image,
        frame,
        acks: request.acks,
        deadline,
        patience: Patience::until(deadline),
        named: if told { MAX_RECORD_ERRORS } else { 0 },
    };
    let transactional = request.transactional_id.is_some();
    let (mut bytes, mut topics) = (0, Vec::with_capacity(request.topic_data.len()));
    for topic in request.topic_data {
        let found = producing.topic(&topic.name, topic.topic_id, transactional);
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            bytes += data.records.as_ref().map_or(0, Bytes::len);
            let id = found
                .as_ref()
                .map_or(topic.topic_id, |(topic, _)| topic.id.0);
            let tp = TopicPartition::new(TopicId(id), data.index);
            // A frame may hold thousands that never wait for anything.
            consume_budget().await;
            let appended = match &found {
                Ok((topic, settings)) => producing.partition(topic, settings, data).await,
                Err(refused) => Err(refused.clone().into()),
            };
            partitions.push((tp, appended));
        }
        topics.push(Topic {
            name: topic.name,
            id: topic.topic_id,
            partitions,
        });
    }
    let mute = broker.quota.charge(context, Use::Produce(bytes));
    let finish = Finish {
        broker: Arc::clone(broker),
        address: AddressName::of(context),
        version: context.version,
        deadline,
    };
    let wants_answer = request.acks != 0;
    Ok(Box::pin(async move {
        let (response, failed) = finish.wait(topics).await;
        if wants_answer {
            let response = response.with_throttle_time_ms(throttle_ms(mute));
            return Ok(Answer {
                response: Some(response.into()),
                mute,
            });
        }
        match failed {
            true => Err(Hangup("a produce without acknowledgement failed")),
            false => Ok(Answer {
                response: None,
                mute,
            }),
        }
    }))
}

struct Topic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<(TopicPartition, Result<Appended, Failed>)>,
}

/// Why a partition took nothing.
#[derive(Clone, Debug)]
enum Failed {
    Refused(Refused),
    NotLed(NotLed),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

struct Producing<'a> {
    broker: &'a Arc<Broker>,
    context: &'a RequestContext,
    image: &'a Image,
    frame: &'a Arc<Frame>,
    acks: i16,
    deadline: Instant,
    patience: Patience,
    /// Records that may still be named in the answer.
    named: usize,
}

impl Producing<'_> {
    fn topic(
        &self,
        name: &TopicName,
        id: Uuid,
        transactional: bool,
    ) -> Result<(Arc<TopicImage>, Arc<TopicSettings>), Refused> {
        let refuse = |code: ErrorCode| Refused::new(code, code.message());
        if !matches!(self.acks, -1..=1) {
            return Err(refuse(ErrorCode::InvalidRequiredAcks));
        }
        if transactional {
            let message = "transactions are not served yet";
            return Err(Refused::new(ErrorCode::InvalidTxnState, message));
        }
        let topic = if self.context.version >= 13 {
            self.image
                .topic_by_id(TopicId(id))
                .ok_or_else(|| refuse(ErrorCode::UnknownTopicId))?
        } else {
            let unknown = || refuse(ErrorCode::UnknownTopicOrPartition);
            self.image.topic(name).ok_or_else(unknown)?
        };
        let resource = Resource::Topic(&topic.name);
        if !self.broker.allows(self.context, Operation::Write, resource) {
            return Err(refuse(ErrorCode::TopicAuthorizationFailed));
        }
        if topic_names::is_internal(&topic.name) {
            let message = format!("clients may not produce to {}", topic.name);
            return Err(Refused::new(ErrorCode::InvalidTopicException, message));
        }
        Ok((Arc::clone(topic), self.broker.settings(self.image, topic)))
    }

    async fn partition(
        &mut self,
        topic: &Arc<TopicImage>,
        settings: &Arc<TopicSettings>,
        data: PartitionProduceData,
    ) -> Result<Appended, Failed> {
        let Some(tp) = partition_of(topic, data.index) else {
            let code = ErrorCode::UnknownTopicOrPartition;
            return Err(Refused::new(code, code.message()).into());
        };
        let records = data.records.unwrap_or_default();
        let batch = Sequenced::of(&records);
        let appended = self.append(tp, settings, records, batch).await;
        if let Some(batch) = &batch {
            let mut refused = self.context.refused.lock();
            match &appended {
                Ok(_) => refused.taken(tp, batch),
                Err(_) => refused.refused(tp, batch),
            }
        }
        appended
    }

    async fn append(
        &mut self,
        tp: TopicPartition,
        settings: &Arc<TopicSettings>,
        records: Bytes,
        batch: Option<Sequenced>,
    ) -> Result<Appended, Failed> {
        let led = self.patience.led(self.broker, tp).await;
        let partition = led.map_err(Failed::NotLed)?;
        let checked = self.check(&records, settings).await;
        let checked = checked.map_err(|refused| self.named_in(refused))?;
        let context = AppendContext {
            deadline: self.deadline,
            internal: false,
        };
        let length = records.len();
        let appended = loop {
            let reservation = partition.reserve(length, context).await;
            self.is_next(&partition, batch)?;
            // A corrected copy is made only here, where nothing waits while it is held.
            let appended = reservation.and_then(|reservation| {
                partition.append(reservation, &checked.keep(records.clone()))
            });
            match appended {
                // It has begun to move, or is far ahead: wait for what comes of it.
                Err(storage::Error::Held { .. } | storage::Error::Ahead { .. })
                    if Instant::now() < self.deadline => {}
                done => break done.map_err(|error| self.failed(tp, &error))?,
            }
        };
        if !appended.duplicate {
            let metrics = &self.broker.metrics;
            metrics.produced_bytes.inc_by(length as u64);
            metrics.produced_records.inc_by(checked.records);
        }
        Ok(appended)
    }

    /// That no batch before this one was refused, on this connection, by a partition that would now
    /// take this one as its producer's first.
    fn is_next(&self, partition: &Partition, batch: Option<Sequenced>) -> Result<(), Failed> {
        let Some(batch) = batch else { return Ok(()) };
        let tp = partition.topic_partition();
        if !self.context.refused.lock().is_behind(tp, &batch)
            || partition.knows_producer(batch.producer())
        {
            return Ok(());
        }
        let (producer, sequence) = (batch.producer(), batch.base_sequence());
        let message =
            format!("producer {producer}: a batch before sequence {sequence} was refused");
        Err(Refused::new(ErrorCode::OutOfOrderSequenceNumber, message).into())
    }

    /// Counts the records that `refused` names.
    fn named_in(&mut self, refused: Refused) -> Failed {
        self.named = self.named.saturating_sub(refused.records.len());
        Failed::Refused(refused)
    }

    /// Judges a batch; compressed ones that are much work where they hold up nobody else.
    async fn check(
        &self,
        records: &Bytes,
        settings: &Arc<TopicSettings>,
    ) -> Result<Checked, Refused> {
        let terms = Terms {
            version: self.context.version,
            now_ms: self.broker.env.clock.wall_ms(),
            named: self.named,
        };
        let compressed = BatchView::split_first(records)
            .is_ok_and(|(view, _)| !matches!(view.compression(), Ok(Compression::None)));
        if !compressed {
            return check::check(records, settings, terms);
        }
        if records.len() < POOLED_CHECK_BYTES
            && let Some(checked) = check::check_small(records, settings, terms)
        {
            return checked;
        }
        let pooled = Pooled {
            turns: Arc::clone(&self.broker.checks),
            pool: self.broker.env.threads.pool(),
            deadline: self.deadline,
        };
        let held = (
            Arc::clone(self.frame),
            records.clone(),
            Arc::clone(settings),
        );
        let check = move |(_, records, settings): &(_, Bytes, Arc<TopicSettings>)| {
            check::check(records, settings, terms)
        };
        pooled.run(held, check).await.unwrap_or_else(|| {
            let message = "too many large batches wait to be read";
            Err(Refused::new(ErrorCode::RequestTimedOut, message))
        })
    }

    fn failed(&mut self, tp: TopicPartition, error: &storage::Error) -> Failed {
        match error {
            // By now it may be led elsewhere.
            storage::Error::NotLeader { .. } | storage::Error::Held { .. } => {
                Failed::NotLed(self.broker.not_led(tp))
            }
            storage::Error::Rejected { records } => {
                let told = records.iter().take(self.named).map(|record| {
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(record.index)
                        .with_batch_index_error_message(Some(text(record.message.clone())))
                });
                let refused = Refused::new(ErrorCode::InvalidRecord, error.to_string());
                let records = told.collect();
                self.named_in(Refused { records, ..refused })
            }
            error => Failed::Refused(Refused::new(storage_code(error), error.to_string())),
        }
    }
}

/// Work that holds up nobody else, few at a time.
struct Pooled {
    turns: Arc<Semaphore>,
    pool: IoThread,
    deadline: Instant,
}

impl Pooled {
    /// Runs `job`, unless its turn does not come by the deadline. It ends when it ends, even if
    /// the connection is long gone: it holds its turn and all that it uses until then.
    async fn run<H: Send + 'static, T: Send + 'static>(
        self,
        held: H,
        job: impl FnOnce(&H) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = timeout_at(self.deadline, self.turns.acquire_owned());
        let turn = turn.await.ok()?.expect("nobody closes the semaphore");
        let job = move || {
            let done = job(&held);
            drop((held, turn));
            done
        };
        Some(self.pool.run(job).await)
    }
}

/// The second half: waits, and puts the answer together.
struct Finish {
    broker: Arc<Broker>,
    address: AddressName,
    version: i16,
    deadline: Instant,
}

impl Finish {
    /// The answer, and whether any partition failed.
    async fn wait(self, topics: Vec<Topic>) -> (ProduceResponse, bool) {
        let mut failed = false;
        let mut leaders = BTreeSet::new();
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (tp, appended) in topic.partitions {
                let result = match appended {
                    Ok(appended) => self.durable(tp, appended).await,
                    Err(failed) => Err(failed),
                };
                failed |= result.is_err();
                partitions.push(match result {
                    Ok(response) => response.with_index(tp.partition),
                    Err(failed) => self.error(failed, &mut leaders).with_index(tp.partition),
                });
            }
            let response = TopicProduceResponse::default().with_partition_responses(partitions);
            responses.push(if self.version >= 13 {
                response.with_topic_id(topic.id)
            } else {
                response.with_name(topic.name)
            });
        }
        let response = ProduceResponse::default().with_responses(responses);
        let endpoints = if self.version >= 10 {
            self.endpoints(&leaders)
        } else {
            Vec::new()
        };
        (response.with_node_endpoints(endpoints), failed)
    }

    async fn durable(
        &self,
        tp: TopicPartition,
        appended: Appended,
    ) -> Result<PartitionProduceResponse, Failed> {
        let response = PartitionProduceResponse::default()
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(appended.log_start);
        match timeout_at(self.deadline, appended.durable()).await {
            // The lease is asked again when the reply leaves.
            Ok(Ok(())) if self.broker.may_acknowledge() => Ok(response),
            Ok(Ok(())) => Err(unknown_leader()),
            Ok(Err(storage::Error::NotLeader { .. })) => {
                Err(Failed::NotLed(self.broker.not_led(tp)))
            }
            Ok(Err(error)) => Err(Refused::new(storage_code(&error), error.to_string()).into()),
            Err(_) => {
                let message = "still queued: it may yet become durable";
                Err(Refused::new(ErrorCode::RequestTimedOut, message).into())
            }
        }
    }

    fn error(&self, failed: Failed, leaders: &mut BTreeSet<NodeId>) -> PartitionProduceResponse {
        let response = PartitionProduceResponse::default().with_base_offset(-1);
        match failed {
            Failed::Refused(refused) => {
                let response = response.with_error_code(refused.code.code());
                if self.version < RECORD_ERRORS_FROM {
                    return response;
                }
                response
                    .with_record_errors(refused.records)
                    .with_error_message(Some(refused.message))
            }
            Failed::NotLed(not_led) => {
                let response = response.with_error_code(ErrorCode::NotLeaderOrFollower.code());
                let (Some(leader), true) = (not_led.leader, self.version >= 10) else {
                    return response;
                };
                leaders.insert(leader);
                response.with_current_leader(
                    LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(leader.0))
                        .with_leader_epoch(not_led.leader_epoch.0),
                )
            }
        }
    }

    fn endpoints(&self, leaders: &BTreeSet<NodeId>) -> Vec<NodeEndpoint> {
        if leaders.is_empty() {
            return Vec::new();
        }
        let image = self.broker.image();
        let known = self.broker.endpoints_by(&image, &self.address);
        let named = known
            .into_values()
            .filter(|endpoint| leaders.contains(&endpoint.node));
        named
            .map(|endpoint| {
                NodeEndpoint::default()
                    .with_node_id(BrokerId(endpoint.node.0))
                    .with_host(endpoint.host)
                    .with_port(endpoint.port)
                    .with_rack(endpoint.rack)
            })
            .collect()
    }
}

fn unknown_leader() -> Failed {
    Failed::NotLed(NotLed {
        leader: None,
        leader_epoch: protocol::LeaderEpoch(-1),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use env::{Executor, Job};
    use parking_lot::Mutex;

    use super::*;

    /// Keeps jobs until they are run by hand.
    #[derive(Default)]
    struct Later(Mutex<Vec<Job>>);

    impl Executor for Later {
        fn submit(&self, job: Job) {
            self.0.lock().push(job);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_holds_its_turn_and_its_frame_when_its_connection_is_gone() {
        let (later, turns, frame) = (Arc::new(Later::default()), Semaphore::new(1), Arc::new(()));
        let turns = Arc::new(turns);
        let pooled = || Pooled {
            turns: Arc::clone(&turns),
            pool: IoThread::new(later.clone()),
            deadline: Instant::now() + Duration::from_secs(1),
        };
        let mut gone = Box::pin(pooled().run(Arc::clone(&frame), |_| 1));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        assert_eq!(
            (turns.available_permits(), Arc::strong_count(&frame)),
            (0, 2)
        );
        assert_eq!(pooled().run((), |()| 2).await, None, "no turn in time");
        let mut next = Box::pin(pooled().run((), |()| 3));
        assert!(futures::poll!(&mut next).is_pending());
        let job = later.0.lock().pop().unwrap();
        job();
        assert_eq!(Arc::strong_count(&frame), 1);
        assert!(futures::poll!(&mut next).is_pending());
        let job = later.0.lock().pop().unwrap();
        job();
        assert_eq!(next.await, Some(3));
        assert_eq!(turns.available_permits(), 1);
    }
}
