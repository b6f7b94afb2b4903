//! openraft's own suite on our log and machine, then our own: damage, crashes, full disks.

use std::path::Path;

use env::Env;
use env::sim::SimHost;
use openraft::StorageError;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use uuid::Uuid;
use wal::WalId;

use super::types::{Entry, LogId, Vote, get_log_id, wire};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::level::NEWEST_LEVEL;

const LOG: WalId = WalId(Uuid::from_u128(42));

async fn open(env: &Env) -> Result<(LogStore, LogKeeper), Error> {
    let opened = LogStore::open(env, Path::new("/raft/log"), LOG, true).await?;
    Ok(opened.expect("it is made"))
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, LogKeeper> for Builder {
    async fn build(&self) -> Result<(LogKeeper, LogStore, Machine), StorageError<TypeConfig>> {
        let env = SimHost::alone(1).env();
        let (store, keeper) = open(&env).await.unwrap();
        let snapshots = Snapshots::open(env.disk.clone(), "/raft/snapshots".into()).unwrap();
        let io = env.threads.io_thread("files");
        let machine = Machine::open(snapshots, io, NEWEST_LEVEL).await.unwrap();
        Ok((keeper, store, machine))
    }
}

#[tokio::test(start_paused = true)]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    get_log_id(&wire::LogId {
        term,
        node: 1,
        index,
    })
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = openraft::EntryPayload::Normal(ProposalBytes(vec![index as u8; 700].into()));
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

/// Appends and waits until it is durable.
async fn append(store: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<()> {
    let (done, durable) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(done)).await?;
    durable
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("dropped")))
}

async fn indexes(store: &mut LogStore) -> Vec<(u64, u64)> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    let id = |entry: &Entry| {
        (
            entry.log_id().committed_leader_id().term,
            entry.log_id().index(),
        )
    };
    entries.iter().map(id).collect()
}

/// What is known to be durable, for the crash test.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    vote: u64,
    last: Option<(u64, u64)>,
    purged: u64,
}

/// Votes, appends, a cut and a purge; `step` is told what is durable after each.
async fn script(env: &Env, step: &mut impl FnMut(Known)) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let (mut store, keeper) = open(env).await.map_err(|e| text(&e))?;
    let mut known = Known::default();
    for round in 1..=4u64 {
        store
            .save_vote(&Vote::new(round, 1))
            .await
            .map_err(|e| text(&e))?;
        known.vote = round;
        step(known.clone());
        let next = known.last.map_or(0, |(_, index)| index + 1);
        for index in next..next + 3 {
            append(&mut store, vec![entry(round, index)])
                .await
                .map_err(|e| text(&e))?;
            known.last = Some((round, index));
            step(known.clone());
        }
        if round == 2 {
            store
                .truncate_after(Some(log_id(2, 3)))
                .await
                .map_err(|e| text(&e))?;
            known.last = Some((2, 3));
            step(known.clone());
        }
        if round == 3 {
            store.purge(log_id(1, 2)).await.map_err(|e| text(&e))?;
            known.purged = 2;
            step(known.clone());
        }
    }
    keeper.close().await.map_err(|e| text(&e))
}

