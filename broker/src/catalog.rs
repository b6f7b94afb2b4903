//! `storage::Catalog` over the controller's client: two crates that do not know each other.

use async_trait::async_trait;
use controller::{Client, Command, CommandId, ErrorKind, Response};
use protocol::{BrokerEpoch, LeaderEpoch, TopicPartition};
use storage::{
    Catalog, CatalogError, CommitUpload, Condemned, Digest, ObjectRef, PartitionView,
    ReplaceSlices, SliceOutcome, SliceRef,
};

/// The catalog of a node.
#[derive(Clone)]
pub(crate) struct ControllerCatalog {
    client: Client,
}

impl ControllerCatalog {
    /// Over `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Catalog for ControllerCatalog {
    async fn commit_upload(&self, commit: CommitUpload) -> Result<Vec<SliceOutcome>, CatalogError> {
        let id = CommandId(commit.command_id);
        let mut objects = Objects::default();
        let command = Command::CommitUpload(controller::CommitUpload {
            broker_epoch: commit.broker_epoch,
            wal: commit.wal_id,
            claim: commit.claim.map(controller::Claim),
            from: commit.from,
            to: commit.to,
            slices: commit
                .slices
                .into_iter()
                .map(|slice| objects.slice(slice))
                .collect(),
        });
        match self.client.submit_as(id, command).await.map_err(refused)? {
            Response::Committed(outcomes) => Ok(outcomes.into_iter().map(outcome).collect()),
            other => Err(unexpected(&other)),
        }
    }

    async fn replace(&self, replace: ReplaceSlices) -> Result<(), CatalogError> {
        let id = CommandId(replace.command_id);
        let mut objects = Objects::default();
        let runs = replace.runs.into_iter().map(|run| controller::ReplaceRun {
            topic_partition: run.topic_partition,
            leader_epoch: run.leader_epoch,
            old: run.old.into_iter().map(old).collect(),
            new: run
                .new
                .into_iter()
                .map(|slice| objects.slice(slice))
                .collect(),
        });
        let command = Command::ReplaceSlices(controller::ReplaceSlices {
            broker_epoch: replace.broker_epoch,
            runs: runs.collect(),
        });
        self.client
            .submit_as(id, command)
            .await
            .map(drop)
            .map_err(refused)
    }

    async fn set_log_start(
        &self,
        broker_epoch: BrokerEpoch,
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log_start: i64,
    ) -> Result<(), CatalogError> {
        let command = Command::SetLogStart {
            broker: broker_epoch,
            topic_partition,
            leader_epoch,
            log_start,
        };
        self.client.submit(command).await.map(drop).map_err(refused)
    }

    async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionView>, CatalogError> {
        let state = self.client.partition(tp).await.map_err(refused)?;
        Ok(state.map(view))
    }

    async fn condemned(
        &self,
        before_ms: i64,
        after: Option<&Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, CatalogError> {
        let after = after.map(|after| controller::Condemned {
            key: after.key.clone(),
            condemned_at_ms: after.condemned_at_ms,
        });
        let condemned = self
            .client
            .condemned(before_ms, after, limit)
            .await
            .map_err(refused)?;
        let convert = |condemned: controller::Condemned| Condemned {
            key: condemned.key,
            condemned_at_ms: condemned.condemned_at_ms,
        };
        Ok(condemned.into_iter().map(convert).collect())
    }

    async fn forget_condemned(&self, keys: Vec<String>) -> Result<(), CatalogError> {
        let command = Command::ForgetCondemned { keys };
        self.client.submit(command).await.map(drop).map_err(refused)
    }

    async fn orphans(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError> {
        self.client.orphans(keys).await.map_err(refused)
    }
}

/// What storage does about a command that was not done.
fn refused(error: controller::Error) -> CatalogError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Retry => match error.refusal() {
            Some(controller::Refusal::Conflict { .. }) => CatalogError::Conflict(text),
            _ => CatalogError::Unavailable(text),
        },
        ErrorKind::Fenced => CatalogError::Fenced(text),
        // Too large, or against a rule: nothing is wrong with what is stored, and no log is set aside.
        ErrorKind::Invalid => CatalogError::Invalid(text),
        // Only the state's own word sets anything aside: an answer that makes no sense is asked for
        // again, perhaps of another controller.
        ErrorKind::Corrupt if error.refusal().is_some() => CatalogError::Corrupt(text),
        ErrorKind::Corrupt => CatalogError::Unavailable(text),
        // A controller that has stopped: the node ends, or is ending.
        ErrorKind::Internal => CatalogError::Unavailable(text),
    }
}

fn unexpected(response: &Response) -> CatalogError {
    CatalogError::Unavailable(format!("the controller answered {response:?}"))
}

fn outcome(outcome: controller::SliceOutcome) -> SliceOutcome {
    match outcome {
        controller::SliceOutcome::Committed => SliceOutcome::Committed,
        controller::SliceOutcome::Dropped => SliceOutcome::Dropped,
    }
}

/// Shares the name of an object among the slices that it holds.
#[derive(Default)]
struct Objects {
    last: Option<std::sync::Arc<controller::ObjectRef>>,
}

