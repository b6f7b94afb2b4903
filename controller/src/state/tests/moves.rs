//! Planned moves: who is given what, and what of it outlives whom.

use super::*;
use crate::command::{MoveCommand, Release, Target};

fn leader_nodes(world: &World) -> Vec<Option<i32>> {
    let partitions = &world.state.topics.get(TOPIC).unwrap().partitions;
    let node = |p: &Partition| Some(world.state.brokers[&p.leader?].register.node.0);
    partitions.iter().map(node).collect()
}

fn target(partition: i32, node: Option<i32>) -> Target {
    Target {
        topic_partition: tp(partition),
        node: node.map(NodeId),
        preferred: false,
    }
}

fn one(partition: i32, epoch: i32, end: i64, to: Option<i32>) -> Release {
    Release {
        topic_partition: tp(partition),
        leader_epoch: LeaderEpoch(epoch),
        end,
        to: to.map(NodeId),
    }
}

pub(super) fn drain(node: i32, on: bool) -> Command {
    Command::Move(MoveCommand::Drain {
        node: NodeId(node),
        on,
    })
}

fn many(answer: Response) -> Vec<Answer> {
    match answer {
        Response::Many(answers) => answers,
        other => panic!("{other:?} to many"),
    }
}

impl World {
    fn targets(&mut self, targets: Vec<Target>) -> Vec<Answer> {
        many(self.done(Command::Move(MoveCommand::SetTargets(targets))))
    }

    fn releases(&mut self, broker: BrokerEpoch, releases: Vec<Release>) -> Vec<Answer> {
        many(self.done(Command::Move(MoveCommand::Release { broker, releases })))
    }
}

#[test]
fn a_target_stands_until_the_partition_is_there() {
    let mut world = World::newest();
    let (broker, _) = world.broker(0);
    world.create(3);
    let (other, _) = world.broker(1);
    let answers = world.targets(vec![
        target(0, Some(1)),
        target(1, Some(7)),
        target(2, Some(0)),
        target(9, Some(1)),
    ]);
    assert_eq!(answers[0], Ok(Response::Done));
    assert!(matches!(answers[1], Err(Refusal::InvalidAssignment { .. })));
    assert_eq!(answers[2], Ok(Response::Done));
    assert!(matches!(answers[3], Err(Refusal::UnknownPartition { .. })));
    assert_eq!(world.partition(0).target, Some(NodeId(1)));
    assert_eq!(world.partition(2).target, None, "it is there already");
    let answers = world.releases(broker, vec![one(0, 0, 0, Some(1)), one(1, 5, 0, None)]);
    let released = Response::Released {
        leader_epoch: LeaderEpoch(1),
        broker: Some(other),
    };
    assert_eq!(answers[0], Ok(released));
    assert!(matches!(answers[1], Err(Refusal::StaleLeader { .. })));
    assert_eq!(world.partition(0).target, None);
    assert_eq!(leader_nodes(&world), [Some(1), Some(0), Some(0)]);
    world.targets(vec![target(1, Some(1))]);
    world.targets(vec![target(1, None)]);
    assert_eq!(world.partition(1).target, None, "taken back");
}

#[test]
fn a_target_that_is_away_stands_over_other_releases() {
    let mut world = World::newest();
    let (broker, _) = world.broker(0);
    world.create(2);
    let (other, _) = world.broker(1);
    world.targets(vec![target(0, Some(1)), target(1, Some(1))]);
    world.done(Command::FenceBroker { broker: other });
    world.broker(2);
    // Its owner takes the first back, since its target cannot lead, and gives the other elsewhere.
    let releases = vec![
        one(0, 0, 0, Some(1)),
        one(0, 0, 0, Some(0)),
        one(1, 0, 0, None),
    ];
    let answers = world.releases(broker, releases);
    assert!(matches!(answers[0], Err(Refusal::NotReady { .. })));
    assert!(answers[1].is_ok() && answers[2].is_ok());
    assert_eq!(leader_nodes(&world), [Some(0), Some(2)]);
    assert_eq!(world.partition(0).target, Some(NodeId(1)));
    assert_eq!(world.partition(1).target, Some(NodeId(1)));
    world.broker(1);
    let answers = world.releases(broker, vec![one(0, 1, 0, Some(1))]);
    assert!(answers[0].is_ok());
    assert_eq!(world.partition(0).target, None, "there at last");
}

#[test]
fn who_takes_over_a_moving_partition_is_its_target() {
    let mut world = World::newest();
    let (broker, wal) = world.broker(0);
    world.create(4);
    world.broker(1);
    world.broker(2);
    world.targets((0..4).map(|p| target(p, Some(2))).collect());
    world.done(Command::FenceBroker { broker });
    let heir = world.broker(3).0;
    let claim = world.claim(wal, heir).claim;
    world.done(close(wal, Some(claim), heir, 0));
    assert_eq!(leader_nodes(&world), [Some(2); 4]);
    assert!((0..4).all(|p| world.partition(p).target.is_none()));
}

