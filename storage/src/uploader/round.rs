//! One round: cut into slices, stored as objects, committed by one command.
//!
//! The same code serves the owner of a log and the heir of a dead one, who commits with its claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use protocol::{BatchView, BrokerEpoch, LeaderEpoch, TopicPartition};
use wal::{Sequence, WalId};

use super::{DurableGroup, QueuedEntry, wants_own_object};
use crate::format::{BatchEntry, FinishedObject, ObjectWriter, SliceEnd, SliceStart};
use crate::limits::{MAX_CONFLICTS, MAX_OBJECT_BYTES, PUTS_IN_FLIGHT, YIELD_BYTES};
use crate::objects::{Backoff, Objects, Patience};
use crate::partition::{CheckpointPlan, Committed, Inner};
use crate::producers::Producers;
use crate::storage::Shared;
use crate::{
    Catalog, CatalogError, CommitUpload, Error, PartitionView, SliceOutcome, SliceRef,
    StorageMetrics, StorageSettings,
};

/// What a round covers: groups of [from, to), all that hold entries.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) from: Sequence,
    pub(crate) to: Sequence,
    pub(crate) groups: Vec<DurableGroup>,
    /// Every slice carries the whole producer state.
    pub(crate) checkpoint: bool,
}

impl Round {
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(DurableGroup::bytes).sum()
    }

    /// Commits without moving the trim point. The catalog knows the repetition of such a command
    /// only for a while: judged anew, what it has committed long since looks dropped.
    fn is_early(&self) -> bool {
        self.from == self.to
    }

    /// Runs of about 1 MiB per partition, in order: what the cache evicts at a time.
    pub(crate) fn chunks(&self) -> Vec<(Arc<Inner>, i64, usize)> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut open: BTreeMap<(TopicPartition, LeaderEpoch), (Arc<Inner>, i64, usize)> =
            BTreeMap::new();
        let mut chunks = Vec::new();
        for held in self.groups.iter().flat_map(|group| &group.entries) {
            let Some(inner) = &held.partition else {
                continue;
            };
            let key = (inner.topic_partition, inner.leader_epoch);
            let chunk = open.entry(key).or_insert_with(|| (Arc::clone(inner), 0, 0));
            chunk.1 = held.entry.last_offset + 1;
            chunk.2 += held.entry.batches.len();
            if chunk.2 >= CHUNK_BYTES {
                chunks.extend(open.remove(&key));
            }
        }
        chunks.extend(open.into_values());
        chunks
    }
}

/// Ends that the catalog told: entries below are committed already.
pub(crate) type KnownEnds = BTreeMap<TopicPartition, i64>;

/// A committed round.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) parts: Vec<FinishedPart>,
    /// Partitions of which the catalog knows more than we: to be looked at again.
    pub(crate) moved: Vec<TopicPartition>,
}

/// A partition's part of it.
#[derive(Debug)]
pub(crate) struct FinishedPart {
    pub(crate) partition: Option<Arc<Inner>>,
    /// What was committed, in order.
    pub(crate) slices: Vec<SliceRef>,
    pub(crate) bytes: u64,
    /// Producer state at its end; `None` when the partition is closed.
    pub(crate) committed: Option<Committed>,
}

/// A partition's entries of a round.
struct Part<'a> {
    partition: Option<Arc<Inner>>,
    entries: Vec<&'a QueuedEntry>,
    /// Up to where the owner knows it to be committed: early uploads went there.
    own_end: i64,
    /// Up to where rounds have counted it: the owner may have learnt of more.
    counted_end: i64,
    /// Of its entries from there on, committed already or not.
    new_bytes: u64,
    bytes: u64,
    plan: Option<CheckpointPlan>,
}

impl Part<'_> {
    fn new(first: &QueuedEntry) -> Self {
        let partition = first.partition.clone();
        let plan = partition.as_ref().and_then(|inner| inner.checkpoint_plan());
        let own_end = match (&plan, &partition) {
            (Some(plan), _) => plan.committed_end,
            // Closed, its end is what was released.
            (None, Some(inner)) => inner.committed_end(),
            (None, None) => 0,
        };
        let counted_end = plan.as_ref().map_or(own_end, |plan| plan.committed.at);
        Self {
            partition,
            entries: Vec::new(),
            own_end,
            counted_end,
            new_bytes: 0,
            bytes: 0,
            plan,
        }
    }
}

/// A part as it was written.
struct Written {
    key: (TopicPartition, LeaderEpoch),
    partition: Option<Arc<Inner>>,
    bytes: u64,
    committed: Option<Committed>,
}

