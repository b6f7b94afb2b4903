//! Clients: idempotent producers, a plain one, and readers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::client::{Cluster, Error, FetchLimits, Fetched, PartitionInfo, Settings, TopicInfo};
use env::sim::{SimEntropy, SimHost, SimNetwork};
use protocol::messages::InitProducerIdRequest;
use protocol::{BatchBuilder, Batches, Compression, ErrorCode, Response};
use tests::history::groups::GroupHistory;
use tests::history::topics::TopicHistory;
use tests::history::{History, Outcome, Partition};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::invariants::Observed;
use crate::trace::Trace;

/// The topic that all write to.
pub(crate) const TOPIC: &str = "bad-days";
/// Producers that retry what is unknown, and may not make duplicates.
pub(crate) const IDEMPOTENT: [u32; 2] = [1, 2];
/// Members of the consumer group.
pub(crate) const MEMBERS: [u32; 3] = [4, 5, 6];
/// The administrator.
pub(crate) const ADMIN: u32 = 7;
/// A producer that does not retry.
pub(crate) const PLAIN: u32 = 3;
/// Writes once to each partition when all is healed.
pub(crate) const PROBE: u32 = 8;
/// How long a client waits before it asks again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// Most tries for one batch before its outcome stays unknown.
const TRIES: u32 = 200;

/// What clients share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) observed: Arc<Mutex<Observed>>,
    pub(crate) trace: Trace,
    /// Where the brokers are.
    pub(crate) brokers: Vec<SocketAddr>,
    pub(crate) network: SimNetwork,
    pub(crate) partitions: i32,
    /// True once clients shall stop.
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) group: Arc<Mutex<GroupHistory>>,
    pub(crate) topics: Arc<Mutex<TopicHistory>>,
    /// True once the group's members and the administrator shall stop.
    pub(crate) stop_group: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("no panic under this lock")
    }

    pub(crate) fn observed(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.observed.lock().expect("no panic under this lock")
    }

    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// A connection to the cluster from a host of its own.
    pub(crate) fn cluster(&self, seed: u64, number: u32) -> Cluster {
        let address = IpAddr::from([10, 0, 1, number as u8]);
        let host = SimHost::new(seed, &self.network, &format!("client-{number}"), address);
        let settings = settings(number);
        // Each asks another one first.
        let mut brokers = self.brokers.clone();
        brokers.rotate_left(number as usize % self.brokers.len());
        Cluster::new(host.env(), brokers, settings)
    }
}

/// How client `number` presents itself.
pub(crate) fn settings(number: u32) -> Settings {
    Settings {
        client_id: format!("client-{number}"),
        timeout: Duration::from_secs(10),
    }
}

/// What a client knows of the topic: as old as its last trouble, as with real ones.
#[derive(Default)]
pub(crate) struct Picture(Option<TopicInfo>);

impl Picture {
    /// The partition as it was when something went wrong last.
    pub(crate) async fn partition(
        &mut self,
        cluster: &mut Cluster,
        index: i32,
    ) -> Result<PartitionInfo, Error> {
        let topic = match &self.0 {
            Some(topic) => topic,
            None => self.0.insert(cluster.topic(TOPIC).await?),
        };
        let found = topic.partitions.iter().find(|p| p.partition == index);
        found.copied().ok_or(Error::Refused {
            what: format!("partition {index}"),
            code: ErrorCode::UnknownTopicOrPartition,
            message: None,
        })
    }

