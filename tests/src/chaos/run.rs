//! One run: start everything, bring trouble after trouble, read everything, judge.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use env::SplitMix;

use super::fleet::{Fleet, Node, Plan};
use super::load::Load;
use super::report::{Case, Report, millis};
use super::trouble::{Trouble, away, flaky};
use crate::faults::{FaultSettings, Latency};
use crate::s3::{S3Server, S3Settings};

/// A start or a healing that takes longer is a problem.
const READY_WITHIN: Duration = Duration::from_secs(60);
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
    /// Latency of the store.
    pub latency: Option<Latency>,
    /// Further settings of every node.
    pub settings: Vec<(String, String)>,
    /// Where data and logs lie; a temporary directory without it.
    pub keep: Option<PathBuf>,
    /// Where cases are appended as JSON lines.
    pub out: Option<PathBuf>,
}

struct Run {
    settings: Settings,
    random: SplitMix,
    server: S3Server,
    runtime: tokio::runtime::Runtime,
    fleet: Fleet,
    load: Load,
    report: Report,
    problems: Vec<String>,
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
    let out = settings.out.clone();
    let begun = Instant::now();
    let mut run = Run::begin(settings, &dir)?;
    let lived = run.live();
    if let Err(error) = lived {
        run.problems.push(format!("{error:#}"));
    }
    let (server, runtime) = (run.server, run.runtime);
    let mut problems = run.problems;
    let mut anomalies = Vec::new();
    let (mut acknowledged, mut failed) = (0, (0, 0));
    match run.load.finish(Duration::from_secs(120)) {
        Ok(seen) => {
            problems.extend(seen.problems());
            anomalies = seen.anomalies();
            acknowledged = seen.acknowledged();
            failed = seen.failed();
        }
        Err(error) => problems.push(format!("not everything can be read: {error:#}")),
    }
    drop(run.fleet);
    let (puts, gets, others) = server.requests();
    println!("{}", run.report.table());
    println!(
        "{:.0} s, {} troubles, {acknowledged} records acknowledged, {} failed, {} acknowledged \
         without an offset; {puts} puts, {gets} gets, {others} other requests to the store, {} of \
         them spoilt; {} anomalies",
        begun.elapsed().as_secs_f64(),
        run.report.troubles(),
        failed.0,
        failed.1,
        server.injected(),
        anomalies.len(),
    );
    if let Some(out) = &out {
        run.report.write(out)?;
    }
    runtime.block_on(server.shutdown());
    for anomaly in anomalies.iter().take(20) {
        println!("ANOMALY {anomaly:?}");
    }
    for problem in &problems {
        println!("PROBLEM {problem}");
    }
    if anomalies.is_empty() && problems.is_empty() {
        return Ok(());
    }
    bail!("{} anomalies, {} problems", anomalies.len(), problems.len())
}

impl Run {
    fn begin(settings: Settings, dir: &std::path::Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let good = FaultSettings {
            latency: settings.latency,
            ..FaultSettings::default()
        };
        let server = S3Settings {
            seed: settings.seed,
            faults: good,
            ..S3Settings::default()
        };
        let server = runtime.block_on(S3Server::start(server))?;
        let mut more = vec![("wal.backend".to_owned(), settings.wal.clone())];
        more.extend(settings.settings.clone());
        let plan = Plan {
            combined: settings.combined,
            brokers: settings.brokers,
            store_url: server.url("chaos"),
            settings: more,
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
            &fleet.bootstrap(),
            settings.partitions,
            settings.record_bytes,
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
        })
    }

    fn live(&mut self) -> Result<()> {
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

    fn below(&mut self, most: u64) -> u64 {
        self.random.draw() % most.max(1)
    }

    fn random_order<T>(&mut self, all: &mut [T]) {
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
        let gaps = self.load.seen.gaps(from, Instant::now());
        let is_struck = |index: &i32| {
            let leader = leaders.get(index);
            leader.is_some_and(|leader| nodes.contains(leader))
        };
        let of = |wanted: bool| -> Vec<u64> {
            let chosen = gaps.iter().filter(|(index, _)| is_struck(index) == wanted);
            chosen.map(|(_, gap)| millis(*gap)).collect()
        };
        let case = Case {
            trouble: trouble.to_string(),
            struck_ms: of(true),
            others_ms: of(false),
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
        self.heal()?;
        self.calm("after healing")
    }

    /// The nodes that a trouble strikes.
    fn struck(&mut self, trouble: Trouble) -> Result<Vec<Node>> {
        let mut nodes = self.fleet.nodes();
        let controller = self.fleet.controller();
        match trouble {
            Trouble::StoreAway | Trouble::StoreFlaky => return Ok(Vec::new()),
            Trouble::Roll => return Ok(nodes),
            Trouble::KillController => {
                let leader = controller.context("no node says who leads the controllers")?;
                return Ok(vec![leader]);
            }
            Trouble::Kill | Trouble::KillTwo | Trouble::Pause | Trouble::Stop => {}
        }
        nodes.retain(|node| Some(*node) != controller);
        self.random_order(&mut nodes);
        let count = if trouble == Trouble::KillTwo { 2 } else { 1 };
        nodes.truncate(count);
        Ok(nodes)
    }

    fn bring(&mut self, trouble: Trouble, nodes: &[Node]) -> Result<()> {
        match trouble {
            Trouble::Kill | Trouble::KillController | Trouble::KillTwo => {
                for node in nodes {
                    self.fleet.kill_9(*node)?;
                }
            }
            Trouble::Pause => {
                let length = Duration::from_millis(10_000 + self.below(10_000));
                for node in nodes {
                    self.fleet.signal(*node, "STOP")?;
                }
                std::thread::sleep(length);
                for node in nodes {
                    self.fleet.signal(*node, "CONT")?;
                }
            }
            Trouble::Stop => {
                for node in nodes {
                    let took = self.fleet.stop(*node, READY_WITHIN)?;
                    println!("node {node} stopped in {} ms", millis(took));
                }
            }
            Trouble::Roll => {
                for node in nodes {
                    self.fleet.stop(*node, READY_WITHIN)?;
                    self.fleet.start(*node)?;
                    self.fleet.wait_until_ready(READY_WITHIN)?;
                }
            }
            Trouble::StoreAway => {
                let length = Duration::from_millis(5000 + self.below(10_000));
                self.server.set_faults(away(self.settings.latency));
                std::thread::sleep(length);
                self.good_store();
            }
            Trouble::StoreFlaky => {
                let length = Duration::from_millis(5000 + self.below(10_000));
                self.server.set_faults(flaky(self.settings.latency));
                std::thread::sleep(length);
                self.good_store();
            }
        }
        Ok(())
    }

    fn good_store(&self) {
        self.server.set_faults(FaultSettings {
            latency: self.settings.latency,
            ..FaultSettings::default()
        });
    }

    /// Starts what does not run. A process that has ended by itself is a problem.
    fn heal(&mut self) -> Result<()> {
        for node in self.fleet.ended()? {
            let log = self.fleet.log(node);
            self.problems.push(format!(
                "node {node} has ended by itself: see {}",
                log.display()
            ));
            self.fleet.kill_9(node)?;
        }
        for node in self.fleet.absent() {
            self.fleet.start(node)?;
        }
        self.fleet.wait_until_ready(READY_WITHIN)
    }
}
