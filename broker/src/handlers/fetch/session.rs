//! Fetch sessions (KIP-227): a client names its partitions once, and is told only what changed.
//!
//! **Invariant:** a session's epoch goes up by one with each request; a request of any other epoch
//! is refused, so that a lost answer cannot hide a change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::{ErrorCode, TopicId};
use tokio::time::Instant;

use crate::limits::{MAX_SESSION_PARTITIONS, SESSION_MIN_AGE};

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13 on.
    Id(TopicId),
}

/// One partition that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its topic.
    pub(crate) topic: TopicKey,
    /// Its index.
    pub(crate) partition: i32,
    /// From which offset on.
    pub(crate) fetch_offset: i64,
    /// Most bytes.
    pub(crate) max_bytes: usize,
    /// The leader epoch that the client knows, -1 for none.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record that it has, -1 for none.
    pub(crate) last_fetched_epoch: i32,
}

/// What of a request concerns sessions.
#[derive(Debug)]
pub(crate) struct SessionRequest<'a> {
    /// 0 for none.
    pub(crate) id: i32,
    /// 0 begins a session, -1 ends or wants none.
    pub(crate) epoch: i32,
    /// Version 13 and later.
    pub(crate) by_id: bool,
    /// What is new or changed.
    pub(crate) topics: &'a [FetchTopic],
    /// What is no longer wanted.
    pub(crate) forgotten: &'a [ForgottenTopic],
}

/// A request, put together with what its session remembers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// How to answer.
    pub(crate) mode: Mode,
    /// Everything wanted, in order.
    pub(crate) wanted: Vec<Wanted>,
}

/// How an answer relates to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No session.
    Sessionless,
    /// A session may begin.
    Full,
    /// This one goes on.
    Incremental(i32),
}

type Key = (TopicKey, i32);

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    by_id: bool,
    used: Instant,
    /// Where each partition stands in `order`.
    places: BTreeMap<Key, u64>,
    /// Who gave data goes to the end, so that nobody starves.
    order: BTreeMap<u64, Cached>,
    next_place: u64,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// -1 when the client has not been told, or was told an error.
    high_watermark: i64,
    log_start: i64,
}

/// Every session of a broker.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: usize,
    gauge: Gauge,
    held: Mutex<BTreeMap<i32, Session>>,
}

// === impl Wanted ===

fn wanted_of(request: &SessionRequest<'_>) -> impl Iterator<Item = Wanted> {
    let by_id = request.by_id;
    request.topics.iter().flat_map(move |topic| {
        let key = if by_id {
            TopicKey::Id(TopicId(topic.topic_id))
        } else {
            TopicKey::Name(Arc::from(topic.topic.as_str()))
        };
        topic.partitions.iter().map(move |partition| Wanted {
            topic: key.clone(),
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        })
    })
}

// === impl Session ===

