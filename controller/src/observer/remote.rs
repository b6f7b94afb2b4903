//! The way to the leader from where no voter is: found by asking any controller, remembered while
//! it answers.
//!
//! **Invariant:** one search at a time, and not too many a second, however many ask: when nobody
//! leads, all who wait share what the search came to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::client::{lease_told, refused, unavailable};
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::limits::{
    FIND_GRACE, FIND_PAUSE, FIND_TIMEOUT, LEADER_SHUNNED, MAX_CONTROLLERS, MAX_REDIRECTS,
    RPC_TIMEOUT,
};
use crate::rpc::{Channels, Target, method, wire};

/// Controllers elsewhere.
pub(crate) struct Remote {
    channels: Channels,
    configured: Vec<String>,
    image: watch::Receiver<Arc<Image>>,
    newest_level: u16,
    /// How far the leader said it is: the image should come that far.
    told: watch::Sender<u64>,
    known: Mutex<Known>,
    search: tokio::sync::Mutex<Search>,
}

#[derive(Default)]
struct Known {
    leader: Option<Target>,
    /// Who failed last, and when.
    failed: Option<(u64, Instant)>,
    members: BTreeMap<u64, Target>,
    /// How long a lease is to those that led, as each said last.
    leases: BTreeMap<u64, Duration>,
    /// Those of the members that vote.
    voters: BTreeSet<u64>,
}

/// The last search, when it found nobody.
struct Search {
    ended: Option<Instant>,
    reason: String,
}

/// Forgets the leader unless it answers: whoever stops waiting for it drops this.
struct Asking<'a> {
    remote: &'a Remote,
    leader: Option<Target>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(leader) = &self.leader {
            self.remote.forget(leader);
        }
    }
}

// === impl Remote ===

impl Remote {
    pub(super) fn new(
        channels: Channels,
        configured: Vec<String>,
        image: watch::Receiver<Arc<Image>>,
        newest_level: u16,
    ) -> Self {
        let search = Search {
            ended: None,
            reason: String::new(),
        };
        Self {
            channels,
            configured,
            image,
            newest_level,
            told: watch::Sender::new(0),
            known: Mutex::default(),
            search: tokio::sync::Mutex::new(search),
        }
    }

