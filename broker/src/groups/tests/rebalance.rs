//! Dynamic members: joins, rebalances, sessions.

use super::*;

#[test]
fn the_first_generation_waits_for_more_members() {
    let mut world = World::new();
    let first = world.join("g", "");
    world.advance(2_000);
    let second = world.join("g", "");
    world.advance(1_000);
    assert_eq!(world.open.len(), 2, "the second one extended the delay");
    world.advance(3_000);
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.leader, second.leader);
    let (leader, follower) = if first.leader == first.member_id {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(leader.members.len(), 2);
    assert_eq!(leader.members[0].metadata, subscription(&["t"]));
    assert!(follower.members.is_empty());
    assert_eq!(leader.protocol.as_deref(), Some("range"));
    assert_eq!(leader.protocol_type.as_deref(), Some("consumer"));
    world.sync_all("g", &[leader, follower]);
    world.shard.validate();
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut world = World::new();
    let mut waiters = vec![];
    let mut request = world.join_request("g", "");
    request.requires_member_id = false;
    request.rebalance_timeout_ms = 8_000;
    for _ in 0..3 {
        request.nonce += 1;
        waiters.push(world.send(Request::Join(request.clone())));
        world.advance(2_600);
    }
    world.advance(200);
    for waiter in waiters {
        assert_eq!(world.joined(waiter).generation, 1);
    }
}

#[test]
fn no_delay_means_the_first_member_is_served_at_once() {
    let config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::kafka_defaults()
    };
    let mut world = World::with(config);
    let waiter = world.join("g", "");
    let reply = world.joined(waiter);
    assert_eq!((reply.error, reply.generation), (None, 1));
}

#[test]
fn joins_are_checked_before_the_group_is() {
    let mut world = World::new();
    let mut refuse = |change: &dyn Fn(&mut JoinRequest), error| {
        let mut request = world.join_request("g", "");
        change(&mut request);
        let waiter = world.send(Request::Join(request));
        assert_eq!(world.joined(waiter).error, Some(error));
        assert_eq!(world.shard.group_count(), 0);
    };
    refuse(&|r| r.group = name(""), GroupError::InvalidGroupId);
    refuse(
        &|r| r.session_timeout_ms = 5_999,
        GroupError::InvalidSessionTimeout,
    );
    refuse(
        &|r| r.session_timeout_ms = 1_800_001,
        GroupError::InvalidSessionTimeout,
    );
    refuse(
        &|r| r.session_timeout_ms = -1,
        GroupError::InvalidSessionTimeout,
    );
    refuse(&|r| r.protocols.clear(), GroupError::InconsistentProtocol);
    refuse(
        &|r| r.protocol_type = name(""),
        GroupError::InconsistentProtocol,
    );
    refuse(&|r| r.member_id = name("who"), GroupError::UnknownMember);
    refuse(
        &|r| {
            r.protocols = vec![(
                name("p"),
                Bytes::from(vec![0; MAX_MEMBER_METADATA_BYTES + 1]),
            )]
        },
        GroupError::InvalidRequest,
    );
    refuse(
        &|r| {
            r.protocols = (0..=MAX_MEMBER_PROTOCOLS)
                .map(|i| (name(&i.to_string()), Bytes::new()))
                .collect()
        },
        GroupError::InvalidRequest,
    );
}

#[test]
fn a_third_member_makes_a_second_generation() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    let third = world.join("g", "");
    for member in &members {
        assert_eq!(
            world.heartbeat("g", member),
            Err(GroupError::RebalanceInProgress)
        );
    }
    let mut waiters = vec![third];
    for member in &members {
        waiters.push(world.join("g", &member.member_id));
    }
    let members = waiters
        .into_iter()
        .map(|w| world.joined(w))
        .collect::<Vec<_>>();
    assert!(
        members
            .iter()
            .all(|m| m.error.is_none() && m.generation == 2)
    );
    world.sync_all("g", &members);
    for member in &members {
        assert_eq!(world.heartbeat("g", member), Ok(()));
    }
}

