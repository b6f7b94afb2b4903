//! Feature levels: what the cluster has agreed that every node of it understands.
//!
//! | level | since then |
//! |---|---|
//! | 1 | the core: one broker, one controller |
//! | 2 | many brokers: what takeovers and planned moves add to the log |
//!
//! **Invariant:** no entry of the log needs a level above the one that is finalized before it, so
//! that a build which knows that level can read all of it, and builds that know it can be rolled
//! back to each other until the next one is finalized. What a changed `apply` does is decided by
//! [`State::level`], never by the build.

use crate::command::Command;
use crate::error::{Error, Refusal};
use crate::image::Image;
use crate::state::State;

/// Kafka's name for the feature (KIP-584): the level of the log of this cluster.
pub const VERSION_FEATURE: &str = "headwater.version";
/// The level of a cluster that has finalized none.
pub const OLDEST_LEVEL: u16 = 1;
/// The newest level that this build knows: new clusters begin with it.
pub const NEWEST_LEVEL: u16 = 2;

// === impl Command ===

impl Command {
    /// The least level of the cluster at which it may be asked for.
    pub fn level(&self) -> u16 {
        match self {
            Self::RegisterBroker(register) if register.lived.is_some() => 2,
            Self::InitCluster { .. }
            | Self::RegisterBroker(_)
            | Self::Goodbye { .. }
            | Self::FenceBroker { .. }
            | Self::ReportHighWatermarks { .. }
            | Self::OpenWal { .. }
            | Self::ClaimWal { .. }
            | Self::CloseWal { .. }
            | Self::AbandonWal { .. }
            | Self::ReportWalCorrupt { .. }
            | Self::UnquarantineWal { .. }
            | Self::RecordSwept { .. } => 1,
            Self::CreateTopic(_)
            | Self::CreatePartitions { .. }
            | Self::DeleteTopic { .. }
            | Self::AlterConfigs { .. }
            | Self::CommitUpload(_)
            | Self::ReplaceSlices(_)
            | Self::SetLogStart { .. }
            | Self::Release { .. } => 1,
            Self::AllocateProducerIds { .. }
            | Self::ForgetCondemned { .. }
            | Self::RecordProbe { .. }
            | Self::RecordCheckpoint { .. }
            | Self::FinalizeFeature { .. } => 1,
            Self::YieldWal { .. } | Self::RecordHome { .. } | Self::Move(_) => 2,
        }
    }
}

// === impl State ===

impl State {
    /// The level that is finalized.
    pub fn level(&self) -> u16 {
        of(self.features.get(VERSION_FEATURE))
    }

    /// Whether a command may be written to the log: older builds could not read it.
    pub(crate) fn check_level(&self, needs: u16) -> Result<(), Refusal> {
        let level = self.level();
        if needs > level && !env::planted!("level-not-checked") {
            return Err(Refusal::LevelTooLow { needs, level });
        }
        Ok(())
    }

    /// Refuses a state that a build which knows levels up to `newest` cannot go on from.
    pub(crate) fn check_known(&self, newest: u16) -> Result<(), Error> {
        let level = self.level();
        if level > newest {
            return Err(Error::Settings {
                reason: format!(
                    "the cluster is at level {level} of {VERSION_FEATURE}, this build knows \
                     {newest} and below: start a newer one"
                ),
            });
        }
        Ok(())
    }

    /// What finalizing `level` would come to, as far as a build may say that knows levels up to
    /// `newest`. Only the leader asks: what `apply` makes of it must not depend on the build.
    pub(crate) fn check_finalize(
        &self,
        name: &str,
        level: u16,
        newest: u16,
    ) -> Result<(), Refusal> {
        let standing = self.level();
        if name != VERSION_FEATURE {
            return Ok(());
        }
        if level > newest {
            return Err(Refusal::invalid(format!(
                "level {level} of {name} is not known to the controller that leads: \
                 {newest} is the newest"
            )));
        }
        if level < standing {
            return Err(Refusal::invalid(format!(
                "{name} is at level {standing} and cannot go back: the log may hold what older \
                 builds cannot read"
            )));
        }
        Ok(())
    }
}

// === impl Image ===

impl Image {
    /// The level that is finalized, as far as this image knows: it never goes back.
    pub fn level(&self) -> u16 {
        of(self.features.get(VERSION_FEATURE))
    }
}

fn of(finalized: Option<&u16>) -> u16 {
    finalized.copied().unwrap_or(OLDEST_LEVEL)
}
