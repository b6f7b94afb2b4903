//! DescribeTransactions (65) and ListTransactions (66).

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{ErrorCode, ProducerId};

use super::TransactionState;
use super::coordinator::{Coordinator, Entry};
use super::metadata::Metadata;

/// Which ids ListTransactions asks for. An empty set asks for all.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    states: BTreeSet<TransactionState>,
    any_state: bool,
    /// State names that do not exist; the answer names them.
    pub unknown_states: Vec<String>,
    producer_ids: BTreeSet<ProducerId>,
    longer_than_ms: i64,
}

impl ListFilter {
    /// A filter from the request's fields. A negative duration asks for all.
    pub fn new<'a>(
        states: impl IntoIterator<Item = &'a str>,
        producer_ids: impl IntoIterator<Item = ProducerId>,
        longer_than_ms: i64,
    ) -> Self {
        let mut filter = Self {
            any_state: true,
            producer_ids: producer_ids.into_iter().collect(),
            longer_than_ms,
            ..Self::default()
        };
        for name in states {
            filter.any_state = false;
            match TransactionState::from_name(name) {
                Some(state) => {
                    filter.states.insert(state);
                }
                None => filter.unknown_states.push(name.to_owned()),
            }
        }
        filter
    }

    fn takes(&self, now_ms: i64, metadata: &Metadata) -> bool {
        let age_ms = now_ms.saturating_sub(metadata.start_ms);
        (self.any_state || self.states.contains(&metadata.state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&metadata.producer.id))
            && (self.longer_than_ms < 0 || age_ms > self.longer_than_ms)
    }
}

/// One id in the answer to ListTransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer id.
    pub producer_id: ProducerId,
    /// Where it stands.
    pub state: TransactionState,
}

impl Coordinator {
    /// What is known of an id: its markers that are written already are no partitions of it any
    /// more.
    ///
    /// # Errors
    /// INVALID_REQUEST for the empty id, TRANSACTIONAL_ID_NOT_FOUND, COORDINATOR_LOAD_IN_PROGRESS,
    /// NOT_COORDINATOR.
    pub fn describe(&self, transactional_id: &str) -> Result<Metadata, ErrorCode> {
        if transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.serving()?;
        let described = self.entries.get(transactional_id).and_then(describe);
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// The ids that a filter asks for and `matches` takes, which stands for the pattern of
    /// version 2 (RE2, of the whole id): whoever asks compiles it, and answers
    /// INVALID_REGULAR_EXPRESSION where it cannot.
    ///
    /// As in Kafka, a duration takes ids that never had a transaction, too.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS, and NOT_COORDINATOR of a machine that resigned, which the
    /// answer leaves out.
    pub fn list(
        &self,
        now_ms: i64,
        filter: &ListFilter,
        matches: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, ErrorCode> {
        self.serving()?;
        Ok(self
            .entries
            .iter()
            .filter_map(|(id, entry)| {
                let current = entry.current.as_ref()?;
                (filter.takes(now_ms, current) && matches(id)).then(|| Listed {
                    transactional_id: id.clone(),
                    producer_id: current.producer.id,
                    state: current.state,
                })
            })
            .collect())
    }
}

fn describe(entry: &Entry) -> Option<Metadata> {
    let mut metadata = entry.current.clone()?;
    if let Some(marking) = &entry.marking {
        metadata.partitions = marking.waiting.union(&marking.sent).cloned().collect();
    }
    Some(metadata)
}