#[test]
fn whoever_does_not_rejoin_in_time_is_out() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    let third = world.join("g", "");
    let again = world.join("g", &members[0].member_id);
    // The second one only sends heartbeats: its session lives, its membership does not.
    for _ in 0..11 {
        world.advance(5_000);
        assert_eq!(
            world.heartbeat("g", &members[1]),
            Err(GroupError::RebalanceInProgress)
        );
    }
    world.advance(5_000);
    assert_eq!(world.joined(third).generation, 2);
    assert_eq!(world.joined(again).generation, 2);
    assert_eq!(
        world.heartbeat("g", &members[1]),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_session_without_heartbeats_ends() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    world.advance(9_000);
    assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
    world.advance(1_000);
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    assert_eq!(
        world.heartbeat("g", &members[1]),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        world.heartbeat("g", &members[0]),
        Err(GroupError::RebalanceInProgress)
    );
    let waiter = world.join("g", &members[0].member_id);
    assert_eq!(world.joined(waiter).generation, 2);
    // Neither syncs nor speaks again: out as well, and the group is empty.
    world.advance(10_000);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    let late = world.heartbeat("g", &members[0]);
    assert_eq!(late, Err(GroupError::UnknownMember));
    world.shard.validate();
}

#[test]
fn whoever_waits_for_us_keeps_its_session_but_a_new_one_not_for_ever() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    let _third = world.join("g", "");
    let waiting = world.join("g", &members[0].member_id);
    for _ in 0..11 {
        world.advance(5_000);
        assert_eq!(
            world.heartbeat("g", &members[1]),
            Err(GroupError::RebalanceInProgress)
        );
    }
    world.advance(4_999);
    assert!(
        world.open.contains(&waiting),
        "its session is ten seconds, the wait is ours"
    );
    world.advance(1);
    assert_eq!(world.joined(waiting).generation, 2);

    // A group whose rebalance takes longer than a new member may wait.
    let mut request = world.join_request("long", "");
    request.requires_member_id = false;
    request.rebalance_timeout_ms = 3_600_000;
    let first = world.send(Request::Join(request.clone()));
    world.advance(3_000);
    let first = world.joined(first);
    assert_eq!(first.error, None);
    request.nonce += 1;
    let second = world.send(Request::Join(request.clone()));
    for _ in 0..60 {
        world.advance(5_000);
        assert_eq!(
            world.heartbeat("long", &first),
            Err(GroupError::RebalanceInProgress)
        );
    }
    assert_eq!(world.joined(second).error, Some(GroupError::UnknownMember));
}

#[test]
fn an_id_given_out_and_not_used_holds_the_rebalance_up_until_its_session_ends() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    let request = world.join_request("g", "");
    let waiter = world.send(Request::Join(request));
    assert_eq!(
        world.joined(waiter).error,
        Some(GroupError::MemberIdRequired)
    );
    let waiter = world.join("g", &members[0].member_id);
    world.advance(9_999);
    assert!(world.open.contains(&waiter));
    world.advance(1);
    assert_eq!(world.joined(waiter).generation, 2);
}

#[test]
fn a_leader_that_joins_again_rebalances_and_a_follower_is_told_again() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    let (leader, follower) = if members[0].leader == members[0].member_id {
        (&members[0], &members[1])
    } else {
        (&members[1], &members[0])
    };
    let waiter = world.join("g", &follower.member_id);
    let again = world.joined(waiter);
    assert_eq!((again.error, again.generation), (None, 1));
    assert_eq!(world.state("g"), Some(GroupState::Stable));
    let waiter = world.join("g", &leader.member_id);
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    let other = world.join("g", &follower.member_id);
    assert_eq!(world.joined(waiter).generation, 2);
    assert_eq!(world.joined(other).generation, 2);
}

#[test]
fn a_follower_that_offers_something_else_rebalances() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    let follower = members.iter().find(|m| m.leader != m.member_id).unwrap();
    let mut request = world.join_request("g", &follower.member_id);
    request.protocols = vec![(name("range"), subscription(&["t", "u"]))];
    world.send(Request::Join(request.clone()));
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    request.protocols = vec![(name("sticky"), subscription(&["t"]))];
    let waiter = world.send(Request::Join(request));
    assert_eq!(
        world.joined(waiter).error,
        Some(GroupError::InconsistentProtocol)
    );
}

