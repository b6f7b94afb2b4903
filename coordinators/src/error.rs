//! The one error of this crate: what is wrong with the bytes of a record.
//!
//! What a client is answered is no error of ours: each machine has its own codes for that.

use thiserror::Error;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are damaged: whoever loads them must not go on as if they were not there.
    Corrupt,
    /// The bytes were written by a later version than this one knows.
    Invalid,
}

/// Why bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The bytes end inside a field.
    #[error("{record} ends inside field {field}")]
    Truncated {
        /// Which record.
        record: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A length is negative where it may not be, or larger than what is left.
    #[error("field {field} of {record} has the impossible length {length}")]
    Length {
        /// Which record.
        record: &'static str,
        /// Which field.
        field: &'static str,
        /// What was read.
        length: i64,
    },
    /// A string is not UTF-8.
    #[error("field {field} of {record} is not UTF-8")]
    NotUtf8 {
        /// Which record.
        record: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A value that the field may not have.
    #[error("field {field} of {record} may not be {value}")]
    Value {
        /// Which record.
        record: &'static str,
        /// Which field.
        field: &'static str,
        /// What was read.
        value: i64,
    },
    /// Bytes follow the last field.
    #[error("{bytes} bytes follow the last field of {record}")]
    Trailing {
        /// Which record.
        record: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A version that does not exist, or not yet.
    #[error("version {version} of {record} is unknown")]
    Version {
        /// Which record.
        record: &'static str,
        /// What was read.
        version: i16,
    },
}

impl Error {
    /// What the caller does about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Invalid,
            Self::Truncated { .. }
            | Self::Length { .. }
            | Self::NotUtf8 { .. }
            | Self::Value { .. }
            | Self::Trailing { .. } => ErrorKind::Corrupt,
        }
    }
}
