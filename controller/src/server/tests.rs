mod early;
mod elections;
mod faults;
mod observers;
mod quorum;
mod restarts;
mod tethers;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use env::sim::{DiskSpeed, SimHost};
use parking_lot::Mutex;
use protocol::{BrokerEpoch, LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::*;
use crate::command::{
    CommitUpload, CreateTopic, HighWatermark, RegisterBroker, Response, WalBackend,
};
use crate::command::{ConfigOp, ConfigResource};
use crate::error::Refusal;
use crate::lease::{LeaseState, Marks};
use crate::level::{NEWEST_LEVEL, OLDEST_LEVEL};
use crate::state::State;
use crate::types::{Digest, ObjectRef, SliceOutcome, SliceRef};

fn settings(dir: &std::path::Path) -> ControllerSettings {
    ControllerSettings {
        dir: dir.join("raft"),
        node: NodeId(0),
        voters: [(NodeId(0), "127.0.0.1:0".to_owned())].into(),
        listener: None,
        cluster: None,
        generation: 1,
        lease: Duration::from_secs(6),
        tls: None,
        newest_level: NEWEST_LEVEL,
    }
}

async fn start(dir: &std::path::Path) -> Controller {
    Controller::start(env::real::env(), settings(dir))
        .await
        .unwrap()
}

fn register(incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        node: NodeId(0),
        incarnation: Uuid::from_u128(incarnation),
        listeners: Vec::new(),
        rack: None,
        directory: Uuid::nil(),
        lived: None,
    }
}

/// The files as a kill now would leave them.
fn copy_of(dir: &std::path::Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .args([
            "-r",
            dir.join("raft").to_str().unwrap(),
            copy.path().to_str().unwrap(),
        ])
        .status()
        .unwrap();
    assert!(status.success());
    copy
}

const TOPIC: TopicId = TopicId(Uuid::from_u128(77));
const TP: TopicPartition = TopicPartition {
    topic: TOPIC,
    partition: 0,
};

fn topic(name: &str) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: TOPIC,
        internal: false,
        partitions: 3,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    })
}

