//! What the handlers of groups share: the way to the coordinator, and names.

use controller::Image;
use protocol::messages::StrBytes;
use protocol::{ErrorCode, TopicPartition};
use tokio::time::Duration;

use super::topic_names::CONSUMER_OFFSETS;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::groups::{GroupError, Name, Reply, Request, partition_for};

/// A text off the wire as the coordinator keeps it.
pub(super) fn name(text: &StrBytes) -> Name {
    Name::from(text.as_str())
}

/// The same for a text that may be null.
pub(super) fn optional(text: Option<&StrBytes>) -> Option<Name> {
    text.map(name)
}

/// The other way round.
pub(super) fn text(name: &str) -> StrBytes {
    StrBytes::from_string(name.to_owned())
}

/// The coordinator partition of a group; none while `__consumer_offsets` does not exist.
pub(super) fn coordinator_partition(image: &Image, group: &str) -> Option<i32> {
    let partitions = image.topic(CONSUMER_OFFSETS)?.partitions.len();
    Some(partition_for(group, i32::try_from(partitions).ok()?))
}

/// The code of a refusal, or none.
pub(super) fn code<T>(result: Result<T, GroupError>) -> i16 {
    result
        .err()
        .map_or(ErrorCode::None.code(), GroupError::code)
}

/// Whether the principal may do this to the group.
pub(super) fn may(
    broker: &Broker,
    context: &RequestContext,
    operation: Operation,
    group: &str,
) -> bool {
    broker.allows(context, operation, Resource::Group(group))
}

/// How long anything but a join or a sync may take: `offsets.commit.timeout.ms`.
pub(super) fn patience(broker: &Broker) -> Duration {
    broker
        .config
        .time("offsets.commit.timeout.ms")
        .unwrap_or(Duration::from_secs(5))
}

/// Asks the group's coordinator, if this broker is it: before the question, and again before the
/// answer leaves, the lease must hold.
///
/// # Errors
/// `NotCoordinator`, `LoadInProgress`, `NotAvailable`; refusals of the group are in the reply.
pub(super) async fn ask(
    broker: &Broker,
    request: Request,
    patience: Option<Duration>,
) -> Result<Reply, GroupError> {
    let group = request.group().expect("listings go to every coordinator");
    let partition =
        coordinator_partition(&broker.image(), group).ok_or(GroupError::NotCoordinator)?;
    if !broker.may_acknowledge() {
        return Err(GroupError::NotCoordinator);
    }
    let reply = match broker.groups.ask(partition, request, patience).await {
        // Led here, and about to be opened.
        Err(GroupError::NotCoordinator) if is_ours(broker, partition) => {
            return Err(GroupError::LoadInProgress);
        }
        reply => reply?,
    };
    if broker.may_acknowledge() {
        Ok(reply)
    } else {
        Err(GroupError::NotCoordinator)
    }
}

fn is_ours(broker: &Broker, partition: i32) -> bool {
    let image = broker.image();
    let topic = image.topic(CONSUMER_OFFSETS);
    topic.is_some_and(|topic| {
        let tp = TopicPartition::new(topic.id, partition);
        broker.led(&image, tp).is_ok() || broker.is_opening(&image, tp)
    })
}
