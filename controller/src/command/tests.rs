use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::error::Refusal;
use crate::types::{Digest, ObjectRef, SliceOutcome};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn tp(n: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(id(n)), partition)
}

fn slice(topic_partition: TopicPartition, first: i64, key: &str) -> SliceRef {
    SliceRef {
        topic_partition,
        leader_epoch: LeaderEpoch(3),
        first_offset: first,
        end_offset: first + 10,
        max_timestamp_ms: -1,
        bytes: 1 << 40,
        object: Arc::new(ObjectRef {
            key: key.to_owned(),
            length: 1 << 41,
            digest: Digest::Crc32([1, 2, 3, 4]),
        }),
        index_position: 99,
        index_length: 77,
        index_digest: Digest::new(9, &[5; 20]),
        checkpoint: first == 0,
    }
}

fn register() -> RegisterBroker {
    let listener = Listener {
        name: "PLAINTEXT".to_owned(),
        host: "localhost".to_owned(),
        port: 65_535,
        protocol: "PLAINTEXT".to_owned(),
    };
    RegisterBroker {
        node: NodeId(3),
        incarnation: id(9),
        listeners: vec![listener],
        rack: Some(String::new()),
        directory: Uuid::nil(),
        lived: None,
    }
}

/// One of each, and of each part of each.
fn commands() -> Vec<Command> {
    let (broker, wal) = (BrokerEpoch(u64::MAX), WalId(id(5)));
    let (topic_partition, leader_epoch) = (tp(1, 7), LeaderEpoch(3));
    let slices = vec![
        slice(tp(1, 0), 0, "a"),
        slice(tp(1, 0), 10, "b"),
        slice(tp(2, 0), 5, "a"),
    ];
    let replaced = slices[..2].to_vec();
    let op = |name: &str, op| (name.to_owned(), op);
    let (value, default) = ("v".to_owned(), "d".to_owned());
    vec![
        Command::InitCluster {
            cluster: ClusterId(id(4)),
            generation: 2,
        },
        Command::RegisterBroker(register()),
        Command::Goodbye { broker },
        Command::FenceBroker {
            broker: BrokerEpoch(0),
        },
        Command::ReportHighWatermarks {
            broker,
            marks: vec![HighWatermark {
                topic_partition,
                leader_epoch,
                offset: i64::MAX,
            }],
        },
        Command::OpenWal {
            broker,
            wal,
            backend: WalBackend::Disk,
        },
        Command::OpenWal {
            broker,
            wal,
            backend: WalBackend::Object,
        },
        Command::OpenWal {
            broker,
            wal,
            backend: WalBackend::Memory,
        },
        Command::ClaimWal { wal, heir: broker },
        Command::CloseWal {
            wal,
            claim: None,
            broker,
            end: 7,
        },
        Command::CloseWal {
            wal,
            claim: Some(Claim(0)),
            broker,
            end: 0,
        },
        Command::AbandonWal {
            wal,
            reason: "why".to_owned(),
        },
        Command::ReportWalCorrupt {
            wal,
            claim: Claim(2),
            heir: broker,
            reason: String::new(),
        },
        Command::UnquarantineWal { wal },
        Command::CreateTopic(CreateTopic {
            name: "t".to_owned(),
            id: TopicId(id(1)),
            internal: true,
            partitions: 3,
            replication_factor: -1,
            assignments: vec![vec![NodeId(1), NodeId(2)], vec![]],
            configs: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        }),
        Command::CreatePartitions {
            topic: TopicId(id(1)),
            count: 9,
            assignments: vec![vec![NodeId(1)]],
        },
        Command::DeleteTopic {
            topic: TopicId(id(1)),
        },
        Command::AlterConfigs {
            resource: ConfigResource::Topic("t".to_owned()),
            changes: vec![
                op("a", ConfigOp::Set(String::new())),
                op("b", ConfigOp::Delete),
                op(
                    "c",
                    ConfigOp::Append {
                        value: value.clone(),
                        default: default.clone(),
                    },
                ),
                op("d", ConfigOp::Subtract { value, default }),
            ],
            replace: true,
        },
        Command::AlterConfigs {
            resource: ConfigResource::Broker(NodeId(0)),
            changes: vec![],
            replace: false,
        },
        Command::AlterConfigs {
            resource: ConfigResource::Cluster,
            changes: vec![],
            replace: false,
        },
        Command::CommitUpload(CommitUpload {
            broker_epoch: broker,
            wal,
            claim: Some(Claim(1)),
            from: 4,
            to: u64::MAX,
            slices,
        }),
        Command::ReplaceSlices(ReplaceSlices {
            broker_epoch: broker,
            runs: vec![ReplaceRun {
                topic_partition: tp(1, 0),
                leader_epoch,
                old: vec![OldSlice {
                    first_offset: 0,
                    end_offset: 20,
                    key: "x".to_owned(),
                }],
                new: replaced,
            }],
        }),
        Command::SetLogStart {
            broker,
            topic_partition,
            leader_epoch,
            log_start: 8,
        },
        Command::Release {
            broker,
            topic_partition,
            leader_epoch,
            end: 9,
            to: Some(NodeId(0)),
        },
        Command::Release {
            broker,
            topic_partition,
            leader_epoch,
            end: 9,
            to: None,
        },
        Command::AllocateProducerIds {
            broker,
            count: 1000,
        },
        Command::ForgetCondemned {
            keys: vec!["a".to_owned(), "b".to_owned()],
        },
        Command::RecordProbe {
            store_url: "s3://b".to_owned(),
            at_ms: -5,
        },
        Command::RecordCheckpoint {
            key: "meta/c".to_owned(),
        },
        Command::FinalizeFeature {
            name: "f".to_owned(),
            level: u16::MAX,
        },
        Command::RecordSwept { wal },
        Command::RecordHome { mark: id(9) },
        Command::YieldWal {
            wal,
            claim: Claim(3),
            heir: broker,
        },
        Command::Move(MoveCommand::SetTargets(vec![
            Target {
                topic_partition,
                node: Some(NodeId(0)),
                preferred: true,
            },
            Target {
                topic_partition,
                node: None,
                preferred: false,
            },
        ])),
        Command::Move(MoveCommand::Drain {
            node: NodeId(3),
            on: true,
        }),
        Command::Move(MoveCommand::Leaving { broker }),
        Command::Move(MoveCommand::ReportLoads {
            broker,
            loads: vec![Load {
                topic_partition,
                bytes_in: 1,
                bytes_out: u64::MAX,
                requests: 3,
            }],
        }),
        Command::Move(MoveCommand::Release {
            broker,
            releases: vec![Release {
                topic_partition,
                leader_epoch,
                end: 9,
                to: Some(NodeId(0)),
            }],
        }),
        Command::RegisterBroker(RegisterBroker {
            lived: Some(BrokerEpoch(0)),
            ..register()
        }),
    ]
}

