//! One transaction, cut off at every effect, with every way of cutting it off, and twice.
//!
//! The acts of a transaction are records and markers. At each of them the coordinator may end
//! before it, or after it without having heard; the successor opens what is in the log, completes
//! what was decided, and is cut off in turn. At the end every partition has markers of the one
//! decision, or none of any if there was no decision.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ErrorCode;

use super::super::*;
use super::rig::{ID, NOW_MS, settings};

const PARTITIONS: i32 = 3;

/// What outlives coordinators.
#[derive(Default)]
struct Outside {
    log: Vec<(Bytes, Option<Bytes>)>,
    /// Per partition: the markers it took, and the latest coordinator epoch (R14).
    markers: BTreeMap<i32, Vec<(Producer, Decision)>>,
    epochs: BTreeMap<i32, i32>,
    acts: usize,
}

/// Where a coordinator ends: at which act, and whether that is done.
#[derive(Clone, Copy, Debug)]
struct Cut {
    act: usize,
    done: bool,
}

struct Life<'a> {
    outside: &'a mut Outside,
    machine: Coordinator,
    cut: Option<Cut>,
    ids: ProducerIds,
    answers: Vec<Answer>,
}

/// The coordinator has ended.
struct Dead;

impl<'a> Life<'a> {
    fn begin(outside: &'a mut Outside, epoch: i32, cut: Option<Cut>) -> Result<Self, Dead> {
        let mut machine = Coordinator::new(settings(TransactionVersion::Tv2), epoch);
        for (key, value) in &outside.log {
            machine.load(Some(key), value.as_deref()).unwrap();
        }
        let effects = machine.open(NOW_MS);
        let mut ids = ProducerIds::new();
        ids.add(i64::from(epoch) * 100..i64::from(epoch) * 100 + 100);
        let answers = Vec::new();
        let mut life = Self {
            outside,
            machine,
            cut,
            ids,
            answers,
        };
        life.carry_out(effects)?;
        Ok(life)
    }