    pub(crate) fn image(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// The newest level that this process knows.
    pub(crate) fn newest_level(&self) -> u16 {
        self.newest_level
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// How far the leader said it is.
    pub(super) fn goal(&self) -> u64 {
        *self.told.borrow()
    }

    /// From now on these are the voters, and those that are to be.
    pub(super) fn set_members(&self, members: &[wire::Member]) {
        let members = members.iter().take(MAX_CONTROLLERS);
        let voters = members.clone().filter(|member| !member.learner);
        let voters = voters.map(|member| member.node).collect();
        let members: BTreeMap<_, _> = members
            .map(|member| (member.node, Target::from_member(member)))
            .collect();
        self.channels.set_members(members.clone());
        let mut known = self.known.lock();
        known.members = members;
        known.voters = voters;
    }

    /// The voters that are known.
    pub(crate) fn voters(&self) -> Vec<Target> {
        let known = self.known.lock();
        let members = known.members.values();
        let voters = members.filter(|member| known.voters.contains(&member.node));
        voters.cloned().collect()
    }

    /// Where controllers may be: the voters that are known, and those that were configured.
    pub(super) fn addresses(&self) -> Vec<String> {
        let known = self.known.lock();
        let members = known.members.values().map(|target| &target.address);
        let mut addresses: Vec<String> = Vec::new();
        for address in members.chain(&self.configured) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Who answers at `address`.
    pub(super) async fn identify(
        &self,
        address: &str,
    ) -> Result<(Target, wire::Identity), tonic::Status> {
        let mut target = Target {
            node: 0,
            address: address.to_owned(),
            directory: Uuid::nil(),
        };
        let question = wire::Nothing {};
        let asked = self
            .channels
            .ask(&target, method::IDENTIFY, question, FIND_TIMEOUT);
        let identity: wire::Identity = asked.await?;
        target.node = identity.node;
        target.directory = Uuid::from_slice(&identity.directory)
            .map_err(|e| tonic::Status::internal(format!("its directory: {e}")))?;
        Ok((target, identity))
    }

    /// Has the leader do what is asked.
    pub(crate) async fn ask(&self, ask: wire::Ask) -> Result<wire::Outcome, Error> {
        let mut leader = self.leader().await?;
        for _ in 0..MAX_REDIRECTS {
            let ask = wire::Ask {
                redirect: true,
                ..ask.clone()
            };
            let mut asking = Asking {
                remote: self,
                leader: Some(leader.clone()),
            };
            let asked = self
                .channels
                .ask(&leader, method::ASK, ask, RPC_TIMEOUT)
                .await;
            let outcome: wire::Outcome = match asked {
                Ok(outcome) => outcome,
                Err(status) => {
                    let error = refused(&status);
                    if error.kind() != ErrorKind::Retry {
                        asking.leader = None;
                    }
                    return Err(error);
                }
            };
            asking.leader = None;
            match &outcome.elsewhere {
                None => {
                    if let Some(lease) = lease_told(&outcome) {
                        self.known.lock().heard_lease(leader.node, lease);
                    }
                    self.told.send_if_modified(|told| {
                        let further = outcome.index > *told;
                        *told = outcome.index.max(*told);
                        further
                    });
                    return Ok(outcome);
                }
                Some(other) => {
                    leader = Target::from_member(other);
                    self.known.lock().leader = Some(leader.clone());
                }
            }
        }
        self.forget(&leader);
        Err(unavailable("the controllers do not agree who leads"))
    }

    /// The longest lease that was told here.
    pub(crate) fn longest_lease(&self) -> Duration {
        let known = self.known.lock();
        known.leases.values().copied().max().unwrap_or_default()
    }

    fn forget(&self, failed: &Target) {
        let mut known = self.known.lock();
        if known.leader.as_ref() == Some(failed) {
            known.leader = None;
        }
        known.failed = Some((failed.node, Instant::now()));
    }

    /// The leader as it is known, if it did not just fail: the image tells of changes, too.
    fn known_leader(&self) -> Option<Target> {
        let told = self.image.borrow().controller;
        let mut known = self.known.lock();
        let told = told.and_then(|node| u64::try_from(node.0).ok());
        let told = told.filter(|node| !known.shuns(*node));
        let told = told.and_then(|node| known.members.get(&node)).cloned();
        if known.leader.is_none() {
            known.leader = told;
        }
        known.leader.clone()
    }

    async fn leader(&self) -> Result<Target, Error> {
        if let Some(leader) = self.known_leader() {
            return Ok(leader);
        }
        let asked = Instant::now();
        let mut search = self.search.lock().await;
        if let Some(leader) = self.known_leader() {
            return Ok(leader);
        }
        if search.ended.is_some_and(|ended| ended > asked) {
            return Err(unavailable(&search.reason));
        }
        if let Some(ended) = search.ended {
            sleep_until(ended + FIND_PAUSE).await;
        }
        let found = self.find().await;
        search.ended = Some(Instant::now());
        match found {
            Ok(leader) => {
                self.known.lock().leader = Some(leader.clone());
                Ok(leader)
            }
            Err(reason) => {
                search.reason = reason;
                Err(unavailable(&search.reason))
            }
        }
    }

    /// Asks all controllers who leads: the word of the highest term counts, but one that just
    /// failed is taken only when nobody names another.
    async fn find(&self) -> Result<Target, String> {
        let addresses = self.addresses();
        let mut asked: FuturesUnordered<_> = addresses
            .iter()
            .map(|address| async move { (address, self.identify(address).await) })
            .collect();
        let mut best: Option<((bool, u64), Target)> = None;
        let mut reasons = Vec::new();
        let mut until = Instant::now() + FIND_TIMEOUT;
        while let Ok(Some((address, identity))) = timeout_at(until, asked.next()).await {
            let identity = match identity {
                Ok((_, identity)) => identity,
                Err(status) => {
                    reasons.push(format!("{address}: {}", status.message()));
                    continue;
                }
            };
            let Some(leader) = &identity.leader else {
                reasons.push(format!("{address}: knows of no leader"));
                continue;
            };
            let fresh = !self.known.lock().shuns(leader.node);
            let rank = (fresh, identity.term);
            if best.as_ref().is_none_or(|(standing, _)| rank > *standing) {
                best = Some((rank, Target::from_member(leader)));
            }
            if fresh {
                until = until.min(Instant::now() + FIND_GRACE);
            }
        }
        let nobody = || format!("no controller leads now ({})", reasons.join("; "));
        best.map(|(_, leader)| leader).ok_or_else(nobody)
    }
}

// === impl Known ===

impl Known {
    fn heard_lease(&mut self, voter: u64, lease: Duration) {
        if self.leases.len() < MAX_CONTROLLERS || self.leases.contains_key(&voter) {
            self.leases.insert(voter, lease);
        }
    }

    fn shuns(&self, node: u64) -> bool {
        let failed = self.failed.filter(|(failed, _)| *failed == node);
        failed.is_some_and(|(_, at)| at.elapsed() < LEADER_SHUNNED)
    }
}
