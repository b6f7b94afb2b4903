//! Figures of the controllers alone: three voters in one process over loopback and a real disk.
//!
//! ```text
//!   commands:  1, 16, 256 callers ─▶ AlterConfigs through the leader, through a follower
//!   commits:   brokers, a log each ─▶ CommitUpload of an object with so many slices
//!   memory:    resident bytes before and after partitions, before and after objects
//! ```
//!
//! All three voters share the process, its processors and its disk: a rate is what one machine does
//! for all three, and memory is told for one of the three states.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use controller::{
    Client, Command, CommitUpload, ConfigOp, ConfigResource, Controller, ControllerSettings,
    CreateTopic, Digest, LeaseKeeper, NEWEST_LEVEL, ObjectRef, RegisterBroker, Response,
    SliceOutcome, SliceRef, WalBackend,
};
use env::Env;
use futures::future::{join_all, try_join_all};
use hdrhistogram::Histogram;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use serde_json::{Value, json};
use uuid::Uuid;
use wal::WalId;

use super::Report;

const VOTERS: [i32; 3] = [1, 2, 3];
/// Brokers that commit side by side: each has one commit on the way.
const BROKERS: i32 = 8;
const LEASE: Duration = Duration::from_secs(60);
/// Callers at once, one figure each.
const CALLERS: [usize; 3] = [1, 16, 256];
/// What one topic holds.
const PARTITIONS_OF_TOPIC: u32 = 1_000;

/// What to run and how long.
#[derive(Clone, Debug)]
pub struct ControllerBench {
    /// Where the voters' directories are made: the disk that is measured.
    pub dir: PathBuf,
    /// Seconds of each rate.
    pub seconds: u64,
    /// Partitions for the figures of memory.
    pub partitions: u32,
    /// Objects for the figures of memory, of one slice each.
    pub objects: u64,
    /// Slices of one object when commits are counted.
    pub slices: u32,
}

/// Three voters.
struct Voters {
    running: Vec<Controller>,
    _dir: tempfile::TempDir,
}

/// A broker as the controllers see one.
struct Broker {
    client: Client,
    epoch: BrokerEpoch,
    wal: WalId,
    trim: u64,
    /// What it leads, at which epoch, and the committed end.
    leads: Vec<(TopicPartition, LeaderEpoch, i64)>,
    next: usize,
    _lease: LeaseKeeper,
}

/// Measures it all.
///
/// # Errors
/// The first that fails; figures of those before it are kept.
pub fn run(settings: &ControllerBench, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(async {
        let voters = Voters::start(&settings.dir).await?;
        let leader = voters.leader().await?;
        let follower = (leader + 1) % VOTERS.len();
        for (way, at) in [("leader", leader), ("follower", follower)] {
            for callers in CALLERS {
                let client = voters.running[at].client();
                let figures = commands(&client, callers, settings.seconds).await?;
                report.add(&format!("controller-commands-{way}-{callers}"), figures)?;
            }
        }
        let client = voters.running[leader].client();
        let (figures, mut brokers) = partitions(&client, settings.partitions).await?;
        report.add("controller-memory-partitions", figures)?;
        for slices in [1, settings.slices] {
            let until = Until::Seconds(settings.seconds);
            let figures = commits(&mut brokers, slices, until).await?;
            report.add(&format!("controller-commits-{slices}"), figures)?;
        }
        let before = resident_bytes()?;
        let mut figures = commits(&mut brokers, 1, Until::Objects(settings.objects)).await?;
        figures["bytes_per_object"] = per_state(before, settings.objects)?;
        report.add("controller-memory-objects", figures)?;
        drop(brokers);
        voters.stop().await
    });
    // Nothing of it is left for the next one.
    runtime.shutdown_timeout(Duration::from_secs(10));
    measured
}

// === impl Voters ===

