//! Acts that processes are killed in, at each of their steps.
//!
//! | act | machines | what counts |
//! |---|---|---|
//! | `group-commit` | one, disk log | its log's files |
//! | `group-commit-object` | one, object log | its log's objects |
//! | `upload` | one, object log | objects of data, the controller's log, deletion of the log's groups |
//! | `compaction` | one, disk log | objects of data, the controller's log |
//! | `collection` | one, disk log | deletions and listings of data, the controller's log |
//! | `snapshot` | three | snapshots of the controllers, and their logs |
//! | `takeover` | three, and the one that dies | everything but the living brokers' own logs |
//! | `move` | three and one | the same |
//! | `drain` | three and one | the same |

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use env::sim::SimEntropy;

use crate::drive::{figure, in_parallel, in_process, line, number};
use crate::plan::Plan;
use crate::run::simulate;
use crate::steps::Step;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    GroupCommit,
    GroupCommitObject,
    Upload,
    Compaction,
    Collection,
    Snapshot,
    Takeover,
    Move,
    Drain,
}

/// Points of each act in a plain `cargo test`.
const FEW: u64 = 1;

// === impl Act ===

impl Act {
    pub(crate) const ALL: [Self; 9] = [
        Self::GroupCommit,
        Self::GroupCommitObject,
        Self::Upload,
        Self::Compaction,
        Self::Collection,
        Self::Snapshot,
        Self::Takeover,
        Self::Move,
        Self::Drain,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GroupCommit => "group-commit",
            Self::GroupCommitObject => "group-commit-object",
            Self::Upload => "upload",
            Self::Compaction => "compaction",
            Self::Collection => "collection",
            Self::Snapshot => "snapshot",
            Self::Takeover => "takeover",
            Self::Move => "move",
            Self::Drain => "drain",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }

    /// How many machines have a part in it.
    pub(crate) fn machines(self) -> i32 {
        match self {
            Self::GroupCommit
            | Self::GroupCommitObject
            | Self::Upload
            | Self::Compaction
            | Self::Collection => 1,
            Self::Snapshot => 3,
            Self::Takeover | Self::Move | Self::Drain => 4,
        }
    }

    pub(crate) fn backend(self) -> &'static str {
        match self {
            Self::GroupCommit | Self::Compaction | Self::Collection => "disk",
            _ => "object",
        }
    }

    /// How long it is looked at, where nothing says that it is over.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::GroupCommit | Self::GroupCommitObject => Duration::from_secs(1),
            Self::Upload => Duration::from_secs(2),
            Self::Snapshot => Duration::from_secs(6),
            _ => Duration::from_secs(4),
        }
    }

    /// Whether a step belongs to it.
    pub(crate) fn counts(self, step: Step<'_>) -> bool {
        let place = step.place;
        let own_log = || {
            let object = place.strip_prefix("objects wal ");
            place == "wal" || object.is_some_and(|node| node == step.node.to_string())
        };
        let data = place == "objects data";
        let changes = !["get", "list"].contains(&step.verb);
        match self {
            Self::GroupCommit => place == "wal",
            Self::GroupCommitObject => own_log(),
            Self::Upload => {
                (data && changes) || place == "raft/log" || (own_log() && step.verb == "delete")
            }
            // A death at a read is one before the next change.
            Self::Compaction => (data && changes) || place == "raft/log",
            Self::Collection => (data && step.verb == "delete") || place == "raft/log",
            Self::Snapshot => place.starts_with("raft"),
            Self::Takeover | Self::Move | Self::Drain => {
                !own_log() && !place.starts_with("objects meta")
            }
        }
    }

    /// What the clean run has to tell of, or it did not take place.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::GroupCommit => &["KIND write wal", "KIND sync wal"],
            Self::GroupCommitObject => &["KIND put objects wal 1"],
            Self::Upload => &["KIND put objects data", "KIND delete objects wal 1"],
            Self::Compaction => &[
                "KIND put objects data",
                "SAW storage_compaction_slices_total",
            ],
            Self::Collection => &["KIND delete objects data"],
            Self::Snapshot => &["KIND write raft/snapshots"],
            Self::Takeover => &[
                "KIND get objects wal 4",
                "KIND put objects wal 4",
                "KIND put objects data",
            ],
            Self::Move | Self::Drain => &["KIND put objects data", "KIND sync raft/log"],
        }
    }
}

/// Runs one world of an act here, as the environment says, and tells what came of it.
pub(crate) fn replay(name: &str) {
    let act = Act::named(name).unwrap_or_else(|| panic!("no act is called {name:?}"));
    let points = std::env::var("HEADWATER_SIM_POINTS").unwrap_or_default();
    let points = points.split(',').filter(|text| !text.is_empty());
    let points: Vec<u64> = points
        .map(|text| {
            text.parse()
                .unwrap_or_else(|_| panic!("{text:?} is a step"))
        })
        .collect();
    let seed = number("HEADWATER_SIM_FROM").unwrap_or(1);
    let outcome = simulate(seed, Plan::act(act, points));
    if let Some(path) = std::env::var_os("HEADWATER_SIM_TRACE") {
        std::fs::write(&path, &outcome.trace).expect("the trace can be written");
    }
    let tally = &outcome.tally;
    let ended = tally.ended.join(", ");
    println!(
        "act {name}: {}, ended at [{ended}], steps {}",
        outcome.plan, tally.steps
    );
    for (kind, count) in &tally.kinds {
        println!("KIND {kind}: {count}");
    }
    for (name, count) in &outcome.saw {
        println!("SAW {name} {count}");
    }
    for problem in &outcome.problems {
        println!("PROBLEM {problem}");
    }
    assert!(
        outcome.problems.is_empty(),
        "act {name}, ended at [{ended}]"
    );
}

