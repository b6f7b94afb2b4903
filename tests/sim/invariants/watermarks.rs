//! I3: the high watermark never goes back, and log start moves only by retention or DeleteRecords:
//! of a topic without either, never.
//!
//! A paused leader may go on serving what is durable for as long as its lease: what it says is of
//! an older leader epoch, and is held against that and older ones only.

use std::collections::BTreeMap;

use super::MOST;

/// The furthest that was seen, by partition and leader epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watermarks {
    seen: BTreeMap<(i32, i32), i64>,
    problems: Vec<String>,
}

impl Watermarks {
    /// How far the watermark of `partition` was known to be, at `epoch` or an earlier one. To be
    /// asked before a request is sent.
    pub(crate) fn floor(&self, partition: i32, epoch: i32) -> i64 {
        let seen = self.seen.range((partition, i32::MIN)..=(partition, epoch));
        seen.map(|(_, watermark)| *watermark).max().unwrap_or(0)
    }

    /// The answer to a request that was sent when the floor was `floor`; says what is wrong.
    pub(crate) fn seen(
        &mut self,
        (partition, epoch): (i32, i32),
        floor: i64,
        watermark: i64,
        log_start: i64,
    ) -> Option<String> {
        let known = self.seen.entry((partition, epoch)).or_insert(watermark);
        *known = watermark.max(*known);
        let what = match watermark {
            _ if log_start != 0 => format!("log start is {log_start}"),
            _ if watermark < floor => {
                format!("high watermark went back from {floor} to {watermark}")
            }
            _ => return None,
        };
        let problem = format!("I3: partition {partition} at leader epoch {epoch}: {what}");
        self.problems.push(problem.clone());
        Some(problem)
    }
}

pub(crate) fn check(watermarks: &Watermarks) -> Vec<String> {
    watermarks.problems.iter().take(MOST).cloned().collect()
}

#[test]
fn a_watermark_that_goes_back_is_found() {
    let mut watermarks = Watermarks::default();
    assert_eq!(watermarks.seen((0, 1), 0, 10, 0), None);
    let floor = watermarks.floor(0, 2);
    assert_eq!(floor, 10);
    // An older leader still serves what it knew.
    assert_eq!(watermarks.floor(0, 0), 0);
    assert_eq!(watermarks.seen((0, 2), floor, 10, 0), None);
    assert!(watermarks.seen((0, 2), floor, 9, 0).is_some());
    assert!(watermarks.seen((0, 2), floor, 12, 3).is_some());
    assert_eq!(check(&watermarks).len(), 2);
}
