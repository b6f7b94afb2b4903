//! Random commands against a small reference model, which knows only what must come of them.

use super::moves::drain;
use super::*;
use crate::command::{MoveCommand, OldSlice, Release, ReplaceRun, ReplaceSlices, Target};

/// Runs of a plain `cargo test`; `HEADWATER_MODEL_RUNS=100` makes it a million commands.
const RUNS: u64 = 20;
/// Steps of one run; each is one command.
const STEPS: u64 = 10_000;

/// xorshift: the same run for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Active,
    Fenced,
    Claimed(BrokerEpoch, u32),
    Closed,
}

struct Log {
    of: i32,
    owner: BrokerEpoch,
    phase: Phase,
    trim: u64,
    claims: u32,
    /// Heirs that died where it stands, the last three.
    deaths: Vec<(i32, BrokerEpoch)>,
    /// Whether they set it aside.
    aside: bool,
    /// How often the next one's turn came.
    turns: u32,
}

/// A partition: every offset from 0 to `end` was committed by exactly one round.
#[derive(Clone, Debug, Default)]
struct Part {
    owner: Option<BrokerEpoch>,
    awaits: Option<WalId>,
    epoch: i32,
    start: i64,
    end: i64,
    slices: Vec<(i64, i64, String)>,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<BrokerEpoch, (i32, Option<WalId>)>,
    logs: BTreeMap<WalId, Log>,
    parts: BTreeMap<i32, Part>,
    objects: u64,
    draining: BTreeSet<i32>,
    leaving: BTreeSet<BrokerEpoch>,
    /// Epochs that were given, with their nodes.
    given: Vec<(i32, BrokerEpoch)>,
    seen: Seen,
}

/// What came to pass: a run in which it did not shows nothing of it.
#[derive(Debug, Default)]
struct Seen {
    set_aside: u64,
    /// Deaths that were none.
    taken_back: u64,
    /// Logs that are set aside no more, as heirs lived.
    lifted: u64,
}

impl Log {
    /// Three deaths in a row, not all of one node: before they are, older ones are forgotten.
    fn died(&mut self, node: i32, epoch: BrokerEpoch) -> bool {
        self.deaths.push((node, epoch));
        let others = self.deaths.iter().any(|(other, _)| *other != node);
        let aside = self.deaths.len() >= 3 && others;
        self.aside |= aside;
        if self.deaths.len() > 3 {
            self.deaths.remove(0);
        }
        aside
    }

    fn forget_deaths(&mut self) {
        self.deaths.clear();
        self.aside = false;
    }
}

impl Model {
    fn fence(&mut self, broker: BrokerEpoch) {
        let Some((node, wal)) = self.live.remove(&broker) else {
            return;
        };
        for log in self.logs.values_mut() {
            if matches!(log.phase, Phase::Claimed(heir, _) if heir == broker) {
                log.phase = Phase::Fenced;
                self.seen.set_aside += u64::from(log.died(node, broker));
            } else if wal.is_none() && log.phase == Phase::Fenced && log.of == node {
                log.turns += 1;
            }
        }
        let mut open = None;
        if let Some(wal) = wal
            && self.logs[&wal].phase == Phase::Active
        {
            self.logs.get_mut(&wal).unwrap().phase = Phase::Fenced;
            open = Some(wal);
        }
        for part in self
            .parts
            .values_mut()
            .filter(|part| part.owner == Some(broker))
        {
            (part.owner, part.awaits) = (None, open);
        }
    }

    /// The process that held `epoch` says so, as `node`.
    fn lived(&mut self, node: i32, epoch: BrokerEpoch) {
        for log in self.logs.values_mut() {
            let counted = log.deaths.len();
            log.deaths.retain(|death| *death != (node, epoch));
            if log.deaths.len() == counted {
                continue;
            }
            log.turns += 1;
            self.seen.taken_back += 1;
            let nodes: BTreeSet<_> = log.deaths.iter().map(|(node, _)| *node).collect();
            if log.aside && (log.deaths.len() < 3 || nodes.len() < 2) {
                log.aside = false;
                self.seen.lifted += 1;
            }
        }
    }

    fn writer(&self, wal: WalId, claim: Option<u32>, broker: BrokerEpoch) -> bool {
        let log = &self.logs[&wal];
        self.live.contains_key(&broker)
            && match claim {
                None => log.phase == Phase::Active && log.owner == broker,
                Some(claim) => log.phase == Phase::Claimed(broker, claim),
            }
    }

