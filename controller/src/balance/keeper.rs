//! Decides now and then, where the controllers are led.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::NodeId;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep};

use super::{BalanceMove, BalancerSettings, View, decide};
use crate::client::{Client, Way};
use crate::command::{Command, Load, MoveCommand, Target};
use crate::error::Error;

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
        // Only the loads are taken under the state's lock: nobody who applies waits for the rest.
        let loads = self.reported_loads()?;
        let image = Arc::clone(&self.image().borrow());
        Some(decide(&View::new(&image, &loads), settings))
    }

    /// Does what the balancer would do now, by what the leader of the controllers knows; what that
    /// is, `None` without a voter here.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn balance_now(
        &self,
        settings: BalancerSettings,
    ) -> Result<Option<Vec<BalanceMove>>, Error> {
        // A voter that lags would move what has been moved.
        self.catch_up().await?;
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
            let mut budget = Budget::default();
            loop {
                // First a whole interval, too: whoever led before may just have moved something.
                sleep(settings.interval).await;
                let image = client.image();
                let leads = image.borrow().controller == Some(own);
                if !leads || image.borrow().level() < 2 {
                    continue;
                }
                let moves = budget.left(settings.moves, Instant::now());
                let settings = BalancerSettings { moves, ..settings };
                match client.balance_now(settings).await {
                    Ok(moves) => budget.spend(moves.map_or(0, |m| m.len()), Instant::now()),
                    Err(error) => {
                        tracing::warn!(%error, "not balanced this time");
                        // Some of it may have been done.
                        budget.spend(moves, Instant::now());
                    }
                }
            }
        });
        Balancer { task }
    }

    /// What brokers reported, as this process' voter knows it.
    fn reported_loads(&self) -> Option<Vec<Load>> {
        match &self.inner.way {
            Way::Local(local) => Some(local.shared.read(|state| state.reported_loads())),
            Way::Remote(_) => None,
        }
    }
}

/// Moves that were begun within the last minute.
#[derive(Default)]
struct Budget(VecDeque<(Instant, usize)>);

impl Budget {
    /// How many may begin now, of so many `a_minute`.
    fn left(&mut self, a_minute: usize, now: Instant) -> usize {
        const MINUTE: Duration = Duration::from_secs(60);
        while self.0.front().is_some_and(|(at, _)| now - *at >= MINUTE) {
            self.0.pop_front();
        }
        let begun: usize = self.0.iter().map(|(_, moves)| moves).sum();
        a_minute.saturating_sub(begun)
    }

    fn spend(&mut self, moves: usize, now: Instant) {
        if moves > 0 {
            self.0.push_back((now, moves));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_its_budget_however_often_it_is_decided() {
        for (a_minute, every_ms) in [(1, 1_000), (7, 1_000), (20, 4_000), (20, 45_000)] {
            let (mut budget, mut begun) = (Budget::default(), Vec::new());
            for _ in 0..300 {
                sleep(Duration::from_millis(every_ms)).await;
                let now = Instant::now();
                let left = budget.left(a_minute, now);
                budget.spend(left, now);
                begun.extend((0..left).map(|_| now));
            }
            for (at, first) in begun.iter().enumerate() {
                let minute = begun[at..].iter();
                let within = minute.take_while(|one| **one - *first < Duration::from_secs(60));
                assert!(within.count() <= a_minute);
            }
            let minutes = 300 * every_ms / 60_000;
            assert!(
                begun.len() as u64 >= minutes / 2 * a_minute as u64,
                "it is used"
            );
        }
    }
}
