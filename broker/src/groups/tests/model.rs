//! Random clients against a coordinator, judged by a small reference of the rules.
//!
//! The reference knows the rules as a table over what a group looks like before a request; it
//! keeps what leaders gave out, what was committed, and which generations were seen.
//! Invariants: generations only go up; in one generation there is one leader and every member gets
//! exactly what that leader gave it; offsets change only by commits and deletions; every waiter is
//! answered exactly once; a restart from the (compacted) log changes none of it.

use super::*;
use crate::groups::group::Group;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Out,
    Waiting(WaiterId),
    Joined(JoinReply),
    Stable,
}

#[derive(Clone, Debug)]
struct Client {
    group: &'static str,
    instance: Option<Name>,
    id: Name,
    generation: i32,
    phase: Phase,
    topics: u64,
}

impl Client {
    fn request(&self) -> MemberRequest {
        MemberRequest {
            instance_id: self.instance.clone(),
            ..member_request(self.group, &self.id, self.generation)
        }
    }

    fn forget(&mut self) {
        self.id = name("");
        self.generation = -1;
        self.phase = Phase::Out;
    }

    /// What a client of Kafka does with an error.
    fn suffer(&mut self, error: GroupError) {
        match error {
            GroupError::RebalanceInProgress => self.phase = Phase::Out,
            _ => self.forget(),
        }
    }
}

/// What the reference keeps of a group.
#[derive(Default)]
struct Known {
    generation: i32,
    leaders: BTreeMap<i32, Name>,
    given: BTreeMap<i32, BTreeMap<Name, Bytes>>,
    offsets: BTreeMap<Name, i64>,
}

enum Asked {
    Join {
        client: usize,
        old: Option<Name>,
    },
    Sync {
        client: usize,
        generation: i32,
        member: Name,
    },
}

struct Model {
    world: World,
    random: Random,
    clients: Vec<Client>,
    known: BTreeMap<&'static str, Known>,
    asked: BTreeMap<WaiterId, Asked>,
    polite: bool,
    generations: u64,
    restarts: u64,
}

const GROUPS: [&str; 2] = ["g", "h"];

impl Model {
    fn new(seed: u64, polite: bool) -> Self {
        let config = GroupConfig {
            // Nothing expires here: it would change offsets without anybody asking.
            offsets_retention_check_interval_ms: u64::MAX,
            max_size: 5,
            ..GroupConfig::kafka_defaults()
        };
        let clients = (0..8)
            .map(|i| Client {
                group: GROUPS[i % 2],
                // Two pairs of clients fight for an instance id each.
                instance: (!polite && i < 4).then(|| name(GROUPS[i % 2])),
                id: name(""),
                generation: -1,
                phase: Phase::Out,
                topics: 1,
            })
            .collect();
        Self {
            world: World::with(config),
            random: Random(seed),
            clients,
            known: GROUPS.map(|g| (g, Known::default())).into(),
            asked: BTreeMap::new(),
            polite,
            generations: 0,
            restarts: 0,
        }
    }

    fn group(&self, group: &str) -> Option<&Group> {
        self.world.shard.groups.get(group)
    }

    fn known(&mut self, group: &'static str) -> &mut Known {
        self.known.get_mut(group).unwrap()
    }

    fn step(&mut self, step: u64) {
        let most = match (self.polite, self.random.below(200)) {
            (true, _) => 200,
            (false, 0) => 30_000,
            (false, 1..6) => 7_000,
            (false, _) => 400,
        };
        let ms = self.random.below(most);
        self.world.advance(ms);
        self.hear();
        let client = if self.polite {
            step as usize % self.clients.len()
        } else {
            self.random.below(self.clients.len() as u64) as usize
        };
        match self.random.below(1_000) {
            0 if !self.polite => self.restart(),
            1..90 if !self.polite => self.misbehave(client),
            90..92 if !self.polite => self.delete(client),
            _ => self.behave(client),
        }
        self.hear();
        if step.is_multiple_of(16) {
            self.world.shard.validate();
        }
    }

