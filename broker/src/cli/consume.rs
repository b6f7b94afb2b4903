//! `headwater consume`: a range of a topic to standard output.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use clap::Args;
use env::Env;
use protocol::Record;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::output::Format;
use super::remote::{Brokers, EARLIEST, LATEST, Remote, is_passing, look_again, offset_at};
use super::time::parse_time_ms;
use crate::client::{Cluster, FetchLimits, PartitionInfo};

/// Bytes of one fetch.
const FETCH_BYTES: i32 = 4 << 20;
/// How long one fetch waits for new records when following.
const FOLLOW_WAIT_MS: i32 = 1000;

/// Print the records of a topic: a line per value, or a JSON object per record.
#[derive(Args, Debug)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    remote: Remote,
    /// The topic.
    topic: String,
    /// Only this partition.
    #[arg(long, short = 'p')]
    partition: Option<i32>,
    /// Where to begin: `earliest`, `latest`, an offset, or a time (RFC 3339, or `@milliseconds`).
    #[arg(long, default_value = "earliest")]
    from: String,
    /// Where to end, exclusive, in the same forms; without it, the end as it is now.
    #[arg(long, conflicts_with = "follow")]
    to: Option<String>,
    /// Go on waiting for new records.
    #[arg(long, short = 'f')]
    follow: bool,
    /// Stop after this many records.
    #[arg(long, short = 'n')]
    max: Option<u64>,
}

/// What is left to read of one partition.
struct Range {
    partition: PartitionInfo,
    next: i64,
    /// Exclusive; `None` follows for ever.
    end: Option<i64>,
    /// Since when nobody gives its records.
    failing: Option<Instant>,
}

/// Runs `headwater consume`.
pub(crate) async fn run(env: &Env, args: ConsumeArgs, mut out: impl Write) -> Result<()> {
    let mut cluster = args.remote.cluster(env).await?;
    let topic = cluster.topic(&args.topic).await?;
    let mut ranges = Vec::new();
    for partition in topic.partitions {
        if args
            .partition
            .is_some_and(|wanted| wanted != partition.partition)
        {
            continue;
        }
        let next = position(&mut cluster, &args.topic, partition, &args.from).await?;
        let end = match (&args.to, args.follow) {
            (_, true) => None,
            (Some(to), _) => Some(position(&mut cluster, &args.topic, partition, to).await?),
            (None, _) => Some(position(&mut cluster, &args.topic, partition, "latest").await?),
        };
        // Whatever epoch its leader is at: a restart in the middle changes it.
        let partition = PartitionInfo {
            leader_epoch: -1,
            ..partition
        };
        ranges.push(Range {
            partition,
            next,
            end,
            failing: None,
        });
    }
    ensure!(
        !ranges.is_empty(),
        "topic {:?} has no such partition",
        args.topic
    );
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut brokers = Brokers::asked_now();
    loop {
        brokers.refresh(&mut cluster).await;
        ranges.retain(|range| range.end.is_none_or(|end| range.next < end));
        if ranges.is_empty() || left == 0 {
            return Ok(out.flush()?);
        }
        let mut idle = true;
        let alone = ranges.len() == 1;
        for range in &mut ranges {
            let before = range.next;
            read_some(&mut cluster, &args, range, alone, &mut left, &mut out).await?;
            idle &= range.next == before;
        }
        out.flush()?;
        if idle && !alone {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}

async fn read_some(
    cluster: &mut Cluster,
    args: &ConsumeArgs,
    range: &mut Range,
    may_wait: bool,
    left: &mut u64,
    out: &mut impl Write,
) -> Result<()> {
    let max_wait_ms = if may_wait { FOLLOW_WAIT_MS } else { 0 };
    let limits = FetchLimits {
        max_wait_ms,
        max_bytes: FETCH_BYTES,
    };
    let fetch = cluster.fetch(&args.topic, range.partition, range.next, limits);
    let found = match fetch.await {
        Ok(found) => found,
        Err(error) => {
            let since = *range.failing.get_or_insert_with(Instant::now);
            if !is_passing(&error) || since.elapsed() >= args.remote.timeout() {
                return Err(error.into());
            }
            // Its leader has changed, or a broker is gone.
            let found = look_again(cluster, &args.topic, range.partition).await;
            range.partition.leader = found.leader;
            return Ok(());
        }
    };
    range.failing = None;
    let mut failed = Ok(());
    range.next = found.for_each(range.next, |record| {
        let within = range.end.is_none_or(|end| record.offset < end);
        if within && *left > 0 && failed.is_ok() {
            *left -= 1;
            failed = print(args, range.partition.partition, record, out);
        }
    })?;
    Ok(failed?)
}

fn print(
    args: &ConsumeArgs,
    partition: i32,
    record: &Record<'_>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    match args.remote.output {
        Format::Table => {
            out.write_all(record.value.unwrap_or_default())?;
            out.write_all(b"\n")
        }
        Format::Json => {
            let headers: Vec<Value> = record
                .headers
                .iter()
                .map(|h| json!([lossy(Some(h.key)), lossy(h.value)]))
                .collect();
            let object = json!({
                "partition": partition,
                "offset": record.offset,
                "timestamp_ms": record.timestamp,
                "key": lossy(record.key),
                "value": lossy(record.value),
                "headers": headers,
            });
            writeln!(out, "{object}")
        }
    }
}

/// Text as it is; what is no UTF-8 shows its replacement character.
fn lossy(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(bytes)))
}

async fn position(
    cluster: &mut Cluster,
    topic: &str,
    partition: PartitionInfo,
    text: &str,
) -> Result<i64> {
    let timestamp = match text {
        "earliest" => EARLIEST,
        "latest" => LATEST,
        _ => match text.parse::<i64>() {
            Ok(offset) => {
                ensure!(offset >= 0, "offset {offset} is negative");
                let earliest = offset_at(cluster, topic, partition, EARLIEST)
                    .await?
                    .unwrap_or(0);
                return Ok(offset.max(earliest));
            }
            Err(_) => parse_time_ms(text).with_context(|| {
                format!("{text:?}: expected earliest, latest, an offset or a time")
            })?,
        },
    };
    match offset_at(cluster, topic, partition, timestamp).await? {
        Some(offset) => Ok(offset),
        // No record is as late as that time: the end.
        None => Ok(offset_at(cluster, topic, partition, LATEST)
            .await?
            .unwrap_or(0)),
    }
}
