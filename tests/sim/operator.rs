//! An operator's requests: brokers drained and resumed by the admin pages, voters removed and added
//! as the runbooks say, levels finalized.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use broker::client::{Cluster, Error};
use controller::{VERSION_FEATURE, identify};
use env::Env;
use env::sim::SimHost;
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest, StrBytes, TopicName,
    UpdateFeaturesRequest, add_raft_voter_request, describe_quorum_request,
};
use protocol::{ErrorCode, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::clients::Shared;
use crate::machine;

/// Its number among the clients.
const OPERATOR: u32 = 16;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
const METADATA_TOPIC: &str = "__cluster_metadata";

/// What came of a request for a level.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finalized {
    Done,
    /// For certain.
    Refused(String),
    /// It may stand.
    Unknown(String),
}

/// Kafka's kind of update that only raises.
const UPGRADE: i8 = 1;

/// The operator's machine.
pub(crate) struct Operator {
    shared: Shared,
    env: Env,
    cluster: Cluster,
}

// === impl Operator ===

impl Operator {
    pub(crate) fn new(shared: &Shared, seed: u64) -> Self {
        let address = IpAddr::from([10, 0, 1, OPERATOR as u8]);
        let host = SimHost::new(seed, &shared.network, "operator", address);
        Self {
            shared: shared.clone(),
            env: host.env(),
            cluster: shared.cluster(seed ^ 1, OPERATOR),
        }
    }

    fn say(&self, what: &str) {
        self.shared.trace.line(&format!("operator: {what}"));
    }

    /// Drains or resumes `node`, asking one broker after the other until one has done it.
    pub(crate) async fn drain(&self, node: i32, on: bool) {
        let what = if on { "drain" } else { "resume" };
        let path = format!("/v1/brokers/{node}/{what}");
        loop {
            for broker in self.shared.brokers.clone() {
                let at = SocketAddr::new(broker.ip(), machine::ADMIN_PORT);
                match timeout(PATIENCE, self.post(at, &path)).await {
                    Ok(Ok(200)) => return self.say(&format!("{what} node {node}: done")),
                    answer => self.say(&format!("{what} node {node} by {at}: {answer:?}")),
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn post(&self, at: SocketAddr, path: &str) -> std::io::Result<u16> {
        let mut stream = self.env.net.connect(at).await?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1 << 20).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.ok_or_else(|| std::io::Error::other(format!("no status in {answer:?}")))
    }

    /// Has the voter on a new disk in `node` take the place of the one on its old disk.
    pub(crate) async fn replace_voter(&mut self, node: i32) {
        while let Err(error) = self.remove_voter(node).await {
            self.say(&format!("remove voter {node}: {error}"));
            sleep(PAUSE).await;
        }
        self.say(&format!("node {node} votes no more"));
        while let Err(error) = self.add_voter(node).await {
            self.say(&format!("add voter {node}: {error}"));
            sleep(PAUSE).await;
        }
        self.say(&format!("node {node} votes again"));
    }

    /// Asks once for `level` to be finalized.
    pub(crate) async fn finalize(&mut self, level: u16) -> Finalized {
        let update = FeatureUpdateKey::default()
            .with_feature(StrBytes::from_static_str(VERSION_FEATURE))
            .with_max_version_level(level.cast_signed())
            .with_upgrade_type(UPGRADE);
        let request = UpdateFeaturesRequest::default()
            .with_timeout_ms(10_000)
            .with_feature_updates(vec![update]);
        let answer = match self.cluster.call(request).await {
            Ok(Response::UpdateFeatures(answer)) => answer,
            Ok(other) => return Finalized::Unknown(format!("{other:?}")),
            Err(error) => return Finalized::Unknown(error.to_string()),
        };
        let said = answer.error_message.unwrap_or_default().to_string();
        let finalized = match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => Finalized::Done,
            Some(ErrorCode::FeatureUpdateFailed | ErrorCode::InvalidUpdateVersion) => {
                Finalized::Refused(said)
            }
            code => Finalized::Unknown(format!("{code:?}: {said}")),
        };
        self.say(&format!("level {level}: {finalized:?}"));
        finalized
    }

    async fn remove_voter(&mut self, node: i32) -> Result<(), String> {
        let partition = describe_quorum_request::PartitionData::default().with_partition_index(0);
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(TopicName(StrBytes::from_static_str(METADATA_TOPIC)))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let asked = self.cluster.call(request).await;
        let Response::DescribeQuorum(answer) = asked.map_err(words)? else {
            return Err("not an answer to DescribeQuorum".to_owned());
        };
        check(
            "describe",
            answer.error_code,
            answer.error_message.as_deref(),
        )?;
        let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let partition = partition.into_iter().next().ok_or("no partition")?;
        let voters = partition.current_voters;
        let Some(voter) = voters.iter().find(|one| one.replica_id.0 == node) else {
            // An earlier try did it, and its answer was lost.
            return Ok(());
        };
        let request = RemoveRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_voter_id(node)
            .with_voter_directory_id(voter.replica_directory_id);
        let Response::RemoveRaftVoter(answer) = self.cluster.call(request).await.map_err(words)?
        else {
            return Err("not an answer to RemoveRaftVoter".to_owned());
        };
        check("remove", answer.error_code, answer.error_message.as_deref())
    }

    async fn add_voter(&mut self, node: i32) -> Result<(), String> {
        let at = machine::controller(node);
        let found = identify(&self.env, &at.to_string(), None, PATIENCE).await;
        let found = found.map_err(|error| error.to_string())?;
        let listener = add_raft_voter_request::Listener::default()
            .with_name(StrBytes::from_static_str("CONTROLLER"))
            .with_host(StrBytes::from_string(at.ip().to_string()))
            .with_port(at.port());
        let request = AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(10_000)
            .with_voter_id(found.node.0)
            .with_voter_directory_id(found.directory)
            .with_listeners(vec![listener]);
        let Response::AddRaftVoter(answer) = self.cluster.call(request).await.map_err(words)?
        else {
            return Err("not an answer to AddRaftVoter".to_owned());
        };
        let duplicate = ErrorCode::DuplicateVoter as i16;
        if answer.error_code == duplicate {
            // As above.
            return Ok(());
        }
        check("add", answer.error_code, answer.error_message.as_deref())
    }
}

fn words(error: Error) -> String {
    error.to_string()
}

fn check(what: &str, code: i16, message: Option<&str>) -> Result<(), String> {
    Error::check(what, code, message).map_err(words)
}
