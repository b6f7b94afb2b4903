//! Taking over an object log: read on until nothing stands there, and seal that place.
//!
//! **Invariant (R9):** the end is decided by a create-only put, never by a listing. 404 alone is
//! absent. **Invariant (R10):** whatever shows that a missing group was acknowledged makes it
//! corruption: an `acked_to` beyond it, or a group further on than the window allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use env::Env;
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use tokio::sync::Semaphore;

use super::store::{Ahead, LogObjects, Standing};
use super::{ObjectSettings, Owned};
use crate::limits::{MAX_WINDOW, OBJECT_WINDOW};
use crate::record::{Body, DecodedGroup, GroupKind};
use crate::recovery::{Source, Tail, TailReport};
use crate::{Ending, Error, Group, Sequence, WalId};

/// Reads under way ahead of the one that is waited for, at most.
const READ_AHEAD: usize = 8;
/// Listed keys beyond the end that are looked at.
const LISTED_MOST: usize = 256;

/// Reads the log `wal_id` from group `trim` on and seals it where it ends. To be called only after
/// the fence is applied, with the trim point read linearizably after that.
///
/// # Errors
/// None yet: all come from [`Tail::next`].
pub async fn recover(
    env: &Env,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    wal_id: WalId,
    trim: Sequence,
    settings: ObjectSettings,
) -> Result<Tail, Error> {
    let mut nonce = [0; 16];
    env.entropy.fill(&mut nonce);
    Ok(Tail::new(Box::new(ObjectTail {
        objects: LogObjects::new(env, store, &prefix, wal_id, settings),
        nonce: u128::from_be_bytes(nonce),
        next: trim,
        acked_to: 0,
        window: OBJECT_WINDOW as u32,
        ahead: FuturesOrdered::new(),
        room: Arc::new(Semaphore::new(settings.read_ahead_bytes)),
        largest: 0,
        groups: 0,
        bytes: 0,
    })))
}

type Read = Result<Standing<DecodedGroup>, Error>;

struct ObjectTail {
    objects: LogObjects,
    nonce: u128,
    next: Sequence,
    /// Largest that any group has told.
    acked_to: Sequence,
    /// Largest that any group has told.
    window: u32,
    /// Reads from `next` on, without holes.
    ahead: FuturesOrdered<Owned<Ahead>>,
    /// Bytes that these may hold.
    room: Arc<Semaphore>,
    /// Bytes of the largest group that was seen.
    largest: u64,
    groups: u64,
    bytes: u64,
}

#[async_trait]
impl Source for ObjectTail {
    async fn next(&mut self) -> Result<Option<Group>, Error> {
        loop {
            if env::planted!("recovery-by-listing")
                && !self.objects.list().await?.contains(&self.next)
            {
                return Ok(None);
            }
            let standing = match self.read().await {
                Ok(standing) => standing,
                Err(_) if env::planted!("any-error-is-absent") => {
                    self.seal().await?;
                    return Ok(None);
                }
                Err(error) => {
                    self.ahead = FuturesOrdered::new();
                    return Err(error);
                }
            };
            match standing {
                Standing::Group(group) if group.header.meta.kind == GroupKind::Seal => {
                    self.ahead = FuturesOrdered::new();
                    self.check_told()?;
                    self.check_beyond().await?;
                    return Ok(None);
                }
                Standing::Group(group) => return self.take(group).map(Some),
                Standing::Damaged(reason) => {
                    return Err(self.objects.corrupt(self.next, reason));
                }
                Standing::Absent => {
                    self.ahead = FuturesOrdered::new();
                    self.check_told()?;
                    if env::planted!("no-seal") {
                        return Ok(None);
                    }
                    self.seal().await?;
                    // Whoever came first: the next read shows what stands there now.
                }
            }
        }
    }

    fn report(&self) -> TailReport {
        TailReport {
            end: self.next,
            ending: Ending::Closed,
            groups: self.groups,
            bytes: self.bytes,
        }
    }
}

