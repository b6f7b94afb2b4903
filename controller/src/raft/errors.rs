//! What openraft's errors mean to a caller.

use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};

use super::TypeConfig;
use crate::error::Error;

/// A quorum confirms the leader for every read.
pub(crate) const READ_POLICY: ReadPolicy = ReadPolicy::ReadIndex;

/// An error of a write. The outcome of what is `Retry` is unknown.
pub(crate) fn classify_write(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(error) => Error::Unavailable {
            reason: error.to_string(),
        },
        RaftError::Fatal(fatal) => Error::Stopped {
            reason: fatal.to_string(),
        },
    }
}

/// An error of a linearizable read.
pub(crate) fn classify_read(
    error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>,
) -> Error {
    match error {
        RaftError::APIError(error) => Error::Unavailable {
            reason: error.to_string(),
        },
        RaftError::Fatal(fatal) => Error::Stopped {
            reason: fatal.to_string(),
        },
    }
}
