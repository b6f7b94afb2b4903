//! A broker whose object store is slow or away: nothing is lost, and no restart is needed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::messages::*;
use protocol::{BatchBuilder, Request, decode_response, encode_request, frame};
use tests::faults::{FaultSettings, Latency};
use tests::process::BrokerProcess;
use tests::s3::{S3Server, S3Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(60);

fn start(dir: &std::path::Path, kafka: &str, store: &str) -> anyhow::Result<BrokerProcess> {
    let flags = ["--wal", "object", "--object-store", store];
    // One put at a time is not to be slowed down by its own pace.
    let pace = ["--set", "wal.object.puts.per.second=1000"];
    let more: Vec<String> = flags
        .iter()
        .chain(&pace)
        .map(|flag| (*flag).to_owned())
        .collect();
    BrokerProcess::start(&dir.join("data"), kafka, "127.0.0.1:0", &more)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Frames out and in, as many in flight as one likes.
pub(crate) struct Pipe {
    stream: TcpStream,
    received: bytes::BytesMut,
    sent: i32,
}

impl Pipe {
    pub(crate) async fn open(broker: &BrokerProcess) -> Self {
        let stream = TcpStream::connect(broker.kafka).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: bytes::BytesMut::new(),
            sent: 0,
        }
    }

    async fn send(&mut self, version: i16, request: impl Into<Request>) -> i32 {
        self.sent += 1;
        let request = request.into();
        let frame = encode_request(version, self.sent, Some("pipe"), &request).unwrap();
        // One that was closed is found to be so when the answer is read.
        let _ = self.stream.write_all(&frame.to_bytes()).await;
        self.sent
    }

    async fn frame(&mut self) -> Bytes {
        self.next().await.expect("the connection was closed")
    }

    /// `None` when the connection ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = frame::split_response(&mut self.received, 1 << 24).unwrap() {
                return Some(frame);
            }
            let read = self.stream.read_buf(&mut self.received);
            // A reset is as good an end as any.
            if tokio::time::timeout(LIMIT, read)
                .await
                .unwrap()
                .unwrap_or(0)
                == 0
            {
                return None;
            }
        }
    }

    /// Produces one record; the answer comes with [`Pipe::produced`].
    pub(crate) async fn produce(&mut self, timeout_ms: i32) {
        let mut builder = BatchBuilder::new();
        builder.append(env::real::env().clock.wall_ms(), None, Some(b"value"), &[]);
        let data = produce_request::PartitionProduceData::default()
            .with_records(Some(builder.build().unwrap()));
        let topic = produce_request::TopicProduceData::default()
            .with_name(TopicName(text("log")))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(vec![topic]);
        self.send(9, request).await;
    }

    /// Error code and offset of the next answer, which is to a produce.
    pub(crate) async fn produced(&mut self) -> (i16, i64) {
        self.produced_or_closed()
            .await
            .expect("the connection was closed")
    }

    /// The same, or `None` when the connection ends instead.
    pub(crate) async fn produced_or_closed(&mut self) -> Option<(i16, i64)> {
        let frame = self.next().await?;
        let (_, response) = decode_response(protocol::ApiKey::Produce, 9, frame).unwrap();
        let protocol::Response::Produce(response) = response else {
            panic!("{response:?}")
        };
        let answer = &response.responses[0].partition_responses[0];
        Some((answer.error_code, answer.base_offset))
    }

    /// Brokers that clients are told of; `None` when the connection ends instead.
    pub(crate) async fn brokers(&mut self) -> Option<usize> {
        self.send(9, MetadataRequest::default()).await;
        let (_, response) =
            decode_response(protocol::ApiKey::Metadata, 9, self.next().await?).unwrap();
        let protocol::Response::Metadata(response) = response else {
            panic!("{response:?}")
        };
        Some(response.brokers.len())
    }

    pub(crate) async fn create(&mut self) {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(TopicName(text("log")))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        self.send(7, request).await;
        self.frame().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produces_in_flight_overlap_on_a_slow_log() {
    let server = S3Server::start(S3Settings::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &server.url("overlap")).unwrap();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    let slow = Latency {
        median: Duration::from_millis(200),
        p99: Duration::from_millis(201),
    };
    server.set_faults(FaultSettings {
        latency: Some(slow),
        ..FaultSettings::default()
    });
    const COUNT: i64 = 20;
    let begun = Instant::now();
    for expected in 0..COUNT {
        pipe.produce(30_000).await;
        assert_eq!(pipe.produced().await, (0, expected));
    }
    let one_by_one = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..5 {
        pipe.produce(30_000).await;
    }
    for expected in COUNT..2 * COUNT {
        assert_eq!(pipe.produced().await, (0, expected), "in order");
        if expected + 5 < 2 * COUNT {
            pipe.produce(30_000).await;
        }
    }
    let overlapping = begun.elapsed();
    assert!(
        one_by_one >= 3 * overlapping,
        "{one_by_one:?} against {overlapping:?}"
    );
    server.set_faults(FaultSettings::default());
    broker.stop(LIMIT).unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for_in_service_and_in_recovery() {
    let server = S3Server::start(S3Settings::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), "127.0.0.1:0", &server.url("away")).unwrap();
    let kafka = broker.kafka.to_string();
    let mut pipe = Pipe::open(&broker).await;
    pipe.create().await;
    pipe.produce(30_000).await;
    assert_eq!(pipe.produced().await, (0, 0));
    let away = FaultSettings {
        away: true,
        ..FaultSettings::default()
    };
    server.set_faults(away);
    // Queued, and told that it is not durable in time; it stays queued.
    pipe.produce(500).await;
    assert_eq!(
        pipe.produced().await.0,
        protocol::ErrorCode::RequestTimedOut.code()
    );
    server.set_faults(FaultSettings::default());
    pipe.produce(30_000).await;
    assert_eq!(
        pipe.produced().await,
        (0, 2),
        "the one before has its place"
    );
    // And while a start needs it: not ready, with the reason, until it is back.
    server.set_faults(away);
    broker.kill_9().unwrap();
    let (path, url) = (dir.path().to_owned(), server.url("away"));
    let starting = tokio::task::spawn_blocking(move || start(&path, &kafka, &url));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !starting.is_finished(),
        "it cannot be ready without what it must recover"
    );
    server.set_faults(FaultSettings::default());
    let broker = starting.await.unwrap().unwrap();
    let mut pipe = Pipe::open(&broker).await;
    pipe.produce(30_000).await;
    assert_eq!(pipe.produced().await, (0, 3));
    broker.stop(LIMIT).unwrap();
    server.shutdown().await;
}
