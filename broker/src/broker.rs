//! What every handler shares: configuration, the controller's image, and this broker epoch's
//! storage.
//!
//! **Invariant:** a partition is served only through the storage of the current broker epoch; when
//! the epoch ends its storage is taken away here first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{Client, ConfigResource, Image, Lease, Listener, TopicImage};
use env::Env;
use parking_lot::RwLock;
use protocol::messages::StrBytes;
use protocol::{BrokerEpoch, NodeId, TopicPartition};
use storage::{Partition, Storage};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::auth::{Authorizer, Operation, Resource};
use crate::config::{Config, keys};
use crate::context::RequestContext;
use crate::departed::Departed;
use crate::groups::{Coordinator, GroupConfig};
use crate::handlers::Sessions;
use crate::limits::POOLED_CHECKS;
use crate::metrics::BrokerMetrics;
use crate::opening::{NotLed, Openings};
use crate::producer_ids::ProducerIds;
use crate::quotas::Quota;
use crate::topics::{TopicCache, TopicSettings};
use crate::zones::Redirects;

/// One registration of this broker, from its epoch to its fence.
pub(crate) struct Epoch {
    /// The number.
    pub(crate) id: BrokerEpoch,
    /// Its partitions.
    pub(crate) storage: Storage,
    /// Its right to acknowledge.
    pub(crate) lease: Lease,
}

/// Its background work ends with it, however it ends: a killed process uploads nothing more.
impl Drop for Epoch {
    fn drop(&mut self) {
        self.storage.abort();
    }
}

/// Shared by all connections.
pub(crate) struct Broker {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) controller: Client,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) quota: Arc<dyn Quota>,
    pub(crate) sessions: Sessions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) topics: TopicCache,
    pub(crate) groups: Coordinator,
    /// Turns of large produced batches to be judged.
    pub(crate) checks: Arc<Semaphore>,
    /// Consumers that were sent to brokers of their zones.
    pub(crate) redirects: Redirects,
    /// Brokers that died lately.
    pub(crate) departed: Departed,
    listeners: Vec<Listener>,
    image: watch::Receiver<Arc<Image>>,
    epoch: RwLock<Option<Arc<Epoch>>>,
    /// Image up to which partitions are opened and closed here.
    assigned: watch::Sender<u64>,
    /// Who waits for partitions to open here.
    pub(crate) openings: Openings,
}

/// Where a node is reached by clients of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node: NodeId,
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) rack: Option<StrBytes>,
}

/// Which address of a broker a client is told: that of its listener for its zone, if there is one,
/// else that of its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressName {
    listener: Arc<str>,
    /// `NAME@ZONE`: how a listener's address for one zone is registered.
    in_zone: Option<String>,
}

impl AddressName {
    pub(crate) fn of(context: &RequestContext) -> Self {
        let zone = context.zone();
        Self {
            listener: Arc::clone(&context.listener),
            in_zone: zone.map(|zone| format!("{}@{zone}", context.listener)),
        }
    }
}

/// What a [`Broker`] is made of.
pub(crate) struct BrokerParts {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) controller: Client,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) quota: Arc<dyn Quota>,
    /// Where this node is reached itself.
    pub(crate) listeners: Vec<Listener>,
}

impl Broker {
    /// A broker without an epoch yet.
    pub(crate) fn new(parts: BrokerParts) -> Arc<Self> {
        let slots = parts
            .config
            .size("max.incremental.fetch.session.cache.slots");
        Arc::new(Self {
            image: parts.controller.image(),
            sessions: Sessions::new(slots, parts.metrics.fetch_sessions.clone()),
            redirects: Redirects::default(),
            departed: Departed::default(),
            producer_ids: ProducerIds::default(),
            topics: TopicCache::default(),
            groups: Coordinator::new(
                parts.env.clock.clone(),
                GroupConfig::of(&parts.config),
                parts.metrics.groups.clone(),
            ),
            checks: Arc::new(Semaphore::new(POOLED_CHECKS)),
            epoch: RwLock::new(None),
            assigned: watch::Sender::new(0),
            openings: Openings::default(),
            env: parts.env,
            config: parts.config,
            controller: parts.controller,
            metrics: parts.metrics,
            authorizer: parts.authorizer,
            quota: parts.quota,
            listeners: parts.listeners,
        })
    }