    fn behave(&mut self, index: usize) {
        match self.clients[index].phase.clone() {
            Phase::Out if self.polite && self.random.one_in(2) => {}
            Phase::Out => self.join(index),
            Phase::Waiting(_) if !self.polite && self.random.one_in(20) => {
                // The connection broke; it joins again under its id.
                self.clients[index].phase = Phase::Out;
            }
            Phase::Waiting(_) => {}
            Phase::Joined(reply) => self.sync(index, &reply),
            Phase::Stable => match self.random.below(40) {
                0 => self.leave(index),
                1 => self.clients[index].phase = Phase::Out,
                2 => {
                    self.clients[index].topics = 1 + self.random.below(3);
                    self.clients[index].phase = Phase::Out;
                }
                3 if !self.polite => self.clients[index].forget(),
                4..14 => self.commit(index),
                14..18 => self.fetch(index),
                _ => self.heartbeat(index),
            },
        }
    }

    /// Says something that is not true.
    fn misbehave(&mut self, index: usize) {
        let honest = self.clients[index].clone();
        let other = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(4) {
            0 => self.clients[index].generation += 1,
            1 => self.clients[index].generation -= 1,
            2 => self.clients[index].id = self.clients[other].id.clone(),
            _ => self.clients[index].instance = self.clients[other].instance.clone(),
        }
        match self.random.below(5) {
            0 => self.heartbeat(index),
            1 => self.commit(index),
            2 => self.leave(index),
            3 => {
                let reply = JoinReply {
                    error: None,
                    generation: self.clients[index].generation,
                    member_id: self.clients[index].id.clone(),
                    ..JoinReply::refused(GroupError::UnknownMember, name(""))
                };
                self.sync(index, &reply);
            }
            _ => self.join(index),
        }
        self.hear();
        self.clients[index] = Client {
            phase: Phase::Out,
            ..honest
        };
    }

    fn join(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let mut request = self.world.join_request(client.group, &client.id);
        request.instance_id = client.instance.clone();
        request.supports_skip_assignment = self.random.one_in(2);
        request.session_timeout_ms = 10_000;
        request.rebalance_timeout_ms = 20_000;
        let topics = &["a", "b", "c"][..client.topics as usize];
        request.protocols = vec![(name("range"), subscription(topics))];
        if self.random.one_in(3) {
            request
                .protocols
                .push((name("sticky"), subscription(topics)));
        }
        let odd = !self.polite && self.random.one_in(50);
        if odd {
            request.protocols = vec![(name("odd"), Bytes::new())];
        }
        let expected = self.rule_join(&request);
        let old = client
            .instance
            .as_ref()
            .filter(|_| client.id.is_empty())
            .and_then(|instance| {
                self.group(client.group)?
                    .static_members
                    .get(instance)
                    .cloned()
            });
        let waiter = self.world.send(Request::Join(request));
        match expected {
            Some(error) => {
                let reply = self.world.joined(waiter);
                assert_eq!(reply.error, Some(error), "{client:?}");
                match error {
                    GroupError::MemberIdRequired => self.clients[index].id = reply.member_id,
                    _ => {
                        self.check_polite(error);
                        self.clients[index].suffer(error);
                    }
                }
            }
            None => {
                self.asked
                    .insert(waiter, Asked::Join { client: index, old });
                self.clients[index].phase = Phase::Waiting(waiter);
            }
        }
    }

    /// Which refusal a join meets; none if it is let in.
    fn rule_join(&self, request: &JoinRequest) -> Option<GroupError> {
        let Some(group) = self.group(&request.group) else {
            return match (request.member_id.is_empty(), &request.instance_id) {
                (false, _) => Some(GroupError::UnknownMember),
                (true, None) => Some(GroupError::MemberIdRequired),
                (true, Some(_)) => None,
            };
        };
        let inside = group.members.get(&request.member_id);
        let full = match group.state {
            GroupState::Empty | GroupState::Dead => false,
            GroupState::PreparingRebalance => {
                let waiting = group
                    .members
                    .values()
                    .filter(|m| m.awaiting_join.is_some())
                    .count();
                waiting >= 5 && inside.is_none_or(|m| m.awaiting_join.is_none())
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                inside.is_none() && group.members.len() >= 5
            }
        };
        if full {
            return Some(GroupError::GroupMaxSizeReached);
        }
        let common = |p: &Name| {
            group
                .members
                .values()
                .all(|m| m.protocols.iter().any(|(name, _)| name == p))
        };
        if !group.members.is_empty() && !request.protocols.iter().any(|(p, _)| common(p)) {
            return Some(GroupError::InconsistentProtocol);
        }
        if request.member_id.is_empty() {
            return request
                .instance_id
                .is_none()
                .then_some(GroupError::MemberIdRequired);
        }
        if request.instance_id.is_none() && group.pending.contains_key(&request.member_id) {
            return None;
        }
        rule_member(
            Some(group),
            &request.member_id,
            request.instance_id.as_ref(),
        )
        .err()
    }

