//! Closed logs leave nothing in the object store but their seals, wherever their deletion was cut
//! off: at a clean stop, by the death of the node in the middle of it, by a death while it is made
//! good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::client::{Cluster, Settings};
use broker::config::Config;
use broker::{Node, NodeParts};
use bytes::Bytes;
use env::sim::{NetworkFaults, SimHost, SimNetwork};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::{BatchBuilder, Response};
use tests::simstore::SimStore;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::nemesis::{GOOD_DISK, good_store};
use crate::run::on_its_own;

const TOPIC: &str = "swept";
const BROKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A store in which only so many groups of logs are deleted: the next deletion never answers, and
/// says so.
#[derive(Clone, Debug)]
struct Cut {
    store: SimStore,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    left: Mutex<u64>,
    at_the_cut: Notify,
    /// Logs whose objects were listed.
    listed: Mutex<BTreeSet<String>>,
}

impl Cut {
    fn allow(&self, deletions: u64) {
        *self.shared.left.lock().expect("no panic") = deletions;
    }

    async fn pass(&self, path: &Path) {
        if log_of(path).is_none() {
            return;
        }
        let may = {
            let mut left = self.shared.left.lock().expect("no panic");
            let may = *left > 0;
            *left = left.saturating_sub(1);
            may
        };
        if !may {
            self.shared.at_the_cut.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// What is left of each log.
    fn logs(&self) -> BTreeMap<String, usize> {
        let mut logs = BTreeMap::new();
        for path in self.store.snapshot().keys() {
            if let Some(log) = log_of(path) {
                *logs.entry(log).or_default() += 1;
            }
        }
        logs
    }
}

/// The log in `…/wal/{node}/{log}/…`.
fn log_of(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let at = parts.iter().position(|part| part == "wal")?;
    parts.get(at + 2).cloned()
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with a cut", self.store)
    }
}

#[async_trait]
impl ObjectStore for Cut {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let passed = locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                this.pass(&location).await;
                Ok(location)
            }
        });
        self.store.delete_stream(passed.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(log) = prefix.and_then(log_of) {
            self.shared.listed.lock().expect("no panic").insert(log);
        }
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

struct World {
    host: SimHost,
    network: SimNetwork,
    store: Cut,
    sent: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let host = SimHost::new(seed, &network, "broker", BROKER);
        host.threads.set_speed(GOOD_DISK);
        let store = Cut {
            store: SimStore::new(seed, good_store()),
            shared: Arc::default(),
        };
        Self {
            host,
            network,
            store,
            sent: 0,
        }
    }

    async fn start(&self) -> Node {
        let config = Config::with(&[
            ("data.dir", "/data"),
            ("listeners", "PLAINTEXT://10.0.0.1:9092"),
            ("admin.listen", "10.0.0.1:9644"),
            ("wal.backend", "object"),
            ("upload.age.ms", "1000"),
            ("shutdown.timeout.ms", "5000"),
        ])
        .expect("the world is sound");
        let parts = NodeParts {
            store: Some((Arc::new(self.store.clone()), String::new())),
            ..NodeParts::default()
        };
        Node::start(self.host.env(), config, parts)
            .await
            .expect("the world is sound")
    }

    /// As a kill would end it.
    fn kill(&self, node: Node) {
        self.host.disk.kill();
        drop(node);
        self.network.kill_host(BROKER);
    }

    fn client(&self) -> Cluster {
        let address = IpAddr::from([10, 0, 1, 1]);
        let host = SimHost::new(7, &self.network, "client", address);
        let settings = Settings {
            client_id: "client".to_owned(),
            timeout: Duration::from_secs(10),
        };
        Cluster::new(host.env(), vec![SocketAddr::new(BROKER, 9092)], settings)
    }

    /// Appends `count` records, each acknowledged before the next is sent: a group each.
    async fn produce(&mut self, count: i64) {
        let mut client = self.client();
        for number in self.sent..self.sent + count {
            let batch = batch(number);
            loop {
                let Ok(topic) = client.topic(TOPIC).await else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let partition = topic.partitions[0];
                match client.produce(TOPIC, partition, batch.clone(), 5000).await {
                    Ok(offset) => break assert_eq!(offset, number),
                    // Refused before anything was appended: no partition was open yet.
                    Err(error) if error.code().is_some() => {
                        sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => panic!("{number}: {error}"),
                }
            }
        }
        self.sent += count;
    }

    async fn create_topic(&self) {
        let topic = CreatableTopic::default()
            .with_name(protocol::messages::StrBytes::from_static_str(TOPIC).into())
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        match self
            .client()
            .call(request)
            .await
            .expect("the world is sound")
        {
            Response::CreateTopics(answer) => assert_eq!(answer.topics[0].error_code, 0),
            other => panic!("{other:?} to a creation"),
        }
    }
}

fn batch(number: i64) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1_767_225_600_000, None, Some(&number.to_be_bytes()), &[]);
    batch.build().expect("the world is sound")
}

async fn live(seed: u64) {
    let mut world = World::new(seed);
    let node = world.start().await;
    world.create_topic().await;
    // Everything is uploaded and committed, and no group is deleted before the clean stop.
    world.produce(12).await;
    sleep(Duration::from_secs(5)).await;
    assert!(node.stop().await.is_ok());
    let left: usize = world.store.logs().values().sum();
    assert!(left >= 12, "deletion was cut off: {left} objects left");

    // The node dies in the middle of making it good, again and again; each life leaves another log.
    for deletions in [0, 1, 5, 2] {
        world.store.allow(deletions);
        let node = world.start().await;
        world.produce(3).await;
        world.store.shared.at_the_cut.notified().await;
        world.kill(node);
    }
    let left: usize = world.store.logs().values().sum();
    assert!(left >= 12, "most of it is left: {left}");

    // One that lives: the groups go.
    world.store.allow(u64::MAX);
    let node = world.start().await;
    world.produce(1).await;
    sleep(Duration::from_secs(5)).await;
    check_seals_only(&world);
    assert!(node.stop().await.is_ok());
    // Once no put of theirs can land any more, the logs need not be looked at again.
    world.host.clock.jump_wall(7_200_000);
    let node = world.start().await;
    sleep(Duration::from_secs(5)).await;
    assert!(node.stop().await.is_ok());
    world
        .store
        .shared
        .listed
        .lock()
        .expect("the world is sound")
        .clear();
    let node = world.start().await;
    world.produce(1).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        world
            .store
            .shared
            .listed
            .lock()
            .expect("the world is sound")
            .len(),
        1,
        "only the log that was closed just now is looked at; the others are recorded as swept"
    );
    let mut client = world.client();
    let topic = client.topic(TOPIC).await.expect("the world is sound");
    let limits = broker::client::FetchLimits {
        max_wait_ms: 500,
        max_bytes: 1 << 20,
    };
    let partition = topic.partitions[0];
    let fetched = client
        .fetch(TOPIC, partition, 0, limits)
        .await
        .expect("the world is sound");
    assert_eq!(fetched.high_watermark, world.sent);
    check_seals_only(&world);
    assert!(node.stop().await.is_ok());
}

/// All but the log that is written hold one object at most: the seal.
fn check_seals_only(world: &World) {
    let logs = world.store.logs();
    let more: Vec<_> = logs.iter().filter(|(_, objects)| **objects > 1).collect();
    assert!(more.len() <= 1, "groups of closed logs are left: {logs:?}");
}

#[test]
fn closed_logs_leave_nothing_but_seals_wherever_their_deletion_was_cut_off() {
    on_its_own(1, || live(1));
}
