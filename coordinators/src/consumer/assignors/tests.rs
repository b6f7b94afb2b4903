//! Balance, stickiness and ranges, against every other assignment where there are few.

use super::*;
use crate::consumer::tests::{partitions, topic_id};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

fn task(topics: &[(u128, i32)], members: &[&[u128]]) -> Task {
    let candidate = |(index, topics): (usize, &&[u128])| Candidate {
        member_id: format!("m{index}").into(),
        instance_id: None,
        topics: topics.iter().map(|topic| topic_id(*topic)).collect(),
        previous: Assignment::new(),
    };
    Task {
        members: members.iter().enumerate().map(candidate).collect(),
        topics: (topics.iter().map(|(id, count)| (topic_id(*id), *count))).collect(),
    }
}

fn loads(targets: &[Assignment]) -> Vec<usize> {
    let mut loads: Vec<_> = targets.iter().map(Assignment::len).collect();
    loads.sort_unstable();
    loads
}

/// Each partition somebody subscribed to is with one of its subscribers.
fn check(task: &Task, targets: &[Assignment]) {
    let mut all = Assignment::new();
    for (member, target) in task.members.iter().zip(targets) {
        for partition in target.iter() {
            assert!(member.topics.contains(&partition.topic) && task.exists(partition));
            assert!(all.insert(partition), "{partition} twice");
        }
    }
    let expected: Assignment = task
        .members
        .iter()
        .flat_map(|member| task.shares(member))
        .flat_map(|(topic, count)| (0..count).map(move |index| TopicPartition::new(topic, index)))
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn ranges_are_cut_alike() {
    let task = task(&[(1, 5), (2, 5), (3, 1)], &[&[1, 2, 9], &[1, 2, 3], &[2]]);
    let targets = Assignor::Range.assign(&task);
    check(&task, &targets);
    let mut first = partitions(1, &[0, 1, 2]);
    first.extend(partitions(2, &[0, 1]).iter());
    assert_eq!(targets[0], first);
    let mut second = partitions(1, &[3, 4]);
    second.extend(partitions(2, &[2, 3]).iter());
    second.extend(partitions(3, &[0]).iter());
    assert_eq!(targets[1], second);
    assert_eq!(targets[2], partitions(2, &[4]));
}

#[test]
fn static_members_have_the_first_ranges_whatever_their_ids() {
    let mut task = task(&[(1, 3)], &[&[1], &[1], &[1]]);
    task.members[2].instance_id = Some("a".into());
    let targets = Assignor::Range.assign(&task);
    assert_eq!(targets[2], partitions(1, &[0]));
    assert_eq!(targets[0], partitions(1, &[1]));
}

#[test]
fn members_without_topics_and_groups_without_members_have_nothing() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert_eq!(assignor.assign(&Task::default()), []);
        let none = task(&[], &[&[1], &[]]);
        assert_eq!(
            assignor.assign(&none),
            [Assignment::new(), Assignment::new()]
        );
    }
}

#[test]
fn uniform_moves_no_more_than_it_must() {
    let mut dice = Dice(7);
    for _ in 0..2_000 {
        let mut one = task(
            &[(1, 1 + dice.roll(7) as i32), (2, dice.roll(7) as i32)],
            &[],
        );
        let mut targets: Vec<Assignment> = Vec::new();
        for round in 0..6 {
            // Members come and go.
            let member = task(&[], &[&[1, 2]]).members.remove(0);
            if one.members.is_empty() || dice.roll(2) == 0 {
                one.members.push(Candidate {
                    member_id: format!("m{round}").into(),
                    ..member
                });
                targets.push(Assignment::new());
            } else {
                let gone = dice.roll(one.members.len());
                one.members.remove(gone);
                targets.remove(gone);
            }
            for (member, target) in one.members.iter_mut().zip(&targets) {
                member.previous = target.clone();
            }
            if one.members.is_empty() {
                continue;
            }
            targets = Assignor::Uniform.assign(&one);
            check(&one, &targets);
            assert_eq!(targets, Assignor::Uniform.assign(&one));
            let loads = loads(&targets);
            assert!(loads[loads.len() - 1] <= loads[0] + 1, "{loads:?}");
            // Quotas and who has how many say how many can stay at best.
            let total: usize = loads.iter().sum();
            let (least, mut larger) = (total / loads.len(), total % loads.len());
            let mut had: Vec<_> = one.members.iter().map(|one| one.previous.len()).collect();
            had.sort_unstable_by(|a, b| b.cmp(a));
            let best: usize = had
                .iter()
                .map(|had| {
                    let quota = least + usize::from(larger > 0);
                    larger = larger.saturating_sub(1);
                    quota.min(*had)
                })
                .sum();
            let stayed: usize = one
                .members
                .iter()
                .zip(&targets)
                .map(|(member, target)| member.previous.common(target).len())
                .sum();
            assert_eq!(stayed, best);
        }
    }
}

/// The most even loads there are, by trying all.
fn most_even(task: &Task) -> Vec<usize> {
    let all: Vec<TopicPartition> = task
        .topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(|index| TopicPartition::new(*topic, index)))
        .collect();
    let mut best: Option<(usize, Vec<usize>)> = None;
    let mut choice = vec![0; all.len()];
    loop {
        let mut loads = vec![0; task.members.len()];
        let fits = all.iter().zip(&choice).all(|(partition, member)| {
            loads[*member] += 1;
            task.members[*member].topics.contains(&partition.topic)
        });
        if fits {
            let squares: usize = loads.iter().map(|load| load * load).sum();
            loads.sort_unstable();
            if best.as_ref().is_none_or(|(least, _)| squares < *least) {
                best = Some((squares, loads));
            }
        }
        let Some(next) = choice
            .iter()
            .position(|member| member + 1 < task.members.len())
        else {
            return best.expect("each topic has a subscriber").1;
        };
        choice[next] += 1;
        choice[..next].fill(0);
    }
}

#[test]
fn uniform_is_as_even_as_differing_subscriptions_allow() {
    let mut dice = Dice(11);
    let subsets: [&[u128]; 6] = [&[1], &[2], &[3], &[1, 2], &[2, 3], &[1, 2, 3]];
    for _ in 0..300 {
        let mut members: Vec<&[u128]> = (0..2).map(|_| subsets[dice.roll(6)]).collect();
        members.push(&[1, 2, 3]);
        let topics: Vec<_> = (1..=3).map(|id| (id, dice.roll(3) as i32)).collect();
        let mut one = task(&topics, &members);
        let all: Vec<_> = partitions(1, &[0, 1])
            .iter()
            .chain(partitions(2, &[0, 1]).iter())
            .collect();
        for partition in all {
            let member = dice.roll(3);
            one.members[member].previous.insert(partition);
        }
        let targets = Assignor::Uniform.assign(&one);
        check(&one, &targets);
        assert_eq!(loads(&targets), most_even(&one), "{one:?}");
        // And then it stays.
        for (member, target) in one.members.iter_mut().zip(&targets) {
            member.previous = target.clone();
        }
        assert_eq!(Assignor::Uniform.assign(&one), targets);
    }
}
