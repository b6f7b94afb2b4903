//! Commits, fetches, deletions, expiry, and what a restart finds.

use super::*;

const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

#[test]
fn a_simple_group_commits_and_a_restart_finds_it() {
    let mut world = World::new();
    assert_eq!(world.commit(outsider("g"), "t", 7), Ok(vec![Ok(())]));
    assert_eq!(world.commit(outsider("g"), "t", 9), Ok(vec![Ok(())]));
    assert_eq!(
        world.restart(),
        LoadCounts {
            records: 2,
            skipped: 0,
            damaged: 0
        }
    );
    assert_eq!(world.offsets("g"), [("t".to_owned(), 9)]);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    let partitions = vec![(name("t"), 0), (name("t"), 1), (name("u"), 0)];
    let request = FetchOffsetsRequest {
        group: name("g"),
        partitions: Some(partitions.clone()),
    };
    let waiter = world.send(Request::FetchOffsets(request));
    let Reply::FetchOffsets(Ok(offsets)) = world.reply(waiter) else {
        panic!("not offsets")
    };
    let got = offsets
        .iter()
        .map(|o| (o.offset, o.leader_epoch, &*o.metadata))
        .collect::<Vec<_>>();
    assert_eq!(got, [(9, 5, "meta"), (-1, -1, ""), (-1, -1, "")]);
    let request = FetchOffsetsRequest {
        group: name("none"),
        partitions: Some(partitions),
    };
    let waiter = world.send(Request::FetchOffsets(request));
    let Reply::FetchOffsets(Ok(offsets)) = world.reply(waiter) else {
        panic!("not offsets")
    };
    assert!(offsets.iter().all(|o| o.offset == -1) && offsets.len() == 3);
    assert!(world.offsets("none").is_empty());
}

