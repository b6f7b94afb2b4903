//! The simulation: real nodes on simulated disks, network, store, clocks and threads.
//!
//! ```text
//!   seed ─▶ plan (machines, clients, which troubles when) ─▶ world ─┬─ machines: nodes, restarted
//!                                                                   ├─ clients ─▶ histories
//!                                                                   └─ nemesis: troubles, heals
//!   histories ─▶ invariants ─▶ problems     everything said and done ─▶ trace, the same per seed
//!   problems ─▶ shrinking: the same seed with fewer troubles        trace ─▶ story
//! ```
//!
//! Which trouble stands for which fault of the design: `tests/docs/faults.md`.
//!
//! Settings come from the environment, as `cargo xtask sim` sets them, each after `HEADWATER_SIM_`:
//!
//! | name | meaning |
//! |---|---|
//! | `WORLD` | `single`, `cluster`, `upgrade`, or `all` (both, and every fourth seed upgraded) |
//! | `SEEDS`, `FROM` | how many, and the first |
//! | `MINUTES` | no seed is begun after so many |
//! | `HAVING` | only seeds in which this trouble comes |
//! | `REPLAY` | one seed, its story printed |
//! | `WITHOUT` | troubles to leave out of it |
//! | `AIM` | its troubles instead |
//! | `TRACE` | where its whole trace is written |
//! | `REPLAY_ROT` | one world of `rot_at_rest_is_named_and_never_served`, its trace printed |
//! | `ACT`, `POINTS` | one act of [`acts`], with processes killed at these of its steps |
//! | `ACTS` | which acts, between commas |
//! | `ACT_POINTS`, `ACT_PAIRS` | at how many steps, and pairs of steps, of each |
//!
//! A target of its own, since [`interpose`] replaces libc's clock and entropy in it.

mod acts;
mod admin;
mod clients;
mod drive;
mod figures;
mod interpose;
mod invariants;
mod machine;
mod members;
mod mover;
mod nemesis;
mod operator;
mod pipelined;
mod plan;
mod run;
mod steps;
mod story;
mod sweep;
mod trace;
mod upgrade;
mod world;

use std::ffi::OsStr;
use std::io::Write;

use drive::{alone, figure, line, number};
use plan::{Kind, Plan};
use run::{Outcome, simulate};

/// Seeds of a plain `cargo test`.
const DEFAULT_SEEDS: u64 = 4;

/// Says what went wrong, and how to see it again.
fn judge(seed: u64, outcome: &Outcome) {
    let world = outcome.plan.kind.name();
    assert!(
        outcome.problems.is_empty(),
        "seed {seed} ({}): {:#?}\nreplay: cargo xtask sim --world {world} --replay {seed}",
        outcome.plan,
        outcome.problems,
    );
}

fn judge_rot(seed: u64, outcome: &Outcome) {
    assert!(
        outcome.problems.is_empty(),
        "rot seed {seed} ({}; {}): {:#?}\nreplay: HEADWATER_SIM_REPLAY_ROT={seed} cargo test \
         --workspace --test sim rot_at_rest -- --nocapture",
        outcome.plan,
        outcome.rotten.damage,
        outcome.problems,
    );
}

/// The first check of all: one seed gives one trace, in two processes.
#[test]
fn determinism_trace() {
    let seed = number("HEADWATER_SIM_REPLAY").unwrap_or(7);
    if let Some(path) = std::env::var_os("HEADWATER_SIM_TRACE") {
        let outcome = simulate(seed, drive::wanted_plan(seed));
        std::fs::write(&path, &outcome.trace).expect("the trace can be written");
        judge(seed, &outcome);
        return;
    }
    let folder = tempfile::tempdir().expect("a place for two traces");
    let seed = seed.to_string();
    for kind in Kind::named(&drive::wanted_worlds()) {
        let [first, second] = ["first", "second"].map(|name| {
            let path = folder.path().join(name);
            let settings = [
                ("HEADWATER_SIM_REPLAY", OsStr::new(&seed)),
                ("HEADWATER_SIM_WORLD", OsStr::new(kind.name())),
                ("HEADWATER_SIM_TRACE", path.as_os_str()),
            ];
            alone("determinism_trace", &settings);
            std::fs::read_to_string(&path).expect("a trace was written")
        });
        assert!(first.len() > 1000, "a trace says something: {first}");
        if first != second {
            let differs = first.lines().zip(second.lines()).enumerate();
            let mut differs = differs.map(|(at, pair)| (at + 1, pair));
            let differs = differs.find(|(_, (a, b))| a != b);
            let world = kind.name();
            panic!("two runs of seed {seed} of world {world} differ: {differs:#?}");
        }
    }
}

