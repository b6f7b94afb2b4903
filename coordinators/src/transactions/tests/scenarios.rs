//! Ways of transactions, one by one.

use std::sync::Arc;

use protocol::{ErrorCode, ProducerId};

use super::super::*;
use super::rig::{ID, NOW_MS, Rig, brief, logged, results, settings};
use Decision::{Abort, Commit};
use TransactionState::{
    CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit,
};
use TransactionVersion::{Tv0, Tv1, Tv2};

fn append(effects: &[Effect]) -> AppendId {
    match effects {
        [Effect::Append { append, .. }] => *append,
        other => panic!("{other:?}"),
    }
}

fn producer(id: i64, epoch: i16) -> Producer {
    Producer::new(id, epoch)
}

#[test]
fn a_transaction_with_a_shared_epoch() {
    let mut rig = Rig::new(Tv2, None);
    let begun = rig.init(None);
    assert_eq!(
        rig.told(begun),
        Answer::InitProducerId(Ok(producer(100, 0)))
    );
    for index in 0..3 {
        let added = rig.add(3, producer(100, 0), index);
        assert_eq!(rig.told(added), Answer::AddPartitions(Ok(())));
    }
    assert_eq!(rig.now().start_ms, NOW_MS);
    let ended = rig.end(4, producer(100, 0), Commit);
    assert_eq!(rig.told(ended), Answer::EndTxn(Ok(producer(100, 0))));

    // Partitions 0 and 2 are led by one broker, 1 by another.
    let (batches, effects) = rig
        .machine
        .markers(NOW_MS, |partition| Leader::Node(partition.index % 2));
    assert_eq!(effects, []);
    let [even, odd] = &batches[..] else {
        panic!("{batches:?}")
    };
    let marker = |indexes: &[i32]| Marker {
        transactional_id: ID.into(),
        producer: producer(100, 0),
        decision: Commit,
        coordinator_epoch: 3,
        version: Tv0,
        partitions: indexes.iter().map(|it| Partition::new("t", *it)).collect(),
    };
    assert_eq!((even.node, odd.node), (0, 1));
    assert_eq!(even.markers, [marker(&[0, 2])]);
    assert_eq!(odd.markers, [marker(&[1])]);
    assert_eq!(rig.markers(), [], "each is under way once");
    assert_eq!(rig.machine.markers_due_ms(), None);

    let ok = results(odd, ErrorCode::None);
    let effects = rig.machine.markers_answered(NOW_MS, odd.batch, Some(&ok));
    assert_eq!(effects, [], "one broker has not answered");
    assert_eq!(rig.now().state, PrepareCommit);
    assert_eq!(rig.now().partitions.len(), 2);
    let ok = results(even, ErrorCode::None);
    let effects = rig.machine.markers_answered(NOW_MS, even.batch, Some(&ok));
    rig.carry_out(effects);
    assert_eq!(rig.now().state, CompleteCommit);
    assert_eq!(rig.now().partitions, [].into());

    // The next transaction has the same epoch; the answer is given again until then.
    let again = rig.end(4, producer(100, 0), Commit);
    assert_eq!(rig.told(again), Answer::EndTxn(Ok(producer(100, 0))));
    let added = rig.add(3, producer(100, 0), 0);
    assert_eq!(rig.told(added), Answer::AddPartitions(Ok(())));
    assert_eq!(rig.now().state, Ongoing);
}