    fn sync(&mut self, index: usize, reply: &JoinReply) {
        let client = self.clients[index].clone();
        let generation = reply.generation;
        let token = |id: &Name| Bytes::from(format!("{generation}/{id}/{}", client.group));
        let assignments = reply
            .members
            .iter()
            .map(|m| (m.member_id.clone(), token(&m.member_id)))
            .collect();
        let request = SyncRequest {
            member: MemberRequest {
                generation,
                ..client.request()
            },
            protocol_type: None,
            protocol: reply.protocol.clone(),
            assignments,
        };
        let group = self.group(client.group);
        let mut expected = rule_generation(group, &request.member);
        if expected.is_ok()
            && request.protocol.is_some()
            && request.protocol != group.and_then(|g| g.protocol.clone())
        {
            expected = Err(GroupError::InconsistentProtocol);
        }
        if expected.is_ok() && state_of(group) == Some(GroupState::PreparingRebalance) {
            expected = Err(GroupError::RebalanceInProgress);
        }
        let assigns = expected.is_ok()
            && state_of(group) == Some(GroupState::CompletingRebalance)
            && group.is_some_and(|g| g.leader.as_ref() == Some(&client.id));
        if assigns {
            let given = request.assignments.iter().cloned().collect();
            let known = self.known(client.group);
            known.given.retain(|&g, _| g >= generation);
            known.given.insert(generation, given);
        }
        let waiter = self.world.send(Request::Sync(request));
        if let Err(error) = expected {
            assert_eq!(self.world.synced(waiter), Err(error));
            self.check_polite(error);
            self.clients[index].suffer(error);
            return;
        }
        self.asked.insert(
            waiter,
            Asked::Sync {
                client: index,
                generation,
                member: client.id,
            },
        );
        self.clients[index].phase = Phase::Waiting(waiter);
    }

    fn heartbeat(&mut self, index: usize) {
        let request = self.clients[index].request();
        let group = self.group(&request.group);
        let expected = rule_generation(group, &request).and_then(|()| match state_of(group) {
            Some(GroupState::PreparingRebalance) => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        });
        let result = self.world.heartbeat_as(request);
        assert_eq!(result, expected);
        if let Err(error) = result {
            self.check_polite(error);
            self.clients[index].suffer(error);
        }
    }

    fn commit(&mut self, index: usize) {
        let mut request = self.clients[index].request();
        let outside = !self.polite && self.random.one_in(30);
        if outside {
            request = outsider(&request.group);
        }
        let topic = ["a", "b", "c"][self.random.below(3) as usize];
        let offset = self.random.below(1 << 40) as i64;
        let expected = match self.group(&request.group) {
            None if request.generation >= 0 => Err(GroupError::GroupIdNotFound),
            None => Ok(()),
            Some(group) => match group.state {
                GroupState::Empty if request.generation < 0 => Ok(()),
                _ if outside => Err(GroupError::UnknownMember),
                GroupState::CompletingRebalance => {
                    rule_generation(Some(group), &request).and(Err(GroupError::RebalanceInProgress))
                }
                _ => rule_generation(Some(group), &request),
            },
        };
        let result = self.world.commit(request, topic, offset);
        assert_eq!(result, expected.map(|()| vec![Ok(())]));
        match expected {
            Ok(()) => {
                let group = self.clients[index].group;
                self.known(group).offsets.insert(name(topic), offset);
            }
            Err(_) if outside => {}
            Err(error) => {
                self.check_polite(error);
                self.clients[index].suffer(error);
            }
        }
    }

    fn fetch(&mut self, index: usize) {
        let group = self.clients[index].group;
        let expected = self.known[group]
            .offsets
            .iter()
            .map(|(t, &o)| (t.to_string(), o))
            .collect::<Vec<_>>();
        assert_eq!(self.world.offsets(group), expected);
    }

