//! `ReplaceSlices`, deletion, and what becomes of objects.

use super::commit::set_log_start;
use super::*;
use crate::command::{OldSlice, ReplaceRun, ReplaceSlices};

fn world() -> (World, BrokerEpoch, WalId) {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.create(2);
    let bundles = [(0, "a"), (10, "b"), (20, "c"), (30, "d")];
    let slices = bundles
        .iter()
        .map(|(at, key)| slice(0, 0, (*at, at + 10), key))
        .collect();
    world.commit(round(broker, wal, (0, 1), slices)).unwrap();
    (world, broker, wal)
}

fn old(first_offset: i64, end_offset: i64, key: &str) -> OldSlice {
    OldSlice {
        first_offset,
        end_offset,
        key: key.to_owned(),
    }
}

fn replace(broker: BrokerEpoch, old: Vec<OldSlice>, new: Vec<SliceRef>) -> Command {
    let run = ReplaceRun {
        topic_partition: tp(0),
        leader_epoch: LeaderEpoch(0),
        old,
        new,
    };
    Command::ReplaceSlices(ReplaceSlices {
        broker_epoch: broker,
        runs: vec![run],
    })
}

fn spans(world: &World) -> Vec<(i64, i64)> {
    let slices = &world.partition(0).slices;
    slices
        .iter()
        .map(|slice| (slice.first_offset, slice.end_offset))
        .collect()
}

#[test]
fn a_run_gives_way_and_its_objects_are_condemned() {
    let (mut world, broker, wal) = world();
    // An append behind the run is no change of it.
    world
        .commit(round(broker, wal, (1, 2), vec![slice(0, 0, (40, 50), "e")]))
        .unwrap();
    let command = replace(
        broker,
        vec![old(10, 20, "b"), old(20, 30, "c")],
        vec![slice(0, 0, (10, 30), "s")],
    );
    assert_eq!(world.done(command.clone()), Response::Done);
    assert_eq!(spans(&world), [(0, 10), (10, 30), (30, 40), (40, 50)]);
    assert_eq!(world.condemned(), ["b", "c"]);
    assert_eq!(
        world.refused(command),
        ErrorKind::Retry,
        "the run is not there any more"
    );
}

#[test]
fn a_run_that_changed_is_refused_whole() {
    let (mut world, broker, _) = world();
    let new = vec![slice(0, 0, (10, 30), "s")];
    for wrong in [
        vec![old(10, 20, "x"), old(20, 30, "c")],
        vec![old(10, 15, "b"), old(15, 30, "c")],
        vec![old(10, 30, "b")],
    ] {
        assert_eq!(
            world.refused(replace(broker, wrong, new.clone())),
            ErrorKind::Retry
        );
    }
    let run = vec![old(10, 20, "b"), old(20, 30, "c")];
    for wrong in [(10, 29), (10, 31), (11, 30)] {
        let command = replace(broker, run.clone(), vec![slice(0, 0, wrong, "s")]);
        assert_eq!(world.refused(command), ErrorKind::Invalid);
    }
    assert!(!world.state.objects.knows("s"));
}

#[test]
fn a_log_start_inside_the_run_is_allowed() {
    let (mut world, broker, _) = world();
    let run = vec![old(0, 10, "a"), old(10, 20, "b"), old(20, 30, "c")];
    world.done(set_log_start((broker, tp(0), LeaderEpoch(0)), 12));
    assert_eq!(world.condemned(), ["a"]);
    let new = vec![slice(0, 0, (0, 11), "s"), slice(0, 0, (11, 30), "t")];
    world.done(replace(broker, run, new));
    assert_eq!(spans(&world), [(11, 30), (30, 40)]);
    let mut condemned = world.condemned();
    condemned.sort();
    assert_eq!(condemned, ["a", "b", "c", "s"]);
}

#[test]
fn a_run_wholly_below_the_log_start_leaves_nothing_behind() {
    let (mut world, broker, _) = world();
    world.done(set_log_start((broker, tp(0), LeaderEpoch(0)), 35));
    let run = vec![old(0, 10, "a"), old(10, 20, "b")];
    world.done(replace(broker, run, vec![slice(0, 0, (0, 20), "s")]));
    assert_eq!(spans(&world), [(30, 40)]);
    assert!(world.condemned().contains(&"s".to_owned()));
}

