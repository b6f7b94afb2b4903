//! An ordered stop: answers what is in flight, uploads, commits, marks the log closed, says
//! goodbye; all within a bound. What is not done then is recovered at the next start.

use controller::{Command, Image, MoveCommand};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use protocol::BrokerEpoch;
use tokio::time::{Instant, timeout_at};

use super::epoch::Serving;
use super::life::Running;
use super::{Context, NodeError};
use crate::mover::at_changes;

/// Stops a node that serves.
pub(super) async fn in_order(context: &Context, running: &Running, mut serving: Serving) {
    let bound = context
        .config
        .time("shutdown.timeout.ms")
        .unwrap_or_default();
    let deadline = Instant::now() + bound;
    let client = running.client.clone();
    // Nothing can be given away or committed without a quorum: nobody waits for one that is gone.
    let lost = async move { client.out_of_reach().await };
    let lost = lost.boxed().shared();
    // Clients are served meanwhile, and told of the new leaders.
    let given = (Instant::now() + bound / 2).min(deadline);
    let giving = timeout_at(given, give_away(running, serving.epoch.id));
    if let Some(Err(_)) = unless(&lost, giving).await {
        tracing::warn!("not all partitions were given away: others recover them from the log");
    }
    running.drain.cancel();
    // Members that wait for a rebalance would wait for longer than there is.
    running.broker.groups.stop();
    // Long polls and the like need not be waited for all the time that there is.
    let answers = (Instant::now() + bound / 4).min(deadline);
    let answered = unless(&lost, timeout_at(answers, running.server.wait())).await;
    if !matches!(answered, Some(Ok(()))) {
        running.server.close_all();
    }
    serving.settle().await;
    let leaving = timeout_at(deadline, leave(running, &mut serving));
    match unless(&lost, leaving).await {
        Some(Ok(Ok(()))) => tracing::info!("everything is uploaded and committed"),
        Some(Ok(Err(error))) => {
            tracing::warn!(%error, "stopped without uploading everything: the next start does");
        }
        Some(Err(_)) => {
            tracing::warn!(
                ?bound,
                "stopped without uploading everything: the next start does"
            );
        }
        None => tracing::warn!(
            "no majority of the controllers answers, so nothing can be committed: stopping at once; \
             what was acknowledged is in the log, and the next start uploads it"
        ),
    }
    running.broker.set_epoch(None);
    serving.shutdown().await;
}

/// What `work` comes to, or nothing once `lost` has.
async fn unless<T>(
    lost: &Shared<BoxFuture<'static, ()>>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = lost.clone() => None,
    }
}

/// Has the mover give every partition to others, when there are others; until none is left.
async fn give_away(running: &Running, own: BrokerEpoch) {
    let broker = &running.broker;
    let node = broker.config.node_id;
    let others = |image: &Image| image.takers().iter().any(|taker| *taker != node);
    let image = broker.image();
    if image.level() < 2 || !others(&image) {
        return;
    }
    let leaving = Command::Move(MoveCommand::Leaving { broker: own });
    if let Err(error) = running.client.submit(leaving).await {
        tracing::warn!(%error, "leaving without giving partitions away");
        return;
    }
    let mut done = at_changes(|image| {
        let live = image.brokers.get(&own).is_some_and(|broker| !broker.fenced);
        !live || !others(image) || !image.leads_any(own)
    });
    // A controller that is gone ends it too.
    let _ = broker.watch_image().wait_for(|image| done(image)).await;
}

async fn leave(running: &Running, serving: &mut Serving) -> Result<(), NodeError> {
    let broker = serving.epoch.id;
    serving.epoch.storage.drain().await?;
    let end = serving.log.clone().close().await?;
    let close = Command::CloseWal {
        wal: serving.wal_id,
        claim: None,
        broker,
        end,
    };
    running.client.submit(close).await?;
    running.client.submit(Command::Goodbye { broker }).await?;
    Ok(())
}
