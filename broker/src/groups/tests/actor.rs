//! A coordinator over a log that fails, stalls and restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use protocol::{BatchView, LeaderEpoch, TopicId};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep, timeout};

use super::*;

const VERSION: (TopicId, LeaderEpoch) = (TopicId(uuid::Uuid::nil()), LeaderEpoch(0));

struct FixedClock;

impl env::Clock for FixedClock {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A log in memory, whose appends wait while it is stalled.
#[derive(Default)]
struct FakeLog {
    batches: Mutex<Vec<Bytes>>,
    stalled: AtomicBool,
    moved: Notify,
    /// Errors for the next appends, and whether the batch stands there all the same.
    append_errors: Mutex<Vec<(LogError, bool)>>,
    read_errors: Mutex<Vec<LogError>>,
    standing: Mutex<Option<Standing>>,
    appends: AtomicUsize,
}

impl FakeLog {
    fn end(&self) -> i64 {
        self.batches
            .lock()
            .last()
            .map_or(0, |b| BatchView::new(b).unwrap().next_offset())
    }

    fn push(&self, batch: &Bytes) {
        let mut bytes = batch.to_vec();
        protocol::set_base_offset(&mut bytes, self.end());
        self.batches.lock().push(bytes.into());
    }

    fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    fn go_on(&self) {
        self.stalled.store(false, Ordering::SeqCst);
        self.moved.notify_waiters();
    }
}

#[async_trait]
impl GroupLog for FakeLog {
    fn bounds(&self) -> LogBounds {
        LogBounds {
            start: 0,
            end: self.end(),
        }
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or(Standing::Led)
    }

    async fn read(&self, offset: i64, _max_bytes: usize) -> Result<Vec<Bytes>, LogError> {
        if let Some(error) = self.read_errors.lock().pop() {
            return Err(error);
        }
        // One batch at a time, so that a load takes several reads.
        let batches = self.batches.lock();
        let at = batches
            .iter()
            .find(|b| BatchView::new(b).unwrap().next_offset() > offset);
        Ok(at.cloned().into_iter().collect())
    }

    async fn append(&self, batch: Bytes) -> Result<(), LogError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        while self.stalled.load(Ordering::SeqCst) {
            self.moved.notified().await;
        }
        let planned = self.append_errors.lock().pop();
        match planned {
            Some((error, written)) => {
                if written {
                    self.push(&batch);
                }
                Err(error)
            }
            None => {
                self.push(&batch);
                Ok(())
            }
        }
    }
}

fn retry() -> LogError {
    LogError::Retry {
        reason: "store away".to_owned(),
    }
}

fn coordinator() -> (Coordinator, GroupMetrics) {
    let metrics = GroupMetrics::default();
    let config = GroupConfig::kafka_defaults();
    (
        Coordinator::new(Arc::new(FixedClock), config, metrics.clone()),
        metrics,
    )
}

async fn opened(log: &Arc<FakeLog>) -> (Coordinator, GroupMetrics) {
    let (coordinator, metrics) = coordinator();
    coordinator.opened(0, VERSION, || log.clone());
    while !coordinator.unready().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    (coordinator, metrics)
}

fn commit_request(group: &str, offset: i64) -> Request {
    Request::Commit(CommitRequest {
        member: outsider(group),
        knows_group_id_not_found: true,
        retention_ms: None,
        offsets: vec![CommitOffset {
            topic: name("t"),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: name(""),
        }],
    })
}

async fn commit(coordinator: &Coordinator, group: &str, offset: i64) -> Result<(), GroupError> {
    let patience = Some(Duration::from_secs(5));
    match coordinator
        .ask(0, commit_request(group, offset), patience)
        .await?
    {
        Reply::Commit(result) => result.map(|results| assert_eq!(results, [Ok(())])),
        other => panic!("not a commit: {other:?}"),
    }
}