fn commit(broker: BrokerEpoch, wal: WalId, groups: (u64, u64), offsets: (i64, i64)) -> Command {
    let key = format!("data/00/0-{broker}-{}", offsets.0);
    let digest = Digest::Crc32([1; 4]);
    let slice = SliceRef {
        topic_partition: TP,
        leader_epoch: LeaderEpoch(0),
        first_offset: offsets.0,
        end_offset: offsets.1,
        max_timestamp_ms: 1,
        bytes: 100,
        object: Arc::new(ObjectRef {
            key,
            length: 1000,
            digest: digest.clone(),
        }),
        index_position: 100,
        index_length: 10,
        index_digest: digest,
        checkpoint: false,
    };
    Command::CommitUpload(CommitUpload {
        broker_epoch: broker,
        wal,
        claim: None,
        from: groups.0,
        to: groups.1,
        slices: vec![slice],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let controller = start(dir.path()).await;
    println!("first start {:?}", began.elapsed());
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    let wal = WalId(Uuid::from_u128(5));
    let open = Command::OpenWal {
        broker,
        wal,
        backend: WalBackend::Disk,
    };
    assert_eq!(client.submit(open).await.unwrap(), Response::Done);
    client.submit(topic("logs")).await.unwrap();
    let image = client.image().borrow().clone();
    assert_eq!(image.controller, Some(NodeId(0)));
    assert_eq!(
        image.topic("logs").unwrap().partitions[0].broker,
        Some(broker)
    );
    let id = client.command_id();
    let round = commit(broker, wal, (0, 5), (0, 10));
    let answer = Response::Committed(vec![SliceOutcome::Committed]);
    assert_eq!(client.submit_as(id, round.clone()).await.unwrap(), answer);
    let began = Instant::now();
    for n in 0..200 {
        let round = commit(broker, wal, (5 + n, 6 + n), (10 + n as i64, 11 + n as i64));
        client.submit(round).await.unwrap();
    }
    println!("200 commits one by one {:?}", began.elapsed());
    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let client = client.clone();
        let command = Command::AllocateProducerIds { broker, count: 1 };
        waiting.spawn(async move { client.submit(command).await.unwrap() });
    }
    let given = waiting
        .join_all()
        .await
        .into_iter()
        .map(|answer| match answer {
            Response::ProducerIds { first, .. } => first,
            other => panic!("{other:?}"),
        });
    let given: std::collections::BTreeSet<_> = given.collect();
    assert_eq!(given.len(), 1000, "no id is given twice");
    println!("1000 commands at once {:?}", began.elapsed());
    let before = client.partition(TP).await.unwrap().unwrap();
    let cluster = client.image().borrow().cluster;
    // No shutdown: the files are as a kill leaves them.
    let dir = copy_of(dir.path());
    drop((client, controller));

    let began = Instant::now();
    let controller = start(dir.path()).await;
    println!("restart {:?}", began.elapsed());
    let client = controller.client();
    assert_eq!(client.partition(TP).await.unwrap().unwrap(), before);
    assert_eq!(client.image().borrow().cluster, cluster);
    assert_eq!(
        client.submit_as(id, round).await.unwrap(),
        answer,
        "done once"
    );
    assert_eq!(
        client.partition(TP).await.unwrap().unwrap().committed_end,
        210
    );
    controller.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_shorten_the_log_and_a_restart_starts_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let controller = start(dir.path()).await;
    let client = controller.client();
    let big = "x".repeat(60_000);
    for round in 1..=5u16 {
        let before = *client.local().shared.snapshot_due().borrow();
        // Nine mebibytes of entries: more than a snapshot waits for.
        for n in 0..150 {
            let changes = vec![(format!("k{n}"), ConfigOp::Set(format!("{round}{big}")))];
            let resource = ConfigResource::Cluster;
            let alter = Command::AlterConfigs {
                resource,
                changes,
                replace: true,
            };
            client.submit(alter).await.unwrap();
        }
        let mut due = client.local().shared.snapshot_due();
        due.wait_for(|due| *due > before).await.unwrap();
        let (name, level) = ("f".to_owned(), round);
        client
            .submit(Command::FinalizeFeature { name, level })
            .await
            .unwrap();
    }
    let files = |what: &str| {
        let path = dir.path().join("raft").join(what);
        let names = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    // The last snapshot may be under way still.
    while files("snapshots")
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
        .count()
        < 2
    {
        tokio::task::yield_now().await;
    }
    controller.shutdown().await.unwrap();
    let before = client.local().shared.read(|state| state.clone());
    drop(client);
    // 45 MiB went in: what only older snapshots needed is gone.
    let log = files("log").len();
    assert!(log <= 16, "{log} segments of 2 MiB");
    assert!(files("snapshots").len() <= 3, "{:?}", files("snapshots"));
    let controller = start(dir.path()).await;
    let after = controller
        .client()
        .local()
        .shared
        .read(|state| state.clone());
    assert_eq!(after, before);
    controller.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_directory_of_another_node_is_refused_and_a_lost_log_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await.unwrap();
    let other = ControllerSettings {
        node: NodeId(1),
        ..settings(dir.path())
    };
    let refused = Controller::start(env::real::env(), other)
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Settings { .. }), "{refused}");
    let cluster = Some(ClusterId(Uuid::from_u128(1)));
    let other = ControllerSettings {
        cluster,
        ..settings(dir.path())
    };
    let refused = Controller::start(env::real::env(), other)
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Settings { .. }), "{refused}");
    let identity = dir.path().join("raft/identity");
    let mut bytes = std::fs::read(&identity).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&identity, bytes).unwrap();
    let refused = Controller::start(env::real::env(), settings(dir.path()))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_begins_with_the_newest_level_and_an_old_one_keeps_its_own() {
    let host = SimHost::alone(5);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    assert_eq!(client.image().borrow().level(), NEWEST_LEVEL);
    let finalize = |level| Command::FinalizeFeature {
        name: VERSION_FEATURE.to_owned(),
        level,
    };
    for level in [0, 1, NEWEST_LEVEL + 1] {
        let refused = client.submit(finalize(level)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{level}: {refused}");
    }
    // As a build that knew nothing of levels leaves it.
    client.local().shared.clear_features();
    assert_eq!(client.local().shared.read(State::level), 1);
    client.local().shared.request_snapshot();
    tokio::time::sleep(Duration::from_secs(1)).await;
    controller.shutdown().await.unwrap();
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    assert_eq!(client.image().borrow().level(), 1, "until it is raised");
    client.submit(finalize(NEWEST_LEVEL)).await.unwrap();
    assert_eq!(client.image().borrow().level(), NEWEST_LEVEL);
    controller.shutdown().await.unwrap();
}

#[tokio::test]
async fn commands_too_large_are_refused_before_they_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let controller = start(dir.path()).await;
    let keys = vec!["k".repeat(1000); 1100];
    let refused = controller
        .client()
        .submit(Command::ForgetCondemned { keys })
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }));
    controller.shutdown().await.unwrap();
}

