//! Planned moves: targets, draining, releases.

use std::collections::BTreeMap;

use protocol::{BrokerEpoch, NodeId};

use super::partitions::Led;
use super::{Answer, Effects, State};
use crate::command::{Load, MoveCommand, Release, Response, Target};
use crate::error::Refusal;
use crate::limits::{MAX_DRAINING, MAX_MOVES_PER_COMMAND};
use crate::placement::{Need, place};

/// How many partitions each broker leads.
type Loads = BTreeMap<BrokerEpoch, usize>;

impl State {
    pub(super) fn dispatch_move(&mut self, command: &MoveCommand, effects: &mut Effects) -> Answer {
        match command {
            MoveCommand::SetTargets(targets) => self.set_targets(targets, effects),
            MoveCommand::Drain { node, on } => self.drain(*node, *on, effects),
            MoveCommand::Leaving { broker } => self.leave(*broker, effects),
            MoveCommand::Release { broker, releases } => {
                self.release_many(*broker, releases, effects)
            }
            MoveCommand::ReportLoads { broker, loads } => self.report_loads(*broker, loads),
        }
    }

    fn set_targets(&mut self, targets: &[Target], effects: &mut Effects) -> Answer {
        check_count(targets.len())?;
        let answers = targets
            .iter()
            .map(|target| self.set_target(target, effects));
        Ok(Response::Many(answers.collect()))
    }

    fn set_target(&mut self, target: &Target, effects: &mut Effects) -> Answer {
        let tp = target.topic_partition;
        let Some(partition) = self.topics.partition(tp) else {
            return Err(Refusal::UnknownPartition { partition: tp });
        };
        let led_by = partition.leader.and_then(|epoch| self.brokers.get(&epoch));
        let led_by = led_by.map(|broker| broker.register.node);
        if let Some(node) = target.node {
            let registered = |b: &super::Broker| b.register.node == node && !b.fenced;
            let reason = if !self.brokers.values().any(registered) {
                format!("node {node} is not registered")
            } else if led_by != Some(node) && !self.takes(node) {
                format!("node {node} takes no partitions")
            } else {
                String::new()
            };
            if !reason.is_empty() {
                return Err(Refusal::InvalidAssignment { reason });
            }
        }
        let partition = self.topics.partition_mut(tp).expect("found above");
        partition.target = target.node.filter(|node| led_by != Some(*node));
        if target.preferred {
            partition.preferred = target.node;
        }
        effects.topics.insert(tp.topic);
        Ok(Response::Done)
    }

    fn drain(&mut self, node: NodeId, on: bool, effects: &mut Effects) -> Answer {
        if on {
            if self.draining.len() >= MAX_DRAINING && !self.draining.contains(&node) {
                return Err(Refusal::limit("draining nodes"));
            }
            let known = |b: &super::Broker| b.register.node == node;
            if !self.brokers.values().any(known) && !self.draining.contains(&node) {
                let reason = format!("node {node} is not registered");
                return Err(Refusal::invalid(reason));
            }
            self.draining.insert(node);
        } else {
            self.draining.remove(&node);
        }
        effects.brokers = true;
        Ok(Response::Done)
    }

    fn leave(&mut self, broker: BrokerEpoch, effects: &mut Effects) -> Answer {
        self.live_broker(broker)?;
        self.brokers.get_mut(&broker).expect("it lives").leaving = true;
        effects.brokers = true;
        Ok(Response::Done)
    }

    fn report_loads(&mut self, broker: BrokerEpoch, loads: &[Load]) -> Answer {
        check_count(loads.len())?;
        self.live_broker(broker)?;
        self.brokers.get_mut(&broker).expect("it lives").loads = loads.to_vec();
        Ok(Response::Done)
    }

