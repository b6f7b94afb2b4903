//! `CommitUpload`: R4 and R6.

use super::*;
use SliceOutcome::{Committed, Dropped};

/// One broker that leads three partitions.
fn world() -> (World, BrokerEpoch, WalId) {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.create(3);
    (world, broker, wal)
}

#[test]
fn a_round_moves_the_trim_point_and_the_ends() {
    let (mut world, broker, wal) = world();
    let slices = vec![
        slice(0, 0, (0, 10), "a"),
        slice(1, 0, (0, 4), "a"),
        slice(0, 0, (10, 12), "b"),
    ];
    assert_eq!(
        world.commit(round(broker, wal, (0, 7), slices)),
        Ok(vec![Committed; 3])
    );
    assert_eq!(world.trim(wal), 7);
    assert_eq!(world.partition(0).committed_end, 12);
    assert_eq!(world.partition(0).epochs, [(LeaderEpoch(0), 0)]);
    assert_eq!(world.partition(1).committed_end, 4);
    let view = world.state.partition_state(tp(0)).unwrap();
    let keys: Vec<_> = view
        .slices
        .iter()
        .map(|slice| slice.object.key.as_str())
        .collect();
    assert_eq!(keys, ["a", "b"]);
}

#[test]
fn the_same_round_again_is_answered_as_before_however_late() {
    let (mut world, broker, wal) = world();
    let id = world.fresh_id();
    let first = Command::CommitUpload(round(broker, wal, (0, 7), vec![slice(0, 0, (0, 10), "a")]));
    let answer = world.apply_as(id, first.clone());
    // As if a hundred thousand commands had passed since.
    world.state.recent = Recent::default();
    assert_eq!(world.apply_as(id, first.clone()), answer);
    assert_eq!(world.trim(wal), 7);
    assert_eq!(
        world.refused(first),
        ErrorKind::Retry,
        "another command, so a conflict"
    );
}

/// Its owner must not take the answer for a leave to delete the object.
#[test]
fn an_early_round_that_is_forgotten_is_dropped_again_and_its_object_stays_named() {
    let (mut world, broker, wal) = world();
    let id = world.fresh_id();
    let early = Command::CommitUpload(round(broker, wal, (0, 0), vec![slice(0, 0, (0, 10), "a")]));
    let answer = Ok(Response::Committed(vec![Committed]));
    assert_eq!(world.apply_as(id, early.clone()), answer);
    assert_eq!(world.apply_as(id, early.clone()), answer);
    world.state.recent = Recent::default();
    let judged_anew = world.apply_as(id, early);
    assert_eq!(judged_anew, Ok(Response::Committed(vec![Dropped])));
    assert!(world.state.objects.names("a"));
    assert!(world.condemned().is_empty());
    assert_eq!(world.partition(0).committed_end, 10);
    assert_eq!(world.trim(wal), 0);
}

#[test]
fn rounds_commit_one_after_the_other() {
    let (mut world, broker, wal) = world();
    for groups in [(3, 5), (1, 2)] {
        let out_of_order = round(broker, wal, groups, vec![slice(0, 0, (0, 10), "a")]);
        assert_eq!(
            world.commit(out_of_order).unwrap_err().kind(),
            ErrorKind::Retry
        );
    }
    assert_eq!(world.trim(wal), 0);
    assert_eq!(world.commit(round(broker, wal, (0, 3), vec![])), Ok(vec![]));
    let next = round(broker, wal, (3, 5), vec![slice(0, 0, (0, 10), "a")]);
    assert_eq!(world.commit(next), Ok(vec![Committed]));
}

#[test]
fn a_gap_or_a_straddle_refuses_the_whole_round() {
    let (mut world, broker, wal) = world();
    world
        .commit(round(broker, wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]))
        .unwrap();
    for offsets in [(11, 20), (5, 20), (0, 20)] {
        let slices = vec![slice(1, 0, (0, 5), "b"), slice(0, 0, offsets, "b")];
        let refusal = world
            .commit(round(broker, wal, (1, 2), slices))
            .unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Retry, "{refusal}");
        assert_eq!(world.trim(wal), 1);
        assert_eq!(world.partition(1).committed_end, 0);
    }
    // One object of a round missing shows as a gap too.
    let slices = vec![slice(0, 0, (10, 12), "c"), slice(0, 0, (14, 16), "e")];
    assert!(world.commit(round(broker, wal, (1, 2), slices)).is_err());
    assert!(!world.state.objects.knows("c"));
}

#[test]
fn only_what_r6_names_is_dropped_and_the_rest_stands() {
    let (mut world, broker, wal) = world();
    world
        .commit(round(broker, wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]))
        .unwrap();
    // Partition 1 is released at epoch 0 and comes back at epoch 1.
    let release = Command::Release {
        broker,
        topic_partition: tp(1),
        leader_epoch: LeaderEpoch(0),
        end: 0,
        to: None,
    };
    let released = Response::Released {
        leader_epoch: LeaderEpoch(1),
        broker: Some(broker),
    };
    assert_eq!(world.done(release), released);
    let gone = TopicPartition::new(TopicId(Uuid::from_u128(9)), 0);
    let slices = vec![
        slice(0, 0, (4, 10), "b"),
        slice(1, 0, (0, 3), "c"),
        slice_of(gone, 0, (0, 5), "d"),
        slice(0, 0, (10, 11), "d"),
        slice(1, 1, (0, 2), "d"),
    ];
    let outcomes = world.commit(round(broker, wal, (1, 9), slices)).unwrap();
    assert_eq!(outcomes, [Dropped, Dropped, Dropped, Committed, Committed]);
    assert_eq!(world.trim(wal), 9);
    assert_eq!(
        world.condemned(),
        ["b", "c"],
        "what nobody names is condemned at once"
    );
}