    /// Whether an act is done; the coordinator lives on if `Ok`.
    fn act(&mut self, act: impl FnOnce(&mut Outside)) -> Result<(), Dead> {
        self.outside.acts += 1;
        match self.cut {
            Some(cut) if cut.act == self.outside.acts => {
                if cut.done {
                    act(self.outside);
                }
                Err(Dead)
            }
            _ => {
                act(self.outside);
                Ok(())
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Dead> {
        for effect in effects {
            match effect {
                Effect::Append { append, key, value } => {
                    self.act(|outside| outside.log.push((key, value)))?;
                    let more = self.machine.appended(NOW_MS, append, Appended::Written);
                    self.carry_out(more)?;
                }
                Effect::Answer { answer, .. } => self.answers.push(answer),
                Effect::MarkersDue | Effect::Resigned => {}
            }
        }
        Ok(())
    }

    /// Each partition is led by a broker of its own, so that markers are acts of their own.
    fn write_markers(&mut self) -> Result<(), Dead> {
        let (batches, effects) = self
            .machine
            .markers(NOW_MS, |partition| Leader::Node(partition.index));
        self.carry_out(effects)?;
        for batch in batches {
            let [marker] = &batch.markers[..] else {
                panic!("one id, one marker")
            };
            self.act(|outside| outside.take(batch.node, marker))?;
            let key = (marker.producer.id, Partition::new("t", batch.node));
            let results = [(key, ErrorCode::None)].into();
            let more = self
                .machine
                .markers_answered(NOW_MS, batch.batch, Some(&results));
            self.carry_out(more)?;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        ask: impl FnOnce(&mut Coordinator, &mut World<'_>) -> Vec<Effect>,
    ) -> Result<Answer, Dead> {
        let mut world = World {
            now_ms: NOW_MS,
            ids: &mut self.ids,
        };
        let effects = ask(&mut self.machine, &mut world);
        self.carry_out(effects)?;
        Ok(self.answers.pop().expect("the log is quick"))
    }

    fn transaction(&mut self, client: TransactionVersion, decision: Decision) -> Result<(), Dead> {
        let request = RequestId(1);
        let init = InitProducerId {
            transactional_id: ID,
            timeout_ms: 60_000,
            resume: None,
        };
        let answer = self.ask(|machine, world| machine.init_producer_id(world, request, init))?;
        let Answer::InitProducerId(Ok(producer)) = answer else {
            panic!("{answer:?}")
        };
        for index in 0..PARTITIONS {
            let add = AddPartitions {
                transactional_id: ID,
                producer,
                partitions: &[Partition::new("t", index)].into(),
                client,
                connection: None,
            };
            let answer =
                self.ask(|machine, world| machine.add_partitions(world.now_ms, request, add))?;
            assert_eq!(answer, Answer::AddPartitions(Ok(())));
        }
        let end = EndTxn {
            transactional_id: ID,
            producer,
            decision,
            client,
            connection: None,
        };
        let answer = self.ask(|machine, world| machine.end_txn(world, request, end))?;
        assert!(matches!(answer, Answer::EndTxn(Ok(_))), "{answer:?}");
        self.write_markers()
    }
}

impl Outside {
    fn take(&mut self, index: i32, marker: &Marker) {
        let epoch = self.epochs.entry(index).or_insert(0);
        assert!(marker.coordinator_epoch >= *epoch, "one life after another");
        *epoch = marker.coordinator_epoch;
        let taken = (marker.producer, marker.decision);
        self.markers.entry(index).or_default().push(taken);
    }

    fn states(&self) -> Vec<Metadata> {
        let values = self.log.iter().filter_map(|(_, value)| value.as_ref());
        values.map(|it| Metadata::decode(it).unwrap()).collect()
    }

    fn judge(&self, asked: Decision, cuts: &[Option<Cut>]) {
        let states = self.states();
        let ordered = states.is_sorted_by(|a, b| a.producer <= b.producer);
        assert!(ordered, "{cuts:?}: epochs go back");
        let decisions: Vec<_> = states
            .iter()
            .filter_map(|state| state.decision().map(|it| (state.producer, it)))
            .collect();
        assert!(decisions.len() <= 1, "{cuts:?}: {decisions:?}");
        let Some(decided) = decisions.first() else {
            assert!(self.markers.is_empty(), "{cuts:?}: nothing was decided");
            return;
        };
        assert_eq!(decided.1, asked, "{cuts:?}");
        for index in 0..PARTITIONS {
            let markers = &self.markers[&index];
            assert!(markers.iter().all(|it| it == decided), "{cuts:?}");
        }
        let end = states.last().expect("a decision").state;
        let expected = match asked {
            Decision::Commit => TransactionState::CompleteCommit,
            Decision::Abort => TransactionState::CompleteAbort,
        };
        assert_eq!(end, expected, "{cuts:?}");
    }
}

/// Lives one after another, the last of which is not cut off. How many acts there were.
fn lives(client: TransactionVersion, decision: Decision, cuts: &[Option<Cut>]) -> usize {
    let mut outside = Outside::default();
    for (at, cut) in cuts.iter().chain(&[None]).enumerate() {
        outside.acts = 0;
        let epoch = at as i32 + 1;
        let _: Result<(), Dead> =
            Life::begin(&mut outside, epoch, *cut).and_then(|mut life| match at {
                0 => life.transaction(client, decision),
                _ => life.write_markers(),
            });
    }
    outside.judge(decision, cuts);
    outside.acts
}

#[test]
fn cut_off_at_every_effect_and_again() {
    // Init, three partitions, the decision, three markers, the end.
    const ACTS: usize = 9;
    let every =
        |acts: usize| (1..=acts).flat_map(|act| [true, false].map(|done| Some(Cut { act, done })));
    for client in [TransactionVersion::Tv0, TransactionVersion::Tv2] {
        for decision in [Decision::Commit, Decision::Abort] {
            let mut outside = Outside::default();
            let whole = Life::begin(&mut outside, 1, None)
                .and_then(|mut life| life.transaction(client, decision));
            assert!(whole.is_ok());
            assert_eq!(outside.acts, ACTS);
            outside.judge(decision, &[]);
            for first in every(ACTS) {
                let after = lives(client, decision, &[first]);
                assert!(after <= 4, "three markers, the end: {after}");
                for second in every(4) {
                    lives(client, decision, &[first, second]);
                }
            }
        }
    }
}
