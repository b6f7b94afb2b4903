//! A broker that is paused beyond its lease while clients go on sending to it: what it reads when it
//! runs again it must not acknowledge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use broker::client::{Connection, Settings};
use protocol::messages::{ProduceRequest, StrBytes, TopicName, produce_request};
use protocol::{BatchBuilder, Compression, Request, Response};

use super::fleet::Node;
use super::load::{STRIDE, STUBBORN, Seen, TOPIC};
use super::run::Run;
use crate::history::Outcome;

/// Connections that each have one request waiting.
const CONNECTIONS: usize = 16;
/// Before it is paused, a broker answers within this.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// A paused broker is fenced, and its log recovered, within this.
const FENCED_WITHIN: Duration = Duration::from_secs(60);
/// How long it is watched when it runs again.
const WATCHED: Duration = Duration::from_secs(5);
/// Between two requests of one connection.
const PACE: Duration = Duration::from_millis(50);
/// The first value that none of these has sent yet.
static NEXT: AtomicU64 = AtomicU64::new(STUBBORN as u64);

/// What a client without wits was told: when it had sent, when it was answered, and with what.
struct Told {
    sent: Instant,
    answered: Instant,
    /// Kafka's code; none when the connection broke.
    code: Option<i16>,
}

/// A client that knows one broker and one partition.
struct Stubborn {
    kafka: SocketAddr,
    index: i32,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    /// Answers that all of them got.
    heard: Arc<AtomicUsize>,
}

impl Run {
    pub(super) fn zombie(&mut self, node: Node) -> Result<()> {
        let leaders = self.load.leaders()?;
        let led = leaders.into_iter().filter(|(_, leader)| *leader == node);
        let led: Vec<i32> = led.map(|(index, _)| index).collect();
        if led.is_empty() {
            println!("node {node} leads nothing: no zombie");
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(AtomicUsize::new(0));
        let kafka = self.fleet.kafka(node);
        let clients = (0..CONNECTIONS).map(|number| {
            let index = led[number % led.len()];
            let client = Stubborn {
                kafka,
                index,
                seen: Arc::clone(&self.load.seen),
                stop: Arc::clone(&stop),
                heard: Arc::clone(&heard),
            };
            self.runtime.spawn(client.insist())
        });
        let clients: Vec<_> = clients.collect();
        // They have connections, and are heard.
        let begun = Instant::now();
        while heard.load(Ordering::Relaxed) < CONNECTIONS && begun.elapsed() < HEARD_WITHIN {
            std::thread::sleep(Duration::from_millis(20));
        }
        let paused = Instant::now();
        self.fleet.signal(node, "STOP")?;
        let fenced = self.fenced(node);
        let resumed = Instant::now();
        self.fleet.signal(node, "CONT")?;
        fenced?;
        std::thread::sleep(WATCHED);
        stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for client in clients {
            let came = self.runtime.block_on(client);
            told.extend(came.context("a client has panicked")??);
        }
        self.judge_zombie(node, &told, paused, resumed);
        Ok(())
    }

    /// Until others lead what the paused node led; it is drained then, so that it comes to lead
    /// nothing when it runs again.
    fn fenced(&self, node: Node) -> Result<()> {
        let begun = Instant::now();
        while self.fleet.leads(node, &[node])?.is_some_and(|led| led > 0) {
            if begun.elapsed() > FENCED_WITHIN {
                bail!("node {node} leads partitions {FENCED_WITHIN:?} after it was paused");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let admin = self.fleet.admin_of_another(&[node])?.to_string();
        let node = node.to_string();
        let drain = ["broker", "--admin", &admin, "drain", &node];
        self.fleet.command(&drain).map(drop)
    }

    fn judge_zombie(&mut self, node: Node, told: &[Told], paused: Instant, resumed: Instant) {
        let before = told.iter().filter(|one| one.answered < paused);
        let before = before.filter(|one| one.code == Some(0)).count();
        let after: Vec<&Told> = told.iter().filter(|one| one.answered >= resumed).collect();
        let queued = after.iter().filter(|one| one.sent < resumed).count();
        let mut answers: BTreeMap<Option<i16>, usize> = BTreeMap::new();
        for one in &after {
            *answers.entry(one.code).or_default() += 1;
        }
        println!(
            "node {node}, paused for {} ms: {before} acknowledged before; {queued} requests waited \
             for it; answers after (code, count; none is a closed connection): {answers:?}",
            (resumed - paused).as_millis(),
        );
        let zombie = after.iter().filter(|one| one.code == Some(0)).count();
        if zombie > 0 {
            self.problems.push(format!(
                "node {node} acknowledged {zombie} records after it was fenced"
            ));
        }
        if before == 0 || queued == 0 {
            self.problems.push(format!(
                "node {node}: {before} records before and {queued} in the queue show nothing"
            ));
        }
    }
}

// === impl Stubborn ===

impl Stubborn {
    /// Sends one record after the other to the same broker, whatever it says.
    async fn insist(self) -> Result<Vec<Told>> {
        let env = env::real::env();
        let mut told = Vec::new();
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PACE).await;
            let settings = Settings {
                client_id: "stubborn".to_owned(),
                timeout: FENCED_WITHIN,
            };
            let mut open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(&env, self.kafka, settings).await {
                    Ok(open) => open,
                    Err(_) => continue,
                },
            };
            let one = self.ask(&mut open).await?;
            if one.code.is_some() {
                connection = Some(open);
                self.heard.fetch_add(1, Ordering::Relaxed);
            }
            told.push(one);
        }
        Ok(told)
    }

    async fn ask(&self, open: &mut Connection) -> Result<Told> {
        let value = NEXT.fetch_add(STRIDE, Ordering::Relaxed);
        let request = produce(self.index, value)?;
        self.seen.sending(STUBBORN, self.index, value);
        let sent = Instant::now();
        let answer = open.call_version(request, 9).await;
        let answered = Instant::now();
        let (code, outcome) = match answer {
            Ok(Response::Produce(answer)) => {
                let answer = &answer.responses[0].partition_responses[0];
                let outcome = match answer.error_code {
                    0 => Outcome::Acknowledged(answer.base_offset),
                    _ => Outcome::Unknown,
                };
                (Some(answer.error_code), outcome)
            }
            Ok(other) => bail!("another API's answer: {other:?}"),
            Err(_) => (None, Outcome::Unknown),
        };
        self.seen.sent(value, outcome);
        Ok(Told {
            sent,
            answered,
            code,
        })
    }
}

fn produce(index: i32, value: u64) -> Result<Request> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut batch = BatchBuilder::new().compression(Compression::None);
    let now = i64::try_from(now.as_millis())?;
    batch.append(now, None, Some(value.to_string().as_bytes()), &[]);
    let data = produce_request::PartitionProduceData::default()
        .with_index(index)
        .with_records(Some(batch.build()?));
    let topic = produce_request::TopicProduceData::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    Ok(Request::Produce(request))
}
