//! Commands of planned moves: where partitions shall go, who gives them away, who takes none.

use prost::Message;
use protocol::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};

use super::parts::{Decoded, get_mark_of, get_partition, malformed, put_at, put_partition};
use super::wire::{Partition, PartitionOffset};

/// What concerns planned moves. Needs level 2 of `headwater.version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveCommand {
    /// Says where partitions shall go. Each is judged alone.
    SetTargets(Vec<Target>),
    /// Has a node give its partitions away, and take none, however often it registers; or ends that.
    Drain {
        /// The node.
        node: NodeId,
        /// False: it takes partitions again.
        on: bool,
    },
    /// As `Drain`, for as long as this epoch lasts: said by a broker that stops.
    Leaving {
        /// The epoch.
        broker: BrokerEpoch,
    },
    /// Gives led partitions to others. Each is judged alone.
    Release {
        /// Epoch of the broker that leads them.
        broker: BrokerEpoch,
        /// Which.
        releases: Vec<Release>,
    },
    /// Says how busy led partitions are; takes the place of the last report.
    ReportLoads {
        /// Epoch of the reporter.
        broker: BrokerEpoch,
        /// The busiest first, when not all fit.
        loads: Vec<Load>,
    },
}

/// How busy a partition is, on average since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Bytes a second that were produced.
    pub bytes_in: u64,
    /// Bytes a second that were fetched.
    pub bytes_out: u64,
    /// Thousandths of requests a second.
    pub requests: u64,
}

/// Where a partition shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The node; `None`: it stays where it is.
    pub node: Option<NodeId>,
    /// True when that node, or none, is to be preferred from now on (an operator's word), false for
    /// once.
    pub preferred: bool,
}

/// A led partition that is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Epoch at which it is led.
    pub leader_epoch: LeaderEpoch,
    /// Its end: must be the committed end.
    pub end: i64,
    /// Who takes it; `None`: placed.
    pub to: Option<NodeId>,
}

/// As stored. Field numbers are for ever.
pub(crate) mod wire {
    use super::{Message, Partition, PartitionOffset};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Move {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
        pub(crate) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Kind {
        #[prost(message, tag = "1")]
        SetTargets(SetTargets),
        #[prost(message, tag = "2")]
        Drain(Drain),
        #[prost(uint64, tag = "3")]
        Leaving(u64),
        #[prost(message, tag = "4")]
        Release(Release),
        #[prost(message, tag = "5")]
        ReportLoads(ReportLoads),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct SetTargets {
        #[prost(message, repeated, tag = "1")]
        pub(crate) targets: Vec<Target>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Target {
        #[prost(message, optional, tag = "1")]
        pub(crate) partition: Option<Partition>,
        #[prost(int32, optional, tag = "2")]
        pub(crate) node: Option<i32>,
        #[prost(bool, tag = "3")]
        pub(crate) preferred: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Drain {
        #[prost(int32, tag = "1")]
        pub(crate) node: i32,
        #[prost(bool, tag = "2")]
        pub(crate) on: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Release {
        #[prost(uint64, tag = "1")]
        pub(crate) broker: u64,
        #[prost(message, repeated, tag = "2")]
        pub(crate) releases: Vec<One>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ReportLoads {
        #[prost(uint64, tag = "1")]
        pub(crate) broker: u64,
        #[prost(message, repeated, tag = "2")]
        pub(crate) loads: Vec<Load>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Load {
        #[prost(message, optional, tag = "1")]
        pub(crate) partition: Option<Partition>,
        #[prost(uint64, tag = "2")]
        pub(crate) bytes_in: u64,
        #[prost(uint64, tag = "3")]
        pub(crate) bytes_out: u64,
        #[prost(uint64, tag = "4")]
        pub(crate) requests: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct One {
        #[prost(message, optional, tag = "1")]
        pub(crate) at: Option<PartitionOffset>,
        #[prost(int32, optional, tag = "2")]
        pub(crate) to: Option<i32>,
    }
}

pub(super) fn put_move(command: &MoveCommand) -> wire::Move {
    let kind = match command {
        MoveCommand::SetTargets(targets) => {
            let targets = targets.iter().map(|target| wire::Target {
                partition: Some(put_partition(target.topic_partition)),
                node: target.node.map(|node| node.0),
                preferred: target.preferred,
            });
            wire::Kind::SetTargets(wire::SetTargets {
                targets: targets.collect(),
            })
        }
        MoveCommand::Drain { node, on } => wire::Kind::Drain(wire::Drain {
            node: node.0,
            on: *on,
        }),
        MoveCommand::Leaving { broker } => wire::Kind::Leaving(broker.0),
        MoveCommand::Release { broker, releases } => {
            let releases = releases.iter().map(|one| wire::One {
                at: Some(put_at(one.topic_partition, one.leader_epoch, one.end)),
                to: one.to.map(|node| node.0),
            });
            wire::Kind::Release(wire::Release {
                broker: broker.0,
                releases: releases.collect(),
            })
        }
        MoveCommand::ReportLoads { broker, loads } => wire::Kind::ReportLoads(wire::ReportLoads {
            broker: broker.0,
            loads: loads.iter().map(put_load).collect(),
        }),
    };
    wire::Move { kind: Some(kind) }
}

pub(crate) fn put_load(load: &Load) -> wire::Load {
    wire::Load {
        partition: Some(put_partition(load.topic_partition)),
        bytes_in: load.bytes_in,
        bytes_out: load.bytes_out,
        requests: load.requests,
    }
}

pub(crate) fn get_load(wire: wire::Load) -> Decoded<Load> {
    Ok(Load {
        topic_partition: get_partition(wire.partition)?,
        bytes_in: wire.bytes_in,
        bytes_out: wire.bytes_out,
        requests: wire.requests,
    })
}

pub(super) fn get_move(wire: wire::Move) -> Decoded<MoveCommand> {
    Ok(match wire.kind {
        None => return malformed("move: unknown kind"),
        Some(wire::Kind::SetTargets(set)) => {
            let target = |target: wire::Target| {
                Ok(Target {
                    topic_partition: get_partition(target.partition)?,
                    node: target.node.map(NodeId),
                    preferred: target.preferred,
                })
            };
            MoveCommand::SetTargets(
                set.targets
                    .into_iter()
                    .map(target)
                    .collect::<Decoded<_>>()?,
            )
        }
        Some(wire::Kind::Drain(drain)) => MoveCommand::Drain {
            node: NodeId(drain.node),
            on: drain.on,
        },
        Some(wire::Kind::Leaving(broker)) => MoveCommand::Leaving {
            broker: BrokerEpoch(broker),
        },
        Some(wire::Kind::ReportLoads(report)) => MoveCommand::ReportLoads {
            broker: BrokerEpoch(report.broker),
            loads: report
                .loads
                .into_iter()
                .map(get_load)
                .collect::<Decoded<_>>()?,
        },
        Some(wire::Kind::Release(release)) => {
            let one = |one: wire::One| {
                let at = get_mark_of(one.at)?;
                Ok(Release {
                    topic_partition: at.topic_partition,
                    leader_epoch: at.leader_epoch,
                    end: at.offset,
                    to: one.to.map(NodeId),
                })
            };
            MoveCommand::Release {
                broker: BrokerEpoch(release.broker),
                releases: release
                    .releases
                    .into_iter()
                    .map(one)
                    .collect::<Decoded<_>>()?,
            }
        }
    })
}