/// What one act came to.
struct Explored {
    act: Act,
    steps: u64,
    singles: usize,
    pairs: usize,
    /// Of those, how many processes ended where they should.
    came: usize,
    failed: Vec<String>,
}

/// Kills processes in all acts that are asked for, and prints how much of each was covered.
pub(crate) fn explore(test: &str) {
    let wanted = std::env::var("HEADWATER_SIM_ACTS").unwrap_or_default();
    let acts = Act::ALL.into_iter();
    let acts: Vec<Act> = acts
        .filter(|act| wanted.is_empty() || wanted.split(',').any(|name| name == act.name()))
        .collect();
    assert!(!acts.is_empty(), "no act is called {wanted:?}");
    let clean = in_parallel(&acts, |act| run(test, *act, &[]));
    let mut ways = Vec::new();
    let mut explored = Vec::new();
    for (act, ran) in acts.iter().zip(clean) {
        let said = ran.unwrap_or_else(|failed| panic!("{failed}"));
        let start = format!("act {}: ", act.name());
        let steps = figure(line(&said, &start), "steps");
        for kind in act.needs() {
            let there = said.lines().any(|line| line.starts_with(kind));
            assert!(
                there,
                "{} did not take place: no {kind} in\n{said}",
                act.name()
            );
        }
        let points = points(steps);
        ways.extend(points.iter().map(|points| (*act, points.clone())));
        explored.push(Explored {
            act: *act,
            steps,
            singles: points.iter().filter(|points| points.len() == 1).count(),
            pairs: points.iter().filter(|points| points.len() == 2).count(),
            came: 0,
            failed: Vec::new(),
        });
    }
    let ran = in_parallel(&ways, |(act, points)| run(test, *act, points));
    for ((act, points), ran) in ways.iter().zip(ran) {
        let one = explored.iter_mut().find(|one| one.act == *act);
        let one = one.expect("explored for each act");
        let shown: Vec<_> = points.iter().map(u64::to_string).collect();
        match ran {
            Ok(said) => {
                let line = line(&said, &format!("act {}: ", act.name()));
                one.came += line.matches("(node ").count();
            }
            Err(failed) => {
                println!("{failed}");
                one.failed.push(shown.join(","));
            }
        }
    }
    report(&explored);
}

fn report(explored: &[Explored]) {
    let mut failed = Vec::new();
    for one in explored {
        let name = one.act.name();
        println!(
            "crash points of {name}: {} steps, {} killed at, {} pairs, {} deaths, {} failures",
            one.steps,
            one.singles,
            one.pairs,
            one.came,
            one.failed.len()
        );
        let ways = one.failed.iter();
        failed.extend(
            ways.map(|points| format!("HEADWATER_SIM_ACT={name} HEADWATER_SIM_POINTS={points}")),
        );
        // What comes before the first death is the same as in the clean run.
        let least = one.singles - one.failed.len().min(one.singles);
        assert!(
            one.came >= least,
            "{name}: the steps came: {} of {least}",
            one.came
        );
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

/// Which steps processes end at: all, or so many spread over them, and a few pairs.
fn points(steps: u64) -> Vec<Vec<u64>> {
    let wanted = number("HEADWATER_SIM_ACT_POINTS").unwrap_or(FEW);
    let pairs = number("HEADWATER_SIM_ACT_PAIRS").unwrap_or(0);
    // Not the same ones each time that the number of steps changes by one.
    let random = SimEntropy::new(number("HEADWATER_SIM_FROM").unwrap_or(1) ^ steps);
    let singles: BTreeSet<u64> = match steps <= wanted {
        true => (0..steps).collect(),
        false => {
            let width = steps / wanted;
            (0..wanted)
                .map(|part| part * width + random.below(width))
                .collect()
        }
    };
    let mut points: Vec<Vec<u64>> = singles.into_iter().map(|point| vec![point]).collect();
    for _ in 0..pairs {
        let first = random.below(steps.max(1));
        let second = first + 1 + random.below(steps.max(1));
        points.push(vec![first, second]);
    }
    points
}

/// One world in a process of its own: what it said, or what went wrong.
fn run(test: &str, act: Act, points: &[u64]) -> Result<String, String> {
    let points: Vec<_> = points.iter().map(u64::to_string).collect();
    let points = points.join(",");
    let settings = [
        ("HEADWATER_SIM_ACT", OsStr::new(act.name())),
        ("HEADWATER_SIM_POINTS", OsStr::new(&points)),
    ];
    let (said, errors) = in_process(test, &settings);
    match errors {
        None => Ok(said),
        Some(errors) => {
            let told = said.lines().chain(errors.lines()).filter(|line| {
                line.starts_with("PROBLEM") || line.starts_with("act ") || line.contains("panicked")
            });
            let told: Vec<_> = told.collect();
            Err(format!(
                "{} at [{points}]:\n{}",
                act.name(),
                told.join("\n")
            ))
        }
    }
}