#[test]
fn a_transaction_with_its_own_epoch() {
    let mut rig = Rig::new(Tv2, Some(&logged(Empty, Tv2)));
    let added = rig.add(5, producer(7, 5), 0);
    rig.told(added);
    let ended = rig.end(5, producer(7, 5), Commit);
    assert_eq!(rig.told(ended), Answer::EndTxn(Ok(producer(7, 6))));
    let [batch] = &rig.markers()[..] else {
        panic!("one broker")
    };
    assert_eq!(batch.markers[0].producer, producer(7, 6));
    assert_eq!(batch.markers[0].version, Tv2);
    let ok = results(batch, ErrorCode::None);
    let effects = rig.machine.markers_answered(NOW_MS, batch.batch, Some(&ok));
    rig.carry_out(effects);

    let again = rig.end(5, producer(7, 5), Commit);
    assert_eq!(rig.told(again), Answer::EndTxn(Ok(producer(7, 6))));
    let late = rig.end(5, producer(7, 5), Abort);
    assert_eq!(
        rig.told(late),
        Answer::EndTxn(Err(ErrorCode::InvalidTxnState))
    );
    let late = rig.add(5, producer(7, 5), 0);
    assert_eq!(brief(&late), "PRODUCER_FENCED");
    // An abort of what the coordinator has not heard of needs no marker.
    let ended = rig.end(5, producer(7, 6), Abort);
    assert_eq!(rig.told(ended), Answer::EndTxn(Ok(producer(7, 7))));
    assert_eq!(rig.now().state, CompleteAbort);
    assert_eq!(rig.markers(), []);
}

#[test]
fn a_newcomer_ends_what_is_open() {
    let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv0)));
    let busy = Answer::InitProducerId(Err(ErrorCode::ConcurrentTransactions));
    for _ in 0..2 {
        let begun = rig.init(None);
        assert_eq!(rig.told(begun), busy);
    }
    assert_eq!(rig.now().state, PrepareAbort);
    let old = rig.end(4, producer(7, 5), Commit);
    assert_eq!(brief(&old), "PRODUCER_FENCED");
    rig.finish();
    let begun = rig.init(None);
    assert_eq!(rig.told(begun), Answer::InitProducerId(Ok(producer(7, 7))));
}

#[test]
fn a_resumed_producer_is_answered_again() {
    let mut rig = Rig::new(Tv2, Some(&logged(Empty, Tv0)));
    for _ in 0..3 {
        let resumed = rig.init(Some(producer(7, 5)));
        let told = rig.told(resumed);
        assert_eq!(told, Answer::InitProducerId(Ok(producer(7, 6))));
    }
    // A newcomer fences it.
    let begun = rig.init(None);
    assert_eq!(rig.told(begun), Answer::InitProducerId(Ok(producer(7, 7))));
    for old in [5, 6] {
        let resumed = rig.init(Some(producer(7, old)));
        assert_eq!(brief(&resumed), "PRODUCER_FENCED");
    }
}

#[test]
fn nobody_is_handed_the_epoch_of_another() {
    // 7:5 went on as 7:6, which shares its epoch among transactions. A late EndTxn of 7:5 is
    // not about the one that ended.
    let mut rig = Rig::new(Tv2, Some(&logged(Empty, Tv2)));
    for resume in [Some(producer(7, 5)), None] {
        let begun = rig.init(resume);
        rig.carry_out(begun);
        let now = rig.now().producer;
        let added = rig.add(3, now, 0);
        rig.carry_out(added);
        let ended = rig.end(4, now, Commit);
        rig.carry_out(ended);
        rig.finish();
        assert_eq!(rig.now().state, CompleteCommit);
        let before = producer(7, now.epoch.0 - 1);
        let late = rig.end(5, before, Commit);
        assert_eq!(brief(&late), "PRODUCER_FENCED");
    }
}

#[test]
fn what_takes_too_long_is_aborted() {
    for (level, told) in [(Tv1, "PRODUCER_FENCED"), (Tv2, "ok 7:6")] {
        let mut open = logged(Ongoing, level);
        open.start_ms = NOW_MS;
        let mut rig = Rig::new(level, Some(&open));
        rig.now_ms = NOW_MS + 60_000;
        assert_eq!(rig.tick(), [], "its time is not over");
        rig.now_ms += 1;
        let late = rig.tick();
        rig.carry_out(late);
        assert_eq!(rig.now().state, PrepareAbort);
        assert_eq!(rig.now().producer, producer(7, 6));
        assert_eq!(rig.tick(), []);
        rig.finish();
        assert_eq!(rig.now().state, CompleteAbort);
        assert_eq!(rig.answers, [], "nobody asked");
        // Its producer hears of it, and never that it committed.
        let version = if level == Tv2 { 5 } else { 4 };
        let abort = rig.end(version, producer(7, 5), Abort);
        assert_eq!(brief(&abort), told);
        let commit = rig.end(version, producer(7, 5), Commit);
        assert!(!brief(&commit).starts_with("ok"), "{commit:?}");
    }

    let mut forever = logged(Ongoing, Tv2);
    forever.timeout_ms = i32::MAX;
    let mut rig = Rig::new(Tv2, Some(&forever));
    rig.now_ms = i64::MAX;
    assert_eq!(rig.tick(), []);
}