/// What a log holds after a restart.
async fn found(env: &Env) -> Known {
    let (mut store, keeper) = open(env).await.unwrap();
    let state = store.get_log_state().await.unwrap();
    let vote = store.read_vote().await.unwrap();
    let all = indexes(&mut store).await;
    assert!(
        all.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1),
        "a hole in {all:?}"
    );
    keeper.close().await.unwrap();
    Known {
        vote: vote.map_or(0, |vote| vote.leader_id().term),
        last: state
            .last_log_id
            .map(|id| (id.committed_leader_id().term, id.index())),
        purged: state.last_purged_log_id.map_or(0, |id| id.index()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_every_disk_operation_loses_nothing_that_was_durable() {
    let clean = SimHost::alone(7);
    let mut steps = Vec::new();
    script(&clean.env(), &mut |known| steps.push(known))
        .await
        .unwrap();
    assert_eq!(found(&clean.env()).await, *steps.last().unwrap());
    let ops = clean.disk.ops();
    assert!(ops > 30, "{ops} operations");
    for op in 0..ops {
        for power in [false, true] {
            let host = SimHost::alone(1000 + op);
            host.disk.crash_at(op);
            let mut reached = 0usize;
            let _ = script(&host.env(), &mut |_| reached += 1).await;
            if power {
                host.disk.power_loss();
            } else {
                host.disk.kill();
            }
            let found = found(&host.env()).await;
            // Either what was known, or with the next step, whose outcome is unknown.
            let before = reached
                .checked_sub(1)
                .map_or_else(Known::default, |at| steps[at].clone());
            let after = steps.get(reached).unwrap_or(&before);
            assert!(
                found == before || found == *after,
                "op {op}: {found:?}, not {before:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_appends_share_one_sync() {
    let host = SimHost::alone(3);
    let (mut store, keeper) = open(&host.env()).await.unwrap();
    append(&mut store, vec![entry(1, 0)]).await.unwrap();
    let before = host.disk.ops();
    let mut waiting = Vec::new();
    for index in 1..=100 {
        let (done, durable) = TypeConfig::oneshot();
        store
            .append(vec![entry(1, index)], IOFlushed::signal(done))
            .await
            .unwrap();
        waiting.push(durable);
    }
    for durable in waiting {
        durable.await.unwrap().unwrap();
    }
    let used = host.disk.ops() - before;
    assert!(used <= 6, "{used} operations for 100 appends");
    keeper.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_final() {
    let host = SimHost::alone(4);
    let (mut store, keeper) = open(&host.env()).await.unwrap();
    append(&mut store, vec![entry(1, 0)]).await.unwrap();
    host.disk.fail_next_sync();
    assert!(append(&mut store, vec![entry(1, 1)]).await.is_err());
    assert!(
        append(&mut store, vec![entry(1, 2)]).await.is_err(),
        "never tried again"
    );
    assert!(keeper.failure().borrow().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let host = SimHost::alone(5);
    let (mut store, keeper) = open(&host.env()).await.unwrap();
    let mut index = 0;
    append(&mut store, vec![entry(1, index)]).await.unwrap();
    host.disk.set_capacity(Some(host.disk.used()));
    let mut waiting = None;
    while waiting.is_none() {
        index += 1;
        let (done, durable) = TypeConfig::oneshot();
        store
            .append(vec![entry(1, index)], IOFlushed::signal(done))
            .await
            .unwrap();
        let soon = std::time::Duration::from_secs(5);
        let mut durable = Box::pin(durable);
        match tokio::time::timeout(soon, &mut durable).await {
            Ok(result) => result.unwrap().unwrap(),
            Err(_) => waiting = Some(durable),
        }
        assert!(index < 100_000, "the disk never fills");
    }
    host.disk.set_capacity(None);
    waiting.unwrap().await.unwrap().unwrap();
    keeper.close().await.unwrap();
    let (mut store, _keeper) = open(&host.env()).await.unwrap();
    assert_eq!(indexes(&mut store).await.last(), Some(&(1, index)));
}

#[tokio::test(start_paused = true)]
async fn damage_to_what_was_acknowledged_is_named() {
    let host = SimHost::alone(6);
    let mut last = Known::default();
    script(&host.env(), &mut |known| last = known)
        .await
        .unwrap();
    let files = host.disk.files();
    let path = files
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "wal"))
        .unwrap();
    let sound = host.disk.contents(path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut detected = 0;
    for at in (0..used).step_by(512) {
        host.disk.flip(path, at, 0x10);
        match open(&host.env()).await {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                detected += 1;
            }
            Ok((mut store, keeper)) => {
                // Only the mark of the clean stop may be taken for a torn tail: it held nothing.
                assert!(at >= used / 4096 * 4096, "a flip at {at} of {used} went by");
                let last_index = last.last.map(|(_, index)| index);
                let found = indexes(&mut store).await.last().map(|(_, index)| *index);
                assert_eq!(found, last_index);
                drop(keeper);
            }
        }
        host.disk.replace(path, sound.clone());
    }
    assert!(detected > 20, "{detected}");
    assert_eq!(found(&host.env()).await, last);
}

/// Stored logs must stay readable: a byte that changes here breaks them.
#[test]
fn the_bytes_of_entries_votes_and_snapshots_are_golden() {
    use openraft::EntryPayload;
    use prost::Message;

    use super::types::{decode_entry, encode_entry, put_log_id, put_vote};

    let voter = |address: &str| Voter {
        address: address.to_owned(),
        directory: 0,
    };
    let nodes = [(1, voter("a:1")), (2, voter("b:2"))];
    let members =
        openraft::Membership::new(vec![[1].into()], std::collections::BTreeMap::from(nodes));
    let members = members.unwrap();
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(ProposalBytes([1, 2, 3].into())),
        EntryPayload::Membership(members.clone()),
    ];
    let mut all = Vec::new();
    for payload in payloads {
        let entry = Entry {
            log_id: log_id(7, 300),
            payload,
        };
        let bytes = encode_entry(&entry);
        assert_eq!(decode_entry(&bytes).unwrap(), entry);
        all.push(bytes);
    }
    all.push(put_vote(&Vote::new_committed(4, 1)).encode_to_vec());
    all.push(put_log_id(&log_id(5, 6)).encode_to_vec());
    all.push(wire::TruncateFrom { index: 9 }.encode_to_vec());
    let last_membership = super::types::StoredMembers::new(Some(log_id(1, 0)), members);
    let meta = snapshots::SnapshotMeta {
        last_log_id: Some(log_id(5, 6)),
        last_membership,
    };
    let file = snapshots::encode(&meta, b"state");
    assert_eq!(
        snapshots::decode(&file).unwrap(),
        (meta, b"state"[..].into())
    );
    all.push(file);
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let lines: String = all.iter().map(|bytes| hex(bytes) + "\n").collect();
    let golden = include_str!("tests/records.v1.hex");
    if lines != golden {
        println!("GOLDENRAFT\n{lines}END");
    }
    assert!(lines == golden, "the stored form of the raft log changed");
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let host = SimHost::alone(8);
    let snapshots = Snapshots::open(host.env().disk, "/s".into()).unwrap();
    assert!(snapshots.newest().unwrap().is_none());
    let meta = |index| snapshots::SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        last_membership: Default::default(),
    };
    for index in 1..=4 {
        snapshots.write(&meta(index), &[index as u8; 5000]).unwrap();
    }
    assert_eq!(snapshots.oldest_index().unwrap(), Some(3), "two are kept");
    let files = host.disk.files();
    assert_eq!(files.len(), 2);
    let sound = host.disk.contents(&files[1]).unwrap();
    for at in (0..sound.len() as u64).step_by(97) {
        host.disk.flip(&files[1], at, 1);
        let (found, data) = snapshots.newest().unwrap().unwrap();
        assert_eq!((found, &data[..]), (meta(3), &[3; 5000][..]), "byte {at}");
        host.disk.replace(&files[1], sound.clone());
    }
    host.disk.flip(&files[0], 40, 1);
    host.disk.flip(&files[1], 40, 1);
    assert_eq!(snapshots.newest().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_crash_at_every_operation_of_a_snapshot_leaves_a_whole_one() {
    let clean = SimHost::alone(9);
    let write = |host: &SimHost| -> Result<u64, Error> {
        let snapshots = Snapshots::open(host.env().disk, "/s".into())?;
        let mut written = 0;
        for index in 1..=4 {
            let last_log_id = Some(log_id(1, index));
            let meta = snapshots::SnapshotMeta {
                last_log_id,
                last_membership: Default::default(),
            };
            snapshots.write(&meta, &[index as u8; 9000])?;
            written = index;
        }
        Ok(written)
    };
    assert_eq!(write(&clean).unwrap(), 4);
    for op in 0..clean.disk.ops() {
        let host = SimHost::alone(2000 + op);
        host.disk.crash_at(op);
        let mut written = 0;
        let snapshots = Snapshots::open(host.env().disk, "/s".into());
        if let Ok(snapshots) = snapshots {
            for index in 1..=4 {
                let meta = snapshots::SnapshotMeta {
                    last_log_id: Some(log_id(1, index)),
                    last_membership: Default::default(),
                };
                match snapshots.write(&meta, &[index as u8; 9000]) {
                    Ok(()) => written = index,
                    Err(_) => break,
                }
            }
        }
        host.disk.power_loss();
        let after = Snapshots::open(host.env().disk, "/s".into()).unwrap();
        let newest = after.newest().unwrap();
        let index = newest.map_or(0, |(meta, _)| meta.last_log_id.unwrap().index());
        assert!(
            index == written || index == written + 1,
            "op {op}: {index}, wrote {written}"
        );
    }
}