impl Session {
    fn new(by_id: bool, next_epoch: i32, now: Instant) -> Self {
        Self {
            next_epoch,
            by_id,
            used: now,
            places: BTreeMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// False when there is no room for it.
    #[must_use]
    fn put(&mut self, wanted: Wanted) -> bool {
        let key = (wanted.topic.clone(), wanted.partition);
        if let Some(place) = self.places.get(&key) {
            let cached = self
                .order
                .get_mut(place)
                .expect("each place holds a partition");
            cached.wanted = wanted;
            return true;
        }
        if self.places.len() >= MAX_SESSION_PARTITIONS {
            return false;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(key, place);
        self.order.insert(
            place,
            Cached {
                wanted,
                high_watermark: -1,
                log_start: -1,
            },
        );
        true
    }

    fn forget(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    /// Whether the client must be told; remembers what it then knows.
    fn changed(&mut self, key: &Key, data: &PartitionData) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            return true;
        };
        let cached = self
            .order
            .get_mut(&place)
            .expect("each place holds a partition");
        let has_records = data
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty());
        let changed = has_records
            || data.error_code != 0
            || data.diverging_epoch.end_offset >= 0
            || data.preferred_read_replica.0 >= 0
            || cached.high_watermark != data.high_watermark
            || cached.log_start != data.log_start_offset;
        // After an error the recovery is told, whatever it looks like.
        cached.high_watermark = if data.error_code == 0 {
            data.high_watermark
        } else {
            -1
        };
        cached.log_start = data.log_start_offset;
        if has_records {
            let cached = self.order.remove(&place).expect("looked up above");
            self.order.insert(self.next_place, cached);
            self.places.insert(key.clone(), self.next_place);
            self.next_place += 1;
        }
        changed
    }
}

fn next(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

// === impl Sessions ===

impl Sessions {
    /// At most `slots` sessions, counted in `gauge`.
    pub(crate) fn new(slots: usize, gauge: Gauge) -> Self {
        Self {
            slots,
            gauge,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// What a request wants, with its session's help.
    ///
    /// # Errors
    /// For the whole answer: an unknown session, a wrong epoch, names and ids mixed.
    pub(crate) fn begin(
        &self,
        request: &SessionRequest<'_>,
        now: Instant,
    ) -> Result<Begun, ErrorCode> {
        let mut held = self.held.lock();
        if request.epoch <= 0 {
            if request.id != 0 {
                held.remove(&request.id);
                self.gauge.set(held.len() as i64);
            }
            let mode = if request.epoch == 0 {
                Mode::Full
            } else {
                Mode::Sessionless
            };
            return Ok(Begun {
                mode,
                wanted: wanted_of(request).collect(),
            });
        }
        let session = held
            .get_mut(&request.id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.by_id != request.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.next_epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.next_epoch = next(session.next_epoch);
        session.used = now;
        for topic in request.forgotten {
            let key = if request.by_id {
                TopicKey::Id(TopicId(topic.topic_id))
            } else {
                TopicKey::Name(Arc::from(topic.topic.as_str()))
            };
            for partition in &topic.partitions {
                session.forget(&(key.clone(), *partition));
            }
        }
        if !wanted_of(request).all(|wanted| session.put(wanted)) {
            // The client begins anew, and is served without a session if it still wants as many.
            held.remove(&request.id);
            self.gauge.set(held.len() as i64);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let wanted = session
            .order
            .values()
            .map(|cached| cached.wanted.clone())
            .collect();
        Ok(Begun {
            mode: Mode::Incremental(request.id),
            wanted,
        })
    }

    /// Thins an answer out, or begins a session with it. Gives the session's id for the answer.
    pub(crate) fn finish(
        &self,
        mode: Mode,
        by_id: bool,
        answers: &mut Vec<(Wanted, PartitionData)>,
        now: Instant,
        draw: impl Fn() -> u64,
    ) -> i32 {
        let mut held = self.held.lock();
        match mode {
            Mode::Sessionless => 0,
            Mode::Incremental(id) => {
                if let Some(session) = held.get_mut(&id) {
                    answers.retain(|(wanted, data)| {
                        session.changed(&(wanted.topic.clone(), wanted.partition), data)
                    });
                }
                id
            }
            Mode::Full => {
                let fits = (1..=MAX_SESSION_PARTITIONS).contains(&answers.len());
                if !fits || !self.make_room(&mut held, now) {
                    return 0;
                }
                let mut session = Session::new(by_id, 1, now);
                for (wanted, data) in answers.iter() {
                    let put = session.put(wanted.clone());
                    assert!(put, "a session holds what was counted");
                    session.changed(&(wanted.topic.clone(), wanted.partition), data);
                }
                let id = loop {
                    let id = (draw() & 0x7fff_ffff) as i32;
                    if id != 0 && !held.contains_key(&id) {
                        break id;
                    }
                };
                held.insert(id, session);
                self.gauge.set(held.len() as i64);
                id
            }
        }
    }

    fn make_room(&self, held: &mut BTreeMap<i32, Session>, now: Instant) -> bool {
        if held.len() < self.slots {
            return true;
        }
        let oldest = held.iter().min_by_key(|(_, session)| session.used);
        let Some((&id, session)) = oldest else {
            return false;
        };
        let idle: Duration = now.saturating_duration_since(session.used);
        if idle < SESSION_MIN_AGE {
            return false;
        }
        held.remove(&id);
        true
    }
}

#[cfg(test)]
mod tests {
    use protocol::Records;
    use protocol::messages::TopicName;
    use protocol::messages::fetch_request::FetchPartition;

    use super::*;

    fn topics(offsets: &[(i32, i64)]) -> Vec<FetchTopic> {
        let partitions = offsets.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(100)
        });
        vec![
            FetchTopic::default()
                .with_topic(TopicName("t".into()))
                .with_partitions(partitions.collect()),
        ]
    }

    fn ask<'a>(id: i32, epoch: i32, topics: &'a [FetchTopic]) -> SessionRequest<'a> {
        SessionRequest {
            id,
            epoch,
            by_id: false,
            topics,
            forgotten: &[],
        }
    }

    fn answer(begun: &Begun, marks: &[i64], records: &[usize]) -> Vec<(Wanted, PartitionData)> {
        let data = |at: usize| {
            let mut data = PartitionData::default().with_high_watermark(marks[at]);
            data.log_start_offset = 0;
            if records.contains(&at) {
                let mut some = Records::new();
                some.push(bytes::Bytes::from_static(b"x"));
                data.records = Some(some);
            }
            data
        };
        begun
            .wanted
            .iter()
            .enumerate()
            .map(|(at, wanted)| (wanted.clone(), data(at)))
            .collect()
    }

    fn sessions(slots: usize) -> Sessions {
        Sessions::new(slots, Gauge::default())
    }

    fn start(sessions: &Sessions, now: Instant) -> i32 {
        let topics = topics(&[(0, 5), (1, 5)]);
        let begun = sessions.begin(&ask(0, 0, &topics), now).unwrap();
        assert_eq!(begun.mode, Mode::Full);
        let mut answers = answer(&begun, &[5, 5], &[]);
        let id = sessions.finish(begun.mode, false, &mut answers, now, || 77);
        assert_eq!(answers.len(), 2, "a full answer names everything");
        id
    }

    #[tokio::test]
    async fn an_incremental_answer_names_only_what_changed() {
        let (sessions, now) = (sessions(10), Instant::now());
        let id = start(&sessions, now);
        assert_eq!(id, 77);
        let begun = sessions.begin(&ask(id, 1, &[]), now).unwrap();
        assert_eq!(begun.wanted.len(), 2);
        let mut answers = answer(&begun, &[5, 9], &[]);
        assert_eq!(
            sessions.finish(begun.mode, false, &mut answers, now, || 1),
            id
        );
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0.partition, 1);
        // Data moves a partition to the end of the line; a new offset is remembered.
        let moved = topics(&[(0, 8)]);
        let begun = sessions.begin(&ask(id, 2, &moved), now).unwrap();
        assert_eq!(begun.wanted[0].fetch_offset, 8);
        let mut answers = answer(&begun, &[5, 9], &[0]);
        sessions.finish(begun.mode, false, &mut answers, now, || 1);
        let begun = sessions.begin(&ask(id, 3, &[]), now).unwrap();
        assert_eq!(
            [begun.wanted[0].partition, begun.wanted[1].partition],
            [1, 0]
        );
    }

    #[tokio::test]
    async fn after_an_error_the_recovery_is_told() {
        let (sessions, now) = (sessions(10), Instant::now());
        let id = start(&sessions, now);
        for (epoch, error, told) in [(1, 6, 2), (2, 0, 2), (3, 0, 0)] {
            let begun = sessions.begin(&ask(id, epoch, &[]), now).unwrap();
            let mut answers = answer(&begun, &[5, 5], &[]);
            for (_, data) in &mut answers {
                data.error_code = error;
            }
            sessions.finish(begun.mode, false, &mut answers, now, || 1);
            assert_eq!(answers.len(), told, "epoch {epoch}");
        }
    }

    #[tokio::test]
    async fn wrong_sessions_are_refused() {
        let (sessions, now) = (sessions(10), Instant::now());
        let id = start(&sessions, now);
        let refused = |request: &SessionRequest<'_>| sessions.begin(request, now).unwrap_err();
        assert_eq!(
            refused(&ask(id, 2, &[])),
            ErrorCode::InvalidFetchSessionEpoch
        );
        assert_eq!(
            refused(&ask(id + 1, 1, &[])),
            ErrorCode::FetchSessionIdNotFound
        );
        let by_id = SessionRequest {
            by_id: true,
            ..ask(id, 1, &[])
        };
        assert_eq!(refused(&by_id), ErrorCode::FetchSessionTopicIdError);
        // Epoch -1 closes it.
        assert_eq!(
            sessions.begin(&ask(id, -1, &[]), now).unwrap().mode,
            Mode::Sessionless
        );
        assert_eq!(refused(&ask(id, 1, &[])), ErrorCode::FetchSessionIdNotFound);
    }

    #[tokio::test]
    async fn forgotten_partitions_leave_and_full_slots_give_no_session() {
        let (sessions, now) = (sessions(1), Instant::now());
        let id = start(&sessions, now);
        let gone = [ForgottenTopic::default()
            .with_topic(TopicName("t".into()))
            .with_partitions(vec![0])];
        let request = SessionRequest {
            forgotten: &gone,
            ..ask(id, 1, &[])
        };
        assert_eq!(sessions.begin(&request, now).unwrap().wanted.len(), 1);
        assert_eq!(
            start(&sessions, now),
            0,
            "the one slot is taken, and in use"
        );
        assert_eq!(
            start(&sessions, now + SESSION_MIN_AGE),
            77,
            "an idle one makes room"
        );
    }

    #[tokio::test]
    async fn what_a_session_cannot_hold_has_none() {
        let (sessions, now) = (sessions(10), Instant::now());
        let most = MAX_SESSION_PARTITIONS as i32;
        for (partitions, session) in [(most, 77), (most + 1, 0)] {
            let many: Vec<_> = (0..partitions).map(|partition| (partition, 5)).collect();
            let many = topics(&many);
            let begun = sessions.begin(&ask(0, 0, &many), now).unwrap();
            let mut answers: Vec<_> = begun
                .wanted
                .into_iter()
                .map(|wanted| (wanted, PartitionData::default()))
                .collect();
            let id = sessions.finish(begun.mode, false, &mut answers, now, || 77);
            assert_eq!(id, session, "{partitions}");
            assert_eq!(answers.len(), partitions as usize);
        }
        // One more than the session holds ends it: the client begins anew.
        for more in [topics(&[(0, 6)]), topics(&[(most, 5)])] {
            let full = more[0].partitions[0].partition == most;
            let epoch = if full { 2 } else { 1 };
            let begun = sessions.begin(&ask(77, epoch, &more), now);
            let refused = full.then_some(ErrorCode::FetchSessionIdNotFound);
            assert_eq!(begun.err(), refused);
        }
        assert_eq!(
            sessions.begin(&ask(77, 3, &[]), now),
            Err(ErrorCode::FetchSessionIdNotFound)
        );
    }
}
