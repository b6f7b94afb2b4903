//! The table of topic configurations, their broker-wide names, and how a value is found.
//!
//! ```text
//! topic's own ─▶ broker's dynamic ─▶ cluster's dynamic ─▶ file, environment, flag ─▶ default
//! ```

use std::collections::BTreeMap;

use super::keys::{self, suggest};
use super::kind::Kind;
use super::layers::{Source, Values};

/// One row of the table of topic configurations.
#[derive(Clone, Copy, Debug)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// What holds where no broker-wide name is set.
    pub default: &'static str,
    /// Broker-wide names, nearest first; the number is what their value is multiplied with.
    pub synonyms: &'static [(&'static str, i64)],
    /// What it does, in a line.
    pub doc: &'static str,
}

const HOURS: i64 = 3_600_000;
const MINUTES: i64 = 60_000;
const MAX: &str = "9223372036854775807";

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonyms: &'static [(&'static str, i64)],
    doc: &'static str,
) -> TopicKey {
    TopicKey {
        name,
        kind,
        default,
        synonyms,
        doc,
    }
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

#[rustfmt::skip]
static TOPIC_KEYS: &[TopicKey] = &[
    row("cleanup.policy", Kind::Choices(&["compact", "delete"]), "delete", &[("log.cleanup.policy", 1)], "What happens to old records."),
    row("compression.gzip.level", Kind::Int { min: -1, max: 9 }, "-1", &[("compression.gzip.level", 1)], "Accepted, without effect."),
    row("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "9", &[("compression.lz4.level", 1)], "Accepted, without effect."),
    row("compression.type", Kind::Choice(CODECS), "producer", &[("compression.type", 1)], "Accepted; batches are kept as the producer made them."),
    row("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, "3", &[("compression.zstd.level", 1)], "Accepted, without effect."),
    row("delete.retention.ms", long(0), "86400000", &[("log.cleaner.delete.retention.ms", 1)], "How long a tombstone is kept."),
    row("errors.deadletterqueue.group.enable", Kind::Bool, "false", &[], "Accepted, without effect: share groups are not served."),
    row("file.delete.delay.ms", long(0), "60000", &[("log.segment.delete.delay.ms", 1)], "Accepted, without effect."),
    row("flush.messages", long(1), MAX, &[("log.flush.interval.messages", 1)], "Accepted; every record is durable before it is acknowledged."),
    row("flush.ms", long(0), MAX, &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)], "Accepted, without effect."),
    row("follower.replication.throttled.replicas", Kind::List, "", &[], "Accepted; nothing is copied when a partition moves."),
    row("index.interval.bytes", int(0), "4096", &[("log.index.interval.bytes", 1)], "Accepted, without effect."),
    row("leader.replication.throttled.replicas", Kind::List, "", &[], "Accepted; nothing is copied when a partition moves."),
    row("local.retention.bytes", long(-2), "-2", &[("log.local.retention.bytes", 1)], "Accepted, without effect."),
    row("local.retention.ms", long(-2), "-2", &[("log.local.retention.ms", 1)], "Accepted, without effect."),
    row("max.compaction.lag.ms", long(1), MAX, &[("log.cleaner.max.compaction.lag.ms", 1)], "Oldest record that compaction leaves."),
    row("max.decompressed.message.bytes", Kind::Int { min: 1, max: 2_147_483_639 }, "2147483639", &[("max.decompressed.message.bytes", 1)], "Largest record of a compressed batch, decompressed."),
    row("max.message.bytes", Kind::Int { min: 0, max: 104_857_600 }, "1048588", &[("message.max.bytes", 1)], "Largest record batch, compressed."),
    row("message.downconversion.enable", Kind::Bool, "true", &[("log.message.downconversion.enable", 1)], "Accepted, without effect."),
    row("message.timestamp.after.max.ms", long(0), "3600000", &[("log.message.timestamp.after.max.ms", 1)], "How far in the future a record's timestamp may lie."),
    row("message.timestamp.before.max.ms", long(0), MAX, &[("log.message.timestamp.before.max.ms", 1)], "How far in the past a record's timestamp may lie."),
    row("message.timestamp.type", Kind::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime", &[("log.message.timestamp.type", 1)], "Whose clock labels records."),
    row("min.cleanable.dirty.ratio", Kind::Double { min: 0.0, max: 1.0 }, "0.5", &[("log.cleaner.min.cleanable.ratio", 1)], "Share of dirt at which compaction begins."),
    row("min.compaction.lag.ms", long(0), "0", &[("log.cleaner.min.compaction.lag.ms", 1)], "Youngest record that compaction touches."),
    row("min.insync.replicas", int(1), "1", &[("min.insync.replicas", 1)], "Accepted, without effect."),
    row("preallocate", Kind::Bool, "false", &[("log.preallocate", 1)], "Accepted, without effect."),
    row("remote.copy.lag.bytes", long(-1), "-1", &[], "Accepted, without effect."),
    row("remote.copy.lag.ms", long(-1), "0", &[], "Accepted, without effect."),
    row("remote.log.copy.disable", Kind::Bool, "false", &[], "Accepted, without effect."),
    row("remote.log.delete.on.disable", Kind::Bool, "false", &[], "Accepted, without effect."),
    row("remote.storage.enable", Kind::Bool, "false", &[], "Accepted; every topic is in the object store."),
    row("retention.bytes", long(-1), "-1", &[("log.retention.bytes", 1)], "How much of a partition is kept; -1 all."),
    row("retention.ms", long(-1), "604800000", &[("log.retention.ms", 1), ("log.retention.minutes", MINUTES), ("log.retention.hours", HOURS)], "How long records are kept; -1 for ever."),
    row("segment.bytes", int(1_048_576), "1073741824", &[("log.segment.bytes", 1)], "Largest segment object that compaction makes."),
    row("segment.index.bytes", int(4), "10485760", &[("log.index.size.max.bytes", 1)], "Accepted, without effect."),
    row("segment.jitter.ms", long(0), "0", &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOURS)], "Accepted, without effect."),
    row("segment.ms", long(1), "604800000", &[("log.roll.ms", 1), ("log.roll.hours", HOURS)], "Accepted, without effect."),
    row("unclean.leader.election.enable", Kind::Bool, "false", &[("unclean.leader.election.enable", 1)], "Accepted, without effect: no election here loses records."),
];

