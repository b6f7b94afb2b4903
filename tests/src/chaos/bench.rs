//! A cluster without load over a store that counts, for measuring one thing at a time.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use tokio::runtime::Runtime;

use super::fleet::{Fleet, Node, Plan};
use crate::s3::{S3Server, S3Settings};

/// Nodes, all of them controllers and brokers.
pub(super) const NODES: i32 = 3;
/// Longest that any wait may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
const RECORD_BYTES: usize = 64 << 10;

/// The cluster and its store.
pub(super) struct Bench {
    pub(super) runtime: Runtime,
    pub(super) server: S3Server,
    pub(super) fleet: Fleet,
}

/// Requests to the store: puts, gets, others.
pub(super) type Requests = (u64, u64, u64);

pub(super) fn since(before: Requests, now: Requests) -> Requests {
    (now.0 - before.0, now.1 - before.1, now.2 - before.2)
}

// === impl Bench ===

impl Bench {
    /// Starts three nodes whose data lies in `dir`, with further `settings`, over `store`.
    pub(super) fn start(
        dir: &Path,
        store: S3Settings,
        settings: &[(&str, String)],
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let server = runtime.block_on(S3Server::start(store))?;
        let settings = settings.iter();
        let plan = Plan {
            combined: NODES,
            brokers: 0,
            store_url: server.url("bench"),
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            net: None,
        };
        let mut fleet = Fleet::new(dir, plan)?;
        for node in fleet.nodes() {
            fleet.start(node)?;
        }
        fleet.wait_until_ready(PATIENCE)?;
        Ok(Self {
            runtime,
            server,
            fleet,
        })
    }

    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.fleet.bootstrap());
        config
    }

    pub(super) fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<_> = self.config().create()?;
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        for result in self
            .runtime
            .block_on(admin.create_topics([&topic], &options))?
        {
            result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        }
        Ok(())
    }

    /// The partitions of `topic` that `node` leads.
    pub(super) fn led(&self, topic: &str, node: Node) -> Result<Vec<i32>> {
        let client: BaseConsumer = self.config().create()?;
        let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
        let topics = metadata.topics().iter();
        let partitions = topics.flat_map(|topic| topic.partitions());
        let led = partitions.filter(|partition| partition.leader() == node);
        Ok(led.map(|partition| partition.id()).collect())
    }

    pub(super) fn producer(&self) -> Result<FutureProducer> {
        let mut config = self.config();
        config
            .set("linger.ms", "0")
            .set("message.timeout.ms", "300000")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "100")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "100")
            .set("queue.buffering.max.messages", "1000000");
        Ok(config.create()?)
    }

    /// Writes `mib` over `partitions`, `in_flight` records at a time; gives how many records.
    pub(super) fn fill(
        &self,
        producer: &FutureProducer,
        topic: &str,
        partitions: &[i32],
        mib: u64,
        in_flight: usize,
    ) -> Result<u64> {
        let body = vec![b'x'; RECORD_BYTES];
        let records = (mib << 20) / RECORD_BYTES as u64;
        let of = partitions.iter().copied().cycle().take(records as usize);
        let send = |partition: i32| {
            let record: FutureRecord<'_, (), [u8]> =
                FutureRecord::to(topic).partition(partition).payload(&body);
            let sent = producer.send(record, Timeout::After(PATIENCE));
            async { sent.await.map(drop).map_err(|(error, _)| error) }
        };
        let all = futures::stream::iter(of).map(send);
        let all = all.buffer_unordered(in_flight);
        self.runtime.block_on(all.try_collect::<()>())?;
        producer.flush(PATIENCE)?;
        Ok(records)
    }

    /// Requests to the store while nobody asks for anything.
    pub(super) fn requests_within(&self, length: Duration) -> Requests {
        let before = self.server.requests();
        std::thread::sleep(length);
        since(before, self.server.requests())
    }
}