/// A bounded number of bad days.
#[test]
fn no_seed_loses_a_record() {
    if let Some(seed) = number("HEADWATER_SIM_REPLAY") {
        drive::replay(seed);
        return;
    }
    let from = number("HEADWATER_SIM_FROM").unwrap_or(1);
    let count = number("HEADWATER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    drive::bad_days("no_seed_loses_a_record", from, count);
}

/// Bytes at rest change: what they were is never replaced by anything else in silence.
#[test]
fn rot_at_rest_is_named_and_never_served() {
    if let Some(seed) = number("HEADWATER_SIM_REPLAY_ROT") {
        let outcome = simulate(seed, Plan::rot(seed));
        let rotten = &outcome.rotten;
        let _ = std::io::stdout().write_all(outcome.trace.as_bytes());
        println!(
            "rot {seed}: {} acknowledged {}, {}; named {}, refused {}",
            outcome.plan, outcome.acknowledged, rotten.damage, rotten.named, rotten.refused
        );
        judge_rot(seed, &outcome);
        return;
    }
    if number("HEADWATER_SIM_REPLAY").is_some() {
        return;
    }
    let from = number("HEADWATER_SIM_FROM").unwrap_or(1);
    // Half as many: such a world is judged twice.
    let count = number("HEADWATER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let count = count.div_ceil(2);
    let (mut named, mut refused) = (0, 0);
    for seed in from..from + count {
        let settings = [("HEADWATER_SIM_REPLAY_ROT", seed.to_string())];
        let settings = settings
            .each_ref()
            .map(|(name, seed)| (*name, seed.as_ref()));
        let said = alone("rot_at_rest_is_named_and_never_served", &settings);
        let line = line(&said, &format!("rot {seed}: "));
        println!("{line}");
        named += u64::from(line.contains("named true"));
        refused += u64::from(figure(line, "refused") > 0);
    }
    println!(
        "{count} damaged worlds from {from}: named in {named}, records refused in {refused}, none \
         wrong, all back once mended"
    );
    assert!(named > 0 || count < 4, "some damage is met and named");
}

/// The node dies in the middle of disk operation N of a clean run, for N spread over all of them.
#[test]
fn a_crash_at_any_disk_operation_loses_nothing() {
    let seed = 11;
    for backend in ["disk", "object"] {
        let clean = simulate(seed, Plan::quiet(backend));
        judge(seed, &clean);
        let points = number("HEADWATER_SIM_CRASH_POINTS").unwrap_or(24);
        let step = (clean.disk_ops / points).max(1);
        let mut tried = 0;
        for point in (0..clean.disk_ops).step_by(step as usize) {
            let outcome = simulate(seed, Plan::quiet(backend).crash_at(point));
            judge(point, &outcome);
            assert!(
                outcome.crashes >= 1,
                "operation {point} of {} came",
                clean.disk_ops
            );
            tried += 1;
        }
        println!(
            "{backend}: {tried} crash points of {} disk operations",
            clean.disk_ops
        );
    }
}

/// Processes die in the middle of a takeover, a move, an upload, …: at each step of it, where that
/// is asked for, else at a few.
#[test]
fn a_crash_at_any_step_of_an_act_loses_nothing() {
    if let Ok(act) = std::env::var("HEADWATER_SIM_ACT") {
        return acts::replay(&act);
    }
    if number("HEADWATER_SIM_REPLAY").is_some() {
        return;
    }
    acts::explore("a_crash_at_any_step_of_an_act_loses_nothing");
}

/// A read of the disk gives one wrong bit, once: it is found, and nothing is lost, set aside or
/// served wrong.
#[test]
fn a_wrong_bit_in_any_disk_read_loses_nothing() {
    let seed = 13;
    for backend in ["disk", "object"] {
        let clean = simulate(seed, Plan::quiet(backend));
        judge(seed, &clean);
        let points = number("HEADWATER_SIM_FLIP_POINTS").unwrap_or(8);
        let step = (clean.disk_reads / points).max(1);
        for read in (0..clean.disk_reads).step_by(step as usize) {
            judge(read, &simulate(seed, Plan::quiet(backend).flip_read(read)));
        }
        println!("{backend}: {points} of {} disk reads", clean.disk_reads);
    }
}
