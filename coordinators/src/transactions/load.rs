//! Opening: the fold of the partition's records.
//!
//! The last record of each id counts. What was decided and not complete is completed: its markers
//! are written once more, by this coordinator's epoch, and a partition that has one already says
//! so. What was open stays open, and its time goes on.

use std::sync::Arc;

use super::coordinator::Coordinator;
use super::effect::Effect;
use super::metadata::Metadata;
use super::record::RecordKey;
use crate::{Error, Result};

impl Coordinator {
    /// Takes the next record of the partition. Control records and those of kinds not known here
    /// are passed over; the latter by this function.
    ///
    /// # Errors
    /// If a record is damaged or of a later version. The machine then must not be opened: an id
    /// that seems to have no transaction could get a second one.
    ///
    /// # Panics
    /// If the machine has been opened.
    pub fn load(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        assert!(self.is_loading(), "records are loaded before opening");
        let key = key.ok_or(Error::Truncated {
            record: "TransactionLogKey",
            field: "version",
        })?;
        let RecordKey::TransactionalId(id) = RecordKey::decode(key)? else {
            return Ok(());
        };
        match value {
            Some(value) => {
                let current = Some(Metadata::decode(value)?);
                self.entries.entry(id).or_default().current = current;
            }
            None => {
                self.entries.remove(&id);
            }
        }
        Ok(())
    }

    /// Opens the machine: every record was loaded, up to one that this leader epoch wrote or
    /// beyond which nothing of an earlier one can come.
    ///
    /// # Panics
    /// If it was opened before.
    pub fn open(&mut self, now_ms: i64) -> Vec<Effect> {
        self.activate();
        let decided: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                let current = entry.current.as_ref();
                current.is_some_and(|current| current.state.is_prepared())
            })
            .map(|(id, _)| id.clone())
            .collect();
        decided
            .iter()
            .filter_map(|id| self.resume(now_ms, id))
            .collect()
    }
}
