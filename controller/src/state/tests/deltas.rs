//! Images grow by deltas into what they are by commands.

use prost::Message;

use super::snapshot::full;
use super::*;
use crate::command::{ConfigOp, ConfigResource, MoveCommand, Target};
use crate::image::{Image, delta, wire};

/// As it arrives.
fn sent(from: &Image, to: &Image) -> wire::Delta {
    let bytes = delta::between(from, to).encode_to_vec();
    wire::Delta::decode(&*bytes).unwrap()
}

/// Small numbers in no order: SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Any command; many are refused.
fn any(dice: &mut Dice, n: u128) -> Command {
    let (broker, wal) = (
        BrokerEpoch(1 + dice.below(8)),
        wal_id(u128::from(dice.below(8))),
    );
    let topic = TopicId(Uuid::from_u128(u128::from(dice.below(6))));
    let name = format!("t{}", dice.below(6));
    let text = |dice: &mut Dice| format!("v{}", dice.below(4));
    match dice.below(19) {
        0 => Command::RegisterBroker(RegisterBroker {
            node: NodeId(dice.below(3) as i32),
            incarnation: Uuid::from_u128(n),
            listeners: vec![crate::command::Listener {
                name: "L".to_owned(),
                host: text(dice),
                port: 9092,
                protocol: "PLAINTEXT".to_owned(),
            }],
            rack: (dice.below(2) == 0).then(|| text(dice)),
            directory: Uuid::from_u128(u128::from(dice.below(3))),
            lived: None,
        }),
        1 | 2 => Command::OpenWal {
            broker,
            wal,
            backend: WalBackend::Object,
        },
        3 => Command::FenceBroker { broker },
        4 => Command::ClaimWal { wal, heir: broker },
        5 => Command::AbandonWal {
            wal,
            reason: String::new(),
        },
        6 => Command::RecordSwept { wal },
        7 | 8 => create(&name, topic, 1 + dice.below(5) as u32),
        9 => Command::DeleteTopic { topic },
        10 => Command::CreatePartitions {
            topic,
            count: 1 + dice.below(9) as u32,
            assignments: Vec::new(),
        },
        11 | 12 => Command::AlterConfigs {
            resource: match dice.below(3) {
                0 => ConfigResource::Topic(name),
                1 => ConfigResource::Broker(NodeId(1)),
                _ => ConfigResource::Cluster,
            },
            changes: vec![("k".to_owned(), ConfigOp::Set(text(dice)))],
            replace: dice.below(2) == 0,
        },
        13 => Command::FinalizeFeature {
            name: text(dice),
            level: 1 + dice.below(3) as u16,
        },
        14 => Command::RecordProbe {
            store_url: text(dice),
            at_ms: n as i64,
        },
        15 => Command::Move(MoveCommand::Drain {
            node: NodeId(dice.below(3) as i32),
            on: dice.below(2) == 0,
        }),
        16 => Command::Move(MoveCommand::Leaving { broker }),
        17 => Command::Move(MoveCommand::SetTargets(vec![Target {
            topic_partition: TopicPartition::new(topic, dice.below(3) as i32),
            node: (dice.below(2) == 0).then_some(NodeId(1)),
            preferred: dice.below(2) == 0,
        }])),
        _ => Command::Release {
            broker,
            topic_partition: TopicPartition::new(topic, 0),
            leader_epoch: LeaderEpoch(dice.below(3) as i32),
            end: 0,
            to: None,
        },
    }
}

