//! Three processes in two zones, and librdkafka as their client.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::cluster::Processes;
use crate::load::{LIMIT, Load, check};

const RACKS: [(u8, &str); 3] = [(1, "a"), (2, "b"), (3, "a")];

fn by_zones() -> Processes {
    let settings = |rack: &str| {
        [
            format!("broker.rack={rack}"),
            "replica.selector.class=RackAwareReplicaSelector".to_owned(),
            "replica.selector.min.bytes=4000".to_owned(),
            "upload.age.ms=500".to_owned(),
            "balancer.enable=false".to_owned(),
        ]
    };
    let more = RACKS.map(|(node, rack)| (node, settings(rack).to_vec()));
    Processes::begun_with(BTreeMap::from(more))
}

/// All of partition 0, as librdkafka reads it in the zone `rack`, until it is told of its end.
fn read_in(rack: Option<&str>, processes: &Processes, topic: &str) -> Vec<(i64, String)> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", processes.bootstrap())
        .set("group.id", "zones")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("fetch.message.max.bytes", "3000");
    if let Some(rack) = rack {
        config.set("client.rack", rack);
    }
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let (begun, mut records) = (Instant::now(), Vec::new());
    loop {
        assert!(begun.elapsed() < LIMIT, "{} records read", records.len());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
                records.push((message.offset(), value.trim_end().to_owned()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(0))) => return records,
            // A connection that broke is made again.
            Some(Err(_)) | None => {}
        }
    }
}

/// A counter, by node.
fn counted(processes: &Processes, name: &str) -> BTreeMap<u8, u64> {
    let counter = format!("headwater_broker_{name}_total ");
    let read = |page: String| {
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&counter));
        value.expect("the counter is there").parse().unwrap()
    };
    let running = processes.running.iter();
    let counts = running.map(|(node, process)| (*node, read(process.get("/metrics").unwrap())));
    counts.collect()
}

#[test]
fn librdkafka_reads_in_its_zone_and_misses_nothing() {
    let processes = by_zones();
    let cluster = processes.command(&["cluster", "describe"]);
    let brokers = &cluster["brokers"];
    for (at, (node, rack)) in RACKS.iter().enumerate() {
        assert_eq!(brokers[at]["node"], *node, "{brokers:#}");
        assert_eq!(brokers[at]["rack"], *rack, "{brokers:#}");
    }
    processes.command(&["topic", "create", "t"]);
    let mut load = Load::new(&processes.running[&1]);
    let mut sent = 0;
    let begun = Instant::now();
    // How soon what was written lies in the store is not known: until it was read from there.
    loop {
        load.send("t", 1000);
        sent += 1000;
        load.acknowledged.wait_for(usize::try_from(sent).unwrap());
        for rack in [None, Some("a"), Some("b"), Some("c")] {
            check(&read_in(rack, &processes, "t"), &load.acknowledged, sent);
        }
        if counted(&processes, "followed_bytes")
            .values()
            .any(|bytes| *bytes > 0)
        {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "nothing is read beside the leader");
    }
    assert!(
        counted(&processes, "fetch_sent_to_zone")
            .values()
            .any(|times| *times > 0)
    );
    processes.stop();
}
