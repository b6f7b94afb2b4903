//! A long random life of a group, against what clients know of it.
//!
//! The reference is the clients themselves: they read from what they were given until they gave it
//! up, and whoever is heard of in time is never refused, whatever answers were lost.

use super::*;

const SEEDS: u64 = 10;
const STEPS: usize = 100_000;
const CLIENTS: usize = 6;

struct Life {
    bench: Bench,
    dice: Dice,
    clients: Vec<Client>,
    born: usize,
    epoch: i32,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench::new(&[("t", 1, 4), ("u", 2, 3)]),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            clients: Vec::new(),
            born: 0,
            epoch: 0,
        }
    }

    fn fresh_id(&mut self) -> Name {
        self.born += 1;
        format!("m{}", self.born).into()
    }

    fn topics(&mut self) -> Vec<Name> {
        let choice = [&["t", "u"][..], &["t"], &["u"], &["t", "u"], &["gone"]];
        let topics = choice[self.dice.roll(choice.len())];
        topics.iter().map(|topic| Name::from(*topic)).collect()
    }

    fn some(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.dice.roll(self.clients.len()))
    }

    /// What a client reads from, nobody else does.
    fn alone(&self, index: usize) {
        let one = &self.clients[index];
        for other in &self.clients {
            assert!(
                other.id == one.id || !other.held.meets(&one.held),
                "{one:?} and {other:?} read from the same"
            );
        }
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.epoch == STATIC_LEAVE_EPOCH {
            // It comes back as another process.
            self.born += 1;
            client.id = format!("m{}", self.born).into();
            client.is_fenced();
        }
        let is_quiet = client.epoch > 0
            && !client.is_unsure
            && client.held == client.wanted
            && self.dice.roll(2) == 0;
        let request = if is_quiet {
            client.delta()
        } else {
            client.request()
        };
        let answer = self.bench.send(&request);
        let answer = answer.unwrap_or_else(|refusal| panic!("{request:?}: {refusal:?}"));
        if self.dice.roll(6) == 0 {
            client.is_unsure = true;
        } else {
            client.hears(&answer);
        }
        self.alone(index);
    }

    fn join(&mut self) {
        if self.clients.len() == CLIENTS {
            return;
        }
        let id = self.fresh_id();
        let instance = (self.dice.roll(3) == 0).then(|| format!("i-{id}").into());
        let topics = self.topics();
        self.clients.push(Client {
            id,
            instance,
            topics,
            ..Client::default()
        });
        self.heartbeat(self.clients.len() - 1);
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        // Whoever has not heard that it joined does not say goodbye.
        if client.epoch <= 0 {
            return;
        }
        if client.instance.is_some() && self.dice.roll(3) > 0 {
            self.bench.send(&client.leaves(STATIC_LEAVE_EPOCH)).unwrap();
            client.is_fenced();
            client.epoch = STATIC_LEAVE_EPOCH;
        } else {
            self.bench.send(&client.leaves(LEAVE_EPOCH)).unwrap();
            self.clients.remove(index);
        }
    }

    fn wait(&mut self) {
        self.bench.now_ms += self.dice.roll(6_000) as u64;
        let (group, cluster) = (&mut self.bench.group, &self.bench.cluster);
        let outcome = group.expire(self.bench.now_ms, cluster);
        self.bench.log.append(&outcome.records);
        for id in outcome.answer.unwrap() {
            // Its own timers told it so before.
            self.clients.retain(|client| client.id != id);
        }
        let next = self.bench.group.next_deadline_ms();
        assert!(next.is_none_or(|next| next > self.bench.now_ms));
    }

    fn change(&mut self) {
        match self.dice.roll(4) {
            0 => {
                let partitions = 1 + self.dice.roll(5) as i32;
                let id = 1 + self.dice.roll(3) as u128;
                let (name, id) = [("t", id * 10), ("u", id * 10 + 1)][self.dice.roll(2)];
                self.bench.cluster.set(name, id, partitions);
                self.bench.group.topics_changed();
            }
            1 => {
                let topics = self.topics();
                if let Some(index) = self.some() {
                    let client = &mut self.clients[index];
                    client.topics = topics;
                    client.is_unsure = true;
                }
            }
            2 => {
                // Another coordinator.
                let mut group = self.bench.log.fold();
                assert_eq!(durable(&group), durable(&self.bench.group));
                let outcome = group.loaded(self.bench.now_ms, &self.bench.cluster);
                assert_eq!(outcome.records, []);
                self.bench.group = group;
            }
            _ => self.bench.log.compact(),
        }
    }

    fn step(&mut self) {
        let some = self.some();
        match (self.dice.roll(64), some) {
            (0..36, Some(index)) => self.heartbeat(index),
            (36..54, Some(index)) => {
                self.clients[index].revokes();
            }
            (54..57, Some(index)) => self.leave(index),
            (57..59, _) => self.wait(),
            (59, _) => self.change(),
            _ => self.join(),
        }
        let epoch = self.bench.group.epoch();
        assert!(epoch >= self.epoch, "the epoch goes back");
        self.epoch = epoch;
    }

    /// Everybody is heard of for a while: all have what they are to have.
    fn rest(&mut self) {
        for client in &mut self.clients {
            if client.epoch == STATIC_LEAVE_EPOCH {
                self.born += 1;
                client.id = format!("m{}", self.born).into();
                client.is_fenced();
            }
        }
        self.bench.settle(&mut self.clients);
        // Members whose client never heard of them are given up, the others are not.
        self.bench.now_ms += 44_000;
        self.bench.settle(&mut self.clients);
        self.bench.now_ms += 2_000;
        self.wait();
        self.bench.settle(&mut self.clients);
        check(&self.bench.group);
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(self.bench.group.state(), GroupState::Stable);
        let mut held = Assignment::new();
        let mut subscribed = Assignment::new();
        for client in &self.clients {
            assert_eq!(client.held, client.wanted);
            assert_eq!(client.held, *self.bench.group.target(&client.id).unwrap());
            held.extend(client.held.iter());
            for topic in client
                .topics
                .iter()
                .filter_map(|name| self.bench.cluster.topic(name))
            {
                let all = (0..topic.partitions).map(|index| TopicPartition::new(topic.id, index));
                subscribed.extend(all);
            }
        }
        assert_eq!(held, subscribed);
        let same = self
            .clients
            .iter()
            .all(|one| one.topics == self.clients[0].topics);
        if same {
            let loads = self.clients.iter().map(|client| client.held.len());
            let (least, most) = (loads.clone().min().unwrap(), loads.max().unwrap());
            assert!(most <= least + 1);
        }
    }
}

#[test]
fn a_long_life_never_breaks_what_clients_rely_on() {
    for seed in 1..=SEEDS {
        let mut life = Life::new(seed);
        for step in 0..STEPS {
            life.step();
            if step % 1_000 == 999 {
                check(&life.bench.group);
                life.rest();
                life.bench.log.compact();
            }
        }
        assert!(life.born > STEPS / 100, "it was alive");
    }
}
