//! Which broker does what only one should: pure functions of the image, so that all agree without
//! asking each other. Images differ for a moment: two then do the same, which claims (for a dead
//! log) and repeatable steps (for chores) make safe.

use std::cmp::Reverse;

use protocol::{BrokerEpoch, NodeId};
use wal::WalId;

use crate::command::WalBackend;
use crate::image::{BrokerImage, Image};
use crate::state::WalPhase;

// === impl Image ===

impl Image {
    /// Who recovers the dead log `id`: whoever claimed it, while it lives; else its own node, once
    /// that is back; else, for a log in the object store, one of the brokers that can lead, by
    /// rendezvous hash, so that the logs of several dead brokers spread. Each heir that gives a log
    /// of the object store up, or dies at it, passes it to the next in that order. `None` while nobody may: a log
    /// that is not dead, that is set aside, or whose node is the only one that can.
    pub fn heir(&self, id: WalId) -> Option<BrokerEpoch> {
        let wal = self.wals.get(&id)?;
        if wal.quarantine.is_some() {
            return None;
        }
        match wal.phase {
            WalPhase::Active | WalPhase::Closed { .. } => return None,
            WalPhase::Claimed { heir, .. } if self.is_live(heir) => return Some(heir),
            WalPhase::Claimed { .. } | WalPhase::Fenced => {}
        }
        let own = self
            .live_brokers()
            .filter(|(_, broker)| broker.node == wal.node)
            .map(|(epoch, _)| epoch)
            .max();
        match wal.backend {
            WalBackend::Disk | WalBackend::Memory => own,
            WalBackend::Object => self.drawn(id, own, wal.yields.wrapping_add(wal.deaths)),
        }
    }

    /// Who does the chores of the cluster: of the brokers that can lead and are not about to leave,
    /// the one that has been there longest.
    pub fn housekeeper(&self) -> Option<BrokerEpoch> {
        let able = self.able().map(|(epoch, broker)| (broker.draining, epoch));
        able.min().map(|(_, epoch)| epoch)
    }

    /// `own` first, those that are about to leave last; the one after `passed` others.
    fn drawn(&self, id: WalId, own: Option<BrokerEpoch>, passed: u32) -> Option<BrokerEpoch> {
        let others = self.able().filter(|(epoch, _)| Some(*epoch) != own);
        let mut others: Vec<_> = others
            .map(|(epoch, broker)| (broker.draining, Reverse(weight(id, broker.node)), epoch))
            .collect();
        others.sort_unstable();
        let others = others.into_iter().map(|(_, _, epoch)| epoch);
        let heirs: Vec<BrokerEpoch> = own.into_iter().chain(others).collect();
        let turn = (passed as usize).checked_rem(heirs.len())?;
        heirs.get(turn).copied()
    }

    fn is_live(&self, epoch: BrokerEpoch) -> bool {
        self.brokers
            .get(&epoch)
            .is_some_and(|broker| !broker.fenced)
    }

    /// Live brokers whose log is open, by epoch.
    fn able(&self) -> impl Iterator<Item = (BrokerEpoch, &BrokerImage)> {
        self.live_brokers().filter(|(_, broker)| {
            let wal = broker.wal.and_then(|wal| self.wals.get(&wal));
            wal.is_some_and(|wal| wal.phase == WalPhase::Active)
        })
    }
}

/// The weight of `node` for the log `id`: the same everywhere, and spread over all values.
fn weight(id: WalId, node: NodeId) -> u64 {
    let (high, low) = id.0.as_u64_pair();
    let node = u64::from(node.0.cast_unsigned());
    mixed(mixed(mixed(high) ^ low) ^ node)
}