#[test]
fn one_tick_begins_so_many_and_the_next_goes_on() {
    let mut machine = Coordinator::new(settings(Tv2), 1);
    for at in 0..limits::MAX_PER_TICK + 5 {
        let key = RecordKey::encode(&format!("{at}"));
        let value = logged(Ongoing, Tv2).encode(Tv2);
        machine.load(Some(&key), Some(&value)).unwrap();
    }
    machine.open(NOW_MS);
    let mut ids = ProducerIds::new();
    let mut tick = || {
        let mut world = World {
            now_ms: NOW_MS + 100_000,
            ids: &mut ids,
        };
        machine.tick(&mut world).len()
    };
    assert_eq!([tick(), tick(), tick()], [limits::MAX_PER_TICK, 5, 0]);
}

#[test]
fn ids_that_nobody_uses_expire() {
    for state in [Empty, CompleteCommit, CompleteAbort] {
        let mut rig = Rig::new(Tv2, Some(&logged(state, Tv2)));
        rig.now_ms = NOW_MS + Settings::KAFKA.id_expiration_ms - 1;
        assert_eq!(rig.tick(), []);
        rig.now_ms += 1;
        let expired = rig.tick();
        rig.carry_out(expired);
        assert_eq!(rig.log, [None]);
        assert!(rig.machine.is_empty());
        // A new life under a new producer id.
        let begun = rig.init(Some(producer(7, 5)));
        let told = rig.told(begun);
        assert_eq!(told, Answer::InitProducerId(Ok(producer(100, 0))));
    }
}

#[test]
fn the_end_of_epochs_with_an_epoch_for_each() {
    let last = |state| Metadata {
        producer: producer(7, i16::MAX - 1),
        ..logged(state, Tv2)
    };
    // EndTxn gives out the next producer id, and the markers still have the old one.
    let mut rig = Rig::new(Tv2, Some(&last(Ongoing)));
    let ended = rig.end(5, producer(7, i16::MAX - 1), Commit);
    assert_eq!(rig.told(ended), Answer::EndTxn(Ok(producer(100, 0))));
    assert_eq!(rig.now().producer, producer(7, i16::MAX));
    let early = rig.add(5, producer(100, 0), 1);
    assert_eq!(brief(&early), "CONCURRENT_TRANSACTIONS");
    rig.finish();
    assert_eq!(rig.now().producer, producer(100, 0));
    let again = rig.end(5, producer(7, i16::MAX - 1), Commit);
    assert_eq!(brief(&again), "ok 100:0");
    let resumed = rig.init(Some(producer(7, i16::MAX - 1)));
    assert_eq!(brief(&resumed), "-> Empty 100:0");

    // So does an abort that nobody asked for; its producer may come back.
    let mut rig = Rig::new(Tv2, Some(&last(Ongoing)));
    rig.now_ms += 100_000;
    let late = rig.tick();
    rig.carry_out(late);
    rig.finish();
    assert_eq!(rig.now().producer, producer(100, 0));
    let abort = rig.end(5, producer(7, i16::MAX - 1), Abort);
    assert_eq!(brief(&abort), "ok 100:0");

    // And a new producer, whoever it is.
    for resume in [None, Some(producer(7, i16::MAX - 1))] {
        let mut rig = Rig::new(Tv2, Some(&last(Empty)));
        let begun = rig.init(resume);
        let told = rig.told(begun);
        assert_eq!(told, Answer::InitProducerId(Ok(producer(100, 0))));
        let again = rig.init(resume.or(Some(producer(7, i16::MAX - 1))));
        let expected = match resume {
            Some(_) => "-> Empty 100:0",
            None => "PRODUCER_FENCED",
        };
        assert_eq!(brief(&again), expected);
    }
}

