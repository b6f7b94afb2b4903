//! An idempotent producer with several batches under way on one connection, as real ones have: it
//! repeats all that were not answered, in order.

use std::collections::VecDeque;
use std::time::Duration;

use broker::client::{Cluster, Connection, Error};
use bytes::Bytes;
use env::Env;
use env::sim::{SimEntropy, SimHost};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{ProduceRequest, StrBytes};
use protocol::{ApiKey, ErrorCode, Request, Response, decode_response};
use tests::history::Outcome;
use tokio::time::{sleep, timeout};

use crate::clients::{self, PAUSE, Picture, Shared, TOPIC, partition};
use crate::machine;

/// Which of the producers it is.
pub(crate) const PIPELINED: u32 = 2;
/// Most batches under way, as Kafka's producers have it.
const AHEAD: u64 = 5;
/// Highest version that names topics rather than their ids.
const BY_NAME: i16 = 12;
const TRIES: u32 = 200;

struct Batch {
    values: Vec<u64>,
    bytes: Bytes,
}

struct Producer {
    shared: Shared,
    env: Env,
    cluster: Cluster,
    picture: Picture,
    number: u32,
}

/// Sends runs of batches until told to stop.
pub(crate) async fn producer(shared: Shared, seed: u64, number: u32) {
    let random = SimEntropy::new(seed);
    let mut cluster = shared.cluster(random.below(u64::MAX), number);
    // The same machine once more, for connections of its own.
    let address = std::net::IpAddr::from([10, 0, 1, number as u8]);
    let name = format!("client-{number}");
    let host = SimHost::new(random.below(u64::MAX), &shared.network, &name, address);
    let mut identity = clients::identity(&shared, &mut cluster).await;
    let mut producer = Producer {
        shared: shared.clone(),
        env: host.env(),
        cluster,
        picture: Picture::default(),
        number,
    };
    let mut next = u64::from(number) << 32;
    while !shared.stopped() {
        let index = random.below(shared.partitions as u64) as i32;
        let mut run = VecDeque::new();
        for _ in 0..1 + random.below(AHEAD) {
            let count = 1 + random.below(3);
            let values: Vec<u64> = (next..next + count).collect();
            next += count;
            for value in &values {
                let partition = partition(index);
                shared.history().sending(number, &partition, *value);
            }
            let bytes = clients::build(&random, &values, index, identity.as_mut());
            run.push_back(Batch { values, bytes });
        }
        producer.send_all(index, &mut run).await;
        if !run.is_empty() {
            for value in run.iter().flat_map(|batch| &batch.values) {
                shared.history().sent(*value, Outcome::Unknown);
            }
            // Unknown for good: what comes next is another producer's.
            identity = clients::identity(&shared, &mut producer.cluster).await;
        }
        sleep(Duration::from_millis(random.below(60))).await;
    }
}

// === impl Producer ===

impl Producer {
    /// Sends the run again and again until all is acknowledged; what is left is unknown.
    async fn send_all(&mut self, index: i32, run: &mut VecDeque<Batch>) {
        for tried in 0..TRIES {
            let Err(error) = self.attempt(index, run, tried == 0).await else {
                return;
            };
            self.picture.forget();
            self.shared.trace.line(&format!("{TOPIC}-{index}: {error}"));
            let code = error.code();
            if code == Some(ErrorCode::OutOfOrderSequenceNumber)
                && let Some(first) = run.front()
            {
                self.shared
                    .observed()
                    .sequences
                    .refused(index, &first.bytes);
            }
            if !code.is_none_or(ErrorCode::is_retriable) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends all of the run on a new connection; takes away what is acknowledged. The error is that
    /// of the first batch that was not: those behind it may be out of order only because of it.
    async fn attempt(
        &mut self,
        index: i32,
        run: &mut VecDeque<Batch>,
        first: bool,
    ) -> Result<(), Error> {
        let partition = self.picture.partition(&mut self.cluster, index).await?;
        let address = machine::kafka(partition.leader);
        let settings = clients::settings(self.number);
        let patience = settings.timeout;
        let mut connection = Connection::open(&self.env, address, settings).await?;
        let version = connection.version(ApiKey::Produce, BY_NAME)?;
        for batch in run.iter() {
            connection
                .send(&request(index, &batch.bytes), version)
                .await?;
        }
        while let Some(batch) = run.front() {
            let broken = |source| Error::Broken {
                address: address.to_string(),
                api: ApiKey::Produce,
                source,
            };
            let frame = match timeout(patience, connection.receive()).await {
                Ok(frame) => frame.map_err(broken)?,
                Err(_) => return Err(broken(std::io::ErrorKind::TimedOut.into())),
            };
            let decoded = decode_response(ApiKey::Produce, version, frame);
            let Ok((_, Response::Produce(answer))) = decoded else {
                panic!("a produce is answered with one");
            };
            let result = &answer.responses[0].partition_responses[0];
            Error::check(
                "produce",
                result.error_code,
                result.error_message.as_deref(),
            )?;
            let (base, node) = (result.base_offset, partition.leader);
            let what = format!(
                "{TOPIC}-{index}: {} bytes at {base} by node {node}",
                batch.bytes.len()
            );
            self.shared.trace.line(&what);
            if first {
                self.shared
                    .observed()
                    .writers
                    .acknowledged(index, base, node);
            }
            for (value, place) in batch.values.iter().zip(0..) {
                let outcome = Outcome::Acknowledged(base + place);
                self.shared.history().sent(*value, outcome);
            }
            run.pop_front();
        }
        Ok(())
    }
}

fn request(index: i32, batch: &Bytes) -> Request {
    let data = PartitionProduceData::default()
        .with_index(index)
        .with_records(Some(batch.clone()));
    let topics = TopicProduceData::default()
        .with_name(StrBytes::from_static_str(TOPIC).into())
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5000)
        .with_topic_data(vec![topics]);
    request.into()
}
