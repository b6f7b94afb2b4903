//! Who should lead what, by measured load: a pure decision.
//!
//! ```text
//!   loads reported by brokers ─▶ weights ─▶ heaviest to lightest, while it pays ─▶ SetTargets
//! ```
//!
//! **Invariants:** every move lessens the sum of squares of the nodes' weights, so that constant
//! load comes to rest; a move is made only while a node stands out by more than the threshold, and
//! only if it takes a good part of that away, or of a partition's mean weight; nothing moves while
//! any partition waits for a log, and never what an operator has placed where it is.

mod keeper;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use protocol::{NodeId, TopicPartition};

pub use keeper::Balancer;

use crate::command::Load;
use crate::image::Image;
use crate::limits::MAX_BALANCE_MOVES;
use crate::state::State;

/// The weight of all load together: weights are parts of it.
const WHOLE: u64 = 1_000_000_000;
/// Of a hundred, what each of these counts for: bytes in, bytes out, requests, partitions.
const SHARES: [u64; 4] = [30, 25, 15, 30];

/// How the balancer goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalancerSettings {
    /// Time between two decisions: long enough for loads to be measured anew.
    pub interval: std::time::Duration,
    /// Moves that may begin within any minute.
    pub moves: usize,
    /// Percent of the mean by which a node must stand out before anything moves.
    pub threshold_percent: u64,
}

/// One move, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceMove {
    /// What.
    pub topic_partition: TopicPartition,
    /// From whom.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// For people.
    pub reason: String,
}

/// What the decision is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Per node that takes partitions: what it leads, or is about to.
    pub(crate) nodes: BTreeMap<NodeId, BTreeMap<TopicPartition, Part>>,
    /// Partitions that wait for a log.
    pub(crate) waiting: usize,
}

/// A partition as the decision sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its load; none when nobody reported it.
    pub(crate) load: [u64; 3],
    /// It is on its way already, or an operator has placed it where it is.
    pub(crate) stays: bool,
}

/// What is best done now: at most `settings.moves` moves, and no more than a command takes.
pub(crate) fn decide(view: &View, settings: BalancerSettings) -> Vec<BalanceMove> {
    let mut moves = Vec::new();
    if view.waiting > 0 || view.nodes.len() < 2 {
        return moves;
    }
    let mut nodes = weigh(view);
    let total: u64 = nodes.values().map(|node| node.total).sum();
    let mean = total / nodes.len() as u64;
    let threshold = mean * settings.threshold_percent / 100;
    let parts = view.nodes.values().map(BTreeMap::len).sum::<usize>();
    // Of very many partitions none does much, and together they do.
    let least = (threshold / 4).min(total / parts.max(1) as u64 / 4);
    while moves.len() < settings.moves.min(MAX_BALANCE_MOVES) {
        let Some(one) = best(&nodes, mean, (threshold, least)) else {
            break;
        };
        let (from, to) = (&nodes[&one.from], &nodes[&one.to]);
        let percent = |weight: u64| weight * 100 / mean.max(1);
        let reason = format!(
            "node {} carries {}% of the mean, node {} {}%: this partition is {}%",
            one.from,
            percent(from.total),
            one.to,
            percent(to.total),
            percent(one.weight),
        );
        moves.push(BalanceMove {
            topic_partition: one.topic_partition,
            from: one.from,
            to: one.to,
            reason,
        });
        let weight = one.weight;
        let from = nodes.get_mut(&one.from).expect("just seen");
        from.parts.remove(&one.topic_partition);
        from.total -= weight;
        // It is not moved again by the same decision.
        nodes.get_mut(&one.to).expect("just seen").total += weight;
    }
    moves
}

/// A node's weight, and those of its partitions that may move.
struct Node {
    total: u64,
    parts: BTreeMap<TopicPartition, u64>,
}

struct Candidate {
    topic_partition: TopicPartition,
    from: NodeId,
    to: NodeId,
    weight: u64,
}

