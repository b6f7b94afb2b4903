//! The objects of one log: names, reads with verification, single attempts to create.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Entropy, Env};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, PutMode, PutOptions, PutPayload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ObjectSettings;
use crate::limits::{MAX_BODY_BYTES, READ_ATTEMPTS};
use crate::record::{DecodeError, DecodedGroup, GroupHeader, HEADER_BYTES, decode};
use crate::{Error, Sequence, WalId};

/// What an attempt to create came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there, and ours.
    Yes,
    /// The store says that something is there; what, is to be read.
    Exists,
}

/// What stands at a sequence number.
#[derive(Clone, Debug)]
pub(super) enum Standing<T> {
    /// Nothing: the store said 404, and nothing else counts as this.
    Absent,
    /// A sound group or seal.
    Group(T),
    /// Something that is not as a writer of this log makes it, each time it was read.
    Damaged(String),
}

/// What a read ahead of its turn came to.
#[derive(Debug)]
pub(super) enum Ahead {
    /// Nothing: the store said 404.
    Absent,
    /// A sound group, and the room that it takes.
    Group(DecodedGroup, OwnedSemaphorePermit),
    /// No room, or not sound at once: to be read with all patience when its turn has come. Its
    /// size, when that is known.
    Later(Option<u64>),
}

/// Access to the objects of one log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogObjects {
    store: Arc<dyn ObjectStore>,
    entropy: Arc<dyn Entropy>,
    prefix: Path,
    pub(super) wal_id: WalId,
    pub(super) settings: ObjectSettings,
}

impl LogObjects {
    pub(crate) fn new(
        env: &Env,
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        wal_id: WalId,
        settings: ObjectSettings,
    ) -> Self {
        let prefix = Path::from(format!("{prefix}/{wal_id}"));
        Self {
            store,
            entropy: env.entropy.clone(),
            prefix,
            wal_id,
            settings,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(super) fn path(&self, sequence: Sequence) -> Path {
        self.prefix.clone().join(format!("{sequence:020}"))
    }

    /// The sequence number that a path of this log names.
    pub(super) fn sequence_of(&self, path: &Path) -> Option<Sequence> {
        let name = path.filename()?;
        let sequence = name.parse().ok()?;
        (self.path(sequence) == *path).then_some(sequence)
    }

    /// One attempt to create, bounded in time.
    pub(super) async fn create(
        &self,
        sequence: Sequence,
        payload: PutPayload,
    ) -> Result<Created, Error> {
        let path = self.path(sequence);
        let mode = match env::planted!("put-overwrites") {
            true => PutMode::Overwrite,
            false => PutMode::Create,
        };
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let put = self.store.put_opts(&path, payload, options);
        match self.bounded("create", &path, put).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::Store { source, .. })
                if matches!(
                    *source,
                    object_store::Error::AlreadyExists { .. }
                        | object_store::Error::Precondition { .. }
                ) =>
            {
                Ok(Created::Exists)
            }
            Err(error) => Err(error),
        }
    }

    /// Header and object size of what stands at `sequence`.
    pub(super) async fn header(
        &self,
        sequence: Sequence,
    ) -> Result<Standing<(GroupHeader, u64)>, Error> {
        self.verified(sequence, Some(HEADER_BYTES as u64), |bytes, size| {
            let header = GroupHeader::decode(&bytes, self.wal_id, 0)?;
            if header.group_bytes() != size {
                let missing = header.group_bytes().saturating_sub(size);
                return Err(DecodeError::Short { missing });
            }
            Ok(((header, size), header.meta.sequence))
        })
        .await
    }

    /// The whole group at `sequence`.
    pub(super) async fn group(&self, sequence: Sequence) -> Result<Standing<DecodedGroup>, Error> {
        self.verified(sequence, None, |bytes, _| {
            let group = decode(&bytes, self.wal_id, 0)?;
            let sequence = group.header.meta.sequence;
            Ok((group, sequence))
        })
        .await
    }

    /// The group at `sequence`, if there is `room` for it: one attempt.
    pub(super) async fn group_ahead(&self, sequence: Sequence, room: Arc<Semaphore>) -> Ahead {
        let path = self.path(sequence);
        let read = async {
            let result = self.store.get_opts(&path, GetOptions::default()).await?;
            let size = result.meta.size;
            let permits = u32::try_from(size).unwrap_or(u32::MAX);
            match room.try_acquire_many_owned(permits) {
                Ok(room) => Ok((size, Some((result.bytes().await?, room)))),
                Err(_) => Ok((size, None)),
            }
        };
        match self.bounded("read", &path, read).await {
            Ok((_, Some((bytes, room)))) => match decode(&bytes, self.wal_id, 0) {
                Ok(group) if group.header.meta.sequence == sequence => Ahead::Group(group, room),
                Ok(_) | Err(_) => Ahead::Later(None),
            },
            Ok((size, None)) => Ahead::Later(Some(size)),
            Err(Error::Store { source, .. })
                if matches!(*source, object_store::Error::NotFound { .. }) =>
            {
                Ahead::Absent
            }
            Err(_) => Ahead::Later(None),
        }
    }

