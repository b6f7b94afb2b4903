//! Whether this voter is one still. One that was taken out is sent nothing any more, often not even
//! that it was: so it asks.
//!
//! **Invariant:** only a voter that was a member in this process's life is told to end, and not
//! before it has been out for some time: it may be added again, or come from an older log.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{MEMBERSHIP_LOOK, REACH_TIMEOUT, REMOVED_PATIENCE};
use crate::raft::Local;
use crate::rpc::{Target, method, wire};

/// Looks now and again, and says so when this voter was removed.
pub(super) async fn watch(local: Arc<Local>, failed: watch::Sender<Option<String>>) {
    let own = local.voter.node;
    let mut was_member = false;
    let mut out_since = None;
    loop {
        sleep(MEMBERSHIP_LOOK).await;
        let member = local.members().get_node(&own).is_some();
        was_member |= member;
        if !was_member || (member && !is_out(&local).await) {
            out_since = None;
            continue;
        }
        let since = *out_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REMOVED_PATIENCE {
            let reason = removed(own);
            tracing::error!("{reason}");
            failed.send_replace(Some(reason));
            return;
        }
    }
}

/// What an operator is told.
pub(super) fn removed(voter: u64) -> String {
    format!(
        "voter {voter} was removed from the controllers: have it added again with `headwater \
         cluster add-voter`, or take `controller` out of its process.roles"
    )
}

/// Whether whoever leads the others counts this voter out. Who is not the leader, or of an earlier
/// term, is not believed.
pub(super) async fn is_out(local: &Local) -> bool {
    let own = &local.voter;
    let members = local.members();
    let others = members.nodes().filter(|(id, _)| **id != own.node);
    let others: Vec<Target> = others.map(|(id, voter)| voter.target(*id)).collect();
    let asked = others.iter().map(|target| async {
        let question = wire::Nothing {};
        let asked = local
            .channels
            .ask(target, method::IDENTIFY, question, REACH_TIMEOUT);
        let identity: wire::Identity = asked.await.ok()?;
        // The address may be another cluster's by now.
        target.is(&identity).then_some(identity)
    });
    let told = join_all(asked).await;
    let term = local.term();
    let leads = |identity: &wire::Identity| {
        let leader = identity.leader.as_ref();
        leader.is_some_and(|leader| leader.node == identity.node) && identity.term >= term
    };
    let leaders = told.into_iter().flatten().filter(leads);
    let newest = leaders.max_by_key(|identity| identity.term);
    let out = newest.is_some_and(|identity| {
        let mut members = identity.members.iter();
        let counts = |member: &wire::Member| {
            let any = member.directory.iter().all(|byte| *byte == 0);
            member.node == own.node && (any || member.directory == own.directory.as_bytes())
        };
        !members.any(counts)
    });
    // Whom a majority follows is one of them, whatever others say.
    out && !matches!(timeout(REACH_TIMEOUT, local.confirm()).await, Ok(Ok(_)))
}