fn sim_settings() -> ControllerSettings {
    ControllerSettings {
        dir: "/data/raft".into(),
        ..settings(std::path::Path::new("/"))
    }
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_one_directory_proves_nothing_of_another() {
    let host = SimHost::alone(9);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    let at = |incarnation, directory| RegisterBroker {
        directory: Uuid::from_u128(directory),
        ..register(incarnation)
    };
    let first = client.register(at(1, 7), true).await.unwrap();
    let keeper = client.keep_lease(first, ()).await.unwrap();
    // A second process with the same node.id waits, for as long as the first one renews.
    for _ in 0..20 {
        let refused = client.register(at(2, 8), true).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Retry);
        let text = refused.to_string();
        assert!(text.contains("another node.id"), "the remedy: {text}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The same directory, locked anew: the first one is dead.
    let again = client.register(at(3, 7), true).await.unwrap();
    assert!(!client.image().borrow().brokers.contains_key(&first));
    drop(keeper);
    // Without the lock not even that.
    let refused = client.register(at(4, 7), false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry);
    // From elsewhere once the lease has run out.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(client.register(at(5, 8), true).await.unwrap() > again);
    controller.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_lapse_come_back_and_are_fenced_only_by_the_log() {
    let host = SimHost::alone(1);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    // Another process of the node has to wait; one that holds its lock need not.
    let refused = client.register(register(2), false).await.unwrap_err();
    assert_eq!(
        refused.refusal(),
        Some(&Refusal::NodeInUse { node: NodeId(0) })
    );
    let command = Command::RegisterBroker(register(2));
    assert_eq!(
        client.submit(command).await.unwrap_err().kind(),
        ErrorKind::Retry
    );

    let keeper = client.keep_lease(broker, ()).await.unwrap();
    let lease = keeper.lease();
    assert!(lease.valid_now());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(lease.valid_now(), "it is kept");
    assert!(
        client
            .image()
            .borrow()
            .live_brokers()
            .any(|(epoch, _)| epoch == broker)
    );
    drop(keeper);
    let mut image = client.image();
    image
        .wait_for(|image| image.live_brokers().next().is_none())
        .await
        .unwrap();
    assert!(!lease.valid_now(), "it lapsed before it was fenced");
    let fenced = client.renew(&lease, Vec::new()).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    assert!(!lease.valid_now());

    let broker = client.register(register(3), false).await.unwrap();
    let keeper = client.keep_lease(broker, ()).await.unwrap();
    client
        .submit(Command::FenceBroker { broker })
        .await
        .unwrap();
    let mut state = keeper.lease().state();
    state
        .wait_for(|state| *state == LeaseState::Fenced)
        .await
        .unwrap();
    controller.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn renewals_carry_high_watermarks_in_as_many_commands_as_they_need() {
    let host = SimHost::alone(2);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    let (wal, backend) = (WalId(Uuid::from_u128(5)), WalBackend::Disk);
    client
        .submit(Command::OpenWal {
            broker,
            wal,
            backend,
        })
        .await
        .unwrap();
    client.submit(topic("logs")).await.unwrap();
    let mark = |offset| HighWatermark {
        topic_partition: TP,
        leader_epoch: LeaderEpoch(0),
        offset,
    };
    let marks = Told::new((0..25_000).map(mark).collect());
    let keeper = client.keep_lease(broker, marks.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(keeper.lease().valid_now());
    assert_eq!(*marks.reported.lock(), [25_000]);
    let reported = client
        .local()
        .shared
        .read(|state| state.topics.partition(TP).unwrap().reported);
    assert_eq!(reported, 24_999);
    controller.shutdown().await.unwrap();
}

/// Gives the same marks until they are reported; remembers how many times and how many.
#[derive(Clone)]
struct Told {
    marks: Arc<Mutex<Vec<HighWatermark>>>,
    asked: Arc<Mutex<u32>>,
    reported: Arc<Mutex<Vec<usize>>>,
}

impl Told {
    fn new(marks: Vec<HighWatermark>) -> Self {
        Self {
            marks: Arc::new(Mutex::new(marks)),
            asked: Arc::default(),
            reported: Arc::default(),
        }
    }
}

impl Marks for Told {
    fn moved(&mut self) -> Vec<HighWatermark> {
        *self.asked.lock() += 1;
        self.marks.lock().clone()
    }

    fn reported(&mut self, marks: &[HighWatermark]) {
        if !marks.is_empty() {
            assert_eq!(*self.marks.lock(), marks);
            self.marks.lock().clear();
            self.reported.lock().push(marks.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn high_watermarks_of_a_renewal_that_did_not_come_through_are_told_again() {
    let host = SimHost::alone(2);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    client
        .submit(Command::OpenWal {
            broker,
            wal: WalId(Uuid::from_u128(5)),
            backend: WalBackend::Disk,
        })
        .await
        .unwrap();
    client.submit(topic("logs")).await.unwrap();
    let marks = Told::new(vec![HighWatermark {
        topic_partition: TP,
        leader_epoch: LeaderEpoch(0),
        offset: 7,
    }]);
    let keeper = client.keep_lease(broker, marks.clone()).await.unwrap();
    // The log's disk takes longer than a renewal may, but not longer than the lease.
    let slow = Duration::from_millis(2500);
    host.threads.set_speed(DiskSpeed {
        least: slow,
        most: slow,
    });
    let asked = || *marks.asked.lock();
    while asked() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(marks.reported.lock().is_empty(), "no renewal came through");
    assert_eq!(marks.marks.lock().len(), 1);
    host.threads.set_speed(DiskSpeed::INSTANT);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(*marks.reported.lock(), [1], "counted once, when granted");
    assert!(keeper.lease().valid_now());
    let reported = client
        .local()
        .shared
        .read(|state| state.topics.partition(TP).unwrap().reported);
    assert_eq!(reported, 7);
    controller.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_about_more_keys_than_a_query_takes_is_split() {
    let host = SimHost::alone(2);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    // An epoch that is fenced and had no log: what it put can never be named.
    let dead = client.register(register(1), true).await.unwrap();
    let fence = Command::FenceBroker { broker: dead };
    client.submit(fence).await.unwrap();
    let live = client.register(register(2), true).await.unwrap();
    let keys = |count: usize| -> Vec<String> {
        let key = |n| format!("c/data/00/0-{dead}-{n}");
        (0..count).map(key).collect()
    };
    let most = crate::limits::MAX_KEYS_PER_QUERY;
    for count in [0, 1, most - 1, most, most + 1, 2 * most, 2 * most + 1] {
        let mut asked = keys(count);
        // One of a live epoch, in the last query.
        asked.push(format!("c/data/00/0-{live}-x"));
        assert_eq!(client.orphans(asked).await.unwrap(), keys(count));
    }
    controller.shutdown().await.unwrap();
}

/// Registers, opens, creates and commits; `done` counts the rounds that were acknowledged.
async fn workload(host: &SimHost, done: &mut u64) -> Result<(), Error> {
    let controller = Controller::start(host.env(), sim_settings()).await?;
    let client = controller.client();
    let broker = client.register(register(1), true).await?;
    let wal = WalId(Uuid::from_u128(5));
    client
        .submit(Command::OpenWal {
            broker,
            wal,
            backend: WalBackend::Disk,
        })
        .await?;
    client.submit(topic("logs")).await?;
    for n in 0..6u64 {
        let at = n as i64;
        client
            .submit(commit(broker, wal, (n, n + 1), (at, at + 1)))
            .await?;
        *done = n + 1;
        if n == 2 || n == 4 {
            client.local().shared.request_snapshot();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    controller.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_every_disk_operation_of_a_voter_loses_no_acknowledged_command() {
    let clean = SimHost::alone(1);
    let mut done = 0;
    workload(&clean, &mut done).await.unwrap();
    assert_eq!(done, 6);
    let ops = clean.disk.ops();
    assert!(ops > 60, "{ops} operations");
    for op in 0..ops {
        let host = SimHost::alone(100 + op);
        host.disk.crash_at(op);
        let mut done = 0;
        // A dead voter answers nobody.
        let crashed = tokio::time::timeout(Duration::from_secs(60), workload(&host, &mut done));
        let _ = crashed.await;
        if op % 2 == 0 {
            host.disk.power_loss();
        } else {
            host.disk.kill();
        }
        let controller = Controller::start(host.env(), sim_settings()).await;
        let controller = controller.unwrap_or_else(|e| panic!("op {op}: {e}"));
        let client = controller.client();
        let found = client
            .partition(TP)
            .await
            .unwrap()
            .map_or(0, |p| p.committed_end);
        assert!(
            (done as i64..=done as i64 + 1).contains(&found),
            "op {op}: {found}, not {done}"
        );
        client
            .local()
            .shared
            .read(|state| state.validate())
            .unwrap();
        let broker = client.register(register(2), true).await.unwrap();
        assert!(broker > BrokerEpoch(0));
        controller.shutdown().await.unwrap();
    }
    println!("{ops} crash points");
}

/// The same files on another machine, one bit of one of them inverted.
fn damaged(from: &SimHost, seed: u64, path: &std::path::Path, at: u64) -> SimHost {
    let host = SimHost::alone(seed);
    for file in from.disk.files() {
        let dir = file.parent().unwrap();
        host.env().disk.create_dir_all(dir).unwrap();
        host.disk.replace(&file, from.disk.contents(&file).unwrap());
    }
    host.disk.flip(path, at, 0x20);
    host
}

#[tokio::test(start_paused = true)]
async fn damage_to_any_block_is_detected_or_harmless_and_never_changes_the_state() {
    for clean_stop in [true, false] {
        let host = SimHost::alone(11);
        let mut done = 0;
        workload(&host, &mut done).await.unwrap();
        let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
        let client = controller.client();
        client.submit(topic("after.snapshot")).await.unwrap_err();
        let name = "f".to_owned();
        client
            .submit(Command::FinalizeFeature { name, level: 1 })
            .await
            .unwrap();
        let state = client.local().shared.read(|state| state.clone());
        if clean_stop {
            controller.shutdown().await.unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            host.disk.kill();
        }
        let (mut detected, mut harmless) = (0, 0);
        for path in host.disk.files() {
            let bytes = host.disk.contents(&path).unwrap();
            let used = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at as u64 + 1);
            for block in (0..used).step_by(4096) {
                let at = (block + 17).min(used - 1);
                let copy = damaged(&host, 500 + block, &path, at);
                match Controller::start(copy.env(), sim_settings()).await {
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{path:?} {at}: {error}");
                        detected += 1;
                    }
                    Ok(started) => {
                        let found = started.client().local().shared.read(|state| state.clone());
                        assert!(found == state, "{path:?} at {at} changed the state");
                        started.shutdown().await.unwrap();
                        harmless += 1;
                    }
                }
            }
        }
        println!("blocks damaged: {detected} detected, {harmless} harmless");
        assert!(
            detected > 10 && harmless <= 4,
            "{detected} detected, {harmless} harmless"
        );
    }
}
