//! The build before this one, whose nodes were a controller and a broker in one process each: what it
//! left is rolled to this build and back under load, until the level is finalized; and a cluster that
//! it began is grown to three nodes, which are rolled at its level.
//!
//! Once the log holds what only this build knows, the build before refuses it.
//!
//! One node of the build before beside nodes of this one cannot be: it speaks to no other controller.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::fleet::{Fleet, Node, Own, Plan};
use super::load::Load;
use super::net::Net;
use super::report::millis;
use super::run::{READY_WITHIN, Settings, Verdict, start_store};

/// Names the program of the build before.
const OLD: &str = "HEADWATER_OLD_BIN";
/// How long each build serves between two rolls.
const SERVES_FOR: Duration = Duration::from_secs(5);
const VOTERS: i32 = 3;

struct Upgrade {
    settings: Settings,
    fleet: Fleet,
    old: PathBuf,
    problems: Vec<String>,
}

/// # Errors
/// Whatever is lost, or wrong.
pub(super) fn run(settings: &Settings, dir: &Path) -> Result<()> {
    let old = std::env::var_os(OLD)
        .with_context(|| format!("{OLD} names no program: run this by `cargo xtask chaos`"))?;
    let old = PathBuf::from(old);
    ensure!(old.is_file(), "{} is not there", old.display());
    ensure!(Net::inside().is_none(), "upgrades are run on loopback");
    let (server, runtime) = start_store(settings, None)?;
    let begin = |name: &str, combined: i32| -> Result<Upgrade> {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let plan = Plan {
            combined,
            brokers: 0,
            store_url: server.url(name),
            settings: vec![("wal.backend".to_owned(), settings.wal.clone())],
            net: None,
        };
        Ok(Upgrade {
            settings: settings.clone(),
            fleet: Fleet::new(&dir, plan)?,
            old: old.clone(),
            problems: Vec::new(),
        })
    };
    println!("one node: older, newer, older, newer, finalized");
    let one = begin("one", 1)?.one();
    println!("three nodes, of a cluster that the older build began");
    let three = begin("three", VOTERS)?.three();
    runtime.block_on(server.shutdown());
    one.context("one node")?;
    three.context("three nodes")
}

// === impl Upgrade ===

impl Upgrade {
    fn one(mut self) -> Result<()> {
        self.older(1);
        self.fleet.start(1)?;
        self.fleet.wait_until_ready(READY_WITHIN)?;
        let load = self.load()?;
        self.calm(&load, "the older build")?;
        for newer in [true, false, true] {
            let begun = Instant::now();
            self.fleet.stop(1, READY_WITHIN)?;
            match newer {
                true => self.newer(1),
                false => self.older(1),
            }
            self.fleet.start(1)?;
            self.fleet.wait_until_ready(READY_WITHIN)?;
            let name = if newer { "newer" } else { "older" };
            let took = millis(begun.elapsed());
            println!("rolled to the {name} build within {took} ms");
            self.calm(&load, name)?;
        }
        self.expect_level(1)?;
        self.finalize()?;
        self.write_at_the_new_level()?;
        self.calm(&load, "the newer build, finalized")?;
        self.fleet.stop(1, READY_WITHIN)?;
        self.refused()?;
        self.newer(1);
        self.fleet.start(1)?;
        self.fleet.wait_until_ready(READY_WITHIN)?;
        self.calm(&load, "after the older build was refused")?;
        Verdict::of(load, self.problems).tell()
    }

    fn three(mut self) -> Result<()> {
        self.older(1);
        self.fleet.start(1)?;
        self.fleet.wait_until_ready(READY_WITHIN)?;
        self.fleet.stop(1, READY_WITHIN)?;
        for node in 1..=VOTERS {
            self.fleet.give(node, Own::default());
        }
        self.fleet.start(1)?;
        self.fleet.wait_until_ready(READY_WITHIN)?;
        for node in 2..=VOTERS {
            self.fleet.start(node)?;
            self.add_voter(node)?;
            self.fleet.wait_until_ready(READY_WITHIN)?;
        }
        let load = self.load()?;
        self.calm(&load, "three nodes")?;
        self.roll(&load, "at level 1")?;
        self.expect_level(1)?;
        self.finalize()?;
        self.roll(&load, "finalized")?;
        Verdict::of(load, self.problems).tell()
    }

    fn load(&self) -> Result<Load> {
        let settings = &self.settings;
        Load::start(
            settings.clients(&self.fleet),
            settings.partitions,
            settings.record_bytes,
            settings.java,
        )
    }

