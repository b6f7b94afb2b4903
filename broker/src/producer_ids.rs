//! Producer ids, taken from the controller in blocks.

use controller::{Client, Command, Error, Refusal, Response};
use protocol::{BrokerEpoch, ProducerId};
use tokio::sync::Mutex;

use crate::limits::PRODUCER_ID_BLOCK;

/// The rest of this broker's block. Ids that a restart leaves over are never given.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// Held across the controller's answer, so that a rush takes one block.
    rest: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// An id that nobody has had.
    ///
    /// # Errors
    /// The controller's, when a new block is needed and not to be had.
    pub(crate) async fn next(
        &self,
        client: &Client,
        broker: BrokerEpoch,
    ) -> Result<ProducerId, Error> {
        let mut rest = self.rest.lock().await;
        if let Some(id) = rest.next() {
            return Ok(ProducerId(id));
        }
        let command = Command::AllocateProducerIds {
            broker,
            count: PRODUCER_ID_BLOCK,
        };
        match client.submit(command).await? {
            Response::ProducerIds { first, count } => {
                *rest = first..first.saturating_add(i64::from(count));
                rest.next()
                    .map(ProducerId)
                    .ok_or_else(|| not_a_block("an empty block"))
            }
            _ => Err(not_a_block("no block")),
        }
    }
}

fn not_a_block(what: &str) -> Error {
    Error::Refused(Refusal::Corrupt {
        reason: format!("{what} of producer ids"),
    })
}