    /// The newest image.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// The image, to be followed.
    pub(crate) fn watch_image(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// The current registration; `None` while there is none.
    pub(crate) fn epoch(&self) -> Option<Arc<Epoch>> {
        self.epoch.read().clone()
    }

    /// Begins or ends a registration.
    pub(crate) fn set_epoch(&self, epoch: Option<Arc<Epoch>>) {
        *self.epoch.write() = epoch;
    }

    /// Says that partitions are opened and closed here as the image at `applied` wants.
    pub(crate) fn set_assigned(&self, applied: u64) {
        self.assigned.send_replace(applied);
        let image = self.image();
        self.openings.tell_unless(|tp| self.is_opening(&image, tp));
    }

    /// The image up to which partitions are opened and closed here, to be followed.
    pub(crate) fn watch_assigned(&self) -> watch::Receiver<u64> {
        self.assigned.subscribe()
    }

    /// Waits until the image holds what `seen` looks for, and this broker has opened and closed
    /// its partitions accordingly; at most until `deadline`. Says whether it came to that.
    pub(crate) async fn wait_for(
        &self,
        deadline: Instant,
        mut seen: impl FnMut(&Image) -> bool,
    ) -> bool {
        let mut image = self.image.clone();
        let mut assigned = self.assigned.subscribe();
        let waiting = async {
            let found = image
                .wait_for(|image| seen(image))
                .await
                .map(|image| image.applied);
            match found {
                Ok(applied) => assigned.wait_for(|done| *done >= applied).await.is_ok(),
                Err(_) => false,
            }
        };
        tokio::time::timeout_at(deadline, waiting)
            .await
            .unwrap_or(false)
    }

    /// Whether anything may be acknowledged at this moment.
    pub(crate) fn may_acknowledge(&self) -> bool {
        self.epoch
            .read()
            .as_ref()
            .is_some_and(|epoch| epoch.lease.valid_now())
    }

    /// The partition, when it is led here and the lease holds.
    pub(crate) fn led(&self, image: &Image, tp: TopicPartition) -> Result<Partition, NotLed> {
        if let Some(epoch) = self.epoch.read().as_ref()
            && epoch.lease.valid_now()
            && let Some(partition) = epoch.storage.partition(tp)
        {
            return Ok(partition);
        }
        Err(NotLed::of(image, self.config.node_id, tp))
    }

    /// The storage from which partitions that are led elsewhere may be read.
    pub(crate) fn followed(&self) -> Option<Storage> {
        let epoch = self.epoch.read();
        let epoch = epoch.as_ref().filter(|epoch| epoch.lease.valid_now());
        epoch.map(|epoch| epoch.storage.clone())
    }

    /// Whether it has been given to this broker and is not open here yet.
    pub(crate) fn is_opening(&self, image: &Image, tp: TopicPartition) -> bool {
        let given = image.partition(tp).and_then(|partition| partition.broker);
        let epoch = self.epoch.read();
        let epoch = epoch.as_ref().filter(|epoch| epoch.lease.valid_now());
        epoch.is_some_and(|epoch| Some(epoch.id) == given && epoch.storage.partition(tp).is_none())
    }

    /// Who leads a partition as of now, for those who are told that it is not led here (KIP-951).
    pub(crate) fn not_led(&self, tp: TopicPartition) -> NotLed {
        NotLed::of(&self.image(), self.config.node_id, tp)
    }

    /// A topic's settings.
    pub(crate) fn settings(&self, image: &Image, topic: &Arc<TopicImage>) -> Arc<TopicSettings> {
        self.topics.settings(&self.config, image, topic)
    }

    /// The value of a broker-wide name: dynamic for this broker, for all, else as configured.
    pub(crate) fn setting(&self, image: &Image, name: &str) -> String {
        let dynamic = keys::find(name).is_some_and(|key| key.dynamic);
        let layers = [
            ConfigResource::Broker(self.config.node_id),
            ConfigResource::Cluster,
        ];
        let set = layers
            .iter()
            .filter(|_| dynamic)
            .find_map(|layer| image.configs.get(layer).and_then(|values| values.get(name)));
        set.cloned()
            .unwrap_or_else(|| self.config.values.text(name).to_owned())
    }

    /// As [`Broker::setting`], for numbers.
    pub(crate) fn number(&self, image: &Image, name: &str) -> i64 {
        self.setting(image, name).parse().unwrap_or(0)
    }

    /// Whether the request's principal may.
    pub(crate) fn allows(
        &self,
        context: &RequestContext,
        operation: Operation,
        on: Resource<'_>,
    ) -> bool {
        self.authorizer.allows(context, operation, on)
    }

    /// Live brokers that the client reaches by the listener that its request came in by, by node.
    pub(crate) fn endpoints(
        &self,
        image: &Image,
        context: &RequestContext,
    ) -> BTreeMap<NodeId, Endpoint> {
        self.endpoints_by(image, &AddressName::of(context))
    }

    /// As [`Broker::endpoints`], by the name of what is asked for.
    pub(crate) fn endpoints_by(
        &self,
        image: &Image,
        name: &AddressName,
    ) -> BTreeMap<NodeId, Endpoint> {
        let live = image.live_brokers().filter_map(|(_, broker)| {
            endpoint(broker.node, &broker.listeners, broker.rack.as_deref(), name)
        });
        live.map(|endpoint| (endpoint.node, endpoint)).collect()
    }

    /// As [`Broker::endpoints`], always with this one, which answers after all: for lists of whom to
    /// ask. Without it a cluster of one would be told to have no broker while it registers anew, and
    /// a client that believes it (librdkafka does) has nobody left to ask, for ever.
    pub(crate) fn askable(
        &self,
        image: &Image,
        context: &RequestContext,
    ) -> BTreeMap<NodeId, Endpoint> {
        let name = AddressName::of(context);
        let rack = self.config.values.text("broker.rack");
        let rack = (!rack.is_empty()).then_some(rack);
        let own = endpoint(self.config.node_id, &self.listeners, rack, &name);
        let own = own.map(|endpoint| (endpoint.node, endpoint));
        own.into_iter()
            .chain(self.endpoints_by(image, &name))
            .collect()
    }

    /// As [`Broker::askable`], with those who died lately: what Metadata names.
    pub(crate) fn named(
        &self,
        image: &Image,
        context: &RequestContext,
        askable: &BTreeMap<NodeId, Endpoint>,
    ) -> BTreeMap<NodeId, Endpoint> {
        let name = AddressName::of(context);
        let dead = self.departed.lately(image).into_iter();
        let dead = dead
            .filter_map(|one| endpoint(one.node, &one.listeners, one.rack.as_deref(), &name))
            .map(|endpoint| (endpoint.node, endpoint));
        let living = askable.iter().map(|(node, one)| (*node, one.clone()));
        dead.chain(living).collect()
    }

    /// Whom clients take for the controller: the one that leads, where it is a broker of theirs, too;
    /// else this one, as every broker does what a controller is asked for.
    pub(crate) fn controller_among(
        &self,
        image: &Image,
        endpoints: &BTreeMap<NodeId, Endpoint>,
    ) -> Option<NodeId> {
        let among = |node: &NodeId| endpoints.contains_key(node);
        let leads = image.controller.filter(among);
        let own = Some(self.config.node_id).filter(among);
        leads.or(own).or_else(|| endpoints.keys().next().copied())
    }

    /// Until when a request that waits for `timeout_ms` waits.
    pub(crate) fn deadline(&self, context: &RequestContext, timeout_ms: i32) -> Instant {
        let most = self.config.time("request.timeout.ms").unwrap_or_default();
        let asked = u64::try_from(timeout_ms)
            .map(Duration::from_millis)
            .unwrap_or(most);
        context.received + asked
    }
}

fn endpoint(
    node: NodeId,
    listeners: &[Listener],
    rack: Option<&str>,
    name: &AddressName,
) -> Option<Endpoint> {
    let named = |name: &str| listeners.iter().find(|candidate| candidate.name == name);
    let zones = name.in_zone.as_deref().and_then(named);
    let found = zones.or_else(|| named(&name.listener))?;
    Some(Endpoint {
        node,
        host: StrBytes::from_string(found.host.clone()),
        port: i32::from(found.port),
        rack: rack.map(|rack| StrBytes::from_string(rack.to_owned())),
    })
}
