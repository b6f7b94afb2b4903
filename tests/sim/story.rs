//! What happened around a failure, for people: troubles, deaths and leaders, and what was said of
//! the partitions and times that the problems name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use crate::run::Outcome;

/// Lines that always belong to the story.
const TOLD: [&str; 12] = [
    "TROUBLE",
    "HEAL",
    "WRONG",
    "PROBLEM",
    "process ",
    "machine lost power",
    "ERROR",
    "WARN",
    "registered",
    "fenc",
    "claim",
    "closed",
];

/// Most lines that are told.
const MOST: usize = 3000;

/// What the words before a problem's colon mean.
const MEANING: [(&str, &str); 11] = [
    (
        "I1",
        "every acknowledged record can be read where it was acknowledged",
    ),
    ("I2", "no offset ever shows two values"),
    (
        "I3",
        "watermarks never go back, and a log begins where retention says",
    ),
    (
        "I4",
        "an idempotent producer sees no duplicate, gap or reordering",
    ),
    (
        "I6",
        "committed offsets of a group never go back, no partition has two owners",
    ),
    (
        "I7",
        "what metadata names exists and is whole; what nobody names goes",
    ),
    ("I8", "one writer for each leader epoch of a partition"),
    ("I9", "all takes writes and goes on within 30 s of healing"),
    ("I10", "memory stays within its budget"),
    (
        "F20",
        "builds of two levels live together until the newer level is finalized",
    ),
    (
        "damage",
        "where no bytes change, no node says that some did",
    ),
];

/// Prints the story: what is wrong, what the day was like, and what happened.
pub(crate) fn tell(outcome: &Outcome) {
    let mut out = std::io::stdout().lock();
    for line in lines(outcome) {
        // A story is for whoever asked; a closed pipe is not our failure.
        let _ = writeln!(out, "{line}");
    }
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec!["STORY, what is wrong:".to_owned()];
    let mut promises = BTreeSet::new();
    for problem in &outcome.problems {
        lines.push(format!("  {problem}"));
        promises.extend(problem.split_once(':').map(|(name, _)| name));
    }
    if outcome.problems.is_empty() {
        lines.push("  nothing".to_owned());
    }
    let meant = MEANING.iter().filter(|(name, _)| promises.contains(name));
    lines.extend(meant.map(|(name, meaning)| format!("  {name} promises: {meaning}")));
    lines.push(format!("STORY, the day: {}", outcome.plan));
    lines
        .push("  (c a controller, o and d a broker whose log is in objects or on disk)".to_owned());
    for event in &outcome.plan.events {
        let (number, trouble) = (event.number, event.trouble);
        let (at, lasting) = (event.at.as_secs_f64(), event.lasting.as_secs_f64());
        let lasts = if trouble.lasts() {
            format!(", for {lasting:.1} s")
        } else {
            String::new()
        };
        lines.push(format!("  #{number} {at:.1} s into it: {trouble:?}{lasts}"));
    }
    lines.push("STORY, what happened: seconds of virtual time, and who says what".to_owned());
    let named = named(&outcome.problems);
    let batches = batches(&outcome.trace, &named);
    let told = |(_, line): &(usize, &str)| TOLD.iter().any(|word| line.contains(word));
    let trace = outcome.trace.lines().enumerate();
    let trace: Vec<_> = trace
        .filter(|line| told(line) || batches.contains(&line.0))
        .collect();
    let from = trace.len().saturating_sub(MOST);
    if from > 0 {
        lines.push(format!("  ({from} lines before these are in the trace)"));
    }
    for (number, line) in &trace[from..] {
        let mark = if batches.contains(number) { "▶" } else { " " };
        lines.push(format!("{mark}{line}"));
    }
    lines.push("STORY, its end; ▶ before what problems name".to_owned());
    lines
}

/// Offsets that problems name.
fn named(problems: &[String]) -> BTreeSet<i64> {
    let mut named = BTreeSet::new();
    for problem in problems {
        let words = problem.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            if matches!(pair[0], "offset" | "offsets" | "skipped") {
                named.extend(pair[1].parse::<i64>());
            }
        }
    }
    named
}

/// Lines of the trace that acknowledge a batch in which an offset of `named` may be: of each
/// partition those that begin nearest at or below it.
fn batches(trace: &str, named: &BTreeSet<i64>) -> BTreeSet<usize> {
    let mut nearest: BTreeMap<(&str, i64), (i64, Vec<usize>)> = BTreeMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((said, rest)) = line.split_once(" bytes at ") else {
            continue;
        };
        let mut words = said.split_whitespace().skip(1);
        let base = rest.split(' ').next().and_then(|base| base.parse().ok());
        let Some((partition, base)) = words.next().zip(base) else {
            continue;
        };
        for offset in named.range(base..) {
            let (stands, lines) = nearest
                .entry((partition, *offset))
                .or_insert((base, Vec::new()));
            if base > *stands {
                (*stands, *lines) = (base, Vec::new());
            }
            if base == *stands {
                lines.push(number);
            }
        }
    }
    let lines = nearest.into_values().flat_map(|(_, lines)| lines);
    lines.collect()
}

#[test]
fn problems_name_what_is_told() {
    let named = named(&["I1: LostWrite { value: 7, offset: 12 }".to_owned()]);
    assert_eq!(named, BTreeSet::from([12]));
    let trace = "1.0 days-0: 9 bytes at 3 by node 1\n\
                 1.5 days-0: 9 bytes at 10 by node 1\n\
                 1.6 node 2: process killed\n\
                 1.7 days-1: 9 bytes at 12 by node 1\n\
                 2.0 days-0: 9 bytes at 10 by node 2\n\
                 2.0 days-0: 9 bytes at 13 by node 2\n";
    assert_eq!(batches(trace, &named), BTreeSet::from([1, 3, 4]));
}
