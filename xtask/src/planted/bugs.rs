//! The bugs, and where each should show.

use std::fmt;

/// A bug that the product can be built with: its name where `env::planted!` asks for it, the rule
/// or invariant that it breaks, and what should see it.
pub(super) struct Bug {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    pub(super) place: Place,
}

/// Where a bug is looked for.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Tests of one program (a crate's, or the simulation's own), by the words of `filter`.
    Tests {
        program: &'static str,
        filter: &'static str,
    },
    /// Worlds of the simulation with the troubles that `aim` names; all kinds when it names none.
    World {
        world: &'static str,
        aim: &'static str,
    },
}

impl Place {
    /// Whether it takes seconds.
    pub(super) fn is_quick(self) -> bool {
        matches!(self, Self::Tests { program, .. } if program != "sim")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tests { program, filter } => write!(f, "tests of {program}: {filter}"),
            Self::World { world, aim: "" } => write!(f, "world {world}"),
            Self::World { world, aim } => write!(f, "world {world}: {aim}"),
        }
    }
}

const fn tests(
    name: &'static str,
    rule: &'static str,
    program: &'static str,
    filter: &'static str,
) -> Bug {
    let place = Place::Tests { program, filter };
    Bug { name, rule, place }
}

const fn world(
    name: &'static str,
    rule: &'static str,
    world: &'static str,
    aim: &'static str,
) -> Bug {
    let place = Place::World { world, aim };
    Bug { name, rule, place }
}

pub(super) static BUGS: &[Bug] = &[
    // R1, R13: one log at a time, and none opens before the one before it is closed.
    tests("opened-before-closed", "R1, R13", "controller", "state::"),
    tests("second-log-accepted", "R1", "controller", "state::"),
    tests("closed-before-trimmed", "R13", "controller", "state::"),
    tests("reported-not-checked", "R13, I1", "controller", "state::"),
    tests("released-too-early", "R1, I1", "controller", "state::"),
    // R2: nothing is overwritten.
    tests("put-overwrites", "R2", "wal", "object"),
    tests("digest-not-compared", "R2", "controller", "state::"),
    // R3: acknowledged in order, when durable.
    world(
        "ack-before-durable",
        "R3",
        "single",
        "StoreAway,Kill,PowerLoss,object",
    ),
    world("drop-fsync", "R3", "single", "PowerLoss,disk"),
    tests("duplicate-answered-early", "R3", "storage", "partition::"),
    // R4: the trim point.
    tests("trim-before-commit", "R4", "storage", "uploader::"),
    tests("trim-not-checked", "R4", "controller", "state::"),
    tests("trim-not-moved", "R4", "controller", "state::"),
    // R5: producer state at exactly the slice's end.
    tests("producers-not-restored", "R5, I4", "storage", "storage::"),
    tests("checkpoint-empty", "R5, I4", "storage", "uploader::"),
    tests(
        "slices-left-out-of-producers",
        "R5, I4",
        "storage",
        "storage::",
    ),
    // R6: what may be dropped of a commit, and what refuses it.
    tests("committed-taken-again", "R6", "storage", "recovery::"),
    tests("fence-not-checked", "R6", "controller", "state::"),
    tests("gap-accepted", "R6", "controller", "state::"),
    tests("released-not-dropped", "R6", "controller", "state::"),
    // R7: the owner's slice list before the cache.
    tests("evicted-before-committed", "R7", "storage", "uploader::"),
    tests("missing-is-out-of-range", "R7", "storage", "reader::"),
    // R8: whose is what stands there?
    tests("conflict-is-success", "R8", "wal", "object"),
    tests("seal-is-success", "R8", "wal", "object"),
    tests("anything-is-ours", "R8", "wal", "object"),
    // R9: recovery.
    tests("no-seal", "R9", "wal", "object"),
    tests("recovery-by-listing", "R9", "wal", "object"),
    tests("any-error-is-absent", "R9", "wal", "object"),
    tests("seal-swept", "R9", "wal", "object"),
    tests("stale-claim-accepted", "R9", "controller", "state::"),
    tests("claim-taken-from-living", "R9", "controller", "state::"),
    // R10: holes.
    tests("beyond-not-looked-at", "R10", "wal", "object"),
    tests("oldest-above-trim", "R10", "wal", "disk"),
    tests("damage-ends-the-log", "R10", "wal", "segment::"),
    tests("told-before-durable", "R10", "wal", "object"),
    // R12: what an heir takes.
    tests("last-entry-dropped", "R12, I1", "storage", "recovery::"),
    tests("foreign-epochs-taken", "R12", "storage", "recovery::"),
    // Bytes are checked before they are served.
    tests("heads-not-checked", "F4", "wal", "record::"),
    tests("entry-not-checked", "F4", "wal", "record::"),
    tests("block-not-checked", "F4", "storage", "format::"),
    tests("sync-tried-again", "F5", "wal", "segment::"),
    // Offsets, watermarks, log start.
    tests("log-start-goes-back", "I3", "controller", "state::"),
    tests("batch-of-offset-passed-over", "I1", "storage", "reader::"),
    // Idempotent producers.
    tests("window-of-four", "I4", "storage", "producers::"),
    tests("sequence-gap-taken", "I4", "storage", "producers::"),
    tests("old-producer-epoch-taken", "I4", "storage", "producers::"),
    // Groups.
    tests("offsets-not-replayed", "I6", "broker", "groups::"),
    tests("generation-not-restored", "I6", "broker", "groups::"),
    tests("generation-not-checked", "I6", "broker", "groups::"),
    // Objects.
    tests("named-is-condemned", "I7", "controller", "state::"),
    tests("grace-not-waited", "I7", "storage", "collector::"),
    tests("own-uploads-collected", "I7", "storage", "collector::"),
    // Epochs, commands, levels, votes.
    tests("epoch-not-raised", "I8", "controller", "state::"),
    tests("broker-epoch-given-twice", "I8", "controller", "state::"),
    tests("command-done-twice", "F19", "controller", "state::"),
    tests("level-not-checked", "F20", "controller", "level::"),
    tests("vote-not-kept", "F18", "controller", "raft::"),
];