    fn leave(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let group = self.group(client.group);
        let pending = group.is_some_and(|g| g.pending.contains_key(&client.id));
        let by_instance = client.id.is_empty() && client.instance.is_some();
        let expected = match group {
            None => Err(GroupError::UnknownMember),
            Some(_) if pending && client.instance.is_none() => Ok(vec![Ok(())]),
            Some(group) if by_instance => {
                let found = group
                    .members
                    .values()
                    .any(|m| m.instance_id == client.instance);
                Ok(vec![if found {
                    Ok(())
                } else {
                    Err(GroupError::UnknownMember)
                }])
            }
            Some(group) => Ok(vec![rule_member(
                Some(group),
                &client.id,
                client.instance.as_ref(),
            )]),
        };
        let result = self
            .world
            .leave(client.group, &[(&client.id, client.instance.as_deref())]);
        assert_eq!(result, expected);
        self.clients[index].forget();
    }

    fn delete(&mut self, index: usize) {
        let group = self.clients[index].group;
        let expected = match state_of(self.group(group)) {
            None => Err(GroupError::GroupIdNotFound),
            Some(GroupState::Empty) => Ok(()),
            Some(_) => Err(GroupError::NonEmptyGroup),
        };
        assert_eq!(self.world.delete(group), expected);
        if expected.is_ok() {
            *self.known(group) = Known::default();
        }
    }

    /// kill -9, and now and then a compaction of the log before.
    fn restart(&mut self) {
        self.restarts += 1;
        if self.random.one_in(2) {
            let mut newest = BTreeMap::new();
            for (at, (key, value)) in self.world.log.drain(..).enumerate() {
                newest.insert(key, (at, value));
            }
            let mut kept = newest.into_iter().collect::<Vec<_>>();
            kept.sort_by_key(|(_, (at, _))| *at);
            // Tombstones may go as well: nothing older is left for them to hide.
            kept.retain(|(_, (_, value))| value.is_some());
            self.world.log = kept
                .into_iter()
                .map(|(key, (_, value))| (key, value))
                .collect();
        }
        let counts = self.world.restart();
        assert_eq!((counts.skipped, counts.damaged), (0, 0));
        self.asked.clear();
        for client in &mut self.clients {
            if client.phase != Phase::Stable {
                client.phase = Phase::Out;
            }
        }
        for group in GROUPS {
            let generation = self.group(group).map_or(0, |g| g.generation);
            let known = self.known(group);
            assert!(
                generation <= known.generation,
                "a restart invents no generation"
            );
            known.generation = generation;
            known.leaders.retain(|&g, _| g <= generation);
            self.fetch(GROUPS.iter().position(|g| *g == group).unwrap());
        }
        self.world.shard.validate();
    }

    /// Takes in the answers that waiting clients got.
    fn hear(&mut self) {
        for (waiter, reply) in std::mem::take(&mut self.world.answers) {
            match (
                self.asked
                    .remove(&waiter)
                    .expect("only waiters are answered late"),
                reply,
            ) {
                (Asked::Join { client, old }, Reply::Join(reply)) => {
                    self.heard_join(client, waiter, old, reply);
                }
                (
                    Asked::Sync {
                        client,
                        generation,
                        member,
                    },
                    Reply::Sync(reply),
                ) => {
                    if let Ok(reply) = &reply {
                        let group = self.clients[client].group;
                        let given = self.known[group].given.get(&generation);
                        let mine = given
                            .and_then(|g| g.get(&member))
                            .cloned()
                            .unwrap_or_default();
                        assert_eq!(reply.assignment, mine, "{member} got another's assignment");
                    }
                    let error = reply.err();
                    if let Some(error) = error {
                        self.check_polite(error);
                    }
                    let client = &mut self.clients[client];
                    if client.phase == Phase::Waiting(waiter) {
                        client.generation = generation;
                        client.phase = Phase::Stable;
                        if let Some(error) = error {
                            client.suffer(error);
                        }
                    }
                }
                (_, reply) => panic!("answered with something else: {reply:?}"),
            }
        }
        for group in GROUPS {
            // An empty group has a new generation that nobody is told of.
            let generation = self.group(group).map_or(0, |g| g.generation);
            let known = self.known(group);
            assert!(
                generation >= known.generation || generation == 0,
                "generations go up"
            );
            known.generation = generation;
        }
    }

