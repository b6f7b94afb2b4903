//! Why a call did not succeed.

use std::io;
use std::time::Duration;

use protocol::{ApiKey, ErrorCode};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made to any of the bootstrap addresses.
    #[error("cannot connect to {address}; is the broker running?")]
    Connect {
        /// The last address tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke: whether the request took effect is unknown.
    #[error("connection to {address} broke during {api}")]
    Broken {
        /// The peer.
        address: String,
        /// The call.
        api: ApiKey,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time: whether the request took effect is unknown.
    #[error("no answer to {api} from {address} within {limit:?}")]
    Timeout {
        /// The peer.
        address: String,
        /// The call.
        api: ApiKey,
        /// How long was waited.
        limit: Duration,
    },
    /// The peer speaks no version of an API that we speak.
    #[error("{address} does not serve {api} in a version known here")]
    Unsupported {
        /// The peer.
        address: String,
        /// The call.
        api: ApiKey,
    },
    /// The answer is not one to what was asked.
    #[error("answer to {api} from {address} cannot be read: {reason}")]
    Unreadable {
        /// The peer.
        address: String,
        /// The call.
        api: ApiKey,
        /// What is wrong.
        reason: String,
    },
    /// The broker refused.
    #[error("{what}: {}{}", code.name(), message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's message.
        message: Option<String>,
    },
}

impl Error {
    /// `Ok` for code 0, else the refusal of `what`.
    ///
    /// # Errors
    /// For every other code.
    pub fn check(what: &str, code: i16, message: Option<&str>) -> Result<(), Self> {
        let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        if code == ErrorCode::None {
            return Ok(());
        }
        Err(Self::Refused {
            what: what.to_owned(),
            code,
            message: message.map(str::to_owned),
        })
    }

    /// The broker's code, when it answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}
