//! What metadata names at the end, asked of the controllers themselves while no broker runs.

use controller::{Client, Controller, ControllerSettings};
use futures::future::join_all;
use protocol::{NodeId, TopicPartition};

use super::*;
use crate::invariants::objects;

/// Longest wait for the controllers to stand alone.
const STANDING_WITHIN: Duration = Duration::from_secs(60);

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
        };
        Controller::start(env, settings).await
    }

    /// I7, for all partitions.
    pub(super) async fn check_objects(&mut self) {
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
            Ok(named)
        });
        match timeout(STANDING_WITHIN, asking).await {
            Ok(Ok(named)) => {
                let store = Arc::new(self.nemesis.store.clone());
                self.problems.extend(objects::check(&named, store).await);
            }
            Ok(Err(error)) => self
                .problems
                .push(format!("the controllers do not start alone: {error}")),
            Err(_) => self
                .problems
                .push("the controllers do not stand alone".to_owned()),
        }
    }
}