#[test]
fn the_end_of_epochs_with_a_shared_epoch() {
    let mut open = logged(Ongoing, Tv0);
    open.producer = producer(7, i16::MAX - 1);
    let mut rig = Rig::new(Tv1, Some(&open));
    let begun = rig.init(None);
    rig.carry_out(begun);
    assert_eq!(rig.now().producer, producer(7, i16::MAX), "to fence");
    rig.finish();
    let begun = rig.init(None);
    let told = rig.told(begun);
    assert_eq!(told, Answer::InitProducerId(Ok(producer(100, 0))));
}

#[test]
fn a_transaction_at_the_very_last_epoch_ends_yet() {
    // Kafka 4.0 could leave one behind.
    let mut open = logged(Ongoing, Tv2);
    open.producer = producer(7, i16::MAX);
    let mut rig = Rig::new(Tv2, Some(&open));
    rig.now_ms += 100_000;
    let late = rig.tick();
    rig.carry_out(late);
    rig.finish();
    assert_eq!(rig.now().state, CompleteAbort);
    assert_eq!(rig.now().producer, producer(100, 0));
}

#[test]
fn without_producer_ids_it_is_later() {
    let mut last = logged(Ongoing, Tv2);
    last.producer = producer(7, i16::MAX - 1);
    let mut rig = Rig::new(Tv2, Some(&last));
    rig.ids = ProducerIds::new();
    rig.now_ms += 100_000;
    let later = "COORDINATOR_LOAD_IN_PROGRESS";
    assert_eq!(brief(&rig.init(None)), later);
    assert_eq!(brief(&rig.end(5, last.producer, Commit)), later);
    assert_eq!(rig.tick(), []);
    assert_eq!(rig.now(), last, "nothing was touched");
    let mut rig = Rig::new(Tv2, None);
    rig.ids = ProducerIds::new();
    assert_eq!(brief(&rig.init(None)), later);
    assert!(rig.machine.is_empty());
}

#[test]
fn what_the_log_refuses_has_not_happened() {
    let unavailable = Appended::Refused(Refusal::Unavailable);
    let large = Appended::Refused(Refusal::TooLarge);
    // A new id is forgotten again.
    let mut rig = Rig::new(Tv2, None);
    let begun = append(&rig.init(None));
    let effects = rig.machine.appended(NOW_MS, begun, unavailable);
    assert_eq!(brief(&effects), "COORDINATOR_NOT_AVAILABLE");
    assert!(rig.machine.is_empty());

    let open = logged(Ongoing, Tv2);
    let mut rig = Rig::new(Tv2, Some(&open));
    let ways: [fn(&mut Rig) -> Vec<Effect>; 3] = [
        |rig| rig.add(3, producer(7, 5), 9),
        |rig| rig.end(5, producer(7, 5), Commit),
        |rig| rig.init(None),
    ];
    for way in ways {
        for (outcome, told) in [
            (unavailable, "COORDINATOR_NOT_AVAILABLE"),
            (large, "UNKNOWN_SERVER_ERROR"),
        ] {
            let record = append(&way(&mut rig));
            let effects = rig.machine.appended(NOW_MS, record, outcome);
            assert_eq!(brief(&effects), told);
            assert_eq!(rig.now(), open);
        }
    }
    // A time-out is tried again by the next tick, at the same epoch.
    rig.now_ms += 100_000;
    for _ in 0..2 {
        let late = rig.tick();
        assert_eq!(brief(&late), "-> PrepareAbort 7:6");
        let effects = rig.machine.appended(rig.now_ms, append(&late), unavailable);
        assert_eq!(effects, []);
    }
}

