//! The one table of configuration names. It feeds `--help`, `headwater config`, validation and
//! DescribeConfigs.
//!
//! Names are Kafka's where Kafka has one; ours are made in the same manner, the unit last.

use super::kind::Kind;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted lower-case name.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// What holds when nobody says otherwise; empty for "none".
    pub default: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
    /// Whether it may be changed while the broker runs (KIP-226).
    pub dynamic: bool,
    /// Whether its value is never shown.
    pub sensitive: bool,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            doc,
            dynamic: false,
            sensitive: false,
        }
    }

    const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// The environment variable that sets it.
    pub fn environment_name(&self) -> String {
        format!(
            "HEADWATER_{}",
            self.name.replace(['.', '-'], "_").to_uppercase()
        )
    }
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Every row, in groups of what belongs together.
pub fn all() -> &'static [Key] {
    KEYS
}

/// The name nearest to a mistyped one, if any is near.
pub fn suggest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = (name.len() / 3).max(2);
    names
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters to put in, take out or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const fn int(min: i64) -> Kind {
    Kind::Int {
        min,
        max: i32::MAX as i64,
    }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const POLICIES: &[&str] = &["compact", "delete"];
const SELECTORS: &[&str] = &[
    "RackAwareReplicaSelector",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    "LeaderSelector",
    "org.apache.kafka.common.replica.LeaderSelector",
];
const TIMESTAMPS: &[&str] = &["CreateTime", "LogAppendTime"];

#[rustfmt::skip]
static KEYS: &[Key] = &[
    // Who and where.
    Key::new("node.id", int(0), "1", "Number of this node in the cluster."),
    Key::new("broker.id", int(-1), "-1", "Kafka's older name of node.id; -1 means node.id."),
    Key::new("process.roles", Kind::Choices(&["broker", "controller"]), "broker,controller", "What this process is: a broker, a voter of the controllers, or both."),
    Key::new("broker.rack", Kind::Text, "", "Rack or zone of this broker, which clients are told."),
    Key::new("data.dir", Kind::Text, "headwater-data", "Directory of the Raft log, the disk WAL and local objects."),
    Key::new("log.dir", Kind::Text, "", "Kafka's name of data.dir; data.dir wins."),
    Key::new("log.dirs", Kind::List, "", "Kafka's name of data.dir; one directory only; data.dir wins."),
    // The network.
    Key::new("listeners", Kind::List, "PLAINTEXT://127.0.0.1:9092", "Where to listen, as NAME://HOST:PORT between commas: Kafka's listeners, and that of the controllers."),
    Key::new("advertised.listeners", Kind::List, "", "What clients are told for each listener; NAME@ZONE://HOST:PORT is told to clients of that zone instead; empty means as bound."),
    Key::new("listener.security.protocol.map", Kind::List, "", "Security protocol per listener as NAME:PROTOCOL; PLAINTEXT for each that is absent, and the only one yet."),
    Key::new("admin.listen", Kind::Text, "127.0.0.1:9644", "Address of the admin HTTP server."),
    Key::new("max.connections", int(1), "10000", "Most connections at once over all listeners; further ones wait."),
    Key::new("connections.max.idle.ms", long(-1), "600000", "Idle connections are closed after this; -1 never."),
    Key::new("socket.request.max.bytes", Kind::Int { min: 1024, max: 104_857_600 }, "104857600", "Largest request."),
    Key::new("request.receive.timeout.ms", int(1000), "30000", "A request that is not complete after this closes its connection."),
    Key::new("queued.max.requests", Kind::Int { min: 1, max: 64 }, "64", "Produce requests of one connection that may wait for durability at once."),
    Key::new("queued.max.request.bytes", Kind::Long { min: 1, max: 33_554_432 }, "33554432", "Their bytes."),
    // Memory.
    Key::new("memory.budget.bytes", long(268_435_456), "1073741824", "What requests, un-uploaded data and caches may hold together."),
    // The WAL.
    Key::new("wal.backend", Kind::Choice(&["disk", "object", "memory"]), "disk", "Where records become durable: disk (fsync), object (the object store), memory (not at all)."),
    Key::new("wal.segment.bytes", Kind::Long { min: 1_048_576, max: 1_073_741_824 }, "67108864", "Size of a segment file of the disk WAL."),
    Key::new("wal.queue.bytes", long(1_048_576), "67108864", "Bytes that may wait for the WAL."),
    Key::new("wal.object.puts.per.second", Kind::Int { min: 1, max: 1000 }, "8", "Pace of the object WAL; more is faster and costs more."),
    // The object store.
    Key::new("object.store.url", Kind::Text, "", "file:///PATH, s3://BUCKET/PREFIX?endpoint=…, gs://…, az://…, memory:; empty means a directory under data.dir."),
    Key::new("object.store.probe.interval.ms", long(0), "604800000", "A store that passed its probe is not probed again for this long."),
    Key::new("upload.bytes", long(1_048_576), "67108864", "Un-uploaded bytes at which an upload begins."),
    Key::new("upload.age.ms", long(10), "60000", "Age of un-uploaded data at which an upload begins."),
    Key::new("collector.grace.ms", long(1000), "3600000", "How long an object that nothing names is kept for readers."),
    // The controllers.
    Key::new("controller.quorum.voters", Kind::List, "", "The voters that a new cluster begins with, as ID@HOST:PORT between commas; empty means this node alone."),
    Key::new("controller.quorum.bootstrap.servers", Kind::List, "", "Where a broker without a voter finds controllers, as HOST:PORT between commas; empty means the voters' addresses."),
    Key::new("controller.listener.names", Kind::Text, "CONTROLLER", "The entry of listeners on which other nodes' calls to this controller come in."),
    Key::new("controller.tls.certificate.path", Kind::Text, "", "This node's certificate for calls between nodes, PEM, with those between it and the authority; for mutual TLS set all three or none."),
    Key::new("controller.tls.key.path", Kind::Text, "", "Its key, PEM, not encrypted. The files are read again when they change."),
    Key::new("controller.tls.ca.path", Kind::Text, "", "The authorities of the cluster's certificates, PEM: whoever has one of theirs is a node of it."),
    Key::new("lease.ms", Kind::Int { min: 500, max: 600_000 }, "6000", "How long a broker may go on without hearing from the controller."),
    Key::new("controller.checkpoint.interval.ms", long(1000), "300000", "How often the cluster's state is written to the object store."),
    Key::new("balancer.enable", Kind::Bool, "true", "Whether partitions are moved by measured load, where the controllers are led. Says so per node; have it alike on all controllers."),
    Key::new("balancer.interval.ms", long(1_000), "60000", "Time between two decisions of the balancer; loads are reported four times as often."),
    Key::new("balancer.moves.per.minute", int(1), "20", "Most moves that the balancer begins by itself within any minute. It leaves alone what an operator has placed (kafka-reassign-partitions)."),
    Key::new("balancer.threshold.percent", int(1), "10", "How far a broker's load must be from the mean before the balancer moves anything."),
    Key::new("shutdown.timeout.ms", long(0), "30000", "How long an ordered stop may take; what is not uploaded then is recovered at the next start."),
    Key::new("request.timeout.ms", int(1), "30000", "How long a request that names no time-out may wait."),
    // Topics.
    Key::new("auto.create.topics.enable", Kind::Bool, "true", "Whether asking for an unknown topic makes it, when the client allows."),
    Key::new("num.partitions", int(1), "1", "Partitions of a topic for which nobody says.").dynamic(),
    Key::new("default.replication.factor", int(1), "1", "Accepted; durability is the WAL's and the store's."),
    Key::new("delete.topic.enable", Kind::Bool, "true", "Whether topics may be deleted."),
    Key::new("message.max.bytes", Kind::Int { min: 0, max: 104_857_600 }, "1048588", "Largest record batch, compressed.").dynamic(),
    Key::new("max.decompressed.message.bytes", Kind::Int { min: 1, max: 2_147_483_639 }, "2147483639", "Largest record of a compressed batch, decompressed.").dynamic(),
    Key::new("log.cleanup.policy", Kind::Choices(POLICIES), "delete", "What happens to old records.").dynamic(),
    Key::new("log.retention.ms", long(-1), "", "How long records are kept; empty means log.retention.minutes.").dynamic(),
    Key::new("log.retention.minutes", int(-1), "", "How long records are kept; empty means log.retention.hours."),
    Key::new("log.retention.hours", int(-1), "168", "How long records are kept; -1 for ever."),
    Key::new("log.retention.bytes", long(-1), "-1", "How much of a partition is kept; -1 all.").dynamic(),
    Key::new("log.retention.check.interval.ms", long(1), "300000", "How often retention is enforced."),
    Key::new("log.segment.bytes", int(1_048_576), "1073741824", "Largest segment object that compaction makes.").dynamic(),
    Key::new("log.roll.ms", long(1), "", "Accepted; empty means log.roll.hours.").dynamic(),
    Key::new("log.roll.hours", int(1), "168", "Accepted; segments here are made by upload and compaction."),
    Key::new("log.roll.jitter.ms", long(0), "", "Accepted, without effect.").dynamic(),
    Key::new("log.roll.jitter.hours", int(0), "0", "Accepted, without effect."),
    Key::new("log.index.size.max.bytes", int(4), "10485760", "Accepted, without effect.").dynamic(),
    Key::new("log.index.interval.bytes", int(0), "4096", "Accepted, without effect.").dynamic(),
    Key::new("log.flush.interval.messages", long(1), "9223372036854775807", "Accepted; every record is durable before it is acknowledged.").dynamic(),
    Key::new("log.flush.interval.ms", long(0), "", "Accepted, without effect.").dynamic(),
    Key::new("log.flush.scheduler.interval.ms", long(0), "9223372036854775807", "Accepted, without effect."),
    Key::new("log.segment.delete.delay.ms", long(0), "60000", "Accepted; see collector.grace.ms.").dynamic(),
    Key::new("log.preallocate", Kind::Bool, "false", "Accepted, without effect.").dynamic(),
    Key::new("log.message.timestamp.type", Kind::Choice(TIMESTAMPS), "CreateTime", "Whose clock labels records.").dynamic(),
    Key::new("log.message.timestamp.before.max.ms", long(0), "9223372036854775807", "How far in the past a record's timestamp may lie.").dynamic(),
    Key::new("log.message.timestamp.after.max.ms", long(0), "3600000", "How far in the future a record's timestamp may lie.").dynamic(),
    Key::new("log.message.downconversion.enable", Kind::Bool, "true", "Accepted, without effect.").dynamic(),
    Key::new("log.cleaner.delete.retention.ms", long(0), "86400000", "How long a tombstone is kept.").dynamic(),
    Key::new("log.cleaner.min.compaction.lag.ms", long(0), "0", "Youngest record that compaction touches.").dynamic(),
    Key::new("log.cleaner.max.compaction.lag.ms", long(1), "9223372036854775807", "Oldest record that compaction leaves.").dynamic(),
    Key::new("log.cleaner.min.cleanable.ratio", Kind::Double { min: 0.0, max: 1.0 }, "0.5", "Share of dirt at which compaction begins.").dynamic(),
    Key::new("log.cleaner.enable", Kind::Bool, "true", "Accepted; compaction is always on."),
    Key::new("log.local.retention.ms", long(-2), "-2", "Accepted, without effect.").dynamic(),
    Key::new("log.local.retention.bytes", long(-2), "-2", "Accepted, without effect.").dynamic(),
    Key::new("min.insync.replicas", int(1), "1", "Accepted, without effect.").dynamic(),
    Key::new("unclean.leader.election.enable", Kind::Bool, "false", "Accepted, without effect: no election here loses records.").dynamic(),
    Key::new("compression.type", Kind::Choice(CODECS), "producer", "Accepted; batches are kept as the producer made them.").dynamic(),
    Key::new("compression.gzip.level", Kind::Int { min: -1, max: 9 }, "-1", "Accepted, without effect.").dynamic(),
    Key::new("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "9", "Accepted, without effect.").dynamic(),
    Key::new("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, "3", "Accepted, without effect.").dynamic(),
    // Producing and fetching.
    Key::new("producer.id.expiration.ms", int(1), "86400000", "How long an idle producer's sequence is remembered."),
    Key::new("fetch.max.bytes", int(1024), "57671680", "Most bytes of one fetch response."),
    Key::new("max.incremental.fetch.session.cache.slots", int(0), "1000", "Fetch sessions kept at once (KIP-227)."),
    Key::new("replica.selector.class", Kind::Choice(SELECTORS), "", "RackAwareReplicaSelector sends consumers that name another zone than the leader's (client.rack) to a broker of theirs for what lies in the object store (KIP-392); have it alike on all brokers."),
    Key::new("replica.selector.min.bytes", long(1), "4194304", "So much must lie in the object store ahead of a consumer before it is sent to a broker of its zone."),
    // Groups.
    Key::new("group.min.session.timeout.ms", int(1), "6000", "Shortest session time-out that a member may ask for."),
    Key::new("group.max.session.timeout.ms", int(1), "1800000", "Longest session time-out that a member may ask for."),
    Key::new("group.initial.rebalance.delay.ms", int(0), "3000", "How long an empty group waits for further members."),
    Key::new("group.max.size", int(1), "2147483647", "Most members of a group."),
    Key::new("offset.metadata.max.bytes", int(0), "4096", "Longest metadata of a committed offset."),
    Key::new("offsets.retention.minutes", int(1), "10080", "How long the offsets of an empty group are kept."),
    Key::new("offsets.retention.check.interval.ms", long(1), "600000", "How often expired offsets are looked for."),
    Key::new("offsets.topic.num.partitions", int(1), "50", "Partitions of __consumer_offsets, when it is made."),
    Key::new("offsets.topic.replication.factor", Kind::Int { min: 1, max: 32_767 }, "1", "Accepted, without effect."),
    Key::new("offsets.topic.segment.bytes", int(1), "104857600", "Segment size of __consumer_offsets."),
    Key::new("offsets.commit.timeout.ms", int(1), "5000", "How long a commit of offsets may wait for durability."),
    // Secrets of the object store, when neither the environment nor the instance has them.
    Key::new("object.store.access.key.id", Kind::Text, "", "Access key id for s3://.").sensitive(),
    Key::new("object.store.secret.access.key", Kind::Text, "", "Secret access key for s3://.").sensitive(),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_environment_names_are_unique_and_defaults_are_valid() {
        let mut names = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for key in KEYS {
            assert!(names.insert(key.name), "{} twice", key.name);
            assert!(
                variables.insert(key.environment_name()),
                "{} collides",
                key.name
            );
            assert!(
                !key.doc.is_empty() && key.name == key.name.to_lowercase(),
                "{}",
                key.name
            );
            if !key.default.is_empty() {
                assert_eq!(
                    key.kind.check(key.default).as_deref(),
                    Ok(key.default),
                    "{}",
                    key.name
                );
            }
        }
        assert_eq!(
            find("log.retention.ms").unwrap().environment_name(),
            "HEADWATER_LOG_RETENTION_MS"
        );
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(suggest("wal.bakend", names()), Some("wal.backend"));
        assert_eq!(suggest("nodeid", names()), Some("node.id"));
        assert_eq!(suggest("completely.other.thing.altogether", names()), None);
    }
}