impl Voters {
    async fn start(dir: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in(dir)?;
        let env = env::real::env();
        let mut listeners = Vec::new();
        for _ in VOTERS {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            listeners.push(env.net.bind(any).await?);
        }
        let mut addresses = BTreeMap::new();
        for (node, listener) in VOTERS.iter().zip(&listeners) {
            addresses.insert(NodeId(*node), listener.local_addr()?.to_string());
        }
        let starting = VOTERS.iter().zip(listeners).map(|(node, listener)| {
            let settings = ControllerSettings {
                dir: dir.path().join(node.to_string()),
                node: NodeId(*node),
                voters: addresses.clone(),
                listener: Some(listener),
                cluster: None,
                generation: 1,
                lease: LEASE,
                tls: None,
                newest_level: NEWEST_LEVEL,
            };
            Controller::start(Env::clone(&env), settings)
        });
        let running = try_join_all(starting).await?;
        Ok(Self { running, _dir: dir })
    }

    /// Which of them leads.
    async fn leader(&self) -> Result<usize> {
        let mut image = self.running[0].client().image();
        let led = image.wait_for(|image| image.controller.is_some()).await?;
        let leader = led.controller.context("nobody leads")?;
        let at = VOTERS.iter().position(|node| *node == leader.0);
        at.context("a stranger leads")
    }

    async fn stop(self) -> Result<()> {
        let stopping = self.running.into_iter().map(Controller::shutdown);
        for stopped in join_all(stopping).await {
            stopped?;
        }
        Ok(())
    }
}

/// How often the smallest command is done, and how long one takes.
async fn commands(client: &Client, callers: usize, seconds: u64) -> Result<Value> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let begun = Instant::now();
    let calling = (0..callers).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let alter = Command::AlterConfigs {
                    resource: ConfigResource::Cluster,
                    changes: vec![(
                        // Few names, so that the state stays as small as it is.
                        format!("k{}", caller % 16),
                        ConfigOp::Set(took.len().to_string()),
                    )],
                    replace: false,
                };
                let sent = Instant::now();
                client.submit(alter).await?;
                took.push(sent.elapsed());
            }
            anyhow::Ok(took)
        })
    });
    let mut all = Vec::new();
    for called in join_all(calling).await {
        all.extend(called??);
    }
    rate("commands", &all, begun.elapsed())
}

fn rate(what: &str, took: &[Duration], within: Duration) -> Result<Value> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for one in took {
        histogram.record(u64::try_from(one.as_micros())?)?;
    }
    let millis = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(json!({
        what: took.len(),
        format!("{what}_per_s"): took.len() as f64 / within.as_secs_f64(),
        "p50_ms": millis(0.5),
        "p99_ms": millis(0.99),
        "max_ms": histogram.max() as f64 / 1000.0,
    }))
}

