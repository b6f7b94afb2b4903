//! Runs worlds, each in a process of its own, several at a time; shrinks those that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::figures::HIGHEST;
use crate::plan::{Kind, Plan, Trouble};
use crate::run::simulate;
use crate::{judge, story};

/// Most runs that one failure is shrunk with.
const SHRINKING: usize = 60;
/// Seeds that are looked at for a kind of trouble.
const SEARCHED: u64 = 10_000;
/// Every so many seeds live through an upgrade, too, where all worlds are asked for.
const UPGRADED: u64 = 4;
/// Failures that are shrunk; the others are named.
const SHRUNK: usize = 2;

/// The setting `name`, when it is there.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// Which worlds are asked for.
pub(crate) fn wanted_worlds() -> String {
    std::env::var("HEADWATER_SIM_WORLD").unwrap_or_else(|_| "all".to_owned())
}

/// The plan of `seed` in the world that is asked for, without what is to be left out.
pub(crate) fn wanted_plan(seed: u64) -> Plan {
    let kinds = Kind::named(&wanted_worlds());
    let kind = kinds
        .first()
        .copied()
        .expect("HEADWATER_SIM_WORLD names a world");
    let left_out = std::env::var("HEADWATER_SIM_WITHOUT").unwrap_or_default();
    let plan = match std::env::var("HEADWATER_SIM_AIM") {
        Ok(aim) => Plan::draw(kind, seed).aimed(&aim, seed),
        Err(_) => Plan::draw(kind, seed),
    };
    plan.without(&left_out)
}

/// Runs one test for one seed in a process of its own and gives what it printed: runtimes of one
/// process share a counter from which tokio draws whom a `watch` wakes first, so that only the
/// first world of a process is the same every time.
pub(crate) fn alone(test: &str, settings: &[(&str, &OsStr)]) -> String {
    let (said, errors) = in_process(test, settings);
    assert!(errors.is_none(), "{test} {settings:?}: {errors:?}");
    said
}

/// What a test printed in a process of its own, and its errors if it failed.
pub(crate) fn in_process(test: &str, settings: &[(&str, &OsStr)]) -> (String, Option<String>) {
    let binary = std::env::current_exe().expect("this binary has a path");
    let mut command = Command::new(binary);
    command.args([test, "--exact", "--nocapture"]);
    let ours = ["REPLAY", "TRACE", "WITHOUT", "STORY", "ACT", "POINTS"];
    for name in ours {
        command.env_remove(format!("HEADWATER_SIM_{name}"));
    }
    command.envs(settings.iter().copied());
    let output = command.output().expect("a process can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (said, (!output.status.success()).then_some(errors))
}

/// The line of `text` that begins with `start`.
pub(crate) fn line<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with {start:?}"))
}

