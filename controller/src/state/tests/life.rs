//! Brokers and logs from registration to close: R1, R12, R13.

use super::*;
use crate::command::{ClaimedPartition, HighWatermark};

fn leaders(world: &World) -> Vec<Option<BrokerEpoch>> {
    world
        .state
        .topics
        .get(TOPIC)
        .unwrap()
        .partitions
        .iter()
        .map(|p| p.leader)
        .collect()
}

#[test]
fn a_restart_takes_the_path_of_a_takeover() {
    let mut world = World::default();
    let first = world.register(0);
    let wal = world.open_wal(first, WalBackend::Disk);
    world.create(2);
    assert_eq!(leaders(&world), [Some(first); 2]);
    assert_eq!(world.partition(0).leader_epoch, LeaderEpoch(0));
    world
        .commit(round(first, wal, (0, 3), vec![slice(1, 0, (0, 8), "a")]))
        .unwrap();

    let second = world.register(0);
    assert!(second > first);
    assert_eq!(leaders(&world), [None; 2], "R13: they wait for the log");
    assert_eq!(world.partition(0).awaits, Some(wal));
    let next = world.open_wal(second, WalBackend::Disk);
    assert_eq!(
        leaders(&world),
        [None; 2],
        "an open log of the new epoch changes nothing"
    );

    let claimed = world.claim(wal, second);
    assert_eq!((claimed.claim, claimed.trim), (Claim(1), 3));
    let expected =
        [(tp(0), 0), (tp(1), 8)].map(|(topic_partition, committed_end)| ClaimedPartition {
            topic_partition,
            leader_epoch: LeaderEpoch(0),
            committed_end,
        });
    assert_eq!(claimed.partitions, expected);
    let tail = vec![slice(0, 0, (0, 5), "b"), slice(1, 0, (8, 9), "b")];
    let recovered = CommitUpload {
        claim: Some(Claim(1)),
        ..round(second, wal, (3, 6), tail)
    };
    assert_eq!(
        world.commit(recovered),
        Ok(vec![SliceOutcome::Committed; 2])
    );
    assert_eq!(
        world.refused(close(wal, Some(Claim(1)), second, 7)),
        ErrorKind::Retry
    );
    assert_eq!(leaders(&world), [None; 2]);
    world.done(close(wal, Some(Claim(1)), second, 6));
    assert_eq!(leaders(&world), [Some(second); 2]);
    assert_eq!(world.partition(0).leader_epoch, LeaderEpoch(1));
    assert_eq!(
        world.done(close(wal, Some(Claim(1)), second, 6)),
        Response::Done,
        "again"
    );
    world
        .commit(round(second, next, (0, 1), vec![slice(0, 1, (5, 6), "c")]))
        .unwrap();
    assert_eq!(
        world.partition(0).epochs,
        [(LeaderEpoch(0), 0), (LeaderEpoch(1), 5)]
    );
    assert!(
        !world.state.brokers.contains_key(&first),
        "nothing can come of it any more"
    );
}

#[test]
fn claim_n_supersedes_n_minus_1() {
    let mut world = World::default();
    let (dead, wal) = world.broker(0);
    world.create(1);
    let (heir, _) = world.broker(1);
    let (other, _) = world.broker(2);
    assert_eq!(
        world.refused(Command::ClaimWal { wal, heir }),
        ErrorKind::Retry,
        "it is active"
    );
    world.done(Command::FenceBroker { broker: dead });
    assert_eq!(world.claim(wal, heir).claim, Claim(1));
    let steal = Command::ClaimWal { wal, heir: other };
    assert_eq!(
        world.refused(steal.clone()),
        ErrorKind::Retry,
        "its heir lives"
    );
    assert_eq!(
        world.claim(wal, heir).claim,
        Claim(2),
        "the heir itself may begin anew"
    );
    world.done(Command::FenceBroker { broker: heir });
    assert_eq!(world.claim(wal, other).claim, Claim(3));
    for (claim, broker) in [(1, heir), (2, heir), (2, other), (3, heir)] {
        let stale = CommitUpload {
            claim: Some(Claim(claim)),
            ..round(broker, wal, (0, 1), vec![])
        };
        assert_eq!(world.commit(stale).unwrap_err().kind(), ErrorKind::Fenced);
        let stale = close(wal, Some(Claim(claim)), broker, 0);
        assert_eq!(world.refused(stale), ErrorKind::Fenced);
    }
    world.done(close(wal, Some(Claim(3)), other, 0));
    assert_eq!(leaders(&world), [Some(other)]);
    let closed = Command::ClaimWal { wal, heir: other };
    assert_eq!(world.refused(closed), ErrorKind::Fenced);
}

