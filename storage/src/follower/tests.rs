//! A reader beside the leader: every record once and in order, whatever the leader, the compactor
//! and the collector do meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use proptest::prelude::*;
use protocol::{BatchView, BrokerEpoch, LeaderEpoch, NodeId};

use super::*;
use crate::harness::{Gate, GateStore, World, batch, put, read_all, tp};
use crate::{ErrorKind, StorageParts};

/// Another broker over the same store and catalog.
fn beside(world: &World) -> Storage {
    Storage::new(StorageParts {
        node: NodeId(9),
        broker_epoch: BrokerEpoch(99),
        ..world.parts()
    })
}

/// Reads as a consumer does until it is sent elsewhere: (base, last) of what came, and where it
/// was sent from.
async fn read_on(storage: &Storage, from: i64, max_bytes: usize) -> (Vec<(i64, i64)>, i64) {
    let mut next = from;
    let mut found = Vec::new();
    loop {
        let isolation = Isolation::ReadUncommitted;
        let read = storage.read_followed(tp(0), next, max_bytes, true, isolation);
        let read = match read.await.expect("reads") {
            Followed::Found(read) => read,
            Followed::Elsewhere(_) => return (found, next),
        };
        assert!(!read.batches.is_empty(), "an answer brings a reader on");
        for (at, bytes) in read.batches.iter().enumerate() {
            let view = BatchView::new(bytes).expect("one batch");
            view.validate().expect("checksums are right");
            if at == 0 {
                assert!(view.base_offset() <= next && next <= view.last_offset());
            } else {
                assert_eq!(view.base_offset(), next, "no skip, no repeat");
            }
            assert!(view.next_offset() <= read.position.high_watermark);
            found.push((view.base_offset(), view.last_offset()));
            next = view.next_offset();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_read_and_what_is_not_is_the_leaders() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    assert_eq!(read_on(&reader, 0, 1 << 20).await, (vec![], 0));
    for _ in 0..5 {
        put(&partition, &batch(3, 100, 1)).await.unwrap();
    }
    assert_eq!(
        read_on(&reader, 0, 1 << 20).await,
        (vec![], 0),
        "only in the log"
    );
    leader.drain().await.unwrap();
    for _ in 0..2 {
        put(&partition, &batch(2, 100, 1)).await.unwrap();
    }
    let expected: Vec<_> = (0..5).map(|n| (3 * n, 3 * n + 2)).collect();
    for max_bytes in [1, 500, 1 << 20] {
        assert_eq!(read_on(&reader, 0, max_bytes).await, (expected.clone(), 15));
    }
    // Beyond what is committed, and beyond the log, the leader answers.
    for offset in [15, 17, 19, 20, 1 << 40, -1] {
        assert_eq!(read_on(&reader, offset, 1 << 20).await, (vec![], offset));
    }
    leader.drain().await.unwrap();
    assert_eq!(read_on(&reader, 15, 1 << 20).await.1, 19);
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn no_room_is_no_end() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    put(&partition, &batch(3, 100, 1)).await.unwrap();
    leader.drain().await.unwrap();
    let isolation = Isolation::ReadCommitted;
    for max_bytes in [0, 10] {
        let read = reader.read_followed(tp(0), 0, max_bytes, false, isolation);
        let Followed::Found(read) = read.await.unwrap() else {
            panic!("there is something")
        };
        assert_eq!((read.bytes, read.position.high_watermark), (0, 3));
        assert_eq!(read.aborted, Some(Vec::new()));
        let read = reader.read_followed(tp(0), 3, max_bytes, false, isolation);
        assert!(matches!(read.await.unwrap(), Followed::Elsewhere(_)));
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn log_start_and_deletion_are_seen_in_time() {
    let world = World::new();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    for _ in 0..5 {
        put(&partition, &batch(3, 100, 1)).await.unwrap();
    }
    leader.drain().await.unwrap();
    assert_eq!(read_on(&reader, 0, 1 << 20).await.1, 15);
    partition.delete_records(7).await.unwrap();
    tokio::time::sleep(FOLLOWER_AGE + Duration::from_secs(1)).await;
    assert_eq!(
        read_on(&reader, 0, 1 << 20).await,
        (vec![], 0),
        "below log start"
    );
    assert_eq!(read_on(&reader, 7, 1 << 20).await.0.first(), Some(&(6, 8)));
    world.catalog.delete(tp(0));
    tokio::time::sleep(FOLLOWER_AGE + Duration::from_secs(1)).await;
    for _ in 0..2 {
        let isolation = Isolation::ReadUncommitted;
        let read = reader.read_followed(tp(0), 7, 1 << 20, true, isolation);
        assert!(matches!(read.await, Err(Error::NotLeader { .. })));
    }
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_merged_slice_whose_objects_are_gone_is_found_anew_and_a_lost_one_is_alarmed() {
    let mut world = World::new();
    let store = GateStore::new(&Arc::new(Gate::default()));
    world.store = store.clone();
    world.settings.compaction_slices = 2;
    world.settings.compaction_interval = Duration::from_secs(30);
    // Nothing is kept, so that every read goes to the store.
    world.settings.block_cache_bytes = 0;
    world.settings.index_cache_bytes = 0;
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    let mut expected = Vec::new();
    for n in 0..4 {
        put(&partition, &batch(2, 100, 1)).await.unwrap();
        expected.push((2 * n, 2 * n + 1));
        leader.drain().await.unwrap();
    }
    let before = partition.slices();
    assert_eq!(read_on(&reader, 0, 1).await, (expected.clone(), 8));
    while partition.slices() == before {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let kept: Vec<_> = partition
        .slices()
        .into_iter()
        .map(|s| s.object.key)
        .collect();
    let gone = before
        .iter()
        .filter(|slice| !kept.contains(&slice.object.key));
    for slice in gone {
        world
            .store
            .delete(&Path::from(slice.object.key.as_str()))
            .await
            .unwrap();
    }
    assert_eq!(read_on(&reader, 0, 1).await, (expected.clone(), 8));
    assert_eq!(reader.metrics().lost.get(), 0);
    for slice in partition.slices() {
        world
            .store
            .delete(&Path::from(slice.object.key.as_str()))
            .await
            .unwrap();
    }
    let read = reader.read_followed(tp(0), 0, 1, true, Isolation::ReadUncommitted);
    assert!(matches!(read.await, Err(Error::Lost { .. })));
    assert_eq!(reader.metrics().lost.get(), 1);
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_an_error_and_no_end() {
    let mut world = World::new();
    let store = GateStore::new(&Arc::new(Gate::default()));
    world.store = store.clone();
    let (leader, reader) = (world.storage(), beside(&world));
    let partition = world.open(&leader, 0, 1).await;
    put(&partition, &batch(2, 100, 1)).await.unwrap();
    leader.drain().await.unwrap();
    let read = |offset| reader.read_followed(tp(0), offset, 100, true, Isolation::ReadUncommitted);
    store.failing_gets.store(1 << 20, Ordering::Relaxed);
    assert_eq!(read(0).await.unwrap_err().kind(), ErrorKind::Retry);
    store.failing_gets.store(0, Ordering::Relaxed);
    assert!(matches!(read(0).await.unwrap(), Followed::Found(_)));
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_read_for_longest_makes_room() {
    let world = World::new();
    let reader = beside(&world);
    for partition in 0..=MAX_FOLLOWED as i32 {
        world.catalog.lead(tp(partition), LeaderEpoch(1));
        let read = reader.read_followed(tp(partition), 0, 1, true, Isolation::ReadUncommitted);
        assert!(matches!(read.await.unwrap(), Followed::Elsewhere(_)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let held = reader.shared().followers.0.lock();
    assert_eq!(held.len(), MAX_FOLLOWED);
    assert!(!held.contains_key(&tp(0)) && held.contains_key(&tp(1)));
}

#[tokio::test(start_paused = true)]
async fn what_lies_ahead_is_counted_in_proportion() {
    let world = World::new();
    let leader = world.storage();
    let partition = world.open(&leader, 0, 1).await;
    for _ in 0..2 {
        for _ in 0..10 {
            put(&partition, &batch(1, 1_000, 1)).await.unwrap();
        }
        leader.drain().await.unwrap();
    }
    let all = partition.committed_bytes_from(0);
    assert!(all > 20_000);
    assert_eq!(partition.committed_bytes_from(5), all * 3 / 4);
    assert_eq!(partition.committed_bytes_from(10), all / 2);
    assert_eq!(partition.committed_bytes_from(20), 0);
    assert_eq!(partition.committed_bytes_from(i64::MAX), 0);
    assert_eq!(partition.committed_bytes_from(-5), all);
    leader.shutdown().await;
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Upload,
    /// The leader dies; another one takes over what was uploaded.
    Takeover,
    Wait(u64),
    LogStart(u8),
    Read {
        from: u8,
        max_bytes: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..4).prop_map(Step::Put),
        3 => Just(Step::Upload),
        1 => Just(Step::Takeover),
        2 => (1u64..40).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::LogStart),
        5 => (any::<u8>(), prop_oneof![Just(1usize), 100usize..2_000, Just(1 << 20)])
            .prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Whatever the reader gives is what the leader would have given, as far as it gives any, and it
/// reaches the committed end.
async fn run(steps: Vec<Step>) {
    let mut world = World::new();
    world.settings.compaction_slices = 2;
    world.settings.compaction_interval = Duration::from_secs(5);
    let reader = beside(&world);
    let mut leader = world.storage();
    let mut partition = world.open(&leader, 0, 1).await;
    let mut epoch = 1;
    for step in steps {
        match step {
            Step::Put(count) => {
                put(&partition, &batch(count, 300, 1)).await.unwrap();
            }
            Step::Upload => leader.drain().await.unwrap(),
            Step::Takeover => {
                leader.drain().await.unwrap();
                leader.shutdown().await;
                world.restart();
                epoch += 1;
                leader = world.storage();
                partition = world.open(&leader, 0, epoch).await;
            }
            Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::LogStart(part) => {
                let position = partition.position();
                let span = position.committed_end - position.log_start;
                let to = position.log_start + span * i64::from(part) / 256;
                partition.delete_records(to).await.unwrap();
            }
            Step::Read { from, max_bytes } => {
                let position = partition.position();
                let span = position.log_end - position.log_start;
                let from = position.log_start + span * i64::from(from) / 256;
                let (found, end) = read_on(&reader, from, max_bytes).await;
                let all = read_all(&partition, from, 1 << 20).await;
                assert!(all.starts_with(&found), "{found:?} of {all:?} from {from}");
                // An upload may end meanwhile.
                let ends = [position, partition.position()].map(|one| one.committed_end.max(from));
                assert!((ends[0]..=ends[1]).contains(&end), "{end} of {ends:?}");
            }
        }
    }
    leader.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn every_record_is_read_once_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}
