//! Plants one bug after the other, and shows what catches it and after how many seeds.
//!
//! ```text
//!   list of bugs ─▶ one build with all of them asleep ─▶ per bug: the tests or the world that
//!   should see it, HEADWATER_PLANTED=name ─▶ failed: caught     passed: a check is missing
//! ```

mod bugs;
mod hunt;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail};

use bugs::{BUGS, Bug};
use hunt::{Binaries, Found};

/// How long to look.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Most seeds for each bug that shows in a simulated world.
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
    /// Builds optimised, for worlds: assertions and overflow checks stay on.
    #[arg(long)]
    release: bool,
    /// Only what is looked for in worlds.
    #[arg(long, conflicts_with = "sample")]
    worlds: bool,
    /// Only about so many, of those that tests of one crate catch.
    #[arg(long, conflicts_with = "only")]
    sample: Option<usize>,
}

/// Fails when a bug is not caught.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let bugs = chosen(args)?;
    let binaries = Binaries::build(&bugs, args.release)?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(bugs.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(at) else { return };
                    let one = hunt::hunt(&binaries, bug, args.seeds);
                    if let Ok(Found { what: None, .. }) = &one {
                        eprintln!("{}: not caught", bug.name);
                    }
                    let mut found = found.lock().expect("no panic under this lock");
                    found.insert(at, one);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic under this lock");
    println!("| bug | rule | looked for in | seeds | caught by |");
    println!("|---|---|---|---:|---|");
    let mut missed = Vec::new();
    for (at, bug) in bugs.iter().enumerate() {
        let one = found.remove(&at).context("each was hunted")??;
        let what = one.what.as_deref().unwrap_or("NOTHING");
        let (name, rule, place) = (bug.name, bug.rule, &bug.place);
        let seeds = one.seeds.map(|seeds| seeds.to_string());
        let seeds = seeds.unwrap_or_default();
        println!("| {name} | {rule} | {place} | {seeds} | {what} |");
        if one.what.is_none() {
            missed.push(name);
        }
    }
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    Ok(())
}

fn chosen(args: &Args) -> anyhow::Result<Vec<&'static Bug>> {
    if let Some(count) = args.sample {
        // Spread over the list, and the same ones at every run: a red stage stays red.
        let quick: Vec<_> = BUGS.iter().filter(|bug| bug.place.is_quick()).collect();
        let stride = quick.len().div_ceil(count.max(1)).max(1);
        return Ok(quick.into_iter().step_by(stride).collect());
    }
    let wanted = |bug: &&Bug| {
        let named = args.only.as_deref().is_none_or(|only| only == bug.name);
        named && !(args.worlds && bug.place.is_quick())
    };
    let bugs: Vec<_> = BUGS.iter().filter(wanted).collect();
    if bugs.is_empty() {
        bail!("no bug is called {:?}", args.only);
    }
    Ok(bugs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::BUGS;
    use crate::stage;

    /// What the sources ask for, wherever they ask.
    fn asked(folder: &std::path::Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                asked(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let sites = text.split("env::planted!(\"").skip(1);
                names.extend(sites.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_site_is_in_the_list_and_every_rule_has_one() {
        let mut names = BTreeSet::new();
        for product in ["wal", "storage", "controller", "broker"] {
            asked(&stage::root().join(product).join("src"), &mut names);
        }
        let listed: BTreeSet<_> = BUGS.iter().map(|bug| bug.name.to_owned()).collect();
        let quick = BUGS.iter().filter(|bug| bug.place.is_quick());
        assert_eq!(listed.len(), quick.count(), "tests of a crate catch each");
        assert_eq!(names, listed);
        for rule in (1..=10).chain(12..=13).map(|number| format!("R{number}")) {
            let broken = |rules: &str| rules.split(", ").any(|one| one == rule);
            assert!(BUGS.iter().any(|bug| broken(bug.rule)), "{rule} has a bug");
        }
    }
}