#[test]
fn a_disk_log_is_recovered_by_its_own_node_only() {
    let mut world = World::default();
    let dead = world.register(0);
    let wal = world.open_wal(dead, WalBackend::Disk);
    world.create(1);
    let (other, _) = world.broker(1);
    world.done(Command::FenceBroker { broker: dead });
    assert_eq!(
        world.refused(Command::ClaimWal { wal, heir: other }),
        ErrorKind::Invalid
    );
    assert_eq!(
        leaders(&world),
        [None],
        "its partitions stay offline meanwhile"
    );
    let back = world.register(0);
    assert_eq!(world.claim(wal, back).backend, WalBackend::Disk);
}

#[test]
fn an_epoch_has_one_log() {
    let mut world = World::default();
    let broker = world.register(0);
    let wal = world.open_wal(broker, WalBackend::Object);
    let backend = WalBackend::Object;
    assert_eq!(
        world.done(Command::OpenWal {
            broker,
            wal,
            backend
        }),
        Response::Done,
        "again"
    );
    let second = Command::OpenWal {
        broker,
        wal: wal_id(1),
        backend,
    };
    assert_eq!(world.refused(second), ErrorKind::Fenced);
    world.done(close(wal, None, broker, 0));
    let again = Command::OpenWal {
        broker,
        wal,
        backend,
    };
    assert_eq!(
        world.refused(again),
        ErrorKind::Fenced,
        "R1: not even after it is closed"
    );
}

#[test]
fn a_clean_goodbye_leaves_nothing_to_recover() {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.create(1);
    world
        .commit(round(broker, wal, (0, 2), vec![slice(0, 0, (0, 5), "a")]))
        .unwrap();
    assert_eq!(world.refused(close(wal, None, broker, 3)), ErrorKind::Retry);
    world.done(close(wal, None, broker, 2));
    assert_eq!(leaders(&world), [None]);
    world.done(Command::Goodbye { broker });
    assert_eq!(
        world.done(Command::Goodbye { broker }),
        Response::Done,
        "again"
    );
    let (next, _) = world.broker(0);
    assert_eq!(leaders(&world), [Some(next)], "at once");
    let never = Command::FenceBroker {
        broker: BrokerEpoch(99),
    };
    assert_eq!(world.refused(never), ErrorKind::Invalid);
}

#[test]
fn an_abandoned_log_skips_what_it_may_have_acknowledged() {
    let mut world = World::default();
    let broker = world.register(0);
    let wal = world.open_wal(broker, WalBackend::Memory);
    world.create(2);
    world
        .commit(round(broker, wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]))
        .unwrap();
    let mark = |partition, leader_epoch, offset| HighWatermark {
        topic_partition: tp(partition),
        leader_epoch: LeaderEpoch(leader_epoch),
        offset,
    };
    let marks = vec![mark(0, 0, 500), mark(1, 7, 900), mark(9, 0, 1)];
    world.done(Command::ReportHighWatermarks { broker, marks });
    let abandon = Command::AbandonWal {
        wal,
        reason: "a test".to_owned(),
    };
    assert_eq!(
        world.refused(abandon.clone()),
        ErrorKind::Retry,
        "it is active"
    );
    let next = world.register(0);
    assert_eq!(
        world.refused(Command::ClaimWal { wal, heir: next }),
        ErrorKind::Invalid
    );
    world.done(abandon.clone());
    assert_eq!(world.done(abandon), Response::Done, "again");
    assert_eq!(world.partition(0).committed_end, 1_000_500);
    assert_eq!(world.partition(0).gaps, [(10, 1_000_500)]);
    assert_eq!(
        world.partition(1).committed_end,
        1_000_000,
        "a stale mark counts for nothing"
    );
    let wal = world.open_wal(next, WalBackend::Memory);
    assert_eq!(leaders(&world), [Some(next); 2]);
    let on = slice(0, 1, (1_000_500, 1_000_501), "b");
    world.commit(round(next, wal, (0, 1), vec![on])).unwrap();
    world.done(super::commit::set_log_start(
        (next, tp(0), LeaderEpoch(1)),
        1_000_500,
    ));
    assert_eq!(world.partition(0).gaps, []);
}

