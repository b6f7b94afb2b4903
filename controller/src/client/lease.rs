//! A broker's lease: taken, renewed, kept.

use protocol::BrokerEpoch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Client;
use crate::command::{Command, HighWatermark};
use crate::error::{Error, ErrorKind, Refusal};
use crate::lease::{Lease, Marks};
use crate::limits::{EARLY_RENEWAL, MAX_MARKS_PER_COMMAND, SUBMIT_TIMEOUT};
use crate::rpc::wire;

/// Renews a lease in the background until dropped, or until the epoch is fenced.
pub struct LeaseKeeper {
    lease: Lease,
    task: JoinHandle<()>,
}

// === impl Client ===

impl Client {
    /// Renews once, reporting `marks`. The lease counts from before the request is sent.
    ///
    /// # Errors
    /// `StaleBroker` (fenced) for good; anything of kind retry leaves the lease as it was.
    pub async fn renew(&self, lease: &Lease, marks: Vec<HighWatermark>) -> Result<(), Error> {
        let sent = self.inner.env.clock.monotonic();
        let broker = lease.broker();
        for marks in marks.chunks(MAX_MARKS_PER_COMMAND) {
            let marks = marks.to_vec();
            let report = Command::ReportHighWatermarks { broker, marks };
            self.propose(self.command_id(), report, false).await?;
        }
        let asked = self.ask(Instant::now() + SUBMIT_TIMEOUT, false, || {
            Ok(wire::Ask {
                renew: Some(broker.0),
                level: u32::from(self.inner.way.newest_level()),
                applied: self.inner.way.applied(),
                store_answers: lease.store_answers(),
                ..Default::default()
            })
        });
        let answer = asked.await?;
        if !answer.granted {
            return Err(Refusal::StaleBroker { broker }.into());
        }
        lease.told_of_others(answer.others_reach_store);
        lease.renewed(sent, super::lease_told(&answer));
        Ok(())
    }

    /// Takes a lease for a registered broker, and keeps it: a renewal every third of it, with the
    /// high watermarks that `marks` gives (those that moved). They count as reported only once the
    /// renewal that carried them is granted.
    ///
    /// # Errors
    /// As [`renew`](Self::renew), for the first renewal.
    pub async fn keep_lease(
        &self,
        broker: BrokerEpoch,
        marks: impl Marks,
    ) -> Result<LeaseKeeper, Error> {
        let lease = Lease::new(broker, self.inner.env.clock.clone(), self.inner.lease);
        self.renew(&lease, Vec::new()).await?;
        let task = tokio::spawn(keep(self.clone(), lease.clone(), marks));
        Ok(LeaseKeeper { lease, task })
    }
}

async fn keep(client: Client, lease: Lease, mut marks: impl Marks) {
    let mut due = Instant::now();
    let mut early = due;
    loop {
        let third = lease.duration() / 3;
        // From one sending to the next: after a renewal that came to nothing in its time there is
        // time for another one before the lease lapses.
        due = (due + third).max(Instant::now());
        tokio::select! {
            biased;
            () = sleep_until(due) => {}
            () = wanted(&mut marks, early) => due = Instant::now(),
        }
        early = Instant::now() + EARLY_RENEWAL;
        lease.note();
        // Waiting longer than the lease would only hide that it lapsed.
        let deadline = Instant::now() + third;
        let moved = marks.moved();
        let renewed = timeout_at(deadline, client.renew(&lease, moved.clone())).await;
        match renewed {
            Ok(Ok(())) => marks.reported(&moved),
            Ok(Err(error)) if error.kind() == ErrorKind::Fenced => {
                tracing::warn!(broker = %lease.broker(), %error, "fenced");
                lease.fenced();
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(broker = %lease.broker(), %error, "lease not renewed");
            }
            Err(_) => tracing::warn!(broker = %lease.broker(), "lease not renewed in time"),
        }
        lease.note();
    }
}

/// Resolves when a renewal is wanted before its time, and not before `early`.
async fn wanted(marks: &mut impl Marks, early: Instant) {
    sleep_until(early).await;
    marks.wanted().await;
}

// === impl LeaseKeeper ===

impl LeaseKeeper {
    /// The lease that it keeps.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Returns when nobody keeps the lease any more, and why: fenced, or the keeper has failed. To be
    /// awaited to its end once.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(()) => "the epoch is fenced".to_owned(),
            Err(error) => format!("the keeper of the lease has failed: {error}"),
        }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
