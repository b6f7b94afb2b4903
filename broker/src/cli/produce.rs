//! `headwater produce`: lines of standard input become records.

use std::io::{BufRead, BufReader, Read};
use std::pin::pin;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use env::{Env, IoThread};
use protocol::messages::InitProducerIdRequest;
use protocol::{BatchBuilder, Compression, Response};

use super::remote::{Brokers, Remote, is_passing, look_again};
use crate::client::{Cluster, Error, PartitionInfo, TopicInfo};

/// Largest line, bytes.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Bytes of lines read at once.
const READ_BYTES: usize = 256 << 10;

/// Send lines of standard input as records, idempotently: each line once, in order.
#[derive(Args, Debug)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    remote: Remote,
    /// The topic.
    topic: String,
    /// Send all to this partition; else by the key's hash, or in turn.
    #[arg(long, short = 'p')]
    partition: Option<i32>,
    /// What separates key and value in a line; without it there are no keys.
    #[arg(long, short = 'k')]
    key_separator: Option<String>,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, short = 'z', default_value = "none")]
    compression: String,
    /// Most bytes of a batch before compression.
    #[arg(long, default_value_t = 262_144)]
    batch_bytes: usize,
}

/// Runs `headwater produce`.
pub(crate) async fn run(
    env: &Env,
    args: ProduceArgs,
    input: impl Read + Send + 'static,
) -> Result<()> {
    let compression = Compression::from_name(&args.compression).with_context(|| {
        format!(
            "--compression {:?}: expected none, gzip, snappy, lz4 or zstd",
            args.compression
        )
    })?;
    let mut cluster = args.remote.cluster(env).await?;
    let topic = cluster.topic(&args.topic).await?;
    if let Some(wanted) = args.partition {
        ensure!(
            topic.partitions.iter().any(|p| p.partition == wanted),
            "topic {:?} has no partition {wanted}; it has {}",
            topic.name,
            topic.partitions.len()
        );
    }
    let producer = Producer::start(&mut cluster, compression, args.remote.timeout_ms()).await?;
    let mut sender = Sender {
        env,
        args: &args,
        topic,
        producer,
        open: Vec::new(),
        turn: 0,
    };
    let lines = Lines {
        thread: env.threads.io_thread("input"),
        input: BufReader::with_capacity(READ_BYTES, Box::new(input)),
    };
    let sent = sender.send_all(&mut cluster, lines).await?;
    eprintln!("Produced {sent} records to {}.", args.topic);
    Ok(())
}

/// An idempotent producer: an id, and the next sequence per partition.
struct Producer {
    id: i64,
    epoch: i16,
    sequences: Vec<(i32, i32)>,
    compression: Compression,
    timeout_ms: i32,
}

impl Producer {
    async fn start(
        cluster: &mut Cluster,
        compression: Compression,
        timeout_ms: i32,
    ) -> Result<Self> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let Response::InitProducerId(answer) = cluster.call(request).await? else {
            bail!("not an answer to InitProducerId");
        };
        Error::check("producer id", answer.error_code, None)?;
        let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
        Ok(Self {
            id,
            epoch,
            sequences: Vec::new(),
            compression,
            timeout_ms,
        })
    }

    /// The next base sequence of `partition`, moved on by `count`.
    fn sequence(&mut self, partition: i32, count: i32) -> i32 {
        if let Some((_, next)) = self.sequences.iter_mut().find(|(p, _)| *p == partition) {
            let sequence = *next;
            *next = protocol::increment_sequence(sequence, count);
            return sequence;
        }
        self.sequences.push((partition, count));
        0
    }
}

/// Input, read on a thread of its own: it may be silent for as long as it likes.
struct Lines {
    thread: IoThread,
    input: BufReader<Box<dyn Read + Send>>,
}

impl Lines {
    /// The next line and all that came with it, each with its end; empty at the end of all.
    async fn some(self) -> Result<(Self, Vec<u8>)> {
        let Self { thread, mut input } = self;
        let reading = thread.run(move || {
            let mut lines = Vec::new();
            read_line(&mut input, &mut lines)?;
            while lines.len() < READ_BYTES && input.buffer().contains(&b'\n') {
                read_line(&mut input, &mut lines)?;
            }
            Ok((input, lines))
        });
        let (input, lines) = reading.await.map_err(|error: anyhow::Error| error)?;
        Ok((Self { thread, input }, lines))
    }
}

struct Sender<'a> {
    env: &'a Env,
    args: &'a ProduceArgs,
    topic: TopicInfo,
    producer: Producer,
    /// A batch being filled per partition.
    open: Vec<(PartitionInfo, BatchBuilder)>,
    turn: usize,
}

