//! Metadata, key 3, versions 0 to 13.
//!
//! - 0: an empty list of topics is all; 1+: null is all, empty is none. 4+: auto-creation can be
//!   refused by the client. 8+: authorized operations when asked for (KIP-430). 10+: topic ids, by
//!   which topics may be asked for from 12 on (KIP-516). 11+: no cluster operations (KIP-700).
//! - Only the listener that the request came in by is told. The controller is the one that leads,
//!   where it is a broker, too; else this broker, which passes on what it is asked.
//! - Beside topics, a broker that died is named for ten seconds more, leading nothing (`adr/0003`).
//! - With `replica.selector.class`, a broker of each zone reads beside the leader (KIP-392) and is told
//!   as an in-sync replica: clients go only to replicas that they know.
//! - A topic that is made because it was asked for is answered with an error once; the client
//!   asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::{Image, PartitionImage, TopicImage};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use protocol::{ErrorCode, NodeId, TopicId, TopicPartition};

use super::{create_topics, text, topic_names};
use crate::auth::{OPERATIONS_NOT_ASKED, Operation, Resource, authorized_operations};
use crate::broker::{Broker, Endpoint};
use crate::context::RequestContext;
use crate::zones::Readers;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = context.version;
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let create = version < 4 || request.allow_auto_topic_creation;
    let image = broker.image();
    let endpoints = broker.askable(&image, context);
    let view = View {
        broker,
        context,
        image: &image,
        readers: Readers::of(broker, &image, &endpoints),
        endpoints: &endpoints,
        operations: request.include_topic_authorized_operations,
    };
    let topics = if all {
        view.all()
    } else {
        let mut topics = Vec::new();
        let mut seen = BTreeSet::new();
        for topic in request.topics.unwrap_or_default() {
            // Whoever asks twice is answered once.
            let name = topic.name.as_ref().map(|name| name.to_string());
            if seen.insert((topic.topic_id, name)) {
                topics.push(view.asked(topic, create).await);
            }
        }
        topics
    };
    let cluster_operations = if request.include_cluster_authorized_operations && version >= 8 {
        authorized_operations(&*broker.authorizer, context, Resource::Cluster)
    } else {
        OPERATIONS_NOT_ASKED
    };
    // Who asks for no topic wants to ask each broker that is named, and would wait for the dead.
    let named = match topics.is_empty() {
        true => endpoints.clone(),
        false => broker.named(&image, context, &endpoints),
    };
    let mut response = MetadataResponse::default()
        .with_brokers(
            named
                .values()
                .map(|endpoint| told(endpoint, version))
                .collect(),
        )
        .with_controller_id(BrokerId(
            broker
                .controller_among(&image, &endpoints)
                .map_or(-1, |node| node.0),
        ))
        .with_cluster_id(image.cluster.map(|id| text(id.to_string())))
        .with_topics(topics);
    if version <= 10 {
        response.cluster_authorized_operations = cluster_operations;
    }
    response
}

fn told(endpoint: &Endpoint, version: i16) -> MetadataResponseBroker {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(endpoint.node.0))
        .with_host(endpoint.host.clone())
        .with_port(endpoint.port);
    if version >= 1 {
        broker.with_rack(endpoint.rack.clone())
    } else {
        broker
    }
}

struct View<'a> {
    broker: &'a Broker,
    context: &'a RequestContext,
    image: &'a Image,
    endpoints: &'a BTreeMap<NodeId, Endpoint>,
    readers: Readers,
    operations: bool,
}

