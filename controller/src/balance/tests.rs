//! It comes to rest, never goes back and forth, and keeps to its budget.

use std::time::Duration;

use protocol::TopicId;
use uuid::Uuid;

use super::*;

const SETTINGS: BalancerSettings = BalancerSettings {
    interval: Duration::from_secs(60),
    moves: 10,
    threshold_percent: 10,
};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn view(nodes: &[&[(i32, u64)]]) -> View {
    let mut view = View::default();
    for (node, parts) in nodes.iter().enumerate() {
        let part = |(index, load): &(i32, u64)| {
            let load = [*load; 3];
            let stays = false;
            (tp(*index), Part { load, stays })
        };
        let parts = parts.iter().map(part).collect();
        view.nodes.insert(NodeId(node as i32), parts);
    }
    view
}

fn apply(view: &mut View, moves: &[BalanceMove]) {
    for one in moves {
        let parts = view.nodes.get_mut(&one.from).unwrap();
        let part = parts.remove(&one.topic_partition).unwrap();
        let parts = view.nodes.get_mut(&one.to).unwrap();
        parts.insert(one.topic_partition, part);
    }
}

fn totals(view: &View) -> Vec<u64> {
    weigh(view).values().map(|node| node.total).collect()
}

#[test]
fn constant_load_comes_to_rest_within_the_budget() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        let nodes = 2 + dice.below(6) as i32;
        let mut view = View::default();
        for node in 0..nodes {
            view.nodes.insert(NodeId(node), BTreeMap::new());
        }
        for index in 0..(1 + dice.below(120)) as i32 {
            let most = 1 + dice.below(nodes as u64);
            let node = NodeId(dice.below(most) as i32);
            let heavy = if dice.below(20) == 0 { 1000 } else { 10 };
            let load = [0; 3].map(|_: u64| dice.below(heavy));
            let stays = false;
            let parts = view.nodes.get_mut(&node).unwrap();
            parts.insert(tp(index), Part { load, stays });
        }
        let squares = |view: &View| {
            let totals = totals(view).into_iter().map(u128::from);
            totals.map(|total| total * total).sum::<u128>()
        };
        let mut rounds = 0;
        loop {
            let before = squares(&view);
            let moves = decide(&view, SETTINGS);
            assert!(moves.len() <= SETTINGS.moves);
            if moves.is_empty() {
                break;
            }
            apply(&mut view, &moves);
            assert!(squares(&view) < before, "nothing goes back and forth");
            rounds += 1;
            assert!(rounds < 100, "it comes to rest");
        }
    }
}

#[test]
fn a_new_node_fills_and_even_ones_stay_as_they_are() {
    let all: Vec<(i32, u64)> = (0..30).map(|index| (index, 100)).collect();
    let mut view = view(&[&all[..15], &all[15..], &[]]);
    let moves = decide(&view, SETTINGS);
    assert!(moves.iter().all(|one| one.to == NodeId(2)));
    assert!(moves[0].reason.contains("node 0"), "{}", moves[0].reason);
    apply(&mut view, &moves);
    let counts: Vec<_> = view.nodes.values().map(BTreeMap::len).collect();
    assert!(
        counts.iter().all(|count| (9..=11).contains(count)),
        "{counts:?}"
    );
    assert_eq!(decide(&view, SETTINGS), []);
}

#[test]
fn what_does_not_pay_is_left() {
    // Three to two: moving one only turns it round.
    assert_eq!(
        decide(
            &view(&[&[(0, 1), (1, 1), (2, 1)], &[(3, 1), (4, 1)]]),
            SETTINGS
        ),
        []
    );
    // One partition that carries everything is better off alone, wherever it is.
    let moves = decide(&view(&[&[(0, 1000)], &[(1, 1), (2, 1)]]), SETTINGS);
    assert_eq!(moves, []);
    // Its small neighbours go instead.
    let moves = decide(&view(&[&[(0, 1000), (1, 0), (2, 0)], &[(3, 0)]]), SETTINGS);
    assert!(moves.iter().all(|one| one.topic_partition != tp(0)));
    assert!(!moves.is_empty());
}

