//! As many partitions for each member as subscriptions allow, moving as few as that takes.
//!
//! Where all subscribe to the same, quotas say who keeps what. Where they do not, everything that
//! nobody has goes to its subscriber with the least; then, as long as a member has two more than
//! another it can reach, one partition moves along each step of the way between them. Without such
//! a way no assignment is more even.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{TopicId, TopicPartition};

use super::{Assignment, Task};

pub(super) fn assign(task: &Task) -> Vec<Assignment> {
    let shares: Vec<BTreeSet<TopicId>> = task
        .members
        .iter()
        .map(|member| task.shares(member).map(|(topic, _)| topic).collect())
        .collect();
    let Some(first) = shares.first() else {
        return Vec::new();
    };
    let (kept, free) = keep(task, &shares);
    if shares.iter().all(|share| share == first) {
        by_quota(kept, free)
    } else {
        Levelling::new(kept, &shares).finish(&free)
    }
}

/// What members keep of their previous targets, and what nobody has. A partition of two previous
/// targets, as a log that was cut off may have, stays with the first.
fn keep(task: &Task, shares: &[BTreeSet<TopicId>]) -> (Vec<Assignment>, Vec<TopicPartition>) {
    let mut taken = BTreeSet::new();
    let mut kept = Vec::with_capacity(task.members.len());
    for (member, share) in task.members.iter().zip(shares) {
        kept.push(
            member
                .previous
                .iter()
                .filter(|partition| share.contains(&partition.topic) && task.exists(*partition))
                .filter(|partition| taken.insert(*partition))
                .collect::<Assignment>(),
        );
    }
    let subscribed: BTreeSet<TopicId> = shares.iter().flatten().copied().collect();
    let free = subscribed
        .iter()
        .flat_map(|topic| {
            (0..task.topics[topic]).map(|partition| TopicPartition::new(*topic, partition))
        })
        .filter(|partition| !taken.contains(partition))
        .collect();
    (kept, free)
}

/// All subscribe to the same: each has the same quota, and those who have most get what is over.
fn by_quota(mut kept: Vec<Assignment>, mut free: Vec<TopicPartition>) -> Vec<Assignment> {
    let total = free.len() + kept.iter().map(Assignment::len).sum::<usize>();
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|index| Reverse(kept[*index].len()));
    let mut quotas = vec![total / kept.len(); kept.len()];
    for index in order.into_iter().take(total % kept.len()) {
        quotas[index] += 1;
    }
    for (member, quota) in kept.iter_mut().zip(&quotas) {
        let surplus: Vec<_> = member.iter().skip(*quota).collect();
        for partition in surplus {
            member.remove(partition);
            free.push(partition);
        }
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    for (member, quota) in kept.iter_mut().zip(&quotas) {
        let missing = quota - member.len();
        member.extend(free.by_ref().take(missing));
    }
    assert!(free.next().is_none(), "the quotas are as many as there are");
    kept
}

/// Subscriptions differ.
struct Levelling {
    targets: Vec<Assignment>,
    loads: Vec<usize>,
    subscribers: BTreeMap<TopicId, Vec<usize>>,
}

impl Levelling {
    fn new(targets: Vec<Assignment>, shares: &[BTreeSet<TopicId>]) -> Self {
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (index, share) in shares.iter().enumerate() {
            for topic in share {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        Self {
            loads: targets.iter().map(Assignment::len).collect(),
            targets,
            subscribers,
        }
    }

    fn finish(mut self, free: &[TopicPartition]) -> Vec<Assignment> {
        let mut free = free.to_vec();
        // Topics that few may have come first: the others can still even things out.
        free.sort_by_key(|partition| (self.subscribers[&partition.topic].len(), *partition));
        for partition in free {
            let least = self.subscribers[&partition.topic]
                .iter()
                .min_by_key(|index| self.loads[**index])
                .expect("a topic nobody subscribed to is not free");
            self.targets[*least].insert(partition);
            self.loads[*least] += 1;
        }
        while self.level() {}
        self.targets
    }

    /// One pass over all members, those with most first; false if none could give anything.
    fn level(&mut self) -> bool {
        let mut order: Vec<usize> = (0..self.loads.len()).collect();
        order.sort_by_key(|index| Reverse(self.loads[*index]));
        let mut moved = false;
        for from in order {
            while let Some(way) = self.way_down(from) {
                moved = true;
                for (giver, taker, partition) in way {
                    self.targets[giver].remove(partition);
                    self.targets[taker].insert(partition);
                    self.loads[giver] -= 1;
                    self.loads[taker] += 1;
                }
            }
        }
        moved
    }

    /// The shortest way from a member to one with at least two less: who gives what to whom.
    fn way_down(&self, from: usize) -> Option<Vec<(usize, usize, TopicPartition)>> {
        let least = self.loads.iter().min().copied().unwrap_or(0);
        if self.loads[from] < least + 2 {
            return None;
        }
        let mut came_by: Vec<Option<(usize, TopicPartition)>> = vec![None; self.loads.len()];
        let mut seen_topics = BTreeSet::new();
        let mut queue = VecDeque::from([from]);
        while let Some(giver) = queue.pop_front() {
            for (topic, partitions) in self.targets[giver].topics() {
                // The first who reaches a topic reaches all of its subscribers.
                if !seen_topics.insert(topic) {
                    continue;
                }
                let last = *partitions.last().expect("no topic of it is empty");
                for taker in &self.subscribers[&topic] {
                    if *taker == from || came_by[*taker].is_some() {
                        continue;
                    }
                    came_by[*taker] = Some((giver, TopicPartition::new(topic, last)));
                    if self.loads[*taker] + 2 <= self.loads[from] {
                        return Some(trace(&came_by, from, *taker));
                    }
                    queue.push_back(*taker);
                }
            }
        }
        None
    }
}

/// The steps of a way, from its end.
fn trace(
    came_by: &[Option<(usize, TopicPartition)>],
    from: usize,
    to: usize,
) -> Vec<(usize, usize, TopicPartition)> {
    let mut way = Vec::new();
    let mut taker = to;
    while taker != from {
        let (giver, partition) = came_by[taker].expect("reached by a way from the start");
        way.push((giver, taker, partition));
        taker = giver;
    }
    way
}