#[test]
fn a_delta_brings_any_earlier_image_to_any_later_one() {
    let mut done = 0;
    for seed in 0..40 {
        let (mut dice, mut state) = (Dice(seed), World::newest().state);
        state.applied = 0;
        let mut images = vec![Image::default(), Image::new(&state)];
        let mut follower = Image::default();
        for n in 1..200u64 {
            let proposal = Proposal {
                id: CommandId(Uuid::from_u128(u128::from(n))),
                now_ms: n as i64,
                command: any(&mut dice, u128::from(n)),
            };
            let (answer, effects) = state.apply(n, &proposal);
            done += u32::from(answer.is_ok());
            let now = images[images.len() - 1].after(&state, &effects);
            assert_eq!(
                now,
                Image {
                    controller: None,
                    ..Image::new(&state)
                }
            );
            let now = Image {
                controller: (dice.below(2) == 0).then_some(NodeId(1)),
                ..now
            };
            let from = &images[dice.below(images.len() as u64) as usize];
            assert_eq!(
                from.with(sent(from, &now)).unwrap(),
                now,
                "seed {seed}, {n}"
            );
            // One who follows with gaps, and shares nothing with what is sent to it.
            if dice.below(4) == 0 {
                follower = follower.with(sent(&follower, &now)).unwrap();
                assert_eq!(follower, now);
            }
            images.push(Image {
                controller: None,
                ..now
            });
            if images.len() > 12 {
                images.remove(dice.below(11) as usize);
            }
        }
    }
    assert!(done > 1500, "{done} commands were done");
}

#[test]
fn what_did_not_change_is_not_sent() {
    let mut world = full();
    let before = Image::new(&world.state);
    let id = world.fresh_id();
    let command = create("more", TopicId(Uuid::from_u128(3)), 1);
    let proposal = Proposal {
        id,
        now_ms: 0,
        command,
    };
    let (_, effects) = world.state.apply(world.state.applied + 1, &proposal);
    let after = before.after(&world.state, &effects);
    let delta = delta::between(&before, &after);
    assert_eq!(delta.topics.len(), 1);
    let topic = delta.topics[0].clone();
    let rest = wire::Delta {
        topics: Vec::new(),
        applied: 0,
        cluster: None,
        generation: 0,
        ..delta
    };
    assert_eq!(rest, wire::Delta::default());
    assert_eq!(topic.partitions.len(), 1);
    let nothing = delta::between(&after, &after);
    assert!(nothing.encoded_len() < 40, "{nothing:?}");
}

/// What other builds send: a byte that changes here is misread by them.
#[test]
fn the_bytes_of_an_image_are_golden() {
    let image = Image {
        controller: Some(NodeId(2)),
        ..Image::new(&full().state)
    };
    let mut delta = delta::between(&Image::default(), &image);
    delta.removed = vec![vec![7; 16]];
    delta.members = Some(wire::Members {
        members: vec![crate::rpc::wire::Member {
            node: 3,
            address: "host:1".to_owned(),
            directory: vec![9; 16],
            learner: false,
        }],
    });
    let hex: String = delta
        .encode_to_vec()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let golden = include_str!("image.v1.hex").trim_end();
    if hex != golden {
        println!("GOLDENIMAGE\n{hex}\nEND");
    }
    assert!(hex == golden, "what is sent of an image changed");
}

#[test]
fn a_change_that_does_not_fit_is_refused() {
    let image = Image::new(&full().state);
    let topic = |topic: wire::Topic| wire::Delta {
        topics: vec![topic],
        ..Default::default()
    };
    let id = TOPIC.0.as_bytes().to_vec();
    let known = wire::Topic {
        id: id.clone(),
        count: 3,
        ..Default::default()
    };
    assert!(image.with(topic(known.clone())).is_ok());
    let partition = |index| wire::Partition {
        index,
        ..Default::default()
    };
    let bad = [
        wire::Topic {
            id: vec![1; 16],
            ..known.clone()
        },
        wire::Topic {
            id: vec![1; 3],
            ..known.clone()
        },
        wire::Topic {
            count: 5,
            partitions: vec![partition(4)],
            ..known.clone()
        },
        wire::Topic {
            count: 4,
            ..known.clone()
        },
        wire::Topic {
            count: u32::MAX,
            ..known
        },
        wire::Topic {
            id: vec![1; 16],
            head: Some(wire::TopicHead {
                name: "logs".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ];
    for bad in bad {
        assert!(image.with(topic(bad.clone())).is_err(), "{bad:?}");
    }
}
