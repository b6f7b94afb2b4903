//! What of a topic's configuration the hot paths need, worked out once per change.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{ConfigResource, Image, TopicImage};
use parking_lot::RwLock;
use protocol::{NodeId, TopicId};
use storage::TopicConfig;

use crate::config::topics::Overlays;
use crate::config::{Config, items};

/// A topic's settings, typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    /// `max.message.bytes`.
    pub(crate) max_message_bytes: usize,
    /// `max.decompressed.message.bytes`, of one record.
    pub(crate) max_decompressed_bytes: usize,
    /// `cleanup.policy` names compact: records need keys.
    pub(crate) compact: bool,
    /// `message.timestamp.type` is LogAppendTime.
    pub(crate) log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub(crate) before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) after_max_ms: i64,
    /// What storage needs to know.
    pub(crate) storage: TopicConfig,
}

/// Settings by topic, as of the image that they were worked out from.
#[derive(Debug, Default)]
pub(crate) struct TopicCache {
    known: RwLock<BTreeMap<TopicId, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    topic: Arc<TopicImage>,
    /// Of brokers and the cluster: the layer below.
    below: Arc<BTreeMap<ConfigResource, BTreeMap<String, String>>>,
    settings: Arc<TopicSettings>,
}

impl TopicCache {
    /// The settings of `topic`.
    pub(crate) fn settings(
        &self,
        config: &Config,
        image: &Image,
        topic: &Arc<TopicImage>,
    ) -> Arc<TopicSettings> {
        if let Some(known) = self.known.read().get(&topic.id)
            && Arc::ptr_eq(&known.topic, topic)
            && Arc::ptr_eq(&known.below, &image.configs)
        {
            return Arc::clone(&known.settings);
        }
        let settings = Arc::new(resolve(config, image, topic));
        let known = Known {
            topic: Arc::clone(topic),
            below: Arc::clone(&image.configs),
            settings: Arc::clone(&settings),
        };
        self.known.write().insert(topic.id, known);
        settings
    }

    /// Forgets topics that are gone.
    pub(crate) fn sweep(&self, image: &Image) {
        self.known
            .write()
            .retain(|id, _| image.topics_by_id.contains_key(id));
    }
}

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

/// Everything that is laid over the defaults for `topic`'s entries.
pub(crate) fn overlays<'a>(
    config: &'a Config,
    image: &'a Image,
    topic: &'a BTreeMap<String, String>,
) -> Overlays<'a> {
    let of = |resource: &ConfigResource| image.configs.get(resource).unwrap_or(&NOTHING);
    Overlays {
        topic,
        broker: of(&ConfigResource::Broker(NodeId(config.node_id.0))),
        cluster: of(&ConfigResource::Cluster),
        fixed: &config.values,
    }
}

fn resolve(config: &Config, image: &Image, topic: &TopicImage) -> TopicSettings {
    let over = overlays(config, image, &topic.configs);
    let policy = over.value("cleanup.policy");
    let names = |what: &str| items(&policy).any(|item| item == what);
    let log_append_time = over.value("message.timestamp.type") == "LogAppendTime";
    TopicSettings {
        max_message_bytes: usize::try_from(over.number("max.message.bytes")).unwrap_or(0),
        max_decompressed_bytes: usize::try_from(over.number("max.decompressed.message.bytes"))
            .unwrap_or(usize::MAX),
        compact: names("compact"),
        log_append_time,
        before_max_ms: over.number("message.timestamp.before.max.ms"),
        after_max_ms: over.number("message.timestamp.after.max.ms"),
        storage: TopicConfig {
            internal: topic.internal,
            delete: names("delete"),
            compact: names("compact"),
            retention_ms: over.number("retention.ms"),
            retention_bytes: over.number("retention.bytes"),
            delete_retention_ms: over.number("delete.retention.ms"),
            log_append_time,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(configs: &[(&str, &str)]) -> Arc<TopicImage> {
        let configs = configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Arc::new(TopicImage {
            name: Arc::from("t"),
            id: TopicId(uuid::Uuid::from_u128(7)),
            internal: false,
            created_ms: 0,
            configs,
            partitions: Vec::new(),
        })
    }

    #[test]
    fn settings_follow_the_topic_and_are_kept_until_it_changes() {
        let (config, image) = (Config::with(&[]).unwrap(), Image::default());
        let cache = TopicCache::default();
        let plain = topic(&[]);
        let first = cache.settings(&config, &image, &plain);
        assert_eq!(first.max_message_bytes, 1_048_588);
        assert!(!first.compact && first.storage.delete);
        assert!(Arc::ptr_eq(
            &first,
            &cache.settings(&config, &image, &plain)
        ));
        let changed = topic(&[("cleanup.policy", "compact"), ("retention.ms", "9")]);
        let second = cache.settings(&config, &image, &changed);
        assert!(second.compact && !second.storage.delete);
        assert_eq!(second.storage.retention_ms, 9);
    }

    #[test]
    fn a_policy_of_both_is_both() {
        let (config, image) = (Config::with(&[]).unwrap(), Image::default());
        let both = resolve(
            &config,
            &image,
            &topic(&[("cleanup.policy", "compact,delete")]),
        );
        assert!(both.compact && both.storage.delete && both.storage.compact);
    }
}