    /// All sequence numbers that a listing shows, sorted.
    pub(crate) async fn list(&self) -> Result<Vec<Sequence>, Error> {
        let listed = self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>();
        let listed = self.bounded("list", &self.prefix, listed).await?;
        let mut sequences: Vec<_> = listed
            .iter()
            .filter_map(|object| self.sequence_of(&object.location))
            .collect();
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// The group at `sequence`, damage being an error.
    pub(crate) async fn sound_group(
        &self,
        sequence: Sequence,
    ) -> Result<Option<DecodedGroup>, Error> {
        match self.group(sequence).await? {
            Standing::Absent => Ok(None),
            Standing::Group(group) => Ok(Some(group)),
            Standing::Damaged(reason) => Err(self.corrupt(sequence, reason)),
        }
    }

    pub(crate) fn key(&self, sequence: Sequence) -> String {
        self.path(sequence).to_string()
    }

    /// Reads until what came is sound: a body that is short or wrong may be the connection's
    /// fault, and only one that stays so is the object's.
    async fn verified<T>(
        &self,
        sequence: Sequence,
        first_bytes: Option<u64>,
        check: impl Fn(Bytes, u64) -> Result<(T, Sequence), DecodeError>,
    ) -> Result<Standing<T>, Error> {
        let mut reason = String::new();
        for attempt in 0..READ_ATTEMPTS {
            if attempt > 0 {
                self.back_off(attempt).await;
            }
            let read = self.read(sequence, first_bytes).await;
            let (bytes, size) = match read {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(Standing::Absent),
                Err(error) if attempt + 1 == READ_ATTEMPTS => return Err(error),
                Err(_) => continue,
            };
            match check(bytes, size) {
                Ok((found, number)) if number == sequence => return Ok(Standing::Group(found)),
                Ok((_, number)) => reason = format!("it is group {number}"),
                Err(DecodeError::Unsupported { what }) => {
                    let place = self.path(sequence).to_string();
                    return Err(Error::Unsupported { place, what });
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Ok(Standing::Damaged(reason))
    }

    /// Bytes and object size; `None` for 404 alone.
    async fn read(
        &self,
        sequence: Sequence,
        first_bytes: Option<u64>,
    ) -> Result<Option<(Bytes, u64)>, Error> {
        let path = self.path(sequence);
        let range = first_bytes.map(|bytes| GetRange::Bounded(0..bytes));
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let read = async {
            let result = self.store.get_opts(&path, options).await?;
            let size = result.meta.size;
            if size > MAX_BODY_BYTES + HEADER_BYTES as u64 {
                // Not one of ours, and not to be read into memory.
                return Ok((Bytes::new(), size));
            }
            Ok((result.bytes().await?, size))
        };
        match self.bounded("read", &path, read).await {
            Ok(read) => Ok(Some(read)),
            Err(Error::Store { source, .. })
                if matches!(*source, object_store::Error::NotFound { .. }) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes what stands at `path`; absent is success.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Error> {
        let gone = object_store::ObjectStoreExt::delete(&*self.store, path);
        match self.bounded("delete", path, gone).await {
            Ok(()) => Ok(()),
            Err(Error::Store { source, .. })
                if matches!(*source, object_store::Error::NotFound { .. }) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn bounded<T>(
        &self,
        action: &'static str,
        path: &Path,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Error> {
        let waited = self.settings.request_timeout;
        match tokio::time::timeout(waited, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Store {
                action,
                key: path.to_string(),
                source: Arc::new(source),
            }),
            Err(_) => Err(Error::StoreTimeout {
                action,
                key: path.to_string(),
                waited,
            }),
        }
    }

    /// Pauses before attempt `attempt` (from 1), between half and all of the doubling time.
    pub(super) async fn back_off(&self, attempt: u32) {
        let doubled = self.settings.back_off * 2_u32.saturating_pow(attempt.min(10) - 1);
        let most = doubled.min(self.settings.back_off_most);
        let jitter = self.entropy.next_u64() as f64 / u64::MAX as f64;
        tokio::time::sleep(Duration::from_secs_f64(
            most.as_secs_f64() * (0.5 + jitter / 2.0),
        ))
        .await;
    }

    pub(super) fn corrupt(&self, sequence: Sequence, reason: String) -> Error {
        let (wal_id, place) = (self.wal_id, self.path(sequence).to_string());
        Error::Corrupt {
            wal_id,
            sequence,
            place,
            reason,
        }
    }
}
