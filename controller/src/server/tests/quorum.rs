//! Three voters on simulated machines: elections, lost leaders, cut networks, lost disks.

use std::net::{IpAddr, SocketAddr};

use env::sim::{NetworkFaults, SimEntropy, SimNetwork};
use tokio::time::{sleep, timeout};

use super::*;

pub(super) const PORT: u16 = 9093;
pub(super) const NODES: [i32; 3] = [1, 2, 3];

pub(super) fn ip(node: i32) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(node).unwrap()])
}

pub(super) fn address(node: i32) -> String {
    format!("10.0.0.{node}:{PORT}")
}

/// The machines, and what runs on them.
pub(super) struct Cluster {
    pub(super) network: SimNetwork,
    pub(super) hosts: BTreeMap<i32, SimHost>,
    pub(super) running: BTreeMap<i32, Controller>,
    /// How long a lease is to a voter; 6 s unless named.
    pub(super) leases: BTreeMap<i32, Duration>,
    /// The newest level that a voter knows, where its build is an older one.
    pub(super) builds: BTreeMap<i32, u16>,
    /// Names of certificates, where there is TLS.
    pub(super) tls: BTreeMap<i32, &'static str>,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        let network = SimNetwork::new(seed, NetworkFaults::QUIET);
        let hosts = NODES.map(|node| (node, Self::host(seed, &network, node)));
        Self {
            network,
            hosts: hosts.into(),
            running: BTreeMap::new(),
            leases: BTreeMap::new(),
            builds: BTreeMap::new(),
            tls: BTreeMap::new(),
        }
    }

    pub(super) fn host(seed: u64, network: &SimNetwork, node: i32) -> SimHost {
        let seed = seed * 100 + u64::try_from(node).unwrap();
        SimHost::new(seed, network, &format!("n{node}"), ip(node))
    }

    pub(super) async fn begun(seed: u64) -> Self {
        Self::begun_with(Self::new(seed)).await
    }

    pub(super) async fn begun_with(mut cluster: Self) -> Self {
        let starting = NODES.map(|node| cluster.start(node, &NODES));
        let started = futures::future::join_all(starting).await;
        for (node, controller) in NODES.into_iter().zip(started) {
            cluster.running.insert(node, controller.unwrap());
        }
        cluster
    }

    pub(super) fn start(
        &self,
        node: i32,
        voters: &[i32],
    ) -> impl Future<Output = Result<Controller, Error>> + use<> {
        self.start_at(node, voters, PORT)
    }

    pub(super) fn start_at(
        &self,
        node: i32,
        voters: &[i32],
        port: u16,
    ) -> impl Future<Output = Result<Controller, Error>> + use<> {
        let voters = voters.iter().map(|node| (NodeId(*node), address(*node)));
        let voters: BTreeMap<_, _> = voters.collect();
        let env = self.hosts[&node].env();
        let lease = self.leases.get(&node).copied();
        let lease = lease.unwrap_or(Duration::from_secs(6));
        let build = self.builds.get(&node).copied();
        let certificate = self.tls.get(&node).copied();
        async move {
            let tls = match certificate {
                Some(name) => Some(super::tls::open(&env, name).await?),
                None => None,
            };
            let listener = env.net.bind(SocketAddr::new(ip(node), port)).await;
            let settings = ControllerSettings {
                dir: "/data/raft".into(),
                node: NodeId(node),
                voters,
                listener: Some(listener.expect("the port is free")),
                cluster: None,
                generation: 1,
                lease,
                tls,
                newest_level: build.unwrap_or(NEWEST_LEVEL),
            };
            Controller::start(env, settings).await
        }
    }

    /// The process dies; what it had synced stays.
    pub(super) fn kill(&mut self, node: i32) {
        self.hosts[&node].disk.power_loss();
        self.network.kill_host(ip(node));
        self.running.remove(&node);
    }

    /// Starts it again; it may take as long as there is no quorum.
    pub(super) async fn restart(&mut self, node: i32) {
        let controller = self.start(node, &NODES).await.unwrap();
        self.running.insert(node, controller);
    }

    pub(super) fn client(&self, node: i32) -> Client {
        self.running[&node].client()
    }

    pub(super) fn cut_off(&self, node: i32) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            self.network.cut(ip(node), ip(other));
        }
    }

    pub(super) async fn leader(&self) -> i32 {
        let (_, controller) = self.running.first_key_value().unwrap();
        let mut image = controller.client().image();
        let led = image.wait_for(|image| image.controller.is_some()).await;
        led.unwrap().controller.unwrap().0
    }

    /// The state of every running voter, once all have applied the same.
    pub(super) async fn states(&self) -> Vec<State> {
        let (_, first) = self.running.first_key_value().unwrap();
        first.client().confirm_leader().await.unwrap();
        let applied = first.client().image().borrow().applied;
        let mut states = Vec::new();
        for controller in self.running.values() {
            controller.client().wait_for(applied).await.unwrap();
            states.push(controller.client().local().shared.read(State::clone));
        }
        states
    }

    pub(super) async fn assert_equal_states(&self) {
        let states = self.states().await;
        for pair in states.windows(2) {
            assert_eq!(pair[0].encode(), pair[1].encode());
        }
    }
}

