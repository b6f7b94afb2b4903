//! A cluster behind its bootstrap addresses: metadata, and a connection per broker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use env::Env;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, StrBytes, TopicName,
};
use protocol::{ApiKey, Request, Response, TopicId};
use tokio::time::timeout;

use super::connection::{Connection, Settings};
use super::error::Error;

/// A topic as metadata tells it.
#[derive(Clone, Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// In order of their index.
    pub partitions: Vec<PartitionInfo>,
    /// Kafka's own topics.
    pub internal: bool,
}

/// A partition as metadata tells it.
#[derive(Clone, Copy, Debug)]
pub struct PartitionInfo {
    /// Its index.
    pub partition: i32,
    /// Node id of its leader, -1 for none.
    pub leader: i32,
    /// Its leader epoch.
    pub leader_epoch: i32,
}

/// Connections to the brokers of one cluster, made when needed.
pub struct Cluster {
    env: Env,
    settings: Settings,
    bootstrap: Vec<SocketAddr>,
    nodes: BTreeMap<i32, SocketAddr>,
    /// Who answered last, when it does not matter who.
    favourite: Option<SocketAddr>,
    connections: BTreeMap<SocketAddr, Connection>,
    connects_within: Duration,
}

impl Cluster {
    /// A cluster reached by `bootstrap`. Nothing is connected yet.
    pub fn new(env: Env, bootstrap: Vec<SocketAddr>, settings: Settings) -> Self {
        let (nodes, connections) = (BTreeMap::new(), BTreeMap::new());
        Self {
            env,
            connects_within: settings.timeout,
            settings,
            bootstrap,
            nodes,
            favourite: None,
            connections,
        }
    }

    /// The same, which waits no longer than `limit` for a connection: a host that is gone for good
    /// says nothing, and others may answer.
    #[must_use]
    pub fn connecting_within(mut self, limit: Duration) -> Self {
        self.connects_within = limit.min(self.settings.timeout);
        self
    }

    /// Asks any broker that answers: the one that did last time, if it still does.
    ///
    /// # Errors
    /// When none can be reached, or the call fails.
    pub async fn call(&mut self, request: impl Into<Request>) -> Result<Response, Error> {
        self.call_any(request.into(), i16::MAX).await
    }