#[test]
fn a_retried_join_answers_the_first_try_and_a_retried_sync_too() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    world.join("g", "");
    let first = world.join("g", &members[0].member_id);
    let second = world.join("g", &members[0].member_id);
    assert_eq!(
        world.joined(first).error,
        Some(GroupError::RebalanceInProgress)
    );
    assert!(world.open.contains(&second));
    world.advance(10_000);
    let joined = world.joined(second);
    assert_eq!(joined.generation, 2);
    let follower = JoinReply {
        generation: 2,
        ..joined.clone()
    };
    if joined.leader != joined.member_id {
        let first = world.sync("g", &follower, &[]);
        let second = world.sync("g", &follower, &[]);
        assert_eq!(world.synced(first), Err(GroupError::RebalanceInProgress));
        assert!(world.open.contains(&second));
    } else {
        let first = world.sync("g", &follower, &[(&follower.member_id, "x")]);
        assert_eq!(world.synced(first), Ok(Bytes::from_static(b"x")));
        let second = world.sync("g", &follower, &[(&follower.member_id, "y")]);
        assert_eq!(
            world.synced(second),
            Ok(Bytes::from_static(b"x")),
            "the first one counts"
        );
    }
}

#[test]
fn syncs_are_checked() {
    let mut world = World::new();
    let unknown = JoinReply {
        generation: 1,
        ..JoinReply::refused(GroupError::UnknownMember, name("x"))
    };
    let waiter = world.sync("g", &unknown, &[]);
    assert_eq!(world.synced(waiter), Err(GroupError::UnknownMember));
    let waiter = world.sync("", &unknown, &[]);
    assert_eq!(world.synced(waiter), Err(GroupError::InvalidGroupId));
    let members = world.stable("g", 1);
    let mut wrong = members[0].clone();
    wrong.generation = 7;
    let waiter = world.sync("g", &wrong, &[]);
    assert_eq!(world.synced(waiter), Err(GroupError::IllegalGeneration));
    let mut wrong = members[0].clone();
    wrong.protocol = Some(name("sticky"));
    let waiter = world.sync("g", &wrong, &[]);
    assert_eq!(world.synced(waiter), Err(GroupError::InconsistentProtocol));
    let mut older = members[0].clone();
    (older.protocol, older.protocol_type) = (None, None);
    let waiter = world.sync("g", &older, &[]);
    assert_eq!(
        world.synced(waiter),
        Ok(Bytes::copy_from_slice(older.member_id.as_bytes()))
    );
    world.join("g", "");
    let waiter = world.sync("g", &members[0], &[]);
    assert_eq!(world.synced(waiter), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_leader_that_never_syncs_is_replaced() {
    let mut world = World::new();
    let waiters = [world.join("g", ""), world.join("g", "")];
    world.advance(6_000);
    let members = waiters.map(|w| world.joined(w));
    let follower = members.iter().find(|m| m.leader != m.member_id).unwrap();
    let leader = members.iter().find(|m| m.leader == m.member_id).unwrap();
    let waiter = world.sync("g", follower, &[]);
    for _ in 0..11 {
        world.advance(5_000);
        assert_eq!(world.heartbeat("g", leader), Ok(()));
    }
    world.advance(5_000);
    assert_eq!(world.synced(waiter), Err(GroupError::RebalanceInProgress));
    assert_eq!(world.heartbeat("g", leader), Err(GroupError::UnknownMember));
    let waiter = world.join("g", &follower.member_id);
    let joined = world.joined(waiter);
    assert_eq!(
        (joined.generation, &joined.leader),
        (2, &follower.member_id)
    );
}

#[test]
fn a_batch_of_leaves_is_one_rebalance() {
    let mut world = World::new();
    let members = world.stable("g", 3);
    let ids = members
        .iter()
        .map(|m| m.member_id.to_string())
        .collect::<Vec<_>>();
    let results = world.leave("g", &[(&ids[0], None), ("nobody", None), (&ids[1], None)]);
    assert_eq!(
        results,
        Ok(vec![Ok(()), Err(GroupError::UnknownMember), Ok(())])
    );
    let waiter = world.join("g", &ids[2]);
    assert_eq!(world.joined(waiter).generation, 2);
    assert_eq!(world.leave("g", &[(&ids[2], None)]), Ok(vec![Ok(())]));
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    assert_eq!(
        world.leave("other", &[("x", None)]),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        world.leave("", &[("x", None)]),
        Err(GroupError::InvalidGroupId)
    );
}

#[test]
fn leaving_answers_what_the_member_waited_for() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    world.join("g", "");
    let waiter = world.join("g", &members[0].member_id);
    assert_eq!(
        world.leave("g", &[(&members[0].member_id, None)]),
        Ok(vec![Ok(())])
    );
    assert_eq!(world.joined(waiter).error, Some(GroupError::UnknownMember));
    assert_eq!(
        world.leave("g", &[(&members[1].member_id, None)]),
        Ok(vec![Ok(())])
    );
    assert!(
        world.open.is_empty(),
        "the third one was all that was left to wait for"
    );
}

#[test]
fn the_group_is_full_at_its_maximum() {
    let config = GroupConfig {
        max_size: 2,
        ..GroupConfig::kafka_defaults()
    };
    let mut world = World::with(config);
    let members = world.stable("g", 2);
    let request = world.join_request("g", "");
    let waiter = world.send(Request::Join(request));
    assert_eq!(
        world.joined(waiter).error,
        Some(GroupError::GroupMaxSizeReached)
    );
    for member in &members {
        assert_eq!(world.heartbeat("g", member), Ok(()));
    }
}

#[test]
fn the_protocol_most_members_prefer_wins() {
    let mut world = World::new();
    let mut waiters = vec![];
    for list in [["b", "a", "x"], ["a", "b", "y"], ["b", "a", "z"]] {
        let mut request = world.join_request("g", "");
        request.requires_member_id = false;
        request.protocols = list
            .map(|p| (name(p), Bytes::from_static(p.as_bytes())))
            .to_vec();
        waiters.push(world.send(Request::Join(request)));
    }
    world.advance(6_000);
    for waiter in waiters {
        let reply = world.joined(waiter);
        assert_eq!(reply.protocol.as_deref(), Some("b"));
        assert!(reply.members.iter().all(|m| m.metadata == "b"));
    }
}

#[test]
fn a_group_record_that_is_too_large_is_refused_and_the_group_rebalances() {
    let mut world = World::new();
    let waiter = world.join("g", "");
    world.advance(3_000);
    let member = world.joined(waiter);
    let huge = "x".repeat(MAX_GROUP_RECORD_BYTES);
    let waiter = world.sync("g", &member, &[(&member.member_id, &huge)]);
    assert_eq!(world.synced(waiter), Err(GroupError::RecordTooLarge));
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    assert!(world.log.is_empty());
}

#[test]
fn sessions_start_anew_after_a_restart() {
    let mut world = World::new();
    let members = world.stable("g", 2);
    world.advance(9_000);
    world.restart();
    assert_eq!(world.state("g"), Some(GroupState::Stable));
    world.advance(9_999);
    for member in &members {
        assert_eq!(world.heartbeat("g", member), Ok(()));
        let waiter = world.sync("g", member, &[]);
        let kept = world.synced(waiter);
        assert_eq!(
            kept,
            Ok(Bytes::copy_from_slice(member.member_id.as_bytes()))
        );
    }
    world.advance(10_000);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
}

#[test]
fn a_process_that_stood_still_does_not_blame_its_members() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    world.pass(30_000);
    world.shard.restart_sessions(world.now);
    world.input(Input::Tick);
    assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
}

