//! What a heartbeat is answered, case by case.

use std::collections::BTreeSet;

use protocol::ErrorCode;

use super::*;

fn code<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> ErrorCode {
    answer.unwrap_err().code
}

fn two_members() -> (Bench, Client, Client) {
    let mut bench = Bench::new(&[("t", 1, 4)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    bench.settle(&mut clients);
    let [a, b] = clients;
    (bench, a, b)
}

#[test]
fn a_partition_is_given_only_after_it_was_given_up() {
    let mut bench = Bench::new(&[("t", 1, 2)]);
    let mut a = Client::new("a", &["t"]);
    let mut b = Client::new("b", &["t"]);
    bench.beat(&mut a);
    assert_eq!((a.epoch, a.held.len()), (1, 2));
    assert_eq!(bench.group.state(), GroupState::Stable);

    // b has joined, and waits.
    bench.beat(&mut b);
    assert_eq!((b.epoch, b.held.len()), (2, 0));
    assert_eq!(bench.group.state(), GroupState::Reconciling);
    // a is told, stays at its epoch, and until it says so its partition is nobody else's.
    let told = bench.send(&a.delta()).unwrap();
    assert_eq!(told.member_epoch, 1);
    assert_eq!(told.assignment.unwrap().len(), 1);
    for _ in 0..3 {
        assert_eq!(
            bench.send(&a.delta()).unwrap().assignment,
            None,
            "told once"
        );
        bench.beat(&mut b);
        assert_eq!(b.held.len(), 0);
    }
    a.wanted = partitions(1, &[0]);
    a.revokes();
    bench.beat(&mut a);
    assert_eq!((a.epoch, a.held.len()), (2, 1));
    let given = bench.send(&b.delta()).unwrap();
    assert_eq!(given.assignment, Some(partitions(1, &[1])));
    assert_eq!(bench.group.state(), GroupState::Stable);
    assert_eq!(bench.group.describe().members.len(), 2);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut bench = Bench::new(&[("t", 1, 2)]);
    let join = Client::new("a", &["t"]).request();
    let broken = |change: fn(&mut Heartbeat)| {
        let mut request = join.clone();
        change(&mut request);
        request
    };
    for request in [
        broken(|request| request.member_id = "".into()),
        broken(|request| request.instance_id = Some(" ".into())),
        broken(|request| request.rack_id = Some("".into())),
        broken(|request| request.rebalance_timeout_ms = -1),
        broken(|request| request.owned = None),
        broken(|request| request.owned = Some(partitions(1, &[0]))),
        broken(|request| request.topics = None),
        broken(|request| request.member_epoch = -3),
        broken(|request| request.member_epoch = STATIC_LEAVE_EPOCH),
        broken(|request| request.member_id = "m".repeat(40_000).into()),
    ] {
        assert_eq!(code(bench.send(&request)), ErrorCode::InvalidRequest);
    }
    let request = broken(|request| request.assignor = Some("best".into()));
    assert_eq!(code(bench.send(&request)), ErrorCode::UnsupportedAssignor);
    let request = broken(|request| request.regex = Some("(".into()));
    assert_eq!(
        code(bench.send(&request)),
        ErrorCode::InvalidRegularExpression
    );
    let request = broken(|request| request.member_epoch = 1);
    assert_eq!(code(bench.send(&request)), ErrorCode::GroupIdNotFound);
    assert!(bench.log.0.is_empty(), "nothing was written");

    // Version 0: the coordinator makes the id.
    let mut request = join.clone();
    (request.version, request.member_id) = (0, "".into());
    request.fresh_member_id = "made".into();
    assert_eq!(&*bench.send(&request).unwrap().member_id, "made");
}

#[test]
fn epochs_are_checked() {
    let (mut bench, a, _) = two_members();
    let at = |epoch: i32| Heartbeat {
        member_epoch: epoch,
        ..a.request()
    };
    assert_eq!(
        code(bench.send(&at(a.epoch + 1))),
        ErrorCode::FencedMemberEpoch
    );
    // An answer may have been lost: the epoch before is as good, if nothing else is held.
    let before = bench.group.members()["a"].current.previous_epoch;
    assert!(before < a.epoch);
    assert_eq!(bench.send(&at(before)).unwrap().member_epoch, a.epoch);
    let mut request = at(before);
    request.owned = Some(partitions(1, &[0, 1, 2, 3]));
    assert_eq!(code(bench.send(&request)), ErrorCode::FencedMemberEpoch);
    request.owned = None;
    assert_eq!(code(bench.send(&request)), ErrorCode::FencedMemberEpoch);
    let stranger = Client {
        epoch: 2,
        ..Client::new("x", &["t"])
    };
    assert_eq!(
        code(bench.send(&stranger.request())),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        code(bench.send(&stranger.leaves(LEAVE_EPOCH))),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn a_full_group_takes_nobody_new() {
    let (mut bench, mut a, _) = two_members();
    bench.group.set_config(GroupConfig {
        max_size: 2,
        ..config()
    });
    let third = Client::new("c", &["t"]).request();
    assert_eq!(code(bench.send(&third)), ErrorCode::GroupMaxSizeReached);
    bench.beat(&mut a);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (mut bench, mut a, mut b) = two_members();
    let mut old = Client {
        instance: Some("i".into()),
        ..Client::new("s1", &["t"])
    };
    bench.beat(&mut old);
    let mut clients = [a.clone(), b.clone(), old.clone()];
    bench.settle(&mut clients);
    [a, b, old] = clients;
    let (held, epoch) = (old.held.clone(), bench.group.epoch());
    assert!(!held.is_empty());

    let mut new = Client {
        id: "s2".into(),
        ..Client::new("s2", &["t"])
    };
    new.instance.clone_from(&old.instance);
    assert_eq!(
        code(bench.send(&new.request())),
        ErrorCode::UnreleasedInstanceId
    );
    let left = bench.send(&old.leaves(STATIC_LEAVE_EPOCH)).unwrap();
    assert_eq!(left.member_epoch, STATIC_LEAVE_EPOCH);
    assert_eq!(bench.group.epoch(), epoch, "nobody else notices");
    assert_eq!(
        code(bench.send(&old.request())),
        ErrorCode::FencedMemberEpoch
    );
    bench.beat(&mut new);
    assert_eq!((new.held.clone(), new.epoch), (held, epoch));
    assert_eq!(
        code(bench.send(&old.request())),
        ErrorCode::FencedInstanceId
    );
    let mut unknown = old.request();
    unknown.instance_id = Some("other".into());
    assert_eq!(code(bench.send(&unknown)), ErrorCode::UnknownMemberId);
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));

    // Gone for good after its session.
    bench.send(&new.leaves(STATIC_LEAVE_EPOCH)).unwrap();
    bench.now_ms += 44_999;
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.now_ms += 1;
    assert_eq!(bench.group.next_deadline_ms(), Some(45_000));
    let expired = bench.group.expire(bench.now_ms, &bench.cluster);
    assert_eq!(expired.answer.unwrap(), [Name::from("s2")]);
    assert!(bench.group.epoch() > epoch);
}

#[test]
fn who_does_not_give_up_in_time_is_fenced() {
    let mut bench = Bench::new(&[("t", 1, 2)]);
    let mut a = Client::new("a", &["t"]);
    bench.beat(&mut a);
    let mut b = Client::new("b", &["t"]);
    bench.beat(&mut b);
    let told = bench.send(&a.request()).unwrap();
    assert_eq!(told.member_epoch, 1);
    for _ in 0..5 {
        bench.now_ms += 10_000;
        bench.send(&a.request()).unwrap();
        bench.beat(&mut b);
        let nobody = bench.group.expire(bench.now_ms, &bench.cluster);
        assert_eq!(nobody.answer.unwrap(), Vec::<Name>::new());
    }
    bench.now_ms += 10_000;
    let gone = bench.group.expire(bench.now_ms, &bench.cluster);
    assert_eq!(gone.answer.unwrap(), [Name::from("a")]);
    bench.beat(&mut b);
    assert_eq!(b.held.len(), 2);
}

#[test]
fn topics_that_change_raise_the_epoch_once() {
    let (mut bench, a, b) = two_members();
    let mut clients = [a, b];
    let epoch = bench.group.epoch();
    bench.group.topics_changed();
    bench.settle(&mut clients);
    assert_eq!(bench.group.epoch(), epoch, "nothing of theirs changed");
    bench.cluster.set("t", 1, 6);
    bench.group.topics_changed();
    bench.settle(&mut clients);
    assert_eq!(bench.group.epoch(), epoch + 1);
    assert_eq!(clients[0].held.len(), 3);
    // Deleted, and made again: another topic.
    bench.cluster.set("t", 2, 2);
    bench.group.topics_changed();
    bench.settle(&mut clients);
    let held: Vec<_> = clients[0]
        .held
        .iter()
        .chain(clients[1].held.iter())
        .collect();
    assert_eq!(held, partitions(2, &[0, 1]).iter().collect::<Vec<_>>());
    assert_eq!(bench.cluster.name(topic_id(2)).as_deref(), Some("t"));
}

#[test]
fn patterns_are_resolved_elsewhere_and_together() {
    let mut bench = Bench::new(&[("orders", 1, 2), ("others", 2, 2)]);
    let mut a = Client::new("a", &[]);
    let mut join = a.request();
    (join.topics, join.regex) = (None, Some("or.*".into()));
    let outcome = bench.group.heartbeat(0, &join, &bench.cluster);
    assert_eq!(outcome.resolve, [Name::from("or.*")]);
    bench.log.append(&outcome.records);
    a.hears(&outcome.answer.unwrap());
    assert_eq!((a.epoch, a.held.len()), (1, 0));
    let again = bench.group.heartbeat(1, &a.delta(), &bench.cluster);
    assert!(again.resolve.is_empty(), "it is under way");

    let pattern = Pattern::new("or.*").unwrap();
    let names = ["orders", "others"].map(Name::from);
    let topics: BTreeSet<Name> = names
        .into_iter()
        .filter(|name| pattern.matches(name))
        .collect();
    let resolved = ResolvedRegex {
        topics,
        version: 7,
        timestamp_ms: 1_000,
    };
    let results: BTreeMap<_, _> =
        [("or.*".into(), resolved.clone()), ("x".into(), resolved)].into();
    let outcome = bench
        .group
        .regexes_resolved(2, results.clone(), &bench.cluster);
    bench.log.append(&outcome.records);
    assert_eq!(outcome.records.len(), 2, "nobody wants `x` any more");
    let answer = bench.send(&a.delta()).unwrap();
    assert_eq!(answer.assignment, Some(partitions(1, &[0, 1])));
    a.hears(&answer);

    // A topic more: looked at, though not at once.
    bench.group.topics_changed();
    bench.now_ms = 10_001;
    let early = bench.group.heartbeat(10_001, &a.delta(), &bench.cluster);
    assert!(early.resolve.is_empty());
    let due = bench.group.heartbeat(10_002, &a.delta(), &bench.cluster);
    assert_eq!(due.resolve.len(), 1);
    let epoch = bench.group.epoch();
    let same = bench
        .group
        .regexes_resolved(10_003, results, &bench.cluster);
    bench.log.append(&same.records);
    assert_eq!(bench.group.epoch(), epoch);
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));

    // Names instead: the pattern goes with its last subscriber.
    let mut names = a.request();
    (names.regex, names.topics) = (Some("".into()), Some(["others".into()].into()));
    let answer = bench.send(&names).unwrap();
    assert_eq!(answer.assignment, Some(Assignment::new()), "to be revoked");
    assert!(bench.group.regexes.is_empty());
    bench.send(&a.leaves(LEAVE_EPOCH)).unwrap();
    assert_eq!(bench.group.state(), GroupState::Empty);
    let deleted = bench.group.delete();
    bench.log.append(&deleted);
    bench.log.compact();
    assert!(bench.log.0.is_empty(), "nothing of it is left");
}

