//! One run: start everything, bring trouble after trouble, read everything, judge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use env::SplitMix;

use super::fleet::{Fleet, Plan};
use super::load::{By, Clients, Load, Seen};
use super::net::Net;
use super::report::{Case, Report, millis};
use super::trouble::{Needs, Trouble};
use crate::faults::{FaultSettings, Latency};
use crate::s3::{S3Server, S3Settings};

/// A start or a healing that takes longer is a problem.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);
/// Within this after the end of a trouble every partition takes writes (I9).
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// A partition without an acknowledgement for this long is not calm.
const CALM: Duration = Duration::from_millis(700);
/// How long a case is watched at least.
const WATCHED: Duration = Duration::from_secs(4);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What everything random is drawn from.
    pub seed: u64,
    /// No further trouble begins after this.
    pub length: Duration,
    /// The kinds to choose from; each comes in turn, in random order.
    pub troubles: Vec<Trouble>,
    /// Nodes that are controllers and brokers.
    pub combined: i32,
    /// Nodes that are brokers only.
    pub brokers: i32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// `object` or `disk`.
    pub wal: String,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// The Java client produces and reads too.
    pub java: bool,
    /// How long clients wait for an answer.
    pub client_timeout: Duration,
    /// A broker is paused for so long: the shortest and the longest time.
    pub pause: (Duration, Duration),
    /// Latency of the store.
    pub latency: Option<Latency>,
    /// Further settings of every node.
    pub settings: Vec<(String, String)>,
    /// Where data and logs lie; a temporary directory without it.
    pub keep: Option<PathBuf>,
    /// Where cases are appended as JSON lines.
    pub out: Option<PathBuf>,
}

pub(super) struct Run {
    pub(super) settings: Settings,
    pub(super) random: SplitMix,
    pub(super) server: S3Server,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) fleet: Fleet,
    pub(super) load: Load,
    report: Report,
    pub(super) problems: Vec<String>,
    /// What this machine does not allow, or this fleet is too small for, and why.
    skipped: BTreeMap<Trouble, String>,
}

/// What came of the clients.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) problems: Vec<String>,
    anomalies: Vec<crate::history::Anomaly>,
    acknowledged: usize,
    failed: (u64, u64),
    java: u64,
}

/// Runs it; prints what happens, and in the end what came of it.
///
/// # Errors
/// Anomalies and problems, or what kept it from running at all.
pub fn run(settings: Settings) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = match &settings.keep {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            dir.clone()
        }
        None => temporary.path().to_owned(),
    };
    if settings.troubles.contains(&Trouble::Upgrade) {
        return super::upgrade::run(&settings, &dir);
    }
    let out = settings.out.clone();
    let begun = Instant::now();
    let mut run = Run::begin(settings, &dir)?;
    let lived = run.live();
    if let Err(error) = lived {
        run.problems.push(format!("{error:#}"));
    }
    let (server, runtime) = (run.server, run.runtime);
    let verdict = Verdict::of(run.load, run.problems);
    drop(run.fleet);
    let (puts, gets, others) = server.requests();
    println!("{}", run.report.table());
    println!(
        "{:.0} s, {} troubles; {puts} puts, {gets} gets, {others} other requests to the store, {} \
         of them spoilt",
        begun.elapsed().as_secs_f64(),
        run.report.troubles(),
        server.injected(),
    );
    for (trouble, why) in &run.skipped {
        println!("SKIPPED {trouble}: {why}");
    }
    if let Some(out) = &out {
        run.report.write(out)?;
    }
    runtime.block_on(server.shutdown());
    verdict.tell()
}

// === impl Settings ===

