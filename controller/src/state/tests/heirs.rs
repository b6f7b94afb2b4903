//! Heirs that die.

use super::*;
use crate::limits::{HEIR_DEATHS, MAX_NAME_BYTES};
use crate::state::{Death, WalPhase};

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
    let death = Death {
        node: NodeId(0),
        epoch: heir,
    };
    assert_eq!(world.state.wals[&wal].deaths, [death]);
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

/// `heir` lapses with the claim on `wal`: it is fenced, and lives.
fn lapses_at(world: &mut World, wal: WalId, heir: BrokerEpoch) {
    world.claim(wal, heir);
    fence(world, heir);
}

#[test]
fn lapses_of_heirs_that_live_are_not_deaths() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    // Two heirs, again and again, whose way to the controllers comes and goes.
    let mut heirs = [world.broker(1).0, world.broker(2).0];
    for turn in 0..10 {
        let heir = heirs[turn % 2];
        lapses_at(&mut world, wal, heir);
        let (yields, deaths) = (
            world.state.wals[&wal].yields,
            world.state.wals[&wal].deaths.len(),
        );
        assert_eq!(deaths, 1, "it is taken for dead");
        let node = 1 + i32::try_from(turn % 2).unwrap();
        heirs[turn % 2] = world.register_again(node, Some(heir));
        world.open_wal(heirs[turn % 2], WalBackend::Object);
        assert_eq!(world.state.wals[&wal].deaths, []);
        // The next one's turn it stays.
        assert_eq!(world.state.wals[&wal].yields, yields + 1);
        assert_eq!(quarantine(&world, wal), None);
    }
    let claim = world.claim(wal, heirs[0]).claim;
    world.done(close(wal, Some(claim), heirs[0], 0));
}

#[test]
fn one_that_comes_back_lifts_what_came_of_deaths_alone() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    let heirs = [world.broker(1).0, world.broker(2).0, world.broker(3).0];
    for heir in heirs {
        lapses_at(&mut world, wal, heir);
    }
    assert!(quarantine(&world, wal).is_some());
    let read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read, world.state);
    // Whoever has not held the claim, and another node that says it has, change nothing.
    world.register_again(4, Some(heirs[1]));
    world.register_again(2, Some(heirs[0]));
    world.register(2);
    assert!(quarantine(&world, wal).is_some());
    world.register_again(2, Some(heirs[1]));
    assert_eq!(quarantine(&world, wal), None);
    let dead: Vec<_> = world.state.wals[&wal].deaths.iter().collect();
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|death| death.node != NodeId(2)));
    // It says so twice: nothing is left to take back.
    let yields = world.state.wals[&wal].yields;
    let back = world.register_again(2, Some(heirs[1]));
    assert_eq!(world.state.wals[&wal].yields, yields);
    // A third death sets it aside once more.
    lapses_at(&mut world, wal, back);
    assert!(quarantine(&world, wal).is_some());
}

#[test]
fn one_that_comes_back_lifts_no_other_quarantine() {
    let mut world = at_level_2();
    let (dead, wal) = world.broker(0);
    fence(&mut world, dead);
    let (first, other) = (world.broker(1).0, world.broker(2).0);
    lapses_at(&mut world, wal, first);
    let claim = world.claim(wal, other).claim;
    world.done(Command::ReportWalCorrupt {
        wal,
        claim,
        heir: other,
        reason: "damaged".to_owned(),
    });
    world.register_again(1, Some(first));
    assert_eq!(world.state.wals[&wal].deaths, []);
    assert_eq!(quarantine(&world, wal), Some("damaged"));
}

#[test]
fn that_it_lived_is_told_from_level_2_on() {
    let mut world = at_level_2();
    let register = |lived| {
        Command::RegisterBroker(RegisterBroker {
            node: NodeId(1),
            incarnation: Uuid::from_u128(1),
            listeners: Vec::new(),
            rack: None,
            directory: Uuid::nil(),
            lived,
        })
    };
    assert_eq!(register(None).level(), 1);
    assert_eq!(register(Some(BrokerEpoch(1))).level(), 2);
    // An epoch that was never given is nobody's.
    world.done(register(Some(BrokerEpoch(u64::MAX))));
}
