//! What every reader sees: swapped whole, shared, without slices.

pub(crate) mod delta;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition};
use uuid::Uuid;
use wal::{Sequence, WalId};

use crate::command::{ConfigResource, Listener, WalBackend};
use crate::state::{Effects, State, Topic, WalPhase};
use crate::types::ClusterId;

/// Configuration entries that are set.
pub type ConfigMap = BTreeMap<String, String>;

/// The state as readers see it. Parts that a command did not touch are shared with the image
/// before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Index of the last log entry that it holds.
    pub applied: u64,
    /// The cluster, once it has an identity.
    pub cluster: Option<ClusterId>,
    /// Its generation.
    pub generation: u32,
    /// The controller's leader, when known.
    pub controller: Option<NodeId>,
    /// Brokers that live, or whose log is not closed yet.
    pub brokers: Arc<BTreeMap<BrokerEpoch, BrokerImage>>,
    /// Logs that are not closed.
    pub wals: Arc<BTreeMap<WalId, WalImage>>,
    /// Closed logs of the object store that may have left something there.
    pub unswept: Arc<BTreeMap<WalId, UnsweptWal>>,
    /// Topics by name.
    pub topics: Arc<BTreeMap<Arc<str>, Arc<TopicImage>>>,
    /// The same topics by id.
    pub topics_by_id: Arc<BTreeMap<TopicId, Arc<TopicImage>>>,
    /// Configurations of brokers and of the cluster; a topic's stand with the topic.
    pub configs: Arc<BTreeMap<ConfigResource, ConfigMap>>,
    /// Nodes that an operator drains, registered or not.
    pub draining: Arc<BTreeSet<NodeId>>,
    /// Finalized feature levels.
    pub features: Arc<BTreeMap<String, u16>>,
    /// What the object store of this cluster carries, once that is recorded.
    pub home: Option<Uuid>,
    /// When each store passed the probe last, milliseconds since the Unix epoch.
    pub probes: Arc<BTreeMap<String, i64>>,
}

/// A broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its node.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Uuid,
    /// Its data directory; nil when it named none.
    pub directory: Uuid,
    /// Where it can be reached.
    pub listeners: Vec<Listener>,
    /// Its rack.
    pub rack: Option<String>,
    /// True once nothing of this epoch is accepted any more.
    pub fenced: bool,
    /// Its log.
    pub wal: Option<WalId>,
    /// It gives its partitions away and takes none: drained by an operator, or leaving.
    pub draining: bool,
}

/// A log that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalImage {
    /// Epoch of its owner.
    pub broker: BrokerEpoch,
    /// Node of its owner.
    pub node: NodeId,
    /// Where it lives.
    pub backend: WalBackend,
    /// Where it stands.
    pub phase: WalPhase,
    /// Why it may not be claimed.
    pub quarantine: Option<String>,
    /// How often an heir gave it up for another one to try.
    pub yields: u32,
    /// How many heirs died at it where it stands now.
    pub deaths: u32,
}

/// A closed log of the object store whose objects are not known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsweptWal {
    /// Node of its owner.
    pub node: NodeId,
    /// One past its last group: where its seal is, if it has one.
    pub end: Sequence,
    /// When it was closed, milliseconds since the Unix epoch; 0 when that is not known.
    pub closed_ms: i64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// True for topics of our own.
    pub internal: bool,
    /// When it was made, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Its own configuration entries.
    pub configs: ConfigMap,
    /// By index.
    pub partitions: Vec<PartitionImage>,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// Epoch of the broker that leads it.
    pub broker: Option<BrokerEpoch>,
    /// Node that leads it.
    pub leader: Option<NodeId>,
    /// Node that led it last, or is to: what Kafka lists as replica while nobody leads it.
    pub home: Option<NodeId>,
    /// Epoch at which it is, or was last, led; −1 before the first leader.
    pub leader_epoch: LeaderEpoch,
    /// First offset that may be read.
    pub log_start: i64,
    /// The log that must be closed before it opens.
    pub awaits: Option<WalId>,
    /// Where it shall go.
    pub target: Option<NodeId>,
    /// Who is to lead it by an operator's word, when possible.
    pub preferred: Option<NodeId>,
}

// === impl Image ===

impl Image {
    /// The image of all of `state`.
    pub(crate) fn new(state: &State) -> Self {
        let mut effects = Effects {
            brokers: true,
            cluster: true,
            ..Effects::default()
        };
        effects
            .topics
            .extend(state.topics.iter().map(|topic| topic.id));
        Self::default().after(state, &effects)
    }