impl Settings {
    pub(super) fn clients(&self, fleet: &Fleet) -> Clients {
        Clients {
            bootstrap: fleet.bootstrap(),
            timeout: self.client_timeout,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Ends the clients, reads everything, and judges it.
    pub(super) fn of(load: Load, problems: Vec<String>) -> Self {
        let mut verdict = Self {
            problems,
            ..Self::default()
        };
        match load.finish(Duration::from_secs(120)) {
            Ok(seen) => verdict.judge(&seen),
            Err(error) => {
                let what = format!("not everything can be read: {error:#}");
                verdict.problems.push(what);
            }
        }
        verdict
    }

    fn judge(&mut self, seen: &Seen) {
        self.problems.extend(seen.problems());
        self.anomalies = seen.anomalies();
        self.acknowledged = seen.acknowledged();
        self.failed = seen.failed();
        self.java = seen.of_java();
    }

    /// Prints it.
    ///
    /// # Errors
    /// When anything is wrong.
    pub(super) fn tell(&self) -> Result<()> {
        println!(
            "{} records acknowledged ({} of them by the Java client), {} failed, {} acknowledged \
             without an offset; {} anomalies",
            self.acknowledged,
            self.java,
            self.failed.0,
            self.failed.1,
            self.anomalies.len(),
        );
        for anomaly in self.anomalies.iter().take(20) {
            println!("ANOMALY {anomaly:?}");
        }
        for problem in &self.problems {
            println!("PROBLEM {problem}");
        }
        if self.anomalies.is_empty() && self.problems.is_empty() {
            return Ok(());
        }
        let (anomalies, problems) = (self.anomalies.len(), self.problems.len());
        bail!("{anomalies} anomalies, {problems} problems")
    }
}

/// The store, and what runs it.
pub(super) fn start_store(
    settings: &Settings,
    net: Option<&Net>,
) -> Result<(S3Server, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut store = S3Settings {
        seed: settings.seed,
        faults: FaultSettings {
            latency: settings.latency,
            ..FaultSettings::default()
        },
        ..S3Settings::default()
    };
    if let Some(net) = net {
        store.isolated = true;
        store.listen = SocketAddr::new(net.store(), 0);
    }
    let server = runtime.block_on(S3Server::start(store))?;
    Ok((server, runtime))
}

impl Run {
    fn begin(settings: Settings, dir: &std::path::Path) -> Result<Self> {
        let net = Net::inside();
        let (server, runtime) = start_store(&settings, net.as_ref())?;
        let mut more = vec![("wal.backend".to_owned(), settings.wal.clone())];
        more.extend(settings.settings.clone());
        let plan = Plan {
            combined: settings.combined,
            brokers: settings.brokers,
            store_url: server.url("chaos"),
            settings: more,
            net,
        };
        let mut fleet = Fleet::new(dir, plan)?;
        let began = Instant::now();
        for node in fleet.nodes() {
            fleet.start(node)?;
        }
        fleet.wait_until_ready(READY_WITHIN)?;
        println!(
            "{} nodes ready after {} ms; logs in {}",
            fleet.nodes().len(),
            millis(began.elapsed()),
            dir.display()
        );
        let load = Load::start(
            settings.clients(&fleet),
            settings.partitions,
            settings.record_bytes,
            settings.java,
        )?;
        Ok(Self {
            random: SplitMix::new(settings.seed),
            settings,
            server,
            runtime,
            fleet,
            load,
            report: Report::default(),
            problems: Vec::new(),
            skipped: BTreeMap::new(),
        })
    }

    /// Why a trouble cannot be brought here.
    fn impossible(&self, trouble: Trouble) -> Option<String> {
        let (voters, all) = (self.settings.combined, self.fleet.nodes().len());
        let few = |least: usize| (all < least).then(|| format!("{all} nodes are too few"));
        match trouble {
            _ if trouble.needs() == Needs::Net && self.fleet.net().is_none() => {
                Some("this machine lets us make no network of our own".to_owned())
            }
            _ if trouble.needs() == Needs::Alone => Some("it runs only by itself".to_owned()),
            Trouble::KillTwo => few(4).or_else(|| (voters < 3).then(|| few_voters(voters))),
            Trouble::KillQuorum | Trouble::CutController => {
                (voters < 3).then(|| few_voters(voters))
            }
            Trouble::CutAndKill if self.settings.brokers < 1 => {
                Some("every broker has a vote".to_owned())
            }
            Trouble::CutAndKill => (voters < 3).then(|| few_voters(voters)),
            _ => few(2),
        }
    }

    fn live(&mut self) -> Result<()> {
        for trouble in std::mem::take(&mut self.settings.troubles) {
            match self.impossible(trouble) {
                Some(why) => {
                    println!("SKIPPED {trouble}: {why}");
                    self.skipped.insert(trouble, why);
                }
                None => self.settings.troubles.push(trouble),
            }
        }
        let end = Instant::now() + self.settings.length;
        self.calm("at the start")?;
        let mut left: Vec<Trouble> = Vec::new();
        while Instant::now() < end {
            if left.is_empty() {
                left = self.settings.troubles.clone();
                self.random_order(&mut left);
            }
            let Some(trouble) = left.pop() else {
                bail!("no kind of trouble to choose from");
            };
            self.case(trouble)
                .with_context(|| format!("in {trouble}"))?;
        }
        Ok(())
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.random.draw() % most.max(1)
    }

    pub(super) fn random_order<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            all.swap(at, other);
        }
    }

