//! One step of one member towards its target.
//!
//! **Invariant:** a partition is added to a member only while nobody owns it, and stays owned by
//! whoever gives it up until the client says that it has none of what it was told to give up.

use protocol::TopicPartition;

use super::{Assignment, CurrentAssignment, MemberState};

/// A member of an unknown state still owns something, or did not say what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MustRejoin;

/// Where a member is to go, and what is known of the way.
pub(super) struct Step<'a> {
    /// The epoch that the client named: the latest that it surely knows.
    pub(super) known_epoch: i32,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Assignment,
    /// What the client says it owns; `None` if it did not say.
    pub(super) owned: Option<&'a Assignment>,
    /// Whether somebody owns a partition.
    pub(super) is_owned: &'a dyn Fn(TopicPartition) -> bool,
}

impl Step<'_> {
    /// The member's state after this step, which is the same if it cannot go on.
    pub(super) fn take(
        &self,
        current: &CurrentAssignment,
    ) -> Result<CurrentAssignment, MustRejoin> {
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch => Ok(current.clone()),
            MemberState::Stable | MemberState::UnreleasedPartitions => {
                Ok(self.towards(current, current.epoch))
            }
            MemberState::UnrevokedPartitions if self.still_owns(&current.revoking) => {
                Ok(current.clone())
            }
            // What was asked for is done: that is an epoch of its own, as a later revocation
            // must not be taken for this one.
            MemberState::UnrevokedPartitions => {
                let next = current.epoch.saturating_add(1);
                Ok(self.towards(current, next.min(self.target_epoch)))
            }
            MemberState::Unknown => match self.owned {
                Some(owned) if owned.is_empty() => Ok(self.towards(current, self.target_epoch)),
                _ => Err(MustRejoin),
            },
        }
    }

    fn still_owns(&self, revoking: &Assignment) -> bool {
        self.owned.is_none_or(|owned| owned.meets(revoking))
    }

    fn towards(&self, current: &CurrentAssignment, epoch: i32) -> CurrentAssignment {
        let mut kept = current.assigned.common(self.target);
        let revoking = current.assigned.without(self.target);
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return CurrentAssignment {
                epoch,
                previous_epoch: self.previous(current, epoch),
                state: MemberState::UnrevokedPartitions,
                assigned: kept,
                revoking,
            };
        }
        let mut state = MemberState::Stable;
        for partition in self.target.without(&kept).iter() {
            // What it gives up in this very step it owns no more.
            let own = current.revoking.contains(partition);
            if own || !(self.is_owned)(partition) {
                kept.insert(partition);
            } else {
                state = MemberState::UnreleasedPartitions;
            }
        }
        CurrentAssignment {
            epoch: self.target_epoch,
            previous_epoch: self.previous(current, self.target_epoch),
            state,
            assigned: kept,
            revoking: Assignment::new(),
        }
    }

    /// The epoch that the client may come back with if it does not hear of this one. However
    /// many answers are lost, that is the one it named.
    fn previous(&self, current: &CurrentAssignment, epoch: i32) -> i32 {
        if current.epoch == epoch {
            current.previous_epoch
        } else {
            self.known_epoch
        }
    }
}

#[cfg(test)]
mod tests;
