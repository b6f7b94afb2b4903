//! From a request to the handler of its API: the one exhaustive match.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::Request;
use protocol::messages::ProduceRequest;

use crate::broker::Broker;
use crate::connection::{Answer, Hangup, Pending, Service};
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
    ) -> Result<Pending, Hangup> {
        handlers::produce::start(&self.broker, context, request).await
    }

    async fn call(&self, context: &RequestContext, request: Request) -> Result<Answer, Hangup> {
        let broker = &*self.broker;
        if let Request::Fetch(request) = request {
            return Ok(handlers::fetch::handle(broker, context, request).await);
        }
        let mute = broker.quota.charge(context, Use::Request);
        let answer = dispatch(broker, context, request).await?;
        Ok(Answer {
            mute: answer.mute.max(mute),
            ..answer
        })
    }
}

async fn dispatch(
    broker: &Broker,
    context: &RequestContext,
    request: Request,
) -> Result<Answer, Hangup> {
    use handlers::{
        alter_configs, create_partitions, describe_cluster, describe_configs, describe_log_dirs,
        describe_topic_partitions, incremental_alter_configs,
    };
    use handlers::{
        api_versions, create_topics, delete_groups, delete_records, delete_topics, describe_groups,
        find_coordinator, heartbeat, init_producer_id, join_group, leave_group, list_groups,
        list_offsets, metadata, offset_commit, offset_delete, offset_fetch,
        offset_for_leader_epoch, sync_group,
    };
    Ok(match request {
        Request::ApiVersions(request) => {
            Answer::new(api_versions::handle(broker, context, &request))
        }
        Request::Metadata(request) => Answer::new(metadata::handle(broker, context, request).await),
        Request::CreateTopics(request) => {
            Answer::new(create_topics::handle(broker, context, request).await)
        }
        Request::DeleteTopics(request) => {
            Answer::new(delete_topics::handle(broker, context, request).await)
        }
        Request::ListOffsets(request) => {
            Answer::new(list_offsets::handle(broker, context, request).await)
        }
        Request::OffsetForLeaderEpoch(request) => {
            Answer::new(offset_for_leader_epoch::handle(broker, context, request))
        }
        Request::InitProducerId(request) => {
            Answer::new(init_producer_id::handle(broker, context, request).await)
        }
        Request::DeleteRecords(request) => {
            Answer::new(delete_records::handle(broker, context, request).await)
        }
        Request::OffsetCommit(request) => {
            Answer::new(offset_commit::handle(broker, context, request).await)
        }
        Request::OffsetFetch(request) => {
            Answer::new(offset_fetch::handle(broker, context, request).await)
        }
        Request::FindCoordinator(request) => {
            Answer::new(find_coordinator::handle(broker, context, request).await)
        }
        Request::JoinGroup(request) => {
            Answer::new(join_group::handle(broker, context, request).await)
        }
        Request::Heartbeat(request) => {
            Answer::new(heartbeat::handle(broker, context, request).await)
        }
        Request::LeaveGroup(request) => {
            Answer::new(leave_group::handle(broker, context, request).await)
        }
        Request::SyncGroup(request) => {
            Answer::new(sync_group::handle(broker, context, request).await)
        }
        Request::DescribeGroups(request) => {
            Answer::new(describe_groups::handle(broker, context, request).await)
        }
        Request::ListGroups(request) => {
            Answer::new(list_groups::handle(broker, context, request).await)
        }
        Request::DeleteGroups(request) => {
            Answer::new(delete_groups::handle(broker, context, request).await)
        }
        Request::OffsetDelete(request) => {
            Answer::new(offset_delete::handle(broker, context, request).await)
        }
        Request::DescribeConfigs(request) => {
            Answer::new(describe_configs::handle(broker, context, request))
        }
        Request::AlterConfigs(request) => {
            Answer::new(alter_configs::handle(broker, context, request).await)
        }
        Request::IncrementalAlterConfigs(request) => {
            Answer::new(incremental_alter_configs::handle(broker, context, request).await)
        }
        Request::DescribeLogDirs(request) => {
            Answer::new(describe_log_dirs::handle(broker, context, request).await)
        }
        Request::CreatePartitions(request) => {
            Answer::new(create_partitions::handle(broker, context, request).await)
        }
        Request::DescribeCluster(request) => {
            Answer::new(describe_cluster::handle(broker, context, &request))
        }
        Request::DescribeTopicPartitions(request) => {
            Answer::new(describe_topic_partitions::handle(broker, context, &request))
        }
        // By the connection, in two parts; and above.
        Request::Produce(_) | Request::Fetch(_) => return Err(Hangup("not routed here")),
        _ => return Err(Hangup("not served yet")),
    })
}
