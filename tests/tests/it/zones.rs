//! Three processes in two zones: librdkafka reads in its own, and the commands outlive the brokers
//! that they were told of.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tests::process::{BrokerProcess, binary};

use crate::cluster::{Processes, ended};
use crate::load::{LIMIT, Load, check};

/// How long what takes several turns may take.
const PATIENCE: Duration = Duration::from_secs(5 * LIMIT.as_secs());
/// The zone of each node.
const RACKS: [(u8, &str); 3] = [(1, "a"), (2, "b"), (3, "a")];
/// Bytes that a broker gave for leaders elsewhere.
const BESIDE: &str = "headwater_broker_followed_bytes_total";
/// Requests for metadata that a broker answered.
const ASKED: &str = "headwater_kafka_request_seconds_count{api=\"Metadata\"}";

fn by_zones() -> Processes {
    let settings = |rack: &str| {
        [
            format!("broker.rack={rack}"),
            "replica.selector.class=RackAwareReplicaSelector".to_owned(),
            "replica.selector.min.bytes=10000".to_owned(),
            "upload.age.ms=500".to_owned(),
            "balancer.enable=false".to_owned(),
        ]
    };
    let more = RACKS.map(|(node, rack)| (node, settings(rack).to_vec()));
    Processes::begun_with(BTreeMap::from(more))
}

fn beside(node: &BrokerProcess) -> f64 {
    node.metric(BESIDE).unwrap()
}

/// The same of both brokers of the zone that has the leader.
fn beside_in_a(processes: &Processes) -> [f64; 2] {
    [1, 3].map(|node| beside(&processes.running[&node]))
}

/// Until `done`, or for too long.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the cluster says of a broker; null when it does not.
fn broker(processes: &Processes, node: u8) -> serde_json::Value {
    let described = processes.try_command(&["cluster", "describe"]);
    let described = described.unwrap_or_default();
    let mut brokers = described["brokers"].as_array().into_iter().flatten();
    let found = brokers.find(|broker| broker["node"] == node);
    found.cloned().unwrap_or_default()
}

/// Who leads partition 0 of "t", and since which epoch; null when nobody tells.
fn led(processes: &Processes) -> [serde_json::Value; 2] {
    let described = processes.try_command(&["topic", "describe", "t"]);
    let described = described.unwrap_or_default();
    ["leader", "leader_epoch"].map(|column| described["partitions"][0][column].clone())
}

/// Has node 1 lead it: another one does after a lease that lapsed on a busy machine.
fn led_by_the_first(processes: &Processes) -> [serde_json::Value; 2] {
    let begun = Instant::now();
    loop {
        processes.command_again(&["topic", "move", "t", "--to", "1"]);
        let led = led(processes);
        if led[0] == 1 {
            return led;
        }
        assert!(begun.elapsed() < PATIENCE, "{led:?}");
    }
}

/// Librdkafka in a zone, which reads partition 0 in small bites.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    pub(crate) records: Vec<(i64, String)>,
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(bootstrap: &str, zone: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "zones")
            .set("client.rack", zone)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .set("reconnect.backoff.max.ms", "200")
            // Little is fetched ahead, so that what happens meanwhile finds it on its way.
            .set("fetch.message.max.bytes", "20000")
            .set("queued.min.messages", "10")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&list).unwrap();
        Self {
            consumer,
            records: Vec::new(),
        }
    }

    /// Reads on until there are `count` records.
    pub(crate) fn until(&mut self, count: usize) {
        let begun = Instant::now();
        while self.records.len() < count {
            let read = self.records.len();
            assert!(begun.elapsed() < PATIENCE, "{read} of {count}");
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
                    let value = value.trim_end().to_owned();
                    self.records.push((message.offset(), value));
                }
                // The end as a reader in the zone knows it; a connection that broke is made again.
                Some(Err(KafkaError::PartitionEOF(_) | KafkaError::MessageConsumption(_)))
                | None => {}
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// All that was sent, once and in order.
    fn check_all(mut self, load: &Load) {
        self.until(usize::try_from(load.sent).unwrap());
        check(&self.records, &load.acknowledged, load.sent);
    }
}