fn weigh(view: &View) -> BTreeMap<NodeId, Node> {
    let parts = view.nodes.values().flat_map(BTreeMap::values);
    let mut totals = [0u64; 4];
    for part in parts {
        for (total, load) in totals.iter_mut().zip(part.load) {
            *total = total.saturating_add(load);
        }
        totals[3] += 1;
    }
    let weight = |part: &Part| -> u64 {
        let [bytes_in, bytes_out, requests] = part.load;
        let shares = [bytes_in, bytes_out, requests, 1].into_iter();
        let parts = shares.zip(totals).zip(SHARES);
        // A dimension in which nothing happens weighs nothing.
        let parts = parts.filter(|((_, total), _)| *total > 0);
        let weights = parts.map(|((one, total), share)| {
            let whole = u128::from(WHOLE / 100 * share);
            (u128::from(one) * whole / u128::from(total)) as u64
        });
        weights.sum()
    };
    let node = |parts: &BTreeMap<TopicPartition, Part>| Node {
        total: parts.values().map(weight).sum(),
        parts: parts
            .iter()
            .filter(|(_, part)| !part.stays)
            .map(|(tp, part)| (*tp, weight(part)))
            .collect(),
    };
    view.nodes
        .iter()
        .map(|(id, parts)| (*id, node(parts)))
        .collect()
}

/// The move that brings the heaviest node that can give something nearest to the lightest.
fn best(
    nodes: &BTreeMap<NodeId, Node>,
    mean: u64,
    (threshold, least): (u64, u64),
) -> Option<Candidate> {
    let (to, lightest) = nodes.iter().min_by_key(|(id, node)| (node.total, **id))?;
    let mut heavy: Vec<_> = nodes.iter().filter(|(id, _)| *id != to).collect();
    heavy.sort_by_key(|(id, node)| (Reverse(node.total), **id));
    for (from, node) in heavy {
        let stands_out = node.total > mean + threshold || lightest.total + threshold < mean;
        if node.total <= mean || !stands_out {
            continue;
        }
        let gap = node.total - lightest.total;
        // What takes the most away without making the lightest the heaviest; a good part of the
        // threshold at least, or it does not pay.
        let gain = |weight: u64| weight.min(gap.saturating_sub(weight));
        let best = node
            .parts
            .iter()
            // Of two that do as much, the one that carries less.
            .max_by_key(|(tp, weight)| (gain(**weight), Reverse(**weight), Reverse(**tp)));
        if let Some((tp, weight)) = best
            && gain(*weight) > least
        {
            return Some(Candidate {
                topic_partition: *tp,
                from: *from,
                to: *to,
                weight: *weight,
            });
        }
    }
    None
}

impl State {
    /// What brokers that live reported.
    pub(crate) fn reported_loads(&self) -> Vec<Load> {
        let live = self.brokers.values().filter(|broker| !broker.fenced);
        live.flat_map(|broker| broker.loads.iter().copied())
            .collect()
    }
}

impl View {
    /// What the balancer sees of `image`, with `loads` as reported.
    pub(crate) fn new(image: &Image, loads: &[Load]) -> Self {
        let takers = image.takers();
        let nodes = takers.iter().map(|node| (*node, BTreeMap::new()));
        let mut view = Self {
            nodes: nodes.collect(),
            waiting: 0,
        };
        let loads = known(loads);
        for topic in image.topics_by_id.values() {
            for (partition, index) in topic.partitions.iter().zip(0i32..) {
                view.waiting += usize::from(partition.awaits.is_some());
                // Until its target takes partitions, whoever leads it carries it.
                let target = partition.target.filter(|node| takers.contains(node));
                let Some(node) = target.or(partition.leader) else {
                    continue;
                };
                if let Some(parts) = view.nodes.get_mut(&node) {
                    let tp = TopicPartition::new(topic.id, index);
                    let load = loads.get(&tp).copied().unwrap_or_default();
                    let placed = partition.preferred == Some(node);
                    let stays = partition.target.is_some() || placed;
                    parts.insert(tp, Part { load, stays });
                }
            }
        }
        view
    }
}

/// The load of each partition. Two reporters: one of them led it before, and the larger is the safer
/// guess.
fn known(reported: &[Load]) -> BTreeMap<TopicPartition, [u64; 3]> {
    let sum = |load: &[u64; 3]| load.iter().fold(0u64, |sum, one| sum.saturating_add(*one));
    let mut loads: BTreeMap<TopicPartition, [u64; 3]> = BTreeMap::new();
    for load in reported {
        let told = [load.bytes_in, load.bytes_out, load.requests];
        let known = loads.entry(load.topic_partition).or_default();
        if sum(&told) > sum(known) {
            *known = told;
        }
    }
    loads
}
