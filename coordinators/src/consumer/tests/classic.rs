//! Members of the classic protocol among the others, and groups that go over and back.

use protocol::ErrorCode;

use super::*;
use crate::consumer::embedded::{by_id, decode_assignment};
use crate::wire::Writer;

/// A consumer of the classic protocol that gives up only what it must (KIP-429).
#[derive(Clone, Debug, Default)]
struct Classic {
    id: Name,
    instance: Option<Name>,
    generation: i32,
    held: Assignment,
    /// What it was given last; it says so once it gave the rest up.
    wanted: Assignment,
    must_join: bool,
}

impl Classic {
    fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            must_join: true,
            ..Self::default()
        }
    }

    fn subscription(&self) -> Bytes {
        let mut writer = Writer::versioned(1);
        writer.array_length(Some(1));
        writer.string("t");
        writer.array_length(None);
        let held: Vec<_> = self.held.iter().collect();
        writer.array_length(Some(held.len()));
        for partition in held {
            writer.string("t");
            writer.array_length(Some(1));
            writer.i32(partition.partition);
        }
        writer.finish()
    }

    fn joins(&self) -> ClassicJoin {
        ClassicJoin {
            version: 9,
            member_id: self.id.clone(),
            fresh_member_id: "fresh".into(),
            instance_id: self.instance.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            protocols: vec![("cooperative-sticky".into(), self.subscription())],
        }
    }

    fn sender(&self) -> ClassicSender {
        ClassicSender {
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            generation: self.generation,
        }
    }

    fn member(&self, assignment: Bytes) -> ClassicGroupMember {
        ClassicGroupMember {
            instance_id: self.instance.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 60_000,
            offer: ClassicMember {
                session_timeout_ms: 30_000,
                protocols: self.joins().protocols,
            },
            assignment,
        }
    }

    /// What a real one does next.
    fn turn(&mut self, bench: &mut Bench) {
        if self.must_join {
            // It gave up what it does not have any more before it joins.
            self.held = self.held.common(&self.wanted);
            let outcome = (bench.group).classic_join(bench.now_ms, &self.joins(), &bench.cluster);
            bench.log.append(&outcome.records);
            self.generation = outcome.answer.unwrap().generation;
            self.must_join = false;
            let bytes = bench.group.classic_sync(
                bench.now_ms,
                &self.sender(),
                Some(CONSUMER_PROTOCOL_TYPE),
                Some("cooperative-sticky"),
                &bench.cluster,
            );
            match bytes {
                Ok(bytes) => {
                    let named = decode_assignment(&bytes).unwrap();
                    self.wanted = by_id(&named, &bench.cluster);
                    self.held.extend(self.wanted.iter());
                }
                Err(refusal) => {
                    assert_eq!(refusal.code, ErrorCode::RebalanceInProgress);
                    self.must_join = true;
                }
            }
            return;
        }
        if let Err(refusal) = (bench.group).classic_heartbeat(bench.now_ms, &self.sender()) {
            assert_eq!(refusal.code, ErrorCode::RebalanceInProgress, "{refusal:?}");
            self.must_join = true;
        }
    }
}

/// A classic group of two on six partitions, that has become a consumer group.
fn upgraded() -> (Bench, Vec<Classic>) {
    let mut bench = Bench::new(&[("t", 1, 6)]);
    let mut classics = vec![Classic::new("k1"), Classic::new("k2")];
    for (classic, held) in classics.iter_mut().zip([[0, 1, 2], [3, 4, 5]]) {
        classic.held = partitions(1, &held);
        classic.wanted.clone_from(&classic.held);
        classic.generation = 8;
        classic.must_join = false;
    }
    let member = |one: &Classic| {
        let bytes = crate::consumer::embedded::encode_assignment(1, &one.held, &bench.cluster);
        (one.id.clone(), one.member(bytes))
    };
    let classic = ClassicGroup {
        generation: 8,
        protocol: "cooperative-sticky".into(),
        members: classics.iter().map(member).collect(),
    };
    let disabled = GroupConfig {
        migration: MigrationPolicy::Downgrade,
        ..config()
    };
    let refused = ConsumerGroup::upgrade(0, "g".into(), disabled, &classic, &bench.cluster);
    assert_eq!(refused.unwrap_err().code, ErrorCode::GroupIdNotFound);
    let mut damaged = classic.clone();
    damaged.members.get_mut("k1").unwrap().assignment = Bytes::from_static(&[0]);
    let refused = ConsumerGroup::upgrade(0, "g".into(), config(), &damaged, &bench.cluster);
    assert_eq!(refused.unwrap_err().code, ErrorCode::GroupIdNotFound);

    let (group, records) =
        ConsumerGroup::upgrade(0, "g".into(), config(), &classic, &bench.cluster).unwrap();
    bench.group = group;
    bench.log.append(&records);
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));
    assert_eq!(
        (bench.group.epoch(), bench.group.state()),
        (8, GroupState::Stable)
    );
    (bench, classics)
}

