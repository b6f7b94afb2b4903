//! Ending a log that nobody reads any more: its writer is to be told, before it is given up.
//!
//! **Invariant (R9):** a seal stands where a create-only put made it. A listing only says where to
//! begin.

use std::sync::Arc;

use env::Env;
use futures::StreamExt;
use object_store::{ObjectStore, PutPayload};

use super::ObjectSettings;
use super::store::{Created, LogObjects, Standing};
use crate::limits::{MAX_WINDOW, OBJECT_WINDOW};
use crate::record::{Encoded, GroupKind, GroupMeta};
use crate::{Error, Sequence, WalId};

/// Reads under way.
const READS_AT_ONCE: usize = 8;

impl LogObjects {
    /// Puts a seal at `sequence`, unless something stands there.
    pub(super) async fn create_seal(
        &self,
        sequence: Sequence,
        by: (u128, u32),
    ) -> Result<Created, Error> {
        self.create_seal_after(sequence, by, sequence).await
    }

    /// As `create_seal`; says only of what is before `acked_to` that it was acknowledged.
    async fn create_seal_after(
        &self,
        sequence: Sequence,
        (nonce, window): (u128, u32),
        acked_to: Sequence,
    ) -> Result<Created, Error> {
        let meta = GroupMeta {
            kind: GroupKind::Seal,
            wal_id: self.wal_id,
            sequence,
            nonce,
            acked_to,
            window,
            generation: 0,
        };
        let payload: PutPayload = Encoded::mark(&meta).parts().into_iter().collect();
        self.create(sequence, payload).await
    }
}

/// Seals the log `wal_id` at the first place from `trim` on where nothing stands, whatever the groups
/// before it hold; gives that place. Where something is listed beyond that place, the log may have
/// lost a group there that its owner has long gone past: a second seal ends it behind all that. From
/// then on its owner acknowledges nothing. To be called only after the fence is applied. Returns when
/// it is done: to be bounded by the caller, as an owner that writes on may come first many times.
///
/// # Errors
/// `Store`, `StoreTimeout`: repeat. `Unsupported`.
pub async fn seal(
    env: &Env,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    wal_id: WalId,
    trim: Sequence,
    settings: ObjectSettings,
) -> Result<Sequence, Error> {
    let objects = LogObjects::new(env, store, &prefix, wal_id, settings);
    let mut nonce = [0; 16];
    env.entropy.fill(&mut nonce);
    let nonce = u128::from_be_bytes(nonce);
    let listed = objects.list().await?;
    let mut at = trim;
    for listed in listed.iter().filter(|n| **n >= trim) {
        if *listed != at {
            break;
        }
        at += 1;
    }
    if env::planted!("given-up-unsealed") {
        return Ok(at);
    }
    let sealed = match sealed_below(&objects, trim, at).await? {
        Some(sealed) => sealed,
        None => put_seal(&objects, at, (nonce, OBJECT_WINDOW as u32), None).await?,
    };
    if let Some(last) = listed.last().filter(|last| **last > sealed) {
        // Widest of windows, so that it never is what proves that a group is missing (R10).
        put_seal(&objects, *last, (nonce, MAX_WINDOW), Some(sealed)).await?;
    }
    Ok(sealed)
}

/// Puts a seal at the first place from `at` on where nothing stands, unless one stands before that;
/// it says that all before `acked_to` was acknowledged, or all before itself.
async fn put_seal(
    objects: &LogObjects,
    mut at: Sequence,
    by: (u128, u32),
    acked_to: Option<Sequence>,
) -> Result<Sequence, Error> {
    let mut conflicts = 0;
    loop {
        let created = objects.create_seal_after(at, by, acked_to.unwrap_or(at));
        if created.await? == Created::Yes {
            return Ok(at);
        }
        match objects.header(at).await? {
            Standing::Group((header, _)) if header.meta.kind == GroupKind::Seal => return Ok(at),
            Standing::Group(_) | Standing::Damaged(_) => at += 1,
            // A conflict that created nothing.
            Standing::Absent => {
                conflicts += 1;
                objects.back_off(conflicts).await;
            }
        }
    }
}

/// A seal that stands shortly before `end`. Behind one lies at most what its owner had in flight;
/// another one that claims all before itself (`acked_to`) would look as if groups were missing
/// between them.
async fn sealed_below(
    objects: &LogObjects,
    trim: Sequence,
    end: Sequence,
) -> Result<Option<Sequence>, Error> {
    let first = end.saturating_sub(u64::from(MAX_WINDOW) + 1).max(trim);
    let mut heads = futures::stream::iter(first..end)
        .map(|at| async move { (at, objects.header(at).await) })
        .buffered(READS_AT_ONCE);
    while let Some((at, standing)) = heads.next().await {
        match standing? {
            Standing::Group((header, _)) if header.meta.kind == GroupKind::Seal => {
                return Ok(Some(at));
            }
            Standing::Group(_) | Standing::Damaged(_) | Standing::Absent => {}
        }
    }
    Ok(None)
}
