//! Who may commit and fetch offsets of a group, by member epoch.

use protocol::ErrorCode;

use super::{ConsumerGroup, Member, Refusal};

/// What an OffsetCommit or TxnOffsetCommit says of its sender.
#[derive(Clone, Copy, Debug)]
pub struct CommitCheck<'a> {
    /// Version of an OffsetCommit; `None` for a TxnOffsetCommit.
    pub version: Option<i16>,
    /// The member, empty if it says none.
    pub member_id: &'a str,
    /// Its epoch, or generation; -1 if it says none.
    pub epoch: i32,
}

/// What an OffsetFetch says of its sender.
#[derive(Clone, Copy, Debug)]
pub struct FetchCheck<'a> {
    /// The member.
    pub member_id: Option<&'a str>,
    /// Its epoch; -1 if it says none.
    pub epoch: i32,
}

impl ConsumerGroup {
    /// Whether a commit is taken.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, UNSUPPORTED_VERSION before version 9, STALE_MEMBER_EPOCH; and
    /// ILLEGAL_GENERATION for a member of the classic protocol.
    pub fn check_commit(&self, check: &CommitCheck<'_>) -> Result<(), Refusal> {
        // Tools, and consumers that assign themselves, may write while nobody else does.
        if check.epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self
            .members
            .get(check.member_id)
            .ok_or_else(|| self.unknown_member(check.member_id))?;
        if member.metadata.classic.is_none() && check.version.is_some_and(|version| version < 9) {
            return Err(Refusal::new(
                ErrorCode::UnsupportedVersion,
                "OffsetCommit version 9 or above must be used by members using the modern group \
                 protocol",
            ));
        }
        check_epoch(member, check.epoch)
    }

    /// Whether a fetch is answered.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH; and ILLEGAL_GENERATION for a member of the classic
    /// protocol.
    pub fn check_fetch(&self, check: &FetchCheck<'_>) -> Result<(), Refusal> {
        match check.member_id {
            None if check.epoch < 0 => Ok(()),
            member_id => {
                let member_id = member_id.unwrap_or("");
                let member = self.members.get(member_id);
                check_epoch(
                    member.ok_or_else(|| self.unknown_member(member_id))?,
                    check.epoch,
                )
            }
        }
    }
}

fn check_epoch(member: &Member, received: i32) -> Result<(), Refusal> {
    let expected = member.current.epoch;
    if received == expected {
        return Ok(());
    }
    Err(if member.metadata.classic.is_some() {
        Refusal::new(
            ErrorCode::IllegalGeneration,
            format!(
                "The received generation id {received} does not match the expected member epoch \
                 {expected}."
            ),
        )
    } else {
        Refusal::new(
            ErrorCode::StaleMemberEpoch,
            format!(
                "The received member epoch {received} does not match the expected member epoch \
                 {expected}."
            ),
        )
    })
}
