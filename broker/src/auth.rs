//! The seam at which every handler asks whether a principal may do what it asks for.

use crate::context::RequestContext;

/// What is done: Kafka's AclOperation, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Operation {
    /// Consume.
    Read = 3,
    /// Produce.
    Write = 4,
    /// Make.
    Create = 5,
    /// Remove.
    Delete = 6,
    /// Change.
    Alter = 7,
    /// See that it exists.
    Describe = 8,
    /// Act as part of the cluster.
    ClusterAction = 9,
    /// See configuration.
    DescribeConfigs = 10,
    /// Change configuration.
    AlterConfigs = 11,
    /// Produce idempotently.
    IdempotentWrite = 12,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// A topic, by name.
    Topic(&'a str),
    /// A group, by id.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

impl Resource<'_> {
    /// The operations that make sense on it.
    fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
            IdempotentWrite, Read, Write,
        };
        match self {
            Self::Cluster => &[
                Create,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
                Alter,
                Describe,
            ],
            Self::Topic(_) => &[
                Read,
                Write,
                Create,
                Describe,
                Delete,
                Alter,
                DescribeConfigs,
                AlterConfigs,
            ],
            Self::Group(_) => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Self::TransactionalId(_) => &[Describe, Write],
        }
    }
}

/// Decides. Synchronous: it is asked on hot paths.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the request's principal may do this.
    fn allows(&self, context: &RequestContext, operation: Operation, on: Resource<'_>) -> bool;
}

/// The bitfield of what the principal may do, for the answers that carry one when asked (a bit per
/// AclOperation code).
pub(crate) fn authorized_operations(
    authorizer: &dyn Authorizer,
    context: &RequestContext,
    on: Resource<'_>,
) -> i32 {
    on.operations()
        .iter()
        .filter(|operation| authorizer.allows(context, **operation, on))
        .fold(0, |bits, operation| bits | 1 << (*operation as i8))
}

/// What the bitfield holds when it was not asked for.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Lets everybody do everything: until ACLs come.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &RequestContext, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