pub(super) fn level(name: &str, level: u16) -> Command {
    let name = name.to_owned();
    Command::FinalizeFeature { name, level }
}

#[tokio::test(start_paused = true)]
async fn any_of_three_voters_takes_commands_and_all_hold_the_same() {
    let cluster = Cluster::begun(1).await;
    for (n, node) in NODES.into_iter().enumerate() {
        let client = cluster.client(node);
        let n = u16::try_from(n).unwrap() + 1;
        client.submit(level(&format!("f{node}"), n)).await.unwrap();
        let image = client.image().borrow().clone();
        assert_eq!(
            image.features[&format!("f{node}")],
            n,
            "it holds its own change"
        );
    }
    for node in NODES {
        let read = cluster.client(node).read(|state| state.cluster).await;
        let image = cluster.client(node).image().borrow().clone();
        assert_eq!(read.unwrap().map(|cluster| cluster.id), image.cluster);
        assert_eq!(image.features.len(), 4, "a linearizable read brings all");
    }
    cluster.assert_equal_states().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_is_followed_by_another_within_seconds_and_catches_up() {
    let mut cluster = Cluster::begun(2).await;
    let leader = cluster.leader().await;
    let other = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster
        .client(other)
        .submit(level("before", 1))
        .await
        .unwrap();
    cluster.kill(leader);
    let began = tokio::time::Instant::now();
    cluster
        .client(other)
        .submit(level("after", 2))
        .await
        .unwrap();
    let gap = began.elapsed();
    println!("commands went on after {gap:?}");
    assert!(gap < Duration::from_secs(6), "{gap:?}");
    assert_ne!(cluster.leader().await, leader);
    cluster.restart(leader).await;
    cluster
        .client(leader)
        .submit(level("again", 3))
        .await
        .unwrap();
    cluster.assert_equal_states().await;
    let image = cluster.client(leader).image().borrow().clone();
    let names: Vec<_> = image.features.keys().cloned().collect();
    assert_eq!(names, ["after", "again", "before", VERSION_FEATURE]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_acknowledges_nothing_and_its_tail_is_cut() {
    let cluster = Cluster::begun(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = NODES.into_iter().filter(|node| *node != leader).collect();
    cluster.cut_off(leader);
    let client = cluster.client(leader);
    let lost = tokio::spawn(async move { client.submit(level("lost", 1)).await });
    cluster
        .client(others[0])
        .submit(level("kept", 2))
        .await
        .unwrap();
    let outcome = lost.await.unwrap().unwrap_err();
    assert_eq!(outcome.kind(), ErrorKind::Retry, "{outcome}");
    let read = timeout(Duration::from_secs(40), cluster.client(leader).read(|_| ())).await;
    assert!(read.unwrap().is_err(), "nor does it answer reads");
    cluster.network.heal_all();
    cluster.client(leader).confirm_leader().await.unwrap();
    cluster.assert_equal_states().await;
    let image = cluster.client(leader).image().borrow().clone();
    let names: Vec<_> = image.features.keys().collect();
    assert_eq!(names, [VERSION_FEATURE, "kept"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_fell_behind_the_log_is_sent_a_snapshot() {
    let mut cluster = Cluster::begun(4).await;
    let leader = cluster.leader().await;
    let absent = NODES.into_iter().find(|node| *node != leader).unwrap();
    cluster.kill(absent);
    let client = cluster.client(leader);
    for round in 1..=3u16 {
        // Longer than one piece of a snapshot.
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
    let purged = node::status(&cluster.running[&leader].raft).purged;
    assert!(
        purged > Some(40),
        "the log that it would need is gone: {purged:?}"
    );
    cluster.restart(absent).await;
    cluster.assert_equal_states().await;
    let got = node::status(&cluster.running[&absent].raft).snapshot;
    assert!(got.is_some(), "it got one");
}

#[tokio::test(start_paused = true)]
async fn a_voter_with_a_new_disk_does_not_vote_until_it_is_added_again() {
    let mut cluster = Cluster::begun(5).await;
    let leader = cluster.leader().await;
    let lost = NODES.into_iter().find(|node| *node != leader).unwrap();
    let third = NODES
        .into_iter()
        .find(|node| ![leader, lost].contains(node))
        .unwrap();
    cluster.client(leader).submit(level("a", 1)).await.unwrap();
    cluster.kill(lost);
    let fresh = Cluster::host(77, &cluster.network, lost);
    cluster.hosts.insert(lost, fresh);
    let waiting = tokio::spawn(cluster.start(lost, &NODES));
    sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished(), "it waits to be added");
    // Two of three stand; without one of them there is no quorum, and the new disk makes none.
    cluster.cut_off(third);
    let client = cluster.client(leader);
    let alone = timeout(Duration::from_secs(20), client.submit(level("b", 1)));
    assert!(!matches!(alone.await, Ok(Ok(_))), "a promise was forgotten");
    cluster.network.heal_all();
    let client = cluster.client(third);
    let refused = client.add_voter(&address(lost)).await.unwrap_err();
    assert!(refused.to_string().contains("remove it first"), "{refused}");
    client.remove_voter(NodeId(lost)).await.unwrap();
    assert_eq!(
        client.add_voter(&address(lost)).await.unwrap(),
        NodeId(lost)
    );
    let again = waiting.await.unwrap().unwrap();
    cluster.running.insert(lost, again);
    cluster.kill(leader);
    let begun = cluster.client(third).submit(level("c", 1)).await;
    begun.expect("the new disk makes a quorum");
    cluster.assert_equal_states().await;
}

#[tokio::test(start_paused = true)]
async fn one_voter_grows_to_three_and_shrinks_again() {
    let mut cluster = Cluster::new(6);
    let first = cluster.start(1, &[1]).await.unwrap();
    cluster.running.insert(1, first);
    let client = cluster.client(1);
    client.submit(level("alone", 1)).await.unwrap();
    for node in [2, 3] {
        let starting = tokio::spawn(cluster.start(node, &NODES));
        assert_eq!(
            client.add_voter(&address(node)).await.unwrap(),
            NodeId(node)
        );
        let started = starting.await.unwrap().unwrap();
        cluster.running.insert(node, started);
    }
    assert_eq!(
        client.add_voter(&address(3)).await.unwrap(),
        NodeId(3),
        "once is enough"
    );
    cluster.assert_equal_states().await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let left = *cluster.running.first_key_value().unwrap().0;
    cluster.client(left).submit(level("two", 1)).await.unwrap();
    cluster
        .client(left)
        .remove_voter(NodeId(leader))
        .await
        .unwrap();
    let other = *cluster.running.last_key_value().unwrap().0;
    cluster
        .client(left)
        .remove_voter(NodeId(other))
        .await
        .unwrap();
    let refused = cluster
        .client(left)
        .remove_voter(NodeId(left))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("only one"), "{refused}");
    cluster.kill(other);
    cluster.client(left).submit(level("one", 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_are_kept_through_any_voter_and_outlive_their_leader() {
    let mut cluster = Cluster::begun(7).await;
    let leader = cluster.leader().await;
    let at = NODES.into_iter().find(|node| *node != leader).unwrap();
    let client = cluster.client(at);
    let broker = client.register(register(1), true).await.unwrap();
    let taken = cluster.client(leader).register(register(2), false).await;
    assert_eq!(
        taken.unwrap_err().refusal(),
        Some(&Refusal::NodeInUse { node: NodeId(0) }),
        "whoever is asked"
    );
    let keeper = client.keep_lease(broker, ()).await.unwrap();
    let lease = keeper.lease();
    cluster.kill(leader);
    for _ in 0..60 {
        sleep(Duration::from_millis(500)).await;
        let image = client.image().borrow().clone();
        assert!(
            image.live_brokers().any(|(epoch, _)| epoch == broker),
            "never fenced"
        );
    }
    assert!(lease.valid_now());
    drop(keeper);
    let mut image = client.image();
    let fenced = image.wait_for(|image| image.live_brokers().next().is_none());
    timeout(Duration::from_secs(20), fenced)
        .await
        .unwrap()
        .unwrap();
    assert!(!lease.valid_now(), "it lapsed before it was fenced");
}

/// Kills, power losses and cuts at random; what was acknowledged stands everywhere in the end.
#[tokio::test(start_paused = true)]
async fn whatever_happens_every_acknowledged_command_stands_on_every_voter() {
    for seed in 10..13 {
        let mut cluster = Cluster::begun(seed).await;
        let dice = SimEntropy::new(seed);
        let mut acknowledged = Vec::new();
        for round in 0..12u64 {
            let victim = NODES[usize::try_from(dice.below(3)).unwrap()];
            let kill = dice.below(2) == 0;
            match kill {
                true => cluster.kill(victim),
                false => cluster.cut_off(victim),
            }
            let senders: Vec<_> = cluster.running.keys().copied().collect();
            let sent = senders.into_iter().map(|node| {
                let (name, client) = (format!("f{round}-{node}"), cluster.client(node));
                async move {
                    let command = Command::AlterConfigs {
                        resource: ConfigResource::Cluster,
                        changes: vec![(name.clone(), ConfigOp::Set("x".to_owned()))],
                        replace: false,
                    };
                    let within = Duration::from_secs(8);
                    let done = timeout(within, client.submit(command)).await;
                    matches!(done, Ok(Ok(_))).then_some(name)
                }
            });
            let sent = futures::future::join_all(sent).await;
            acknowledged.extend(sent.into_iter().flatten());
            cluster.network.heal_all();
            if kill {
                cluster.restart(victim).await;
            }
        }
        assert!(
            acknowledged.len() > 15,
            "{} in seed {seed}",
            acknowledged.len()
        );
        cluster.assert_equal_states().await;
        let image = cluster.client(1).image().borrow().clone();
        let configs = &image.configs[&ConfigResource::Cluster];
        for name in &acknowledged {
            assert!(configs.contains_key(name), "{name} is lost in seed {seed}");
        }
        println!("seed {seed}: {} acknowledged", acknowledged.len());
    }
}