#[test]
fn a_draining_node_is_given_nothing_however_often_it_registers() {
    let mut world = World::newest();
    let (first, _) = world.broker(0);
    let (second, _) = world.broker(1);
    world.create(4);
    assert_eq!(world.refused(drain(9, true)), ErrorKind::Invalid);
    world.done(drain(1, true));
    world.done(create("more", TopicId(Uuid::from_u128(5)), 6));
    let loads = world.state.loads();
    assert_eq!(loads[&second], 2, "what it led it leads still");
    assert_eq!(loads[&first], 8);
    let (again, _) = world.broker(1);
    assert!(!world.state.loads().contains_key(&again));
    let bytes = world.state.encode();
    let read = State::decode(&bytes).unwrap();
    assert!(read.draining.contains(&NodeId(1)));
    let moves = (0..4).filter(|p| world.partition(*p).leader == Some(first));
    let moves: Vec<_> = moves
        .map(|p| one(p, world.partition(p).leader_epoch.0, 0, Some(1)))
        .collect();
    let answers = world.releases(first, moves.clone());
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    world.done(drain(1, false));
    let answers = world.releases(first, moves);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[test]
fn a_broker_that_leaves_takes_nothing_but_its_next_epoch_does() {
    let mut world = World::newest();
    let (first, _) = world.broker(0);
    let (second, _) = world.broker(1);
    world.create(6);
    let leaving = |broker| Command::Move(MoveCommand::Leaving { broker });
    world.done(leaving(first));
    let led = (0..6).filter(|p| world.partition(*p).leader == Some(first));
    let moves: Vec<_> = led.map(|p| one(p, 0, 0, None)).collect();
    assert_eq!(moves.len(), 3);
    let answers = world.releases(first, moves);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(leader_nodes(&world), [Some(1); 6]);
    // Nobody else takes any: the second keeps what it has.
    world.done(leaving(second));
    let answers = world.releases(second, vec![one(0, 0, 0, None), one(1, 1, 0, None)]);
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(world.state.loads()[&second], 6);
    // With nobody willing, somebody leads all the same.
    world.done(create("more", TopicId(Uuid::from_u128(5)), 1));
    assert_eq!(world.state.loads().values().sum::<usize>(), 7);
    let (again, _) = world.broker(0);
    world.done(create("most", TopicId(Uuid::from_u128(6)), 5));
    assert_eq!(world.state.loads()[&again], 5);
    assert_eq!(world.refused(leaving(first)), ErrorKind::Fenced);
}

#[test]
fn a_drain_spreads_over_all_others_by_load() {
    let mut world = World::newest();
    let (first, _) = world.broker(0);
    world.create(9);
    for node in 1..4 {
        world.broker(node);
    }
    let moves = (0..9).map(|p| one(p, 0, 0, None)).collect();
    world.releases(first, moves);
    let mut loads: Vec<_> = world.state.loads().into_values().collect();
    loads.retain(|load| *load > 0);
    assert_eq!(loads, [3, 3, 3]);
}

#[test]
fn more_moves_than_one_command_takes_are_refused() {
    let mut world = World::newest();
    let (broker, _) = world.broker(0);
    world.create(1);
    let count = crate::limits::MAX_MOVES_PER_COMMAND + 1;
    let releases = vec![one(0, 0, 0, None); count];
    let command = MoveCommand::Release { broker, releases };
    world.refused(Command::Move(command.clone()));
    let targets = vec![target(0, Some(i32::MAX)); count - 1];
    let command = Command::Move(MoveCommand::SetTargets(targets));
    let proposal = Proposal {
        id: CommandId(Uuid::from_u128(1)),
        now_ms: i64::MAX,
        command,
    };
    assert!(proposal.encode().len() < crate::limits::MAX_COMMAND_BYTES);
}

#[test]
fn an_operators_word_stands_until_it_is_taken_back() {
    let mut world = World::newest();
    world.broker(0);
    world.create(1);
    world.broker(1);
    let placed = |world: &World| {
        let partition = world.partition(0);
        (partition.target, partition.preferred)
    };
    let word = |node| Target {
        preferred: true,
        ..target(0, node)
    };
    world.targets(vec![word(Some(0))]);
    assert_eq!(placed(&world), (None, Some(NodeId(0))), "it is there");
    // A move for once is none.
    world.targets(vec![target(0, Some(1))]);
    assert_eq!(placed(&world), (Some(NodeId(1)), Some(NodeId(0))));
    world.targets(vec![target(0, None)]);
    assert_eq!(placed(&world), (None, Some(NodeId(0))));
    world.targets(vec![word(Some(1))]);
    world.targets(vec![word(None)]);
    assert_eq!(placed(&world), (None, None));
}
