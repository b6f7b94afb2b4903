//! The state machine: applies what is committed, publishes the image, makes snapshots.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use env::IoThread;
use futures::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::snapshots::{SnapshotData, SnapshotMeta, Snapshots};
use super::types::{AnswerBytes, LogId, StoredMembers, TypeConfig};
use crate::command::{Proposal, encode_answer};
use crate::error::Error;
use crate::image::Image;
use crate::level::VERSION_FEATURE;
use crate::limits::{SNAPSHOT_AFTER_BYTES, SNAPSHOT_AFTER_ENTRIES};
use crate::state::{Effects, State};

/// The state, with where it stands in the log.
struct Inner {
    state: State,
    last: Option<LogId>,
    membership: StoredMembers,
    /// Of log since the last snapshot.
    bytes: u64,
    entries: u64,
    /// How much of it there may be.
    most: u64,
    snapshot_bytes: u64,
    /// Asked for once; not again until it is taken or put off.
    snapshot_asked: bool,
}

/// What the machine shares with the client.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    image: watch::Sender<Arc<Image>>,
    /// Counts up when a snapshot is due.
    snapshot_due: watch::Sender<u64>,
    /// The newest level that this process knows.
    newest_level: u16,
    /// Entries applied that need more than was finalized before them.
    above_level: AtomicU64,
}

/// openraft's view of the state. All copies share it.
#[derive(Clone)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
    snapshots: Snapshots,
    io: IoThread,
}

// === impl Shared ===

impl Shared {
    /// Reads the state. Keep it short: nothing is applied meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.inner.lock().state)
    }

    /// The newest level that this process knows.
    pub(crate) fn newest_level(&self) -> u16 {
        self.newest_level
    }

    /// Entries that this process applied and that need a level which was not finalized before them:
    /// builds that know only what is finalized cannot read them.
    pub(crate) fn above_level(&self) -> u64 {
        self.above_level.load(Ordering::Relaxed)
    }

    /// The image, swapped whole.
    pub(crate) fn image(&self) -> watch::Receiver<Arc<Image>> {
        self.image.subscribe()
    }

    /// Says who leads.
    pub(crate) fn set_controller(&self, controller: Option<protocol::NodeId>) {
        self.image.send_if_modified(|image| {
            let moved = image.controller != controller;
            if moved {
                Arc::make_mut(image).controller = controller;
            }
            moved
        });
    }

    /// Asks for a snapshot now.
    pub(crate) fn request_snapshot(&self) {
        self.snapshot_due.send_modify(|due| *due += 1);
    }

    /// Takes snapshots after `bytes` of log from now on.
    pub(crate) fn snapshot_after(&self, bytes: u64) {
        self.inner.lock().most = bytes;
    }

    /// Makes the state one that no feature was ever finalized in.
    #[cfg(test)]
    pub(crate) fn clear_features(&self) {
        self.inner.lock().state.features.clear();
    }

    /// The snapshot asked for cannot be taken now: ask again when more is applied.
    pub(crate) fn snapshot_put_off(&self) {
        self.inner.lock().snapshot_asked = false;
    }

    /// Changes when a snapshot is due.
    pub(crate) fn snapshot_due(&self) -> watch::Receiver<u64> {
        self.snapshot_due.subscribe()
    }

    /// The state's bytes with what a snapshot says of itself.
    pub(crate) fn encode(&self) -> (SnapshotMeta, Vec<u8>) {
        let inner = self.inner.lock();
        (inner.meta(), inner.state.encode())
    }
}

// === impl Inner ===

impl Inner {
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        }
    }

    fn snapshot_is_due(&self) -> bool {
        self.entries >= SNAPSHOT_AFTER_ENTRIES || self.bytes >= self.most.max(self.snapshot_bytes)
    }

    fn snapshot_taken(&mut self, bytes: usize) {
        (self.bytes, self.entries, self.snapshot_bytes) = (0, 0, bytes as u64);
        self.snapshot_asked = false;
    }
}

// === impl Machine ===

