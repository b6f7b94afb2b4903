//! From a request to the handler of its API: the one exhaustive match.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::Request;
use protocol::messages::ProduceRequest;

use crate::broker::Broker;
use crate::connection::{Answer, Frame, Hangup, Pending, Service};
use crate::context::RequestContext;
use crate::handlers;
use crate::quotas::Use;

/// Answers for a broker.
pub(crate) struct Router {
    broker: Arc<Broker>,
}

impl Router {
    /// Routes to the handlers of `broker`.
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

#[async_trait]
impl Service for Router {
    async fn produce(
        &self,
        context: &RequestContext,
        request: ProduceRequest,
        frame: &Arc<Frame>,
    ) -> Result<Pending, Hangup> {
        handlers::produce::start(&self.broker, context, request, frame).await
    }

    async fn call(&self, context: &RequestContext, request: Request) -> Result<Answer, Hangup> {
        let broker = &*self.broker;
        if let Request::Fetch(request) = request {
            return Ok(handlers::fetch::handle(broker, context, request).await);
        }
        let mute = broker.quota.charge(context, Use::Request);
        // Boxed: the type of all handlers together is too deep for the compiler in one piece.
        let answer = Box::pin(dispatch(broker, context, request)).await?;
        Ok(Answer {
            mute: answer.mute.max(mute),
            ..answer
        })
    }
}

/// Calls the handler that a row names: `await`ed, or not, or with the request by reference.
macro_rules! answer {
    ($broker:ident, $context:ident, $request:ident, $handler:ident waits) => {
        Answer::new(handlers::$handler::handle($broker, $context, $request).await)
    };
    ($broker:ident, $context:ident, $request:ident, $handler:ident) => {
        Answer::new(handlers::$handler::handle($broker, $context, $request))
    };
    ($broker:ident, $context:ident, $request:ident, $handler:ident looks) => {
        Answer::new(handlers::$handler::handle($broker, $context, &$request))
    };
}

/// The match: one row per API.
macro_rules! dispatch {
    ($($api:ident => $handler:ident $($how:ident)?;)*) => {
        async fn dispatch(
            broker: &Broker,
            context: &RequestContext,
            request: Request,
        ) -> Result<Answer, Hangup> {
            Ok(match request {
                $(Request::$api(request) => {
                    answer!(broker, context, request, $handler $($how)?)
                })*
                // By the connection, in two parts; and above.
                Request::Produce(_) | Request::Fetch(_) => return Err(Hangup("not routed here")),
            })
        }
    };
}

dispatch! {
    ListOffsets => list_offsets waits;
    Metadata => metadata waits;
    OffsetCommit => offset_commit waits;
    OffsetFetch => offset_fetch waits;
    FindCoordinator => find_coordinator waits;
    JoinGroup => join_group waits;
    Heartbeat => heartbeat waits;
    LeaveGroup => leave_group waits;
    SyncGroup => sync_group waits;
    DescribeGroups => describe_groups waits;
    ListGroups => list_groups waits;
    ApiVersions => api_versions looks;
    CreateTopics => create_topics waits;
    DeleteTopics => delete_topics waits;
    DeleteRecords => delete_records waits;
    InitProducerId => init_producer_id waits;
    OffsetForLeaderEpoch => offset_for_leader_epoch waits;
    DescribeConfigs => describe_configs;
    AlterConfigs => alter_configs waits;
    DescribeLogDirs => describe_log_dirs waits;
    CreatePartitions => create_partitions waits;
    DeleteGroups => delete_groups waits;
    ElectLeaders => elect_leaders waits;
    AlterPartitionReassignments => alter_partition_reassignments waits;
    ListPartitionReassignments => list_partition_reassignments looks;
    IncrementalAlterConfigs => incremental_alter_configs waits;
    OffsetDelete => offset_delete waits;
    DescribeQuorum => describe_quorum waits;
    UpdateFeatures => update_features waits;
    DescribeCluster => describe_cluster looks;
    UnregisterBroker => unregister_broker waits;
    DescribeTopicPartitions => describe_topic_partitions looks;
    AddRaftVoter => add_raft_voter waits;
    RemoveRaftVoter => remove_raft_voter waits;
}
