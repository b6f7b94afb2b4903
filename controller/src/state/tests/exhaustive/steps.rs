//! What may happen next, and what comes of it.

use uuid::Uuid;

use super::world::{Flaw, Group, Heir, Message, Slot, Stage, WINDOW, World, partition};
use crate::command::{Command, Response};
use crate::state::{Wal, WalPhase};
use crate::types::{Claim, CommandId};
use protocol::LeaderEpoch;

/// One thing that happens. The number is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It learns that it leads.
    Open(usize),
    /// It takes a record and sends the put.
    Produce(usize),
    /// The put of this sequence number lands, now or long after its sender's death.
    Land(usize, usize),
    /// It learns what became of that put.
    Learn(usize, usize),
    /// It sends a round of all that is acknowledged.
    Upload(usize),
    /// It sends the partition's part of that without a trim.
    Early(usize),
    /// The message of this number reaches the controller, and the answer its sender.
    Deliver(usize),
    /// Its lease is taken for run out.
    Fence(usize),
    /// It was fenced, and registers again: it had lived all the while.
    Return(usize),
    /// It claims the log of the other.
    Claim(usize, usize),
    /// It reads the next group of the log that it claimed.
    Read(usize),
    /// It seals where nothing stood.
    Seal(usize),
    /// It sends what it read.
    Adopt(usize),
    /// It closes the log that it recovered.
    Close(usize),
    /// It gives the partition away.
    Release(usize),
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Produce(_) => "produce",
            Self::Land(..) => "land",
            Self::Learn(..) => "learn",
            Self::Upload(_) => "upload",
            Self::Early(_) => "early",
            Self::Deliver(_) => "deliver",
            Self::Fence(_) => "fence",
            Self::Return(_) => "return",
            Self::Claim(..) => "claim",
            Self::Read(_) => "read",
            Self::Seal(_) => "seal",
            Self::Adopt(_) => "adopt",
            Self::Close(_) => "close",
            Self::Release(_) => "release",
        }
    }
}

impl World {
    pub(super) fn possible(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for at in 0..self.processes.len() {
            self.possible_as_owner(at, &mut steps);
            self.possible_as_heir(at, &mut steps);
            if self.fences < self.bounds.fences && self.lives(at) {
                steps.push(Step::Fence(at));
            }
            let epoch = self.processes[at].epoch;
            let comes_back = self.returns < self.bounds.returns && !self.lives(at);
            if comes_back && !self.lived.contains(&epoch) {
                steps.push(Step::Return(at));
            }
        }
        steps.extend((0..self.net.len()).map(Step::Deliver));
        steps
    }

    /// Forgets messages that change nothing any more, whenever they come: worlds that differ in
    /// them only are one.
    fn forget_stale(&mut self) {
        let mut net = std::mem::take(&mut self.net);
        net.retain(|message| {
            let process = &self.processes[message.from];
            let awaited = process.waiting == Some(message.id)
                || process
                    .heir
                    .as_ref()
                    .is_some_and(|heir| heir.stage == Stage::Committing(message.id));
            let wal = self.state.wals.get(&self.processes[message.of].wal_id());
            let open = wal.is_some_and(|wal| match (wal.phase, message.claim) {
                (WalPhase::Active, claim) => claim.is_none(),
                (WalPhase::Claimed { claim: held, .. }, Some(claim)) => held == Claim(claim),
                _ => false,
            });
            awaited || (open && self.lives(message.from))
        });
        self.net = net;
    }

    fn lives(&self, at: usize) -> bool {
        let broker = self.state.brokers.get(&self.processes[at].broker());
        broker.is_some_and(|broker| !broker.fenced)
    }

    fn possible_as_owner(&self, at: usize, steps: &mut Vec<Step>) {
        let process = &self.processes[at];
        for (sequence, group) in process.frozen.iter().enumerate() {
            match process.store.get(sequence).copied().flatten() {
                None => steps.push(Step::Land(at, sequence)),
                Some(_) if process.stopped || process.known[sequence] => {}
                Some(Slot::Data(stands)) => {
                    assert_eq!(stands, *group, "one writer for each log");
                    steps.push(Step::Learn(at, sequence));
                }
                Some(Slot::Seal) => steps.push(Step::Learn(at, sequence)),
            }
        }
        if process.stopped {
            return;
        }
        let partition = self.state.topics.partition(partition()).expect("it stands");
        let led = partition.leader == Some(process.broker());
        let believes = process.leads.map(|(epoch, _)| epoch);
        if led && believes != Some(partition.leader_epoch.0) {
            steps.push(Step::Open(at));
        }
        let under_way = process.frozen.len() - process.acked_to;
        let more = self.values < self.bounds.records;
        if process.leads.is_some() && more && under_way < WINDOW {
            steps.push(Step::Produce(at));
        }
        if process.waiting.is_some() {
            return;
        }
        if process.uploaded < process.acked_to {
            steps.push(Step::Upload(at));
        }
        let Some((_, next)) = process.leads else {
            return;
        };
        if self.bounds.releases == 0 {
            return;
        }
        if !self.early(at).is_empty() {
            steps.push(Step::Early(at));
        }
        let settled = process.acked_to == process.frozen.len() && process.end == next;
        if self.releases < self.bounds.releases && (settled || self.flaw == Flaw::ReleaseEarly) {
            steps.push(Step::Release(at));
        }
    }

