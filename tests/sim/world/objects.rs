//! What metadata names at the end, asked of the controllers themselves while no broker runs.

use controller::{Client, Controller, ControllerSettings, NEWEST_LEVEL, PartitionState};
use futures::future::join_all;
use protocol::{NodeId, TopicPartition};

use super::*;
use crate::invariants::objects;
use crate::nemesis::LONGEST_JUMP_MS;

/// Longest wait for the controllers to stand alone.
const STANDING_WITHIN: Duration = Duration::from_secs(60);

/// Looks at what collection left; brokers live on between them.
const COLLECTED_TRIES: u32 = 4;
/// Nothing may be deleted for so long before a round of the collector or the sweeper.
const REST_QUIET: Duration = Duration::from_secs(12);
/// A put lands up to seven seconds late, and all that was left goes seconds after it.
const REST_LEAST: Duration = Duration::from_secs(14);
const REST_MOST: Duration = Duration::from_secs(120);

/// What the controllers say.
struct Metadata {
    named: Vec<PartitionState>,
    /// Why logs are set aside.
    set_aside: Vec<String>,
    /// Logs that are not closed.
    open: BTreeSet<String>,
    /// The level that is finalized.
    level: u16,
}

impl World {
    /// Ends every process, and starts the controllers alone, for `ask`.
    pub(super) async fn ask_controllers<T>(
        &self,
        ask: impl AsyncFnOnce(Client) -> Result<T, controller::Error>,
    ) -> Result<T, controller::Error> {
        for machine in &self.nemesis.machines {
            machine.hold();
            machine.kill(false);
        }
        for machine in &self.nemesis.machines {
            machine.ended().await;
        }
        let machines = self.nemesis.machines.iter();
        let voters: Vec<_> = machines.filter(|one| one.plan.controller).collect();
        let starting = voters.iter().map(|machine| self.start_controller(machine));
        let mut controllers = Vec::new();
        for started in join_all(starting).await {
            controllers.push(started?);
        }
        let answer = ask(controllers[0].client()).await;
        for controller in controllers {
            controller.shutdown().await?;
        }
        for machine in &self.nemesis.machines {
            self.nemesis.network.kill_host(machine.address());
        }
        answer
    }

    async fn start_controller(&self, machine: &Machine) -> Result<Controller, controller::Error> {
        let env = machine.host.env();
        let several = self.plan.machines.iter().filter(|one| one.controller);
        let voters: BTreeMap<_, _> = several
            .map(|one| (NodeId(one.node), machine::controller(one.node).to_string()))
            .collect();
        let listener = match voters.len() {
            1 => None,
            _ => {
                let bound = env.net.bind(machine::controller(machine.plan.node)).await;
                Some(bound.expect("no process runs on this machine"))
            }
        };
        let settings = ControllerSettings {
            dir: "/data/raft".into(),
            node: NodeId(machine.plan.node),
            voters,
            listener,
            cluster: None,
            generation: 1,
            lease: Duration::from_secs(3),
            tls: None,
            newest_level: NEWEST_LEVEL,
        };
        Controller::start(env, settings).await
    }

    /// I7, for all partitions: what is named is there; and where collection takes seconds, nothing
    /// else is, once it had its time.
    pub(super) async fn check_collection(&mut self) {
        let mut tries = if self.plan.hasty { COLLECTED_TRIES } else { 1 };
        self.outlive_wrong_clocks();
        loop {
            if self.plan.hasty {
                self.rest().await;
            }
            let Some(metadata) = self.metadata().await else {
                return;
            };
            let store = self.nemesis.store.clone();
            let problems = objects::check(&metadata.named, Arc::new(store)).await;
            if metadata.level != NEWEST_LEVEL {
                let problem = format!("F20: in the end the cluster is at level {}", metadata.level);
                self.problems.push(problem);
            }
            let lost = !problems.is_empty();
            self.problems.extend(problems);
            if !self.is_damaged() {
                let aside = metadata.set_aside.iter();
                let aside = aside.map(|why| format!("damage: a log is set aside: {why}"));
                self.problems.extend(aside);
            }
            let stored = self.nemesis.store.snapshot();
            let keys = stored.keys().map(ToString::to_string);
            let left = match self.plan.hasty {
                true => objects::left_over(keys, &metadata.named, &metadata.open),
                false => Vec::new(),
            };
            tries -= 1;
            if lost || left.is_empty() || tries == 0 {
                return self.problems.extend(left);
            }
            self.say(&format!("not collected yet: {left:?}"));
            for machine in &self.nemesis.machines {
                machine.wake();
            }
        }
    }

    /// What was condemned while a clock was fast has its grace once the right time has come there.
    fn outlive_wrong_clocks(&self) {
        let jumps = self
            .fired()
            .get(&format!("{:?}", Trouble::ClockJump))
            .copied();
        let by = jumps.unwrap_or(0) as i64 * LONGEST_JUMP_MS;
        for machine in &self.nemesis.machines {
            machine.clock().jump_wall(by);
        }
    }

    /// Until nothing of data or logs has changed for a while.
    async fn rest(&self) {
        let until = Instant::now() + REST_MOST;
        let mut before = Vec::new();
        let mut since = Instant::now();
        let least = Instant::now() + REST_LEAST;
        while Instant::now() < until {
            let stored = self.nemesis.store.snapshot();
            let keys = stored.into_keys().map(String::from);
            let keys: Vec<_> = keys.filter(|key| !key.contains("/meta/")).collect();
            if keys != before {
                (before, since) = (keys, Instant::now());
            } else if since.elapsed() > REST_QUIET && Instant::now() > least {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// What the controllers say, once they stand alone.
    async fn metadata(&mut self) -> Option<Metadata> {
        let asking = self.ask_controllers(async |client| {
            let image = client.image().borrow().clone();
            let mut named = Vec::new();
            for (topic, found) in image.topics_by_id.iter() {
                for index in 0..found.partitions.len() {
                    let tp = TopicPartition {
                        topic: *topic,
                        partition: index as i32,
                    };
                    named.extend(client.partition(tp).await?);
                }
            }
            let wals = image.wals.iter();
            let aside =
                wals.filter_map(|(id, wal)| Some(format!("{id}: {}", wal.quarantine.as_ref()?)));
            Ok(Metadata {
                named,
                set_aside: aside.collect(),
                open: image.wals.keys().map(ToString::to_string).collect(),
                level: image.level(),
            })
        });
        let problem = match timeout(STANDING_WITHIN, asking).await {
            Ok(Ok(metadata)) => return Some(metadata),
            Ok(Err(error)) => format!("the controllers do not start alone: {error}"),
            Err(_) => "the controllers do not stand alone".to_owned(),
        };
        self.problems.push(problem);
        None
    }
}
