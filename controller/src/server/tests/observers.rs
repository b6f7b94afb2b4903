//! Processes without a voter, beside three that have one.

use env::sim::NetworkFaults;
use tokio::time::{Instant as PausedInstant, sleep, timeout};

use super::quorum::{Cluster, NODES, address, ip, level};
use super::*;
use crate::image::Image;
use crate::limits::{MAX_KEYS_PER_QUERY, QUERY_BYTES};
use crate::observer::{Observer, ObserverSettings};
use crate::rpc::wire;

/// Nodes without a voter.
const OBSERVERS: [i32; 2] = [11, 12];

fn observer_settings(controllers: &[i32]) -> ObserverSettings {
    ObserverSettings {
        controllers: controllers.iter().map(|node| address(*node)).collect(),
        lease: Duration::from_secs(6),
        tls: None,
        newest_level: NEWEST_LEVEL,
    }
}

async fn observe(cluster: &mut Cluster, seed: u64, node: i32, controllers: &[i32]) -> Observer {
    let host = Cluster::host(seed + 50, &cluster.network, node);
    let env = host.env();
    cluster.hosts.insert(node, host);
    let starting = Observer::start(env, observer_settings(controllers));
    timeout(Duration::from_secs(60), starting)
        .await
        .expect("it starts")
        .unwrap()
}

async fn begun(seed: u64) -> (Cluster, Vec<Observer>) {
    let mut cluster = Cluster::begun(seed).await;
    let mut observers = Vec::new();
    for node in OBSERVERS {
        observers.push(observe(&mut cluster, seed, node, &NODES).await);
    }
    (cluster, observers)
}

fn image(client: &Client) -> Image {
    client.image().borrow().as_ref().clone()
}

/// Once they hold the same entries, the images are the same.
async fn assert_same_images(cluster: &Cluster, observers: &[Observer]) {
    let (_, voter) = cluster.running.first_key_value().unwrap();
    let voter = voter.client();
    voter.confirm_leader().await.unwrap();
    let applied = voter.image().borrow().applied;
    for observer in observers {
        let client = observer.client();
        let same = async {
            let mut image = client.image();
            let same =
                image.wait_for(|image| image.applied >= applied && image.controller.is_some());
            same.await.unwrap().clone()
        };
        let seen = timeout(Duration::from_secs(20), same).await.unwrap();
        voter.wait_for(seen.applied).await.unwrap();
        assert_eq!(*seen, image(&voter));
    }
}

fn named(name: &str, id: u128, partitions: u32) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: TopicId(Uuid::from_u128(id)),
        internal: false,
        partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    })
}

async fn open_wal(client: &Client, node: i32, n: u128) -> (BrokerEpoch, WalId) {
    let register = RegisterBroker {
        node: NodeId(node),
        ..register(n)
    };
    let broker = client.register(register, true).await.unwrap();
    let (wal, backend) = (WalId(Uuid::from_u128(n)), WalBackend::Object);
    let open = Command::OpenWal {
        broker,
        wal,
        backend,
    };
    client.submit(open).await.unwrap();
    (broker, wal)
}

