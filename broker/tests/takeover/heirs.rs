//! Heirs in trouble of their own.

use super::*;

/// After which an heir lets another one try.
const HEIR_PATIENCE: Duration = Duration::from_secs(30);

/// What `node` counts under `name`.
async fn counted(nodes: &Nodes, node: u8, name: &str) -> u64 {
    let answer = get(nodes, node, "/metrics").await;
    let line = answer.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {answer}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_heir_that_loses_the_store_under_its_claim_lets_others_go_on() {
    // Five voters: two may die.
    let mut nodes = Nodes::begun(20, 5, "object").await;
    nodes.topic().await;
    let mut client = nodes.client();
    let mut before = BTreeMap::new();
    for partition in 0..PARTITIONS {
        before.insert(partition, produce(&mut client, partition, "before").await);
    }
    let leader = u8::try_from(nodes.running[&1].controllers_leader().unwrap().0).unwrap();
    let dead: Vec<u8> = (1..=5).filter(|node| *node != leader).take(2).collect();
    let was = nodes.leaders().await;
    nodes.rules.lock().shuts = true;
    dead.iter().for_each(|node| nodes.kill(*node));
    let died = Instant::now();
    let heir = nodes.stopped().await;
    assert!(!dead.contains(&heir));
    // Nothing is written there: it does not surrender, and goes on to renew its lease.
    let deadline = died + 2 * HEIR_PATIENCE;
    loop {
        let offline = nodes.leaders().await;
        let led = |info: &&PartitionInfo| !dead.iter().any(|node| info.leader == i32::from(*node));
        if offline
            .iter()
            .filter(led)
            .filter(|info| info.leader >= 0)
            .count()
            == was.len()
        {
            break;
        }
        assert!(Instant::now() < deadline, "{offline:?}");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(
        died.elapsed() >= HEIR_PATIENCE,
        "it has tried: {:?}",
        died.elapsed()
    );
    assert_eq!(nodes.status(heir, |_| true).await, Status::Ready);
    nodes.rules.lock().away.clear();
    for (partition, offset) in before {
        assert_eq!(produce(&mut client, partition, "after").await, offset + 1);
        let stands = read(&mut client, partition).await;
        assert_eq!(stands.get(&offset).map(String::as_str), Some("before"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_loses_no_patience() {
    // One voter: whatever the three others leave is its to recover, two logs at a time.
    let mut nodes = Nodes::begun_with(21, (4, 1), "object").await;
    nodes.topic().await;
    let mut client = nodes.client();
    for partition in 0..PARTITIONS {
        produce(&mut client, partition, "before").await;
    }
    nodes.rules.lock().slow = Duration::from_secs(9);
    let died = Instant::now();
    for node in [2, 3, 4] {
        nodes.kill(node);
    }
    while nodes.rules.lock().read.len() < 2 {
        assert!(died.elapsed() < PATIENCE, "nobody reads what they left");
        sleep(Duration::from_millis(10)).await;
    }
    // The third one's first look at the store, after longer than an heir has patience, fails.
    nodes.rules.lock().failing_marks = 1;
    while nodes.rules.lock().read.len() < 3 {
        assert!(died.elapsed() < 10 * PATIENCE, "nobody reads the third");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(died.elapsed() > HEIR_PATIENCE, "{:?}", died.elapsed());
    assert_eq!(nodes.rules.lock().failing_marks, 0);
    nodes.rules.lock().slow = Duration::ZERO;
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&mut client, partition, "after").await, 1);
    }
    let failures = "headwater_broker_takeover_failures_total";
    assert_eq!(counted(&nodes, 1, failures).await, 0, "none was passed on");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_store_keeps_no_other_log_waiting() {
    // Whatever the three others leave is the first one's to recover: more than it reads at a time.
    let mut nodes = Nodes::begun_with(22, (4, 1), "object").await;
    nodes.topic().await;
    let mut client = nodes.client();
    for partition in 0..PARTITIONS {
        produce(&mut client, partition, "before").await;
    }
    nodes.rules.lock().away.insert(1);
    for node in [2, 3, 4] {
        nodes.kill(node);
    }
    let failures = "headwater_broker_takeover_failures_total";
    let passed_on = async |wanted: u64| {
        let began = Instant::now();
        while counted(&nodes, 1, failures).await < wanted {
            assert!(began.elapsed() < 10 * PATIENCE, "{wanted} are passed on");
            sleep(Duration::from_millis(100)).await;
        }
        Instant::now()
    };
    let (first, third) = (passed_on(1).await, passed_on(3).await);
    let between = third - first;
    assert!(
        between < HEIR_PATIENCE / 2,
        "the third came {between:?} later"
    );
    nodes.rules.lock().away.clear();
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&mut client, partition, "after").await, 1);
    }
}
