//! I4: an idempotent producer sees no duplicate and no reordering, across takeover too.

use tests::history::Anomaly;

use super::told;

pub(crate) fn check(anomalies: &[Anomaly]) -> Vec<String> {
    told("I4", anomalies, |anomaly| {
        matches!(
            anomaly,
            Anomaly::Duplicate { .. } | Anomaly::Inversion { .. }
        )
    })
}