#[test]
fn the_last_record_is_tried_until_it_is_written() {
    let mut rig = Rig::new(Tv2, Some(&logged(PrepareCommit, Tv0)));
    let [batch] = &rig.markers()[..] else {
        panic!("one broker")
    };
    let ok = results(batch, ErrorCode::None);
    let mut effects = rig.machine.markers_answered(NOW_MS, batch.batch, Some(&ok));
    for _ in 0..9 {
        assert_eq!(brief(&effects), "-> CompleteCommit 7:5");
        let refused = Appended::Refused(Refusal::Unavailable);
        rig.machine.appended(rig.now_ms, append(&effects), refused);
        let due_ms = rig.machine.markers_due_ms().unwrap();
        assert!((100..=limits::MAX_RETRY_MS).contains(&(due_ms - rig.now_ms)));
        rig.now_ms = due_ms - 1;
        assert_eq!(rig.machine.markers(rig.now_ms, |_| Leader::Node(1)).1, []);
        rig.now_ms = due_ms;
        (_, effects) = rig.machine.markers(due_ms, |_| Leader::Node(1));
    }
    rig.carry_out(effects);
    assert_eq!(rig.now().state, CompleteCommit);
    assert_eq!(rig.machine.markers_due_ms(), None);
}

#[test]
fn a_lost_record_ends_the_machine() {
    let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv2)));
    let record = append(&rig.end(5, producer(7, 5), Commit));
    let effects = rig.machine.appended(NOW_MS, record, Appended::Lost);
    assert_eq!(brief(&effects[..1]), "NOT_COORDINATOR");
    assert_eq!(effects[1..], [Effect::Resigned]);
    // What is heard later means nothing.
    let late = rig.machine.appended(NOW_MS, record, Appended::Written);
    assert_eq!(late, []);
    assert_eq!(rig.machine.resign(), []);
    assert_eq!(rig.tick(), []);
    assert_eq!(rig.markers(), []);
}

#[test]
fn markers_are_tried_until_each_partition_has_its_own() {
    let mut decided = logged(PrepareAbort, Tv2);
    decided.partitions = (0..4).map(|index| Partition::new("t", index)).collect();
    let mut rig = Rig::new(Tv2, Some(&decided));
    // Nobody leads 2 at the moment, and 3 is deleted.
    let (batches, effects) = rig
        .machine
        .markers(NOW_MS, |partition| match partition.index {
            2 => Leader::Unknown,
            3 => Leader::Deleted,
            _ => Leader::Node(1),
        });
    assert_eq!(effects, []);
    assert_eq!(batches[0].markers[0].partitions.len(), 2);
    // 0 moved; the answer says nothing of 1.
    let key = (ProducerId(7), Partition::new("t", 0));
    let moved = [(key, ErrorCode::NotLeaderOrFollower)].into();
    let batch = batches[0].batch;
    let effects = rig.machine.markers_answered(NOW_MS, batch, Some(&moved));
    assert_eq!(effects, [Effect::MarkersDue]);
    assert_eq!(rig.markers(), [], "not at once");
    rig.now_ms = rig.machine.markers_due_ms().unwrap();
    let batches = rig.markers();
    assert_eq!(batches[0].markers[0].partitions.len(), 3);
    // The broker died.
    let batch = batches[0].batch;
    rig.machine.markers_answered(rig.now_ms, batch, None);
    rig.now_ms = rig.machine.markers_due_ms().unwrap();
    let batches = rig.markers();
    // A later epoch, or a log that cannot have the transaction: done.
    let mut results = results(&batches[0], ErrorCode::None);
    let key = (ProducerId(7), Partition::new("t", 1));
    results.insert(key, ErrorCode::InvalidProducerEpoch);
    let batch = batches[0].batch;
    let effects = rig
        .machine
        .markers_answered(rig.now_ms, batch, Some(&results));
    rig.carry_out(effects);
    assert_eq!(rig.now().state, CompleteAbort);
}

#[test]
fn a_transaction_whose_topic_is_deleted_ends() {
    let mut rig = Rig::new(Tv2, Some(&logged(PrepareCommit, Tv2)));
    let (batches, effects) = rig
        .machine
        .markers(NOW_MS, |_| -> Leader<i32> { Leader::Deleted });
    assert_eq!(batches, []);
    rig.carry_out(effects);
    assert_eq!(rig.now().state, CompleteCommit);
}

#[test]
fn a_coordinator_that_was_superseded_resigns() {
    let mut rig = Rig::new(Tv2, Some(&logged(PrepareCommit, Tv2)));
    let batch = &rig.markers()[0];
    let fenced = results(batch, ErrorCode::TransactionCoordinatorFenced);
    let effects = rig
        .machine
        .markers_answered(NOW_MS, batch.batch, Some(&fenced));
    assert_eq!(effects, [Effect::Resigned]);
    assert_eq!(brief(&rig.init(None)), "NOT_COORDINATOR");
}