    /// To be asked for again.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

pub(crate) fn partition(index: i32) -> Partition {
    (TOPIC.to_owned(), index)
}

/// A producer's id, epoch and next sequences; new when the broker refuses it.
pub(crate) struct Identity {
    id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

pub(crate) async fn identity(shared: &Shared, cluster: &mut Cluster) -> Option<Identity> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    while !shared.stopped() {
        match cluster.call(request.clone()).await {
            Ok(Response::InitProducerId(answer)) if answer.error_code == 0 => {
                let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
                return Some(Identity {
                    id,
                    epoch,
                    sequences: BTreeMap::new(),
                });
            }
            _ => sleep(PAUSE).await,
        }
    }
    None
}

/// Sends values until told to stop. `number` says which producer, and so whether it is idempotent.
pub(crate) async fn producer(shared: Shared, seed: u64, number: u32) {
    let random = SimEntropy::new(seed);
    let mut cluster = shared.cluster(random.below(u64::MAX), number);
    let idempotent = IDEMPOTENT.contains(&number);
    let mut identity = if idempotent {
        identity(&shared, &mut cluster).await
    } else {
        None
    };
    let mut next = u64::from(number) << 32;
    let mut picture = Picture::default();
    while !shared.stopped() {
        let index = random.below(shared.partitions as u64) as i32;
        let count = 1 + random.below(5);
        let values: Vec<u64> = (next..next + count).collect();
        next += count;
        for value in &values {
            shared.history().sending(number, &partition(index), *value);
        }
        let batch = build(&random, &values, index, identity.as_mut());
        let target = (&mut cluster, &mut picture);
        let offset = send(&shared, target, index, &batch, idempotent).await;
        for (value, place) in values.iter().zip(0..) {
            let at = offset.map(|base| Outcome::Acknowledged(base + place));
            shared
                .history()
                .sent(*value, at.unwrap_or(Outcome::Unknown));
        }
        if offset.is_none() && idempotent {
            // Unknown for good: what comes next is another producer's, in the same order.
            identity = self::identity(&shared, &mut cluster).await;
        }
        sleep(Duration::from_millis(random.below(40))).await;
    }
}

pub(crate) fn build(
    random: &SimEntropy,
    values: &[u64],
    index: i32,
    identity: Option<&mut Identity>,
) -> bytes::Bytes {
    let codec = [Compression::None, Compression::Lz4, Compression::Zstd][random.below(3) as usize];
    let mut batch = BatchBuilder::new().compression(codec);
    if let Some(identity) = identity {
        let sequence = identity.sequences.entry(index).or_default();
        batch = batch.producer(identity.id, identity.epoch, *sequence);
        *sequence += values.len() as i32;
    }
    // Sizes differ, so that blocks and groups end in different places.
    let padding = vec![b'x'; random.below(3000) as usize];
    for value in values {
        let mut body = value.to_be_bytes().to_vec();
        body.extend_from_slice(&padding);
        batch.append(1_767_225_600_000, None, Some(&body), &[]);
    }
    batch.build().expect("a few small records")
}

/// The offset of the first record once it is acknowledged, `None` when that is not known.
async fn send(
    shared: &Shared,
    (cluster, picture): (&mut Cluster, &mut Picture),
    index: i32,
    batch: &bytes::Bytes,
    retry: bool,
) -> Option<i64> {
    for tried in 0..TRIES {
        let result = async {
            let partition = picture.partition(cluster, index).await?;
            let sent = cluster.produce(TOPIC, partition, batch.clone(), 5000).await;
            sent.map(|offset| (offset, partition.leader))
        };
        match result.await {
            Ok((offset, node)) => {
                let length = batch.len();
                let what = format!("{TOPIC}-{index}: {length} bytes at {offset} by node {node}");
                shared.trace.line(&what);
                if tried == 0 {
                    shared.observed().writers.acknowledged(index, offset, node);
                }
                return Some(offset);
            }
            Err(error) => {
                picture.forget();
                shared.trace.line(&format!("{TOPIC}-{index}: {error}"));
                if error.code() == Some(ErrorCode::OutOfOrderSequenceNumber) {
                    shared.observed().sequences.refused(index, batch);
                }
                let passing = error.code().is_none_or(ErrorCode::is_retriable);
                if !retry || !passing {
                    return None;
                }
            }
        }
        sleep(PAUSE).await;
    }
    None
}

/// Writes one value, with a new one for each try, until one is acknowledged.
pub(crate) async fn write_one(shared: &Shared, cluster: &mut Cluster, index: i32) {
    let mut picture = Picture::default();
    for value in (u64::from(PROBE) << 32 | (index as u64) << 16).. {
        shared.history().sending(PROBE, &partition(index), value);
        let mut batch = BatchBuilder::new();
        batch.append(1_767_225_600_000, None, Some(&value.to_be_bytes()), &[]);
        let batch = batch.build().expect("a small record");
        if let Some(offset) = send(shared, (cluster, &mut picture), index, &batch, false).await {
            shared.history().sent(value, Outcome::Acknowledged(offset));
            return;
        }
        shared.history().sent(value, Outcome::Unknown);
        sleep(PAUSE).await;
    }
}

/// Reads one partition from its start on until told to stop, over and over the tail.
pub(crate) async fn reader(shared: Shared, seed: u64, number: u32, index: i32) {
    let random = SimEntropy::new(seed);
    let mut reader = Reader {
        cluster: shared.cluster(random.below(u64::MAX), number),
        picture: Picture::default(),
        shared: shared.clone(),
        index,
    };
    let mut seen = Vec::new();
    let mut next = 0;
    while !shared.stopped() {
        // Odd sizes end budgets in the middle of batches, blocks and slices.
        let max_bytes = 1 + random.below(20_000) as i32;
        let read = reader.read(&mut next, max_bytes, &mut seen).await;
        if read.is_err() {
            sleep(PAUSE).await;
        }
        sleep(Duration::from_millis(5 + random.below(40))).await;
        if random.chance(2) {
            // A new reader from the start: old data is read again, cold or not.
            shared
                .history()
                .read(&partition(index), std::mem::take(&mut seen));
            next = 0;
        }
    }
    shared.history().read(&partition(index), seen);
}

struct Reader {
    shared: Shared,
    cluster: Cluster,
    picture: Picture,
    index: i32,
}

impl Reader {
    async fn read(
        &mut self,
        next: &mut i64,
        max_bytes: i32,
        seen: &mut Vec<(i64, u64)>,
    ) -> Result<bool, Error> {
        let read = async {
            let partition = self
                .picture
                .partition(&mut self.cluster, self.index)
                .await?;
            fetch(&self.shared, &mut self.cluster, partition, *next, max_bytes).await
        };
        match read.await {
            Ok(fetched) => Ok(take(&fetched, next, seen)),
            Err(error) => {
                self.picture.forget();
                Err(error)
            }
        }
    }
}

/// Fetches, and holds what the answer says against what was said before.
async fn fetch(
    shared: &Shared,
    cluster: &mut Cluster,
    partition: PartitionInfo,
    from: i64,
    max_bytes: i32,
) -> Result<Fetched, Error> {
    let limits = FetchLimits {
        max_wait_ms: 500,
        max_bytes,
    };
    let (index, epoch) = (partition.partition, partition.leader_epoch);
    let floor = shared.observed().watermarks.floor(index, epoch);
    let fetched = cluster.fetch(TOPIC, partition, from, limits).await?;
    let (watermark, log_start) = (fetched.high_watermark, fetched.log_start);
    let mut observed = shared.observed();
    let wrong = observed
        .watermarks
        .seen((index, epoch), floor, watermark, log_start);
    if let Some(wrong) = wrong {
        shared.trace.line(&format!("WRONG {wrong}"));
    }
    Ok(fetched)
}

/// Takes the records; true while there are more.
fn take(fetched: &Fetched, next: &mut i64, seen: &mut Vec<(i64, u64)>) -> bool {
    let after = fetched.for_each(*next, |record| {
        let body = record.value.expect("every value has bytes");
        let value = u64::from_be_bytes(body[..8].try_into().expect("eight bytes"));
        seen.push((record.offset, value));
    });
    *next = after.expect("what is served keeps its promises");
    *next < fetched.high_watermark
}

/// Reads on from `next`; true while there is more.
pub(crate) async fn read(
    shared: &Shared,
    cluster: &mut Cluster,
    index: i32,
    next: &mut i64,
    seen: &mut Vec<(i64, u64)>,
) -> Result<bool, Error> {
    let partition = Picture::default().partition(cluster, index).await?;
    let fetched = fetch(shared, cluster, partition, *next, 1 << 20).await?;
    for batch in Batches::new(&fetched.records) {
        let batch = batch.expect("what is served keeps its promises");
        let (base, end) = (batch.base_offset(), batch.next_offset());
        let epoch = batch.leader_epoch();
        shared.observed().writers.written(index, base, end, epoch);
    }
    Ok(take(&fetched, next, seen))
}

/// All of one partition, once everything is healed.
pub(crate) async fn read_all(
    shared: &Shared,
    cluster: &mut Cluster,
    index: i32,
) -> Result<Vec<(i64, u64)>, String> {
    let (mut seen, mut next) = (Vec::new(), 0);
    for _ in 0..10_000 {
        match read(shared, cluster, index, &mut next, &mut seen).await {
            Ok(true) => {}
            Ok(false) => return Ok(seen),
            Err(error) => return Err(format!("final read of partition {index}: {error}")),
        }
    }
    Err(format!("final read of partition {index} does not end"))
}