    fn roll(&mut self, load: &Load, when: &str) -> Result<()> {
        for node in 1..=VOTERS {
            let begun = Instant::now();
            self.fleet.stop(node, READY_WITHIN)?;
            self.fleet.start(node)?;
            self.fleet.wait_until_ready(READY_WITHIN)?;
            let took = millis(begun.elapsed());
            println!("node {node} rolled {when} within {took} ms");
            self.calm(load, when)?;
        }
        Ok(())
    }

    /// The build before, as its users had it configured.
    fn older(&mut self, node: Node) {
        let own = Own {
            program: Some(self.old.clone()),
            settings: Some(self.alone(node)),
        };
        self.fleet.give(node, own);
    }

    /// This build, with the same settings.
    fn newer(&mut self, node: Node) {
        let own = Own {
            program: None,
            settings: Some(self.alone(node)),
        };
        self.fleet.give(node, own);
    }

    fn alone(&self, node: Node) -> Vec<(String, String)> {
        let kafka = format!("PLAINTEXT://{}", self.fleet.kafka(node));
        vec![("listeners".to_owned(), kafka)]
    }

    /// Every partition takes writes, and goes on to.
    fn calm(&self, load: &Load, when: &str) -> Result<()> {
        for _ in 0..2 {
            let begun = Instant::now();
            loop {
                let silent = load.seen.silent(self.settings.partitions, begun);
                if silent.is_empty() {
                    break;
                }
                if begun.elapsed() > READY_WITHIN {
                    bail!("{when}: partitions {silent:?} take no writes");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(SERVES_FOR);
        }
        Ok(())
    }

    fn add_voter(&self, node: Node) -> Result<()> {
        let bootstrap = self.fleet.kafka(1).to_string();
        let address = self.fleet.controller_address(node).to_string();
        let begun = Instant::now();
        let add = ["cluster", "--bootstrap", &bootstrap, "add-voter", &address];
        // As soon as it listens.
        while let Err(error) = self.fleet.command(&add) {
            if begun.elapsed() > READY_WITHIN {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("node {node} votes");
        Ok(())
    }

    fn expect_level(&mut self, level: u64) -> Result<()> {
        let bootstrap = self.fleet.bootstrap();
        let describe = ["cluster", "-b", &bootstrap, "-o", "json", "describe"];
        let page: serde_json::Value = serde_json::from_str(&self.fleet.command(&describe)?)?;
        let features = page["features"].as_array().into_iter().flatten();
        let mut own = features.filter(|one| one["feature"] == "headwater.version");
        let told = own.next().and_then(|one| one["level"].as_u64());
        ensure!(told.unwrap_or(1) == level, "not at level {level}: {page:#}");
        Ok(())
    }

    fn finalize(&mut self) -> Result<()> {
        let bootstrap = self.fleet.bootstrap();
        let finalize = ["cluster", "--bootstrap", &bootstrap, "finalize"];
        let begun = Instant::now();
        // A controller that has just come to lead has not heard every broker yet, and says so.
        while let Err(error) = self.fleet.command(&finalize) {
            if begun.elapsed() > READY_WITHIN || !error.to_string().contains("not ready") {
                return Err(error);
            }
            println!("{error:#}");
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("finalized");
        Ok(())
    }

    /// Until the log holds what the build before cannot read, that build may go on: it knows no
    /// levels.
    fn write_at_the_new_level(&self) -> Result<()> {
        let admin = self.fleet.admin_of_another(&[])?.to_string();
        for word in ["drain", "resume"] {
            let command = ["broker", "--admin", &admin, word, "1"];
            self.fleet.command(&command)?;
        }
        Ok(())
    }

    /// The build before ends by itself, and says why.
    fn refused(&mut self) -> Result<()> {
        self.older(1);
        let said_before = std::fs::metadata(self.fleet.log(1))?.len();
        self.fleet.start(1)?;
        let begun = Instant::now();
        while self.fleet.ended()?.is_empty() {
            if begun.elapsed() > READY_WITHIN {
                let what = "the older build goes on after the level was finalized".to_owned();
                self.problems.push(what);
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.fleet.kill_9(1)?;
        let log = std::fs::read_to_string(self.fleet.log(1))?;
        let said = log.get(said_before as usize..).unwrap_or_default();
        let last = said
            .lines()
            .rfind(|line| line.to_lowercase().contains("error"));
        println!("the older build says: {}", last.unwrap_or("nothing"));
        Ok(())
    }
}
