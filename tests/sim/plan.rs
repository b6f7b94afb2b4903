//! What a seed means: the backend, and which troubles come.

use std::fmt;
use std::time::Duration;

use env::sim::SimEntropy;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The process is killed; the machine lives.
    Kill,
    /// The machine loses power: unsynced bytes are lost, torn, reordered.
    PowerLoss,
    /// Connections are reset.
    Reset,
    /// Clients and broker do not reach each other for a while.
    Partition,
    /// The disk is slow for a while.
    SlowDisk,
    /// A sync fails: the process must end.
    FailedSync,
    /// The store answers nothing for a while.
    StoreAway,
    /// The store answers 503, loses answers, cuts bodies, lands puts late.
    StoreFlaky,
    /// The wall clock jumps.
    ClockJump,
    /// The process is asked to stop, and started again.
    Restart,
    /// The process is killed, and one of the next reads of the disk gives a wrong bit, once.
    FlippedRead,
}

const ALL: [Trouble; 11] = [
    Trouble::Kill,
    Trouble::PowerLoss,
    Trouble::Reset,
    Trouble::Partition,
    Trouble::SlowDisk,
    Trouble::FailedSync,
    Trouble::StoreAway,
    Trouble::StoreFlaky,
    Trouble::ClockJump,
    Trouble::Restart,
    Trouble::FlippedRead,
];

/// What happens in one simulation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `disk` or `object`.
    pub(crate) backend: &'static str,
    /// Kinds of trouble, of which one at a time comes at random moments.
    pub(crate) troubles: Vec<Trouble>,
    /// How long clients work before all is healed.
    pub(crate) length: Duration,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Whether a consumer group reads.
    pub(crate) group: bool,
    /// Whether an administrator works.
    pub(crate) admin: bool,
    /// Whether stored bytes are damaged in the end, while the machine rests.
    pub(crate) rot: bool,
    /// This read of the disk gives one wrong bit.
    pub(crate) flip_read: Option<u64>,
    /// Kill the machine in the middle of this disk operation.
    pub(crate) crash_at: Option<u64>,
}

impl Plan {
    /// The plan of a seed: a random subset of troubles (swarm testing).
    pub(crate) fn draw(seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x706c_616e);
        let troubles = ALL.into_iter().filter(|_| random.chance(40)).collect();
        Self {
            backend: if random.chance(50) { "disk" } else { "object" },
            troubles,
            length: Duration::from_secs(10 + random.below(20)),
            partitions: 1 + random.below(3) as i32,
            group: random.chance(50),
            admin: random.chance(50),
            rot: false,
            flip_read: None,
            crash_at: None,
        }
    }

    /// A short while with kills, then damage to what is stored.
    pub(crate) fn rot(seed: u64) -> Self {
        let random = SimEntropy::new(seed ^ 0x0072_6f74);
        let troubles = [Trouble::Kill, Trouble::PowerLoss, Trouble::Restart];
        Self {
            troubles: troubles.into_iter().filter(|_| random.chance(50)).collect(),
            length: Duration::from_secs(2 + random.below(6)),
            partitions: 1 + random.below(2) as i32,
            rot: true,
            ..Self::quiet(if random.chance(50) { "disk" } else { "object" })
        }
    }

    /// No trouble, for a short while.
    pub(crate) fn quiet(backend: &'static str) -> Self {
        let length = Duration::from_secs(4);
        Self {
            backend,
            troubles: Vec::new(),
            length,
            partitions: 2,
            group: false,
            admin: false,
            rot: false,
            flip_read: None,
            crash_at: None,
        }
    }

    /// The same with one wrong bit in read `read` of the disk.
    pub(crate) fn flip_read(mut self, read: u64) -> Self {
        self.flip_read = Some(read);
        self
    }

    /// The same with a power loss in the middle of disk operation `op`.
    pub(crate) fn crash_at(mut self, op: u64) -> Self {
        self.crash_at = Some(op);
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} WAL, {} partitions, {:?}",
            self.backend, self.partitions, self.troubles
        )?;
        if self.group {
            f.write_str(", group")?;
        }
        if self.admin {
            f.write_str(", admin")?;
        }
        if self.rot {
            f.write_str(", rot")?;
        }
        if let Some(read) = self.flip_read {
            write!(f, ", one wrong bit in disk read {read}")?;
        }
        match self.crash_at {
            Some(op) => write!(f, ", crash at disk operation {op}"),
            None => Ok(()),
        }
    }
}