#[test]
fn a_batch_has_so_many_markers() {
    let mut machine = Coordinator::new(settings(Tv2), 1);
    for at in 0..=limits::MAX_MARKERS_PER_BATCH {
        let key = RecordKey::encode(&format!("{at}"));
        let value = logged(PrepareCommit, Tv2).encode(Tv2);
        machine.load(Some(&key), Some(&value)).unwrap();
    }
    machine.open(NOW_MS);
    let (batches, _) = machine.markers(NOW_MS, |_| Leader::Node(1));
    let sizes: Vec<_> = batches.iter().map(|batch| batch.markers.len()).collect();
    assert_eq!(sizes, [limits::MAX_MARKERS_PER_BATCH, 1]);
}

#[test]
fn what_was_decided_is_completed_after_opening() {
    for (state, decision, end) in [
        (PrepareCommit, Commit, CompleteCommit),
        (PrepareAbort, Abort, CompleteAbort),
    ] {
        let mut rig = Rig::loading(Tv2, Some(&logged(state, Tv2)));
        assert_eq!(rig.machine.open(NOW_MS), [Effect::MarkersDue]);
        let batches = rig.markers();
        let marker = &batches[0].markers[0];
        assert_eq!((marker.decision, marker.coordinator_epoch), (decision, 3));
        let ok = results(&batches[0], ErrorCode::None);
        let batch = batches[0].batch;
        let effects = rig.machine.markers_answered(NOW_MS, batch, Some(&ok));
        rig.carry_out(effects);
        assert_eq!(rig.now().state, end);
        // The answer that its client did not hear is given by the successor.
        let version = 5;
        let again = rig.end(version, producer(7, 4), decision);
        assert_eq!(brief(&again), "ok 7:5");
    }
    // One without partitions needs no marker.
    let mut decided = logged(PrepareAbort, Tv2);
    decided.partitions.clear();
    let mut rig = Rig::loading(Tv2, Some(&decided));
    let effects = rig.machine.open(NOW_MS);
    assert_eq!(brief(&effects), "-> CompleteAbort 7:5");
}

#[test]
fn records_that_are_passed_over_and_records_that_are_not() {
    let mut machine = Coordinator::new(settings(Tv2), 1);
    let key = RecordKey::encode(ID);
    let value = logged(Empty, Tv2).encode(Tv2);
    machine.load(Some(&key), Some(&value)).unwrap();
    machine.load(Some(&[0, 9]), Some(b"later")).unwrap();
    assert_eq!(machine.len(), 1);
    assert!(machine.load(Some(&key), Some(&value[..9])).is_err());
    assert!(machine.load(Some(&key[..3]), Some(&value)).is_err());
    assert!(machine.load(None, Some(&value)).is_err());
    machine.load(Some(&key), None).unwrap();
    assert!(machine.is_empty());
}

#[test]
fn delayed_requests_of_old_clients_are_refused() {
    let now = producer(7, 5);
    let busy = "CONCURRENT_TRANSACTIONS";
    let mut rig = Rig::new(Tv2, Some(&logged(Empty, Tv0)));
    let begun = rig.add_on(Some(1), 3, now, 0);
    rig.carry_out(begun);
    // An EndTxn on connection 1 is under way for a long time; it is sent again on 2, and done.
    let ended = rig.end_on(Some(2), 4, now, Commit);
    rig.carry_out(ended);
    rig.finish();
    // A late AddPartitionsToTxn would begin a transaction that nobody ends.
    assert_eq!(brief(&rig.add_on(Some(1), 3, now, 0)), busy);
    let begun = rig.add_on(Some(2), 3, now, 1);
    rig.carry_out(begun);
    // Now it arrives, in the next transaction.
    assert_eq!(brief(&rig.end_on(Some(1), 4, now, Commit)), busy);
    assert_eq!(rig.now().state, Ongoing);
    let ended = rig.end_on(Some(2), 4, now, Abort);
    assert_eq!(brief(&ended), "-> PrepareAbort 7:5");
    rig.carry_out(ended);
    rig.finish();

    // A connection that is not known is not judged, nor are epochs that tell by themselves.
    let begun = rig.add_on(None, 3, now, 0);
    assert_eq!(brief(&begun), "-> Ongoing 7:5");
    rig.carry_out(begun);
    let ended = rig.end_on(Some(1), 5, now, Commit);
    assert_eq!(brief(&ended), "-> PrepareCommit 7:6");

    // Turned off, it is as in Kafka.
    let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv0)));
    rig.machine.reconfigure(Settings {
        bind_connections: false,
        ..settings(Tv2)
    });
    let begun = rig.add_on(Some(2), 3, now, 1);
    rig.carry_out(begun);
    let ended = rig.end_on(Some(1), 4, now, Commit);
    assert_eq!(brief(&ended), "-> PrepareCommit 7:5");
}

