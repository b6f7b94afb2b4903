use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;

fn batch(id: i64, epoch: i16, base: i32, count: i32, offset: i64) -> ProducerBatch {
    ProducerBatch {
        producer_id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: base,
        last_sequence: increment_sequence(base, count - 1),
        base_offset: offset,
        last_offset: offset + i64::from(count) - 1,
        timestamp_ms: 1_000 + offset,
        appended_at_ms: offset,
        transactional: false,
        control: false,
    }
}

fn append(producers: &mut Producers, batch: ProducerBatch) -> Result<Verdict, Error> {
    let verdict = producers.check(&batch)?;
    if verdict == Verdict::New {
        producers.record(&batch);
    }
    Ok(verdict)
}

fn out_of_order(result: &Result<Verdict, Error>) -> bool {
    matches!(result, Err(Error::OutOfOrderSequence { .. }))
}

#[test]
fn a_retry_gets_its_first_offset_and_timestamp_within_five_batches() {
    let mut producers = Producers::default();
    for n in 0..6 {
        let verdict = append(&mut producers, batch(1, 0, n * 10, 10, i64::from(n) * 10)).unwrap();
        assert_eq!(verdict, Verdict::New);
    }
    for n in 1..6 {
        let retry = batch(1, 0, n * 10, 10, 999);
        let base_offset = i64::from(n) * 10;
        assert_eq!(
            append(&mut producers, retry).unwrap(),
            Verdict::Duplicate {
                base_offset,
                last_offset: base_offset + 9,
                timestamp_ms: 1_000 + base_offset
            }
        );
    }
    // The sixth last is beyond the window.
    assert!(out_of_order(&append(
        &mut producers,
        batch(1, 0, 0, 10, 999)
    )));
    // Same base but another end is no retry.
    assert!(out_of_order(&append(
        &mut producers,
        batch(1, 0, 50, 9, 999)
    )));
}

#[test]
fn gaps_are_refused_and_change_nothing() {
    let mut producers = Producers::default();
    append(&mut producers, batch(1, 0, 0, 3, 0)).unwrap();
    let before = producers.clone();
    assert!(out_of_order(&append(&mut producers, batch(1, 0, 4, 1, 3))));
    assert_eq!(producers, before);
    assert_eq!(
        append(&mut producers, batch(1, 0, 3, 1, 3)).unwrap(),
        Verdict::New
    );
}

#[test]
fn sequences_wrap() {
    let mut producers = Producers::default();
    append(&mut producers, batch(1, 0, i32::MAX - 1, 2, 0)).unwrap();
    assert_eq!(
        append(&mut producers, batch(1, 0, 0, 1, 2)).unwrap(),
        Verdict::New
    );
    // A batch that wraps inside.
    let mut producers = Producers::default();
    let wrapping = batch(1, 0, i32::MAX, 3, 0);
    assert_eq!(wrapping.last_sequence, 1);
    append(&mut producers, wrapping).unwrap();
    assert_eq!(
        append(&mut producers, batch(1, 0, 2, 1, 3)).unwrap(),
        Verdict::New
    );
}

#[test]
fn epochs_fence_and_start_at_zero() {
    let mut producers = Producers::default();
    append(&mut producers, batch(1, 5, 7, 1, 0)).unwrap();
    assert!(matches!(
        append(&mut producers, batch(1, 4, 8, 1, 1)),
        Err(Error::InvalidProducerEpoch { .. })
    ));
    assert!(out_of_order(&append(&mut producers, batch(1, 6, 8, 1, 1))));
    assert_eq!(
        append(&mut producers, batch(1, 6, 0, 1, 1)).unwrap(),
        Verdict::New
    );
    // A retry of the old epoch is fenced, though its sequences were seen.
    assert!(matches!(
        append(&mut producers, batch(1, 5, 7, 1, 1)),
        Err(Error::InvalidProducerEpoch { .. })
    ));
}

#[test]
fn the_idle_are_forgotten_and_may_then_start_anywhere() {
    let mut producers = Producers::default();
    append(&mut producers, batch(1, 0, 0, 1, 0)).unwrap();
    producers.expire(DAY_MS - 1, DAY_MS);
    assert_eq!(producers.len(), 1);
    producers.expire(DAY_MS, DAY_MS);
    assert_eq!(producers.len(), 0);
    assert_eq!(
        append(&mut producers, batch(1, 0, 77, 1, 1)).unwrap(),
        Verdict::New
    );
}

