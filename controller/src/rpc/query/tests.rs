use std::sync::Arc;

use super::*;
use crate::types::{Digest, ObjectRef, SliceRef};
use protocol::TopicId;
use uuid::Uuid;

fn tp() -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(1)), 3)
}

/// Two slices of each object.
fn state(slices: i64) -> PartitionState {
    let slice = |n: i64| {
        let digest = Digest::Crc32([7; 4]);
        SliceRef {
            topic_partition: tp(),
            leader_epoch: LeaderEpoch(2),
            first_offset: 10 * n,
            end_offset: 10 * n + 10,
            max_timestamp_ms: n,
            bytes: 100,
            object: Arc::new(ObjectRef {
                key: format!("{}/{}", "k".repeat(1000), n / 2),
                length: 1000,
                digest: digest.clone(),
            }),
            index_position: 5,
            index_length: 6,
            index_digest: digest,
            checkpoint: n % 2 == 0,
        }
    };
    PartitionState {
        topic_partition: tp(),
        leader: Some(BrokerEpoch(4)),
        leader_epoch: LeaderEpoch(2),
        awaits: Some(WalId(Uuid::from_u128(8))),
        log_start: 3,
        committed_end: 10 * slices,
        epochs: vec![(LeaderEpoch(1), 0), (LeaderEpoch(2), 7)],
        slices: (0..slices).map(slice).collect(),
        gaps: vec![(1, 2)],
    }
}

/// The answer to the next question of `pages`.
fn answer(state: &PartitionState, pages: &Pages) -> wire::Reply {
    let asked = pages.next().partition.unwrap();
    assert_eq!(get_asked(asked.partition).unwrap(), tp());
    let page = put_page(state, asked.from);
    assert!(page.encoded_len() < crate::limits::MAX_RPC_BYTES / 2);
    wire::Reply {
        partition: Some(page),
        ..Default::default()
    }
}

#[test]
fn a_partition_comes_whole_in_as_many_pages_as_it_needs() {
    for (slices, least) in [(0, 1), (1, 1), (5000, 3)] {
        let state = state(slices);
        let (mut pages, mut count) = (Pages::new(tp()), 0);
        let found = loop {
            count += 1;
            match pages.add(answer(&state, &pages)).unwrap() {
                Added::More => {}
                Added::Done(found) => break found,
                Added::Changed => panic!("it did not"),
            }
        };
        assert_eq!(*found.unwrap(), state);
        assert!(count >= least, "{slices} slices in {count} pages");
    }
}

#[test]
fn a_partition_that_changes_between_pages_is_asked_for_anew() {
    let before = state(5000);
    let mut grown = state(5001);
    let mut moved = before.clone();
    moved.leader_epoch = LeaderEpoch(3);
    let mut replaced = before.clone();
    Arc::make_mut(&mut replaced.slices[1].object).key = "else".to_owned();
    grown.committed_end = before.committed_end;
    for after in [Some(grown), Some(moved), Some(replaced), None] {
        let mut pages = Pages::new(tp());
        assert!(matches!(
            pages.add(answer(&before, &pages)).unwrap(),
            Added::More
        ));
        let next = match &after {
            Some(after) => answer(after, &pages),
            None => wire::Reply::default(),
        };
        assert!(matches!(pages.add(next).unwrap(), Added::Changed));
    }
    let none = Pages::new(tp()).add(wire::Reply::default()).unwrap();
    assert!(matches!(none, Added::Done(None)));
}

#[test]
fn a_page_that_leads_nowhere_is_refused() {
    let mut reply = answer(&state(0), &Pages::new(tp()));
    reply.partition.as_mut().unwrap().more = true;
    assert!(Pages::new(tp()).add(reply).is_err());
}

#[test]
fn condemned_objects_fill_an_answer_and_no_more() {
    let object = |n: i64| Condemned {
        key: format!("{n:0>1000}"),
        condemned_at_ms: n,
    };
    let all: Vec<_> = (0..5000).map(object).collect();
    let put = put_condemned(all.clone());
    assert!(put.len() > 1000 && put.len() < 5000, "{}", put.len());
    let got: Vec<_> = put.into_iter().map(get_condemned).collect();
    assert_eq!(got[..], all[..got.len()]);
}