#[test]
fn nothing_moves_while_a_log_is_waited_for_or_alone() {
    let full: Vec<(i32, u64)> = (0..30).map(|index| (index, 100)).collect();
    let mut two = view(&[&full, &[]]);
    assert!(!decide(&two, SETTINGS).is_empty());
    two.waiting = 1;
    assert_eq!(decide(&two, SETTINGS), []);
    assert_eq!(decide(&view(&[&full]), SETTINGS), []);
    let mut moving = view(&[&full, &[]]);
    for part in moving.nodes.get_mut(&NodeId(0)).unwrap().values_mut() {
        part.stays = true;
    }
    assert_eq!(decide(&moving, SETTINGS), [], "all are on their way");
}

#[test]
fn load_counts_not_only_partitions() {
    // As many each, but one node has all the traffic.
    let mut view = view(&[
        &[(0, 500), (1, 500), (2, 500), (3, 500)],
        &[(4, 0), (5, 0), (6, 0), (7, 0)],
    ]);
    let moves = decide(&view, SETTINGS);
    assert_eq!(moves[0].from, NodeId(0));
    apply(&mut view, &moves);
    let totals = totals(&view);
    assert!(totals[0].abs_diff(totals[1]) < WHOLE / 10, "{totals:?}");
}

#[test]
fn what_is_reported_beyond_all_bounds_counts_as_much_and_no_decision_is_too_large() {
    let load = |bytes_in| Load {
        topic_partition: tp(0),
        bytes_in,
        bytes_out: u64::MAX,
        requests: u64::MAX,
    };
    let loads = known(&[load(1), load(u64::MAX), load(7)]);
    assert_eq!(loads[&tp(0)][1..], [u64::MAX; 2]);
    let full: Vec<(i32, u64)> = (0..1_000).map(|index| (index, 1)).collect();
    let greedy = BalancerSettings {
        moves: usize::MAX,
        ..SETTINGS
    };
    let moves = decide(&view(&[&full, &[]]), greedy);
    assert_eq!(moves.len(), MAX_BALANCE_MOVES);
}

/// Nodes 1 to 3; partitions (leader, target, preferred).
fn image(partitions: &[(i32, Option<i32>, Option<i32>)]) -> Image {
    let broker = |node: i32| crate::image::BrokerImage {
        node: NodeId(node),
        wal: Some(wal::WalId(Uuid::from_u128(9))),
        fenced: node == 3,
        ..Default::default()
    };
    let partition = |(leader, target, preferred): &(i32, Option<i32>, Option<i32>)| {
        crate::image::PartitionImage {
            leader: Some(NodeId(*leader)),
            target: target.map(NodeId),
            preferred: preferred.map(NodeId),
            ..Default::default()
        }
    };
    let topic = crate::image::TopicImage {
        name: "t".into(),
        id: tp(0).topic,
        internal: false,
        created_ms: 0,
        configs: BTreeMap::new(),
        partitions: partitions.iter().map(partition).collect(),
    };
    let brokers = (1..=3).map(|node| (protocol::BrokerEpoch(node as u64), broker(node)));
    Image {
        brokers: brokers.collect::<BTreeMap<_, _>>().into(),
        topics_by_id: BTreeMap::from([(topic.id, topic.into())]).into(),
        ..Image::default()
    }
}

#[test]
fn what_an_operator_placed_stays_and_who_carries_it_counts() {
    let placed = [
        (1, None, None),
        (1, None, Some(1)),
        (1, None, Some(2)),
        (1, Some(2), None),
        // Its target is away.
        (1, Some(3), None),
    ];
    let view = View::new(&image(&placed), &[]);
    assert_eq!(
        view.nodes.keys().copied().collect::<Vec<_>>(),
        [NodeId(1), NodeId(2)]
    );
    let stays = |node: i32| -> Vec<(i32, bool)> {
        let parts = view.nodes[&NodeId(node)].iter();
        parts.map(|(tp, part)| (tp.partition, part.stays)).collect()
    };
    assert_eq!(stays(1), [(0, false), (1, true), (2, false), (4, true)]);
    assert_eq!(stays(2), [(3, true)]);
}
