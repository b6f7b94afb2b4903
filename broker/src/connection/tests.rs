use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, MetadataRequest, MetadataResponse,
    ProduceResponse,
};
use protocol::{decode_response, encode_request, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::*;

/// Answers a Produce when told to, and notes in which order things start.
#[derive(Default)]
struct Fake {
    produced: Mutex<VecDeque<oneshot::Sender<()>>>,
    started: Mutex<Vec<&'static str>>,
    changed: Notify,
    calls: AtomicUsize,
    mute: Mutex<Duration>,
}

impl Fake {
    fn note(&self, what: &'static str) {
        self.started.lock().push(what);
        self.changed.notify_waiters();
    }

    async fn started(&self, count: usize) -> Vec<&'static str> {
        loop {
            let changed = self.changed.notified();
            let started = self.started.lock().clone();
            if started.len() >= count {
                return started;
            }
            changed.await;
        }
    }

    fn finish(&self, at: usize) {
        self.produced
            .lock()
            .remove(at)
            .expect("it was produced")
            .send(())
            .expect("it waits");
    }
}

#[async_trait]
impl Service for Fake {
    async fn produce(
        &self,
        _: &RequestContext,
        request: ProduceRequest,
        _: &Arc<Frame>,
    ) -> Result<Pending, Hangup> {
        let (done, wait) = oneshot::channel();
        self.produced.lock().push_back(done);
        self.note("produce");
        let wants_answer = request.acks != 0;
        Ok(Box::pin(async move {
            let _ = wait.await;
            let response = wants_answer.then(|| ProduceResponse::default().into());
            Ok(Answer {
                response,
                mute: Duration::ZERO,
            })
        }))
    }

    async fn call(&self, context: &RequestContext, request: Request) -> Result<Answer, Hangup> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.note("call");
        let mut answer = match request {
            Request::ApiVersions(_) => Answer::new(ApiVersionsResponse::default()),
            Request::Metadata(_) => {
                let name = context.software.name.clone();
                Answer::new(MetadataResponse::default().with_cluster_id(Some(name)))
            }
            Request::Fetch(_) => std::future::pending().await,
            _ => return Err(Hangup("not served here")),
        };
        answer.mute = *self.mute.lock();
        Ok(answer)
    }
}

