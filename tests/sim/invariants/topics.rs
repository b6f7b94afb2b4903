//! Topics, settings and log starts are what the administrator's acknowledged requests made them
//! (I3 for log starts).

use tests::history::topics::TopicHistory;

use super::MOST;

pub(crate) fn check(topics: &TopicHistory) -> Vec<String> {
    let wrong = topics.anomalies();
    let told = wrong.iter().map(|anomaly| format!("topics: {anomaly:?}"));
    told.take(MOST).collect()
}