/// Stores rounds and commits them.
pub(crate) struct Committer {
    objects: Objects,
    catalog: Arc<dyn Catalog>,
    broker_epoch: BrokerEpoch,
    wal_id: WalId,
    claim: Option<u32>,
    patience: Arc<Patience>,
    settings: StorageSettings,
    metrics: StorageMetrics,
}

impl Committer {
    /// Of a log's owner, whom nobody else can replace here.
    pub(crate) fn new(shared: &Shared, wal_id: WalId) -> Self {
        Self::of(shared, wal_id, None, Arc::new(Patience::endless()))
    }

    /// Of an heir, with its claim and patience.
    pub(crate) fn of_heir(
        shared: &Shared,
        wal_id: WalId,
        claim: u32,
        patience: Arc<Patience>,
    ) -> Self {
        Self::of(shared, wal_id, Some(claim), patience)
    }

    fn of(shared: &Shared, wal_id: WalId, claim: Option<u32>, patience: Arc<Patience>) -> Self {
        Self {
            objects: shared.objects.clone(),
            catalog: Arc::clone(&shared.catalog),
            broker_epoch: shared.broker_epoch,
            wal_id,
            claim,
            patience,
            settings: shared.settings.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Stores and commits `round`, however long the catalog is away, and the store as far as the
    /// patience goes.
    ///
    /// # Errors
    /// `Store`: the patience is over. `Fenced`: stop. `Corrupt` or `Internal`: stop and alarm. Nothing is trimmed then.
    pub(crate) async fn upload(&self, round: &Round) -> Result<Finished, Error> {
        self.upload_known(round, KnownEnds::new()).await
    }

    /// [`Committer::upload`], given committed ends that are known.
    pub(crate) async fn upload_known(
        &self,
        round: &Round,
        mut known: KnownEnds,
    ) -> Result<Finished, Error> {
        let mut conflicts = 0;
        loop {
            let (objects, written) = self.cut(round, &known).await?;
            if let Err(error) = self.store(&objects).await {
                self.give_up(&objects, &error);
                return Err(error);
            }
            let slices: Vec<SliceRef> = objects
                .iter()
                .flat_map(|object| object.slices.iter().cloned())
                .collect();
            match self.commit(round, slices.clone()).await {
                Ok(outcomes) => {
                    if !round.is_early() {
                        self.delete_unnamed(&objects, &slices, &outcomes).await;
                    }
                    return Ok(finish(&objects, written, &slices, &outcomes));
                }
                Err(Error::Catalog(CatalogError::Conflict(reason))) => {
                    // Refused whole, so that nothing names these objects or ever will. Only of an
                    // early round an attempt that is still on its way may yet be taken.
                    if !round.is_early() {
                        self.delete(&objects).await;
                    }
                    conflicts += 1;
                    self.metrics.upload_conflicts.inc();
                    tracing::warn!(%reason, conflicts, "the catalog moved: cutting the round again");
                    if conflicts >= MAX_CONFLICTS && self.claim.is_some() {
                        // Of an heir it says nothing about the log: begin with a claim anew.
                        return Err(CatalogError::Conflict(reason).into());
                    }
                    if conflicts >= MAX_CONFLICTS {
                        return Err(CatalogError::Corrupt(format!(
                            "round [{}, {}) of log {} stays refused: {reason}",
                            round.from, round.to, self.wal_id
                        ))
                        .into());
                    }
                    Backoff::new(self.objects.env()).wait_nth(conflicts).await;
                    known = self.look_again(round).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Cuts the round into objects; nothing is stored yet.
    async fn cut(
        &self,
        round: &Round,
        known: &KnownEnds,
    ) -> Result<(Vec<FinishedObject>, Vec<Written>), Error> {
        let mut parts: BTreeMap<(TopicPartition, LeaderEpoch), Part<'_>> = BTreeMap::new();
        for held in round.groups.iter().flat_map(|group| &group.entries) {
            let entry = &held.entry;
            let key = (entry.topic_partition, entry.leader_epoch);
            let part = parts.entry(key).or_insert_with(|| Part::new(held));
            let committed_end = known.get(&entry.topic_partition).copied();
            let committed_end = committed_end.unwrap_or(part.own_end);
            if let Some(plan) = &mut part.plan {
                plan.committed.fold(entry)?;
            }
            if entry.last_offset >= part.counted_end {
                part.new_bytes += entry.batches.len() as u64;
            }
            // Committed already (R6); an entry that straddles goes to the catalog, which refuses.
            if entry.last_offset < committed_end && !env::planted!("committed-taken-again") {
                continue;
            }
            part.entries.push(held);
            part.bytes += entry.batches.len() as u64;
        }

        let mut objects = Vec::new();
        let mut written = Vec::new();
        let mut bundle = ObjectWriter::new();
        for (key, part) in parts {
            if part.entries.is_empty() {
                let (partition, bytes) = (part.partition, part.new_bytes);
                let committed = part.plan.map(|plan| plan.committed);
                written.push(Written {
                    key,
                    partition,
                    bytes,
                    committed,
                });
                continue;
            }
            if wants_own_object(part.bytes) {
                let mut own = ObjectWriter::new();
                written.push(self.write(&mut own, round, key, part).await?);
                objects.push(own.finish(self.objects.new_key())?);
                continue;
            }
            written.push(self.write(&mut bundle, round, key, part).await?);
            if bundle.block_bytes() >= MAX_OBJECT_BYTES as u64 {
                let full = std::mem::take(&mut bundle);
                objects.push(full.finish(self.objects.new_key())?);
            }
        }
        if !bundle.is_empty() {
            objects.push(bundle.finish(self.objects.new_key())?);
        }
        Ok((objects, written))
    }

    /// Writes a partition's part as one slice, or several when it holds very many batches.
    async fn write(
        &self,
        writer: &mut ObjectWriter,
        round: &Round,
        key: (TopicPartition, LeaderEpoch),
        part: Part<'_>,
    ) -> Result<Written, Error> {
        let start = |first_offset| SliceStart {
            topic_partition: key.0,
            leader_epoch: key.1,
            first_offset,
        };
        let mut committed = part.plan.as_ref().map(|plan| plan.committed.clone());
        assert!(
            committed
                .as_ref()
                .is_none_or(|c| part
                    .entries
                    .last()
                    .is_some_and(|h| h.entry.last_offset + 1 == c.at)),
            "R5: producer state is that at exactly the slice's end"
        );
        let mut next = part
            .entries
            .first()
            .map_or(0, |held| held.entry.base_offset);
        let mut since_yield = 0;
        writer.start_slice(start(next))?;
        for held in &part.entries {
            let entry = &held.entry;
            let mut rest = entry.batches.clone();
            while !rest.is_empty() {
                let (view, _) = BatchView::split_first(&rest).map_err(|_| Error::Internal {
                    what: "the log holds no whole batches",
                })?;
                if writer.slice_is_full() {
                    writer.finish_slice(SliceEnd {
                        end_offset: next,
                        ..SliceEnd::default()
                    });
                    writer.start_slice(start(next))?;
                }
                let line = BatchEntry::of(&view, entry.appended_at_ms);
                next = view.next_offset();
                let batch = rest.split_to(view.len());
                since_yield += batch.len();
                writer.push(batch, line)?;
            }
            if since_yield >= YIELD_BYTES {
                // Checksums take time that others on this thread wait for.
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        let checkpoint = self.checkpoint(round, &part, &mut committed);
        writer.finish_slice(SliceEnd {
            end_offset: next,
            producer_checkpoint: checkpoint,
            ..SliceEnd::default()
        });
        Ok(Written {
            key,
            partition: part.partition,
            bytes: part.new_bytes,
            committed,
        })
    }

    /// The whole producer state at the end of the part, when it is due.
    fn checkpoint(
        &self,
        round: &Round,
        part: &Part<'_>,
        committed: &mut Option<Committed>,
    ) -> Option<Bytes> {
        let now_ms = self.objects.env().clock.wall_ms();
        let due = round.checkpoint
            || part
                .plan
                .as_ref()
                .is_some_and(|plan| plan.due(&self.settings, part.bytes, now_ms));
        let committed = committed.as_mut()?;
        if !due {
            committed.bytes_since_checkpoint += part.bytes;
            return None;
        }
        committed
            .producers
            .expire(now_ms, self.settings.producer_expiration_ms);
        committed.checkpoint_at_ms = now_ms;
        committed.bytes_since_checkpoint = 0;
        Some(Bytes::from(match env::planted!("checkpoint-empty") {
            true => Producers::default().encode(),
            false => committed.producers.encode(),
        }))
    }

    /// All objects of the round, each once, however long it takes.
    async fn store(&self, objects: &[FinishedObject]) -> Result<(), Error> {
        let put = |object| {
            let retries = &self.metrics.upload_retries;
            let put = self
                .objects
                .create_patiently(object, retries, &self.patience);
            put.boxed()
        };
        let puts = objects.iter().map(put);
        let puts: Vec<BoxFuture<'_, _>> = puts.collect();
        futures::stream::iter(puts)
            .buffer_unordered(PUTS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        for object in objects {
            self.metrics.upload_objects.inc();
            self.metrics.upload_bytes.inc_by(object.object.length);
        }
        Ok(())
    }

    /// No command names them, or ever will. The store just failed: they go when it answers.
    fn give_up(&self, objects: &[FinishedObject], error: &Error) {
        for object in objects {
            let key = &object.object.key;
            // What stands there is not ours.
            if !matches!(error, Error::Foreign { key: foreign } if foreign == key) {
                self.objects.given_up().add(key.clone());
            }
        }
    }

    async fn delete(&self, objects: &[FinishedObject]) {
        for object in objects {
            self.objects.delete_own(&object.object.key).await;
        }
    }

    /// One command, tried under the same id until its outcome is known.
    async fn commit(
        &self,
        round: &Round,
        slices: Vec<SliceRef>,
    ) -> Result<Vec<SliceOutcome>, Error> {
        let commit = CommitUpload {
            command_id: self.objects.env().entropy.uuid(),
            broker_epoch: self.broker_epoch,
            wal_id: self.wal_id,
            claim: self.claim,
            from: round.from,
            to: round.to,
            slices,
        };
        let mut backoff = Backoff::new(self.objects.env());
        loop {
            let answer = self.catalog.commit_upload(commit.clone()).await;
            // Without the controllers nobody else could be told to go on.
            self.patience.progress();
            match answer {
                Ok(outcomes) if outcomes.len() == commit.slices.len() => {
                    self.metrics.upload_rounds.inc();
                    return Ok(outcomes);
                }
                Ok(_) => {
                    return Err(Error::Internal {
                        what: "an outcome per slice is missing",
                    });
                }
                Err(CatalogError::Unavailable(reason)) => {
                    self.metrics.upload_retries.inc();
                    tracing::warn!(%reason, "upload not committed yet, trying again");
                    backoff.wait().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the catalog knows of the round's partitions.
    async fn look_again(&self, round: &Round) -> Result<KnownEnds, Error> {
        let mut known = KnownEnds::new();
        for held in round.groups.iter().flat_map(|group| &group.entries) {
            let tp = held.entry.topic_partition;
            if let std::collections::btree_map::Entry::Vacant(unknown) = known.entry(tp)
                && let Some(view) = self.view(tp).await?
            {
                unknown.insert(view.committed_end);
            }
        }
        Ok(known)
    }

    /// A linearizable view, however long the catalog is away.
    async fn view(&self, tp: TopicPartition) -> Result<Option<PartitionView>, Error> {
        let mut backoff = Backoff::new(self.objects.env());
        loop {
            match self.catalog.partition(tp).await {
                Err(CatalogError::Unavailable(_)) => backoff.wait().await,
                other => return Ok(other?),
            }
        }
    }

    /// What no slice came to name is our own failure, deleted by us. The catalog has condemned it
    /// besides.
    async fn delete_unnamed(
        &self,
        objects: &[FinishedObject],
        slices: &[SliceRef],
        outcomes: &[SliceOutcome],
    ) {
        for object in objects {
            let named =
                committed(slices, outcomes).any(|slice| slice.object.key == object.object.key);
            if !named {
                self.objects.delete_own(&object.object.key).await;
            }
        }
    }
}

fn committed<'a>(
    slices: &'a [SliceRef],
    outcomes: &'a [SliceOutcome],
) -> impl Iterator<Item = &'a SliceRef> {
    let told = slices.iter().zip(outcomes);
    told.filter(|(_, outcome)| **outcome == SliceOutcome::Committed)
        .map(|(slice, _)| slice)
}

/// Sorts out what was committed and what was dropped.
fn finish(
    objects: &[FinishedObject],
    written: Vec<Written>,
    slices: &[SliceRef],
    outcomes: &[SliceOutcome],
) -> Finished {
    let mut finished = Finished::default();
    let mut of_part: BTreeMap<_, Vec<SliceRef>> = BTreeMap::new();
    for slice in committed(slices, outcomes) {
        let key = (slice.topic_partition, slice.leader_epoch);
        of_part.entry(key).or_default().push(slice.clone());
    }
    for part in written {
        let slices = of_part.remove(&part.key).unwrap_or_default();
        if wrote(objects, part.key) != slices.len() {
            finished.moved.push(part.key.0);
        }
        finished.parts.push(FinishedPart {
            partition: part.partition,
            committed: part.committed,
            slices,
            bytes: part.bytes,
        });
    }
    finished
}

fn wrote(objects: &[FinishedObject], key: (TopicPartition, LeaderEpoch)) -> usize {
    objects
        .iter()
        .flat_map(|object| &object.slices)
        .filter(|slice| (slice.topic_partition, slice.leader_epoch) == key)
        .count()
}
