//! InitProducerId, key 22, versions 0 to 5: idempotent producers.
//!
//! Each answer has a fresh id at epoch 0, also when the producer names one to go on with (3+,
//! KIP-360: without a transactional id a new id is as good). With a transactional id the answer is
//! INVALID_REQUEST until transactions work.

use protocol::ErrorCode;
use protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match fresh(broker, context, &request).await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

async fn fresh(
    broker: &Broker,
    context: &RequestContext,
    request: &InitProducerIdRequest,
) -> Result<i64, ErrorCode> {
    if request.transactional_id.is_some() {
        return Err(ErrorCode::InvalidRequest);
    }
    if !broker.allows(context, Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    // Retried by clients, as while a coordinator loads.
    let epoch = broker.epoch().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
    let next = broker.producer_ids.next(&broker.controller, epoch.id);
    let deadline = broker.deadline(context, -1);
    match tokio::time::timeout_at(deadline, next).await {
        Ok(Ok(id)) => Ok(id.0),
        Ok(Err(error)) => match controller_code(&error) {
            ErrorCode::RequestTimedOut | ErrorCode::StaleBrokerEpoch => {
                Err(ErrorCode::CoordinatorLoadInProgress)
            }
            code => Err(code),
        },
        Err(_) => Err(ErrorCode::CoordinatorLoadInProgress),
    }
}
