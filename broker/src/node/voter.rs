//! A process that is a controller only: its voter, the admin pages, and checkpoints.
//!
//! **Invariant:** the voter never waits for the object store: only checkpoints need it.

use controller::Client;

use super::checkpoints::{Checkpoints, Keeping};
use super::control::{Control, failed};
use super::{Context, NodeError, Pulse, Status, store};

/// Runs until the node is told to stop, or its voter has failed.
pub(super) async fn serve(
    context: &Context,
    control: &Control,
    pulse: &Pulse,
) -> Result<(), NodeError> {
    let mut failure = control.failure();
    let mut answers = pulse.answers();
    let opening = open_checkpoints(context, control.client());
    tokio::pin!(opening);
    let mut keeping = None;
    loop {
        let status = if *answers.borrow_and_update() {
            Status::Ready
        } else {
            Status::Interrupted("the controllers have no quorum".to_owned())
        };
        context.status.send_replace(status);
        tokio::select! {
            biased;
            reason = failed(&mut failure) => return Err(NodeError::Failed(reason)),
            () = context.stop.cancelled() => break,
            opened = &mut opening, if keeping.is_none() => keeping = Some(opened),
            changed = answers.changed() => if changed.is_err() {
                return Err(NodeError::Failed("nobody asks the controllers".to_owned()));
            },
        }
    }
    context.status.send_replace(Status::Draining);
    if let Some(Some(keeping)) = keeping {
        finish(context, &control.client(), keeping).await;
    }
    Ok(())
}

/// Opens the store, for as long as it takes. `None` when there is none to be had.
async fn open_checkpoints(context: &Context, client: Client) -> Option<Keeping> {
    let config = &context.config;
    if config.values.text("object.store.url").is_empty() && context.parts.store.is_none() {
        return None;
    }
    let say = |why: &str| tracing::warn!(why, "checkpoints of the state wait");
    match store::open(context, &say).await {
        Ok(store) => Some(Checkpoints::of(context, client, &store).keep()),
        Err(error) => {
            tracing::error!(%error, "no checkpoints of the cluster's state are written");
            None
        }
    }
}

/// Writes the last checkpoint, within the time that a stop may take; not without a quorum, which
/// would have to record it.
pub(super) async fn finish(context: &Context, client: &Client, keeping: Keeping) {
    let bound = context
        .config
        .time("shutdown.timeout.ms")
        .unwrap_or_default();
    let finishing = tokio::time::timeout(bound, keeping.finish());
    let finished = tokio::select! {
        biased;
        finished = finishing => finished,
        () = client.out_of_reach() => {
            tracing::warn!(
                "no last checkpoint of the cluster's state: no majority of the controllers answers"
            );
            return;
        }
    };
    match finished {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no last checkpoint of the cluster's state"),
        Err(_) => tracing::warn!(?bound, "no last checkpoint of the cluster's state"),
    }
}
