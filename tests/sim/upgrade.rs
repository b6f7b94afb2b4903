//! F20: machines get a newer build, one after the other, and then the level is finalized, in the
//! middle of whatever else happens.
//!
//! ```text
//!   all at an old build, cluster at its level ─▶ one by one: stop or kill, newer build
//!        │ an operator in a hurry asks for the level: refused while a voter is old
//!        │ some go back to the old build, and forth again
//!        └─▶ all are newer ─▶ finalized ─▶ what the level allows begins, at other times everywhere
//! ```
//!
//! One build stands for two: the older one says that it knows less, and goes by the cluster's level.

use std::sync::Arc;
use std::time::Duration;

use controller::{NEWEST_LEVEL, OLDEST_LEVEL};
use env::sim::SimEntropy;
use tokio::time::sleep;

use crate::machine::Machine;
use crate::nemesis::Nemesis;
use crate::operator::{Finalized, Operator};
use crate::plan::Event;

/// Between two requests for the level.
const PAUSE: Duration = Duration::from_millis(500);

// === impl Nemesis ===

impl Nemesis {
    /// The whole of it.
    pub(super) async fn upgrade(&self, event: &Event, random: &SimEntropy) {
        let mut operator = Operator::new(&self.shared, random.below(u64::MAX));
        let mut machines: Vec<_> = self.machines.iter().collect();
        for at in (1..machines.len()).rev() {
            machines.swap(at, random.below(at as u64 + 1) as usize);
        }
        // Once the level may stand, no build goes back.
        let mut may_go_back = true;
        for machine in machines {
            if random.chance(30) {
                may_go_back &= self.ask_early(event, &mut operator).await;
            }
            self.replace(event, machine, NEWEST_LEVEL, random).await;
            if may_go_back && random.chance(20) {
                self.replace(event, machine, OLDEST_LEVEL, random).await;
                self.replace(event, machine, NEWEST_LEVEL, random).await;
            }
        }
        self.finalize(&mut operator).await;
        self.over(event);
    }

    /// What is left of it once the day is good.
    pub(crate) async fn finish_upgrade(&self) {
        for machine in &self.machines {
            machine.set_build(NEWEST_LEVEL);
        }
        self.finalize(&mut Operator::new(&self.shared, 80)).await;
    }

    async fn replace(
        &self,
        event: &Event,
        machine: &Arc<Machine>,
        build: u16,
        random: &SimEntropy,
    ) {
        let node = machine.plan.node;
        self.say(event, &format!("node {node} gets build {build}"));
        machine.set_build(build);
        if random.chance(30) {
            machine.kill(random.chance(50));
        } else {
            machine.ask_to_stop();
        }
        sleep(Duration::from_millis(200 + random.below(3000))).await;
    }

    /// Asks for the level too early, once. True when it is certain that it does not stand.
    async fn ask_early(&self, event: &Event, operator: &mut Operator) -> bool {
        let old = |machine: &&Arc<Machine>| machine.build() < NEWEST_LEVEL;
        let old: Vec<_> = self.machines.iter().filter(old).collect();
        let asked = operator.finalize(NEWEST_LEVEL).await;
        self.say(event, &format!("asked early: {asked:?}"));
        if asked != Finalized::Done {
            return matches!(asked, Finalized::Refused(_));
        }
        // Brokers that are fenced are not waited for; voters always are.
        let lost = *self.ledger.lost.lock().expect("no panic");
        let voters = old.iter().filter(|machine| machine.plan.controller);
        for voter in voters.filter(|voter| Some(voter.plan.node) != lost) {
            self.wrong(format!(
                "F20: level {NEWEST_LEVEL} was finalized while voter {} ran an older build",
                voter.plan.node
            ));
        }
        false
    }

    async fn finalize(&self, operator: &mut Operator) {
        loop {
            for machine in self.machines.iter().filter(|one| one.runs_old_build()) {
                machine.ask_to_stop();
            }
            if operator.finalize(NEWEST_LEVEL).await == Finalized::Done {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}