    /// Waits until every partition has taken writes for a while.
    fn calm(&mut self, when: &str) -> Result<()> {
        let begun = Instant::now();
        let mut since = begun;
        while since.elapsed() < 3 * CALM {
            let now = Instant::now();
            let silent = self
                .load
                .seen
                .silent(self.settings.partitions, now - CALM.min(now - begun));
            if !silent.is_empty() {
                since = now;
                if begun.elapsed() > READY_WITHIN {
                    bail!("partitions {silent:?} take no writes {when}");
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Brings one trouble, heals it, and notes how long writes stood still.
    fn case(&mut self, trouble: Trouble) -> Result<()> {
        let leaders = self.load.leaders()?;
        let nodes = self.struck(trouble)?;
        let from = Instant::now();
        self.bring(trouble, &nodes)?;
        let ended = Instant::now();
        // Back again: it takes writes, whoever leads.
        let all_by = loop {
            let silent = self.load.seen.silent(self.settings.partitions, ended);
            if silent.is_empty() {
                break Instant::now();
            }
            if ended.elapsed() > HEALED_WITHIN {
                let what = format!("{trouble}: partitions {silent:?} take no writes");
                self.problems
                    .push(format!("{what} {HEALED_WITHIN:?} later"));
                break Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        while from.elapsed() < WATCHED {
            std::thread::sleep(Duration::from_millis(20));
        }
        let now = Instant::now();
        let is_struck = |index: &i32| {
            let leader = leaders.get(index);
            leader.is_some_and(|leader| nodes.contains(leader))
        };
        let of = |by: By, wanted: bool| -> Vec<u64> {
            let gaps = self.load.seen.gaps(by, from, now).into_iter();
            let chosen = gaps.filter(|(index, _)| is_struck(index) == wanted);
            chosen.map(|(_, gap)| millis(gap)).collect()
        };
        let case = Case {
            trouble: trouble.to_string(),
            struck_ms: of(By::Librdkafka, true),
            java_ms: of(By::Java, true),
            others_ms: of(By::Librdkafka, false),
            all_ms: millis(all_by - from),
            nodes: nodes.clone(),
        };
        let most = |gaps: &[u64]| gaps.iter().max().copied().unwrap_or(0);
        println!(
            "{trouble} of {nodes:?}: {} partitions struck, longest gap {} ms; others {} ms; all take \
             writes after {} ms",
            case.struck_ms.len(),
            most(&case.struck_ms),
            most(&case.others_ms),
            case.all_ms
        );
        self.report.add(trouble, case);
        self.heal(trouble, &nodes)?;
        self.calm("after healing")
    }
}

fn few_voters(voters: i32) -> String {
    format!("{voters} voters are too few")
}