    /// As [`Cluster::call`], in a version of at most `at_most`.
    async fn call_any(&mut self, request: Request, at_most: i16) -> Result<Response, Error> {
        let known = self.nodes.values().copied();
        let mut addresses: Vec<_> = self.bootstrap.iter().copied().chain(known).collect();
        let favourite = self.favourite.take();
        let first = addresses.iter().position(|one| Some(*one) == favourite);
        addresses.rotate_left(first.unwrap_or(0));
        let mut last = None;
        for (at, address) in addresses.iter().enumerate() {
            match self.connect(*address).await {
                Ok(()) => {
                    let answer = self.call_at(*address, request, at_most).await;
                    // One that takes connections and does not answer is no favourite: the next.
                    let next = at + usize::from(answer.is_err());
                    self.favourite = addresses.get(next).copied();
                    return answer;
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Connect {
            address: "no address".to_owned(),
            source: std::io::ErrorKind::AddrNotAvailable.into(),
        }))
    }

    /// Asks the broker with node id `node`, in a version of at most `at_most`.
    ///
    /// # Errors
    /// When it is unknown or cannot be reached, or the call fails.
    pub async fn call_node(
        &mut self,
        node: i32,
        request: impl Into<Request>,
        at_most: i16,
    ) -> Result<Response, Error> {
        let Some(address) = self.nodes.get(&node).copied() else {
            return Err(Error::Connect {
                address: format!("node {node}"),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        self.connect(address).await?;
        self.call_at(address, request.into(), at_most).await
    }

    async fn connect(&mut self, address: SocketAddr) -> Result<(), Error> {
        if !self.connections.contains_key(&address) {
            let settings = self.settings.clone();
            let opening = Connection::open(&self.env, address, settings);
            let opened = timeout(self.connects_within, opening).await;
            let connection = opened.unwrap_or_else(|_| {
                Err(Error::Connect {
                    address: address.to_string(),
                    source: std::io::ErrorKind::TimedOut.into(),
                })
            })?;
            self.connections.insert(address, connection);
        }
        Ok(())
    }

    async fn call_at(
        &mut self,
        address: SocketAddr,
        request: Request,
        at_most: i16,
    ) -> Result<Response, Error> {
        let connection = self
            .connections
            .get_mut(&address)
            .expect("connected just before");
        let version = connection.version(request.key(), at_most)?;
        let answer = connection.call_version(request, version).await;
        if answer.is_err() {
            // Half an exchange leaves the stream at an unknown place.
            self.connections.remove(&address);
        }
        answer
    }

    /// Metadata of `topics`, or of all; also learns the brokers' addresses.
    ///
    /// # Errors
    /// Those of a call. Errors of single topics are in the answer.
    pub async fn metadata(&mut self, topics: Option<&[String]>) -> Result<MetadataResponse, Error> {
        let wanted = topics.map(|topics| {
            let name = |t: &String| TopicName(StrBytes::from_string(t.clone()));
            let topic = |t| MetadataRequestTopic::default().with_name(Some(name(t)));
            topics.iter().map(topic).collect()
        });
        let request = MetadataRequest::default()
            .with_topics(wanted)
            .with_allow_auto_topic_creation(false);
        let Response::Metadata(answer) = self.call(request).await? else {
            return Err(wrong(ApiKey::Metadata));
        };
        let mut nodes = BTreeMap::new();
        for broker in &answer.brokers {
            let port = u16::try_from(broker.port).unwrap_or(0);
            let resolved = self.env.net.resolve(&broker.host, port).await;
            if let Some(address) = resolved.ok().and_then(|all| all.first().copied()) {
                nodes.insert(broker.node_id.0, address);
            }
        }
        self.nodes = nodes;
        Ok(answer)
    }

    /// What metadata says of one topic.
    ///
    /// # Errors
    /// The topic's own error (`UNKNOWN_TOPIC_OR_PARTITION`, …) or those of a call.
    pub async fn topic(&mut self, name: &str) -> Result<TopicInfo, Error> {
        let answer = self.metadata(Some(&[name.to_owned()])).await?;
        let topic = answer
            .topics
            .into_iter()
            .next()
            .ok_or_else(|| wrong(ApiKey::Metadata))?;
        Error::check(&format!("topic {name:?}"), topic.error_code, None)?;
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| PartitionInfo {
                partition: p.partition_index,
                leader: p.leader_id.0,
                leader_epoch: p.leader_epoch,
            })
            .collect();
        partitions.sort_by_key(|p| p.partition);
        Ok(TopicInfo {
            name: name.to_owned(),
            id: TopicId(topic.topic_id),
            partitions,
            internal: topic.is_internal,
        })
    }

    /// Node id of a group's coordinator.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` and the like, or those of a call.
    pub async fn coordinator(&mut self, group: &str) -> Result<i32, Error> {
        self.metadata(Some(&[])).await?;
        let key = StrBytes::from_string(group.to_owned());
        let request = FindCoordinatorRequest::default().with_key(key);
        // From version 4 on, one call asks for many groups: not needed here.
        let answer = self.call_any(request.into(), 3).await?;
        let Response::FindCoordinator(answer) = answer else {
            return Err(wrong(ApiKey::FindCoordinator));
        };
        let what = format!("coordinator of group {group:?}");
        Error::check(&what, answer.error_code, answer.error_message.as_deref())?;
        Ok(answer.node_id.0)
    }
}

pub(super) fn wrong(api: ApiKey) -> Error {
    Error::Unreadable {
        address: "the cluster".to_owned(),
        api,
        reason: "the answer is of another kind".to_owned(),
    }
}