#[test]
fn offsets_are_committed_at_the_members_epoch() {
    let (bench, a, _) = two_members();
    let commit = |version, member_id, epoch| {
        bench.group.check_commit(&CommitCheck {
            version,
            member_id,
            epoch,
        })
    };
    assert_eq!(commit(Some(9), "a", a.epoch), Ok(()));
    assert_eq!(commit(None, "a", a.epoch), Ok(()));
    assert_eq!(
        code(commit(Some(8), "a", a.epoch)),
        ErrorCode::UnsupportedVersion
    );
    assert_eq!(
        code(commit(Some(9), "a", a.epoch - 1)),
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(code(commit(Some(9), "", -1)), ErrorCode::UnknownMemberId);
    let empty = ConsumerGroup::new("g".into(), config());
    let tool = CommitCheck {
        version: Some(8),
        member_id: "",
        epoch: -1,
    };
    assert_eq!(empty.check_commit(&tool), Ok(()));
    let fetch = |member_id, epoch| bench.group.check_fetch(&FetchCheck { member_id, epoch });
    assert_eq!(fetch(None, -1), Ok(()));
    assert_eq!(fetch(Some("a"), a.epoch), Ok(()));
    assert_eq!(code(fetch(Some("a"), 0)), ErrorCode::StaleMemberEpoch);
    assert_eq!(code(fetch(Some("x"), 0)), ErrorCode::UnknownMemberId);
}

#[test]
fn most_members_choose_the_assignor() {
    let (mut bench, a, b) = two_members();
    assert_eq!(bench.group.preferred_assignor(), Assignor::Uniform);
    for (client, assignor) in [(&a, "range"), (&b, "uniform")] {
        let mut request = client.request();
        request.assignor = Some(assignor.into());
        bench.send(&request).unwrap();
    }
    assert_eq!(bench.group.preferred_assignor(), Assignor::Uniform);
    let mut third = Client::new("c", &["t"]).request();
    third.assignor = Some("range".into());
    bench.send(&third).unwrap();
    assert_eq!(bench.group.describe().assignor, Assignor::Range);
}

#[test]
fn lost_answers_fence_nobody() {
    // Told to give up one more than it knows of, and told so in vain.
    let mut bench = Bench::new(&[("t", 1, 3)]);
    let mut a = Client::new("a", &["t"]);
    bench.beat(&mut a);
    bench.beat(&mut Client::new("b", &["t"]));
    let told = bench.send(&a.request()).unwrap();
    assert_eq!(told.assignment.as_ref().map(Assignment::len), Some(2));
    a.hears(&told);
    bench.beat(&mut Client::new("c", &["t"]));
    a.revokes();
    let lost = bench.send(&a.request()).unwrap();
    assert_eq!(lost.assignment.as_ref().map(Assignment::len), Some(1));
    assert!(lost.member_epoch > a.epoch && a.held.len() == 2);
    let again = bench.send(&a.request()).unwrap();
    assert_eq!(again, lost);

    // A join whose answer is lost, twice, with the epoch raised between.
    let joins = Client {
        instance: Some("i".into()),
        ..Client::new("d", &["t"])
    };
    for partitions in [3, 4, 5] {
        bench.cluster.set("t", 1, partitions);
        bench.group.topics_changed();
        let answer = bench.send(&joins.request()).unwrap();
        assert_eq!(answer.member_epoch, bench.group.epoch());
    }
}