/// The number after `name` in a line of figures.
pub(crate) fn figure(line: &str, name: &str) -> u64 {
    let after = line.rsplit_once(&format!("{name} ")).map(|(_, rest)| rest);
    let digits = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    after
        .and_then(digits)
        .unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

/// Runs one seed here, and tells what went wrong.
pub(crate) fn replay(seed: u64) {
    let plan = wanted_plan(seed);
    let world = plan.kind.name();
    let outcome = simulate(seed, plan);
    if let Some(path) = std::env::var_os("HEADWATER_SIM_TRACE") {
        std::fs::write(&path, &outcome.trace).expect("the trace can be written");
    }
    if std::env::var_os("HEADWATER_SIM_STORY").is_some() {
        story::tell(&outcome);
    }
    println!("{world} {seed}: {} {}", outcome.plan, outcome.figures());
    for (what, counts) in [("FIRED", &outcome.fired), ("SAW", &outcome.saw)] {
        for (name, count) in counts {
            println!("{what} {name} {count}");
        }
    }
    for problem in &outcome.problems {
        println!("PROBLEM {problem}");
    }
    judge(seed, &outcome);
}

/// One world of one seed.
#[derive(Clone, Copy, Debug)]
struct Day {
    kind: Kind,
    seed: u64,
}

/// What came of it.
struct Seen {
    day: Day,
    said: String,
    failed: Option<String>,
}

impl Day {
    fn live(self, test: &str, left_out: &str) -> Seen {
        let seed = self.seed.to_string();
        let settings = [
            ("HEADWATER_SIM_REPLAY", OsStr::new(&seed)),
            ("HEADWATER_SIM_WORLD", OsStr::new(self.kind.name())),
            ("HEADWATER_SIM_WITHOUT", OsStr::new(left_out)),
        ];
        let (said, failed) = in_process(test, &settings);
        let day = self;
        Seen { day, said, failed }
    }
}

/// Runs `count` seeds from `from` on, and the corpus, in all worlds that are asked for.
pub(crate) fn bad_days(test: &str, from: u64, count: u64) {
    let worlds = wanted_worlds();
    let mut days = Vec::new();
    for kind in Kind::named(&worlds) {
        let wanted = seeds(kind, from, count);
        days.extend(wanted.into_iter().map(|seed| Day { kind, seed }));
    }
    if worlds == "all" {
        let kind = Kind::Upgrade;
        let wanted = seeds(kind, from, count).into_iter();
        let wanted = wanted.filter(|seed| seed.is_multiple_of(UPGRADED));
        days.extend(wanted.map(|seed| Day { kind, seed }));
    }
    assert!(!days.is_empty(), "no world is called {worlds:?}");
    days.extend(
        corpus()
            .into_iter()
            .filter(|day| worlds == "all" || worlds == day.kind.name()),
    );
    let began = Instant::now();
    let seen = live_all(test, &days);
    let took = began.elapsed();
    let (mut acknowledged, mut crashes, mut faults) = (0, 0, 0);
    let mut failed = Vec::new();
    let mut sums = Sums::default();
    for one in &seen {
        sums.add(&one.said);
        let Day { kind, seed } = one.day;
        let start = format!("{} {seed}: ", kind.name());
        if let Some(line) = one.said.lines().find(|line| line.starts_with(&start)) {
            acknowledged += figure(line, "acknowledged");
            crashes += figure(line, "crashes");
            faults += figure(line, "faults");
        }
        if one.failed.is_some() {
            failed.push(one);
        }
    }
    let hour = seen.len() as f64 / took.as_secs_f64() * 3600.0;
    println!(
        "{} worlds ({worlds}) from seed {from}: {acknowledged} records acknowledged, {crashes} \
         crashes, {faults} faults, {} failures; {hour:.0} an hour",
        seen.len(),
        failed.len()
    );
    sums.tell();
    for one in failed.iter().take(SHRUNK) {
        shrink(test, one);
    }
    let names = failed
        .iter()
        .map(|one| format!("{} {}", one.day.kind.name(), one.day.seed));
    let names: Vec<_> = names.collect();
    assert!(names.is_empty(), "failed: {}", names.join(", "));
    assert!(acknowledged > 0, "clients got something done");
}

/// How often each kind of trouble came, and what nodes counted of their own, over all worlds.
#[derive(Default)]
struct Sums {
    fired: BTreeMap<String, u64>,
    saw: BTreeMap<String, u64>,
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, said: &str) {
        for (start, sums) in [("FIRED ", &mut self.fired), ("SAW ", &mut self.saw)] {
            for line in said.lines().filter_map(|line| line.strip_prefix(start)) {
                let Some((name, count)) = line.rsplit_once(' ') else {
                    continue;
                };
                let count: u64 = count.parse().unwrap_or(0);
                let highest = name.starts_with(HIGHEST);
                let sum = sums.entry(name.to_owned()).or_default();
                *sum = if highest {
                    count.max(*sum)
                } else {
                    *sum + count
                };
            }
        }
    }

    fn tell(&self) {
        let list = |sums: &BTreeMap<String, u64>| {
            let shown = sums.iter().map(|(name, count)| format!("{name} {count}"));
            shown.collect::<Vec<_>>().join(", ")
        };
        println!("troubles that came: {}", list(&self.fired));
        let never = Trouble::all().map(|trouble| format!("{trouble:?}"));
        let never: Vec<_> = never
            .filter(|name| !self.fired.contains_key(name))
            .collect();
        if !never.is_empty() {
            println!("troubles that never came: {}", never.join(", "));
        }
        println!("what nodes counted: {}", list(&self.saw));
    }
}