#[test]
fn a_damaged_log_is_set_aside_until_it_is_put_back() {
    let mut world = World::default();
    let (dead, wal) = world.broker(0);
    world.create(1);
    let (heir, _) = world.broker(1);
    world.done(Command::FenceBroker { broker: dead });
    let claim = world.claim(wal, heir).claim;
    let reason = "group 7".to_owned();
    let report = |claim| Command::ReportWalCorrupt {
        wal,
        claim,
        heir,
        reason: reason.clone(),
    };
    assert_eq!(world.refused(report(Claim(9))), ErrorKind::Fenced);
    world.done(report(claim));
    assert_eq!(
        world.refused(Command::ClaimWal { wal, heir }),
        ErrorKind::Invalid
    );
    assert_eq!(leaders(&world), [None]);
    world.done(Command::UnquarantineWal { wal });
    assert_eq!(world.claim(wal, heir).claim, Claim(2));
}

fn at_level_2() -> World {
    let mut world = World::default();
    world.done(Command::FinalizeFeature {
        name: crate::level::VERSION_FEATURE.to_owned(),
        level: 2,
    });
    world
}

#[test]
fn the_first_home_that_is_recorded_stands() {
    let mut world = at_level_2();
    let [first, second] = [1, 2].map(Uuid::from_u128);
    world.done(Command::RecordHome { mark: first });
    world.done(Command::RecordHome { mark: second });
    assert_eq!(world.state.home, Some(first));
    let read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read.home, Some(first));
}

#[test]
fn an_heir_that_gives_a_log_up_lets_another_one_claim_it() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    let (first, _) = world.broker(1);
    let (second, _) = world.broker(2);
    world.done(Command::FenceBroker { broker: dead });
    let claim = world.claim(wal, first).claim;
    let yielded = |claim, heir| Command::YieldWal { wal, claim, heir };
    assert_eq!(world.refused(yielded(claim, second)), ErrorKind::Fenced);
    world.done(yielded(claim, first));
    assert_eq!(world.state.wals[&wal].yields, 1);
    assert_eq!(world.claim(wal, second).claim, Claim(2));
    // The first one's claim is over.
    let late = close(wal, Some(claim), first, 0);
    assert_eq!(world.refused(late), ErrorKind::Fenced);
    assert_eq!(world.refused(yielded(claim, first)), ErrorKind::Fenced);
}

#[test]
fn a_log_that_ends_before_what_was_reported_durable_is_not_closed() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    world.create(1);
    let (heir, _) = world.broker(1);
    let mark = HighWatermark {
        topic_partition: tp(0),
        leader_epoch: LeaderEpoch(0),
        offset: 5,
    };
    world.done(Command::ReportHighWatermarks {
        broker: dead,
        marks: vec![mark],
    });
    world.done(Command::FenceBroker { broker: dead });
    let claim = world.claim(wal, heir).claim;
    // As from an heir that looks into an empty store.
    let empty = close(wal, Some(claim), heir, 0);
    assert_eq!(world.refused(empty), ErrorKind::Corrupt);
    let mut tail = round(heir, wal, (0, 3), vec![slice(0, 0, (0, 5), "a")]);
    tail.claim = Some(claim);
    world.commit(tail).unwrap();
    world.done(close(wal, Some(claim), heir, 3));
    assert_eq!(leaders(&world), [Some(heir)]);
}

#[test]
fn a_release_needs_everything_committed_and_names_the_next() {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.create(1);
    let (other, _) = world.broker(1);
    world
        .commit(round(broker, wal, (0, 1), vec![slice(0, 0, (0, 5), "a")]))
        .unwrap();
    let release = |end, to| Command::Release {
        broker,
        topic_partition: tp(0),
        leader_epoch: LeaderEpoch(0),
        end,
        to,
    };
    assert_eq!(world.refused(release(6, None)), ErrorKind::Retry);
    assert_eq!(world.refused(release(5, Some(NodeId(7)))), ErrorKind::Retry);
    let answer = Response::Released {
        leader_epoch: LeaderEpoch(1),
        broker: Some(other),
    };
    assert_eq!(world.done(release(5, Some(NodeId(1)))), answer);
    assert_eq!(world.refused(release(5, None)), ErrorKind::Fenced);
}

#[test]
fn the_same_process_keeps_its_epoch_and_another_one_fences_it() {
    let mut world = World::default();
    let register = |incarnation| {
        Command::RegisterBroker(RegisterBroker {
            node: NodeId(4),
            incarnation: Uuid::from_u128(incarnation),
            listeners: Vec::new(),
            rack: Some("r".to_owned()),
            directory: Uuid::nil(),
            lived: None,
        })
    };
    let first = world.done(register(1));
    assert_eq!(world.done(register(1)), first);
    assert_ne!(world.done(register(2)), first);
    assert_eq!(
        world.state.brokers.len(),
        1,
        "the first had no log to recover"
    );
}

