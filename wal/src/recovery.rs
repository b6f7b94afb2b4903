//! The tail of a dead epoch's log: from the trim point to its end.

use async_trait::async_trait;

use crate::{Ending, Error, Group, Sequence};

/// What reading a tail found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailReport {
    /// One past the last group.
    pub end: Sequence,
    /// How the log ended.
    pub ending: Ending,
    /// Groups read.
    pub groups: u64,
    /// Bytes of them as stored.
    pub bytes: u64,
}

impl TailReport {
    /// Bytes of a last group that was never completed; 0 when there are no traces of one.
    pub fn torn_bytes(&self) -> u64 {
        match self.ending {
            Ending::Torn { bytes } => bytes,
            Ending::Closed | Ending::Idle | Ending::Busy => 0,
        }
    }
}

#[async_trait]
pub(crate) trait Source: Send {
    async fn next(&mut self) -> Result<Option<Group>, Error>;
    fn report(&self) -> TailReport;
}

/// Groups of a dead log, in order of sequence, one in memory at a time.
pub struct Tail {
    source: Box<dyn Source>,
    done: bool,
}

impl Tail {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            done: false,
        }
    }

    /// The next group, or `None` at the end of the log. After an error of kind Retry it may be
    /// called again and goes on where it was. Not cancel-safe: poll it to its end.
    ///
    /// # Errors
    /// `Corrupt` when acknowledged data is damaged or missing: stop and alarm.
    pub async fn next(&mut self) -> Result<Option<Group>, Error> {
        if self.done {
            return Ok(None);
        }
        let group = self.source.next().await?;
        self.done = group.is_none();
        Ok(group)
    }

    /// One past the last group.
    ///
    /// # Panics
    /// Before [`Tail::next`] has given `None`: the end is not known until then.
    pub fn end(&self) -> Sequence {
        self.report().end
    }

    /// How the log ended, and what was read.
    ///
    /// # Panics
    /// As [`Tail::end`].
    pub fn report(&self) -> TailReport {
        assert!(self.done, "a tail is read to its end first");
        self.source.report()
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
