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
            Self::Tests { program, filter } => {
                let tests = filter.split_whitespace().next().unwrap_or_default();
                write!(f, "tests of {program}: `{tests}`")
            }
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

/// Tests of the controllers' state, without those that search long.
const STATE: &str = "state::tests --skip forgotten --skip exhaustive --skip model --skip deltas";
/// Tests of the log in an object store.
const OBJECT: &str = "backend::object";
/// Tests of segment files.
const SEGMENT: &str = "segment:: --skip every_flipped";

pub(super) static BUGS: &[Bug] = &[
    // R1, R13: one log at a time, and none opens before the one before it is closed.
    tests("opened-before-closed", "R1, R13", "controller", STATE),
    tests("second-log-accepted", "R1", "controller", STATE),
    tests("closed-before-trimmed", "R13", "controller", STATE),
    tests("reported-not-checked", "R13, I1", "controller", STATE),
    tests("released-too-early", "R1, I1", "controller", STATE),
    // R2: nothing is overwritten.
    tests("put-overwrites", "R2", "wal", "object::tests::r10"),
    tests("digest-not-compared", "R2", "controller", STATE),
    // R3: acknowledged in order, when durable.
    tests("ack-before-durable", "R3", "wal", "object::tests::r3"),
    tests("drop-fsync", "R3", "wal", SEGMENT),
    tests("duplicate-answered-early", "R3", "storage", "partition::"),
    // R4: the trim point.
    tests("trim-before-commit", "R4", "storage", "uploader::tests"),
    tests("trim-not-checked", "R4", "controller", STATE),
    tests("trim-not-moved", "R4", "controller", STATE),
    // R5: producer state at exactly the slice's end.
    tests("producers-not-restored", "R5, I4", "storage", "recovery::"),
    tests("checkpoint-empty", "R5, I4", "storage", "uploader::tests"),
    tests(
        "slices-left-out-of-producers",
        "R5, I4",
        "storage",
        "uploader::tests",
    ),
    // R6: what may be dropped of a commit, and what refuses it.
    tests("committed-taken-again", "R6", "storage", "recovery::"),
    tests("fence-not-checked", "R6", "controller", STATE),
    tests("gap-accepted", "R6", "controller", STATE),
    tests("released-not-dropped", "R6", "controller", STATE),
    // R7: the owner's slice list before the cache.
    tests(
        "evicted-before-committed",
        "R7",
        "storage",
        "uploader::tests",
    ),
    tests("missing-is-out-of-range", "R7", "storage", "reader::"),
    // R8: whose is what stands there?
    tests("conflict-is-success", "R8", "wal", OBJECT),
    tests("seal-is-success", "R8", "wal", OBJECT),
    tests("anything-is-ours", "R8", "wal", OBJECT),
    // R9: recovery.
    tests("no-seal", "R9", "wal", OBJECT),
    tests("recovery-by-listing", "R9", "wal", OBJECT),
    tests("any-error-is-absent", "R9", "wal", OBJECT),
    tests("seal-swept", "R9", "wal", OBJECT),
    tests("given-up-unsealed", "R9", "wal", OBJECT),
    tests("stale-claim-accepted", "R9", "controller", STATE),
    tests("claim-taken-from-living", "R9", "controller", STATE),
    tests("lapse-is-death", "R9", "controller", STATE),
    // R10: holes.
    tests("beyond-not-looked-at", "R10", "wal", OBJECT),
    tests("oldest-above-trim", "R10", "wal", "disk::tests::r10"),
    tests("damage-ends-the-log", "R10", "wal", "segment::tests::r10"),
    tests("told-before-durable", "R10", "wal", OBJECT),
    // R12: what an heir takes.
    tests("last-entry-dropped", "R12, I1", "storage", "recovery::"),
    tests("foreign-epochs-taken", "R12", "storage", "recovery::"),
    // Bytes are checked before they are served.
    tests("heads-not-checked", "F4", "wal", "record::"),
    tests("entry-not-checked", "F4", "wal", "record::"),
    tests("block-not-checked", "F4", "storage", "reader::"),
    tests("sync-tried-again", "F5", "wal", SEGMENT),
    // Offsets, watermarks, log start.
    tests("log-start-goes-back", "I3", "controller", STATE),
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
    tests("named-is-condemned", "I7", "controller", STATE),
    tests("grace-not-waited", "I7", "storage", "collector::"),
    tests("own-uploads-collected", "I7", "storage", "collector::"),
    // Epochs, commands, levels, votes.
    tests("epoch-not-raised", "I8", "controller", STATE),
    tests("broker-epoch-given-twice", "I8", "controller", STATE),
    tests("command-done-twice", "F19", "controller", STATE),
    tests("level-not-checked", "F20", "controller", STATE),
    tests("vote-not-kept", "F18", "controller", "raft::tests::a_crash"),
    // Some of them once more, in worlds of whole nodes.
    world("drop-fsync", "R3", "single", ""),
    world("last-entry-dropped", "R12, I1", "single", ""),
    world("producers-not-restored", "R5, I4", "single", ""),
    world("offsets-not-replayed", "I6", "single", "Kill,Restart,group"),
    world("level-not-checked", "F20", "upgrade", ""),
    world("window-of-four", "I4", "cluster", ""),
];