/// Brokers, and partitions that they lead; what these weigh.
async fn partitions(client: &Client, count: u32) -> Result<(Value, Vec<Broker>)> {
    let mut brokers = Vec::new();
    for node in 0..BROKERS {
        brokers.push(Broker::begin(client, 100 + node).await?);
    }
    let before = resident_bytes()?;
    let begun = Instant::now();
    let mut made = 0;
    while made < count {
        let partitions = PARTITIONS_OF_TOPIC.min(count - made);
        let create = CreateTopic {
            name: format!("topic-{made}"),
            id: TopicId(Uuid::from_u128(1 + u128::from(made))),
            internal: false,
            partitions,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
        };
        client.submit(Command::CreateTopic(create)).await?;
        made += partitions;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = per_state(before, u64::from(count))?;
    let image = client.image().borrow().clone();
    for topic in image.topics.values() {
        for (partition, index) in topic.partitions.iter().zip(0i32..) {
            let broker = brokers
                .iter_mut()
                .find(|broker| partition.broker == Some(broker.epoch));
            let broker = broker.context("a partition that none of the brokers leads")?;
            let tp = TopicPartition::new(topic.id, index);
            broker.leads.push((tp, partition.leader_epoch, 0));
        }
    }
    let idle = brokers.iter().filter(|broker| broker.leads.is_empty());
    ensure!(idle.count() == 0, "a broker leads nothing: more partitions");
    let figures = json!({
        "partitions": count,
        "seconds": seconds,
        "bytes_per_partition": bytes,
    });
    Ok((figures, brokers))
}

/// When commits end.
#[derive(Clone, Copy)]
enum Until {
    Seconds(u64),
    /// Of all brokers together.
    Objects(u64),
}

/// All brokers commit objects of so many slices.
async fn commits(brokers: &mut [Broker], slices: u32, until: Until) -> Result<Value> {
    let begun = Instant::now();
    let each = |objects: u64| objects.div_ceil(u64::from(BROKERS.unsigned_abs()));
    let committing = brokers.iter_mut().map(|broker| async move {
        let mut took = Vec::new();
        let more = |done: usize| match until {
            Until::Seconds(seconds) => begun.elapsed().as_secs() < seconds,
            Until::Objects(objects) => (done as u64) < each(objects),
        };
        while more(took.len()) {
            let sent = Instant::now();
            broker.commit(slices).await?;
            took.push(sent.elapsed());
        }
        anyhow::Ok(took)
    });
    let took: Vec<Duration> = try_join_all(committing).await?.concat();
    let mut figures = rate("objects", &took, begun.elapsed())?;
    figures["slices_per_object"] = json!(slices);
    figures["brokers"] = json!(BROKERS);
    Ok(figures)
}

// === impl Broker ===

impl Broker {
    async fn begin(client: &Client, node: i32) -> Result<Self> {
        let register = RegisterBroker {
            node: NodeId(node),
            incarnation: Uuid::from_u128(u128::from(node.unsigned_abs())),
            listeners: Vec::new(),
            rack: None,
            directory: Uuid::nil(),
            lived: None,
        };
        let epoch = client.register(register, true).await?;
        let wal = WalId(Uuid::from_u64_pair(epoch.0, 0));
        let open = Command::OpenWal {
            broker: epoch,
            wal,
            backend: WalBackend::Object,
        };
        client.submit(open).await?;
        let lease = client.keep_lease(epoch, ()).await?;
        Ok(Self {
            client: client.clone(),
            epoch,
            wal,
            trim: 0,
            leads: Vec::new(),
            next: 0,
            _lease: lease,
        })
    }

    /// An object with a slice of each of the next partitions.
    async fn commit(&mut self, slices: u32) -> Result<()> {
        let digest = Digest::Crc32([7; 4]);
        let nonce = Uuid::from_u64_pair(self.epoch.0, self.trim).simple();
        let object = Arc::new(ObjectRef {
            key: format!("data/00/100-{}-{nonce}", self.epoch),
            length: 1 << 20,
            digest: digest.clone(),
        });
        let count = (slices as usize).min(self.leads.len());
        let mut of = Vec::with_capacity(count);
        for _ in 0..count {
            let at = self.next % self.leads.len();
            let (tp, leader_epoch, end) = &mut self.leads[at];
            of.push(SliceRef {
                topic_partition: *tp,
                leader_epoch: *leader_epoch,
                first_offset: *end,
                end_offset: *end + 100,
                max_timestamp_ms: 1_700_000_000_000,
                bytes: 10_000,
                object: Arc::clone(&object),
                index_position: 10_000,
                index_length: 100,
                index_digest: digest.clone(),
                checkpoint: false,
            });
            *end += 100;
            self.next += 1;
        }
        // As the log is: by partition, in order of offsets.
        of.sort_by_key(|slice| (slice.topic_partition, slice.first_offset));
        let upload = CommitUpload {
            broker_epoch: self.epoch,
            wal: self.wal,
            claim: None,
            from: self.trim,
            to: self.trim + 1,
            slices: of,
        };
        self.trim += 1;
        let answer = self.client.submit(Command::CommitUpload(upload)).await?;
        let Response::Committed(outcomes) = answer else {
            bail!("{answer:?} to a commit");
        };
        let refused = outcomes.iter().find(|one| **one != SliceOutcome::Committed);
        ensure!(refused.is_none(), "{refused:?} of a slice");
        Ok(())
    }
}

/// What each of `count` things weighs in one of the voters' states, logs and images.
fn per_state(before: u64, count: u64) -> Result<Value> {
    let grown = resident_bytes()?.saturating_sub(before);
    let states = VOTERS.len() as u64;
    Ok(json!(grown as f64 / states as f64 / count.max(1) as f64))
}

/// Of this process.
fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}
