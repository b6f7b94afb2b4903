//! Decides now and then, where the controllers are led.

use protocol::NodeId;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{BalanceMove, BalancerSettings, decide};
use crate::client::{Client, Way};
use crate::command::{Command, MoveCommand, Target};
use crate::error::Error;
use crate::state::State;

/// Balances in the background, until dropped.
pub struct Balancer {
    task: JoinHandle<()>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// What the balancer would do now, each move with its reason; `None` without a voter here.
    pub fn balance(&self, settings: BalancerSettings) -> Option<Vec<BalanceMove>> {
        let view = self.read_own(|state| state.balance_view())?;
        Some(decide(&view, settings))
    }

    /// Does what the balancer would do now; what that is, `None` without a voter here.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn balance_now(
        &self,
        settings: BalancerSettings,
    ) -> Result<Option<Vec<BalanceMove>>, Error> {
        let Some(moves) = self.balance(settings) else {
            return Ok(None);
        };
        for one in &moves {
            tracing::info!(
                partition = %one.topic_partition, from = %one.from, to = %one.to,
                reason = one.reason, "balancing"
            );
        }
        let target = |one: &BalanceMove| Target {
            topic_partition: one.topic_partition,
            node: Some(one.to),
            preferred: false,
        };
        if !moves.is_empty() {
            let targets = moves.iter().map(target).collect();
            let command = Command::Move(MoveCommand::SetTargets(targets));
            self.submit(command).await?;
        }
        Ok(Some(moves))
    }

    /// Balances as long as the voter `own`, which is this process', leads the controllers.
    pub fn keep_balanced(&self, own: NodeId, settings: BalancerSettings) -> Balancer {
        let client = self.clone();
        let task = tokio::spawn(async move {
            loop {
                // First a whole interval, too: whoever led before may just have moved something.
                sleep(settings.interval).await;
                let image = client.image();
                let leads = image.borrow().controller == Some(own);
                if !leads || image.borrow().level() < 2 {
                    continue;
                }
                if let Err(error) = client.balance_now(settings).await {
                    tracing::warn!(%error, "not balanced this time");
                }
            }
        });
        Balancer { task }
    }

    /// A look at the state of this process' voter.
    fn read_own<T>(&self, look: impl FnOnce(&State) -> T) -> Option<T> {
        match &self.inner.way {
            Way::Local(local) => Some(local.shared.read(look)),
            Way::Remote(_) => None,
        }
    }
}