async fn fetch(coordinator: &Coordinator, group: &str) -> Result<Vec<i64>, GroupError> {
    let request = Request::FetchOffsets(FetchOffsetsRequest {
        group: name(group),
        partitions: None,
    });
    match coordinator
        .ask(0, request, Some(Duration::from_secs(5)))
        .await?
    {
        Reply::FetchOffsets(offsets) => offsets.map(|o| o.iter().map(|o| o.offset).collect()),
        other => panic!("not offsets: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn commits_survive_a_restart() {
    let log = Arc::new(FakeLog::default());
    let (first, metrics) = opened(&log).await;
    for offset in 0..10 {
        assert_eq!(commit(&first, "g", offset).await, Ok(()));
        assert_eq!(commit(&first, "h", offset * 2).await, Ok(()));
    }
    assert_eq!((metrics.commits.get(), metrics.records.get()), (20, 20));
    assert_eq!((metrics.groups.get(), metrics.partitions.get()), (2, 1));
    first.drain().await;
    assert_eq!((metrics.groups.get(), metrics.partitions.get()), (0, 0));
    assert_eq!(
        commit(&first, "g", 1).await,
        Err(GroupError::NotCoordinator)
    );
    let (second, metrics) = opened(&log).await;
    assert_eq!(fetch(&second, "g").await, Ok(vec![9]));
    assert_eq!(fetch(&second, "h").await, Ok(vec![18]));
    assert_eq!(
        (metrics.loaded_records.get(), metrics.damaged_records.get()),
        (20, 0)
    );
    let listed = second
        .list(&ListRequest::default(), Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(
        listed.iter().map(|l| &*l.group).collect::<Vec<_>>(),
        ["g", "h"]
    );
}

#[tokio::test(start_paused = true)]
async fn no_answer_leaves_before_its_records_are_durable() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, _) = opened(&log).await;
    log.stall();
    let ask = |offset| {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.ask(0, commit_request("g", offset), None).await })
    };
    let first = ask(1);
    sleep(Duration::from_millis(10)).await;
    let second = ask(2);
    let reader = coordinator.clone();
    let read = tokio::spawn(async move { fetch(&reader, "g").await });
    sleep(Duration::from_millis(100)).await;
    assert!(!first.is_finished() && !second.is_finished());
    assert!(
        !read.is_finished(),
        "what is not durable is not shown either"
    );
    // Another group does not wait for it.
    assert_eq!(
        timeout(Duration::from_secs(1), fetch(&coordinator, "x")).await,
        Ok(Ok(vec![]))
    );
    log.go_on();
    assert!(matches!(first.await.unwrap(), Ok(Reply::Commit(Ok(_)))));
    assert!(matches!(second.await.unwrap(), Ok(Reply::Commit(Ok(_)))));
    assert_eq!(read.await.unwrap(), Ok(vec![2]));
    assert_eq!(
        log.appends.load(Ordering::SeqCst),
        2,
        "one in flight, the rest in the next"
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_is_tried_until_it_is_back() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, metrics) = opened(&log).await;
    // Of the tries that fail one did write, unknown to us.
    *log.append_errors.lock() = vec![(retry(), false), (retry(), true), (retry(), false)];
    assert_eq!(commit(&coordinator, "g", 7).await, Ok(()));
    assert_eq!(metrics.log_failures.get(), 3);
    assert_eq!(
        log.batches.lock().len(),
        2,
        "it stands there twice, and means the same"
    );
    *log.append_errors.lock() = (0..100).map(|_| (retry(), false)).collect();
    assert_eq!(
        commit(&coordinator, "g", 8).await,
        Err(GroupError::NotAvailable)
    );
    log.append_errors.lock().clear();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(
        fetch(&coordinator, "g").await,
        Ok(vec![8]),
        "given up by its client, not by us"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_answers_everybody() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, _) = opened(&log).await;
    let gone = LogError::Gone {
        reason: "fenced".to_owned(),
    };
    *log.append_errors.lock() = vec![(gone, false)];
    assert_eq!(
        commit(&coordinator, "g", 7).await,
        Err(GroupError::NotCoordinator)
    );
    assert_eq!(
        fetch(&coordinator, "g").await,
        Err(GroupError::NotCoordinator)
    );

    // Closed from outside while a commit waits, and opened again: what was queued is waited for.
    coordinator.opened(0, VERSION, || log.clone());
    log.stall();
    sleep(Duration::from_millis(10)).await;
    let other = coordinator.clone();
    let waiting = tokio::spawn(async move { other.ask(0, commit_request("g", 9), None).await });
    sleep(Duration::from_millis(10)).await;
    coordinator.closed(0);
    assert_eq!(waiting.await.unwrap(), Err(GroupError::NotCoordinator));
    log.go_on();
    assert_eq!(
        fetch(&coordinator, "g").await,
        Err(GroupError::NotCoordinator)
    );
    coordinator.opened(0, VERSION, || log.clone());
    coordinator.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_forgets_what_is_not_in_the_log() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, metrics) = opened(&log).await;
    assert_eq!(commit(&coordinator, "g", 1).await, Ok(()));
    let failed = LogError::Failed {
        reason: "refused".to_owned(),
    };
    *log.append_errors.lock() = vec![(failed, false)];
    assert_eq!(
        commit(&coordinator, "g", 2).await,
        Err(GroupError::NotCoordinator)
    );
    assert_eq!(
        fetch(&coordinator, "g").await,
        Err(GroupError::NotAvailable)
    );
    assert_eq!((metrics.loading.get(), metrics.groups.get()), (1, 0));
    sleep(Duration::from_secs(31)).await;
    assert_eq!(fetch(&coordinator, "g").await, Ok(vec![1]));
    assert_eq!(metrics.loading.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn loading_is_visible_and_goes_on_until_it_succeeds() {
    let log = Arc::new(FakeLog::default());
    let (first, _) = opened(&log).await;
    assert_eq!(commit(&first, "g", 5).await, Ok(()));
    first.drain().await;
    *log.read_errors.lock() = vec![retry(), retry(), retry()];
    let (second, metrics) = coordinator();
    second.opened(0, VERSION, || log.clone());
    sleep(Duration::from_millis(10)).await;
    assert_eq!(second.unready(), [0]);
    assert_eq!(fetch(&second, "g").await, Err(GroupError::LoadInProgress));
    let listed = second
        .list(&ListRequest::default(), Duration::from_secs(1))
        .await;
    assert_eq!(listed, Err(GroupError::LoadInProgress));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fetch(&second, "g").await, Ok(vec![5]));
    assert_eq!(metrics.log_failures.get(), 3);

    // Damage is not tried in a loop: it is said, and tried again later.
    let (third, metrics) = coordinator();
    *log.read_errors.lock() = vec![LogError::Failed {
        reason: "checksum".to_owned(),
    }];
    third.opened(0, VERSION, || log.clone());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fetch(&third, "g").await, Err(GroupError::NotAvailable));
    assert_eq!(metrics.loading.get(), 1);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(fetch(&third, "g").await, Ok(vec![5]));
}