#[test]
fn a_fenced_broker_commits_nothing() {
    let (mut world, broker, wal) = world();
    world.done(Command::FenceBroker { broker });
    let late = round(broker, wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]);
    assert_eq!(world.commit(late).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(world.trim(wal), 0);
    assert_eq!(world.partition(0).committed_end, 0);
}

#[test]
fn a_round_of_another_brokers_log_or_partition_is_refused() {
    let (mut world, broker, wal) = world();
    let (other, other_wal) = world.broker(1);
    let theirs = round(other, wal, (0, 1), vec![]);
    assert_eq!(world.commit(theirs).unwrap_err().kind(), ErrorKind::Fenced);
    let stolen = round(other, other_wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]);
    assert_eq!(world.commit(stolen).unwrap_err().kind(), ErrorKind::Corrupt);
    let future = round(broker, wal, (0, 1), vec![slice(0, 1, (0, 10), "a")]);
    assert_eq!(world.commit(future).unwrap_err().kind(), ErrorKind::Corrupt);
    let never = round(broker, wal, (0, 1), vec![slice(17, 0, (0, 10), "a")]);
    assert_eq!(world.commit(never).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_early_upload_commits_without_a_trim() {
    let (mut world, broker, wal) = world();
    world.commit(round(broker, wal, (0, 4), vec![])).unwrap();
    let early = round(broker, wal, (9, 9), vec![slice(2, 0, (0, 10), "a")]);
    assert_eq!(world.commit(early.clone()), Ok(vec![Committed]));
    assert_eq!(world.trim(wal), 4);
    assert_eq!(
        world.commit(early),
        Ok(vec![Dropped]),
        "again, as another command"
    );
    // The ordinary round finds it committed already.
    let slices = vec![slice(2, 0, (0, 10), "b"), slice(2, 0, (10, 11), "b")];
    assert_eq!(
        world.commit(round(broker, wal, (4, 5), slices)),
        Ok(vec![Dropped, Committed])
    );
}

#[test]
fn an_object_is_one_thing_and_a_condemned_one_is_nothing() {
    let (mut world, broker, wal) = world();
    world
        .commit(round(broker, wal, (0, 1), vec![slice(0, 0, (0, 10), "a")]))
        .unwrap();
    let mut other = slice(1, 0, (0, 10), "a");
    other.object = Arc::new(ObjectRef {
        length: 5,
        ..(*other.object).clone()
    });
    let refusal = world
        .commit(round(broker, wal, (1, 2), vec![other]))
        .unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Corrupt);
    world.now_ms = 500;
    let led = (broker, tp(0), LeaderEpoch(0));
    assert_eq!(
        world.done(set_log_start(led, 10)),
        Response::LogStart { offset: 10 }
    );
    assert_eq!(
        world.state.condemned_before(501, None, 10)[0].condemned_at_ms,
        500
    );
    assert_eq!(world.state.condemned_before(500, None, 10), []);
    let all = world.state.condemned_before(501, None, 10);
    for (at, object) in all.iter().enumerate() {
        let rest = world.state.condemned_before(501, Some(object), 10);
        assert_eq!(rest, all[at + 1..]);
    }
    let gone = Condemned {
        key: String::new(),
        condemned_at_ms: 500,
    };
    assert_eq!(world.state.condemned_before(501, Some(&gone), 10), all);
    let again = round(broker, wal, (1, 2), vec![slice(1, 0, (0, 10), "a")]);
    assert_eq!(
        world.commit(again.clone()).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    world.done(Command::ForgetCondemned {
        keys: vec!["a".to_owned(), "zz".to_owned()],
    });
    assert_eq!(world.condemned(), Vec::<String>::new());
}

#[test]
fn the_log_start_only_rises_and_may_pass_the_committed_end() {
    let (mut world, broker, wal) = world();
    let slices = vec![slice(0, 0, (0, 10), "a"), slice(0, 0, (10, 20), "b")];
    world.commit(round(broker, wal, (0, 1), slices)).unwrap();
    let led = (broker, tp(0), LeaderEpoch(0));
    assert_eq!(
        world.done(set_log_start(led, 12)),
        Response::LogStart { offset: 12 }
    );
    assert_eq!(world.condemned(), ["a"]);
    assert_eq!(world.partition(0).epochs, [(LeaderEpoch(0), 12)]);
    assert_eq!(
        world.done(set_log_start(led, 5)),
        Response::LogStart { offset: 12 }
    );
    assert_eq!(
        world.done(set_log_start(led, 25)),
        Response::LogStart { offset: 25 }
    );
    assert_eq!(world.condemned(), ["a", "b"]);
    // Committed all the same: the end moves, and what lies below the log start is dropped.
    let slices = vec![slice(0, 0, (20, 24), "c"), slice(0, 0, (24, 30), "d")];
    assert_eq!(
        world.commit(round(broker, wal, (1, 2), slices)),
        Ok(vec![Committed; 2])
    );
    assert_eq!(world.partition(0).committed_end, 30);
    assert_eq!(world.partition(0).slices.len(), 1);
    assert_eq!(world.condemned(), ["a", "b", "c"]);
    let stale = (broker, tp(0), LeaderEpoch(4));
    assert_eq!(world.refused(set_log_start(stale, 26)), ErrorKind::Fenced);
}

pub(super) fn set_log_start(led: (BrokerEpoch, TopicPartition, LeaderEpoch), at: i64) -> Command {
    let (broker, topic_partition, leader_epoch) = led;
    Command::SetLogStart {
        broker,
        topic_partition,
        leader_epoch,
        log_start: at,
    }
}