impl Objects {
    fn slice(&mut self, slice: SliceRef) -> controller::SliceRef {
        let same = self.last.take().filter(|last| last.key == slice.object.key);
        let object = same.unwrap_or_else(|| {
            std::sync::Arc::new(controller::ObjectRef {
                key: slice.object.key,
                length: slice.object.length,
                digest: digest_in(&slice.object.digest),
            })
        });
        self.last = Some(std::sync::Arc::clone(&object));
        controller::SliceRef {
            topic_partition: slice.topic_partition,
            leader_epoch: slice.leader_epoch,
            first_offset: slice.first_offset,
            end_offset: slice.end_offset,
            max_timestamp_ms: slice.max_timestamp_ms,
            bytes: slice.bytes,
            object,
            index_position: slice.index_position,
            index_length: slice.index_length,
            index_digest: digest_in(&slice.index_digest),
            checkpoint: slice.checkpoint,
        }
    }
}

fn old(slice: SliceRef) -> controller::OldSlice {
    controller::OldSlice {
        first_offset: slice.first_offset,
        end_offset: slice.end_offset,
        key: slice.object.key,
    }
}

fn digest_in(digest: &Digest) -> controller::Digest {
    controller::Digest::new(digest.algorithm, &digest.bytes)
}

fn digest_out(digest: &controller::Digest) -> Digest {
    Digest {
        algorithm: digest.algorithm(),
        bytes: digest.bytes().to_vec(),
    }
}

fn slice_out(slice: controller::SliceRef) -> SliceRef {
    SliceRef {
        topic_partition: slice.topic_partition,
        leader_epoch: slice.leader_epoch,
        first_offset: slice.first_offset,
        end_offset: slice.end_offset,
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.bytes,
        object: ObjectRef {
            key: slice.object.key.clone(),
            length: slice.object.length,
            digest: digest_out(&slice.object.digest),
        },
        index_position: slice.index_position,
        index_length: slice.index_length,
        index_digest: digest_out(&slice.index_digest),
        checkpoint: slice.checkpoint,
    }
}

fn view(state: controller::PartitionState) -> PartitionView {
    PartitionView {
        topic_partition: state.topic_partition,
        leader_epoch: state.leader_epoch,
        log_start: state.log_start,
        committed_end: state.committed_end,
        epochs: state.epochs,
        slices: state.slices.into_iter().map(slice_out).collect(),
        gaps: state.gaps,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn slice(object: &str) -> SliceRef {
        let digest = |byte| Digest {
            algorithm: 1,
            bytes: vec![byte; 4],
        };
        SliceRef {
            topic_partition: TopicPartition::new(protocol::TopicId(Uuid::from_u128(1)), 2),
            leader_epoch: LeaderEpoch(3),
            first_offset: 4,
            end_offset: 5,
            max_timestamp_ms: 6,
            bytes: 7,
            object: ObjectRef {
                key: object.to_owned(),
                length: 8,
                digest: digest(9),
            },
            index_position: 10,
            index_length: 11,
            index_digest: digest(12),
            checkpoint: true,
        }
    }

    #[test]
    fn what_storage_does_follows_from_what_the_controller_says() {
        let reason = || "why".to_owned();
        let told = |error: controller::Error| {
            let error = storage::Error::Catalog(refused(error));
            (error.kind(), error.to_string())
        };
        let kind = |refusal: controller::Refusal| told(refusal.into()).0;
        let large = controller::Error::TooLarge {
            bytes: 1_048_577,
            limit: 1_048_576,
        };
        let (of_large, said) = told(large);
        // Not Corrupt: an heir would set the log aside, with all that it holds.
        assert_eq!(of_large, storage::ErrorKind::Internal);
        assert!(said.contains("1048577"), "{said}");
        let invalid = controller::Refusal::Invalid { reason: reason() };
        assert_eq!(kind(invalid), storage::ErrorKind::Internal);
        let gap = controller::Refusal::Conflict { reason: reason() };
        assert!(matches!(refused(gap.into()), CatalogError::Conflict(_)));
        let waits = controller::Refusal::NotReady { reason: reason() };
        assert!(matches!(
            refused(waits.into()),
            CatalogError::Unavailable(_)
        ));
        let broker = BrokerEpoch(1);
        let stale = controller::Refusal::StaleBroker { broker };
        assert_eq!(kind(stale), storage::ErrorKind::Fenced);
        let impossible = controller::Refusal::Corrupt { reason: reason() };
        assert_eq!(kind(impossible), storage::ErrorKind::Corrupt);
        let away = controller::Error::Unavailable { reason: reason() };
        assert_eq!(told(away).0, storage::ErrorKind::Retry);
        let malformed = controller::Error::Corrupt {
            what: "answer".to_owned(),
            reason: reason(),
        };
        assert_eq!(told(malformed).0, storage::ErrorKind::Retry);
        let unexpected = storage::Error::Catalog(unexpected(&Response::Done));
        assert_eq!(unexpected.kind(), storage::ErrorKind::Retry);
        let stopped = controller::Error::Stopped { reason: reason() };
        assert_eq!(told(stopped).0, storage::ErrorKind::Retry);
    }

    #[test]
    fn a_slice_survives_the_way_there_and_back() {
        let mut objects = Objects::default();
        let there = objects.slice(slice("a"));
        assert_eq!(slice_out(there.clone()), slice("a"));
        let next = objects.slice(slice("a"));
        assert!(std::sync::Arc::ptr_eq(&there.object, &next.object));
        assert_eq!(objects.slice(slice("b")).object.key, "b");
    }
}
