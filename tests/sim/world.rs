//! The world of one simulation: machines whose nodes are restarted when they die, one network, one
//! store, clients, troubles, and in the end a good day.

mod acts;
mod objects;
pub(crate) mod rot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::client::Cluster;
use controller::NEWEST_LEVEL;
use env::sim::{NetworkFaults, SimEntropy, SimNetwork};
use protocol::Response;
use protocol::messages::CreateTopicsRequest;
use protocol::messages::create_topics_request::CreatableTopic;
use tests::history::History;
use tests::simstore::SimStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clients::{self, ADMIN, IDEMPOTENT, MEMBERS, PLAIN, Shared, TOPIC, partition};
use crate::figures::HIGHEST;
use crate::invariants::liveness::{DELIVERED_PACE, DELIVERED_WITHIN, HEALED_WITHIN};
use crate::invariants::{Evidence, Observed, memory};
use crate::machine::{self, Machine};
use crate::nemesis::{Ledger, Nemesis, good_store};
use crate::pipelined::PIPELINED;
use crate::plan::{Plan, Trouble};
use crate::steps::{Steps, Tally};
use crate::trace::Trace;
use crate::{admin, members, mover, pipelined};
use rot::Rotten;

/// Longest wait for one partition to be read in the end.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// Longest wait for an operator's requests to be done once all is healed.
const UNDONE_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for the newest build on every machine, and for its level.
const UPGRADED_WITHIN: Duration = Duration::from_secs(60);
/// For writes, where an operator's requests took long.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for memory that nothing needs to be given back.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(30);

/// All of one simulation.
pub(crate) struct World {
    plan: Plan,
    random: SimEntropy,
    nemesis: Nemesis,
    shared: Shared,
    stop: watch::Sender<bool>,
    stop_group: watch::Sender<bool>,
    /// Who goes on when everything was read.
    others: JoinSet<Result<(), String>>,
    steps: Steps,
    /// What came of damage.
    pub(crate) rotten: Rotten,
    /// Promises that were not kept.
    pub(crate) problems: Vec<String>,
}