/// Turns of all in an order the dice give, until all have what they are to have.
fn settle(bench: &mut Bench, dice: &mut Dice, classics: &mut [Classic], modern: &mut [Client]) {
    for _ in 0..2_000 {
        let at = dice.roll(classics.len() + modern.len());
        match modern.get_mut(at) {
            Some(client) => {
                let answer = bench.send(&client.request()).unwrap();
                client.hears(&answer);
                if dice.roll(2) == 0 {
                    client.revokes();
                }
            }
            None => classics[at - modern.len()].turn(bench),
        }
        check(&bench.group);
        let all: Vec<_> = (classics.iter().map(|one| &one.held))
            .chain(modern.iter().map(|one| &one.held))
            .collect();
        for (index, held) in all.iter().enumerate() {
            assert!(
                !all[..index].iter().any(|other| other.meets(held)),
                "two read"
            );
        }
        let mut held = Assignment::new();
        for one in &all {
            held.extend(one.iter());
        }
        let rests = classics.iter().all(|one| !one.must_join)
            && (modern.iter())
                .all(|one| one.epoch == bench.group.epoch() && one.held == one.wanted)
            && bench.group.state() == GroupState::Stable;
        if rests && held == bench.cluster.all() {
            assert_eq!(durable(&bench.log.fold()), durable(&bench.group));
            return;
        }
    }
    panic!("it does not come to rest: {:?}", bench.group);
}

#[test]
fn a_group_goes_over_and_back_while_its_members_read_on() {
    for seed in 1..=100 {
        let dice = &mut Dice(seed * 7_919);
        let (mut bench, mut classics) = upgraded();
        let mut modern = vec![Client::new("m1", &["t"])];
        settle(&mut bench, dice, &mut classics, &mut modern);
        assert!(modern[0].held.len() == 2 && bench.group.downgrade(10, &bench.cluster).is_none());

        // Over: the classic ones are replaced one by one.
        let old = classics.remove(0);
        let outcome = bench.group.classic_leave(&[old.sender()], &bench.cluster);
        bench.log.append(&outcome.records);
        assert_eq!(outcome.answer.unwrap(), [Ok("k1".into())]);
        modern.push(Client::new("m2", &["t"]));
        settle(&mut bench, dice, &mut classics, &mut modern);

        // And back: the last one of this protocol leaves.
        for client in modern.drain(..) {
            assert!(bench.group.downgrade(10, &bench.cluster).is_none());
            bench.send(&client.leaves(LEAVE_EPOCH)).unwrap();
        }
        let mut other = bench.group.clone();
        assert!(other.downgrade(0, &bench.cluster).is_none(), "too large");
        let epoch = bench.group.epoch();
        let (classic, records) = bench.group.downgrade(10, &bench.cluster).unwrap();
        bench.log.append(&records);
        bench.log.compact();
        assert!(bench.log.0.is_empty(), "nothing is left of it");
        assert_eq!((classic.generation, classic.members.len()), (epoch, 1));
        assert_eq!(&*classic.protocol, "cooperative-sticky");
        let given = decode_assignment(&classic.members["k2"].assignment).unwrap();
        assert!(classics[0].held.is_within(&by_id(&given, &bench.cluster)));
    }
}

#[test]
fn classic_members_are_answered_in_their_own_codes() {
    let (mut bench, classics) = upgraded();
    let code = |refusal: Refusal| refusal.code;
    let mut join = |request: &ClassicJoin| {
        let outcome = bench.group.classic_join(0, request, &bench.cluster);
        outcome.answer.map_err(code)
    };
    let request = Classic::new("").joins();
    assert_eq!(join(&request), Err(ErrorCode::MemberIdRequired));
    for change in [
        |request: &mut ClassicJoin| request.protocol_type = "connect".into(),
        |request: &mut ClassicJoin| request.protocols.clear(),
        |request: &mut ClassicJoin| request.protocols[0].0 = "range".into(),
        |request: &mut ClassicJoin| request.protocols[0].1 = Bytes::from_static(&[0]),
    ] {
        let mut request = Classic::new("k3").joins();
        change(&mut request);
        assert_eq!(join(&request), Err(ErrorCode::InconsistentGroupProtocol));
    }
    let long = Classic::new(&"k".repeat(40_000)).joins();
    assert_eq!(join(&long), Err(ErrorCode::InvalidRequest));
    let mut unknown = Classic::new("k3");
    unknown.instance = Some("i".into());
    assert_eq!(join(&unknown.joins()), Err(ErrorCode::UnknownMemberId));
    let old = ClassicJoin {
        version: 3,
        ..request
    };
    assert_eq!(&*join(&old).unwrap().member_id, "fresh");

    let group = &mut bench.group;
    let mut sender = classics[0].sender();
    assert_eq!(
        group.classic_heartbeat(0, &sender).map_err(code),
        Err(ErrorCode::RebalanceInProgress),
        "somebody joined"
    );
    sender.generation = 7;
    assert_eq!(
        group.classic_heartbeat(0, &sender).map_err(code),
        Err(ErrorCode::IllegalGeneration)
    );
    sender.member_id = "nobody".into();
    assert_eq!(
        group.classic_heartbeat(0, &sender).map_err(code),
        Err(ErrorCode::UnknownMemberId)
    );
    let sync = group.classic_sync(
        0,
        &classics[1].sender(),
        None,
        Some("range"),
        &bench.cluster,
    );
    assert_eq!(
        sync.map_err(code),
        Err(ErrorCode::InconsistentGroupProtocol)
    );
    let check = CommitCheck {
        version: Some(8),
        member_id: "k1",
        epoch: 7,
    };
    assert_eq!(
        group.check_commit(&check).map_err(code),
        Err(ErrorCode::IllegalGeneration)
    );
    let described = group.describe();
    assert!(
        described
            .members
            .iter()
            .all(|member| member.member_type() == 0)
    );
}