impl View<'_> {
    fn all(&self) -> Vec<MetadataResponseTopic> {
        let may = |name: &str| {
            self.broker
                .allows(self.context, Operation::Describe, Resource::Topic(name))
        };
        let topics = self.image.topics.values().filter(|topic| may(&topic.name));
        topics.map(|topic| self.topic(topic)).collect()
    }

    async fn asked(&self, asked: MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
        let answer = MetadataResponseTopic::default();
        if !asked.topic_id.is_nil() {
            let answer = answer.with_topic_id(asked.topic_id);
            if self.context.version < 12 {
                let name = asked.name.unwrap_or_default();
                let code = ErrorCode::InvalidRequest.code();
                return answer.with_name(Some(name)).with_error_code(code);
            }
            return match self.image.topic_by_id(TopicId(asked.topic_id)) {
                Some(topic) if self.may_describe(&topic.name) => self.topic(topic),
                Some(_) => answer.with_error_code(ErrorCode::TopicAuthorizationFailed.code()),
                None => answer.with_error_code(ErrorCode::UnknownTopicId.code()),
            };
        }
        let Some(name) = asked.name else {
            let code = ErrorCode::InvalidRequest.code();
            return answer
                .with_name(Some(TopicName::default()))
                .with_error_code(code);
        };
        let code = if !self.may_describe(&name) {
            ErrorCode::TopicAuthorizationFailed
        } else if let Some(topic) = self.image.topic(&name) {
            return self.topic(topic);
        } else if topic_names::problem(&name).is_some() {
            ErrorCode::InvalidTopicException
        } else if create && self.broker.config.values.truth("auto.create.topics.enable") {
            create_topics::automatically(self.broker, self.context, &name).await
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        answer
            .with_is_internal(topic_names::is_shown_internal(&name))
            .with_name(Some(name))
            .with_error_code(code.code())
    }

    fn may_describe(&self, name: &str) -> bool {
        self.broker
            .allows(self.context, Operation::Describe, Resource::Topic(name))
    }

    fn topic(&self, topic: &Arc<TopicImage>) -> MetadataResponseTopic {
        let version = self.context.version;
        let partitions = topic.partitions.iter().zip(0i32..);
        let answer = MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&*topic.name))))
            .with_is_internal(topic.internal || topic_names::is_shown_internal(&topic.name))
            .with_partitions(
                partitions
                    .map(|(one, index)| self.partition(one, TopicPartition::new(topic.id, index)))
                    .collect(),
            );
        let answer = if version >= 10 {
            answer.with_topic_id(topic.id.0)
        } else {
            answer
        };
        if self.operations && version >= 8 {
            let resource = Resource::Topic(&topic.name);
            let bits = authorized_operations(&*self.broker.authorizer, self.context, resource);
            return answer.with_topic_authorized_operations(bits);
        }
        answer
    }

    /// The owner stands for all replicas, but for those who read beside it.
    fn partition(
        &self,
        partition: &PartitionImage,
        tp: TopicPartition,
    ) -> MetadataResponsePartition {
        let version = self.context.version;
        let ids = |node: Option<NodeId>| node.into_iter().map(|node| BrokerId(node.0)).collect();
        let leader = partition
            .leader
            .filter(|node| self.endpoints.contains_key(node));
        let home = partition.leader.or(partition.home);
        let beside = leader.map(|leader| self.readers.beside(tp, leader));
        let beside = beside.unwrap_or_default();
        let with_readers = |node: Option<NodeId>| {
            let nodes = node.into_iter().chain(beside.iter().copied());
            nodes.map(|node| BrokerId(node.0)).collect()
        };
        let code = if leader.is_some() {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        let answer = MetadataResponsePartition::default()
            .with_error_code(code.code())
            .with_partition_index(tp.partition)
            .with_leader_id(BrokerId(leader.map_or(-1, |node| node.0)))
            .with_replica_nodes(with_readers(home))
            .with_isr_nodes(with_readers(leader));
        let answer = if version >= 7 {
            answer.with_leader_epoch(partition.leader_epoch.0)
        } else {
            answer
        };
        let offline = home.filter(|_| leader.is_none());
        if version >= 5 {
            answer.with_offline_replicas(ids(offline))
        } else {
            answer
        }
    }
}