    fn close(&mut self, wal: WalId) {
        let owner = self.logs[&wal].owner;
        self.logs.get_mut(&wal).unwrap().phase = Phase::Closed;
        for part in self.parts.values_mut() {
            if part.awaits == Some(wal) || part.owner == Some(owner) {
                (part.awaits, part.owner) = (None, None);
            }
        }
    }

    /// Who may be given partitions.
    fn willing(&self) -> Vec<BrokerEpoch> {
        let willing = self.live.iter().filter(|(epoch, (node, wal))| {
            let active = |wal: &WalId| self.logs.get(wal).is_some_and(|l| l.phase == Phase::Active);
            wal.as_ref().is_some_and(active)
                && !self.leaving.contains(epoch)
                && !self.draining.contains(node)
        });
        willing.map(|(epoch, _)| *epoch).collect()
    }

    /// Takes over who leads now, having checked that it may.
    fn follow(&mut self, state: &State, thorough: bool) {
        let willing = self.willing();
        for (index, part) in &mut self.parts {
            let real = state.topics.partition(tp(*index)).unwrap();
            if real.leader != part.owner {
                let leader = real
                    .leader
                    .expect("a leader goes by a command of the model only");
                assert!(
                    part.owner.is_none() && part.awaits.is_none(),
                    "R13: {index}"
                );
                let (_, wal) = self.live[&leader];
                assert_eq!(self.logs[&wal.unwrap()].phase, Phase::Active);
                assert!(
                    willing.is_empty() || willing.contains(&leader),
                    "{index} is given to {leader}, who is not willing"
                );
                part.owner = Some(leader);
                part.epoch += 1;
            }
            assert_eq!(real.awaits, part.awaits, "partition {index}");
            assert_eq!(real.leader_epoch.0, part.epoch, "partition {index}");
            assert_eq!((real.log_start, real.committed_end), (part.start, part.end));
            if !thorough {
                continue;
            }
            let slices = real.slices.iter().map(|s| {
                let key = state.objects.get(s.object).key.to_string();
                (s.first_offset, s.end_offset, key)
            });
            assert_eq!(slices.collect::<Vec<_>>(), part.slices, "partition {index}");
        }
        for (id, log) in &self.logs {
            // Forgotten ones had been closed.
            let Some(real) = state.wals.get(id) else {
                continue;
            };
            assert_eq!(real.trim, log.trim);
            if log.phase != Phase::Closed {
                let deaths = real.deaths.iter().map(|death| (death.node.0, death.epoch));
                assert_eq!(deaths.collect::<Vec<_>>(), log.deaths, "log {id}");
                assert_eq!(real.quarantine.is_some(), log.aside, "log {id}");
                assert_eq!(real.yields, log.turns, "log {id}");
            }
        }
    }
}

impl Part {
    fn retain(&mut self) {
        let start = self.start;
        self.slices.retain(|(_, end, _)| *end > start);
    }
}

struct Run {
    world: World,
    model: Model,
    dice: Dice,
}

impl Run {
    fn step(&mut self) {
        match self.dice.below(60) {
            0 => self.register(),
            1 => self.fence(),
            2..=9 => self.claim(),
            10..=15 => self.close(),
            16..=18 => self.log_start(),
            19..=24 => self.replace(),
            25 | 26 => self.release(),
            27 => self.sweep(),
            28 => self.unwilling(),
            29 => self.target(),
            _ => self.commit(),
        }
        let thorough = self.dice.below(16) == 0;
        self.model.follow(&self.world.state, thorough);
    }

    fn any_live(&mut self) -> Option<BrokerEpoch> {
        let live: Vec<_> = self.model.live.keys().copied().collect();
        self.dice.pick(&live)
    }

    fn open_logs(&self) -> Vec<WalId> {
        let open = self
            .model
            .logs
            .iter()
            .filter(|(_, log)| log.phase != Phase::Closed);
        open.map(|(id, _)| *id).collect()
    }

    fn register(&mut self) {
        let node = self.dice.below(3) as i32;
        let same: Vec<_> = self
            .model
            .live
            .iter()
            .filter(|(_, b)| b.0 == node)
            .collect();
        let same: Vec<_> = same.into_iter().map(|(epoch, _)| *epoch).collect();
        same.into_iter().for_each(|epoch| self.model.fence(epoch));
        let lived = self.lived(node);
        if let Some(epoch) = lived {
            self.model.lived(node, epoch);
        }
        let broker = self.world.register_again(node, lived);
        self.model.given.push((node, broker));
        self.model.live.insert(broker, (node, None));
        self.model.follow(&self.world.state, false);
        if self.dice.below(4) == 0 {
            // It has no log yet when the next one comes.
            return;
        }
        let wal = self.world.open_wal(broker, WalBackend::Object);
        self.model.live.insert(broker, (node, Some(wal)));
        let log = Log {
            of: node,
            owner: broker,
            phase: Phase::Active,
            trim: 0,
            claims: 0,
            deaths: Vec::new(),
            aside: false,
            turns: 0,
        };
        self.model.logs.insert(wal, log);
    }

