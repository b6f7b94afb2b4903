//! Limits of the group coordinator.

/// Most groups one coordinator partition keeps in memory; a join or commit that would add one more
/// is answered `COORDINATOR_NOT_AVAILABLE`.
pub const MAX_GROUPS: usize = 100_000;

/// Most members a group may have whatever `group.max.size` says.
pub const MAX_GROUP_MEMBERS: usize = 10_000;

/// Most member ids of a group that were given out (KIP-394) and not used yet.
pub const MAX_PENDING_MEMBERS: usize = 10_000;

/// Most assignment protocols one member may offer.
pub const MAX_MEMBER_PROTOCOLS: usize = 100;

/// Most bytes of protocol metadata one member may offer, all its protocols together.
pub const MAX_MEMBER_METADATA_BYTES: usize = 1 << 20;

/// Most bytes of a group metadata record: past it a SyncGroup is refused and the group rebalances,
/// as with a record that Kafka's log refuses.
pub const MAX_GROUP_RECORD_BYTES: usize = 8 << 20;

/// How long a member that never completed a join is kept while its JoinGroup waits: the client may
/// have gone away, and nothing else would tell.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1000;
