//! One raw connection with as many requests in flight as one likes.

use std::time::Duration;

use bytes::Bytes;
use protocol::messages::*;
use protocol::{BatchBuilder, Request, decode_response, encode_request, frame};
use tests::process::BrokerProcess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(60);

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