#[tokio::test(start_paused = true)]
async fn sessions_end_by_themselves_in_a_quiet_coordinator() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, _) = opened(&log).await;
    let mut world = World::new();
    let mut request = world.join_request("g", "");
    request.requires_member_id = false;
    let Ok(Reply::Join(joined)) = coordinator.ask(0, Request::Join(request), None).await else {
        panic!("not a join")
    };
    assert_eq!((joined.error, joined.generation), (None, 1));
    let member = member_request("g", &joined.member_id, 1);
    let beat = Request::Heartbeat(member);
    for _ in 0..5 {
        sleep(Duration::from_secs(9)).await;
        let reply = coordinator.ask(0, beat.clone(), None).await;
        assert_eq!(reply, Ok(Reply::Heartbeat(Ok(()))));
    }
    sleep(Duration::from_secs(11)).await;
    let reply = coordinator.ask(0, beat, None).await;
    assert_eq!(reply, Ok(Reply::Heartbeat(Err(GroupError::UnknownMember))));
    assert!(
        !log.batches.lock().is_empty(),
        "the empty group was written"
    );
}

#[tokio::test(start_paused = true)]
async fn many_records_go_in_batches_of_bounded_size() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, _) = opened(&log).await;
    log.stall();
    let mut asks = Vec::new();
    for i in 0..4 {
        let Request::Commit(mut request) = commit_request("g", 0) else {
            unreachable!()
        };
        let one = request.offsets.remove(0);
        request.offsets = (0..1_000)
            .map(|p| CommitOffset {
                partition: i * 1_000 + p,
                metadata: name(&"m".repeat(900)),
                ..one.clone()
            })
            .collect();
        let coordinator = coordinator.clone();
        asks.push(tokio::spawn(async move {
            coordinator.ask(0, Request::Commit(request), None).await
        }));
    }
    sleep(Duration::from_millis(10)).await;
    log.go_on();
    for ask in asks {
        assert!(matches!(ask.await.unwrap(), Ok(Reply::Commit(Ok(_)))));
    }
    let sizes = log
        .batches
        .lock()
        .iter()
        .map(Bytes::len)
        .collect::<Vec<_>>();
    assert!(sizes.len() >= 4, "{sizes:?}");
    assert!(
        sizes.iter().all(|&size| size <= MAX_BATCH_BYTES + 100_000),
        "{sizes:?}"
    );
    let request = Request::FetchOffsets(FetchOffsetsRequest {
        group: name("g"),
        partitions: None,
    });
    let Ok(Reply::FetchOffsets(Ok(all))) = coordinator.ask(0, request, None).await else {
        panic!("not offsets")
    };
    assert_eq!(all.len(), 4_000);
}