#[test]
fn a_transaction_has_so_many_partitions() {
    let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv0)));
    let mut add = |partitions: std::ops::Range<i32>, topic: &str| {
        let partitions = partitions.map(|at| Partition::new(topic, at)).collect();
        let add = AddPartitions {
            transactional_id: ID,
            producer: producer(7, 5),
            partitions: &partitions,
            client: Tv0,
            connection: None,
        };
        brief(&rig.machine.add_partitions(NOW_MS, RequestId(1), add))
    };
    let most = limits::MAX_PARTITIONS as i32;
    assert_eq!(add(0..most + 1, "t"), "UNKNOWN_SERVER_ERROR");
    assert_eq!(add(0..1, &"t".repeat(250)), "INVALID_REQUEST");
    assert_eq!(add(0..most, "t"), "-> Ongoing 7:5");
}

#[test]
fn offsets_are_added_as_their_partition() {
    let offsets = Partition::of_offsets("group", 50);
    assert_eq!(&*offsets.topic, "__consumer_offsets");
    assert_eq!(offsets.index, partition_for("group", 50));
}

#[test]
fn lists_are_filtered() {
    let mut machine = Coordinator::new(settings(Tv2), 1);
    for (id, state, producer_id, age_ms) in [
        ("a-1", Ongoing, 1, 5_000),
        ("a-2", CompleteCommit, 2, 9_000),
        ("b-1", PrepareAbort, 3, 1_000),
    ] {
        let mut it = logged(state, Tv2);
        it.producer = producer(producer_id, 5);
        it.start_ms = NOW_MS - age_ms;
        let value = it.encode(Tv2);
        machine
            .load(Some(&RecordKey::encode(id)), Some(&value))
            .unwrap();
    }
    let all = ListFilter::new([], [], -1);
    let loading = machine.list(NOW_MS, &all, |_| true);
    assert_eq!(loading, Err(ErrorCode::CoordinatorLoadInProgress));
    machine.open(NOW_MS);
    let list = |filter: &ListFilter, pattern: &str| {
        let listed = machine.list(NOW_MS, filter, |id| id.starts_with(pattern));
        let ids = listed.unwrap().into_iter().map(|it| it.transactional_id);
        ids.collect::<Vec<Arc<str>>>().join(" ")
    };
    assert_eq!(list(&all, ""), "a-1 a-2 b-1");
    assert_eq!(list(&all, "a"), "a-1 a-2");
    let states = ListFilter::new(["Ongoing", "PrepareAbort", "Gone"], [], -1);
    assert_eq!(states.unknown_states, ["Gone"]);
    assert_eq!(list(&states, ""), "a-1 b-1");
    assert_eq!(list(&ListFilter::new(["Gone"], [], -1), ""), "");
    let ids = [ProducerId(2), ProducerId(3)];
    assert_eq!(list(&ListFilter::new([], ids, -1), ""), "a-2 b-1");
    assert_eq!(list(&ListFilter::new([], [], 5_000), ""), "a-2");
    assert_eq!(list(&ListFilter::new([], [], 4_999), ""), "a-1 a-2");
    assert_eq!(list(&ListFilter::new(["Ongoing"], ids, -1), ""), "");
}