/// Every row, in order of names.
pub fn all() -> &'static [TopicKey] {
    TOPIC_KEYS
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// Checks one value of a topic and gives it as it is kept.
///
/// # Errors
/// Says what is wrong, for a person.
pub fn check(name: &str, value: &str) -> Result<String, String> {
    let Some(key) = find(name) else {
        return Err(match suggest(name, TOPIC_KEYS.iter().map(|key| key.name)) {
            Some(near) => format!("Unknown topic config name: {name}; is {near} meant?"),
            None => format!("Unknown topic config name: {name}"),
        });
    };
    let checked = key.kind.check(value);
    checked.map_err(|message| format!("Invalid value {value} for configuration {name}: {message}"))
}

/// Where a topic's value may come from: Kafka's numbers in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Origin {
    /// Set on the topic.
    Topic = 1,
    /// Set on the broker while it runs.
    DynamicBroker = 2,
    /// Set for all brokers while they run.
    DynamicDefaultBroker = 3,
    /// File, environment or flag.
    StaticBroker = 4,
    /// The table.
    Default = 5,
}

/// One place where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name under which it stands there.
    pub name: &'static str,
    /// The value, in the topic's units.
    pub value: String,
    /// Which place.
    pub origin: Origin,
}

/// What is laid over the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Overlays<'a> {
    /// The topic's own.
    pub topic: &'a BTreeMap<String, String>,
    /// This broker's dynamic ones.
    pub broker: &'a BTreeMap<String, String>,
    /// Those of all brokers.
    pub cluster: &'a BTreeMap<String, String>,
    /// File, environment and flags.
    pub fixed: &'a Values,
}