    fn possible_as_heir(&self, at: usize, steps: &mut Vec<Step>) {
        let Some(heir) = &self.processes[at].heir else {
            if !self.lives(at) {
                return;
            }
            for of in (0..self.processes.len()).filter(|of| *of != at) {
                let wal = self.state.wals.get(&self.processes[of].wal_id());
                let dead = wal.is_some_and(|wal| match wal.phase {
                    WalPhase::Active | WalPhase::Closed { .. } => false,
                    WalPhase::Fenced | WalPhase::Claimed { .. } => true,
                });
                if dead {
                    steps.push(Step::Claim(at, of));
                }
            }
            return;
        };
        match heir.stage {
            Stage::Reading => steps.push(Step::Read(at)),
            Stage::Sealing => steps.push(Step::Seal(at)),
            Stage::Sealed => steps.push(Step::Adopt(at)),
            Stage::Committing(_) => {}
            Stage::Committed => steps.push(Step::Close(at)),
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Open(at) => self.open(at),
            Step::Produce(at) => self.produce(at),
            Step::Land(at, sequence) => {
                let group = self.processes[at].frozen[sequence];
                self.put(at, sequence, Slot::Data(group));
            }
            Step::Learn(at, sequence) => self.learn(at, sequence),
            Step::Upload(at) => {
                let process = &self.processes[at];
                let range = (process.uploaded as u64, process.acked_to as u64);
                let groups = self.early(at);
                self.send(at, (at, None), range, groups);
            }
            Step::Early(at) => {
                let groups = self.early(at);
                self.send(at, (at, None), (0, 0), groups);
            }
            Step::Deliver(number) => self.deliver(number),
            Step::Fence(at) => {
                self.fences += 1;
                let broker = self.processes[at].broker();
                let claims = |wal: &Wal| matches!(wal.phase, WalPhase::Claimed { heir, .. } if heir == broker);
                if self.state.wals.values().any(claims) {
                    self.taken_for_dead.insert(broker.0);
                }
                let fenced = self.command(Command::FenceBroker { broker });
                fenced.expect("a broker that lives can be fenced");
            }
            Step::Return(at) => {
                self.returns += 1;
                let (node, epoch) = (self.processes[at].node, self.processes[at].epoch);
                self.lived.insert(epoch);
                self.processes[at].stopped = true;
                self.processes[at].heir = None;
                self.join(node, Some(epoch));
            }
            Step::Claim(at, of) => self.begin_recovery(at, of),
            Step::Read(at) => self.read(at),
            Step::Seal(at) => self.seal(at),
            Step::Adopt(at) => self.adopt(at),
            Step::Close(at) => self.close(at),
            Step::Release(at) => self.release(at),
        }
        self.forget_stale();
    }

    fn open(&mut self, at: usize) {
        let view = self.state.partition_state(partition()).expect("it stands");
        let process = &mut self.processes[at];
        process.leads = Some((view.leader_epoch.0, view.committed_end));
        process.end = view.committed_end;
    }

    fn produce(&mut self, at: usize) {
        self.values += 1;
        let value = self.values;
        let process = &mut self.processes[at];
        let (epoch, offset) = process.leads.expect("it leads");
        process.leads = Some((epoch, offset + 1));
        let group = Group {
            epoch,
            offset,
            value,
        };
        process.frozen.push(group);
        process.known.push(false);
        if self.flaw == Flaw::EarlyAck {
            self.acknowledge(at, group);
        }
    }

    /// A put that creates only (R2).
    fn put(&mut self, of: usize, sequence: usize, slot: Slot) {
        let store = &mut self.processes[of].store;
        while store.len() <= sequence {
            store.push(None);
        }
        store[sequence].get_or_insert(slot);
    }

    fn learn(&mut self, at: usize, sequence: usize) {
        let process = &mut self.processes[at];
        if process.store[sequence] == Some(Slot::Seal) {
            process.stopped = true;
            return;
        }
        process.known[sequence] = true;
        let mut acknowledged = Vec::new();
        while process.known.get(process.acked_to) == Some(&true) {
            acknowledged.push(process.frozen[process.acked_to]);
            process.acked_to += 1;
        }
        if self.flaw == Flaw::AckAcrossHole {
            acknowledged.push(process.frozen[sequence]);
        }
        for group in acknowledged {
            self.acknowledge(at, group);
        }
    }

    fn acknowledge(&mut self, at: usize, group: Group) {
        let Group {
            epoch,
            offset,
            value,
        } = group;
        if self.acked.insert(offset, value).is_some_and(|v| v != value) {
            self.broken = Some(format!("offset {offset} was acknowledged twice"));
        }
        if *self.writers.entry(epoch).or_insert(at) != at {
            self.broken = Some(format!("two wrote at leader epoch {epoch}"));
        }
    }

