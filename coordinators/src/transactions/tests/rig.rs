//! A machine with a log that takes everything, and short words for requests.

use std::collections::BTreeSet;

use protocol::{ErrorCode, ProducerId};

use super::super::*;

pub(super) const NOW_MS: i64 = 1_000_000;
pub(super) const ID: &str = "tx";

/// The settings of most tests.
pub(super) fn settings(version: TransactionVersion) -> Settings {
    Settings {
        version,
        ..Settings::KAFKA
    }
}

/// What the log says of the one id: producer 7 at epoch 5.
pub(super) fn logged(state: TransactionState, client: TransactionVersion) -> Metadata {
    let open = state == TransactionState::Ongoing || state.is_prepared();
    let mut metadata = Metadata::new(ProducerId(7), 60_000, NOW_MS);
    metadata.producer = Producer::new(7, 5);
    metadata.previous_id = Some(ProducerId(7));
    metadata.state = state;
    metadata.client = client;
    if open {
        metadata.partitions = [Partition::new("t", 0)].into();
    }
    if state != TransactionState::Empty {
        metadata.start_ms = NOW_MS - 1_000;
    }
    metadata
}

pub(super) struct Rig {
    pub(super) machine: Coordinator,
    pub(super) ids: ProducerIds,
    pub(super) now_ms: i64,
    /// Every value that was appended; none is a tombstone.
    pub(super) log: Vec<Option<Metadata>>,
    pub(super) answers: Vec<(RequestId, Answer)>,
    last_request: u64,
}

impl Rig {
    /// An open machine at coordinator epoch 3 with what the log says of [`ID`].
    pub(super) fn new(version: TransactionVersion, logged: Option<&Metadata>) -> Self {
        let mut rig = Self::loading(version, logged);
        let effects = rig.machine.open(NOW_MS);
        rig.carry_out(effects);
        rig
    }

    pub(super) fn loading(version: TransactionVersion, logged: Option<&Metadata>) -> Self {
        let mut machine = Coordinator::new(settings(version), 3);
        if let Some(logged) = logged {
            let key = RecordKey::encode(ID);
            let value = logged.encode(TransactionVersion::Tv2);
            machine.load(Some(&key), Some(&value)).unwrap();
        }
        let mut ids = ProducerIds::new();
        ids.add(100..200);
        Self {
            machine,
            ids,
            now_ms: NOW_MS,
            log: Vec::new(),
            answers: Vec::new(),
            last_request: 0,
        }
    }

    /// Writes what is to be written, at once.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { append, value, .. } => {
                    self.log
                        .push(value.map(|value| Metadata::decode(&value).unwrap()));
                    let more = self
                        .machine
                        .appended(self.now_ms, append, Appended::Written);
                    self.carry_out(more);
                }
                Effect::Answer { request, answer } => self.answers.push((request, answer)),
                Effect::MarkersDue | Effect::Resigned => {}
            }
        }
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    pub(super) fn init(&mut self, resume: Option<Producer>) -> Vec<Effect> {
        let request = self.request();
        let init = InitProducerId {
            transactional_id: ID,
            timeout_ms: 60_000,
            resume,
        };
        let mut world = World {
            now_ms: self.now_ms,
            ids: &mut self.ids,
        };
        self.machine.init_producer_id(&mut world, request, init)
    }

    pub(super) fn add(&mut self, version: i16, producer: Producer, index: i32) -> Vec<Effect> {
        self.add_on(None, version, producer, index)
    }

    pub(super) fn add_on(
        &mut self,
        connection: Option<u64>,
        version: i16,
        producer: Producer,
        index: i32,
    ) -> Vec<Effect> {
        let request = self.request();
        let add = AddPartitions {
            transactional_id: ID,
            producer,
            partitions: &[Partition::new("t", index)].into(),
            client: TransactionVersion::of_add_partitions(version),
            connection: connection.map(ConnectionId),
        };
        self.machine.add_partitions(self.now_ms, request, add)
    }

    pub(super) fn end(
        &mut self,
        version: i16,
        producer: Producer,
        decision: Decision,
    ) -> Vec<Effect> {
        self.end_on(None, version, producer, decision)
    }

    pub(super) fn end_on(
        &mut self,
        connection: Option<u64>,
        version: i16,
        producer: Producer,
        decision: Decision,
    ) -> Vec<Effect> {
        let request = self.request();
        let end = EndTxn {
            transactional_id: ID,
            producer,
            decision,
            client: TransactionVersion::of_end_txn(version),
            connection: connection.map(ConnectionId),
        };
        let mut world = World {
            now_ms: self.now_ms,
            ids: &mut self.ids,
        };
        self.machine.end_txn(&mut world, request, end)
    }

    pub(super) fn tick(&mut self) -> Vec<Effect> {
        let mut world = World {
            now_ms: self.now_ms,
            ids: &mut self.ids,
        };
        self.machine.tick(&mut world)
    }

    pub(super) fn verify(&mut self, producer: Producer, index: i32) -> ErrorCode {
        let wanted: BTreeSet<_> = [Partition::new("t", index)].into();
        let verified = self.machine.verify(ID, producer, &wanted);
        verified[&Partition::new("t", index)]
    }

    /// Markers of one round, every partition led by node 1.
    pub(super) fn markers(&mut self) -> Vec<MarkerBatch<i32>> {
        let (batches, effects) = self.machine.markers(self.now_ms, |_| Leader::Node(1));
        self.carry_out(effects);
        batches
    }

    /// All markers are written.
    pub(super) fn finish(&mut self) {
        for batch in self.markers() {
            let results = results(&batch, ErrorCode::None);
            let effects = self
                .machine
                .markers_answered(self.now_ms, batch.batch, Some(&results));
            self.carry_out(effects);
        }
    }

    /// Sends a request and gives its answer, the log being quick.
    pub(super) fn told(&mut self, effects: Vec<Effect>) -> Answer {
        let request = RequestId(self.last_request);
        self.carry_out(effects);
        let told: Vec<_> = self.answers.iter().filter(|it| it.0 == request).collect();
        assert_eq!(told.len(), 1, "{:?}", self.answers);
        told[0].1
    }

    pub(super) fn now(&self) -> Metadata {
        self.machine.describe(ID).unwrap()
    }
}

/// The same answer for every partition of a batch.
pub(super) fn results(batch: &MarkerBatch<i32>, code: ErrorCode) -> MarkerResults {
    let mut results = MarkerResults::new();
    for marker in &batch.markers {
        for partition in &marker.partitions {
            results.insert((marker.producer.id, partition.clone()), code);
        }
    }
    results
}

/// What a request leads to at once, in a few words.
pub(super) fn brief(effects: &[Effect]) -> String {
    let [effect] = effects else {
        return format!("{effects:?}");
    };
    match effect {
        Effect::Append { value: None, .. } => "tombstone".to_owned(),
        Effect::Append {
            value: Some(value), ..
        } => {
            let next = Metadata::decode(value).unwrap();
            format!("-> {} {}", next.state.name(), next.producer)
        }
        Effect::Answer { answer, .. } => match answer {
            Answer::InitProducerId(Ok(producer)) | Answer::EndTxn(Ok(producer)) => {
                format!("ok {producer}")
            }
            Answer::AddPartitions(Ok(())) => "ok".to_owned(),
            Answer::InitProducerId(Err(code))
            | Answer::AddPartitions(Err(code))
            | Answer::EndTxn(Err(code)) => code.name().to_owned(),
        },
        effect => format!("{effect:?}"),
    }
}
