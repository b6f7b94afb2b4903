//! The controllers, their level and their brokers through Kafka's requests.

use protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{
    AddRaftVoterRequest, ApiVersionsRequest, BrokerId, DescribeQuorumRequest,
    DescribeQuorumResponse, RemoveRaftVoterRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
    UpdateFeaturesResponse, add_raft_voter_request,
};
use uuid::Uuid;

use super::*;

/// The answer to a request of this API.
macro_rules! ask {
    ($client:expr, $api:ident($request:expr)) => {
        match $client.call($request).await.unwrap() {
            Response::$api(answer) => answer,
            other => panic!("another API's answer: {other:?}"),
        }
    };
}

async fn describe(client: &mut Cluster) -> DescribeQuorumResponse {
    let partition = |index| PartitionData::default().with_partition_index(index);
    let topic = TopicData::default()
        .with_topic_name(TopicName(text("__cluster_metadata")))
        .with_partitions(vec![partition(0), partition(1)]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    ask!(client, DescribeQuorum(request))
}

fn update(feature: &str, level: i16, kind: i8) -> FeatureUpdateKey {
    FeatureUpdateKey::default()
        .with_feature(text(feature))
        .with_max_version_level(level)
        .with_upgrade_type(kind)
}

async fn raise(client: &mut Cluster, updates: Vec<FeatureUpdateKey>) -> UpdateFeaturesResponse {
    let request = UpdateFeaturesRequest::default()
        .with_timeout_ms(10_000)
        .with_feature_updates(updates);
    ask!(client, UpdateFeatures(request))
}

#[tokio::test(start_paused = true)]
async fn the_quorum_is_described_and_its_voters_go_and_come() {
    let nodes = Nodes::begun(40, "object").await;
    let leader = i32::from(nodes.controllers_leader());
    let mut client = nodes.client(2);
    let described = describe(&mut client).await;
    assert_eq!(described.error_code, 0);
    let [known, unknown] = &described.topics[0].partitions[..] else {
        panic!("{described:?}");
    };
    assert_eq!(unknown.error_code, 3, "there is one partition");
    assert_eq!(known.leader_id.0, leader);
    assert!(known.high_watermark > 0 && known.leader_epoch > 0);
    let ids: Vec<i32> = known
        .current_voters
        .iter()
        .map(|v| v.replica_id.0)
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(known.observers.is_empty(), "every broker has a voter");
    let caught_up = |v: &&protocol::messages::describe_quorum_response::ReplicaState| {
        v.last_caught_up_timestamp > 0 && v.log_end_offset >= known.high_watermark
    };
    assert!(known.current_voters.iter().filter(caught_up).count() >= 2);
    for (node, id) in described.nodes.iter().zip([1, 2, 3]) {
        assert_eq!(node.node_id.0, id);
        assert_eq!(node.listeners[0].host.as_str(), format!("10.0.0.{id}"));
        assert_eq!(node.listeners[0].port, 9093);
    }
    let cluster = ask!(client, DescribeCluster(DescribeClusterRequest::default()));
    assert_eq!(cluster.controller_id.0, leader, "the one that leads");

    let gone = (1..=3).rev().find(|node| *node != leader).unwrap();
    let voter = known.current_voters.iter().find(|v| v.replica_id.0 == gone);
    let directory = voter.unwrap().replica_directory_id;
    let remove = |directory| {
        RemoveRaftVoterRequest::default()
            .with_cluster_id(Some(cluster.cluster_id.clone()))
            .with_voter_id(gone)
            .with_voter_directory_id(directory)
    };
    let other = ask!(client, RemoveRaftVoter(remove(Uuid::from_u128(9))));
    assert_eq!(other.error_code, 127, "{other:?}");
    let elsewhere = remove(directory).with_cluster_id(Some(text("another")));
    let elsewhere = ask!(client, RemoveRaftVoter(elsewhere));
    assert_eq!(elsewhere.error_code, 104, "{elsewhere:?}");
    let removed = ask!(client, RemoveRaftVoter(remove(directory)));
    assert_eq!(removed.error_code, 0, "{removed:?}");
    let left = describe(&mut client).await;
    assert_eq!(left.topics[0].partitions[0].current_voters.len(), 2);

    let add = |directory| {
        let listener = add_raft_voter_request::Listener::default()
            .with_name(text("CONTROLLER"))
            .with_host(text(&format!("10.0.0.{gone}")))
            .with_port(9093);
        AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(30_000)
            .with_voter_id(gone)
            .with_voter_directory_id(directory)
            .with_listeners(vec![listener])
    };
    let nowhere = ask!(client, AddRaftVoter(add(directory).with_listeners(vec![])));
    assert_eq!(nowhere.error_code, 42, "{nowhere:?}");
    let other = ask!(client, AddRaftVoter(add(Uuid::from_u128(9))));
    assert_eq!(other.error_code, 42, "{other:?}");
    let added = ask!(client, AddRaftVoter(add(directory)));
    assert_eq!(added.error_code, 0, "{added:?}");
    let again = ask!(client, AddRaftVoter(add(directory)));
    assert_eq!(again.error_code, 126, "{again:?}");
    let whole = describe(&mut client).await;
    assert_eq!(whole.topics[0].partitions[0].current_voters.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_level_is_told_and_never_goes_back() {
    let nodes = Nodes::begun(41, "object").await;
    let mut client = nodes.client(1);
    let named = ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1"));
    let versions = ask!(client, ApiVersions(named));
    let told = |name: &str| {
        let known = versions.supported_features.iter();
        let known = known.clone().find(|f| f.name.as_str() == name).unwrap();
        let standing = versions.finalized_features.iter();
        let standing = standing.clone().find(|f| f.name.as_str() == name).unwrap();
        (
            known.min_version,
            known.max_version,
            standing.max_version_level,
        )
    };
    assert_eq!(told("headwater.version"), (1, 2, 2));
    assert_eq!(told("metadata.version"), (7, 33, 33));
    let level = |level, kind| vec![update("headwater.version", level, kind)];
    let same = vec![
        update("headwater.version", 2, 1),
        update("metadata.version", 33, 1),
    ];
    let same = raise(&mut client, same).await;
    assert_eq!(same.error_code, 0, "what is so already: {same:?}");
    let refused = [
        (level(3, 1), 95),
        (level(1, 2), 95),
        (level(1, 3), 95),
        (level(0, 3), 95),
        (level(-1, 1), 95),
        (level(2, 0), 42),
        (vec![update("kraft.version", 1, 1)], 95),
        (vec![update("metadata.version", 30, 2)], 95),
        (Vec::new(), 42),
        ([level(2, 1), level(2, 1)].concat(), 42),
    ];
    for (updates, code) in refused {
        let answer = raise(&mut client, updates.clone()).await;
        assert_eq!(answer.error_code, code, "{updates:?}: {answer:?}");
        assert!(answer.error_message.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_is_unregistered_when_it_is_gone() {
    let nodes = Nodes::begun(42, "object").await;
    let mut client = nodes.client(1);
    let unregister = |node| UnregisterBrokerRequest::default().with_broker_id(BrokerId(node));
    let live = ask!(client, UnregisterBroker(unregister(3)));
    assert_eq!(live.error_code, 42, "{live:?}");
    assert!(live.error_message.unwrap().contains("holds a lease"));
    let unknown = ask!(client, UnregisterBroker(unregister(9)));
    assert_eq!(unknown.error_code, 102, "{unknown:?}");
}
