//! What the death of a broker means for the logs that it was to recover.
//!
//! A log whose reading kills the process that reads it would go from heir to heir and take the
//! whole cluster down. So heirs that die before anything of a log is committed are counted at it,
//! and it is set aside when several have. Who left in order is not counted, nor is a node alone
//! with the log: that would only turn its own trouble into one that needs an operator. A silent heir
//! is taken for dead until its process registers again and says that it lived.

use std::collections::BTreeSet;

use protocol::{BrokerEpoch, NodeId};
use wal::WalId;

use super::{Death, Effects, State, Wal, WalPhase};
use crate::command::WalBackend;
use crate::limits::{HEIR_DEATHS, MAX_NAME_BYTES};

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It said so.
    Goodbye,
    /// It was found dead, or its node came back.
    Death,
}

// === impl State ===

impl State {
    /// `epoch` recovers nothing any more: what it had claimed is free, and the next one's turn.
    pub(super) fn leave_logs(&mut self, epoch: BrokerEpoch, ending: Ending, effects: &mut Effects) {
        if self.level() < 2 {
            return;
        }
        let broker = &self.brokers[&epoch];
        // It came back and went again without having served: its logs are not kept from others.
        let in_vain = ending == Ending::Death && broker.wal.is_none();
        let node = broker.register.node;
        for wal in self.wals.values_mut() {
            match wal.phase {
                WalPhase::Claimed { heir, .. } if heir == epoch => {
                    wal.phase = WalPhase::Fenced;
                    if ending == Ending::Death {
                        wal.heir_died(Death { node, epoch });
                    }
                    effects.brokers = true;
                }
                WalPhase::Fenced
                    if in_vain && wal.node == node && wal.backend == WalBackend::Object =>
                {
                    wal.yields = wal.yields.wrapping_add(1);
                    effects.brokers = true;
                }
                WalPhase::Active
                | WalPhase::Fenced
                | WalPhase::Claimed { .. }
                | WalPhase::Closed { .. } => {}
            }
        }
    }
}

impl State {
    /// The process that held `epoch` of `node` has come back: whatever it was recovering did not
    /// kill it. The turns stay with those to whom they have passed.
    pub(super) fn lived(&mut self, node: NodeId, epoch: BrokerEpoch, effects: &mut Effects) {
        if self.level() < 2 || env::planted!("lapse-is-death") {
            return;
        }
        for wal in self.wals.values_mut() {
            effects.brokers |= wal.heir_lived(Death { node, epoch });
        }
    }
}

// === impl Wal ===

impl Wal {
    /// Whether it is set aside for those who died at it.
    fn is_deadly(&self) -> bool {
        let nodes: BTreeSet<_> = self.deaths.iter().map(|death| death.node).collect();
        self.deaths.len() >= HEIR_DEATHS && nodes.len() > 1
    }

    /// Takes a death back, and with it what came of deaths alone.
    fn heir_lived(&mut self, taken: Death) -> bool {
        let (was_deadly, before) = (self.is_deadly(), self.deaths.len());
        self.deaths.retain(|death| *death != taken);
        if self.deaths.len() == before {
            return false;
        }
        self.yields = self.yields.wrapping_add(1);
        if was_deadly && !self.is_deadly() {
            self.quarantine = None;
        }
        true
    }

    /// Once more at the place where it stands: all that `deaths` names died there.
    fn heir_died(&mut self, death: Death) {
        self.deaths.push(death);
        if self.is_deadly() {
            let mut reason = deadly(self.id, self.trim, &self.deaths);
            reason.truncate(reason.floor_char_boundary(MAX_NAME_BYTES));
            self.quarantine = Some(reason);
        }
        // One node alone may die at it for ever.
        if self.deaths.len() > HEIR_DEATHS {
            self.deaths.remove(0);
        }
    }
}

fn deadly(id: WalId, at: u64, deaths: &[Death]) -> String {
    let nodes: Vec<_> = deaths.iter().map(|death| death.node.to_string()).collect();
    format!(
        "brokers died {} times recovering log {id} at group {at} (of nodes {}): when it is known \
         why, `headwater wal unquarantine --wal {id} --admin HOST:PORT`",
        deaths.len(),
        nodes.join(", ")
    )
}