fn proposal(command: Command) -> Proposal {
    Proposal {
        id: CommandId(id(0xabcd)),
        now_ms: 1_700_000_000_000,
        command,
    }
}

#[test]
fn every_command_reads_back_as_it_was() {
    for command in commands() {
        let proposal = proposal(command);
        assert_eq!(Proposal::decode(&proposal.encode()).unwrap(), proposal);
    }
}

/// Stored logs must stay readable: a byte that changes here breaks them.
#[test]
fn the_bytes_of_every_command_are_golden() {
    let mut lines = String::new();
    for command in commands() {
        let bytes = proposal(command).encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        lines += &format!("{hex}\n");
    }
    let golden = include_str!("tests/commands.v1.hex");
    if lines != golden {
        println!("GOLDEN\n{lines}END");
    }
    assert!(lines == golden, "the stored form of commands changed");
    for line in golden.lines() {
        let bytes: Vec<_> = (0..line.len() / 2)
            .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        Proposal::decode(&bytes).unwrap();
    }
}

#[test]
fn an_entry_that_is_not_ours_is_refused() {
    let good = proposal(Command::Goodbye {
        broker: BrokerEpoch(1),
    })
    .encode();
    let mut version = good.clone();
    version[1] = 2;
    for bad in [&version[..], &good[..good.len() - 2], b"", b"\xff\xff"] {
        assert!(Proposal::decode(bad).is_err());
    }
}