    fn release_many(
        &mut self,
        broker: BrokerEpoch,
        releases: &[Release],
        effects: &mut Effects,
    ) -> Answer {
        check_count(releases.len())?;
        self.live_broker(broker)?;
        let takers = self.willing();
        let mut loads = self.loads();
        let mut answers = Vec::with_capacity(releases.len());
        for one in releases {
            let led = (broker, one.topic_partition, one.leader_epoch);
            let others = takers.iter().filter(|(_, epoch)| *epoch != broker);
            let others: Vec<_> = others.copied().collect();
            let own = self.brokers[&broker].register.node;
            let answer = match (one.to, others.is_empty()) {
                // It stays, at a higher leader epoch: whatever its owner does otherwise.
                (Some(node), _) if node == own => {
                    let stays = [(own, broker)];
                    self.give(led, one.end, one.to, (&stays, &mut loads), effects)
                }
                // Unlike a single release: one that nobody takes stays as it is.
                (None, true) => Err(Refusal::NotReady {
                    reason: "nobody else takes partitions".to_owned(),
                }),
                (None, false) => self.give(led, one.end, None, (&others, &mut loads), effects),
                (to, _) => self.give(led, one.end, to, (&takers, &mut loads), effects),
            };
            answers.push(answer);
        }
        Ok(Response::Many(answers))
    }

    pub(super) fn release(
        &mut self,
        led: Led,
        end: i64,
        to: Option<NodeId>,
        effects: &mut Effects,
    ) -> Answer {
        self.led(led)?;
        let takers = self.takers();
        // It stays with whom gives it away only when nobody else is there.
        let others = takers.iter().filter(|(_, epoch)| *epoch != led.0);
        let others: Vec<_> = others.copied().collect();
        let candidates = match to.is_some() || others.is_empty() {
            true => takers,
            false => others,
        };
        let mut loads = self.loads();
        self.give(led, end, to, (&candidates, &mut loads), effects)
    }

    /// Gives one partition to `to`, who must be among the takers, or to the one of them who leads
    /// least.
    fn give(
        &mut self,
        led: Led,
        end: i64,
        to: Option<NodeId>,
        (takers, loads): (&[(NodeId, BrokerEpoch)], &mut Loads),
        effects: &mut Effects,
    ) -> Answer {
        let partition = self.led(led)?;
        if partition.committed_end != end && !env::planted!("released-too-early") {
            let stands = partition.committed_end;
            return Err(Refusal::conflict(format!(
                "committed to {stands}, not to {end}"
            )));
        }
        let preferred = match to {
            Some(node) if !takers.iter().any(|(taker, _)| *taker == node) => {
                let reason = format!("node {node} cannot lead");
                return Err(Refusal::NotReady { reason });
            }
            Some(node) => Some(node),
            None => partition.preferred,
        };
        let placed = place(&[Need { preferred }], takers, loads)[0];
        let node = placed.map(|epoch| self.brokers[&epoch].register.node);
        let partition = self.topics.partition_mut(led.1).expect("led");
        // A target stands until it is reached: it may be away just now.
        partition.leader = None;
        if let Some(load) = loads.get_mut(&led.0) {
            *load = load.saturating_sub(1);
        }
        if let (Some(epoch), Some(node)) = (placed, node) {
            partition.open(epoch, node);
            *loads.entry(epoch).or_default() += 1;
        }
        effects.topics.insert(led.1.topic);
        Ok(Response::Released {
            leader_epoch: partition.leader_epoch,
            broker: placed,
        })
    }

    /// Brokers that can lead and do not drain, by node.
    pub(crate) fn willing(&self) -> Vec<(NodeId, BrokerEpoch)> {
        let mut leaders = self.leaders();
        leaders
            .retain(|(node, epoch)| !self.draining.contains(node) && !self.brokers[epoch].leaving);
        leaders
    }

    /// Who is given partitions: those who are willing; when nobody is, whoever can lead, since a
    /// partition without a leader serves nobody.
    pub(super) fn takers(&self) -> Vec<(NodeId, BrokerEpoch)> {
        let willing = self.willing();
        if willing.is_empty() {
            return self.leaders();
        }
        willing
    }

    fn takes(&self, node: NodeId) -> bool {
        self.willing().iter().any(|(taker, _)| *taker == node)
    }
}

fn check_count(count: usize) -> Result<(), Refusal> {
    if count > MAX_MOVES_PER_COMMAND {
        return Err(Refusal::limit("moves of one command"));
    }
    Ok(())
}