#[test]
fn a_command_is_done_once_and_a_refused_one_is_judged_anew() {
    let mut world = World::default();
    let broker = world.register(0);
    let allocate = Command::AllocateProducerIds {
        broker,
        count: 1000,
    };
    let id = world.fresh_id();
    let first = world.apply_as(id, allocate.clone());
    assert_eq!(
        first,
        Ok(Response::ProducerIds {
            first: 0,
            count: 1000
        })
    );
    assert_eq!(world.apply_as(id, allocate.clone()), first);
    assert_eq!(
        world.done(allocate),
        Response::ProducerIds {
            first: 1000,
            count: 1000
        }
    );
    for count in [0, 1001] {
        let wrong = Command::AllocateProducerIds { broker, count };
        assert_eq!(world.refused(wrong), ErrorKind::Invalid);
    }
    let id = world.fresh_id();
    let create = create("late", TopicId(Uuid::from_u128(5)), 1);
    let grow = Command::CreatePartitions {
        topic: TopicId(Uuid::from_u128(5)),
        count: 2,
        assignments: vec![],
    };
    assert!(world.apply_as(id, grow.clone()).is_err());
    world.done(create);
    assert!(world.apply_as(id, grow).is_ok());
}

#[test]
fn remembered_answers_are_bounded() {
    let mut recent = Recent::default();
    for index in 1..=40_000u64 {
        let id = CommandId(Uuid::from_u128(index.into()));
        recent.remember(index, id, &Response::LogStart { offset: 1 });
    }
    assert_eq!(recent.iter().count(), crate::limits::MAX_RECENT_COMMANDS);
    assert!(recent.answer(CommandId(Uuid::from_u128(1))).is_none());
    assert!(recent.answer(CommandId(Uuid::from_u128(40_000))).is_some());
    let id = CommandId(Uuid::from_u128(1 << 80));
    recent.remember(200_000, id, &Response::Done);
    assert_eq!(recent.iter().count(), 1, "the others are too old");
    for index in 200_001..200_012 {
        let id = CommandId(Uuid::from_u128(u128::from(index)));
        let large = Response::Committed(vec![SliceOutcome::Committed; 1024 * 1024]);
        recent.remember(index, id, &large);
    }
    assert!(recent.iter().count() < 5, "bounded by bytes");
}

#[test]
fn closed_logs_are_forgotten_in_the_end() {
    let mut world = World::default();
    let mut first = None;
    for _ in 0..crate::limits::MAX_CLOSED_WALS + 3 {
        let broker = world.register(0);
        let wal = world.open_wal(broker, WalBackend::Disk);
        first = first.or(Some(wal));
        world.done(close(wal, None, broker, 0));
    }
    assert!(world.state.wals.len() <= crate::limits::MAX_CLOSED_WALS + 1);
    let heir = world.register(0);
    let claim = Command::ClaimWal {
        wal: first.unwrap(),
        heir,
    };
    assert_eq!(world.refused(claim), ErrorKind::Fenced);
}

#[test]
fn a_closed_log_is_unswept_until_that_is_recorded_and_is_not_forgotten_before() {
    let mut world = World {
        now_ms: 77,
        ..World::default()
    };
    let unswept = |world: &World| {
        let image = crate::image::Image::new(&world.state);
        image.unswept.keys().copied().collect::<Vec<_>>()
    };
    let (broker, wal) = world.broker(0);
    let swept = Command::RecordSwept { wal };
    assert_eq!(world.refused(swept.clone()), ErrorKind::Retry, "it is open");
    assert_eq!(unswept(&world), []);
    world.done(close(wal, None, broker, 0));
    let image = crate::image::Image::new(&world.state);
    assert_eq!(image.unswept[&wal].closed_ms, 77);
    assert_eq!(image.unswept[&wal].end, 0);
    for _ in 0..crate::limits::MAX_CLOSED_WALS + 3 {
        let broker = world.register(0);
        let disk = world.open_wal(broker, WalBackend::Disk);
        world.done(close(disk, None, broker, 0));
    }
    assert_eq!(unswept(&world), [wal], "files on disks are no objects");
    let bytes = world.state.encode();
    assert_eq!(State::decode(&bytes).unwrap(), world.state);
    world.done(swept.clone());
    assert_eq!(unswept(&world), []);
    assert!(
        !world.state.wals.contains_key(&wal),
        "it is as old as those that were forgotten"
    );
    assert_eq!(world.done(swept), Response::Done);
}

#[test]
fn a_log_that_was_given_up_is_not_swept() {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.done(Command::FenceBroker { broker });
    let reason = String::new();
    world.done(Command::AbandonWal { wal, reason });
    let image = crate::image::Image::new(&world.state);
    assert!(image.unswept.is_empty());
}
