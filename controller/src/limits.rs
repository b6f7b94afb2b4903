//! Every bound of this crate, in one place.

use std::time::Duration;

/// Largest encoded command, bytes. One upload is one command; others are cut to fit.
pub const MAX_COMMAND_BYTES: usize = 1024 * 1024;
/// Longest topic name, bytes (Kafka's).
pub const MAX_TOPIC_NAME_BYTES: usize = 249;
/// Most partitions of one topic.
pub const MAX_PARTITIONS_PER_TOPIC: usize = 20_000;
/// Most partitions that one command may make: keeps a command's effect bounded.
pub const MAX_PARTITIONS_PER_COMMAND: usize = 10_000;
/// Most replicas that a manual assignment may list for one partition.
pub const MAX_REPLICAS: usize = 32;
/// Partitions that one command gives a target, or gives away.
pub const MAX_MOVES_PER_COMMAND: usize = 5_000;
/// Moves of one decision of the balancer, which weighs every partition for each of them.
pub(crate) const MAX_BALANCE_MOVES: usize = 200;
const _: () = assert!(MAX_BALANCE_MOVES <= MAX_MOVES_PER_COMMAND);
/// Nodes that may be draining.
pub const MAX_DRAINING: usize = 10_000;
/// Most topics of a cluster.
pub const MAX_TOPICS: usize = 100_000;
/// Longest configuration value, bytes.
pub const MAX_CONFIG_VALUE_BYTES: usize = 64 * 1024;
/// Longest configuration name, listener name, host or rack, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Most configuration entries of one resource.
pub const MAX_CONFIGS_PER_RESOURCE: usize = 256;
/// Most listeners of one broker.
pub const MAX_LISTENERS: usize = 16;
/// Longest object key, bytes (S3's own bound).
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest digest, bytes.
pub const MAX_DIGEST_BYTES: usize = 64;
/// Most producer ids given at once.
pub const MAX_PRODUCER_ID_BLOCK: u32 = 1000;
/// Offsets that an abandoned log's partitions skip: no acknowledgement passes the last reported
/// high watermark by more than this.
pub const ABANDON_OFFSET_GAP: i64 = 1_000_000;
/// Heirs, of more than one node, that died at the same place of a log: it is set aside.
pub const HEIR_DEATHS: usize = 3;
/// Closed logs remembered; older ones are forgotten, their commands then being refused as fenced.
pub const MAX_CLOSED_WALS: usize = 1024;
/// Closed logs of the object store remembered while something of them may be left there.
pub const MAX_UNSWEPT_WALS: usize = 16 * 1024;
/// Store probes remembered.
pub const MAX_PROBES: usize = 64;
/// Feature levels remembered.
pub const MAX_FEATURES: usize = 64;
/// Answers remembered for repeated commands.
pub const MAX_RECENT_COMMANDS: usize = 16_384;
/// Bytes of answers remembered.
pub const MAX_RECENT_BYTES: usize = 4 * 1024 * 1024;
/// Log entries after which an answer is forgotten.
pub const MAX_RECENT_AGE: u64 = 100_000;
/// Checkpoints kept in the bucket.
pub const CHECKPOINTS_KEPT: usize = 3;
/// Checkpoint keys held at once while the newest is looked for.
pub const MAX_CHECKPOINTS_LISTED: usize = 1000;
/// Keys that one query for orphans or condemned objects may name.
pub const MAX_KEYS_PER_QUERY: usize = 10_000;

/// Bytes of log after which a snapshot is taken, unless the last snapshot was larger.
pub const SNAPSHOT_AFTER_BYTES: u64 = 8 * 1024 * 1024;
/// Log entries after which a snapshot is taken.
pub const SNAPSHOT_AFTER_ENTRIES: u64 = 20_000;
/// Snapshots kept on disk.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Largest snapshot or checkpoint that is read, bytes.
pub const MAX_SNAPSHOT_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Length of a log segment after which the next one is begun.
pub const LOG_SEGMENT_BYTES: u64 = 2 * 1024 * 1024;
/// Largest group written at once (one command always fits).
pub const MAX_LOG_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Idleness after which an empty group is appended, so that the last one is known to have been
/// acknowledged.
pub const LOG_IDLE: Duration = Duration::from_millis(50);

