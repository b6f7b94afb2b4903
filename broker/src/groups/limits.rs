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

/// Bytes of records that go into one batch of the log.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Most bytes of one batch of the log when it is decompressed: the largest group record and what
/// stands around it.
pub const MAX_LOADED_BATCH_BYTES: usize = 64 << 20;

/// Bytes read at once while loading.
pub const LOAD_READ_BYTES: usize = 4 << 20;

/// Bytes of records that may wait for the log; past it a coordinator hears nobody until the log
/// has taken some.
pub const MAX_UNWRITTEN_BYTES: usize = 16 << 20;

/// Requests that may wait for one coordinator partition.
pub const REQUEST_QUEUE: usize = 256;

/// A timer that rings this much too late says that the process stood still: sessions start anew.
pub const STALL_MS: u64 = 2_000;

/// First and longest wait between two tries at the log, milliseconds.
pub const RETRY_MS: (u64, u64) = (50, 5_000);

/// Wait before a partition that could not be loaded is loaded again, milliseconds.
pub const RELOAD_MS: u64 = 30_000;