#[test]
fn who_does_not_join_again_in_time_is_fenced() {
    let (mut bench, classics) = upgraded();
    bench.beat(&mut Client::new("m", &["t"]));
    // Heartbeats alone do not help: it was told to join.
    for now_ms in [0, 20_000, 40_000, 59_999] {
        for classic in &classics {
            let told = bench.group.classic_heartbeat(now_ms, &classic.sender());
            assert_eq!(told.unwrap_err().code, ErrorCode::RebalanceInProgress);
        }
    }
    let nobody = bench.group.expire(44_999, &bench.cluster);
    assert_eq!(nobody.answer.unwrap(), Vec::<Name>::new());
    let gone = bench.group.expire(60_000, &bench.cluster).answer.unwrap();
    assert_eq!(gone, ["k1".into(), "k2".into(), "m".into()]);
    assert_eq!(bench.group.state(), GroupState::Empty);
}

#[test]
fn static_members_change_protocols_in_place() {
    let (mut bench, _) = upgraded();
    let mut modern = Client {
        instance: Some("i".into()),
        ..Client::new("s1", &["t"])
    };
    bench.beat(&mut modern);
    let epoch = bench.group.epoch();
    // The same instance by the classic protocol: it takes the place at once.
    let mut classic = Classic::new("");
    classic.instance = Some("i".into());
    let outcome = (bench.group).classic_join(0, &classic.joins(), &bench.cluster);
    bench.log.append(&outcome.records);
    classic.id = outcome.answer.unwrap().member_id;
    assert_eq!((&*classic.id, bench.group.epoch()), ("fresh", epoch));
    let fenced = bench.send(&modern.request()).unwrap_err();
    assert_eq!(fenced.code, ErrorCode::FencedInstanceId);
    // Now all are classic.
    let mut copy = bench.group.clone();
    assert_eq!(
        copy.downgrade(10, &bench.cluster).unwrap().0.members.len(),
        3
    );
    // And back, without a goodbye.
    let again = Client {
        instance: Some("i".into()),
        ..Client::new("s2", &["t"])
    };
    bench.send(&again.request()).unwrap();
    assert!(bench.group.members()["s2"].metadata.classic.is_none());
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));
    // An operator takes it out by its instance id; only classic ones can be.
    let by_instance = ClassicSender {
        instance_id: Some("i".into()),
        ..ClassicSender::default()
    };
    let left = bench.group.classic_leave(&[by_instance], &bench.cluster);
    let refused = left.answer.unwrap().remove(0).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownMemberId);
    assert_eq!(
        MigrationPolicy::parse("BIDIRECTIONAL"),
        Some(MigrationPolicy::Bidirectional)
    );
    assert_eq!(MigrationPolicy::parse("never"), None);
}

#[test]
fn a_classic_member_is_told_when_what_it_waits_for_is_free() {
    for seed in 1..=20 {
        let dice = &mut Dice(seed * 104_729);
        let (mut bench, mut classics) = upgraded();
        classics.push(Classic::new("k3"));
        classics[2].turn(&mut bench);
        assert!(classics[2].held.is_empty(), "others have all there is");
        settle(&mut bench, dice, &mut classics, &mut []);
        assert!(classics.iter().all(|one| one.held.len() == 2));
    }
}

#[test]
fn what_a_leader_gave_twice_goes_to_the_first() {
    let cluster = Cluster::of(&[("t", 1, 2)]);
    let bytes = crate::consumer::embedded::encode_assignment(1, &cluster.all(), &cluster);
    let member = |id: &str| (id.into(), Classic::new(id).member(bytes.clone()));
    let classic = ClassicGroup {
        generation: 3,
        protocol: "cooperative-sticky".into(),
        members: [member("k1"), member("k2")].into(),
    };
    let (group, _) = ConsumerGroup::upgrade(0, "g".into(), config(), &classic, &cluster).unwrap();
    check(&group);
    assert_eq!(group.members()["k1"].current.assigned, cluster.all());
    assert_eq!(group.target("k2"), Some(&Assignment::new()));
}
