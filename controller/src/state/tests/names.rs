//! Topics by Kafka's rules, configurations, features, probes.

use super::*;
use crate::command::{ConfigOp, ConfigResource};

fn topic(name: &str, id: u128) -> CreateTopic {
    match create(name, TopicId(Uuid::from_u128(id)), 1) {
        Command::CreateTopic(create) => create,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_judged_as_kafka_does() {
    let mut world = World::default();
    for good in ["a", "A-z_0.9", &"x".repeat(249), "..."] {
        assert_eq!(check_topic_name(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        ".",
        "..",
        "a b",
        "ä",
        "a/b",
        "a\0",
        &"x".repeat(250),
        &"é".repeat(300),
    ] {
        assert!(
            matches!(check_topic_name(bad), Err(Refusal::InvalidTopicName { .. })),
            "{bad}"
        );
        let refused = world
            .apply(Command::CreateTopic(topic(bad, 1)))
            .unwrap_err();
        assert!(matches!(refused, Refusal::InvalidTopicName { .. }));
    }
    world.done(Command::CreateTopic(topic("a.b", 1)));
    let collision = world
        .apply(Command::CreateTopic(topic("a_b", 2)))
        .unwrap_err();
    assert!(
        matches!(collision, Refusal::InvalidTopicName { .. }),
        "{collision}"
    );
    let twice = world
        .apply(Command::CreateTopic(topic("a.b", 2)))
        .unwrap_err();
    assert_eq!(
        twice,
        Refusal::TopicExists {
            name: "a.b".to_owned()
        }
    );
    assert_eq!(
        world.refused(Command::CreateTopic(topic("c", 1))),
        ErrorKind::Invalid,
        "id taken"
    );
    world.done(Command::DeleteTopic {
        topic: TopicId(Uuid::from_u128(1)),
    });
    world.done(Command::CreateTopic(topic("a_b", 3)));
}

#[test]
fn counts_factors_and_assignments_are_checked() {
    let mut world = World::default();
    world.broker(0);
    let (other, _) = world.broker(1);
    let refusal = |world: &mut World, change: &dyn Fn(&mut CreateTopic)| {
        let mut create = topic("t", 1);
        change(&mut create);
        world.apply(Command::CreateTopic(create)).unwrap_err()
    };
    for count in [0, 20_001] {
        let refused = refusal(&mut world, &|create| create.partitions = count);
        assert!(matches!(refused, Refusal::InvalidPartitions { .. }));
    }
    for given in [0, -1, -2] {
        let refused = refusal(&mut world, &|create| create.replication_factor = given);
        assert_eq!(refused, Refusal::InvalidReplicationFactor { given });
    }
    let nodes = |list: &[&[i32]]| -> Vec<Vec<NodeId>> {
        list.iter()
            .map(|nodes| nodes.iter().copied().map(NodeId).collect())
            .collect()
    };
    for wrong in [&[&[][..]][..], &[&[0, 0]], &[&[9]], &[&[0], &[0, 1]]] {
        let refused = refusal(&mut world, &|create| create.assignments = nodes(wrong));
        assert!(
            matches!(refused, Refusal::InvalidAssignment { .. }),
            "{wrong:?}"
        );
    }
    let mut create = topic("t", 1);
    (create.replication_factor, create.assignments) = (-1, nodes(&[&[1, 0], &[1, 0]]));
    world.done(Command::CreateTopic(create));
    let id = TopicId(Uuid::from_u128(1));
    let led = |world: &World| {
        let topic = world.state.topics.get(id).unwrap();
        topic
            .partitions
            .iter()
            .map(|p| p.leader)
            .collect::<Vec<_>>()
    };
    assert_eq!(led(&world), [Some(other); 2], "the first node is honoured");
    let grow = |count, assignments| Command::CreatePartitions {
        topic: id,
        count,
        assignments,
    };
    assert_eq!(world.refused(grow(2, vec![])), ErrorKind::Invalid);
    assert_eq!(world.refused(grow(4, nodes(&[&[0]]))), ErrorKind::Invalid);
    world.done(grow(4, nodes(&[&[1], &[1]])));
    assert_eq!(led(&world), [Some(other); 4]);
    world.done(grow(6, vec![]));
    assert_ne!(
        led(&world)[4..],
        [Some(other); 2],
        "placed where there is less"
    );
    assert!(matches!(
        world.apply(Command::CreatePartitions {
            topic: TOPIC,
            count: 9,
            assignments: vec![]
        }),
        Err(Refusal::UnknownTopic { .. })
    ));
}

#[test]
fn configurations_change_entry_by_entry_or_whole() {
    let mut world = World::default();
    world.done(Command::CreateTopic(topic("t", 1)));
    let resource = ConfigResource::Topic("t".to_owned());
    let alter = |changes: Vec<(&str, ConfigOp)>, replace| Command::AlterConfigs {
        resource: resource.clone(),
        changes: changes
            .into_iter()
            .map(|(name, op)| (name.to_owned(), op))
            .collect(),
        replace,
    };
    let set = |value: &str| ConfigOp::Set(value.to_owned());
    world.done(alter(vec![("a", set("1")), ("b", set("2"))], false));
    world.done(alter(vec![("a", ConfigOp::Delete), ("c", set("3"))], false));
    let configs = |world: &World| {
        let topic = world.state.topics.by_name("t").unwrap();
        topic
            .configs
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(configs(&world), ["b=2", "c=3"]);
    let list = |value: &str| (value.to_owned(), "delete".to_owned());
    let (value, default) = list("compact");
    world.done(alter(
        vec![("p", ConfigOp::Append { value, default })],
        false,
    ));
    assert_eq!(configs(&world), ["b=2", "c=3", "p=delete,compact"]);
    let (value, default) = list("delete");
    world.done(alter(
        vec![("p", ConfigOp::Subtract { value, default })],
        false,
    ));
    assert_eq!(configs(&world), ["b=2", "c=3", "p=compact"]);
    world.done(alter(vec![("z", set("9"))], true));
    assert_eq!(configs(&world), ["z=9"]);
    for wrong in [("", "v".to_owned()), ("n", "v".repeat(65 * 1024))] {
        let refused = world.apply(alter(vec![(wrong.0, ConfigOp::Set(wrong.1))], false));
        assert!(matches!(refused, Err(Refusal::InvalidConfig { .. })));
    }
    let unknown = Command::AlterConfigs {
        resource: ConfigResource::Topic("u".to_owned()),
        changes: vec![],
        replace: false,
    };
    assert!(matches!(
        world.apply(unknown),
        Err(Refusal::UnknownTopic { .. })
    ));
    for resource in [ConfigResource::Cluster, ConfigResource::Broker(NodeId(1))] {
        let changes = vec![("x".to_owned(), set("1"))];
        world.done(Command::AlterConfigs {
            resource: resource.clone(),
            changes,
            replace: false,
        });
        assert_eq!(world.state.configs[&resource]["x"], "1");
        world.done(Command::AlterConfigs {
            resource,
            changes: vec![],
            replace: true,
        });
    }
    assert!(world.state.configs.is_empty());
}

#[test]
fn cluster_features_probes_and_checkpoints() {
    let mut world = World::default();
    let cluster = ClusterId(Uuid::from_u128(1));
    let init = |cluster, generation| Command::InitCluster {
        cluster,
        generation,
    };
    world.done(init(cluster, 1));
    world.done(init(cluster, 1));
    assert_eq!(world.refused(init(cluster, 2)), ErrorKind::Invalid);
    let feature = |level| Command::FinalizeFeature {
        name: "f".to_owned(),
        level,
    };
    world.done(feature(2));
    assert_eq!(world.refused(feature(1)), ErrorKind::Invalid);
    world.done(feature(0));
    for n in 0..100 {
        world.done(Command::RecordProbe {
            store_url: format!("s3://{n}"),
            at_ms: n,
        });
    }
    assert_eq!(world.state.probes.len(), crate::limits::MAX_PROBES);
    assert_eq!(world.state.probes["s3://99"], 99);
    for n in 0..5 {
        world.done(Command::RecordCheckpoint {
            key: format!("meta/{n}"),
        });
    }
    assert_eq!(world.state.checkpoints, ["meta/2", "meta/3", "meta/4"]);
    assert_eq!(world.condemned(), ["meta/0", "meta/1"]);
}
