//! What nodes of different builds say to each other.

use prost::Message;

use super::wire::*;
use crate::command::wire::{Object, Slice};
use crate::raft::wire::{LogId, Vote};

fn vote() -> Option<Vote> {
    Some(Vote {
        term: 7,
        node: 2,
        committed: true,
    })
}

fn log_id(index: u64) -> Option<LogId> {
    Some(LogId {
        term: 7,
        node: 2,
        index,
    })
}

fn member(node: u64) -> Member {
    Member {
        node,
        address: format!("n{node}:9093"),
        directory: vec![u8::try_from(node).unwrap(); 16],
        learner: false,
    }
}

fn partition() -> Option<WirePartition> {
    Some(WirePartition {
        topic: vec![1; 16],
        partition: 5,
    })
}

fn slice() -> Slice {
    Slice {
        object: 1,
        leader_epoch: 3,
        first_offset: 10,
        span: 5,
        max_timestamp_ms: -1,
        bytes: 1 << 40,
        index_position: 99,
        index_length: 77,
        index_digest: None,
        checkpoint: true,
    }
}

/// As a line, if it reads back as it was.
fn line<M: Message + Default + PartialEq>(name: &str, message: &M) -> String {
    let bytes = message.encode_to_vec();
    assert!(M::decode(&*bytes).unwrap() == *message, "{name}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {hex}").trim_end().to_owned() + "\n"
}

/// Between voters. Every field is named: a new one belongs into the golden file, too.
fn of_raft() -> String {
    let append = Append {
        vote: vote(),
        previous: log_id(10),
        committed: log_id(9),
        entries: vec![b"one".as_slice().into(), b"".as_slice().into()],
    };
    let appended = Appended {
        durable: log_id(12),
        conflict: log_id(11),
        higher: vote(),
    };
    let ask = AskVote {
        vote: vote(),
        last: log_id(12),
        transfer: true,
    };
    let voted = Voted {
        vote: vote(),
        last: log_id(12),
        granted: true,
    };
    let chunk = SnapshotChunk {
        vote: vote(),
        total: 1 << 33,
        bytes: b"piece".as_slice().into(),
    };
    let transfer = Transfer {
        from: vote(),
        to: 3,
        last: log_id(12),
    };
    [
        line("Append", &append),
        line("Appended", &appended),
        line("AskVote", &ask),
        line("Voted", &voted),
        line("SnapshotChunk", &chunk),
        line("Installed", &Installed { vote: vote() }),
        line("Transfer", &transfer),
    ]
    .concat()
}

/// Of anybody to a controller.
fn asked() -> String {
    let submit = Submit {
        proposal: b"proposal".as_slice().into(),
        death_proven: true,
    };
    let change = ChangeVoter {
        node: 4,
        address: Some("n4:9093".to_owned()),
        directory: vec![4; 16],
    };
    let keys = Keys {
        keys: vec!["a/b".to_owned(), String::new()],
    };
    let query = Query {
        partition: Some(AskPartition {
            partition: partition(),
            from: 6,
        }),
        bytes: partition(),
        condemned: Some(AskCondemned {
            before_ms: 1_700_000_000_000,
            limit: 1000,
            after: Some(CondemnedObject {
                key: "a/b".to_owned(),
                at_ms: 1_600_000_000_000,
            }),
        }),
        orphans: Some(keys),
        check: Some(b"check".to_vec()),
        trim: Some(vec![5; 16]),
    };
    let ask = Ask {
        submit: Some(submit),
        read_index: Some(Nothing {}),
        renew: Some(8),
        change_voter: Some(change),
        redirect: true,
        query: Some(query),
        quorum: Some(Nothing {}),
        applied: 77,
        level: 2,
        store_answers: true,
    };
    let piece = Piece {
        bytes: b"delta".as_slice().into(),
        more: true,
    };
    [
        line("Nothing", &Nothing {}),
        line("Ask", &ask),
        line("Watch", &Watch {}),
        line("Piece", &piece),
    ]
    .concat()
}

/// Of a controller to anybody.
fn answered() -> String {
    let range = Range {
        epoch: 3,
        from: 0,
        to: 15,
    };
    let page = PartitionPage {
        leader: Some(9),
        leader_epoch: 3,
        awaits: Some(vec![5; 16]),
        log_start: 1,
        committed_end: 15,
        epochs: vec![range],
        gaps: vec![range],
        objects: vec![Object {
            key: "data/0".to_owned(),
            length: 1 << 41,
            digest: None,
        }],
        slices: vec![slice()],
        mark: 0xdead_beef,
        more: true,
    };
    let reply = Reply {
        partition: Some(page),
        bytes: Some(1 << 40),
        condemned: vec![CondemnedObject {
            key: "data/1".to_owned(),
            at_ms: 1_700_000_000_000,
        }],
        keys: vec!["data/2".to_owned()],
        answer: b"answer".to_vec(),
        trim: Some(7),
    };
    let standing = Standing {
        member: Some(member(1)),
        holds: Some(12),
        heard_ms: Some(1_700_000_000_000),
    };
    let quorum = Quorum {
        leader: 2,
        term: 7,
        committed: 12,
        voters: vec![standing.clone()],
        observers: vec![standing],
    };
    let outcome = Outcome {
        index: 12,
        answer: b"response".as_slice().into(),
        granted: true,
        elsewhere: Some(member(2)),
        reply: Some(reply),
        quorum: Some(quorum),
        others_reach_store: true,
        lease_ms: 6000,
    };
    let identity = Identity {
        node: 1,
        directory: vec![1; 16],
        initialized: true,
        leader: Some(member(2)),
        term: 7,
        members: vec![member(1), member(2)],
        level: 2,
    };
    let learner = Member {
        learner: true,
        ..member(3)
    };
    [
        line("Outcome", &outcome),
        line("Identity", &identity),
        line("Member", &learner),
    ]
    .concat()
}

/// Nodes of different builds work together: a byte that changes here parts them.
#[test]
fn the_bytes_of_every_message_are_golden() {
    let lines = [of_raft(), asked(), answered()].concat();
    let golden = include_str!("tests/messages.v1.hex");
    if lines != golden {
        println!("GOLDEN\n{lines}END");
    }
    assert!(lines == golden, "what nodes say to each other changed");
}
