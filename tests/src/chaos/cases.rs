//! How each trouble is brought, and taken back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fleet::Node;
use super::load::TOPIC;
use super::net::STORE;
use super::report::millis;
use super::run::{READY_WITHIN, Run};
use super::trouble::{Trouble, away, flaky};
use crate::faults::FaultSettings;

/// Longer than a lease and what follows it.
const CUT_FOR: Duration = Duration::from_secs(12);
/// Longer than a broker waits for a store that others reach, and what follows it.
const STORE_CUT_FOR: Duration = Duration::from_secs(40);
/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(20);
/// Between a cut and the death of another.
const KILLED_AFTER: Duration = Duration::from_secs(1);
/// Between the loss of the quorum and the start of one of its voters.
const WITHOUT_QUORUM: Duration = Duration::from_secs(3);

impl Run {
    /// The nodes that a trouble strikes.
    pub(super) fn struck(&mut self, trouble: Trouble) -> Result<Vec<Node>> {
        let mut nodes = self.fleet.nodes();
        let controller = self.fleet.controller();
        let quorum_loss = self.settings.combined / 2 + 1;
        match trouble {
            Trouble::StoreAway | Trouble::StoreFlaky | Trouble::Upgrade => return Ok(Vec::new()),
            Trouble::Roll => return Ok(nodes),
            Trouble::KillController | Trouble::CutController => {
                let leader = controller.context("no node says who leads the controllers")?;
                return Ok(vec![leader]);
            }
            Trouble::CutAndKill => {
                let leader = controller.context("no node says who leads the controllers")?;
                nodes.retain(|node| !self.fleet.votes(*node));
                self.random_order(&mut nodes);
                let leaders = self.load.leaders()?;
                let leads = |node: &Node| leaders.values().any(|leader| leader == node);
                let killed = nodes.into_iter().find(leads);
                let killed = killed.context("no broker without a vote leads anything")?;
                return Ok(vec![leader, killed]);
            }
            Trouble::KillQuorum => {
                nodes.retain(|node| self.fleet.votes(*node));
                self.random_order(&mut nodes);
                nodes.truncate(quorum_loss as usize);
                return Ok(nodes);
            }
            Trouble::Kill
            | Trouble::KillTwo
            | Trouble::Pause
            | Trouble::Zombie
            | Trouble::Stop
            | Trouble::Drain
            | Trouble::Move
            | Trouble::CutOneWay
            | Trouble::CutBroker
            | Trouble::CutStore => {}
        }
        nodes.retain(|node| Some(*node) != controller);
        self.random_order(&mut nodes);
        // Who leads nothing is struck by nothing.
        let leaders = self.load.leaders()?;
        nodes.sort_by_key(|node| !leaders.values().any(|leader| leader == node));
        let count = if trouble == Trouble::KillTwo { 2 } else { 1 };
        let mut chosen = Vec::new();
        let mut voters = 0;
        for node in nodes {
            let votes = i32::from(self.fleet.votes(node));
            if chosen.len() < count && voters + votes < quorum_loss {
                voters += votes;
                chosen.push(node);
            }
        }
        if chosen.len() < count {
            bail!("only {chosen:?} may be struck");
        }
        Ok(chosen)
    }

    /// Brings a trouble, until it has passed or can only be healed.
    pub(super) fn bring(&mut self, trouble: Trouble, nodes: &[Node]) -> Result<()> {
        match trouble {
            Trouble::Kill | Trouble::KillController | Trouble::KillTwo => self.kill(nodes),
            Trouble::KillQuorum => {
                self.kill(nodes)?;
                std::thread::sleep(WITHOUT_QUORUM);
                self.fleet.start(nodes[0])
            }
            Trouble::Pause => self.pause(nodes),
            Trouble::Zombie => nodes.iter().try_for_each(|node| self.zombie(*node)),
            Trouble::Stop => nodes.iter().try_for_each(|node| {
                let took = self.fleet.stop(*node, READY_WITHIN)?;
                println!("node {node} stopped in {} ms", millis(took));
                Ok(())
            }),
            Trouble::Roll => nodes.iter().try_for_each(|node| {
                self.fleet.stop(*node, READY_WITHIN)?;
                self.fleet.start(*node)?;
                self.fleet.wait_until_ready(READY_WITHIN)
            }),
            Trouble::Drain => nodes.iter().try_for_each(|node| self.drain(*node)),
            Trouble::Move => nodes.iter().try_for_each(|node| self.move_all(*node)),
            Trouble::StoreAway => {
                self.server.set_faults(away(self.settings.latency));
                self.wait_with_store()
            }
            Trouble::StoreFlaky => {
                self.server.set_faults(flaky(self.settings.latency));
                self.wait_with_store()
            }
            Trouble::CutOneWay
            | Trouble::CutBroker
            | Trouble::CutController
            | Trouble::CutAndKill
            | Trouble::CutStore => self.cut(trouble, nodes),
            Trouble::Upgrade => bail!("not a trouble of a run"),
        }
    }

