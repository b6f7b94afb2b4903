//! Reading logs offline, for the operator: nothing is locked, sealed or changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, Env};
use object_store::ObjectStore;
use uuid::Uuid;

use crate::backend::object::{LogObjects, ObjectSettings};
use crate::record::DecodedGroup;
use crate::segment::{ScanReport, Scanner};
use crate::{Error, Sequence, WalId};

/// A group and where it lies.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// File or key.
    pub place: String,
    /// Byte at which the group starts in it.
    pub position: u64,
    /// Bytes that it takes there.
    pub bytes: u64,
    /// The group: header, extension sections, entries.
    pub group: DecodedGroup,
}

/// The logs in `{dir}`, by id. Blocks.
///
/// # Errors
/// `Io`.
pub fn disk_logs(disk: &dyn Disk, dir: &Path) -> Result<Vec<(WalId, PathBuf)>, Error> {
    let mut logs = Vec::new();
    for path in disk.read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Ok(id) = Uuid::try_parse(name) {
            logs.push((WalId(id), path));
        }
    }
    Ok(logs)
}

/// Groups of a log on disk, oldest first, marks included. Blocks.
pub struct DiskInspection(Scanner);

impl DiskInspection {
    /// Opens the log `wal_id` of `{dir}/{wal_id}`.
    ///
    /// # Errors
    /// `Missing`, `Foreign`, `Corrupt`, `Io`.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, wal_id: WalId) -> Result<Self, Error> {
        Ok(Self(Scanner::open(
            disk,
            &dir.join(wal_id.to_string()),
            wal_id,
            None,
        )?))
    }

    /// The next group.
    ///
    /// # Errors
    /// `Corrupt` at damage that is no torn tail, `Unsupported`, `Io`.
    pub fn next_group(&mut self) -> Result<Option<Inspected>, Error> {
        Ok(self.0.next()?.map(|frame| Inspected {
            place: frame.path.display().to_string(),
            position: frame.position,
            bytes: frame.bytes,
            group: frame.group,
        }))
    }

    /// How the log ends; complete once [`DiskInspection::next_group`] has given `None`.
    pub fn report(&self) -> ScanReport {
        self.0.report()
    }
}

/// Groups of a log in an object store, in order of sequence, the seal included.
pub struct ObjectInspection {
    objects: LogObjects,
    sequences: std::vec::IntoIter<Sequence>,
}

impl ObjectInspection {
    /// Lists the log `wal_id` under `prefix`.
    ///
    /// # Errors
    /// `Store`, `StoreTimeout`.
    pub async fn open(
        env: &Env,
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        wal_id: WalId,
    ) -> Result<Self, Error> {
        let objects = LogObjects::new(env, store, prefix, wal_id, ObjectSettings::STANDARD);
        let sequences = objects.list().await?.into_iter();
        Ok(Self { objects, sequences })
    }

    /// The next group.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged (the next call goes on after it), `Unsupported`, `Store`,
    /// `StoreTimeout`.
    pub async fn next_group(&mut self) -> Result<Option<Inspected>, Error> {
        for sequence in self.sequences.by_ref() {
            if let Some(group) = self.objects.sound_group(sequence).await? {
                return Ok(Some(Inspected {
                    place: self.objects.key(sequence),
                    position: 0,
                    bytes: group.header.group_bytes(),
                    group,
                }));
            }
            // Deleted since it was listed.
        }
        Ok(None)
    }
}