    /// What the process of `node` says of itself: nothing, the epoch that it held, an older one of
    /// that node, or one that was another's.
    fn lived(&mut self, node: i32) -> Option<BrokerEpoch> {
        let given = &self.model.given;
        let own: Vec<_> = given.iter().filter(|(of, _)| *of == node).collect();
        let own: Vec<_> = own.into_iter().map(|(_, epoch)| *epoch).collect();
        let recent = given.len().saturating_sub(8);
        let any: Vec<_> = given[recent..].iter().map(|(_, epoch)| *epoch).collect();
        match self.dice.below(8) {
            0..=1 => None,
            2..=5 => own.last().copied(),
            6 => self.dice.pick(&own[own.len().saturating_sub(4)..]),
            _ => self.dice.pick(&any),
        }
    }

    fn fence(&mut self) {
        if let Some(broker) = self.any_live() {
            self.model.fence(broker);
            self.world.done(Command::FenceBroker { broker });
        }
    }

    fn claim(&mut self) {
        let (Some(wal), Some(heir)) = (self.dice.pick(&self.open_logs()), self.any_live()) else {
            return;
        };
        let log = &self.model.logs[&wal];
        let free = match log.phase {
            Phase::Fenced => true,
            Phase::Claimed(holder, _) => holder == heir || !self.model.live.contains_key(&holder),
            Phase::Active | Phase::Closed => false,
        };
        if log.aside {
            let claim = Command::ClaimWal { wal, heir };
            assert_eq!(self.world.refused(claim), ErrorKind::Invalid);
            // An operator takes some time.
            if self.dice.below(8) > 0 {
                return;
            }
            self.world.done(Command::UnquarantineWal { wal });
            self.model.logs.get_mut(&wal).unwrap().forget_deaths();
        }
        let answer = self.world.apply(Command::ClaimWal { wal, heir });
        assert_eq!(answer.is_ok(), free, "{answer:?}");
        let Ok(Response::Claimed(claimed)) = answer else {
            return;
        };
        let log = self.model.logs.get_mut(&wal).unwrap();
        log.claims += 1;
        log.phase = Phase::Claimed(heir, log.claims);
        assert_eq!((claimed.claim.0, claimed.trim), (log.claims, log.trim));
        let waiting = self
            .model
            .parts
            .values()
            .filter(|part| part.awaits == Some(wal));
        assert_eq!(claimed.partitions.len(), waiting.count());
    }

    /// A claim that mostly is the right one.
    fn writer_of(&mut self, wal: WalId) -> Option<(Option<u32>, BrokerEpoch)> {
        if self.dice.below(10) == 0 {
            let claim = self.dice.below(3) as u32;
            return Some(((claim > 0).then_some(claim), self.any_live()?));
        }
        match self.model.logs[&wal].phase {
            Phase::Claimed(heir, claim) => Some((Some(claim), heir)),
            _ => Some((None, self.model.logs[&wal].owner)),
        }
    }

    fn close(&mut self) {
        let Some(wal) = self.dice.pick(&self.open_logs()) else {
            return;
        };
        // Owners close seldom: a log that stays is more to test with.
        if self.model.logs[&wal].phase == Phase::Active && self.dice.below(4) > 0 {
            return;
        }
        let Some((claim, broker)) = self.writer_of(wal) else {
            return;
        };
        let end = self.model.logs[&wal].trim + u64::from(self.dice.below(8) == 0);
        let good = self.model.writer(wal, claim, broker) && end == self.model.logs[&wal].trim;
        let answer = self.world.apply(close(wal, claim.map(Claim), broker, end));
        assert_eq!(answer.is_ok(), good, "{answer:?}");
        if good {
            self.model.close(wal);
        }
    }

    /// Mostly one that the log may hold data of.
    fn partition_of(&mut self, wal: WalId, broker: BrokerEpoch) -> i32 {
        let parts = self.model.parts.iter();
        let own = parts.filter(|(_, p)| p.awaits == Some(wal) || p.owner == Some(broker));
        let own: Vec<_> = own.map(|(index, _)| *index).collect();
        match self.dice.pick(&own) {
            Some(index) if self.dice.below(10) > 0 => index,
            _ => self.dice.below(4) as i32,
        }
    }

    fn key(&mut self) -> String {
        self.model.objects += 1;
        format!("o{}", self.model.objects)
    }

