//! Heirs that die.

use super::*;
use crate::limits::{HEIR_DEATHS, MAX_NAME_BYTES};
use crate::state::WalPhase;

fn at_level_2() -> World {
    let mut world = World::default();
    world.done(finalize(2));
    world
}

fn fence(world: &mut World, broker: BrokerEpoch) {
    world.done(Command::FenceBroker { broker });
}

/// A dead broker's log; a fresh heir of `node` claims it, and dies.
fn dies_at(world: &mut World, wal: WalId, node: i32) {
    let (heir, _) = world.broker(node);
    world.claim(wal, heir);
    fence(world, heir);
    assert_eq!(world.state.wals[&wal].phase, WalPhase::Fenced);
}

fn quarantine(world: &World, wal: WalId) -> Option<&str> {
    world.state.wals[&wal].quarantine.as_deref()
}

#[test]
fn heirs_that_die_at_one_place_set_a_log_aside_and_an_operator_puts_it_back() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    for node in [1, 2] {
        dies_at(&mut world, wal, node);
        assert_eq!(quarantine(&world, wal), None);
        let read = State::decode(&world.state.encode()).unwrap();
        assert_eq!(read, world.state);
    }
    dies_at(&mut world, wal, 1);
    let reason = quarantine(&world, wal).unwrap().to_owned();
    assert!(reason.len() < MAX_NAME_BYTES, "it is told whole: {reason}");
    for part in [
        wal.to_string().as_str(),
        "at group 0",
        "nodes 1, 2, 1",
        "headwater wal unquarantine --wal",
    ] {
        assert!(reason.contains(part), "no {part} in: {reason}");
    }
    let (heir, _) = world.broker(3);
    let claim = Command::ClaimWal { wal, heir };
    assert_eq!(world.refused(claim), ErrorKind::Invalid);
    world.done(Command::UnquarantineWal { wal });
    // They are not held against it any more.
    for node in [1, 2] {
        dies_at(&mut world, wal, node);
        assert_eq!(quarantine(&world, wal), None);
    }
    let claim = world.claim(wal, heir).claim;
    world.done(close(wal, Some(claim), heir, 0));
}

#[test]
fn an_heir_that_came_on_or_left_in_order_is_not_held_against_the_log() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    for to in 1..=4 {
        dies_at(&mut world, wal, 1);
        dies_at(&mut world, wal, 2);
        let (heir, _) = world.broker(3);
        let claim = world.claim(wal, heir).claim;
        let progress = CommitUpload {
            claim: Some(claim),
            ..round(heir, wal, (to - 1, to), vec![])
        };
        world.commit(progress).unwrap();
        assert_eq!(world.state.wals[&wal].deaths, []);
        // One says goodbye, the next one passes it on.
        world.done(Command::Goodbye { broker: heir });
        assert_eq!(world.state.wals[&wal].phase, WalPhase::Fenced);
        let (heir, _) = world.broker(4);
        let claim = world.claim(wal, heir).claim;
        world.done(Command::YieldWal { wal, claim, heir });
        fence(&mut world, heir);
        assert_eq!(world.state.wals[&wal].deaths, []);
    }
    assert_eq!(quarantine(&world, wal), None);
}

#[test]
fn one_node_alone_may_die_at_a_log_for_ever() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    for _ in 0..20 {
        dies_at(&mut world, wal, 0);
        assert!(world.state.wals[&wal].deaths.len() <= HEIR_DEATHS);
    }
    assert_eq!(quarantine(&world, wal), None);
}

#[test]
fn a_node_that_comes_back_in_vain_passes_its_logs_on() {
    let mut world = at_level_2();
    let (_, wal) = world.broker(0);
    // Its node registers again: the first fence is that of an epoch that served.
    world.register(0);
    assert_eq!(world.state.wals[&wal].yields, 0);
    world.register(0);
    assert_eq!(world.state.wals[&wal].yields, 1);
    // It died recovering it: that is counted, once.
    let heir = world.register(0);
    assert_eq!(world.state.wals[&wal].yields, 2);
    world.claim(wal, heir);
    let back = world.register(0);
    assert_eq!(world.state.wals[&wal].yields, 2);
    assert_eq!(world.state.wals[&wal].deaths, [NodeId(0)]);
    world.done(Command::Goodbye { broker: back });
    assert_eq!(world.state.wals[&wal].yields, 2);
}

#[test]
fn at_level_1_nothing_is_counted() {
    let mut world = World::default();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    for node in [1, 2, 1, 2] {
        let (heir, _) = world.broker(node);
        let claim = world.claim(wal, heir).claim;
        fence(&mut world, heir);
        let phase = WalPhase::Claimed { heir, claim };
        assert_eq!(world.state.wals[&wal].phase, phase);
    }
    assert_eq!(world.state.wals[&wal].deaths, []);
    assert_eq!(quarantine(&world, wal), None);
}