    fn heard_join(&mut self, index: usize, waiter: WaiterId, old: Option<Name>, reply: JoinReply) {
        let group = self.clients[index].group;
        if let Some(error) = reply.error {
            self.check_polite(error);
            if self.clients[index].phase == Phase::Waiting(waiter) {
                self.clients[index].suffer(error);
            }
            return;
        }
        let known = self.known.get_mut(group).unwrap();
        assert!(reply.generation >= known.generation, "generations go up");
        self.generations += u64::from(reply.generation > known.generation);
        known.generation = reply.generation;
        if let Some(given) = known.given.get_mut(&reply.generation) {
            // A static member that came back keeps what its old id was given.
            if let Some(kept) = old.as_ref().and_then(|old| given.remove(old)) {
                given.insert(reply.member_id.clone(), kept);
            }
        }
        assert_eq!(reply.members.is_empty(), reply.leader != reply.member_id);
        if reply.leader == reply.member_id {
            assert!(reply.members.iter().any(|m| m.member_id == reply.member_id));
            let leader = known
                .leaders
                .entry(reply.generation)
                .or_insert(reply.leader.clone());
            if reply.skip_assignment {
                *leader = reply.leader.clone();
            }
            assert_eq!(
                *leader, reply.leader,
                "one leader in generation {}",
                reply.generation
            );
        }
        let client = &mut self.clients[index];
        if client.phase == Phase::Waiting(waiter) {
            client.id = reply.member_id.clone();
            client.generation = reply.generation;
            client.phase = Phase::Joined(JoinReply {
                members: if reply.skip_assignment {
                    Vec::new()
                } else {
                    reply.members.clone()
                },
                ..reply
            });
        }
    }

    /// Clients that do nothing wrong are told of rebalances and of nothing worse.
    fn check_polite(&self, error: GroupError) {
        assert!(
            !self.polite || error == GroupError::RebalanceInProgress,
            "a client that did nothing wrong got {error:?}"
        );
    }

    fn finish(mut self) {
        self.world.advance(2 * 60 * 60 * 1000);
        self.hear();
        assert!(
            self.world.open.is_empty(),
            "left waiting: {:?}",
            self.world.open
        );
        self.world.shard.validate();
        for group in GROUPS {
            let state = state_of(self.group(group));
            assert!(
                matches!(state, None | Some(GroupState::Empty)),
                "{group} is {state:?}"
            );
        }
    }
}

fn state_of(group: Option<&Group>) -> Option<GroupState> {
    group.map(|group| group.state)
}

fn rule_member(
    group: Option<&Group>,
    id: &Name,
    instance: Option<&Name>,
) -> Result<(), GroupError> {
    let group = group.ok_or(GroupError::UnknownMember)?;
    let owner = group
        .members
        .values()
        .find(|m| m.instance_id.is_some() && m.instance_id.as_ref() == instance);
    match (instance, owner) {
        (Some(_), None) => Err(GroupError::UnknownMember),
        (Some(_), Some(owner)) if owner.id != *id => Err(GroupError::FencedInstanceId),
        _ if !group.members.contains_key(id) => Err(GroupError::UnknownMember),
        _ => Ok(()),
    }
}

fn rule_generation(group: Option<&Group>, request: &MemberRequest) -> Result<(), GroupError> {
    rule_member(group, &request.member_id, request.instance_id.as_ref())?;
    match group {
        Some(group) if group.generation == request.generation => Ok(()),
        _ => Err(GroupError::IllegalGeneration),
    }
}

#[test]
fn random_clients_never_break_a_rule() {
    let seeds = 20;
    let (mut generations, mut restarts) = (0, 0);
    for seed in 0..seeds {
        let mut model = Model::new(seed, false);
        for step in 0..MODEL_STEPS / seeds {
            model.step(step);
        }
        generations += model.generations;
        restarts += model.restarts;
        model.finish();
    }
    // The runs went where the rules are.
    assert!(
        generations > MODEL_STEPS / 200,
        "only {generations} generations"
    );
    assert!(restarts > MODEL_STEPS / 4_000, "only {restarts} restarts");
}

#[test]
fn clients_that_do_nothing_wrong_hear_of_nothing_but_rebalances() {
    for seed in 0..10 {
        let mut model = Model::new(1_000 + seed, true);
        for step in 0..MODEL_STEPS / 50 {
            model.step(step);
        }
        assert!(
            model.generations > 20,
            "only {} generations",
            model.generations
        );
        model.finish();
    }
}
