//! Every limit of the broker. Sizes are in bytes unless the name says otherwise.

use std::time::Duration;

/// Bytes read ahead on a connection before the length of its next frame is known.
pub(crate) const READ_AHEAD_BYTES: usize = 8 * 1024;

/// A frame of up to this size is small: it has a share of the budget that large ones cannot take.
pub(crate) const SMALL_FRAME_BYTES: usize = 2 * 1024 * 1024;

/// What a frame may take at once before more than that has arrived.
pub(crate) const FIRST_FRAME_BYTES: usize = 64 * 1024;

/// What a connection that has sent frames of that size before may take at once.
pub(crate) const TRUSTED_FRAME_BYTES: usize = 1024 * 1024;

/// While others wait for memory, a frame that has not grown for this long loses its connection.
pub(crate) const STALLED_FRAME: Duration = Duration::from_secs(1);

/// Segments handed to one vectored write.
pub(crate) const WRITE_SEGMENTS: usize = 64;

/// Small answers gathered before a write.
pub(crate) const WRITE_GATHER_BYTES: usize = 64 * 1024;

/// A response that the client does not take for this long costs its connection.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(60);

/// Pause after an accept that failed: out of file handles, most likely.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Admin connections at once.
pub(crate) const ADMIN_CONNECTIONS: usize = 64;

/// Longest time an admin connection may stay.
pub(crate) const ADMIN_CONNECTION: Duration = Duration::from_secs(60);

/// How long what the balancer would do is told again without a new look.
pub(crate) const BALANCE_PAGE_AGE: Duration = Duration::from_secs(1);

/// Producer ids taken from the controller at once.
pub(crate) const PRODUCER_ID_BLOCK: u32 = 1000;

/// Longest topic name (Kafka's).
pub(crate) const MAX_TOPIC_NAME: usize = 249;

/// Partitions of one fetch session.
pub(crate) const MAX_SESSION_PARTITIONS: usize = 100_000;

/// A fetch session may be thrown out for another after this long without use (KIP-227).
pub(crate) const SESSION_MIN_AGE: Duration = Duration::from_secs(120);

/// First pause before a store or controller that did not answer is asked again.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest such pause.
pub(crate) const RETRY_MOST: Duration = Duration::from_secs(5);

/// How long a request waits for partitions that have just been given to this broker.
pub(crate) const OPENING_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two looks of such a request while partitions open one after the other.
pub(crate) const OPENING_LOOKS: Duration = Duration::from_millis(20);

/// How long Metadata names a broker after its death.
pub(crate) const NAMED_AFTER_DEATH: Duration = Duration::from_secs(10);

/// Dead logs that one broker looks after at once: they wait for the store without a turn, and are
/// read as their turns come.
pub(crate) const TAKEOVERS_AT_ONCE: usize = 64;

/// After this long without success, not counting how long it waits for a turn, an heir lets another broker try: perhaps only
/// its own way to the store is broken.
pub(crate) const HEIR_PATIENCE: Duration = Duration::from_secs(30);

/// Longest pause before a node that waits for another process of the same id asks again.
pub(crate) const NODE_IN_USE_PAUSE: Duration = Duration::from_secs(1);

/// Partitions whose load is reported one by one: the busiest.
pub(crate) const REPORTED_LOADS: usize = 2_000;

/// Partitions given away at once: they share one upload and one command, and a pause of writes.
pub(crate) const MOVES_AT_ONCE: usize = 100;

/// How long a move uploads while its partitions serve, before it goes on or is put off.
pub(crate) const MOVE_SERVING: Duration = Duration::from_secs(30);

/// How long a move holds appends at most before it is put off.
pub(crate) const MOVE_HELD: Duration = Duration::from_secs(2);

/// Longest lease that is waited for before a log is given up: less than [`ADMIN_CONNECTION`].
pub(crate) const ABANDON_WAIT: Duration = Duration::from_secs(45);

/// How long sealing such a log may take: with the wait before it less than [`ADMIN_CONNECTION`].
pub(crate) const SEAL_PATIENCE: Duration = Duration::from_secs(10);

/// Longest request to decide about a log, bytes.
pub(crate) const MAX_REASON_BYTES: usize = 4096;

/// A broker that completed no group for this long while work waits gives up, when the store answers
/// others.
pub(crate) const SURRENDER_AFTER: Duration = Duration::from_secs(20);

/// How often that is looked at.
pub(crate) const SURRENDER_TICK: Duration = Duration::from_secs(1);

/// Pause between two questions to the store of a broker that writes nothing.
pub(crate) const STORE_PROBES: Duration = Duration::from_secs(5);

/// How long its answer may take.
pub(crate) const STORE_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Partitions opened at once.
pub(crate) const PARTITION_OPENS: usize = 32;

/// Pauses before the sweeps of a closed log: puts of its dead owner land late.
pub(crate) const SWEEPS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(300),
    Duration::from_secs(3600),
];

/// Pause between the sweeps that come after those.
pub(crate) const SWEEPS_AFTER: Duration = Duration::from_secs(3600);

/// After this long, milliseconds, no put of a closed log's owner lands any more.
pub(crate) const LATE_PUT_MS: i64 = 3_600_000;

/// Longest name or version of a client's software that is taken.
pub(crate) const MAX_SOFTWARE_NAME: usize = 256;

/// Longest name of a client's zone.
pub(crate) const MAX_ZONE_BYTES: usize = 128;

/// A consumer that comes back to the leader, within this time, with the offset at which it was sent
/// to its zone got nothing there.
pub(crate) const SENT_IN_VAIN: Duration = Duration::from_secs(30);

/// For how long the leader serves it then.
pub(crate) const SERVED_BY_LEADER: Duration = Duration::from_secs(60);

/// Consumers' partitions of which that is remembered.
pub(crate) const MAX_SENT: usize = 10_000;

/// How long one round of a Fetch waits for controllers that are asked about partitions led elsewhere.
pub(crate) const LOOKING_PATIENCE: Duration = Duration::from_secs(1);

/// How much of a client id is searched for its zone.
pub(crate) const MAX_CLIENT_ID_SEARCHED: usize = 1024;

/// Longest that a Fetch may wait, whatever it asks for: the client may have gone away.
pub(crate) const FETCH_WAIT_MOST: Duration = Duration::from_secs(300);

/// Topics of one CreateTopics and resources of one DescribeConfigs that are served: each is answered
/// with many times the bytes that it took to ask.
pub(crate) const MAX_REQUEST_ENTRIES: usize = 10_000;

/// Compressed batches from here on are judged on the pool: decompressing takes a millisecond or more.
pub(crate) const POOLED_CHECK_BYTES: usize = 32 * 1024;

/// Smaller ones too, once more than this has come out of them.
pub(crate) const INLINE_CHECK_BYTES: usize = 256 * 1024;

/// Batches that are judged there at a time: each may take the 128 MiB that a decoder's window may
/// have.
pub(crate) const POOLED_CHECKS: usize = 4;

/// Records that the answer to a Produce names one by one, over all of its batches.
pub(crate) const MAX_RECORD_ERRORS: usize = 1000;

/// Partitions without a leader that one admin page lists.
pub(crate) const SHOWN_PARTITIONS: usize = 1000;

/// Producers and partitions of a connection whose refused batches are remembered: 30 KiB.
pub(crate) const MAX_REFUSED_BATCHES: usize = 256;

/// For how long: what a client sent before it was told of a refusal is here by then.
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(30);
