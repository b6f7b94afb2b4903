//! A log that ends anywhere, and one that was compacted.

use super::*;

/// A group whose history has joins, moves, a static member, leaves and a pattern.
fn history() -> (Bench, Vec<Client>) {
    let mut bench = Bench::new(&[("t", 1, 6), ("u", 2, 3)]);
    let mut clients = vec![Client::new("a", &["t"]), Client::new("b", &["t", "u"])];
    bench.settle(&mut clients);
    clients.push(Client {
        instance: Some("i".into()),
        ..Client::new("s1", &["t"])
    });
    bench.settle(&mut clients);
    let left = clients.pop().unwrap();
    bench.send(&left.leaves(STATIC_LEAVE_EPOCH)).unwrap();
    clients.push(Client {
        id: "s2".into(),
        epoch: JOIN_EPOCH,
        held: Assignment::new(),
        ..left
    });
    bench.settle(&mut clients);
    let mut pattern = clients[0].request();
    (pattern.regex, pattern.topics) = (Some("u".into()), Some([].into()));
    clients[0].topics.clear();
    bench.send(&pattern).unwrap();
    let resolved = ResolvedRegex {
        topics: ["u".into()].into(),
        version: 1,
        timestamp_ms: 1,
    };
    let outcome =
        (bench.group).regexes_resolved(1, [("u".into(), resolved)].into(), &bench.cluster);
    bench.log.append(&outcome.records);
    bench.settle(&mut clients);
    let gone = clients.remove(1);
    bench.send(&gone.leaves(LEAVE_EPOCH)).unwrap();
    bench.settle(&mut clients);
    (bench, clients)
}

#[test]
fn a_fold_gives_the_group_again() {
    let (bench, _) = history();
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));
    let mut compacted = bench.log.clone();
    compacted.compact();
    assert!(compacted.0.len() < bench.log.0.len() / 2);
    assert_eq!(durable(&compacted.fold()), durable(&bench.group));
    let mut loaded = compacted.fold();
    let outcome = loaded.loaded(0, &bench.cluster);
    assert_eq!(outcome.records, [], "nothing is to be mended");
    assert_eq!(
        loaded.next_deadline_ms(),
        Some(45_000),
        "sessions begin anew"
    );
}

#[test]
fn a_log_that_ends_anywhere_gives_a_group_that_goes_on() {
    let (whole, _) = history();
    for end in 0..=whole.log.0.len() {
        for compact in [false, true] {
            let mut log = Log(whole.log.0[..end].to_vec());
            if compact {
                log.compact();
            }
            let mut group = log.fold();
            let mended = group.loaded(0, &whole.cluster);
            log.append(&mended.records);
            check(&group);
            assert_eq!(durable(&log.fold()), durable(&group));

            // Clients are where the coordinator believes they are, or have to begin anew.
            let mut clients: Vec<_> = group
                .members()
                .iter()
                .filter(|(_, member)| member.current.epoch > 0)
                .map(|(id, member)| Client {
                    id: id.clone(),
                    instance: member.metadata.instance_id.clone(),
                    topics: vec!["t".into(), "u".into()],
                    epoch: member.current.epoch,
                    held: member.current.assigned.clone(),
                    wanted: member.current.assigned.clone(),
                    is_unsure: false,
                })
                .collect();
            clients.push(Client::new("last", &["t", "u"]));
            let mut bench = Bench {
                group,
                cluster: whole.cluster.clone(),
                log,
                now_ms: 1,
                heartbeats: 0,
            };
            bench.settle(&mut clients);
            // Those that never answered are given up.
            bench.now_ms = 45_000;
            let expired = bench.group.expire(bench.now_ms, &bench.cluster);
            bench.log.append(&expired.records);
            bench.settle(&mut clients);
            let held: Assignment = clients.iter().flat_map(|one| one.held.iter()).collect();
            assert_eq!(held, bench.cluster.all(), "cut at {end}");
            assert_eq!(bench.group.state(), GroupState::Stable);
        }
    }
}

#[test]
fn records_that_contradict_each_other_are_mended() {
    let cluster = Cluster::of(&[("t", 1, 4)]);
    let metadata = |id: &str| MemberMetadata {
        client_id: id.into(),
        topics: ["t".into()].into(),
        ..MemberMetadata::default()
    };
    let current = |epoch, state, assigned: &[i32], revoking: &[i32]| CurrentAssignment {
        epoch,
        previous_epoch: epoch,
        state,
        assigned: partitions(1, assigned),
        revoking: partitions(1, revoking),
    };
    let mut group = ConsumerGroup::new("g".into(), config());
    for record in [
        Record::Member("a".into(), Some(metadata("a"))),
        Record::Member("b".into(), Some(metadata("b"))),
        Record::Member("c".into(), Some(metadata("c"))),
        Record::Group(Some(GroupMetadata {
            epoch: 5,
            metadata_hash: 1,
        })),
        Record::TargetEpoch(Some(9)),
        Record::Target("gone".into(), Some(partitions(1, &[0]))),
        // Two own the same; one is ahead of the group; one waits at the last epoch there is.
        Record::Current(
            "a".into(),
            Some(current(5, MemberState::Stable, &[0, 1], &[])),
        ),
        Record::Current(
            "b".into(),
            Some(current(5, MemberState::UnrevokedPartitions, &[1], &[2])),
        ),
        Record::Current("c".into(), Some(current(7, MemberState::Stable, &[3], &[]))),
    ] {
        group.replay(&record);
    }
    let mended = group.loaded(0, &cluster);
    assert!(!mended.records.is_empty());
    check(&group);
    let ids: Vec<_> = group.members().keys().map(|id| &**id).collect();
    assert_eq!(ids, ["b"], "the others begin anew");
    let mut b = Client {
        epoch: 5,
        held: partitions(1, &[1]),
        wanted: partitions(1, &[1]),
        ..Client::new("b", &["t"])
    };
    let mut bench = Bench::new(&[("t", 1, 4)]);
    bench.group = group;
    bench.settle(std::slice::from_mut(&mut b));
    assert_eq!(b.held, cluster.all());
}