#[test]
fn commits_are_checked_against_the_generation() {
    let mut world = World::new();
    let refused = world.commit(member_request("new", "m", 1), "t", 1);
    assert_eq!(refused, Err(GroupError::GroupIdNotFound));
    let members = world.stable("g", 2);
    let id = &*members[0].member_id;
    assert_eq!(
        world.commit(outsider("g"), "t", 1),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        world.commit(member_request("g", id, 9), "t", 1),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        world.commit(member_request("g", id, -1), "t", 1),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        world.commit(member_request("g", "x", 1), "t", 1),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        world.commit(member_request("g", id, 1), "t", 1),
        Ok(vec![Ok(())])
    );
    // While others join, the last generation may still commit what it did; after that, nobody
    // until there is an assignment.
    world.join("g", "");
    assert_eq!(
        world.commit(member_request("g", id, 1), "t", 2),
        Ok(vec![Ok(())])
    );
    world.join("g", id);
    world.join("g", &members[1].member_id);
    assert_eq!(world.state("g"), Some(GroupState::CompletingRebalance));
    assert_eq!(
        world.commit(member_request("g", id, 2), "t", 3),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        world.commit(member_request("g", id, 1), "t", 3),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(world.offsets("g"), [("t".to_owned(), 2)]);
}

#[test]
fn a_long_metadata_string_is_refused_alone() {
    let mut world = World::new();
    let most = "m".repeat(4_096);
    assert_eq!(
        world.commit_with(outsider("g"), "t", 1, &most, None),
        Ok(vec![Ok(())])
    );
    let more = "m".repeat(4_097);
    let refused = world.commit_with(outsider("g"), "t", 2, &more, None);
    assert_eq!(refused, Ok(vec![Err(GroupError::OffsetMetadataTooLarge)]));
    assert_eq!(GroupError::OffsetMetadataTooLarge.code(), 12);
    assert_eq!(world.offsets("g"), [("t".to_owned(), 1)]);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    for offset in 0..5 {
        world.advance(9_000);
        let member = member_request("g", &members[0].member_id, 1);
        assert_eq!(world.commit(member, "t", offset), Ok(vec![Ok(())]));
    }
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn groups_are_deleted_only_when_empty() {
    let mut world = World::new();
    assert_eq!(world.delete("g"), Err(GroupError::GroupIdNotFound));
    let members = world.stable("g", 1);
    let member = member_request("g", &members[0].member_id, 1);
    world.commit(member, "t", 5).unwrap();
    assert_eq!(world.delete("g"), Err(GroupError::NonEmptyGroup));
    world.leave("g", &[(&members[0].member_id, None)]).unwrap();
    assert_eq!(
        world.offsets("g"),
        [("t".to_owned(), 5)],
        "leaving loses nothing"
    );
    assert_eq!(world.delete("g"), Ok(()));
    assert_eq!(world.describe("g"), Err(GroupError::GroupIdNotFound));
    world.restart();
    assert_eq!(world.shard.group_count(), 0, "tombstones took everything");
}

#[test]
fn offsets_of_a_topic_that_is_read_are_not_deleted() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    let delete = |world: &mut World, group: &str| {
        let partitions = vec![(name("t"), 0), (name("u"), 0), (name("u"), 8)];
        let request = DeleteOffsetsRequest {
            group: name(group),
            partitions,
        };
        let waiter = world.send(Request::DeleteOffsets(request));
        match world.reply(waiter) {
            Reply::DeleteOffsets(result) => result,
            other => panic!("not a deletion: {other:?}"),
        }
    };
    for topic in ["t", "u"] {
        world
            .commit(member_request("g", &members[0].member_id, 1), topic, 5)
            .unwrap();
    }
    assert_eq!(
        delete(&mut world, "g"),
        Ok(vec![Err(GroupError::SubscribedToTopic), Ok(()), Ok(())])
    );
    assert_eq!(world.offsets("g"), [("t".to_owned(), 5)]);
    assert_eq!(delete(&mut world, "none"), Err(GroupError::GroupIdNotFound));

    let mut request = world.join_request("connect", "");
    request.protocol_type = name("connect");
    request.requires_member_id = false;
    world.send(Request::Join(request));
    assert_eq!(
        delete(&mut world, "connect"),
        Err(GroupError::NonEmptyGroup)
    );

    world.leave("g", &[(&members[0].member_id, None)]).unwrap();
    assert_eq!(delete(&mut world, "g"), Ok(vec![Ok(()), Ok(()), Ok(())]));
    assert!(world.offsets("g").is_empty());
    world.restart();
    assert!(world.offsets("g").is_empty());
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut world = World::new();
    world.commit(outsider("g"), "t", 1).unwrap();
    world.commit(outsider("g"), "u", 2).unwrap();
    world.commit(outsider("h"), "t", 3).unwrap();
    world.input(Input::TopicsDeleted(vec![name("t")]));
    assert_eq!(world.offsets("g"), [("u".to_owned(), 2)]);
    assert_eq!(
        world.describe("h"),
        Err(GroupError::GroupIdNotFound),
        "nothing was left of it"
    );
    world.restart();
    assert_eq!(world.offsets("g"), [("u".to_owned(), 2)]);
    assert_eq!(world.shard.group_count(), 1);
}

#[test]
fn offsets_expire_a_retention_after_the_group_became_empty() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    world
        .commit(member_request("g", &members[0].member_id, 1), "t", 5)
        .unwrap();
    for _ in 0..(2 * WEEK_MS / 9_000) {
        world.pass(9_000);
        assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
    }
    assert_eq!(
        world.offsets("g"),
        [("t".to_owned(), 5)],
        "it is read: it stays"
    );
    world.leave("g", &[(&members[0].member_id, None)]).unwrap();
    world.advance(WEEK_MS - 1_200_000);
    assert_eq!(world.offsets("g"), [("t".to_owned(), 5)]);
    world.restart();
    assert_eq!(world.offsets("g"), [("t".to_owned(), 5)]);
    world.advance(2_400_000);
    assert_eq!(world.describe("g"), Err(GroupError::GroupIdNotFound));
    world.restart();
    assert_eq!(world.shard.group_count(), 0);
}