    /// Of what is acknowledged and in no committed slice: what is led now.
    fn early(&self, at: usize) -> Vec<Group> {
        let process = &self.processes[at];
        let epoch = process.leads.map(|(epoch, _)| epoch);
        let groups = process.frozen[..process.acked_to].iter();
        let wanted = groups.filter(|g| Some(g.epoch) == epoch && g.offset >= process.end);
        wanted.copied().collect()
    }

    fn send(
        &mut self,
        at: usize,
        (of, claim): (usize, Option<u32>),
        range: (u64, u64),
        groups: Vec<Group>,
    ) {
        let id = self.fresh_id();
        self.net.push(Message {
            id,
            from: at,
            of,
            claim,
            range,
            groups,
            left: 2,
        });
        let process = &mut self.processes[at];
        match &mut process.heir {
            Some(heir) if claim.is_some() => heir.stage = Stage::Committing(id),
            _ => process.waiting = Some(id),
        }
    }

    fn deliver(&mut self, number: usize) {
        let message = self.net[number].clone();
        self.net[number].left -= 1;
        if self.net[number].left == 0 {
            self.net.remove(number);
        }
        let round = Command::CommitUpload(self.round(&message));
        let id = CommandId(Uuid::from_u128(u128::from(message.id)));
        let done = self.apply(id, round).is_some();
        let process = &mut self.processes[message.from];
        if process.waiting == Some(message.id) {
            process.waiting = None;
            if !done {
                process.stopped = true;
                return;
            }
            if let Some(last) = message.groups.last() {
                process.end = process.end.max(last.offset + 1);
            }
            if message.range.0 != message.range.1 {
                process.uploaded = message.range.1 as usize;
            }
        }
        if let Some(heir) = &mut process.heir
            && heir.stage == Stage::Committing(message.id)
        {
            if done {
                heir.stage = Stage::Committed;
            } else {
                process.heir = None;
            }
        }
    }

    fn begin_recovery(&mut self, at: usize, of: usize) {
        let (wal, broker) = (self.processes[of].wal_id(), self.processes[at].broker());
        let Some(claimed) = self.claim(wal, broker) else {
            return;
        };
        let waits = claimed.partitions.first();
        self.processes[at].heir = Some(Heir {
            of,
            claim: claimed.claim.0,
            trim: claimed.trim,
            partition: waits.map(|p| (p.leader_epoch.0, p.committed_end)),
            read: Vec::new(),
            stage: Stage::Reading,
        });
    }

    fn read(&mut self, at: usize) {
        let flaw = self.flaw;
        let heir = self.processes[at].heir.clone().expect("it recovers");
        let next = heir.trim as usize + heir.read.len();
        let stands = self.processes[heir.of].store.get(next).copied().flatten();
        let heir = self.processes[at].heir.as_mut().expect("it recovers");
        match stands {
            Some(Slot::Data(group)) => heir.read.push(group),
            Some(Slot::Seal) => heir.stage = Stage::Sealed,
            None if flaw == Flaw::NoSeal => heir.stage = Stage::Sealed,
            None => heir.stage = Stage::Sealing,
        }
    }

    fn seal(&mut self, at: usize) {
        let heir = self.processes[at].heir.clone().expect("it recovers");
        let next = heir.trim as usize + heir.read.len();
        if self.flaw == Flaw::SealOverwrites
            && let Some(slot) = self.processes[heir.of].store.get_mut(next)
        {
            *slot = None;
        }
        self.put(heir.of, next, Slot::Seal);
        let heir = self.processes[at].heir.as_mut().expect("it recovers");
        heir.stage = Stage::Reading;
    }

    fn adopt(&mut self, at: usize) {
        let heir = self.processes[at].heir.clone().expect("it recovers");
        let end = heir.trim + heir.read.len() as u64;
        // R12: of the epoch at the fence, beyond the committed end.
        let wanted = heir.read.iter().filter(|group| {
            let of = heir.partition;
            of.is_some_and(|(epoch, end)| group.epoch == epoch && group.offset >= end)
        });
        let groups: Vec<Group> = wanted.copied().collect();
        if end == heir.trim {
            let heir = self.processes[at].heir.as_mut().expect("it recovers");
            heir.stage = Stage::Committed;
            return;
        }
        self.send(at, (heir.of, Some(heir.claim)), (heir.trim, end), groups);
    }

    fn close(&mut self, at: usize) {
        let heir = self.processes[at].heir.take().expect("it recovers");
        let close = Command::CloseWal {
            wal: self.processes[heir.of].wal_id(),
            claim: Some(Claim(heir.claim)),
            broker: self.processes[at].broker(),
            end: heir.trim + heir.read.len() as u64,
        };
        // Refused when another one has claimed it meanwhile.
        let _ = self.command(close);
    }

    fn release(&mut self, at: usize) {
        self.releases += 1;
        let process = &self.processes[at];
        let (epoch, next) = process.leads.expect("it leads");
        let release = Command::Release {
            broker: process.broker(),
            topic_partition: partition(),
            leader_epoch: LeaderEpoch(epoch),
            end: next,
            to: None,
        };
        if let Some(Response::Released { .. }) = self.command(release) {
            self.processes[at].leads = None;
        }
    }
}
