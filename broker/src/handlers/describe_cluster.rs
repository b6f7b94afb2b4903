//! DescribeCluster, key 60, versions 0 to 2 (KIP-700).
//!
//! Brokers of the listener that the request came in by. 1+: an endpoint type, of which only brokers
//! (1) are told here; asking for controllers (2) is answered with MISMATCHED_ENDPOINT_TYPE
//! (KIP-919). 2+: fenced brokers too, when asked for.

use protocol::ErrorCode;
use protocol::messages::describe_cluster_response::DescribeClusterBroker;
use protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::text;
use crate::auth::{OPERATIONS_NOT_ASKED, Resource, authorized_operations};
use crate::broker::Broker;
use crate::context::RequestContext;

/// Endpoint type of brokers.
const BROKERS: i8 = 1;
/// Endpoint type of controllers.
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let image = broker.image();
    let cluster_id = image
        .cluster
        .map(|id| text(id.to_string()))
        .unwrap_or_default();
    let answer = DescribeClusterResponse::default()
        .with_cluster_id(cluster_id)
        .with_cluster_authorized_operations(OPERATIONS_NOT_ASKED);
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            0 => (ErrorCode::InvalidRequest, "no endpoint type is named"),
            CONTROLLERS => (
                ErrorCode::MismatchedEndpointType,
                "only brokers are described on this listener",
            ),
            _ => (
                ErrorCode::UnsupportedEndpointType,
                "the endpoint type is not known",
            ),
        };
        return answer
            .with_error_code(code.code())
            .with_error_message(Some(text(message)))
            .with_endpoint_type(request.endpoint_type);
    }
    let endpoints = broker.askable(&image, context);
    let controller = broker.controller_among(&image, &endpoints);
    let brokers = endpoints.into_values().map(|endpoint| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(endpoint.node.0))
            .with_host(endpoint.host)
            .with_port(endpoint.port)
            .with_rack(endpoint.rack)
    });
    let answer = answer
        .with_controller_id(BrokerId(controller.map_or(-1, |node| node.0)))
        .with_brokers(brokers.collect());
    if request.include_cluster_authorized_operations {
        let bits = authorized_operations(&*broker.authorizer, context, Resource::Cluster);
        return answer.with_cluster_authorized_operations(bits);
    }
    answer
}
