//! I1 and I8: the log follows time. What was acknowledged before another write was sent stands before
//! it: a second writer, or one that came back, would put new records before acknowledged ones.

use tests::history::Anomaly;

use super::told;

pub(crate) fn check(anomalies: &[Anomaly]) -> Vec<String> {
    told("I1", anomalies, |anomaly| {
        matches!(anomaly, Anomaly::Cycle { .. })
    })
}
