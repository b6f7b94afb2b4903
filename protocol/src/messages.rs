//! The message structs, so that no other crate imports kafka-protocol.
//!
//! A struct is built with `Default::default()` and its `with_…` setters. Its module holds the
//! structs nested in it, as in `messages::fetch_response::PartitionData`.

pub use kafka_protocol::messages::{BrokerId, GroupId, ProducerId, TopicName, TransactionalId};
pub use kafka_protocol::protocol::StrBytes;

pub use kafka_protocol::messages::{
    add_raft_voter_request, alter_configs_request, alter_configs_response,
    alter_partition_reassignments_request, alter_partition_reassignments_response,
    api_versions_response, create_partitions_request, create_partitions_response,
    create_topics_request, create_topics_response, delete_groups_request, delete_records_request,
    delete_records_response, delete_topics_request, delete_topics_response,
    describe_cluster_request, describe_cluster_response, describe_configs_request,
    describe_configs_response, describe_groups_request, describe_groups_response,
    describe_log_dirs_request, describe_quorum_request, describe_quorum_response,
    describe_topic_partitions_request, describe_topic_partitions_response, elect_leaders_request,
    elect_leaders_response, fetch_request, find_coordinator_request, find_coordinator_response,
    heartbeat_request, heartbeat_response, incremental_alter_configs_request,
    incremental_alter_configs_response, init_producer_id_request, init_producer_id_response,
    join_group_request, join_group_response, leave_group_request, leave_group_response,
    list_groups_request, list_groups_response, list_offsets_request, list_offsets_response,
    list_partition_reassignments_request, list_partition_reassignments_response, metadata_request,
    metadata_response, offset_commit_response, offset_delete_request, offset_delete_response,
    offset_fetch_response, offset_for_leader_epoch_request, offset_for_leader_epoch_response,
    produce_response, sync_group_request, sync_group_response, update_features_request,
    update_features_response,
};

pub use kafka_protocol::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, AlterConfigsRequest, AlterConfigsResponse,
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ApiVersionsResponse,
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse, DescribeLogDirsRequest,
    DescribeQuorumRequest, DescribeQuorumResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, ElectLeadersRequest, ElectLeadersResponse, FetchRequest,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest,
    InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    MetadataRequest, MetadataResponse, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProduceResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
    SyncGroupRequest, SyncGroupResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
    UpdateFeaturesRequest, UpdateFeaturesResponse,
};

pub use crate::generated::{
    api_versions_request, api_versions_request::ApiVersionsRequest, delete_groups_response,
    delete_groups_response::DeleteGroupsResponse, describe_log_dirs_response,
    describe_log_dirs_response::DescribeLogDirsResponse, fetch_response,
    fetch_response::FetchResponse, offset_commit_request,
    offset_commit_request::OffsetCommitRequest, offset_fetch_request,
    offset_fetch_request::OffsetFetchRequest, produce_request, produce_request::ProduceRequest,
};
pub use crate::records::Records;
