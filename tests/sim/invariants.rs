//! What must hold, whatever happened: one promise to a file, named as the design names it.
//!
//! ```text
//!   clients ─▶ Observed (checked as it comes: I3) ─┐
//!   clients ─▶ histories ──────────────────────────┴▶ Evidence ─▶ judge ─▶ problems
//! ```
//!
//! I5 joins with transactions.

pub(crate) mod acknowledged;
pub(crate) mod damage;
pub(crate) mod groups;
pub(crate) mod liveness;
pub(crate) mod memory;
pub(crate) mod objects;
pub(crate) mod one_value;
pub(crate) mod one_writer;
pub(crate) mod order;
pub(crate) mod producers;
pub(crate) mod sequences;
pub(crate) mod topics;
pub(crate) mod watermarks;

use std::collections::{BTreeMap, BTreeSet};

use tests::history::groups::GroupHistory;
use tests::history::topics::TopicHistory;
use tests::history::{Anomaly, History};

use crate::clients::{IDEMPOTENT, PLAIN};
use crate::figures::Figures;
use one_writer::Writers;
use sequences::Sequences;
use watermarks::Watermarks;

/// The first few tell the story; thousands would hide it.
const MOST: usize = 20;

/// What clients saw beside what they sent and read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) watermarks: Watermarks,
    pub(crate) writers: Writers,
    pub(crate) sequences: Sequences,
}

/// All that is judged by.
pub(crate) struct Evidence {
    pub(crate) history: History,
    pub(crate) observed: Observed,
    pub(crate) group: GroupHistory,
    pub(crate) topics: TopicHistory,
    /// Offsets of acknowledged records, by partition.
    pub(crate) acknowledged: BTreeMap<i32, BTreeSet<i64>>,
    pub(crate) has_group: bool,
    /// What nodes counted of themselves, by machine.
    pub(crate) figures: Vec<Figures>,
    /// Whether bytes were damaged, on disks or on their way.
    pub(crate) damaged: bool,
    /// Whether some changed at rest.
    pub(crate) rotten: bool,
}

/// Everything wrong, in words.
pub(crate) fn judge(evidence: &Evidence) -> Vec<String> {
    let idempotent = BTreeSet::from(IDEMPOTENT);
    assert!(
        !idempotent.contains(&PLAIN),
        "the plain producer is judged as one"
    );
    let anomalies = evidence.history.anomalies(&idempotent);
    let mut problems = Vec::new();
    problems.extend(acknowledged::check(&anomalies, &evidence.history));
    problems.extend(one_value::check(&anomalies));
    problems.extend(order::check(&anomalies));
    problems.extend(watermarks::check(&evidence.observed.watermarks));
    problems.extend(producers::check(&anomalies));
    problems.extend(sequences::check(&evidence.observed.sequences));
    if evidence.has_group {
        problems.extend(groups::check(&evidence.group, &evidence.acknowledged));
    }
    problems.extend(one_writer::check(&evidence.observed.writers));
    problems.extend(topics::check(&evidence.topics));
    for figures in &evidence.figures {
        problems.extend(figures.memory.iter().take(MOST).cloned());
        if !evidence.rotten {
            problems.extend(figures.damage.iter().take(MOST).cloned());
        }
        if !evidence.damaged {
            problems.extend(figures.checksums.iter().take(MOST).cloned());
        }
    }
    problems
}

/// The anomalies that `chosen` takes, in words, under the name of their invariant.
fn told(name: &str, anomalies: &[Anomaly], chosen: impl Fn(&Anomaly) -> bool) -> Vec<String> {
    let chosen = anomalies.iter().filter(|anomaly| chosen(anomaly));
    let told = chosen.map(|anomaly| format!("{name}: {anomaly:?}"));
    told.take(MOST).collect()
}
