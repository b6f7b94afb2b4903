//! The simulation: a real node on simulated disk, network, store, clock and threads.
//!
//! ```text
//!   seed ─▶ plan (backend, clients, which faults) ─▶ world ─┬─ node, restarted when it dies
//!                                                           ├─ clients ─▶ histories
//!                                                           └─ nemesis: kills, faults, heals
//!   history ─▶ anomalies        everything said and done ─▶ trace, byte for byte the same per seed
//! ```
//!
//! Settings come from the environment, as `cargo xtask sim` sets them: `HEADWATER_SIM_SEEDS` (how
//! many), `HEADWATER_SIM_FROM` (the first), `HEADWATER_SIM_REPLAY` (one seed, its story printed),
//! `HEADWATER_SIM_TRACE` (where `determinism_trace` writes), `HEADWATER_SIM_REPLAY_ROT` (one world
//! of `rot_at_rest_is_named_and_never_served`, its story printed).
//!
//! A target of its own, since [`interpose`] replaces libc's clock and entropy in it.

mod admin;
mod clients;
mod interpose;
mod members;
mod nemesis;
mod plan;
mod run;
mod trace;
mod world;

use std::io::Write;

use plan::Plan;
use run::{Outcome, simulate};

/// Seeds of a plain `cargo test`.
const DEFAULT_SEEDS: u64 = 12;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// Says what went wrong, and how to see it again.
fn judge(seed: u64, outcome: &Outcome) {
    assert!(
        outcome.problems.is_empty(),
        "seed {seed} ({}): {:#?}\nreplay: cargo xtask sim --replay {seed}",
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

/// The first check of all: one seed gives one trace. `cargo xtask determinism` compares two
/// processes; here two runs of one process.
#[test]
fn determinism_trace() {
    let seed = number("HEADWATER_SIM_REPLAY").unwrap_or(7);
    let first = simulate(seed, Plan::draw(seed));
    if let Some(path) = std::env::var_os("HEADWATER_SIM_TRACE") {
        std::fs::write(&path, &first.trace).expect("the trace can be written");
    }
    let second = simulate(seed, Plan::draw(seed));
    assert!(
        first.trace.len() > 1000,
        "a trace says something: {}",
        first.trace
    );
    if first.trace != second.trace {
        let differs = first.trace.lines().zip(second.trace.lines()).enumerate();
        let differs = differs
            .map(|(at, pair)| (at + 1, pair))
            .find(|(_, (a, b))| a != b);
        panic!("two runs of seed {seed} differ: {differs:#?}");
    }
    judge(seed, &first);
}

/// A bounded number of bad days.
#[test]
fn no_seed_loses_a_record() {
    if let Some(seed) = number("HEADWATER_SIM_REPLAY") {
        let outcome = simulate(seed, Plan::draw(seed));
        // A story is for whoever asked; a closed pipe is not our failure.
        let _ = std::io::stdout().write_all(outcome.trace.as_bytes());
        judge(seed, &outcome);
        return;
    }
    let from = number("HEADWATER_SIM_FROM").unwrap_or(1);
    let count = number("HEADWATER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let (mut acknowledged, mut crashes, mut faults) = (0, 0, 0);
    for seed in from..from + count {
        let outcome = simulate(seed, Plan::draw(seed));
        println!("seed {seed}: {} {}", outcome.plan, outcome.figures());
        judge(seed, &outcome);
        acknowledged += outcome.acknowledged;
        crashes += outcome.crashes;
        faults += outcome.faults;
    }
    println!(
        "{count} seeds from {from}: {acknowledged} records acknowledged, {crashes} crashes, \
         {faults} faults, no anomaly"
    );
    assert!(acknowledged > 0, "clients got something done");
}

/// Bytes at rest change: what they were is never replaced by anything else in silence.
#[test]
fn rot_at_rest_is_named_and_never_served() {
    if let Some(seed) = number("HEADWATER_SIM_REPLAY_ROT") {
        let outcome = simulate(seed, Plan::rot(seed));
        let _ = std::io::stdout().write_all(outcome.trace.as_bytes());
        judge_rot(seed, &outcome);
        return;
    }
    if number("HEADWATER_SIM_REPLAY").is_some() {
        return;
    }
    let from = number("HEADWATER_SIM_FROM").unwrap_or(1);
    // Half as many: such a world is judged twice.
    let count = number("HEADWATER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS).div_ceil(2);
    let (mut named, mut refused) = (0, 0);
    for seed in from..from + count {
        let outcome = simulate(seed, Plan::rot(seed));
        let rotten = &outcome.rotten;
        println!(
            "rot {seed}: {} acknowledged {}, {}; named {}, refused {}",
            outcome.plan, outcome.acknowledged, rotten.damage, rotten.named, rotten.refused
        );
        judge_rot(seed, &outcome);
        named += u64::from(rotten.named);
        refused += u64::from(rotten.refused > 0);
    }
    println!(
        "{count} damaged worlds from {from}: named in {named}, records refused in {refused}, none \
         wrong, all back once mended"
    );
    assert!(
        named > 0 || count < DEFAULT_SEEDS / 2,
        "some damage is met and named"
    );
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