fn client_addresses() -> impl Iterator<Item = IpAddr> {
    (0..=20).map(|number| IpAddr::from([10, 0, 1, number]))
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, trace: Trace) -> Self {
        let random = SimEntropy::new(seed);
        let network = SimNetwork::new(random.below(u64::MAX), NetworkFaults::QUIET);
        let store = SimStore::new(random.below(u64::MAX), good_store());
        let steps = Steps::new(&plan.points);
        let machine = |which| {
            let seed = random.below(u64::MAX);
            let said = (&trace, &steps);
            Arc::new(Machine::new(seed, &plan, which, &network, &store, said))
        };
        let machines: Vec<_> = (0..plan.machines.len()).map(machine).collect();
        let (stop, stopped) = watch::channel(false);
        let (stop_group, group_stopped) = watch::channel(false);
        let brokers = plan.machines.iter().filter(|machine| machine.broker);
        let shared = Shared {
            history: Arc::new(Mutex::new(History::default())),
            observed: Arc::new(Mutex::new(Observed::default())),
            trace: trace.clone(),
            brokers: brokers.map(|broker| machine::kafka(broker.node)).collect(),
            network: network.clone(),
            partitions: plan.partitions,
            stop: stopped,
            group: Arc::default(),
            topics: Arc::default(),
            stop_group: group_stopped,
        };
        let nemesis = Nemesis {
            machines,
            clients: client_addresses().collect(),
            network,
            store,
            trace,
            shared: shared.clone(),
            ledger: Ledger::default(),
        };
        Self {
            plan,
            random,
            nemesis,
            shared,
            stop,
            stop_group,
            others: JoinSet::new(),
            steps,
            rotten: Rotten::default(),
            problems: Vec::new(),
        }
    }

    fn say(&self, what: &str) {
        self.shared.trace.line(what);
    }

    /// The machine of a world that has one, and the first of others.
    fn machine(&self) -> &Arc<Machine> {
        &self.nemesis.machines[0]
    }

    /// Lives through the plan: work under trouble, heal, read everything.
    pub(crate) async fn live(&mut self) {
        let mut supervisors = JoinSet::new();
        for machine in &self.nemesis.machines {
            let machine = Arc::clone(machine);
            supervisors.spawn(async move { machine.supervise().await });
        }
        tokio::select! {
            biased;
            () = self.life() => {}
            Some(ended) = supervisors.join_next() => {
                std::panic::resume_unwind(ended.expect_err("it goes on for ever").into_panic());
            }
        }
    }

    async fn life(&mut self) {
        if self.plan.rot {
            Box::pin(self.work_and_rot()).await;
        } else {
            Box::pin(self.work()).await;
        }
    }

    /// Clients at work under trouble, until all is healed and they have stopped.
    async fn work_until_healed(&mut self) {
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 0);
        self.create_topic(&mut cluster).await;
        let mut clients = self.spawn_clients();
        self.spawn_others();
        if let Some(act) = self.plan.act {
            self.perform(act).await;
        } else {
            let bad_day = async {
                self.nemesis.bring_all(&self.plan.events).await;
                std::future::pending::<()>().await;
            };
            // Over is over: a trouble that lasts is healed below.
            let _ = timeout(self.plan.length, bad_day).await;
        }
        self.heal().await;
        self.stop.send_replace(true);
        if timeout(Duration::from_secs(120), join_all(&mut clients))
            .await
            .is_err()
        {
            self.problems.push("clients hang after healing".to_owned());
        }
    }

    async fn work(&mut self) {
        self.work_until_healed().await;
        self.give_back().await;
        self.read_everything().await;
        if self.plan.group {
            self.deliver_everything().await;
        }
        self.stop_group.send_replace(true);
        let mut others = std::mem::take(&mut self.others);
        let others = timeout(Duration::from_secs(240), join_all(&mut others)).await;
        match others {
            Ok(problems) => self.problems.extend(problems),
            Err(_) => {
                let hang = "members or administrator hang after healing";
                self.problems.push(hang.to_owned());
            }
        }
        if self.plan.crash_at.is_none() && self.plan.flip_read.is_none() {
            Box::pin(self.check_collection()).await;
        }
    }

    fn spawn_clients(&self) -> JoinSet<Result<(), String>> {
        let mut clients = JoinSet::new();
        for number in IDEMPOTENT.into_iter().chain([PLAIN]) {
            let seed = self.random.below(u64::MAX);
            if number == PIPELINED {
                clients.spawn(done(pipelined::producer(self.shared.clone(), seed, number)));
                continue;
            }
            let producing = clients::producer(self.shared.clone(), seed, number);
            clients.spawn(done(producing));
        }
        if self.plan.moves {
            let machines = self.plan.machines.iter().filter(|machine| machine.broker);
            let nodes = machines.map(|machine| machine.node).collect();
            let seed = self.random.below(u64::MAX);
            clients.spawn(done(mover::mover(self.shared.clone(), seed, nodes)));
        }
        // A reader of each partition, but no more than a handful.
        for index in 0..self.plan.partitions.min(4) {
            let seed = self.random.below(u64::MAX);
            let number = 10 + index as u32;
            let reading = clients::reader(self.shared.clone(), seed, number, index);
            clients.spawn(done(reading));
        }
        clients
    }

    /// Those who go on when everything was read.
    fn spawn_others(&mut self) {
        if self.plan.group {
            for number in MEMBERS {
                let seed = self.random.below(u64::MAX);
                let member = members::member(self.shared.clone(), seed, number);
                self.others.spawn(done(member));
            }
        }
        if self.plan.admin {
            let seed = self.random.below(u64::MAX);
            let admin = admin::admin(self.shared.clone(), seed, ADMIN);
            self.others.spawn(admin);
        }
    }

    /// The group goes on until each acknowledged record was given to one of its members.
    async fn deliver_everything(&mut self) {
        let there = self.acknowledged();
        let group = Arc::clone(&self.shared.group);
        let left = || {
            let group = group.lock().expect("no panic under this lock");
            let missing =
                |(index, offsets): (&i32, &BTreeSet<i64>)| group.undelivered(*index, offsets).len();
            there.iter().map(missing).sum::<usize>()
        };
        let delivering = async {
            while left() > 0 {
                sleep(Duration::from_millis(200)).await;
            }
        };
        // Members go on leaving and dying: what they lag behind takes them its time.
        let within = DELIVERED_WITHIN + DELIVERED_PACE * left() as u32;
        if timeout(within, delivering).await.is_err() {
            let left = left();
            let problem = format!("I9: {left} records not delivered in {within:?}");
            self.problems.push(problem);
        }
    }

    /// Offsets of acknowledged records, by partition.
    pub(crate) fn acknowledged(&self) -> BTreeMap<i32, BTreeSet<i64>> {
        let history = self.history();
        let offsets = |index| (index, history.acknowledged_offsets(&partition(index)));
        (0..self.plan.partitions).map(offsets).collect()
    }

    async fn create_topic(&mut self, cluster: &mut Cluster) {
        let topic = CreatableTopic::default()
            .with_name(protocol::messages::StrBytes::from_static_str(TOPIC).into())
            .with_num_partitions(self.plan.partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        loop {
            match cluster.call(request.clone()).await {
                Ok(Response::CreateTopics(answer)) => {
                    let code = answer.topics[0].error_code;
                    self.say(&format!("create topic: {code}"));
                    // TOPIC_ALREADY_EXISTS: an earlier try did it and its answer was lost.
                    if code == 0 || code == 36 {
                        return;
                    }
                }
                Ok(other) => self.say(&format!("create topic: {other:?}")),
                Err(error) => self.say(&format!("create topic: {error}")),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// From here on the day is good.
    async fn heal(&mut self) {
        self.say("HEAL");
        self.nemesis.heal();
        let healed = Instant::now();
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 18);
        let serving = async {
            while !is_serving(&mut cluster, self.plan.partitions).await {
                sleep(Duration::from_millis(200)).await;
            }
        };
        let until = healed + HEALED_WITHIN;
        let undone = timeout(UNDONE_WITHIN, self.nemesis.undo());
        let served = timeout_at(until, serving);
        let (served, undone, upgraded) = tokio::join!(served, undone, self.upgrade_in_the_end());
        self.problems.extend(upgraded.err());
        if undone.is_err() {
            let problem = format!("I9: an operator is not heard {UNDONE_WITHIN:?} after healing");
            self.problems.push(problem);
        }
        let until = until.max(Instant::now() + WRITTEN_WITHIN);
        if served.is_err() {
            self.problems
                .push(format!("I9: not serving {HEALED_WITHIN:?} after healing"));
        }
        for index in 0..self.plan.partitions {
            let writing = clients::write_one(&self.shared, &mut cluster, index);
            if timeout_at(until, writing).await.is_err() {
                let problem = format!("I9: partition {index} takes no writes after healing");
                self.problems.push(problem);
            }
        }
        let took = healed.elapsed();
        self.say(&format!("every partition takes writes after {took:?}"));
        // Clients go on for a while on the good day: progress is part of the promise.
        sleep(Duration::from_secs(2)).await;
    }

    /// I10: once producers have stopped and all is uploaded, nothing is held for un-uploaded data.
    async fn give_back(&mut self) {
        if self.plan.admin {
            // Goes on producing.
            return;
        }
        let brokers = self.nemesis.machines.iter().filter(|one| one.plan.broker);
        let mut holding: Vec<_> = brokers.cloned().collect();
        let waiting = async {
            while !holding.is_empty() {
                holding.retain(|one| memory::idle(one.figures().last()) != Some(0.0));
                sleep(Duration::from_millis(500)).await;
            }
        };
        if timeout(GIVEN_BACK_WITHIN, waiting).await.is_err() {
            for machine in holding {
                let (node, last) = (machine.plan.node, machine.figures().last().clone());
                let (held, left) = (last.get(memory::USER), last.get(memory::UNUPLOADED));
                self.problems.push(format!(
                    "I10: node {node} holds {held:?} bytes of user data, {left:?} not uploaded, \
                     {GIVEN_BACK_WITHIN:?} after the last write"
                ));
            }
        }
    }

    /// An upgrade that the day was too short or too bad for.
    async fn upgrade_in_the_end(&self) -> Result<(), String> {
        if self.plan.build == NEWEST_LEVEL {
            return Ok(());
        }
        let finishing = timeout(UPGRADED_WITHIN, self.nemesis.finish_upgrade());
        finishing.await.map_err(|_| {
            format!("I9: the level is not finalized {UPGRADED_WITHIN:?} after healing")
        })
    }

    async fn read_everything(&mut self) {
        // Once more through a restart, so that what is read comes from log and objects.
        for machine in &self.nemesis.machines {
            machine.kill(true);
        }
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 19);
        for index in 0..self.plan.partitions {
            let reading = async {
                loop {
                    match clients::read_all(&self.shared, &mut cluster, index).await {
                        Ok(records) => return records,
                        Err(error) => self.say(&error),
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            };
            match timeout(READ_WITHIN, reading).await {
                Ok(records) => {
                    self.say(&format!("partition {index}: {} records", records.len()));
                    let partition = (TOPIC.to_owned(), index);
                    let mut history = self.shared.history.lock().expect("no panic");
                    history.read_finally(&partition, records);
                }
                Err(_) => self
                    .problems
                    .push(format!("I1: partition {index} cannot be read")),
            }
        }
    }

    pub(crate) fn history(&self) -> History {
        self.shared
            .history
            .lock()
            .expect("no panic under this lock")
            .clone()
    }

    /// All that the invariants judge by.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence {
            history: self.history(),
            observed: self.shared.observed.lock().expect("no panic").clone(),
            group: self.shared.group.lock().expect("no panic").clone(),
            topics: self.shared.topics.lock().expect("no panic").clone(),
            acknowledged: self.acknowledged(),
            has_group: self.plan.group,
            figures: self.machines().map(|one| one.figures().clone()).collect(),
            damaged: self.is_damaged(),
            rotten: self.plan.rot,
        }
    }

    fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.nemesis.machines.iter()
    }

    /// Whether bytes change, on a disk or on their way from the store.
    fn is_damaged(&self) -> bool {
        let events = self.plan.events.iter();
        let mut kinds = events.map(|event| event.trouble);
        let flaky = kinds.any(|kind| matches!(kind, Trouble::StoreFlaky | Trouble::FlippedRead));
        flaky || self.plan.rot || self.plan.flip_read.is_some()
    }

    /// What troubles saw that must not be.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.nemesis.problems()
    }

    pub(crate) fn fired(&self) -> BTreeMap<String, u64> {
        self.nemesis.fired()
    }

    /// Sums of what nodes counted, the highest of gauges, and late puts.
    pub(crate) fn saw(&self) -> BTreeMap<String, u64> {
        let mut saw: BTreeMap<String, u64> = BTreeMap::new();
        for machine in self.machines() {
            for (name, count) in machine.figures().told() {
                let highest = name.starts_with(HIGHEST);
                let sum = saw.entry(name).or_default();
                *sum = if highest {
                    count.max(*sum)
                } else {
                    *sum + count
                };
            }
        }
        saw.insert("late puts".to_owned(), self.nemesis.store.landed_late());
        saw
    }

    pub(crate) fn tally(&self) -> Tally {
        self.steps.tally()
    }

    pub(crate) fn crashes(&self) -> u64 {
        let machines = self.nemesis.machines.iter();
        machines.map(|machine| machine.crashes()).sum()
    }

    /// Troubles that came, and requests to the store that went wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.plan.events.len() as u64 + self.nemesis.store.injected()
    }

    pub(crate) fn disk_reads(&self) -> u64 {
        self.machine().disk().reads()
    }

    pub(crate) fn disk_ops(&self) -> u64 {
        self.machine().disk().ops()
    }
}

async fn done(work: impl Future<Output = ()>) -> Result<(), String> {
    work.await;
    Ok(())
}

/// What those who ended found wrong.
async fn join_all(clients: &mut JoinSet<Result<(), String>>) -> Vec<String> {
    let mut problems = Vec::new();
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(result) => problems.extend(result.err()),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    problems
}

/// Whether every partition has a leader that answers.
async fn is_serving(cluster: &mut Cluster, partitions: i32) -> bool {
    let Ok(topic) = cluster.topic(TOPIC).await else {
        return false;
    };
    if topic.partitions.len() != partitions as usize {
        return false;
    }
    for partition in topic.partitions {
        let limits = broker::client::FetchLimits {
            max_wait_ms: 0,
            max_bytes: 1,
        };
        if cluster.fetch(TOPIC, partition, 0, limits).await.is_err() {
            return false;
        }
    }
    true
}