impl ObjectTail {
    async fn read(&mut self) -> Read {
        while self.ahead.len() < self.reads_ahead() {
            let (objects, room) = (self.objects.clone(), Arc::clone(&self.room));
            let sequence = self.next + self.ahead.len() as u64;
            let read = tokio::spawn(async move { objects.group_ahead(sequence, room).await });
            self.ahead.push_back(Owned(read));
        }
        match self.ahead.next().await.expect("filled above") {
            Ahead::Absent => Ok(Standing::Absent),
            // From here on it is the one in hand, which its reader counts.
            Ahead::Group(group, room) => {
                drop(room);
                self.largest = self.largest.max(group.header.group_bytes());
                Ok(Standing::Group(group))
            }
            Ahead::Later(size) => {
                self.largest = self.largest.max(size.unwrap_or(0));
                self.objects.group(self.next).await
            }
        }
    }

    /// As many as there will be room for: what has none is read in vain.
    fn reads_ahead(&self) -> usize {
        let fit = (self.objects.settings.read_ahead_bytes as u64).checked_div(self.largest);
        let fit = fit.and_then(|fit| usize::try_from(fit).ok());
        fit.unwrap_or(READ_AHEAD).clamp(1, READ_AHEAD)
    }

    fn take(&mut self, group: DecodedGroup) -> Result<Group, Error> {
        let meta = group.header.meta;
        let Body::Entries(entries) = group.body else {
            let reason = format!("a group of kind {:?} stands there", meta.kind);
            return Err(self.objects.corrupt(self.next, reason));
        };
        self.acked_to = self.acked_to.max(meta.acked_to);
        self.window = self.window.max(meta.window);
        self.groups += 1;
        self.bytes += group.header.group_bytes();
        self.next += 1;
        Ok(Group {
            sequence: meta.sequence,
            entries,
        })
    }

    /// What the groups so far have told must not reach beyond the end.
    fn check_told(&self) -> Result<(), Error> {
        if self.acked_to > self.next {
            let reason = format!(
                "it is gone, and all below {} was acknowledged",
                self.acked_to
            );
            return Err(self.objects.corrupt(self.next, reason));
        }
        Ok(())
    }

    async fn seal(&self) -> Result<(), Error> {
        let made_by = (self.nonce, self.window);
        self.objects.create_seal(self.next, made_by).await.map(drop)
    }

    /// The log is sealed at `next`: nothing beyond may show that a group was acknowledged there.
    async fn check_beyond(&self) -> Result<(), Error> {
        let hole = self.next;
        if env::planted!("beyond-not-looked-at") {
            return Ok(());
        }
        let window = u64::from(self.window.min(MAX_WINDOW));
        let mut beyond: BTreeSet<Sequence> = (1..=window)
            .filter_map(|ahead| hole.checked_add(ahead))
            .collect();
        beyond.extend(self.listed_beyond().await?);
        let mut heads = futures::stream::iter(beyond)
            .map(|sequence| async move { (sequence, self.objects.header(sequence).await) })
            .buffered(READ_AHEAD);
        while let Some((sequence, standing)) = heads.next().await {
            match standing? {
                Standing::Absent => {}
                Standing::Damaged(reason) => {
                    return Err(self.objects.corrupt(sequence, reason));
                }
                Standing::Group((header, _)) if header.proves_acknowledged(hole) => {
                    let reason = format!(
                        "it is gone, and group {sequence} (acknowledged to {}, window {}) proves \
                         that it was acknowledged",
                        header.meta.acked_to, header.meta.window
                    );
                    return Err(self.objects.corrupt(hole, reason));
                }
                // In flight when the log was sealed: never acknowledged, swept later.
                Standing::Group(_) => {}
            }
        }
        Ok(())
    }

    /// A listing may lag or omit: it can raise an alarm here, and decides nothing.
    async fn listed_beyond(&self) -> Result<Vec<Sequence>, Error> {
        let after = self.objects.path(self.next);
        let listed = self
            .objects
            .store()
            .list_with_offset(Some(self.objects.prefix()), &after)
            .take(LISTED_MOST)
            .try_collect::<Vec<_>>();
        let listed = self
            .objects
            .bounded("list", self.objects.prefix(), listed)
            .await?;
        let sequences = listed.iter().filter_map(|object| {
            self.objects
                .sequence_of(&object.location)
                .filter(|sequence| *sequence > self.next)
        });
        Ok(sequences.collect())
    }
}