/// Commands in flight through one client.
pub const MAX_COMMANDS_IN_FLIGHT: usize = 256;
/// How long a command is retried before its outcome is given up as unknown.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest pause between two tries of a command: they double from the shortest.
pub const SUBMIT_RETRY_MOST: Duration = Duration::from_millis(200);
/// Pause after the first try of a command.
pub const SUBMIT_RETRY: Duration = Duration::from_millis(50);

/// Raft heartbeat, milliseconds.
pub const HEARTBEAT_MS: u64 = 200;
/// Shortest election timeout, milliseconds.
pub const ELECTION_MIN_MS: u64 = 1000;
/// Longest election timeout, milliseconds.
pub const ELECTION_MAX_MS: u64 = 2000;

/// High watermarks that one command reports.
pub const MAX_MARKS_PER_COMMAND: usize = 10_000;
/// How often leases are looked at.
pub const LEASE_TICK: Duration = Duration::from_millis(250);
/// A tick this late means that the controller itself was held up: nobody is fenced for it.
pub const LEASE_TICK_LATE: Duration = Duration::from_millis(1000);
/// Sessions remembered (one per broker epoch that is not fenced).
pub const MAX_SESSIONS: usize = 10_000;

/// Largest message between nodes, bytes: a batch of log entries, and what wraps it.
pub const MAX_RPC_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a query, or of the page that answers it, beyond which the rest comes in another.
pub const QUERY_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of log entries sent at once (one entry always fits).
pub const MAX_APPEND_BYTES: usize = 4 * 1024 * 1024;
/// Counted for an entry without a command.
pub const SMALL_ENTRY_BYTES: usize = 256;
/// Log entries sent at once.
pub const MAX_APPEND_ENTRIES: u64 = 1024;
/// Bytes of a snapshot sent at once.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Longest transfer of a snapshot.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);
/// Calls in flight on one connection from another node.
pub const MAX_RPCS_PER_CONNECTION: u32 = 64;
/// Bytes of one call that may be on the way unread.
pub const RPC_STREAM_WINDOW: u32 = 1024 * 1024;
/// Snapshots that are received at once: each is held whole.
pub const MAX_SNAPSHOTS_RECEIVED: usize = 1;
/// Nodes to which connections are kept.
pub const MAX_CHANNELS: usize = 64;
/// How long a connection to another node may take to stand.
pub const RPC_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which a connection is asked whether it lives.
pub const RPC_KEEPALIVE: Duration = Duration::from_secs(2);
/// How long its answer may take.
pub const RPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause after a connection could not be accepted.
pub const RPC_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest TLS handshake of the callee.
pub const TLS_ACCEPT: Duration = Duration::from_secs(5);
/// Longest TLS handshake of the caller: less than `RPC_CONNECT_TIMEOUT`, so that it is told why.
pub const TLS_CONNECT: Duration = Duration::from_millis(1500);
/// TLS handshakes of other nodes at once, a few KiB each; beyond them the oldest of the source that
/// has most is given up.
pub const MAX_TLS_HANDSHAKES: usize = 1024;
/// Largest file with certificates or a key, bytes.
pub const MAX_TLS_FILE_BYTES: usize = 1024 * 1024;
/// Shortest time between two looks at those files.
pub const TLS_FILES_PAUSE: Duration = Duration::from_secs(1);
/// How long before its end a certificate is complained of.
pub const TLS_EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest time between two complaints of connections that fail for their TLS.
pub const TLS_COMPLAINT: Duration = Duration::from_secs(1);
/// How long one call to the leader may take: longer than an election.
pub const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a stream of log entries is given up.
pub const APPEND_PATIENCE: Duration = Duration::from_secs(2);
/// How long one call waits for a new voter to catch up: less than `RPC_TIMEOUT`.
pub const LEARNER_PATIENCE: Duration = Duration::from_secs(4);
/// Brokers that a voter keeps a connection to, for evidence of their death.
pub const MAX_TETHERS: usize = 1000;
/// How long such a connection may take to stand.
pub const TETHER_CONNECT: Duration = Duration::from_secs(1);
/// How old one becomes before another takes its place: networks forget idle connections.
pub const TETHER_AGE: Duration = Duration::from_secs(30);
/// Least time between two renewals of a lease that are asked for before their time.
pub const EARLY_RENEWAL: Duration = Duration::from_millis(50);
/// Pause before one that did not come to stand is tried again.
pub const TETHER_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two refusals that together are evidence.
pub const TETHER_REFUSAL: Duration = Duration::from_millis(75);
/// A connection that broke sooner than this was refused, most likely: by who takes connections first
/// and looks at certificates then.
pub const TETHER_BRIEF: Duration = Duration::from_secs(1);
/// Longest pause between such connections: they double from the shortest.
pub const TETHER_BRIEF_PAUSE: Duration = Duration::from_secs(10);
/// How often a look that tells nothing is taken again after a tether broke.
pub const UNCLEAR_AGAIN: u32 = 2;
/// Longest pause between refusals while nobody fences.
pub const TETHER_REFUSAL_MOST: Duration = Duration::from_millis(300);
/// How long after the evidence that a leader's process is gone something must have come from it to
/// prove the contrary: less than two heartbeats.
pub const PROOF_OF_LIFE: Duration = Duration::from_millis(100);
/// A leader's silence with which evidence counts that was disproved before.
pub const LEADER_SILENCE: Duration = Duration::from_millis(2 * HEARTBEAT_MS);
/// Time from the evidence that the leader's process is gone to the first pre-vote: others need the
/// same evidence by then.
pub const ELECTION_FIRST: Duration = Duration::from_millis(25);
/// Time between the pre-votes of the voters that have that evidence.
pub const ELECTION_TURN: Duration = Duration::from_millis(150);
/// Pre-votes that one voter asks for so in a term, before it leaves that to raft's time-outs.
pub const ELECTION_TRIES: u32 = 10;
/// How long one fence may take before leases are looked at again.
pub const FENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of voters.
pub const MAX_VOTERS: usize = 9;
/// How long a voter may take to say what its build knows.
pub const LEVEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a controller may take to say who leads.
pub const FIND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long others are waited for once one has named a leader: it may be the one of an earlier term.
pub const FIND_GRACE: Duration = Duration::from_millis(100);
/// Shortest time between two searches for the leader.
pub const FIND_PAUSE: Duration = Duration::from_millis(200);
/// How long a leader that failed is asked only when nobody names another.
pub const LEADER_SHUNNED: Duration = Duration::from_secs(1);
/// Pause between two looks whether a voter is one still.
pub const MEMBERSHIP_LOOK: Duration = Duration::from_secs(3);
/// How long a voter that was removed goes on: it may be added again.
pub const REMOVED_PATIENCE: Duration = Duration::from_secs(10);
/// Looks in a row without a majority of the voters after which who stops waits for it no more.
pub const REACH_LOOKS: u32 = 3;
/// Pause between two such looks.
pub const REACH_PAUSE: Duration = Duration::from_millis(250);
/// How long a voter may take to answer one. (A process that is gone refuses at once.)
pub const REACH_TIMEOUT: Duration = Duration::from_secs(1);
/// Times that one question follows where it is sent.
pub const MAX_REDIRECTS: usize = 3;
/// Addresses of controllers that are remembered.
pub const MAX_CONTROLLERS: usize = 32;
/// Signs of life on a stream of images.
pub const WATCH_HEARTBEAT: Duration = Duration::from_millis(500);
/// Silence after which a stream of images is given up.
pub const WATCH_SILENCE: Duration = Duration::from_secs(2);
/// How long a voter may be behind the leader before another one is followed.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(2);
/// Shortest pause between two streams of images.
pub const WATCH_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two streams of images: they double from the shortest.
pub const WATCH_PAUSE_MOST: Duration = Duration::from_secs(1);
/// Bytes of an image sent at once.
pub const IMAGE_PIECE_BYTES: usize = 256 * 1024;
/// Largest change of an image that is taken, bytes.
pub const MAX_IMAGE_BYTES: usize = 512 * 1024 * 1024;
/// How old a whole image may be that is sent to another one who begins to follow.
pub const WHOLE_IMAGE_AGE: Duration = Duration::from_secs(2);
/// Whole images that are alive at once, for followers that are slow.
pub const MAX_WHOLE_IMAGES: usize = 4;
/// A stream of images that nobody asks for a piece for so long is ended: who follows has given it up
/// long ago.
pub const WATCH_UNTAKEN: Duration = Duration::from_secs(30);
/// Streams of images that one voter feeds.
pub const MAX_WATCHERS: usize = 1000;
/// Pause between two looks at the other voters while there is no cluster yet.
pub const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(500);
