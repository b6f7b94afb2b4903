//! Answers to and from their stored form.

use prost::Message;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicId};
use wal::WalId;

use super::parts::{
    Decoded, Malformed, get_backend, get_id, get_int, get_mark, get_partition, malformed, put_at,
    put_backend, put_id, put_partition,
};
use super::{Claimed, ClaimedPartition, Response, wire};
use crate::error::Refusal;
use crate::types::{Claim, SliceOutcome};

/// An answer's bytes.
pub(crate) fn encode_answer(answer: &Result<Response, Refusal>) -> Vec<u8> {
    put_answer(answer).encode_to_vec()
}

fn put_answer(answer: &Result<Response, Refusal>) -> wire::Answer {
    let kind = match answer {
        Ok(response) => put_response(response),
        Err(refusal) => wire::AnswerKind::Refused(put_refusal(refusal)),
    };
    wire::Answer { kind: Some(kind) }
}

/// Reads an answer back.
pub(crate) fn decode_answer(bytes: &[u8]) -> Decoded<Result<Response, Refusal>> {
    get_answer(wire::Answer::decode(bytes).map_err(|e| Malformed(format!("answer: {e}")))?)
}

fn get_answer(wire: wire::Answer) -> Decoded<Result<Response, Refusal>> {
    match wire.kind {
        None => malformed("answer: unknown kind"),
        Some(wire::AnswerKind::Refused(refused)) => Ok(Err(get_refusal(refused)?)),
        Some(done) => Ok(Ok(get_response(done)?)),
    }
}

fn put_response(response: &Response) -> wire::AnswerKind {
    match response {
        Response::Done => wire::AnswerKind::Done(true),
        Response::Registered { broker } => wire::AnswerKind::Registered(broker.0),
        Response::Claimed(claimed) => wire::AnswerKind::Claimed(wire::Claimed {
            claim: claimed.claim.0,
            backend: put_backend(claimed.backend),
            trim: claimed.trim,
            partitions: claimed
                .partitions
                .iter()
                .map(|p| put_at(p.topic_partition, p.leader_epoch, p.committed_end))
                .collect(),
        }),
        Response::Topic { id, partitions } => wire::AnswerKind::Topic(wire::Topic {
            id: put_id(id.0),
            partitions: *partitions,
        }),
        Response::Committed(outcomes) => wire::AnswerKind::Committed(wire::Committed {
            outcomes: put_outcomes(outcomes),
        }),
        Response::LogStart { offset } => wire::AnswerKind::LogStart(*offset),
        Response::Released {
            leader_epoch,
            broker,
        } => wire::AnswerKind::Released(wire::Released {
            leader_epoch: leader_epoch.0,
            broker: broker.map(|broker| broker.0),
        }),
        Response::ProducerIds { first, count } => {
            wire::AnswerKind::ProducerIds(wire::ProducerIds {
                first: *first,
                count: *count,
            })
        }
        Response::Many(answers) => wire::AnswerKind::Many(wire::Many {
            answers: answers.iter().map(put_answer).collect(),
        }),
    }
}

fn get_response(kind: wire::AnswerKind) -> Decoded<Response> {
    Ok(match kind {
        wire::AnswerKind::Done(_) => Response::Done,
        wire::AnswerKind::Refused(_) => return malformed("answer: refused"),
        wire::AnswerKind::Registered(broker) => Response::Registered {
            broker: BrokerEpoch(broker),
        },
        wire::AnswerKind::Claimed(claimed) => {
            let mut partitions = Vec::with_capacity(claimed.partitions.len());
            for wire in claimed.partitions {
                let mark = get_mark(wire)?;
                partitions.push(ClaimedPartition {
                    topic_partition: mark.topic_partition,
                    leader_epoch: mark.leader_epoch,
                    committed_end: mark.offset,
                });
            }
            Response::Claimed(Claimed {
                claim: Claim(claimed.claim),
                backend: get_backend(claimed.backend)?,
                trim: claimed.trim,
                partitions,
            })
        }
        wire::AnswerKind::Topic(topic) => Response::Topic {
            id: TopicId(get_id(&topic.id)?),
            partitions: topic.partitions,
        },
        wire::AnswerKind::Committed(done) => Response::Committed(get_outcomes(&done.outcomes)?),
        wire::AnswerKind::LogStart(offset) => Response::LogStart { offset },
        wire::AnswerKind::Released(released) => Response::Released {
            leader_epoch: LeaderEpoch(released.leader_epoch),
            broker: released.broker.map(BrokerEpoch),
        },
        wire::AnswerKind::ProducerIds(ids) => Response::ProducerIds {
            first: ids.first,
            count: ids.count,
        },
        wire::AnswerKind::Many(many) => {
            let answers = many.answers.into_iter().map(get_answer);
            Response::Many(answers.collect::<Decoded<_>>()?)
        }
    })
}

