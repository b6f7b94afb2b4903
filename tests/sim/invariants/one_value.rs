//! I2: no offset ever shows two values, and none a value that nobody sent there.

use tests::history::Anomaly;

use super::told;

pub(crate) fn check(anomalies: &[Anomaly]) -> Vec<String> {
    told("I2", anomalies, |anomaly| {
        matches!(
            anomaly,
            Anomaly::InconsistentOffset { .. }
                | Anomaly::Phantom { .. }
                | Anomaly::Unreported { .. }
        )
    })
}
