//! UnregisterBroker, key 64, version 0 (KIP-631).
//!
//! A broker that has gone is let go of when what it left behind is recovered. What is kept of its
//! node beyond that, an operator's drain and its own configuration, goes now. A live one is refused
//! (it would register again at once), and one whose log waits for recovery, with what to do.

use controller::{Command, ConfigResource, Image, MoveCommand, WalBackend};
use protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use protocol::{ErrorCode, NodeId};

use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let answer = UnregisterBrokerResponse::default();
    if !broker.allows(context, Operation::Alter, Resource::Cluster) {
        return answer.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
    }
    let (image, node) = (broker.image(), NodeId(request.broker_id.0));
    let refused = match judge(&image, node) {
        Ok(()) => forget(broker, &image, node).await.err(),
        Err(refused) => Some(refused),
    };
    match refused {
        None => answer,
        Some((code, why)) => answer
            .with_error_code(code.code())
            .with_error_message(Some(text(why))),
    }
}

/// Ends what is kept of a node that is gone.
async fn forget(broker: &Broker, image: &Image, node: NodeId) -> Result<(), Refused> {
    let failed = |error: controller::Error| (controller_code(&error), error.to_string());
    if image.draining.contains(&node) {
        let end = Command::Move(MoveCommand::Drain { node, on: false });
        broker.controller.submit(end).await.map_err(failed)?;
    }
    let resource = ConfigResource::Broker(node);
    if image.configs.contains_key(&resource) {
        let clear = Command::AlterConfigs {
            resource,
            changes: Vec::new(),
            replace: true,
        };
        broker.controller.submit(clear).await.map_err(failed)?;
    }
    Ok(())
}

/// Whether the broker is gone, and something is kept of its node.
fn judge(image: &Image, node: NodeId) -> Result<(), Refused> {
    if image.live_brokers().any(|(_, broker)| broker.node == node) {
        let why = format!(
            "broker {node} holds a lease: stop it first, it is drained and let go of then; a dead one \
             is within its lease"
        );
        return Err((ErrorCode::InvalidRequest, why));
    }
    let mut left = image.wals.iter().filter(|(_, wal)| wal.node == node);
    let kept =
        image.draining.contains(&node) || image.configs.contains_key(&ConfigResource::Broker(node));
    Err(match left.next() {
        Some((id, wal)) if wal.backend == WalBackend::Object && wal.quarantine.is_none() => (
            ErrorCode::RequestTimedOut,
            format!("log {id} of broker {node} is being recovered: ask again"),
        ),
        Some((id, _)) => (
            ErrorCode::InvalidRequest,
            format!(
                "log {id} of broker {node} waits for recovery: bring the broker back, or give the \
                 log up with `headwater wal abandon`"
            ),
        ),
        None if kept => return Ok(()),
        None => (
            ErrorCode::BrokerIdNotRegistered,
            format!("broker {node} is not registered"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use controller::{BrokerImage, WalImage, WalPhase};
    use protocol::BrokerEpoch;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_broker_is_let_go_of_when_nothing_of_it_is_left() {
        let (node, epoch) = (NodeId(3), BrokerEpoch(5));
        let with = |fenced, backend: Option<WalBackend>, quarantine: Option<&str>| {
            let broker = BrokerImage {
                node,
                fenced,
                ..BrokerImage::default()
            };
            let wal = |backend| WalImage {
                broker: epoch,
                node,
                backend,
                phase: WalPhase::Fenced,
                yields: 0,
                deaths: 0,
                quarantine: quarantine.map(str::to_owned),
            };
            let wals = backend.map(|backend| (wal::WalId(Uuid::nil()), wal(backend)));
            Image {
                brokers: Arc::new(BTreeMap::from([(epoch, broker)])),
                wals: Arc::new(wals.into_iter().collect()),
                ..Image::default()
            }
        };
        let code = |image: &Image| judge(image, node).unwrap_err().0;
        let object = Some(WalBackend::Object);
        assert_eq!(code(&with(false, object, None)), ErrorCode::InvalidRequest);
        assert_eq!(code(&with(true, object, None)), ErrorCode::RequestTimedOut);
        let damaged = with(true, object, Some("damaged"));
        assert_eq!(code(&damaged), ErrorCode::InvalidRequest);
        let disk = with(true, Some(WalBackend::Disk), None);
        let (code_of_disk, why) = judge(&disk, node).unwrap_err();
        assert_eq!(code_of_disk, ErrorCode::InvalidRequest);
        assert!(why.contains("wal abandon"), "{why}");
        assert_eq!(
            code(&with(true, None, None)),
            ErrorCode::BrokerIdNotRegistered
        );
        let (other, _) = judge(&disk, NodeId(4)).unwrap_err();
        assert_eq!(other, ErrorCode::BrokerIdNotRegistered);
        let mut drained = with(true, None, None);
        drained.draining = Arc::new([node].into());
        assert_eq!(
            judge(&drained, node),
            Ok(()),
            "there is something to forget"
        );
    }
}
