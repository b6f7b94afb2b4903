//! What happens in time: transactions that take too long are aborted, ids that nobody uses
//! expire.

use std::sync::Arc;

use super::coordinator::{Coordinator, Entry, Then, World};
use super::effect::Effect;
use super::limits::MAX_PER_TICK;

impl Coordinator {
    /// Begins what is due. Call it every few seconds (Kafka: ten), and again at once if it gave
    /// [`MAX_PER_TICK`] effects.
    pub fn tick(&mut self, world: &mut World<'_>) -> Vec<Effect> {
        if !self.is_active() {
            return Vec::new();
        }
        let expired_ms = world.now_ms.saturating_sub(self.settings.id_expiration_ms);
        let due: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_late(entry, world.now_ms) || is_unused(entry, expired_ms))
            .map(|(id, _)| id.clone())
            .take(MAX_PER_TICK)
            .collect();
        let mut effects = Vec::new();
        for id in due {
            let entry = &self.entries[&id];
            if is_unused(entry, expired_ms) {
                effects.push(self.propose(&id, None, Then::Expire));
                continue;
            }
            let current = entry.current.as_ref().expect("it is late");
            // Without a producer id to go on with, it is tried at the next tick.
            if let Ok(next) = self.fencing(current, world) {
                effects.push(self.propose(&id, Some(next), Then::Fence(None)));
            }
        }
        effects
    }
}

/// Whether a transaction is open beyond its time.
fn is_late(entry: &Entry, now_ms: i64) -> bool {
    let current = entry.current.as_ref().filter(|_| !entry.is_busy());
    current
        .and_then(|current| current.deadline_ms())
        .is_some_and(|deadline_ms| deadline_ms < now_ms)
}

/// Whether an id without a transaction was last used at `expired_ms` or before.
fn is_unused(entry: &Entry, expired_ms: i64) -> bool {
    let current = entry.current.as_ref().filter(|_| !entry.is_busy());
    current.is_some_and(|it| it.state.may_expire() && it.updated_ms <= expired_ms)
}