    fn kill(&mut self, nodes: &[Node]) -> Result<()> {
        nodes.iter().try_for_each(|node| self.fleet.kill_9(*node))
    }

    fn pause(&mut self, nodes: &[Node]) -> Result<()> {
        let (shortest, longest) = self.settings.pause;
        let length = shortest + Duration::from_millis(self.below(millis(longest - shortest)));
        for node in nodes {
            self.fleet.signal(*node, "STOP")?;
        }
        let watched = self.watch_paused(nodes, length);
        for node in nodes {
            self.fleet.signal(*node, "CONT")?;
        }
        watched
    }

    /// Tells when others have taken over, as far as the cluster knows.
    fn watch_paused(&self, nodes: &[Node], length: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut leading = nodes.to_vec();
        while begun.elapsed() < length {
            let mut still = Vec::new();
            for node in leading {
                if self.fleet.leads(node, nodes)?.is_some_and(|led| led > 0) {
                    still.push(node);
                } else {
                    let took = millis(begun.elapsed());
                    println!("node {node} leads nothing {took} ms after it was paused");
                }
            }
            leading = still;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn wait_with_store(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(5000 + self.below(10_000)));
        self.server.set_faults(FaultSettings {
            latency: self.settings.latency,
            ..FaultSettings::default()
        });
        Ok(())
    }

    fn drain(&mut self, node: Node) -> Result<()> {
        let begun = Instant::now();
        let before = self.fleet.leads(node, &[])?.unwrap_or(0);
        let admin = self.fleet.admin_of_another(&[])?.to_string();
        let node = node.to_string();
        let drain = ["drain", &node, "--wait", "--within", "60"];
        self.fleet
            .command(&[&["broker", "--admin", &admin][..], &drain].concat())?;
        let took = millis(begun.elapsed());
        println!("node {node} gave {before} partitions away within {took} ms");
        Ok(())
    }

    /// Has a drained node take partitions again.
    pub(super) fn resume(&self, node: Node) -> Result<()> {
        let admin = self.fleet.admin_of_another(&[])?.to_string();
        let node = node.to_string();
        let resume = ["broker", "--admin", &admin, "resume", &node];
        self.fleet.command(&resume).map(drop)
    }

    fn move_all(&mut self, node: Node) -> Result<()> {
        let leaders = self.load.leaders()?;
        let led = leaders.iter().filter(|(_, leader)| **leader == node);
        let moved: Vec<String> = led.map(|(index, _)| index.to_string()).collect();
        let others: Vec<Node> = self.fleet.nodes();
        let mut others: Vec<Node> = others.into_iter().filter(|n| *n != node).collect();
        self.random_order(&mut others);
        if moved.is_empty() {
            println!("node {node} leads nothing: nothing to move");
            return Ok(());
        }
        let to = others.first().context("no other node")?.to_string();
        let bootstrap = self.fleet.bootstrap();
        let mut arguments = vec![
            "topic",
            "--bootstrap",
            &bootstrap,
            "move",
            TOPIC,
            "--to",
            &to,
        ];
        for index in &moved {
            arguments.extend(["--partition", index]);
        }
        let begun = Instant::now();
        self.fleet.command(&arguments)?;
        let (count, took) = (moved.len(), millis(begun.elapsed()));
        println!("{count} partitions moved from node {node} to {to} within {took} ms");
        Ok(())
    }

    fn cut(&mut self, trouble: Trouble, nodes: &[Node]) -> Result<()> {
        let (node, killed) = (nodes[0], &nodes[1..]);
        let net = self.fleet.net().context("no network of our own")?.clone();
        let nodes = self.fleet.nodes().into_iter();
        let voters = nodes.filter(|other| self.fleet.votes(*other) && *other != node);
        let mut lost: Vec<(Node, Node)> = match trouble {
            Trouble::CutStore => vec![(node, STORE)],
            _ => voters.map(|voter| (node, voter)).collect(),
        };
        if !matches!(trouble, Trouble::CutOneWay | Trouble::CutStore) {
            let back: Vec<_> = lost.iter().map(|(from, to)| (*to, *from)).collect();
            lost.extend(back);
        }
        for (from, to) in &lost {
            net.cut(*from, *to)?;
        }
        if !killed.is_empty() {
            std::thread::sleep(KILLED_AFTER);
            self.kill(killed)?;
        }
        std::thread::sleep(match trouble {
            Trouble::CutStore => STORE_CUT_FOR,
            _ => CUT_FOR + Duration::from_millis(self.below(4000)),
        });
        for (from, to) in &lost {
            net.mend(*from, *to)?;
        }
        Ok(())
    }

    /// Starts what does not run, and takes back what lasts. A process that has ended by itself is a
    /// problem.
    pub(super) fn heal(&mut self, trouble: Trouble, nodes: &[Node]) -> Result<()> {
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
        self.fleet.wait_until_ready(READY_WITHIN)?;
        if matches!(trouble, Trouble::Drain | Trouble::Zombie) {
            nodes.iter().try_for_each(|node| self.resume(*node))?;
        }
        Ok(())
    }
}
