//! I1: every acknowledged record is readable at its acknowledged offset, and whatever was read once
//! stays: no reader goes back or over a record.

use tests::history::{Anomaly, History};

use super::{MOST, told};

pub(crate) fn check(anomalies: &[Anomaly], history: &History) -> Vec<String> {
    let mut problems = told("I1", anomalies, |anomaly| {
        matches!(
            anomaly,
            Anomaly::LostWrite { .. } | Anomaly::Skip { .. } | Anomaly::NonMonotonic { .. }
        )
    });
    let gone = history.read_and_gone();
    problems.extend(
        gone.iter()
            .take(MOST)
            .map(|((topic, index), offset, value)| {
                format!("I1: {topic}-{index} gave {value} at offset {offset}, and does so no more")
            }),
    );
    problems
}
