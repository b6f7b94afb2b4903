//! What happened around a failure, for people: troubles, deaths and leaders, and what was said of
//! the partitions and times that the problems name.

use std::collections::BTreeSet;
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

/// Prints the story.
pub(crate) fn tell(outcome: &Outcome) {
    let named = named(&outcome.problems);
    let told = |line: &&str| {
        TOLD.iter().any(|word| line.contains(word)) || named.iter().any(|name| is_of(line, name))
    };
    let lines: Vec<&str> = outcome.trace.lines().filter(told).collect();
    let mut out = std::io::stdout().lock();
    // A story is for whoever asked; a closed pipe is not our failure.
    let _ = writeln!(out, "STORY of {}", outcome.plan);
    for event in &outcome.plan.events {
        let _ = writeln!(out, "  {event:?}");
    }
    for line in lines.iter().rev().take(MOST).rev() {
        let _ = writeln!(out, "{line}");
    }
}

/// What the problems are about, as lines of the trace would name it: partitions, and offsets.
fn named(problems: &[String]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for problem in problems {
        let words = problem.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            if pair[0] == "offset" && pair[1].parse::<i64>().is_ok() {
                named.insert(format!("at {}", pair[1]));
            }
        }
    }
    named
}

/// Whether `line` has `name` as whole words.
fn is_of(line: &str, name: &str) -> bool {
    let found = line.match_indices(name);
    found.into_iter().any(|(at, _)| {
        let after = line[at + name.len()..].chars().next();
        after.is_none_or(|c| !c.is_ascii_alphanumeric())
    })
}

#[test]
fn problems_name_what_is_told() {
    let named = named(&["I1: LostWrite { value: 7, offset: 12 }".to_owned()]);
    assert_eq!(named, BTreeSet::from(["at 12".to_owned()]));
    assert!(is_of("1.0 bad-days-0: 9 bytes at 12 by node 1", "at 12"));
    assert!(!is_of("1.0 bad-days-0: 9 bytes at 123 by node 1", "at 12"));
}