#[test]
fn an_object_of_a_run_that_is_all_passed_lives_on_for_another_partition() {
    let mut world = World::default();
    let (broker, wal) = world.broker(0);
    world.create(2);
    let slices = vec![slice(0, 0, (0, 10), "a"), slice(1, 0, (0, 10), "a")];
    world.commit(round(broker, wal, (0, 1), slices)).unwrap();
    world.done(set_log_start((broker, tp(0), LeaderEpoch(0)), 10));
    let run = |partition| ReplaceRun {
        topic_partition: tp(partition),
        leader_epoch: LeaderEpoch(0),
        old: vec![old(0, 10, "a")],
        new: vec![slice(partition, 0, (0, 10), "s")],
    };
    world.done(Command::ReplaceSlices(ReplaceSlices {
        broker_epoch: broker,
        runs: vec![run(0), run(1)],
    }));
    assert_eq!(
        world.condemned(),
        ["a"],
        "s is named by the other partition"
    );
    assert_eq!(world.partition(1).slices.len(), 1);
}

#[test]
fn an_object_in_both_runs_lives_on() {
    let (mut world, broker, _) = world();
    let run = vec![old(0, 10, "a"), old(10, 20, "b")];
    let new = vec![slice(0, 0, (0, 5), "a"), slice(0, 0, (5, 20), "a")];
    world.done(replace(broker, run, new));
    assert_eq!(world.condemned(), ["b"]);
}

#[test]
fn another_leader_or_a_stale_one_is_fenced() {
    let (mut world, broker, _) = world();
    let (other, _) = world.broker(1);
    let command = |broker| {
        replace(
            broker,
            vec![old(0, 10, "a")],
            vec![slice(0, 0, (0, 10), "s")],
        )
    };
    assert_eq!(world.refused(command(other)), ErrorKind::Fenced);
    world.done(Command::FenceBroker { broker });
    assert_eq!(world.refused(command(broker)), ErrorKind::Fenced);
}

#[test]
fn deleting_a_topic_condemns_what_only_it_named() {
    let (mut world, broker, wal) = world();
    let other = TopicId(Uuid::from_u128(200));
    world.done(create("other", other, 1));
    let shared = slice_of(TopicPartition::new(other, 0), 0, (0, 5), "d");
    world
        .commit(round(broker, wal, (1, 2), vec![shared]))
        .unwrap();
    world.done(Command::DeleteTopic { topic: TOPIC });
    assert_eq!(world.condemned(), ["a", "b", "c"]);
    assert_eq!(
        world.refused(Command::DeleteTopic { topic: TOPIC }),
        ErrorKind::Invalid
    );
    let late = vec![slice(0, 0, (40, 50), "late")];
    let outcomes = world.commit(round(broker, wal, (2, 3), late)).unwrap();
    assert_eq!(outcomes, [SliceOutcome::Dropped]);
    world.done(Command::DeleteTopic { topic: other });
    assert_eq!(world.condemned().len(), 5, "d and late too");
}

#[test]
fn orphans_are_what_no_one_names_and_no_one_can_name() {
    let mut world = World::default();
    let (first, wal) = world.broker(0);
    world.create(1);
    let named = format!("p/c/00000001/data/ab/0-{first}-n1");
    world
        .commit(round(first, wal, (0, 1), vec![slice(0, 0, (0, 5), &named)]))
        .unwrap();
    let lost = format!("p/c/00000001/data/ab/0-{first}-n2");
    let keys = vec![
        named.clone(),
        lost.clone(),
        "p/c/00000001/data/ab/0-99-n".to_owned(),
        format!("p/c/00000001/wal/0-{first}-n"),
        "junk".to_owned(),
        "data/x/a-b-c".to_owned(),
    ];
    assert_eq!(
        world.state.orphans(keys.clone()),
        Vec::<String>::new(),
        "its broker lives"
    );
    let heir = world.register(0);
    assert_eq!(
        world.state.orphans(keys.clone()),
        Vec::<String>::new(),
        "its log is open"
    );
    let claim = world.claim(wal, heir).claim;
    world.done(close(wal, Some(claim), heir, 1));
    assert_eq!(world.state.orphans(keys), [lost]);
}
