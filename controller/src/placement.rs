//! Who leads what: pure. The least loaded live broker takes the next partition; a preferred node
//! is honoured while it lives.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{BrokerEpoch, NodeId};

/// A partition that needs a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The node that a manual assignment names first, or that a release names.
    pub(crate) preferred: Option<NodeId>,
}

/// A leader for each of `needs`, in their order; all `None` when nobody is there.
///
/// `leaders` are the brokers that can lead, `loads` how many partitions each leads already.
pub(crate) fn place(
    needs: &[Need],
    leaders: &[(NodeId, BrokerEpoch)],
    loads: &BTreeMap<BrokerEpoch, usize>,
) -> Vec<Option<BrokerEpoch>> {
    let mut by_load = BTreeSet::new();
    let mut by_node = BTreeMap::new();
    for (node, epoch) in leaders {
        let load = loads.get(epoch).copied().unwrap_or(0);
        by_load.insert((load, *node, *epoch));
        by_node.insert(*node, (load, *epoch));
    }
    needs
        .iter()
        .map(|need| {
            let wanted = need.preferred.and_then(|node| {
                by_node
                    .get(&node)
                    .map(|(load, epoch)| (*load, node, *epoch))
            });
            let chosen = wanted.or_else(|| by_load.first().copied())?;
            let (load, node, epoch) = chosen;
            by_load.remove(&chosen);
            by_load.insert((load + 1, node, epoch));
            by_node.insert(node, (load + 1, epoch));
            Some(epoch)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(count: u64) -> Vec<(NodeId, BrokerEpoch)> {
        (0..count)
            .map(|n| (NodeId(n as i32), BrokerEpoch(n + 10)))
            .collect()
    }

    #[test]
    fn partitions_spread_evenly_from_what_stands() {
        let loads = BTreeMap::from([(BrokerEpoch(10), 4), (BrokerEpoch(11), 0)]);
        let placed = place(&[Need { preferred: None }; 8], &leaders(3), &loads);
        let mut totals = loads;
        for epoch in placed {
            *totals.entry(epoch.unwrap()).or_default() += 1;
        }
        assert_eq!(totals.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    }

    #[test]
    fn a_preferred_node_is_honoured_while_it_lives() {
        let needs = [
            Need {
                preferred: Some(NodeId(2)),
            },
            Need {
                preferred: Some(NodeId(9)),
            },
        ];
        let placed = place(&needs, &leaders(3), &BTreeMap::new());
        assert_eq!(placed, [Some(BrokerEpoch(12)), Some(BrokerEpoch(10))]);
    }

    #[test]
    fn nobody_there_leaves_all_without_leader() {
        assert_eq!(
            place(&[Need { preferred: None }; 2], &[], &BTreeMap::new()),
            [None, None]
        );
    }
}
