//! Static members (KIP-345, KIP-814).

use super::super::limits::MAX_GROUP_RECORD_BYTES;
use super::*;

/// A stable group of two static members, `a` and `b`.
fn stable_statics(world: &mut World) -> [JoinReply; 2] {
    let waiters = [
        world.join_static("g", "a", true),
        world.join_static("g", "b", true),
    ];
    world.advance(6_000);
    let members = waiters.map(|w| world.joined(w));
    world.sync_all("g", &members);
    members
}

#[test]
fn a_restarted_static_follower_keeps_its_assignment_without_a_rebalance() {
    let mut world = World::new();
    let members = stable_statics(&mut world);
    let index = usize::from(members[0].leader == members[0].member_id);
    let follower = &members[index];
    let records = world.log.len();
    let waiter = world.join_static("g", ["a", "b"][index], true);
    let again = world.joined(waiter);
    assert_eq!((again.error, again.generation), (None, 1));
    assert_ne!(again.member_id, follower.member_id);
    assert_eq!(again.leader, follower.leader);
    assert!(!again.skip_assignment && again.members.is_empty());
    assert_eq!(world.log.len(), records + 1, "the new id is durable");
    let waiter = world.sync("g", &again, &[]);
    let given = Bytes::copy_from_slice(follower.member_id.as_bytes());
    assert_eq!(world.synced(waiter), Ok(given.clone()));
    // The old id is fenced where it names its instance, and unknown where it does not.
    let mut old = member_request("g", &follower.member_id, 1);
    assert_eq!(
        world.heartbeat_as(old.clone()),
        Err(GroupError::UnknownMember)
    );
    old.instance_id = Some(name(["a", "b"][index]));
    assert_eq!(
        world.heartbeat_as(old.clone()),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(GroupError::FencedInstanceId.code(), 82);
    assert_eq!(world.commit(old, "t", 1), Err(GroupError::FencedInstanceId));
    world.restart();
    let waiter = world.sync("g", &again, &[]);
    assert_eq!(world.synced(waiter), Ok(given));
}

#[test]
fn a_restarted_static_leader_skips_the_assignment_or_is_told_of_a_leader_that_is_gone() {
    for skip in [true, false] {
        let mut world = World::new();
        let members = stable_statics(&mut world);
        let index = usize::from(members[0].leader != members[0].member_id);
        let leader = &members[index];
        let waiter = world.join_static("g", ["a", "b"][index], skip);
        let again = world.joined(waiter);
        assert_eq!(
            (again.error, again.generation, again.skip_assignment),
            (None, 1, skip)
        );
        if skip {
            assert_eq!(again.leader, again.member_id);
            assert_eq!(again.members.len(), 2);
        } else {
            assert_eq!(again.leader, leader.member_id);
            assert!(again.members.is_empty());
        }
        assert_eq!(world.state("g"), Some(GroupState::Stable));
        // It leads all the same: its next join is a rebalance.
        world.join("g", "");
        assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    }
}

#[test]
fn a_static_member_that_comes_back_for_other_topics_rebalances() {
    let mut world = World::new();
    stable_statics(&mut world);
    let mut request = world.join_request("g", "");
    request.instance_id = Some(name("a"));
    request.protocols = vec![(name("range"), subscription(&["t", "u"]))];
    let waiter = world.send(Request::Join(request));
    assert!(world.open.contains(&waiter));
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_second_process_with_the_same_instance_fences_the_first_while_it_waits() {
    let mut world = World::new();
    let first = world.join_static("g", "a", true);
    let second = world.join_static("g", "a", true);
    assert_eq!(
        world.joined(first).error,
        Some(GroupError::FencedInstanceId)
    );
    world.advance(3_000);
    let joined = world.joined(second);
    assert_eq!(
        (joined.error, joined.generation, joined.members.len()),
        (None, 1, 1)
    );
    // Between join and sync: the generation is given up, and the one that waits is fenced.
    let third = world.join_static("g", "a", true);
    let joined = world.joined(third);
    assert_eq!((joined.error, joined.generation), (None, 2));
    let waiter = world.sync("g", &joined, &[]);
    assert_eq!(world.synced(waiter), Ok(Bytes::new()));
    world.shard.validate();
}

#[test]
fn an_absent_static_member_stays_until_its_session_ends() {
    let mut world = World::new();
    let mut request = world.join_request("g", "");
    request.instance_id = Some(name("a"));
    request.session_timeout_ms = 600_000;
    let first = world.send(Request::Join(request));
    let second = world.join_static("g", "b", true);
    world.advance(6_000);
    let members = [world.joined(first), world.joined(second)];
    world.sync_all("g", &members);
    // Another one joins and `b` follows; `a` is restarting all that while.
    let third = world.join("g", "");
    let mut again = world.join_request("g", &members[1].member_id);
    again.instance_id = Some(name("b"));
    let again = world.send(Request::Join(again));
    world.advance(60_000);
    let (third, again) = (world.joined(third), world.joined(again));
    assert_eq!((third.generation, again.generation), (2, 2));
    let leader = if third.leader == third.member_id {
        &third
    } else {
        &again
    };
    assert_eq!(
        leader.members.len(),
        3,
        "the absent one is assigned to as well"
    );
    assert_eq!(leader.leader, leader.member_id);
    let absent = &*members[0].member_id;
    let waiter = world.sync("g", leader, &[(absent, "kept")]);
    assert_eq!(world.synced(waiter), Ok(Bytes::new()));
    let back = world.join_static("g", "a", true);
    let back = world.joined(back);
    assert_eq!((back.error, back.generation), (None, 2));
    let waiter = world.sync("g", &back, &[]);
    assert_eq!(world.synced(waiter), Ok(Bytes::from_static(b"kept")));
    world.shard.validate();
}

#[test]
fn only_absent_static_members_hold_the_join_phase_open() {
    let mut world = World::new();
    let waiter = world.join_static("g", "a", true);
    world.advance(3_000);
    let a = world.joined(waiter);
    world.sync_all("g", std::slice::from_ref(&a));
    // A dynamic one asks to join and goes away again before the leader came back.
    let waiter = world.join("g", "");
    let dynamic = world.answers.len();
    assert_eq!(dynamic, 0);
    let id = world
        .describe("g")
        .unwrap()
        .members
        .into_iter()
        .find(|m| m.instance_id.is_none());
    assert_eq!(
        world.leave("g", &[(&id.unwrap().member_id, None)]),
        Ok(vec![Ok(())])
    );
    assert_eq!(world.joined(waiter).error, Some(GroupError::UnknownMember));
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    for _ in 0..30 {
        world.advance(5_000);
        let mut request = member_request("g", &a.member_id, 1);
        request.instance_id = Some(name("a"));
        assert_eq!(
            world.heartbeat_as(request),
            Err(GroupError::RebalanceInProgress)
        );
    }
    world.advance(10_000);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    world.shard.validate();
}

#[test]
fn an_administrator_removes_static_members_by_instance_id() {
    let mut world = World::new();
    let members = stable_statics(&mut world);
    let results = world.leave(
        "g",
        &[("", Some("a")), ("", Some("zzz")), ("wrong", Some("b"))],
    );
    assert_eq!(
        results,
        Ok(vec![
            Ok(()),
            Err(GroupError::UnknownMember),
            Err(GroupError::FencedInstanceId)
        ])
    );
    let mut request = member_request("g", &members[0].member_id, 1);
    request.instance_id = Some(name("a"));
    assert_eq!(world.heartbeat_as(request), Err(GroupError::UnknownMember));
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_static_member_that_outgrows_the_groups_record_rebalances() {
    let mut world = World::new();
    let waiter = world.join_static("g", "a", true);
    world.advance(6_000);
    let member = world.joined(waiter);
    let large = "x".repeat(MAX_GROUP_RECORD_BYTES - 5_000);
    let waiter = world.sync("g", &member, &[(&member.member_id, &large)]);
    assert!(world.synced(waiter).is_ok());
    let records = world.log.len();
    let mut request = world.join_request("g", "");
    request.instance_id = Some(name("a"));
    request.client_id = name(&"c".repeat(10_000));
    let waiter = world.send(Request::Join(request));
    let again = world.joined(waiter);
    assert_eq!((again.error, again.generation), (None, 2));
    assert_eq!(world.state("g"), Some(GroupState::CompletingRebalance));
    assert_eq!(world.log.len(), records, "no log would take the record");
}