impl Overlays<'_> {
    /// Every place where `key` has a value, the effective one first; never empty.
    pub fn find(&self, key: &'static TopicKey) -> Vec<Found> {
        let mut found = Vec::new();
        if let Some(value) = self.topic.get(key.name) {
            found.push(Found {
                name: key.name,
                value: value.clone(),
                origin: Origin::Topic,
            });
        }
        let dynamic = [
            (self.broker, Origin::DynamicBroker),
            (self.cluster, Origin::DynamicDefaultBroker),
        ];
        for (values, origin) in dynamic {
            for (name, times) in key.synonyms {
                if let Some(value) = values.get(*name) {
                    found.push(Found {
                        name,
                        value: scale(value, *times),
                        origin,
                    });
                }
            }
        }
        for (name, times) in key.synonyms {
            let value = self.fixed.get(name);
            if value.source != Source::Default && !value.text.is_empty() {
                let value = scale(&value.text, *times);
                found.push(Found {
                    name,
                    value,
                    origin: Origin::StaticBroker,
                });
            }
        }
        let defaulted = key.synonyms.iter().find_map(|(name, times)| {
            let default = keys::find(name).map(|key| key.default)?;
            (!default.is_empty()).then(|| (*name, scale(default, *times)))
        });
        let (name, value) = defaulted.unwrap_or_else(|| (key.name, key.default.to_owned()));
        found.push(Found {
            name,
            value,
            origin: Origin::Default,
        });
        found
    }

    /// The effective value of a name of the table.
    ///
    /// # Panics
    /// When the name is not in the table: a defect of the caller's.
    pub fn value(&self, name: &str) -> String {
        let key = find(name).unwrap_or_else(|| panic!("{name} is a topic configuration"));
        self.find(key).swap_remove(0).value
    }

    /// The effective value of a name whose kind is a number.
    pub fn number(&self, name: &str) -> i64 {
        self.value(name).parse().unwrap_or(0)
    }
}

/// -1 hours are -1 milliseconds: for ever.
fn scale(value: &str, times: i64) -> String {
    match value.parse::<i64>() {
        Ok(number) if times != 1 && number >= 0 => number.saturating_mul(times).to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_agrees_with_the_brokers_names() {
        assert!(
            TOPIC_KEYS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        let (none, fixed) = (BTreeMap::new(), Values::defaults());
        let over = Overlays {
            topic: &none,
            broker: &none,
            cluster: &none,
            fixed: &fixed,
        };
        for key in TOPIC_KEYS {
            for (name, _) in key.synonyms {
                assert!(keys::find(name).is_some(), "{name}");
            }
            if !key.default.is_empty() {
                assert_eq!(
                    key.kind.check(key.default).as_deref(),
                    Ok(key.default),
                    "{}",
                    key.name
                );
            }
            let found = over.find(key);
            assert_eq!(found.len(), 1, "{}", key.name);
            assert_eq!(found[0].value, key.default, "{}", key.name);
        }
    }

    /// Kafka 4.4.0's `TopicConfig`, which Kafka 4.4 describes topics by.
    const KAFKAS: [&str; 35] = [
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "errors.deadletterqueue.group.enable",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "index.interval.bytes",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.decompressed.message.bytes",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.copy.lag.bytes",
        "remote.copy.lag.ms",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ];
    /// What is taken beside them: the throttles, and a name of Kafka 3 that does no harm.
    const OTHERS: [&str; 3] = [
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "message.downconversion.enable",
    ];

    #[test]
    fn the_names_are_kafkas() {
        let mut names = [&KAFKAS[..], &OTHERS[..]].concat();
        names.sort_unstable();
        assert_eq!(all().iter().map(|key| key.name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn the_nearest_value_wins_and_the_others_are_told() {
        let mut fixed = Values::defaults();
        let flag = Source::Flag("--set".to_owned());
        let mut problems = Vec::new();
        fixed.set("log.retention.hours", "2", flag, &mut problems);
        assert!(problems.is_empty());
        let topic = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let cluster = BTreeMap::from([("log.retention.ms".to_owned(), "9".to_owned())]);
        let none = BTreeMap::new();
        let over = Overlays {
            topic: &topic,
            broker: &none,
            cluster: &cluster,
            fixed: &fixed,
        };
        let values: Vec<(String, Origin)> = over
            .find(find("retention.ms").unwrap())
            .into_iter()
            .map(|found| (found.value, found.origin))
            .collect();
        assert_eq!(
            values,
            [
                ("5".to_owned(), Origin::Topic),
                ("9".to_owned(), Origin::DynamicDefaultBroker),
                ("7200000".to_owned(), Origin::StaticBroker),
                ("604800000".to_owned(), Origin::Default),
            ]
        );
        assert_eq!(over.number("retention.ms"), 5);
    }

    #[test]
    fn names_and_values_are_checked() {
        assert_eq!(check("cleanup.policy", "compact").as_deref(), Ok("compact"));
        assert!(
            check("retention.mss", "1")
                .unwrap_err()
                .contains("retention.ms meant")
        );
        assert!(check("retention.ms", "-2").is_err());
    }
}
