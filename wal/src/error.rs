//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Sequence, WalId};

/// Why the log did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed; nothing that was acknowledged is in doubt.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, in the imperative.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The volume of the log has no space; the log goes on by itself once it has.
    #[error("no space left for the log in {}: free some, the log goes on by itself", path.display())]
    DiskFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// A sync failed. What was written since the last one is in doubt for ever.
    #[error(
        "sync of {} failed ({source}): the disk may have dropped writes, so this process must \
         end. Check the volume (kernel log, SMART), then start again: the log is recovered up to \
         its last durable group",
        path.display()
    )]
    SyncFailed {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A write failed for another reason than space.
    #[error(
        "write to {} failed ({source}): this process must end. Check the volume (kernel log, \
         SMART), then start again: the log is recovered up to its last durable group",
        path.display()
    )]
    WriteFailed {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Another process has the directory.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A log that should be there is not: an empty or wrong volume.
    #[error(
        "log {wal_id} is not in {}: {reason}. Is the right volume mounted? To give the log up for \
         good: `headwater wal abandon`",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// Which log.
        wal_id: WalId,
        /// What was found instead.
        reason: String,
    },
    /// The place holds another log's data.
    #[error("{place} belongs to log {found}, not to {expected}: a foreign volume or bucket")]
    Foreign {
        /// File or key.
        place: String,
        /// Whose it is.
        found: WalId,
        /// Whose it should be.
        expected: WalId,
    },
    /// Data that was acknowledged, or may have been, is damaged or gone. Stop and alarm.
    #[error("log {wal_id} is corrupt at group {sequence} ({place}): {reason}")]
    Corrupt {
        /// Which log.
        wal_id: WalId,
        /// The first group that is not as it should be.
        sequence: Sequence,
        /// File and position, or key.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Written by a later version.
    #[error("{place} needs a later version: {what}")]
    Unsupported {
        /// File and position, or key.
        place: String,
        /// The version, kind or flag that is not known here.
        what: String,
    },
    /// An heir has sealed the log: nothing more is acknowledged under it.
    #[error("log {wal_id} was sealed at group {sequence}: another broker has taken it over")]
    Fenced {
        /// Which log.
        wal_id: WalId,
        /// Where the seal stands.
        sequence: Sequence,
    },
    /// The object store did not do as asked; try again.
    #[error("cannot {action} {key}: {source}")]
    Store {
        /// What was tried, in the imperative.
        action: &'static str,
        /// On what.
        key: String,
        /// The store's answer.
        source: Arc<object_store::Error>,
    },
    /// The object store did not answer in time; try again.
    #[error("cannot {action} {key}: no answer within {} ms", waited.as_millis())]
    StoreTimeout {
        /// What was tried, in the imperative.
        action: &'static str,
        /// On what.
        key: String,
        /// For how long.
        waited: std::time::Duration,
    },
    /// What writes the log has panicked.
    #[error("the writer of log {wal_id} has panicked")]
    Panicked {
        /// Which log.
        wal_id: WalId,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The entry is larger than any group may be.
    #[error("an entry of {bytes} bytes is larger than a group may be")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// What the caller does about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later.
    Retry,
    /// Somebody else owns the log now.
    Fenced,
    /// Wrong configuration, volume or request.
    Invalid,
    /// Stop and alarm.
    Corrupt,
    /// The process must end.
    Internal,
}

impl Error {
    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::Store { .. }
            | Self::StoreTimeout { .. } => ErrorKind::Retry,
            Self::Fenced { .. } | Self::Closed => ErrorKind::Fenced,
            Self::Locked { .. }
            | Self::Missing { .. }
            | Self::Foreign { .. }
            | Self::Unsupported { .. }
            | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::SyncFailed { .. } | Self::WriteFailed { .. } | Self::Panicked { .. } => {
                ErrorKind::Internal
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::DiskFull {
                path: path.to_owned(),
            };
        }
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn sync(path: &Path, source: io::Error) -> Self {
        Self::SyncFailed {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::DiskFull {
                path: path.to_owned(),
            };
        }
        Self::WriteFailed {
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