#[test]
fn librdkafka_reads_in_its_zone_and_misses_nothing_when_its_reader_dies() {
    let mut processes = by_zones();
    for (node, rack) in RACKS {
        wait("a broker's rack is not told", || {
            broker(&processes, node)["rack"] == rack
        });
    }
    processes.command_again(&["topic", "create", "t"]);
    led_by_the_first(&processes);
    let mut load = Load::sized(&processes.running[&1], 1000);
    load.send("t", 2000);
    load.acknowledged.wait_for(2000);
    let bootstrap = processes.bootstrap();
    // How soon what was written lies in the store is not known: until the zone reads it from there.
    wait("nothing is read beside the leader", || {
        led_by_the_first(&processes);
        Reader::new(&bootstrap, "b", "t").until(2000);
        beside(&processes.running[&2]) > 0.0
    });
    // One leads, and the other one's zone has the leader.
    wait("their own zone is read beside the leader", || {
        let before = (led_by_the_first(&processes), beside_in_a(&processes));
        for zone in ["a", "b", "c"] {
            Reader::new(&bootstrap, zone, "t").check_all(&load);
        }
        before == (led(&processes), beside_in_a(&processes))
    });
    let sent = "headwater_broker_fetch_sent_to_zone_total";
    let sent = processes.running.values().map(|node| node.metric(sent));
    assert!(sent.map(|sent| sent.unwrap()).sum::<f64>() > 0.0);
    // The zone's only broker dies while it is read from.
    let mut reader = None;
    wait("it is read beside the leader", || {
        led_by_the_first(&processes);
        let before = beside(&processes.running[&2]);
        // A new one each time: who came back to the leader stays there for a minute.
        let reader = reader.insert(Reader::new(&bootstrap, "b", "t"));
        reader.until(500);
        beside(&processes.running[&2]) > before
    });
    processes.kill_9(2);
    load.send("t", 500);
    reader.expect("there was one").check_all(&load);
    processes.stop();
}

/// A command with its input and output at hand.
struct Piped {
    child: Child,
    lines: mpsc::Receiver<String>,
}

// === impl Piped ===

impl Piped {
    /// Has five minutes for whatever takes several turns.
    fn start(arguments: &[&str], bootstrap: &str) -> Self {
        let mut child = Command::new(binary().unwrap())
            .args(arguments)
            .args(["--timeout", "300", "-b", bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output: ChildStdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        // Ends with the command.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn write(&mut self, numbers: std::ops::Range<usize>) {
        let input = self.child.stdin.as_mut().unwrap();
        for number in numbers {
            writeln!(input, "line {number}").unwrap();
        }
    }

    fn expect(&mut self, numbers: std::ops::Range<usize>) {
        let begun = Instant::now();
        for number in numbers {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let line = self.lines.recv_timeout(left);
            assert_eq!(line, Ok(format!("line {number}")));
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(told.unwrap().success());
    }

    /// Ends the input; it succeeds.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let status = ended(&mut self.child).expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often the nodes were asked for metadata.
fn asked(processes: &Processes) -> u64 {
    let of = |node: &BrokerProcess| -> u64 {
        let page = node.get("/metrics").unwrap();
        let count = page.lines().find_map(|line| line.strip_prefix(ASKED));
        count.map_or(0, |count| count.trim().parse().unwrap())
    };
    processes.running.values().map(of).sum()
}

/// One command asks who the brokers are, and has heard it, while the other one is still.
fn asks(processes: &Processes, other: &Piped) {
    other.signal("STOP");
    let before = asked(processes);
    // One question may have come from the other one, and the last one not be answered.
    wait("it does not ask who the brokers are", || {
        asked(processes) >= before + 3
    });
    other.signal("CONT");
}

#[test]
fn commands_outlive_every_broker_that_they_knew_when_they_began() {
    let mut processes = by_zones();
    processes.command_again(&["topic", "create", "t"]);
    led_by_the_first(&processes);
    let first = processes.running[&1].kafka.to_string();
    let mut produce = Piped::start(&["produce", "t", "--batch-bytes", "1"], &first);
    let mut consume = Piped::start(&["consume", "t", "--follow", "--max", "300"], &first);
    produce.write(0..100);
    consume.expect(0..100);
    // Two come back elsewhere, one after the other, while nothing is written.
    for node in [2, 3] {
        processes.kill_9(node);
        processes.move_listener(node);
        processes.start(&[node]);
        let port = processes.running[&node].kafka.port();
        wait("its new place is not told", || {
            broker(&processes, node)["port"] == port
        });
    }
    // Both ask again, of the only broker that has been there all the time.
    asks(&processes, &produce);
    asks(&processes, &consume);
    // It goes for good, and with it the partition's leader.
    processes.kill_9(1);
    produce.write(100..300);
    consume.expect(100..300);
    produce.end();
    consume.end();
    processes.stop();
}