#[tokio::test(start_paused = true)]
async fn an_observer_commands_and_sees_its_own_change() {
    let (cluster, observers) = begun(60).await;
    let began = PausedInstant::now();
    for (n, observer) in (1..).zip(&observers) {
        let client = observer.client();
        client.submit(level(&format!("f{n}"), n)).await.unwrap();
        assert_eq!(image(&client).features[&format!("f{n}")], n);
        let refused = client.submit(level(&format!("f{n}"), 0)).await;
        refused.expect("0 drops it");
        assert!(!image(&client).features.contains_key(&format!("f{n}")));
        let id = client.command_id();
        let made = client.submit_as(id, named("logs", 77, 3)).await;
        let again = client.submit_as(id, named("logs", 77, 3)).await;
        match n {
            1 => assert_eq!(made.unwrap(), again.unwrap(), "done once"),
            _ => assert!(made.unwrap_err().to_string().contains("exists")),
        }
    }
    println!("commands took {:?} of simulated time", began.elapsed());
    let leader = cluster.leader().await;
    for observer in &observers {
        let seen = image(&observer.client()).controller;
        assert_eq!(seen, Some(NodeId(leader)));
        assert_eq!(*observer.failure().borrow(), None);
    }
    assert_same_images(&cluster, &observers).await;
    for observer in observers {
        let client = observer.client();
        observer.shutdown().await.unwrap();
        assert!(client.wait_for(u64::MAX).await.is_err(), "it has stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn queries_from_afar_are_answered_as_at_home() {
    let (cluster, observers) = begun(61).await;
    let (far, near) = (observers[0].client(), cluster.client(1));
    let (broker, wal) = open_wal(&far, 11, 5).await;
    far.submit(topic("logs")).await.unwrap();
    for n in 0..5u64 {
        let at = n as i64 * 10;
        let round = commit(broker, wal, (n, n + 1), (at, at + 10));
        far.submit(round).await.unwrap();
    }
    let seen = far.partition(TP).await.unwrap().unwrap();
    assert_eq!(seen.slices.len(), 5);
    assert_eq!(Some(seen), near.partition(TP).await.unwrap());
    let absent = TopicPartition::new(TOPIC, 9);
    assert_eq!(far.partition(absent).await.unwrap(), None);
    assert_eq!(far.partition_bytes(TP).await.unwrap(), Some(500));
    assert_eq!(far.partition_bytes(absent).await.unwrap(), None);
    assert!(far.check(&named("new", 5, 1)).await.is_ok());
    let refused = far.check(&topic("logs")).await.unwrap_err();
    assert_eq!(
        refused.refusal(),
        near.check(&topic("logs")).await.unwrap_err().refusal()
    );
    // A topic's objects are condemned with it.
    far.submit(Command::DeleteTopic { topic: TOPIC })
        .await
        .unwrap();
    let condemned = far.condemned(i64::MAX, None, 3).await.unwrap();
    assert_eq!(condemned.len(), 3);
    assert_eq!(condemned, near.condemned(i64::MAX, None, 3).await.unwrap());
    for client in [&far, &near] {
        let after = Some(condemned[0].clone());
        let rest = client.condemned(i64::MAX, after, 2).await.unwrap();
        assert_eq!(rest, condemned[1..]);
    }
    far.submit(Command::Goodbye { broker }).await.unwrap();
    let close = Command::AbandonWal {
        wal,
        reason: "gone".to_owned(),
    };
    far.submit(close).await.unwrap();
    let keys = (0..MAX_KEYS_PER_QUERY + 5).map(|n| format!("c/data/00/0-{broker}-x{n}"));
    let mut keys: Vec<_> = keys.collect();
    assert_eq!(far.orphans(keys.clone()).await.unwrap(), keys);
    // Longer than one question may be.
    keys.iter_mut()
        .for_each(|key| key.push_str(&"y".repeat(QUERY_BYTES / 4000)));
    assert_eq!(far.orphans(keys.clone()).await.unwrap(), keys);
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_and_a_lost_voter_are_got_over() {
    let (mut cluster, observers) = begun(62).await;
    for round in 0..6u16 {
        let leader = cluster.leader().await;
        // Now the leader, now another: whoever is followed is lost sooner or later.
        let lost = match round % 2 {
            0 => leader,
            _ => NODES.into_iter().find(|node| *node != leader).unwrap(),
        };
        cluster.kill(lost);
        let began = PausedInstant::now();
        for (n, observer) in observers.iter().enumerate() {
            let (client, name) = (observer.client(), format!("r{round}-{n}"));
            client.submit(level(&name, 1)).await.unwrap();
            assert!(image(&client).features.contains_key(&name));
        }
        let gap = began.elapsed();
        println!("round {round}: {gap:?}");
        assert!(gap < Duration::from_secs(8), "{gap:?}");
        let now = cluster.leader().await;
        for observer in &observers {
            let mut seen = observer.client().image();
            let right = seen.wait_for(|image| image.controller == Some(NodeId(now)));
            timeout(Duration::from_secs(10), right)
                .await
                .unwrap()
                .unwrap();
        }
        cluster.restart(lost).await;
    }
    assert_same_images(&cluster, &observers).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_cut_off_from_the_others_is_not_followed_for_long() {
    let (cluster, observers) = begun(63).await;
    let client = observers[0].client();
    let (broker, _) = open_wal(&client, 11, 5).await;
    let keeper = client.keep_lease(broker, ()).await.unwrap();
    for cut in NODES {
        // Observers reach it still, the other voters do not.
        cluster.cut_off(cut);
        for n in 0..3 {
            let name = format!("c{cut}-{n}");
            let began = PausedInstant::now();
            client.submit(level(&name, 1)).await.unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(12), "{took:?}");
            assert!(image(&client).features.contains_key(&name));
            sleep(Duration::from_secs(1)).await;
            assert!(keeper.lease().valid_now(), "the lease is kept meanwhile");
        }
        cluster.network.heal_all();
    }
    assert_same_images(&cluster, &observers).await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_cut_off_loses_its_lease_and_comes_back() {
    let (cluster, observers) = begun(64).await;
    let (client, other) = (observers[0].client(), observers[1].client());
    let (broker, _) = open_wal(&client, 11, 5).await;
    let keeper = client.keep_lease(broker, ()).await.unwrap();
    for node in NODES {
        cluster.network.cut(ip(11), ip(node));
    }
    let before = image(&client).applied;
    other.submit(named("meanwhile", 9, 2)).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.submit(level("late", 1)).await }
    });
    let mut fenced = other.image();
    let fenced = fenced.wait_for(|image| image.live_brokers().next().is_none());
    timeout(Duration::from_secs(20), fenced)
        .await
        .unwrap()
        .unwrap();
    assert!(
        !keeper.lease().valid_now(),
        "it lapsed before it was fenced"
    );
    assert_eq!(image(&client).applied, before, "nothing came through");
    cluster.network.heal_all();
    waiting.await.unwrap().expect("within its time");
    assert!(image(&client).topic("meanwhile").is_some());
    let mut state = keeper.lease().state();
    let told = state.wait_for(|state| *state == LeaseState::Fenced);
    timeout(Duration::from_secs(10), told)
        .await
        .unwrap()
        .unwrap();
    assert_same_images(&cluster, &observers).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_leading_brings_no_storm_of_questions() {
    let (mut cluster, observers) = begun(65).await;
    let client = observers[0].client();
    client.submit(level("before", 1)).await.unwrap();
    for node in [1, 2] {
        cluster.kill(node);
    }
    let before = cluster.hosts[&3].env();
    drop(before);
    let asked = |cluster: &Cluster| cluster.client(3).local().asked();
    sleep(Duration::from_secs(3)).await;
    let (count, began) = (asked(&cluster), PausedInstant::now());
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..200 {
        let client = client.clone();
        waiting.spawn(async move { client.submit(level(&format!("n{n}"), 1)).await });
    }
    sleep(Duration::from_secs(10)).await;
    let questions = asked(&cluster) - count;
    println!(
        "200 commands: {questions} questions in {:?}",
        began.elapsed()
    );
    assert!(questions < 1000, "{questions} questions in 10 s");
    waiting.abort_all();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_topics_and_a_big_one_come_whole_and_change_in_part() {
    let (mut cluster, observers) = begun(66).await;
    let client = observers[0].client();
    open_wal(&client, 11, 5).await;
    open_wal(&client, 12, 6).await;
    for n in 0..1000 {
        let made = client.submit(named(&format!("t{n}"), 1000 + n, 1)).await;
        made.unwrap();
    }
    client.submit(named("big", 7, 10_000)).await.unwrap();
    assert_same_images(&cluster, &observers).await;
    // A new one gets it all in one go.
    let began = std::time::Instant::now();
    let fresh = observe(&mut cluster, 66, 13, &[2]).await;
    println!("a fresh observer took {:?} of real time", began.elapsed());
    let seen = image(&fresh.client());
    assert_eq!(seen.topics.len(), 1001);
    assert_eq!(seen.topic("big").unwrap().partitions.len(), 10_000);
    let (broker, big) = (BrokerEpoch(1), TopicId(Uuid::from_u128(7)));
    let image_before = image(&cluster.client(1));
    let whole = crate::image::delta::between(&Image::default(), &image_before);
    let led = image_before.topic_by_id(big).unwrap().partitions.iter();
    let led = led
        .enumerate()
        .find(|(_, p)| p.broker == Some(broker))
        .unwrap();
    let (partition, leader_epoch) = (led.0 as i32, led.1.leader_epoch);
    let release = Command::Release {
        broker,
        topic_partition: TopicPartition::new(big, partition),
        leader_epoch,
        end: 0,
        to: Some(NodeId(12)),
    };
    client.submit(release).await.unwrap();
    let after = image(&client);
    cluster.client(1).wait_for(after.applied).await.unwrap();
    let part = crate::image::delta::between(&image_before, &image(&cluster.client(1)));
    let lengths = [whole, part].map(|delta| prost::Message::encoded_len(&delta));
    println!("whole {} bytes, a move {} bytes", lengths[0], lengths[1]);
    assert!(lengths[0] < 500_000, "{lengths:?}");
    assert!(lengths[1] < 200, "{lengths:?}");
    let mut all = observers;
    all.push(fresh);
    assert_same_images(&cluster, &all).await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_was_away_is_brought_up_from_a_snapshot() {
    let (mut cluster, observers) = begun(67).await;
    let leader = cluster.leader().await;
    let absent = NODES.into_iter().find(|node| *node != leader).unwrap();
    for node in NODES {
        cluster.network.cut(ip(11), ip(node));
    }
    cluster.kill(absent);
    let client = cluster.client(leader);
    for round in 1..=3u16 {
        for n in 0..40 {
            let value = format!("{round}{}", "x".repeat(60_000));
            let alter = Command::AlterConfigs {
                resource: ConfigResource::Cluster,
                changes: vec![(format!("k{n}"), ConfigOp::Set(value))],
                replace: false,
            };
            client.submit(alter).await.unwrap();
        }
        client.local().shared.request_snapshot();
        sleep(Duration::from_secs(1)).await;
    }
    // The log that led here is gone, and one voter had to have a snapshot itself.
    cluster.restart(absent).await;
    cluster.network.heal_all();
    assert_same_images(&cluster, &observers).await;
    let configs = image(&observers[0].client()).configs;
    assert_eq!(
        configs[&ConfigResource::Cluster].len(),
        40,
        "in many pieces"
    );
}

/// An image never takes a step back, whoever is followed.
#[tokio::test(start_paused = true)]
async fn whatever_happens_images_only_go_forward_and_hold_what_was_acknowledged() {
    for seed in 70..73 {
        let (mut cluster, observers) = begun(seed).await;
        let dice = env::sim::SimEntropy::new(seed);
        let mut watching = tokio::task::JoinSet::new();
        for observer in &observers {
            let mut image = observer.client().image();
            watching.spawn(async move {
                let mut last = 0;
                loop {
                    let now = image.borrow_and_update().applied;
                    assert!(now >= last, "from {last} back to {now}");
                    last = now;
                    if image.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        for round in 0..10u64 {
            let victim = NODES[usize::try_from(dice.below(3)).unwrap()];
            let kill = dice.below(2) == 0;
            match kill {
                true => cluster.kill(victim),
                false => cluster.cut_off(victim),
            }
            for (n, observer) in observers.iter().enumerate() {
                let (client, name) = (observer.client(), format!("f{round}-{n}"));
                let change = Command::AlterConfigs {
                    resource: ConfigResource::Cluster,
                    changes: vec![(name.clone(), ConfigOp::Set("x".to_owned()))],
                    replace: false,
                };
                let sent = timeout(Duration::from_secs(15), client.submit(change)).await;
                if let Ok(Ok(_)) = sent {
                    let configs = image(&client).configs;
                    assert!(configs[&ConfigResource::Cluster].contains_key(&name));
                }
            }
            cluster.network.heal_all();
            if kill {
                cluster.restart(victim).await;
            }
        }
        assert_same_images(&cluster, &observers).await;
        for observer in observers {
            observer.shutdown().await.unwrap();
        }
        while let Some(ended) = watching.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_address_is_enough_to_learn_of_all_controllers() {
    let mut cluster = Cluster::begun(74).await;
    let observer = observe(&mut cluster, 74, 11, &[1]).await;
    cluster.kill(1);
    let client = observer.client();
    client.submit(level("on", 1)).await.unwrap();
    assert!(image(&client).features.contains_key("on"));
}

#[tokio::test(start_paused = true)]
async fn addresses_are_checked_and_an_observer_waits_for_a_cluster() {
    let network = env::sim::SimNetwork::new(1, NetworkFaults::QUIET);
    let host = Cluster::host(1, &network, 11);
    let most = vec!["h:1".to_owned(); 33];
    for bad in [
        vec![],
        vec!["host".to_owned()],
        vec!["h:0".to_owned()],
        most,
    ] {
        let settings = ObserverSettings {
            controllers: bad.clone(),
            ..observer_settings(&[])
        };
        let refused = Observer::start(host.env(), settings).await.err().unwrap();
        assert!(matches!(refused, Error::Settings { .. }), "{bad:?}");
    }
    let told = Mutex::new(Vec::new());
    let starting = Observer::start_telling(host.env(), observer_settings(&NODES), |reason| {
        told.lock().push(reason.to_owned());
    });
    let waited = timeout(Duration::from_secs(120), starting).await;
    assert!(waited.is_err(), "there is nobody");
    let told = told.lock();
    assert!(
        told.first()
            .is_some_and(|reason| reason.contains("10.0.0.")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_quorum_is_told_as_it_stands() {
    let (mut cluster, observers) = begun(75).await;
    let client = observers[0].client();
    let (broker, _) = open_wal(&client, 11, 5).await;
    let _keeper = client.keep_lease(broker, ()).await.unwrap();
    let leader = cluster.leader().await;
    let lost = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.kill(lost);
    for n in 0..5 {
        client.submit(level(&format!("f{n}"), 1)).await.unwrap();
    }
    sleep(Duration::from_secs(3)).await;
    for client in [client.clone(), cluster.client(leader)] {
        let quorum = client.quorum().await.unwrap();
        assert_eq!(quorum.leader, NodeId(leader));
        assert!(quorum.term > 0);
        let ids: Vec<_> = quorum.voters.iter().map(|voter| voter.node.0).collect();
        assert_eq!(ids, NODES);
        for voter in &quorum.voters {
            assert_eq!(voter.address, address(voter.node.0));
            assert!(!voter.directory.is_nil());
            let holds = voter.holds.unwrap_or(0);
            match voter.node.0 == lost {
                true => assert!(holds < quorum.committed, "{quorum:?}"),
                false => assert!(holds >= quorum.committed, "{quorum:?}"),
            }
        }
        let [follower] = &quorum.observers[..] else {
            panic!("{quorum:?}");
        };
        assert_eq!(follower.node, NodeId(11));
        assert!(
            follower
                .holds
                .is_some_and(|holds| holds + 1 >= quorum.committed)
        );
        assert!(follower.heard_ms.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_level_is_raised_only_when_every_build_knows_it() {
    let (mut cluster, observers) = begun(76).await;
    let client = observers[0].client();
    let (broker, _) = open_wal(&client, 11, 5).await;
    let finalize = level(VERSION_FEATURE, NEWEST_LEVEL);
    let refused = client.submit(finalize.clone()).await.unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::Retry,
        "{refused}: broker 11 was not heard of"
    );
    // As a build of the time before levels renews.
    let ask = wire::Ask {
        renew: Some(broker.0),
        ..Default::default()
    };
    let leader = cluster.client(cluster.leader().await);
    assert!(leader.local().answer(&ask).await.unwrap().granted);
    let refused = client.submit(finalize.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(
        refused.to_string().contains("broker 11 runs a build"),
        "{refused}"
    );
    let _keeper = client.keep_lease(broker, ()).await.unwrap();
    client.submit(finalize.clone()).await.unwrap();
    // Whoever is asked: only the leader has heard of brokers.
    for node in NODES {
        cluster.client(node).submit(finalize.clone()).await.unwrap();
    }
    let leader = cluster.leader().await;
    let lost = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.kill(lost);
    let refused = client.submit(finalize).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry, "{refused}");
    assert!(
        refused.to_string().contains(&format!("voter {lost}")),
        "{refused}"
    );
}

/// One build after the other is replaced; what the older one cannot read is not written before, and
/// it does not go on after.
#[tokio::test(start_paused = true)]
async fn an_older_build_begins_at_its_level_and_does_not_outlive_it() {
    let mut cluster = Cluster::new(79);
    cluster.builds = NODES.map(|node| (node, OLDEST_LEVEL)).into();
    let mut cluster = Cluster::begun_with(cluster).await;
    let level_of = |cluster: &Cluster, node| cluster.client(node).image().borrow().level();
    assert_eq!(level_of(&cluster, 1), OLDEST_LEVEL);
    let host = Cluster::host(79, &cluster.network, 21);
    let settings = ObserverSettings {
        newest_level: OLDEST_LEVEL,
        ..observer_settings(&NODES)
    };
    let observer = Observer::start(host.env(), settings).await.unwrap();
    let finalize = level(VERSION_FEATURE, NEWEST_LEVEL);
    for node in NODES {
        let refused = cluster.client(node).submit(finalize.clone()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        cluster.builds.remove(&node);
        cluster.kill(node);
        cluster.restart(node).await;
    }
    // Nothing that is known of speaks against it: no broker runs the older build.
    cluster.client(1).submit(finalize).await.unwrap();
    let mut failure = observer.failure();
    let ended = failure.wait_for(Option::is_some);
    let ended = timeout(Duration::from_secs(30), ended).await.unwrap();
    let why = ended.unwrap().clone().unwrap();
    assert!(why.contains("start a newer one"), "{why}");
    cluster.builds.insert(3, OLDEST_LEVEL);
    cluster.kill(3);
    let starting = timeout(Duration::from_secs(60), cluster.start(3, &NODES)).await;
    let refused = starting.unwrap().err().unwrap();
    assert!(
        refused.to_string().contains("start a newer one"),
        "{refused}"
    );
}

/// A voter that is to be, and is down, does not count.
#[tokio::test(start_paused = true)]
async fn the_controllers_are_within_reach_while_their_voters_are() {
    let mut cluster = Cluster::new(67);
    let first = cluster.start(1, &[1]).await.unwrap();
    let learner = wire::ChangeVoter {
        node: 2,
        address: Some(address(2)),
        directory: Uuid::from_u128(5).as_bytes().to_vec(),
    };
    let ask = wire::Ask {
        change_voter: Some(learner),
        ..Default::default()
    };
    let asked = first.client().local().answer(&ask).await;
    assert!(asked.is_err(), "nobody is there");
    cluster.running.insert(1, first);
    let observer = observe(&mut cluster, 67, 11, &[1]).await;
    let client = observer.client();
    let away = client.out_of_reach();
    let away = timeout(Duration::from_secs(30), away).await;
    assert!(away.is_err(), "the one voter answers");
    cluster.kill(1);
    let away = timeout(Duration::from_secs(30), client.out_of_reach()).await;
    assert!(away.is_ok(), "it does no more");
}