pub(crate) fn put_outcomes(outcomes: &[SliceOutcome]) -> Vec<u8> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            SliceOutcome::Committed => 1,
            SliceOutcome::Dropped => 2,
        })
        .collect()
}

pub(crate) fn get_outcomes(wire: &[u8]) -> Decoded<Vec<SliceOutcome>> {
    wire.iter()
        .map(|outcome| match outcome {
            1 => Ok(SliceOutcome::Committed),
            2 => Ok(SliceOutcome::Dropped),
            other => malformed(&format!("outcome {other}")),
        })
        .collect()
}

fn put_refusal(refusal: &Refusal) -> wire::Refused {
    let mut wire = wire::Refused::default();
    match refusal {
        Refusal::Conflict { reason } => (wire.code, wire.reason) = (1, reason.clone()),
        Refusal::NotReady { reason } => (wire.code, wire.reason) = (2, reason.clone()),
        Refusal::StaleBroker { broker } => {
            (wire.code, wire.given) = (3, broker.0.cast_signed());
        }
        Refusal::StaleWal { wal, reason } => {
            (wire.code, wire.wal, wire.reason) = (4, put_id(wal.0), reason.clone());
        }
        Refusal::StaleLeader {
            partition,
            given,
            current,
        } => {
            (wire.code, wire.partition) = (5, Some(put_partition(*partition)));
            (wire.given, wire.current) = (i64::from(given.0), i64::from(current.0));
        }
        Refusal::Quarantined { wal, reason } => {
            (wire.code, wire.wal, wire.reason) = (6, put_id(wal.0), reason.clone());
        }
        Refusal::NodeInUse { node } => (wire.code, wire.given) = (7, i64::from(node.0)),
        Refusal::TopicExists { name } => (wire.code, wire.name) = (8, name.clone()),
        Refusal::UnknownTopic { name } => (wire.code, wire.name) = (9, name.clone()),
        Refusal::UnknownPartition { partition } => {
            (wire.code, wire.partition) = (10, Some(put_partition(*partition)));
        }
        Refusal::InvalidTopicName { name, reason } => {
            (wire.code, wire.name, wire.reason) = (11, name.clone(), reason.clone());
        }
        Refusal::InvalidPartitions { reason } => (wire.code, wire.reason) = (12, reason.clone()),
        Refusal::InvalidReplicationFactor { given } => {
            (wire.code, wire.given) = (13, i64::from(*given));
        }
        Refusal::InvalidAssignment { reason } => (wire.code, wire.reason) = (14, reason.clone()),
        Refusal::InvalidConfig { name, reason } => {
            (wire.code, wire.name, wire.reason) = (15, name.clone(), reason.clone());
        }
        Refusal::Invalid { reason } => (wire.code, wire.reason) = (16, reason.clone()),
        Refusal::LimitReached { what } => (wire.code, wire.reason) = (17, what.clone()),
        Refusal::Corrupt { reason } => (wire.code, wire.reason) = (18, reason.clone()),
        Refusal::LevelTooLow { needs, level } => {
            wire.code = 19;
            (wire.given, wire.current) = (i64::from(*needs), i64::from(*level));
        }
    }
    wire
}

fn get_refusal(wire: wire::Refused) -> Decoded<Refusal> {
    let wire::Refused {
        code,
        name,
        reason,
        partition,
        wal,
        given,
        current,
    } = wire;
    Ok(match code {
        1 => Refusal::Conflict { reason },
        2 => Refusal::NotReady { reason },
        3 => Refusal::StaleBroker {
            broker: BrokerEpoch(given.cast_unsigned()),
        },
        4 => Refusal::StaleWal {
            wal: WalId(get_id(&wal)?),
            reason,
        },
        5 => Refusal::StaleLeader {
            partition: get_partition(partition)?,
            given: LeaderEpoch(get_int(given, "leader epoch")?),
            current: LeaderEpoch(get_int(current, "leader epoch")?),
        },
        6 => Refusal::Quarantined {
            wal: WalId(get_id(&wal)?),
            reason,
        },
        7 => Refusal::NodeInUse {
            node: NodeId(get_int(given, "node")?),
        },
        8 => Refusal::TopicExists { name },
        9 => Refusal::UnknownTopic { name },
        10 => Refusal::UnknownPartition {
            partition: get_partition(partition)?,
        },
        11 => Refusal::InvalidTopicName { name, reason },
        12 => Refusal::InvalidPartitions { reason },
        13 => Refusal::InvalidReplicationFactor {
            given: get_int(given, "replication factor")?,
        },
        14 => Refusal::InvalidAssignment { reason },
        15 => Refusal::InvalidConfig { name, reason },
        16 => Refusal::Invalid { reason },
        17 => Refusal::LimitReached { what: reason },
        18 => Refusal::Corrupt { reason },
        19 => Refusal::LevelTooLow {
            needs: get_int(given, "level")?,
            level: get_int(current, "level")?,
        },
        other => return malformed(&format!("refusal {other}")),
    })
}
