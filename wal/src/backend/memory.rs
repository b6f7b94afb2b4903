//! Not durable at all: for tests and benchmarks. What it acknowledges is lost with the process.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Backend, Mark, Pace, PendingGroup, Stored};
use crate::metrics::Status;
use crate::{Error, Sequence};

/// A backend that keeps nothing, and loses every record when the process ends.
pub fn create() -> Box<dyn Backend> {
    Box::new(NotDurable)
}

struct NotDurable;

impl Backend for NotDurable {
    fn window(&self) -> usize {
        1
    }

    fn attach(&mut self, _status: Status) {}

    fn store(&mut self, group: PendingGroup) -> BoxFuture<'static, Stored> {
        Box::pin(std::future::ready((group.group, Ok(()))))
    }

    fn pace(&mut self, _now: Instant, _queued_bytes: usize, _in_flight: usize) -> Pace {
        Pace::Now
    }

    fn idle_after(&self) -> Option<Duration> {
        None
    }

    fn mark(&mut self, _mark: Mark, _next: Sequence) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn trim(&mut self, _to: Sequence) {}

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