impl Machine {
    /// The state of the newest snapshot, or an empty one, in a process that knows levels up to
    /// `newest_level`.
    pub(crate) async fn open(
        snapshots: Snapshots,
        io: IoThread,
        newest_level: u16,
    ) -> Result<Self, Error> {
        let files = snapshots.clone();
        let newest = io.run(move || files.newest()).await?;
        let mut inner = Inner {
            state: State::default(),
            last: None,
            membership: StoredMembers::default(),
            bytes: 0,
            entries: 0,
            most: SNAPSHOT_AFTER_BYTES,
            snapshot_bytes: 0,
            snapshot_asked: false,
        };
        if let Some((meta, data)) = newest {
            inner.state = decode_state(&data, newest_level)?;
            inner.last = meta.last_log_id;
            inner.membership = meta.last_membership;
            inner.snapshot_bytes = data.len() as u64;
        }
        let mut image = Image::new(&inner.state);
        image.applied = inner.last.as_ref().map_or(0, |last| last.index());
        let image = watch::Sender::new(Arc::new(image));
        let inner = Mutex::new(inner);
        let shared = Shared {
            inner,
            image,
            snapshot_due: watch::Sender::new(0),
            newest_level,
            above_level: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
            snapshots,
            io,
        })
    }

    /// What the client reads.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Applies one entry; its answer, when it was a command.
    fn apply_one(
        &self,
        entry: openraft::alias::EntryOf<TypeConfig>,
        effects: &mut Effects,
    ) -> io::Result<Vec<u8>> {
        let index = entry.log_id.index();
        let mut inner = self.shared.inner.lock();
        inner.entries += 1;
        let answer = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(members) => {
                inner.membership = StoredMembers::new(Some(entry.log_id), members);
                Vec::new()
            }
            EntryPayload::Normal(command) => {
                inner.bytes += command.0.len() as u64;
                // Whoever cannot read what is committed must not go on: it would lose step.
                let proposal = Proposal::decode(&command.0).map_err(io::Error::other)?;
                self.check_readable(&proposal, &inner.state)
                    .map_err(io::Error::other)?;
                let (answer, touched) = inner.state.apply(index, &proposal);
                let newest = self.shared.newest_level;
                inner.state.check_known(newest).map_err(io::Error::other)?;
                effects.merge(touched);
                encode_answer(&answer)
            }
        };
        inner.last = Some(entry.log_id);
        Ok(answer)
    }

    /// A build that does not know a command must stop at it, and be no further than the others: what
    /// it skipped of it would be missing here alone.
    fn check_readable(&self, proposal: &Proposal, before: &State) -> Result<(), Error> {
        let (needs, newest) = (proposal.command.level(), self.shared.newest_level);
        if needs > before.level() {
            self.shared.above_level.fetch_add(1, Ordering::Relaxed);
        }
        if needs > newest {
            let reason = format!(
                "the log holds a command of level {needs} of {VERSION_FEATURE}, this build knows \
                 {newest} and below: start a newer one"
            );
            return Err(Error::Settings { reason });
        }
        Ok(())
    }

    /// Swaps the image; readers see it before anybody is answered.
    fn publish(&self, effects: &Effects) {
        let mut inner = self.shared.inner.lock();
        self.shared.image.send_modify(|image| {
            let mut next = image.after(&inner.state, effects);
            next.applied = inner.last.as_ref().map_or(0, |last| last.index());
            *image = Arc::new(next);
        });
        if inner.snapshot_is_due() && !inner.snapshot_asked {
            inner.snapshot_asked = true;
            self.shared.request_snapshot();
        }
    }
}

fn decode_state(data: &[u8], newest_level: u16) -> Result<State, Error> {
    let state = State::decode(data).map_err(|e| Error::corrupt("snapshot", e.0))?;
    state.check_known(newest_level)?;
    Ok(state)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        let inner = self.shared.inner.lock();
        Ok((inner.last, inner.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut effects = Effects::default();
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let answer = self.apply_one(entry, &mut effects)?;
            answers.extend(responder.map(|responder| (responder, answer)));
        }
        self.publish(&effects);
        for (responder, answer) in answers {
            responder.send(AnswerBytes(answer));
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let newest = self.shared.newest_level;
        let state = decode_state(&data, newest).map_err(io::Error::other)?;
        let (files, kept, bytes) = (self.snapshots.clone(), meta.clone(), data.clone());
        self.io
            .run(move || files.write(&kept, &bytes))
            .await
            .map_err(io::Error::other)?;
        let mut image = Image::new(&state);
        image.applied = meta.last_log_id.as_ref().map_or(0, |last| last.index());
        {
            let mut inner = self.shared.inner.lock();
            inner.state = state;
            inner.last.clone_from(&meta.last_log_id);
            inner.membership = meta.last_membership.clone();
            inner.snapshot_taken(data.len());
        }
        self.shared.image.send_modify(|standing| {
            let controller = standing.controller;
            *standing = Arc::new(Image {
                controller,
                ..image
            });
        });
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        let files = self.snapshots.clone();
        let newest = self
            .io
            .run(move || files.newest())
            .await
            .map_err(io::Error::other)?;
        Ok(newest.map(|(meta, snapshot)| openraft::Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let (meta, state) = self.shared.encode();
        let data = SnapshotData::from(state);
        let (files, kept, bytes) = (self.snapshots.clone(), meta.clone(), data.clone());
        self.io
            .run(move || files.write(&kept, &bytes))
            .await
            .map_err(io::Error::other)?;
        self.shared.inner.lock().snapshot_taken(data.len());
        Ok(openraft::Snapshot {
            meta,
            snapshot: data,
        })
    }
}