impl Sender<'_> {
    async fn send_all(&mut self, cluster: &mut Cluster, mut lines: Lines) -> Result<u64> {
        let mut sent = 0;
        let mut brokers = Brokers::asked_now();
        loop {
            let mut reading = pin!(lines.some());
            let (rest, some) = loop {
                tokio::select! {
                    biased;
                    read = &mut reading => break read?,
                    () = brokers.old() => brokers.refresh(cluster).await,
                }
            };
            if some.is_empty() {
                break;
            }
            for line in some.split_inclusive(|byte| *byte == b'\n') {
                self.add(cluster, line.strip_suffix(b"\n").unwrap_or(line))
                    .await?;
                sent += 1;
            }
            lines = rest;
            brokers.refresh(cluster).await;
        }
        for (partition, batch) in std::mem::take(&mut self.open) {
            self.flush(cluster, partition, batch).await?;
        }
        Ok(sent)
    }

    async fn add(&mut self, cluster: &mut Cluster, line: &[u8]) -> Result<()> {
        let (key, value) = match self.args.key_separator.as_deref() {
            Some(separator) => {
                let at = find(line, separator.as_bytes());
                let at = at.with_context(|| format!("a line has no separator {separator:?}"))?;
                (Some(&line[..at]), &line[at + separator.len()..])
            }
            None => (None, line),
        };
        let index = self.choose(key);
        let partition = self.topic.partitions[index];
        let now = self.env.clock.wall_ms();
        let at = match self
            .open
            .iter()
            .position(|(p, _)| p.partition == partition.partition)
        {
            Some(at) => at,
            None => {
                self.open.push((partition, BatchBuilder::new()));
                self.open.len() - 1
            }
        };
        self.open[at].1.append(now, key, Some(value), &[]);
        if self.open[at].1.size() >= self.args.batch_bytes {
            let (partition, batch) = self.open.swap_remove(at);
            self.turn += 1;
            self.flush(cluster, partition, batch).await?;
        }
        Ok(())
    }

    /// Where a record goes: as asked, by its key, or where the last batch is not full yet.
    fn choose(&self, key: Option<&[u8]>) -> usize {
        let partitions = &self.topic.partitions;
        if let Some(wanted) = self.args.partition {
            let found = partitions.iter().position(|p| p.partition == wanted);
            return found.expect("checked before the first line");
        }
        match key {
            Some(key) => murmur2(key) as usize % partitions.len(),
            None => self.turn % partitions.len(),
        }
    }

    async fn flush(
        &mut self,
        cluster: &mut Cluster,
        partition: PartitionInfo,
        batch: BatchBuilder,
    ) -> Result<()> {
        let count = i32::try_from(batch.record_count()).context("too many records in a batch")?;
        let sequence = self.producer.sequence(partition.partition, count);
        let batch = batch
            .producer(self.producer.id, self.producer.epoch, sequence)
            .compression(self.producer.compression)
            .build()?;
        self.send_until_known(cluster, partition, batch).await
    }

    /// A retry carries the same sequence, so that an answer that was lost makes no duplicate.
    async fn send_until_known(
        &mut self,
        cluster: &mut Cluster,
        mut partition: PartitionInfo,
        batch: Bytes,
    ) -> Result<()> {
        let name = &self.topic.name;
        let timeout_ms = self.producer.timeout_ms;
        let give_up = tokio::time::Instant::now() + self.args.remote.timeout();
        loop {
            let error = match cluster
                .produce(name, partition, batch.clone(), timeout_ms)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !is_passing(&error) || tokio::time::Instant::now() >= give_up {
                return Err(error.into());
            }
            partition = look_again(cluster, name, partition).await;
        }
    }
}

/// Reads up to and with the next newline.
fn read_line(input: &mut impl BufRead, lines: &mut Vec<u8>) -> Result<usize> {
    let mut bounded = Read::take(input, MAX_LINE_BYTES as u64 + 1);
    let read = bounded.read_until(b'\n', lines).context("standard input")?;
    ensure!(
        read <= MAX_LINE_BYTES,
        "a line is longer than {MAX_LINE_BYTES} bytes"
    );
    Ok(read)
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    if separator.is_empty() {
        return None;
    }
    line.windows(separator.len())
        .position(|window| window == separator)
}

/// The hash by which Kafka's Java client chooses a key's partition, sign bit cleared: records of
/// one key go where other clients send them.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("chunks of four"));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// Values that Kafka's own client gives (its test of Utils.murmur2), sign bit cleared.
    #[test]
    fn hashes_keys_as_the_java_client_does() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash as u32 & 0x7fff_ffff, "{key}");
        }
    }
}