#[test]
fn descriptions_and_listings_show_what_the_state_allows() {
    let mut world = World::new();
    assert_eq!(world.describe("g"), Err(GroupError::GroupIdNotFound));
    let members = world.stable("g", 1);
    world.commit(outsider("simple"), "t", 3).unwrap();
    let description = world.describe("g").unwrap();
    assert_eq!(&*description.protocol, "range");
    assert_eq!(&*description.protocol_type, "consumer");
    assert_eq!(description.members.len(), 1);
    assert_eq!(description.members[0].metadata, subscription(&["t"]));
    assert_eq!(
        &description.members[0].assignment,
        members[0].member_id.as_bytes()
    );
    assert_eq!(&*description.members[0].client_host, "/127.0.0.1");
    world.join("g", "");
    let description = world.describe("g").unwrap();
    assert_eq!(description.state, GroupState::PreparingRebalance);
    assert_eq!(&*description.protocol, "");
    assert!(
        description
            .members
            .iter()
            .all(|m| m.metadata.is_empty() && m.assignment.is_empty())
    );

    let mut list = |states: &[&str], types: &[&str]| {
        let names = |list: &[&str]| list.iter().map(|s| name(s)).collect();
        let request = ListRequest {
            states: names(states),
            types: names(types),
        };
        let waiter = world.send(Request::List(request));
        match world.reply(waiter) {
            Reply::List(Ok(list)) => list
                .into_iter()
                .map(|l| l.group.to_string())
                .collect::<Vec<_>>(),
            other => panic!("not a list: {other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), ["g", "simple"]);
    assert_eq!(list(&["empty"], &[]), ["simple"]);
    assert_eq!(list(&["PreparingRebalance", "Stable"], &["Classic"]), ["g"]);
    assert!(list(&[], &["consumer"]).is_empty());
    assert!(list(&["Dead"], &[]).is_empty());
}