    fn commit(&mut self) {
        let Some(wal) = self.dice.pick(&self.open_logs()) else {
            return;
        };
        let Some((claim, broker)) = self.writer_of(wal) else {
            return;
        };
        let trim = self.model.logs[&wal].trim;
        let from = if self.dice.below(12) == 0 {
            trim + 1
        } else {
            trim
        };
        let to = from + self.dice.below(4);
        let key = self.key();
        let mut slices = Vec::new();
        // What the round would lead to, partition by partition.
        let mut after = self.model.parts.clone();
        let mut outcomes = Ok(Vec::new());
        for _ in 0..self.dice.below(4) {
            let index = self.partition_of(wal, broker);
            let part = after.get_mut(&index).unwrap();
            let first = (part.end + [0, 0, 0, 0, -2, 1][self.dice.below(6) as usize]).max(0);
            let end = first + 1 + self.dice.below(4) as i64;
            let epoch = (part.epoch - i32::from(self.dice.below(10) == 0)).max(0);
            slices.push(slice(index, epoch, (first, end), &key));
            let Ok(known) = &mut outcomes else { continue };
            let owned = match claim {
                None => part.owner == Some(broker),
                Some(_) => part.awaits == Some(wal),
            };
            if epoch < part.epoch || (end <= part.end && epoch == part.epoch) {
                known.push(SliceOutcome::Dropped);
            } else if !owned || epoch > part.epoch || first != part.end {
                outcomes = Err(());
            } else {
                part.end = end;
                part.slices.push((first, end, key.clone()));
                known.push(SliceOutcome::Committed);
            }
        }
        if !self.model.writer(wal, claim, broker) || (from != to && from != trim) {
            outcomes = Err(());
        }
        let claim = claim.map(Claim);
        let round = CommitUpload {
            claim,
            ..round(broker, wal, (from, to), slices)
        };
        let id = self.world.fresh_id();
        let command = Command::CommitUpload(round);
        let answer = self.world.apply_as(id, command.clone());
        assert_eq!(
            answer.clone().map_err(drop),
            outcomes.map(Response::Committed),
            "{answer:?}"
        );
        if answer.is_ok() {
            after.values_mut().for_each(Part::retain);
            self.model.parts = after;
            let log = self.model.logs.get_mut(&wal).unwrap();
            if from != to {
                log.trim = to;
                log.forget_deaths();
            }
            if self.dice.below(4) == 0 {
                assert_eq!(self.world.apply_as(id, command), answer, "done once");
            }
        }
    }

    fn log_start(&mut self) {
        let (index, Some(broker)) = (self.dice.below(4) as i32, self.any_live()) else {
            return;
        };
        let part = self.model.parts.get_mut(&index).unwrap();
        let at = part.start + self.dice.below(8) as i64 - 1;
        let led = (broker, tp(index), LeaderEpoch(part.epoch));
        let good = part.owner == Some(broker);
        if good {
            part.start = part.start.max(at);
            part.retain();
        }
        let answer = self.world.apply(super::commit::set_log_start(led, at));
        assert_eq!(answer.is_ok(), good, "{answer:?}");
    }

    fn replace(&mut self) {
        let index = self.dice.below(4) as i32;
        let part = self.model.parts[&index].clone();
        let Some(broker) = part.owner else { return };
        if part.slices.len() < 2 {
            return;
        }
        let from = self.dice.below(part.slices.len() as u64 - 1) as usize;
        let count = 1 + self.dice.below((part.slices.len() - from) as u64) as usize;
        let run = &part.slices[from..from + count];
        let (first, end) = (run[0].0, run[count - 1].1);
        let changed = self.dice.below(8) == 0;
        let old = run.iter().map(|(first_offset, end_offset, key)| OldSlice {
            first_offset: *first_offset,
            end_offset: *end_offset,
            key: if changed {
                "else".to_owned()
            } else {
                key.clone()
            },
        });
        let (old, key) = (old.collect(), self.key());
        // At the newest epoch among them, so that epochs do not fall.
        let real = self.world.partition(index);
        let epoch = real.slices[from + count - 1].leader_epoch.0;
        let run = ReplaceRun {
            topic_partition: tp(index),
            leader_epoch: LeaderEpoch(part.epoch),
            old,
            new: vec![slice(index, epoch, (first, end), &key)],
        };
        let command = Command::ReplaceSlices(ReplaceSlices {
            broker_epoch: broker,
            runs: vec![run],
        });
        let answer = self.world.apply(command);
        assert_eq!(answer.is_ok(), !changed, "{answer:?}");
        if !changed {
            let part = self.model.parts.get_mut(&index).unwrap();
            part.slices.splice(from..from + count, [(first, end, key)]);
        }
    }