#[test]
fn offsets_of_topics_no_longer_read_expire_after_their_commit() {
    let mut world = World::new();
    let members = world.stable("g", 1);
    for topic in ["t", "old"] {
        world
            .commit(member_request("g", &members[0].member_id, 1), topic, 5)
            .unwrap();
    }
    for _ in 0..((WEEK_MS + 1_200_000) / 9_000) {
        world.pass(9_000);
        assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
    }
    assert_eq!(world.offsets("g"), [("t".to_owned(), 5)]);
}

#[test]
fn a_retention_of_the_clients_own_counts_and_survives_a_restart() {
    let mut world = World::new();
    world
        .commit_with(outsider("g"), "t", 1, "", Some(3_600_000))
        .unwrap();
    world.commit(outsider("g"), "u", 2).unwrap();
    world.restart();
    world.advance(3_000_000);
    assert_eq!(world.offsets("g").len(), 2);
    world.advance(1_800_000);
    assert_eq!(world.offsets("g"), [("u".to_owned(), 2)]);
}

#[test]
fn loading_skips_and_counts_what_it_cannot_read() {
    let mut world = World::new();
    world.commit(outsider("g"), "t", 7).unwrap();
    let mut loader = Loader::default();
    let (key, value) = world.log[0].clone();
    loader.record(Some(&key), value.as_deref()).unwrap();
    assert!(loader.record(Some(&key), Some(&[0, 3, 1])).is_err());
    assert!(loader.record(Some(&[0]), None).is_err());
    assert!(loader.record(None, value.as_deref()).is_err());
    loader.record(Some(&[0, 9, 1, 2]), Some(&[])).unwrap();
    assert_eq!(
        loader.counts(),
        LoadCounts {
            records: 5,
            skipped: 1,
            damaged: 3
        }
    );
    world.shard = loader.finish(world.config.clone(), world.now);
    assert_eq!(world.offsets("g"), [("t".to_owned(), 7)]);
}

#[test]
fn a_damaged_group_record_with_doubled_members_loads_into_a_sound_group() {
    let member = |id: &str, instance: &str| MemberValue {
        member_id: name(id),
        instance_id: Some(name(instance)),
        client_id: name("c"),
        client_host: name("h"),
        rebalance_timeout_ms: -5,
        session_timeout_ms: i32::MIN,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let value = GroupMetadataValue {
        protocol_type: name(""),
        generation: -7,
        protocol: Some(name("p")),
        leader: Some(name("nobody")),
        state_since_ms: -1,
        members: vec![member("a", "i"), member("a", "j"), member("b", "i")],
    };
    let mut world = World::new();
    world
        .log
        .push((GroupKey { group: name("g") }.encode(), Some(value.encode())));
    world.restart();
    world.shard.validate();
    assert_eq!(world.describe("g").unwrap().members.len(), 1);
    world.advance(60_000);
    world.shard.validate();
}

#[test]
fn an_id_given_out_is_not_lost_with_an_empty_group() {
    // The group expires between the two halves of a first join: the id must still be good.
    let config = GroupConfig {
        offsets_retention_check_interval_ms: 1_000,
        ..GroupConfig::kafka_defaults()
    };
    let mut world = World::with(config);
    let members = world.stable("g", 1);
    world.leave("g", &[(&members[0].member_id, None)]).unwrap();
    let request = world.join_request("g", "");
    let waiter = world.send(Request::Join(request.clone()));
    let id = world.joined(waiter).member_id;
    world.advance(5_000);
    let waiter = world.send(Request::Join(JoinRequest {
        member_id: id,
        ..request
    }));
    world.advance(3_000);
    assert_eq!(world.joined(waiter).error, None);
}