/// SplitMix64's finalizer: every bit of the input moves half of the output's.
fn mixed(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::image::WalImage;
    use crate::types::Claim;

    fn wal_of(n: u64) -> WalId {
        WalId(Uuid::from_u64_pair(mixed(n), mixed(n + 7)))
    }

    /// Brokers 1..=n with epochs 11..=10+n and active logs in the object store.
    fn image(brokers: u64) -> Image {
        let mut image = Image::default();
        for n in 1..=brokers {
            add(&mut image, n, 10 + n);
        }
        image
    }

    fn add(image: &mut Image, node: u64, epoch: u64) {
        let (node, id) = (NodeId(i32::try_from(node).unwrap()), wal_of(epoch));
        let broker = BrokerImage {
            node,
            incarnation: Uuid::nil(),
            directory: Uuid::nil(),
            listeners: Vec::new(),
            rack: None,
            fenced: false,
            draining: false,
            wal: Some(id),
        };
        Arc::make_mut(&mut image.brokers).insert(BrokerEpoch(epoch), broker);
        let wal = WalImage {
            broker: BrokerEpoch(epoch),
            node,
            backend: WalBackend::Object,
            phase: WalPhase::Active,
            quarantine: None,
            yields: 0,
            deaths: 0,
        };
        Arc::make_mut(&mut image.wals).insert(id, wal);
    }

    fn kill(image: &mut Image, epoch: u64) -> WalId {
        let broker = Arc::make_mut(&mut image.brokers).get_mut(&BrokerEpoch(epoch));
        let broker = broker.unwrap();
        broker.fenced = true;
        let id = broker.wal.unwrap();
        if wal(image, id).phase == WalPhase::Active {
            wal(image, id).phase = WalPhase::Fenced;
        }
        id
    }

    fn wal(image: &mut Image, id: WalId) -> &mut WalImage {
        Arc::make_mut(&mut image.wals).get_mut(&id).unwrap()
    }

    fn claimed(by: BrokerEpoch) -> WalPhase {
        let claim = Claim(1);
        WalPhase::Claimed { heir: by, claim }
    }

    #[test]
    fn a_living_broker_has_no_heir_and_a_dead_one_has_a_living_one() {
        let mut image = image(3);
        let id = image.brokers[&BrokerEpoch(12)].wal.unwrap();
        assert_eq!(image.heir(id), None);
        kill(&mut image, 12);
        let heir = image.heir(id).unwrap();
        assert!([11, 13].contains(&heir.0));
        // When it dies the next one comes, and what it had claimed is free.
        wal(&mut image, id).phase = claimed(heir);
        assert_eq!(image.heir(id), Some(heir));
        kill(&mut image, heir.0);
        let next = image.heir(id).unwrap();
        assert!(next != heir && next.0 != 12);
        kill(&mut image, next.0);
        assert_eq!(image.heir(id), None, "nobody is left");
    }

    #[test]
    fn a_log_that_is_given_up_goes_round_all_who_can() {
        let mut image = image(4);
        let id = kill(&mut image, 12);
        let mut heirs: Vec<u64> = (0..3)
            .map(|yields| {
                wal(&mut image, id).yields = yields;
                image.heir(id).unwrap().0
            })
            .collect();
        wal(&mut image, id).yields = 3;
        assert_eq!(image.heir(id).unwrap().0, heirs[0], "all over again");
        heirs.sort_unstable();
        assert_eq!(heirs, [11, 13, 14]);
    }

    #[test]
    fn a_node_that_dies_at_its_own_log_does_not_keep_it_from_others() {
        let mut image = image(3);
        let id = kill(&mut image, 12);
        add(&mut image, 2, 14);
        assert_eq!(image.heir(id), Some(BrokerEpoch(14)), "it is its own");
        wal(&mut image, id).deaths = 1;
        let next = image.heir(id).unwrap();
        assert!([11, 13].contains(&next.0));
        // One that came back in vain again, and the next one's death.
        wal(&mut image, id).yields = 1;
        let other = image.heir(id).unwrap();
        assert!([11, 13].contains(&other.0) && other != next);
    }

    #[test]
    fn whoever_claimed_goes_on_though_the_owner_is_back() {
        let mut image = image(3);
        let id = kill(&mut image, 12);
        wal(&mut image, id).phase = claimed(BrokerEpoch(13));
        add(&mut image, 2, 20);
        assert_eq!(image.heir(id), Some(BrokerEpoch(13)));
        wal(&mut image, id).phase = WalPhase::Fenced;
        assert_eq!(image.heir(id), Some(BrokerEpoch(20)), "its own, when free");
    }

    #[test]
    fn a_broker_without_an_open_log_inherits_its_own_only() {
        let mut image = image(2);
        let other = kill(&mut image, 11);
        let own = kill(&mut image, 12);
        add(&mut image, 2, 20);
        let starting = image.brokers[&BrokerEpoch(20)].wal.unwrap();
        Arc::make_mut(&mut image.wals).remove(&starting);
        assert_eq!(image.heir(own), Some(BrokerEpoch(20)));
        assert_eq!(image.heir(other), None);
        assert_eq!(image.housekeeper(), None);
    }

    #[test]
    fn one_that_is_about_to_leave_comes_last() {
        let mut image = image(3);
        let id = kill(&mut image, 12);
        for epoch in [11, 13] {
            let mut leaving = image.clone();
            let broker = Arc::make_mut(&mut leaving.brokers).get_mut(&BrokerEpoch(epoch));
            broker.unwrap().draining = true;
            let other = BrokerEpoch(24 - epoch);
            assert_eq!(leaving.heir(id), Some(other));
            assert_eq!(leaving.housekeeper(), Some(other));
            kill(&mut leaving, other.0);
            assert_eq!(leaving.heir(id), Some(BrokerEpoch(epoch)));
            assert_eq!(leaving.housekeeper(), Some(BrokerEpoch(epoch)));
        }
    }

    #[test]
    fn a_log_on_a_disk_waits_for_its_node() {
        for backend in [WalBackend::Disk, WalBackend::Memory] {
            let mut image = image(3);
            let id = kill(&mut image, 12);
            wal(&mut image, id).backend = backend;
            assert_eq!(image.heir(id), None);
            add(&mut image, 2, 20);
            assert_eq!(image.heir(id), Some(BrokerEpoch(20)));
        }
    }

    #[test]
    fn a_log_that_is_set_aside_has_no_heir() {
        let mut image = image(3);
        let id = kill(&mut image, 12);
        wal(&mut image, id).quarantine = Some("damaged".to_owned());
        assert_eq!(image.heir(id), None);
    }

    #[test]
    fn the_logs_of_many_dead_spread_over_the_living() {
        let mut image = image(5);
        for n in 100..1100 {
            add(&mut image, n, n);
            kill(&mut image, n);
        }
        let mut shares: BTreeMap<BrokerEpoch, u32> = BTreeMap::new();
        let dead: Vec<WalId> = image.wals.keys().copied().collect();
        let heirs = |image: &Image| -> BTreeMap<WalId, BrokerEpoch> {
            let found = dead.iter().filter_map(|id| Some((*id, image.heir(*id)?)));
            found.collect()
        };
        let before = heirs(&image);
        for heir in before.values() {
            *shares.entry(*heir).or_default() += 1;
        }
        assert_eq!(shares.values().sum::<u32>(), 1000);
        assert_eq!(shares.len(), 5);
        for (heir, share) in shares {
            assert!((140..260).contains(&share), "{heir}: {share}");
        }
        // A death moves what was the dead one's, and nothing else.
        kill(&mut image, 13);
        for (id, heir) in heirs(&image) {
            let stays = before
                .get(&id)
                .is_none_or(|was| *was == heir || was.0 == 13);
            assert!(stays, "{id} went from {:?} to {heir}", before[&id]);
        }
    }

    #[test]
    fn chores_are_the_oldest_ones() {
        let mut image = image(3);
        assert_eq!(image.housekeeper(), Some(BrokerEpoch(11)));
        kill(&mut image, 11);
        assert_eq!(image.housekeeper(), Some(BrokerEpoch(12)));
        add(&mut image, 1, 20);
        assert_eq!(image.housekeeper(), Some(BrokerEpoch(12)));
    }
}