    /// Any log at all: an open one refuses, and nothing but the list of the unswept changes.
    fn sweep(&mut self) {
        let logs: Vec<_> = self.model.logs.keys().copied().collect();
        let Some(wal) = self.dice.pick(&logs) else {
            return;
        };
        let closed = self.model.logs[&wal].phase == Phase::Closed;
        let answer = self.world.apply(Command::RecordSwept { wal });
        assert_eq!(answer.is_ok(), closed, "{answer:?}");
        let listed = crate::image::Image::new(&self.world.state);
        assert!(!listed.unswept.contains_key(&wal));
    }

    /// Somebody drains, comes back or leaves.
    fn unwilling(&mut self) {
        let Some(broker) = self.any_live() else {
            return;
        };
        let node = self.model.live[&broker].0;
        match self.dice.below(4) {
            0 => {
                self.world.done(drain(node, true));
                self.model.draining.insert(node);
            }
            1 => {
                self.world
                    .done(Command::Move(MoveCommand::Leaving { broker }));
                self.model.leaving.insert(broker);
            }
            _ => {
                self.world.done(drain(node, false));
                self.model.draining.remove(&node);
            }
        }
    }

    fn target(&mut self) {
        let (index, node) = (self.dice.below(4) as i32, self.dice.below(4) as i32);
        let leads = self.model.parts[&index]
            .owner
            .map(|o| self.model.live[&o].0)
            == Some(node);
        let willing = self.model.willing();
        let takes = willing.iter().any(|epoch| self.model.live[epoch].0 == node);
        let target = Target {
            topic_partition: tp(index),
            node: Some(NodeId(node)),
            preferred: self.dice.below(2) == 0,
        };
        let command = Command::Move(MoveCommand::SetTargets(vec![target]));
        let Response::Many(answers) = self.world.done(command) else {
            panic!("not many")
        };
        assert_eq!(answers[0].is_ok(), leads || takes, "{answers:?}");
    }

    fn release(&mut self) {
        let index = self.dice.below(4) as i32;
        let part = self.model.parts[&index].clone();
        let Some(broker) = part.owner else { return };
        let end = part.end + i64::from(self.dice.below(4) == 0);
        let leader_epoch = LeaderEpoch(part.epoch);
        let good = if self.dice.below(2) == 0 {
            let release = Command::Release {
                broker,
                topic_partition: tp(index),
                leader_epoch,
                end,
                to: None,
            };
            let answer = self.world.apply(release);
            assert_eq!(answer.is_ok(), end == part.end, "{answer:?}");
            answer.is_ok()
        } else {
            let others = self
                .model
                .willing()
                .into_iter()
                .any(|other| other != broker);
            let release = Release {
                topic_partition: tp(index),
                leader_epoch,
                end,
                to: None,
            };
            let releases = vec![release];
            let command = Command::Move(MoveCommand::Release { broker, releases });
            let Response::Many(answers) = self.world.done(command) else {
                panic!("not many")
            };
            assert_eq!(answers[0].is_ok(), end == part.end && others, "{answers:?}");
            answers[0].is_ok()
        };
        if good {
            self.model.parts.get_mut(&index).unwrap().owner = None;
        }
    }
}

#[test]
fn random_commands_do_what_a_small_model_says() {
    let began = std::time::Instant::now();
    let asked = std::env::var("HEADWATER_MODEL_RUNS").ok();
    let runs = asked.map_or(RUNS, |runs| runs.parse().expect("a number of runs"));
    let mut seen = Seen::default();
    for seed in 1..=runs {
        let mut world = World {
            check_every: 61,
            ..World::newest()
        };
        world.create(4);
        let mut model = Model::default();
        let part = Part {
            epoch: -1,
            ..Part::default()
        };
        model.parts = (0..4).map(|index| (index, part.clone())).collect();
        let mut run = Run {
            world,
            model,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        for _ in 0..STEPS {
            run.step();
        }
        let state = &run.world.state;
        seen.set_aside += run.model.seen.set_aside;
        seen.taken_back += run.model.seen.taken_back;
        seen.lifted += run.model.seen.lifted;
        let committed: i64 = run.model.parts.values().map(|part| part.end).sum();
        assert!(
            committed > 50,
            "seed {seed} committed {committed} offsets only"
        );
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes).unwrap(), *state, "seed {seed}");
    }
    println!(
        "{} commands in {:?}: {seen:?}",
        runs * STEPS,
        began.elapsed()
    );
    assert!(seen.set_aside > 0 && seen.taken_back > 0 && seen.lifted > 0);
}