/// `count` seeds from `from` on; where a kind of trouble is asked for, those in which it comes.
fn seeds(kind: Kind, from: u64, count: u64) -> Vec<u64> {
    let having = std::env::var("HEADWATER_SIM_HAVING").unwrap_or_default();
    if having.is_empty() {
        return (from..from + count).collect();
    }
    let known = Trouble::all().any(|trouble| format!("{trouble:?}") == having);
    assert!(known, "no trouble is called {having:?}");
    let fitting = (from..from + SEARCHED).filter(|seed| {
        let troubles = Plan::draw(kind, *seed).troubles();
        troubles.contains(&having)
    });
    fitting.take(count as usize).collect()
}

/// Seeds that once failed.
fn corpus() -> Vec<Day> {
    let text = include_str!("corpus.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let days = lines.filter(|line| !line.trim().is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let kind = words
            .next()
            .map(Kind::named)
            .and_then(|kinds| kinds.first().copied());
        let seed = words.next().and_then(|seed| seed.parse().ok());
        let (kind, seed) = kind.zip(seed).unwrap_or_else(|| panic!("corpus: {line:?}"));
        Day { kind, seed }
    });
    days.collect()
}

/// Lives through `days`, or those of them that are begun within `HEADWATER_SIM_MINUTES`.
fn live_all(test: &str, days: &[Day]) -> Vec<Seen> {
    let minutes = number("HEADWATER_SIM_MINUTES");
    let longest = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let began = Instant::now();
    let lived = in_parallel(days, |day| {
        if longest.is_some_and(|longest| began.elapsed() > longest) {
            return None;
        }
        let one = day.live(test, "");
        say(&one);
        Some(one)
    });
    lived.into_iter().flatten().collect()
}

/// Does `work` for each of `items`, as many at a time as there are processors; results in order.
pub(crate) fn in_parallel<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    done.lock()
                        .expect("no panic under this lock")
                        .insert(at, result);
                }
            });
        }
    });
    let done = done.into_inner().expect("no panic under this lock");
    done.into_values().collect()
}

fn say(one: &Seen) {
    let start = format!("{} {}: ", one.day.kind.name(), one.day.seed);
    let told = |line: &&str| line.starts_with(&start) || line.starts_with("PROBLEM");
    let lines: Vec<_> = one.said.lines().filter(told).collect();
    println!("{}", lines.join("\n"));
    if let Some(errors) = one.failed.as_ref().filter(|_| lines.is_empty()) {
        println!("{start}{errors}");
    }
}

/// Leaves out what the failure does not need: kinds of trouble, then single events.
fn shrink(test: &str, failed: &Seen) {
    let Day { kind, seed } = failed.day;
    let mut plan = Plan::draw(kind, seed);
    let mut left_out: Vec<String> = Vec::new();
    let mut runs = 0;
    let mut smallest = None;
    let mut passes = [true, false].into_iter();
    let mut whole_kinds = passes.next();
    while let Some(kinds) = whole_kinds {
        let candidates: BTreeSet<String> = match kinds {
            true => plan.troubles().into_iter().collect(),
            false => {
                let numbers = plan.events.iter().map(|event| format!("#{}", event.number));
                numbers.collect()
            }
        };
        for candidate in candidates {
            if runs == SHRINKING {
                break;
            }
            runs += 1;
            let mut fewer = left_out.clone();
            fewer.push(candidate);
            let seen = failed.day.live(test, &fewer.join(","));
            if seen.failed.is_some() {
                plan = Plan::draw(kind, seed).without(&fewer.join(","));
                (left_out, smallest) = (fewer, Some(seen));
            }
        }
        whole_kinds = passes.next();
    }
    println!(
        "{} {seed}, as small as it gets in {runs} runs: {plan}",
        kind.name()
    );
    for event in &plan.events {
        println!("  {event:?}");
    }
    say(smallest.as_ref().unwrap_or(failed));
    println!(
        "  replay: cargo xtask sim --world {} --replay {seed} --without '{}'",
        kind.name(),
        left_out.join(",")
    );
}
