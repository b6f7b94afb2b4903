//! Every order of events in a small world: owners, heirs, logs in an object store, puts that land
//! late, commands that are lost or come twice. The state is the product's own; processes and the
//! store are as small as the protocol allows (R3, R4, R6, R8, R9, R12, R13).
//!
//! ```text
//!   World ──each possible step──▶ World … until nothing new is found; checked after every step
//! ```
//!
//! What may be broken on purpose ([`Flaw`]) shows that the search would see it.

mod check;
mod steps;
mod world;

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use crate::level::OLDEST_LEVEL;
use world::{Bounds, Flaw, World};

/// What a search found.
#[derive(Default)]
struct Found {
    /// Different worlds.
    worlds: usize,
    /// Steps taken, by name: none may be absent, or the search proves less than it says.
    steps: BTreeMap<&'static str, usize>,
    /// The first broken promise, and the steps that lead there.
    broken: Option<(String, Vec<String>)>,
}

/// The steps that led to a world, newest first.
struct Path {
    step: String,
    before: Option<Rc<Path>>,
}

fn told(path: Option<&Rc<Path>>) -> Vec<String> {
    let mut steps = Vec::new();
    let mut at = path;
    while let Some(path) = at {
        steps.push(path.step.clone());
        at = path.before.as_ref();
    }
    steps.reverse();
    steps
}

/// Depth first, so that few worlds are held at a time.
fn search(bounds: Bounds, flaw: Flaw) -> Found {
    let mut found = Found::default();
    let first = World::new(bounds, flaw);
    let mut seen = HashSet::from([first.key()]);
    let mut left: Vec<(World, Option<Rc<Path>>)> = vec![(first, None)];
    while let Some((world, path)) = left.pop() {
        found.worlds += 1;
        for step in world.possible() {
            let mut next = world.clone();
            next.take(step);
            *found.steps.entry(step.name()).or_default() += 1;
            if let Err(broken) = next.check() {
                let mut steps = told(path.as_ref());
                steps.push(format!("{step:?}"));
                found.broken = Some((broken, steps));
                return found;
            }
            if seen.insert(next.key()) {
                let before = path.clone();
                let step = format!("{step:?}");
                left.push((next, Some(Rc::new(Path { step, before }))));
            }
        }
    }
    found
}

fn assert_sound(bounds: Bounds, steps: &[&str], least: usize) {
    let found = search(bounds, Flaw::None);
    if let Some((broken, steps)) = found.broken {
        panic!("{broken}, after\n  {}", steps.join("\n  "));
    }
    for step in steps {
        assert!(found.steps.contains_key(step), "no {step} in any order");
    }
    assert!(found.worlds >= least, "only {} worlds", found.worlds);
}

/// An owner that is fenced at any moment, an heir, and a second one when the first is fenced, too.
#[test]
fn no_order_of_fence_claim_seal_and_commit_loses_a_record() {
    let bounds = Bounds {
        processes: 3,
        records: 2,
        ..Bounds::LEAST
    };
    let steps = [
        "produce", "land", "learn", "upload", "deliver", "fence", "claim", "read", "seal", "adopt",
        "close", "open",
    ];
    assert_sound(bounds, &steps, 50_000);
}

/// The same before the cluster has agreed on anything: heirs that die are not counted.
#[test]
fn nothing_is_lost_at_the_oldest_level() {
    let bounds = Bounds {
        processes: 3,
        level: OLDEST_LEVEL,
        ..Bounds::LEAST
    };
    assert_sound(bounds, &["fence", "claim", "adopt", "close", "open"], 1_000);
}

/// Heirs are fenced with a claim in their hands, and come back: those who lived are held against no
/// log, and three who died set it aside.
#[test]
fn no_order_of_lapses_and_returns_takes_the_living_for_dead() {
    let bounds = Bounds {
        processes: 3,
        records: 0,
        fences: 4,
        returns: 2,
        ..Bounds::LEAST
    };
    assert_sound(bounds, &["fence", "claim", "return", "close"], 1_000);
}

/// A partition goes back and forth between two that live; its first owner is fenced afterwards.
#[test]
fn no_order_of_early_upload_and_release_loses_a_record() {
    let bounds = Bounds {
        processes: 2,
        records: 2,
        releases: 2,
        fences: 1,
        ..Bounds::LEAST
    };
    assert_sound(bounds, &["early", "release", "upload", "close"], 50_000);
}

fn broken_by(flaw: Flaw) -> String {
    let bounds = Bounds {
        records: 2,
        fences: 1,
        ..Bounds::LEAST
    };
    let found = search(bounds, flaw);
    let (broken, steps) = found.broken.expect("the search sees it");
    assert!(!steps.is_empty());
    broken
}

#[test]
fn an_acknowledgement_before_durability_is_seen() {
    assert!(broken_by(Flaw::EarlyAck).contains("is nowhere"));
}

#[test]
fn an_acknowledgement_across_a_hole_is_seen() {
    assert!(broken_by(Flaw::AckAcrossHole).contains("is nowhere"));
}

#[test]
fn an_end_that_is_not_sealed_is_seen() {
    let broken = broken_by(Flaw::NoSeal);
    assert!(broken.contains("acknowledged"), "{broken}");
}

#[test]
fn a_seal_that_replaces_what_stands_is_seen() {
    assert!(broken_by(Flaw::SealOverwrites).contains("is nowhere"));
}

#[test]
fn a_release_before_all_is_committed_is_refused_by_the_state() {
    // Not a flaw that the search finds, but one that the state forbids.
    let bounds = Bounds {
        processes: 2,
        records: 1,
        releases: 1,
        fences: 0,
        ..Bounds::LEAST
    };
    let found = search(bounds, Flaw::ReleaseEarly);
    assert!(found.broken.is_none());
    assert!(found.steps.contains_key("release"));
}