#[test]
fn an_open_transaction_holds_the_stable_offset_until_its_marker() {
    let mut producers = Producers::default();
    let mut open = batch(1, 0, 0, 2, 10);
    open.transactional = true;
    producers.record(&open);
    assert_eq!(producers.first_open(), Some(10));
    producers.expire(i64::MAX, DAY_MS);
    assert_eq!(producers.len(), 1, "an open transaction never expires");
    let mut marker = batch(1, 0, 0, 1, 12);
    marker.control = true;
    marker.transactional = true;
    producers.record(&marker);
    assert_eq!(producers.first_open(), None);
    assert_eq!(
        producers.check(&batch(1, 0, 2, 1, 13)).unwrap(),
        Verdict::New
    );
}

#[test]
fn a_flood_of_ids_is_bounded() {
    let mut producers = Producers::default();
    for id in 0..(MAX_PRODUCERS as i64 + 10) {
        producers.record(&batch(id, 0, 0, 1, id));
    }
    assert!(producers.len() <= MAX_PRODUCERS);
    assert!(
        producers
            .map
            .contains_key(&ProducerId(MAX_PRODUCERS as i64 + 9))
    );
    assert!(
        !producers.map.contains_key(&ProducerId(0)),
        "the longest idle go first"
    );
}

#[test]
fn checkpoints_are_golden() {
    let mut producers = Producers::default();
    producers.record(&batch(7, 1, 2, 3, 4));
    let bytes = producers.encode();
    let golden = [
        1, 10, 21, 8, 7, 16, 1, 24, 4, 40, 1, 50, 11, 8, 2, 16, 4, 24, 4, 32, 6, 40, 216, 15,
    ];
    assert_eq!(bytes, golden);
    assert_eq!(Producers::decode(&golden).unwrap(), producers);
    assert!(Producers::decode(&[]).is_err());
    assert!(
        Producers::decode(&[2]).is_err(),
        "a later version is refused"
    );
    for cut in 0..bytes.len() {
        // Damage never panics; what decodes by chance is still well formed.
        let _ = Producers::decode(&bytes[..cut]);
    }
}

/// The whole history of one producer, and the rules in their plainest words.
#[derive(Default)]
struct Model {
    history: BTreeMap<i64, Vec<ProducerBatch>>,
}

impl Model {
    fn expect(&self, batch: &ProducerBatch) -> &'static str {
        let Some(history) = self.history.get(&batch.producer_id.0) else {
            return "new";
        };
        let current = history.last().expect("never empty").epoch;
        let recent: Vec<_> = history
            .iter()
            .rev()
            .take_while(|b| b.epoch == current)
            .take(5)
            .collect();
        if batch.epoch == current
            && recent.iter().any(|b| {
                b.base_sequence == batch.base_sequence && b.last_sequence == batch.last_sequence
            })
        {
            return "duplicate";
        }
        if batch.epoch < current {
            return "fenced";
        }
        let wanted = if batch.epoch > current {
            0
        } else {
            let last = i64::from(history.last().unwrap().last_sequence);
            ((last + 1) % (1 << 31)) as i32
        };
        if batch.base_sequence == wanted {
            "new"
        } else {
            "out of order"
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_the_model(
        steps in prop::collection::vec((0..3i64, 0..3i16, 0..6i32, 1..3i32, any::<bool>()), 1..400)
    ) {
        let mut producers = Producers::default();
        let mut model = Model::default();
        let mut offset = 0;
        for (id, epoch, back, count, follow) in steps {
            // Half of the steps follow on, so that windows fill.
            let (epoch, base) = match model.history.get(&id).and_then(|h| h.last()) {
                Some(last) if follow => (last.epoch.0, increment_sequence(last.last_sequence, 1)),
                Some(last) => (epoch, (last.last_sequence - back).max(0)),
                None => (epoch, i32::MAX - back),
            };
            let next = batch(id, epoch, base, count, offset);
            let expected = model.expect(&next);
            let got = match append(&mut producers, next) {
                Ok(Verdict::New) => "new",
                Ok(Verdict::Duplicate { base_offset, .. }) => {
                    let first = model.history[&id].iter().rev().find(|b| {
                        b.base_sequence == next.base_sequence
                            && b.last_sequence == next.last_sequence
                            && b.epoch == next.epoch
                    });
                    prop_assert_eq!(first.unwrap().base_offset, base_offset);
                    "duplicate"
                }
                Err(Error::InvalidProducerEpoch { .. }) => "fenced",
                Err(Error::OutOfOrderSequence { .. }) => "out of order",
                Err(other) => panic!("{other}"),
            };
            prop_assert_eq!(got, expected);
            if got == "new" {
                model.history.entry(id).or_default().push(next);
                offset += i64::from(count);
            }
            let again = Producers::decode(&producers.encode()).unwrap();
            prop_assert_eq!(&again, &producers);
        }
    }
}