/// A log with a bug.
struct BrokenLog;

#[async_trait]
impl GroupLog for BrokenLog {
    fn bounds(&self) -> LogBounds {
        panic!("a bug, for the test");
    }

    fn standing(&self) -> Standing {
        Standing::Led
    }

    async fn read(&self, _: i64, _: usize) -> Result<Vec<Bytes>, LogError> {
        Err(retry())
    }

    async fn append(&self, _: Bytes) -> Result<(), LogError> {
        Err(retry())
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_panicked_is_opened_anew() {
    let (coordinator, _) = coordinator();
    coordinator.opened(0, VERSION, || Arc::new(BrokenLog));
    let log = Arc::new(FakeLog::default());
    let ready = async {
        while !coordinator.unready().is_empty() {
            sleep(Duration::from_millis(1)).await;
            coordinator.opened(0, VERSION, || log.clone());
        }
    };
    let ready = timeout(Duration::from_secs(1), ready).await;
    assert!(ready.is_ok(), "a panic must not hold the partition");
}

#[tokio::test(start_paused = true)]
async fn memory_answers_nobody_when_another_may_know_more() {
    let log = Arc::new(FakeLog::default());
    let (coordinator, _) = opened(&log).await;
    let offsets = async || {
        let request = Request::FetchOffsets(FetchOffsetsRequest {
            group: name("g"),
            partitions: None,
        });
        match coordinator.ask(0, request, None).await {
            Ok(Reply::FetchOffsets(found)) => found.map(|found| found[0].offset),
            Ok(_) => panic!("not offsets"),
            Err(error) => Err(error),
        }
    };
    let committed = coordinator.ask(0, commit_request("g", 7), None).await;
    assert!(matches!(committed, Ok(Reply::Commit(Ok(_)))));
    assert_eq!(offsets().await, Ok(7));
    *log.standing.lock() = Some(Standing::Leaving);
    assert_eq!(offsets().await, Err(GroupError::LoadInProgress));
    *log.standing.lock() = None;
    assert_eq!(offsets().await, Ok(7), "it stays after all");
    *log.standing.lock() = Some(Standing::Gone);
    assert_eq!(offsets().await, Err(GroupError::NotCoordinator));
    let described = coordinator.ask(0, Request::Describe(name("g")), None).await;
    assert_eq!(described, Err(GroupError::NotCoordinator));
    // At another version it is not this one that was released.
    coordinator.released(0, (VERSION.0, LeaderEpoch(1)));
    assert!(coordinator.unready().is_empty());
    coordinator.released(0, VERSION);
    *log.standing.lock() = None;
    assert_eq!(offsets().await, Err(GroupError::NotCoordinator));
}