struct Client {
    stream: DuplexStream,
    received: BytesMut,
    next: i32,
    fake: Arc<Fake>,
    drain: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

fn connect(budget: &Arc<FrameBudget>) -> Client {
    let fake = Arc::new(Fake::default());
    let drain = CancellationToken::new();
    let shared = Shared {
        service: Arc::<Fake>::clone(&fake),
        budget: Arc::clone(budget),
        settings: ConnectionSettings {
            read: ReadSettings {
                max_frame: 1 << 20,
                receive_timeout: Duration::from_secs(30),
                idle: Some(Duration::from_secs(600)),
            },
            pipeline: Pipeline {
                requests: 4,
                bytes: 1 << 20,
            },
        },
        metrics: Arc::new(ConnectionMetrics::new(&mut Registry::default())),
        drain: drain.clone(),
    };
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let peer = "127.0.0.1:1".parse().unwrap();
    let identity = Identity {
        id: 1,
        listener: Arc::from("PLAINTEXT"),
        peer,
    };
    let served = tokio::spawn(serve(Box::new(theirs), identity, shared));
    Client {
        stream: ours,
        received: BytesMut::new(),
        next: 0,
        fake,
        drain,
        served,
    }
}

fn client() -> Client {
    connect(&FrameBudget::new(8 << 20, 1 << 20))
}

impl Client {
    async fn send(&mut self, version: i16, request: impl Into<Request>) -> i32 {
        self.next += 1;
        let request = request.into();
        let encoded = encode_request(version, self.next, Some("test"), &request).unwrap();
        self.stream.write_all(&encoded.to_bytes()).await.unwrap();
        self.next
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = frame::split_response(&mut self.received, 1 << 20).unwrap() {
                return Some(frame);
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn correlation(&mut self) -> Option<i32> {
        self.frame()
            .await
            .map(|frame| frame::response_correlation_id(&frame).unwrap())
    }

    async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(10), self.frame())
            .await
            .is_err()
    }
}

fn produce(acks: i16) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_holds_no_frame_and_ends_with_its_client() {
    let budget = FrameBudget::new(8 << 20, 1 << 20);
    let mut client = connect(&budget);
    client.send(12, FetchRequest::default()).await;
    assert_eq!(client.fake.started(1).await, ["call"]);
    assert!(client.is_silent().await);
    assert_eq!(budget.held(), 0);
    drop(client.stream);
    let ended = timeout(Duration::from_secs(1), client.served).await;
    ended.expect("nothing else would end it").unwrap();
}

#[tokio::test(start_paused = true)]
async fn produces_overlap_and_are_answered_in_order() {
    let mut client = client();
    for _ in 0..3 {
        client.send(9, produce(-1)).await;
    }
    client.fake.started(3).await;
    client.fake.finish(2);
    client.fake.finish(1);
    assert!(client.is_silent().await, "the first is not durable yet");
    client.fake.finish(0);
    for expected in 1..=3 {
        assert_eq!(client.correlation().await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_produces_wait_at_once() {
    let mut client = client();
    for _ in 0..6 {
        client.send(9, produce(-1)).await;
    }
    client.fake.started(4).await;
    assert!(client.is_silent().await);
    assert_eq!(client.fake.started.lock().len(), 4);
    client.fake.finish(0);
    assert_eq!(client.fake.started(5).await.len(), 5);
    assert_eq!(client.correlation().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_produce_waits_for_the_produces_before_it() {
    let mut client = client();
    client.send(9, produce(-1)).await;
    client.send(9, MetadataRequest::default()).await;
    client.send(9, produce(-1)).await;
    client.fake.started(1).await;
    assert!(client.is_silent().await);
    assert_eq!(*client.fake.started.lock(), ["produce"]);
    client.fake.finish(0);
    assert_eq!(client.fake.started(3).await, ["produce", "call", "produce"]);
    client.fake.finish(0);
    for expected in 1..=3 {
        assert_eq!(client.correlation().await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn acks_0_gets_no_answer_and_keeps_its_place() {
    let mut client = client();
    client.send(9, produce(0)).await;
    client.send(9, MetadataRequest::default()).await;
    client.fake.started(1).await;
    assert!(client.is_silent().await);
    client.fake.finish(0);
    assert_eq!(client.correlation().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_or_version_or_length_closes() {
    let unknown_key = [0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0, 0];
    let produce_v2 = [0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    let negative = [0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0, 0, 0, 0, 1];
    let too_short = [0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0, 1];
    let too_long = [0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0, 0, 0, 0, 1];
    let garbage = [0, 0, 0, 12, 0, 3, 0, 9, 0, 0, 0, 1, 0x7f, 0xff, 0, 0];
    let bad: [&[u8]; 6] = [
        &unknown_key,
        &produce_v2,
        &negative,
        &too_short,
        &too_long,
        &garbage,
    ];
    for bytes in bad {
        let mut client = client();
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.frame().await, None, "{bytes:?}");
        assert_eq!(client.fake.calls.load(Ordering::Relaxed), 0);
        client.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn api_versions_above_ours_is_answered_in_version_0_and_may_ask_again() {
    let mut client = client();
    let frame = [0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0];
    client.stream.write_all(&frame).await.unwrap();
    let answer = client.frame().await.unwrap();
    let (correlation, response) = decode_response(ApiKey::ApiVersions, 0, answer).unwrap();
    assert_eq!(correlation, 7);
    let Response::ApiVersions(response) = response else {
        panic!("{response:?}")
    };
    assert_eq!(response.error_code, 35);
    assert_eq!(response.api_keys.len(), 1);
    let request = ApiVersionsRequest::default()
        .with_client_software_name("tester".into())
        .with_client_software_version("1".into());
    client.send(3, request).await;
    assert_eq!(client.correlation().await, Some(1));
    // What the client said of itself goes with its later requests.
    client.send(9, MetadataRequest::default()).await;
    let answer = client.frame().await.unwrap();
    let (_, response) = decode_response(ApiKey::Metadata, 9, answer).unwrap();
    let Response::Metadata(response) = response else {
        panic!("{response:?}")
    };
    assert_eq!(response.cluster_id.unwrap().as_str(), "tester");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connection_is_answered_first_and_muted_then() {
    let mut client = client();
    *client.fake.mute.lock() = Duration::from_secs(5);
    client.send(9, MetadataRequest::default()).await;
    client.send(9, MetadataRequest::default()).await;
    let begun = Instant::now();
    assert_eq!(client.correlation().await, Some(1));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(client.correlation().await, Some(2));
    assert!(begun.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_drain_answers_what_is_in_flight() {
    let mut client = client();
    client.send(9, produce(-1)).await;
    client.fake.started(1).await;
    client.drain.cancel();
    assert!(client.is_silent().await);
    client.fake.finish(0);
    assert_eq!(client.correlation().await, Some(1));
    assert_eq!(client.frame().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_and_an_idle_connection_are_closed() {
    let mut slow = client();
    slow.stream.write_all(&[0, 0, 1, 0, 0, 3]).await.unwrap();
    let begun = Instant::now();
    assert_eq!(slow.frame().await, None);
    assert_eq!(begun.elapsed().as_secs(), 30);
    let mut idle = client();
    let begun = Instant::now();
    assert_eq!(idle.frame().await, None);
    assert_eq!(begun.elapsed().as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn stalled_frames_give_way_when_memory_is_short() {
    let budget = FrameBudget::new((2 << 20) + (1 << 20), 1 << 20);
    let mut hostile = Vec::new();
    // Each announces the largest frame and stops at three quarters: more than there is.
    for _ in 0..8 {
        let mut client = connect(&budget);
        client
            .stream
            .write_all(&(1i32 << 20).to_be_bytes())
            .await
            .unwrap();
        let bytes = vec![0; 3 << 18];
        let wrote = timeout(Duration::from_millis(50), client.stream.write_all(&bytes)).await;
        hostile.push((client, wrote.is_ok()));
    }
    let mut good = connect(&budget);
    let begun = Instant::now();
    let topics = vec![
        protocol::messages::metadata_request::MetadataRequestTopic::default()
            .with_name(Some(protocol::messages::TopicName("t".repeat(200).into())));
        4000
    ];
    good.send(9, MetadataRequest::default().with_topics(Some(topics)))
        .await;
    assert_eq!(good.correlation().await, Some(1));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    // What it cost is given back.
    drop(hostile);
    drop(good);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(budget.held(), 0);
}
