//! Acts, performed in the middle of work.

use super::*;
use crate::acts::Act;
use crate::operator::Operator;

/// Before the act: every partition has records in objects and in the log.
const WARM_UP: Duration = Duration::from_secs(4);
/// Longest wait for an act to be over, with one death or two in the middle of it.
const OVER_WITHIN: Duration = Duration::from_secs(60);

impl World {
    /// Performs `act`; its steps count from its beginning to its end.
    pub(super) async fn perform(&mut self, act: Act) {
        sleep(WARM_UP).await;
        self.say(&format!("ACT {} begins", act.name()));
        self.steps.begin(act);
        let seed = self.random.below(u64::MAX);
        let mut cluster = self.shared.cluster(seed, 17);
        let over = async {
            match act {
                Act::Takeover => self.take_over(&mut cluster).await,
                Act::Move => self.move_two(&mut cluster).await,
                Act::Drain => self.drain_one(&mut cluster).await,
                _ => sleep(act.lasts()).await,
            }
        };
        if timeout(OVER_WITHIN, over).await.is_err() {
            let problem = format!("I9: {} is not over within {OVER_WITHIN:?}", act.name());
            self.problems.push(problem);
        }
        self.steps.end();
        self.say(&format!("ACT {} is over", act.name()));
    }

    /// The last machine dies for good, and others take its partitions.
    async fn take_over(&self, cluster: &mut Cluster) {
        let dies = self.nemesis.machines.last().expect("there are several");
        dies.hold();
        dies.kill(true);
        let node = dies.plan.node;
        while !self.is_led_without(cluster, node).await {
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Two partitions go to the next broker.
    async fn move_two(&self, cluster: &mut Cluster) {
        let nodes: Vec<i32> = self.machines().map(|one| one.plan.node).collect();
        for index in 0..2 {
            let Some(leader) = leader(cluster, index).await else {
                continue;
            };
            let at = nodes.iter().position(|node| *node == leader).unwrap_or(0);
            let target = nodes[(at + 1) % nodes.len()];
            let moving = async {
                while leader_is_other(cluster, index, target).await {
                    let asked = mover::move_one(cluster, TOPIC, index, target).await;
                    self.say(&format!("move {TOPIC}-{index} to node {target}: {asked:?}"));
                    sleep(Duration::from_millis(500)).await;
                }
            };
            moving.await;
        }
    }

    /// A broker gives all it has to others.
    async fn drain_one(&self, cluster: &mut Cluster) {
        let node = leader(cluster, 0).await.unwrap_or(1);
        let operator = Operator::new(&self.shared, 79);
        operator.drain(node, true).await;
        while !self.is_led_without(cluster, node).await {
            sleep(Duration::from_millis(200)).await;
        }
        operator.drain(node, false).await;
    }

    /// Whether every partition is served, and none by `node`.
    async fn is_led_without(&self, cluster: &mut Cluster, node: i32) -> bool {
        let Ok(topic) = cluster.topic(TOPIC).await else {
            return false;
        };
        let mut partitions = topic.partitions.iter();
        partitions.all(|one| one.leader != node) && is_serving(cluster, self.plan.partitions).await
    }
}

async fn leader(cluster: &mut Cluster, index: i32) -> Option<i32> {
    let topic = cluster.topic(TOPIC).await.ok()?;
    let mut partitions = topic.partitions.iter();
    let found = partitions.find(|one| one.partition == index)?;
    Some(found.leader)
}

async fn leader_is_other(cluster: &mut Cluster, index: i32, target: i32) -> bool {
    leader(cluster, index).await != Some(target)
}