#[test]
fn every_answer_reads_back_as_it_was() {
    let (wal, name, reason) = (WalId(id(5)), "n".to_owned(), "r".to_owned());
    let claimed = ClaimedPartition {
        topic_partition: tp(1, 2),
        leader_epoch: LeaderEpoch(3),
        committed_end: 4,
    };
    let answers = [
        Ok(Response::Done),
        Ok(Response::Registered {
            broker: BrokerEpoch(8),
        }),
        Ok(Response::Claimed(Claimed {
            claim: Claim(1),
            backend: WalBackend::Object,
            trim: 7,
            partitions: vec![claimed],
        })),
        Ok(Response::Topic {
            id: TopicId(id(1)),
            partitions: 3,
        }),
        Ok(Response::Committed(vec![
            SliceOutcome::Committed,
            SliceOutcome::Dropped,
        ])),
        Ok(Response::Committed(vec![])),
        Ok(Response::LogStart { offset: 0 }),
        Ok(Response::Released {
            leader_epoch: LeaderEpoch(4),
            broker: None,
        }),
        Ok(Response::Released {
            leader_epoch: LeaderEpoch(4),
            broker: Some(BrokerEpoch(0)),
        }),
        Ok(Response::ProducerIds { first: 0, count: 1 }),
        Ok(Response::Many(vec![
            Ok(Response::Done),
            Err(Refusal::NotReady {
                reason: reason.clone(),
            }),
        ])),
        Ok(Response::Many(Vec::new())),
        Err(Refusal::Conflict {
            reason: reason.clone(),
        }),
        Err(Refusal::NotReady {
            reason: reason.clone(),
        }),
        Err(Refusal::StaleBroker {
            broker: BrokerEpoch(u64::MAX),
        }),
        Err(Refusal::StaleWal {
            wal,
            reason: reason.clone(),
        }),
        Err(Refusal::StaleLeader {
            partition: tp(1, 2),
            given: LeaderEpoch(-1),
            current: LeaderEpoch(i32::MAX),
        }),
        Err(Refusal::Quarantined {
            wal,
            reason: reason.clone(),
        }),
        Err(Refusal::NodeInUse { node: NodeId(-3) }),
        Err(Refusal::TopicExists { name: name.clone() }),
        Err(Refusal::UnknownTopic { name: name.clone() }),
        Err(Refusal::UnknownPartition {
            partition: tp(1, 2),
        }),
        Err(Refusal::InvalidTopicName {
            name: name.clone(),
            reason: reason.clone(),
        }),
        Err(Refusal::InvalidPartitions {
            reason: reason.clone(),
        }),
        Err(Refusal::InvalidReplicationFactor { given: -2 }),
        Err(Refusal::InvalidAssignment {
            reason: reason.clone(),
        }),
        Err(Refusal::InvalidConfig {
            name,
            reason: reason.clone(),
        }),
        Err(Refusal::Invalid {
            reason: reason.clone(),
        }),
        Err(Refusal::LimitReached {
            what: reason.clone(),
        }),
        Err(Refusal::Corrupt { reason }),
        Err(Refusal::LevelTooLow { needs: 2, level: 1 }),
    ];
    for answer in answers {
        assert_eq!(decode_answer(&encode_answer(&answer)).unwrap(), answer);
    }
    assert!(decode_answer(b"").is_err());
}