    /// The image after commands with `effects` have led to `state`.
    pub(crate) fn after(&self, state: &State, effects: &Effects) -> Self {
        let mut image = self.clone();
        image.applied = state.applied;
        if effects.cluster {
            image.cluster = state.cluster.map(|cluster| cluster.id);
            image.generation = state.cluster.map_or(0, |cluster| cluster.generation);
            image.configs = Arc::new(state.configs.clone());
            image.features = Arc::new(state.features.clone());
            image.home = state.home;
            image.probes = Arc::new(state.probes.clone());
        }
        if effects.brokers {
            image.brokers = Arc::new(brokers(state));
            image.wals = Arc::new(wals(state));
            image.draining = Arc::new(state.draining.clone());
            image.unswept = Arc::new(unswept(state));
        }
        if !effects.topics.is_empty() {
            let by_name = Arc::make_mut(&mut image.topics);
            let by_id = Arc::make_mut(&mut image.topics_by_id);
            for id in &effects.topics {
                if let Some(old) = by_id.remove(id) {
                    by_name.remove(&old.name);
                }
            }
            for topic in effects.topics.iter().filter_map(|id| state.topics.get(*id)) {
                let topic = Arc::new(TopicImage::new(topic, state));
                by_name.insert(topic.name.clone(), topic.clone());
                by_id.insert(topic.id, topic);
            }
        }
        image
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics_by_id.get(&id)
    }

    /// A partition.
    pub fn partition(&self, tp: TopicPartition) -> Option<&PartitionImage> {
        let at = usize::try_from(tp.partition).ok()?;
        self.topics_by_id.get(&tp.topic)?.partitions.get(at)
    }

    /// Brokers that are not fenced.
    pub fn live_brokers(&self) -> impl Iterator<Item = (BrokerEpoch, &BrokerImage)> {
        let live = self.brokers.iter().filter(|(_, broker)| !broker.fenced);
        live.map(|(epoch, broker)| (*epoch, broker))
    }

    /// True while a broker epoch leads any partition.
    pub fn leads_any(&self, broker: BrokerEpoch) -> bool {
        let topics = self.topics_by_id.values();
        let mut partitions = topics.flat_map(|topic| &topic.partitions);
        partitions.any(|partition| partition.broker == Some(broker))
    }

    /// Nodes that take partitions: live, with a log, and not draining.
    pub fn takers(&self) -> BTreeSet<NodeId> {
        let live = self.live_brokers().map(|(_, broker)| broker);
        live.filter(|broker| broker.takes())
            .map(|broker| broker.node)
            .collect()
    }
}

impl BrokerImage {
    /// True when partitions may be given to it.
    pub fn takes(&self) -> bool {
        !self.fenced && !self.draining && self.wal.is_some()
    }
}

fn brokers(state: &State) -> BTreeMap<BrokerEpoch, BrokerImage> {
    let image = |broker: &crate::state::Broker| BrokerImage {
        node: broker.register.node,
        incarnation: broker.register.incarnation,
        directory: broker.register.directory,
        listeners: broker.register.listeners.clone(),
        rack: broker.register.rack.clone(),
        fenced: broker.fenced,
        wal: broker.wal,
        draining: broker.leaving || state.draining.contains(&broker.register.node),
    };
    state
        .brokers
        .iter()
        .map(|(epoch, broker)| (*epoch, image(broker)))
        .collect()
}

fn wals(state: &State) -> BTreeMap<WalId, WalImage> {
    let image = |wal: &crate::state::Wal| WalImage {
        broker: wal.broker,
        node: wal.node,
        backend: wal.backend,
        phase: wal.phase,
        quarantine: wal.quarantine.clone(),
        yields: wal.yields,
        deaths: u32::try_from(wal.deaths.len()).unwrap_or(u32::MAX),
    };
    let open = state.wals.iter().filter(|(_, wal)| !wal.phase.is_closed());
    open.map(|(id, wal)| (*id, image(wal))).collect()
}

fn unswept(state: &State) -> BTreeMap<WalId, UnsweptWal> {
    let image = |wal: &crate::state::Wal| {
        wal.unswept_end().map(|end| UnsweptWal {
            node: wal.node,
            end,
            closed_ms: wal.closed_ms,
        })
    };
    let wals = state.wals.iter();
    wals.filter_map(|(id, wal)| image(wal).map(|wal| (*id, wal)))
        .collect()
}

// === impl TopicImage ===

impl TopicImage {
    fn new(topic: &Topic, state: &State) -> Self {
        let partitions = topic.partitions.iter().map(|partition| {
            let broker = partition.leader.and_then(|epoch| state.brokers.get(&epoch));
            PartitionImage {
                broker: partition.leader,
                leader: broker.map(|broker| broker.register.node),
                home: partition.last_node.or(partition.preferred),
                leader_epoch: partition.leader_epoch,
                log_start: partition.log_start,
                awaits: partition.awaits,
                target: partition.target,
                preferred: partition.preferred,
            }
        });
        Self {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.internal,
            created_ms: topic.created_ms,
            configs: topic.configs.clone(),
            partitions: partitions.collect(),
        }
    }
}
