//! What moves take, in virtual time, and what they carry: little, however much was written.

use futures::TryStreamExt;
use object_store::ObjectStore;

use super::*;

const MANY: i32 = 100;
/// Of them, those that are written to while they move.
const WRITTEN: i32 = 8;
const EACH: usize = 256 << 10;

fn large(bytes: usize) -> bytes::Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1, None, Some(&vec![b'x'; bytes]), &[]);
    batch.build().unwrap()
}

async fn all_to(client: &mut Cluster, topic: &str, partitions: i32, node: i32) {
    let moves = (0..partitions).map(|p| (p, Some(vec![node])));
    let codes = reassign(client, topic, moves).await;
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
}

async fn stored(nodes: &Nodes) -> u64 {
    let all: Vec<_> = nodes.store.list(None).try_collect().await.unwrap();
    let data = all
        .iter()
        .filter(|o| o.location.as_ref().contains("/data/"));
    data.map(|object| object.size).sum()
}

/// Moves many partitions by one request over a store that takes `answers` for each.
async fn measure(seed: u64, answers: Duration) -> (Duration, Duration) {
    let nodes = Nodes::begun(seed).await;
    let mut client = nodes.client(2);
    create(&mut client, "many", MANY).await;
    all_to(&mut client, "many", MANY, 1).await;
    none_moves(&mut client).await;
    let found = client.topic("many").await.unwrap();
    for info in found.partitions.iter().skip(WRITTEN as usize) {
        let sent = client.produce("many", *info, large(EACH), 5_000).await;
        assert_eq!(sent.unwrap(), 0);
    }
    // It is uploaded in the course of time.
    sleep(Duration::from_secs(70)).await;
    let before = stored(&nodes).await;
    assert!(before > (MANY - WRITTEN) as u64 * EACH as u64);
    let writers = nodes.write("many", WRITTEN);
    nodes.store.config_mut(|store| {
        store.wait_put_per_call = answers;
        store.wait_get_per_call = answers;
    });
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    all_to(&mut client, "many", MANY, 2).await;
    none_moves(&mut client).await;
    let took = began.elapsed();
    assert_eq!(nodes.leaders("many").await, BTreeSet::from([2]));
    sleep(Duration::from_secs(2)).await;
    let carried = stored(&nodes).await - before;
    let longest = all_there(&nodes, "many", writers).await;
    println!(
        "store answers in {answers:?}: {MANY} partitions of {before} bytes moved in {took:?}, \
         {carried} bytes stored, longest write gap {longest:?}"
    );
    assert!(carried < before / 10, "{carried} of {before}");
    assert!(took <= Duration::from_secs(5), "{took:?}");
    (took, longest)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_partitions_move_in_a_blink_and_carry_nothing() {
    let (_, longest) = measure(41, Duration::ZERO).await;
    assert!(longest <= Duration::from_millis(200), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn over_a_slow_store_the_pause_is_a_few_of_its_answers() {
    let (_, longest) = measure(42, Duration::from_millis(30)).await;
    assert!(longest <= Duration::from_millis(500), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn who_grows_fast_keeps_nobody_else_and_goes_at_last() {
    let nodes = Nodes::begun(43).await;
    let mut client = nodes.client(2);
    create(&mut client, "t", 151).await;
    all_to(&mut client, "t", 151, 1).await;
    none_moves(&mut client).await;
    let found = client.topic("t").await.unwrap();
    for info in found.partitions.iter().skip(1) {
        let sent = client.produce("t", *info, large(10), 5_000).await;
        sent.unwrap();
    }
    nodes
        .store
        .config_mut(|store| store.wait_put_per_call = Duration::from_millis(200));
    // More in each upload's time than is uploaded while appends are held.
    let mut hot = nodes.client_at(1, 20);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let writing = tokio::spawn(async move {
        let mut sent = 0;
        while !told.load(Ordering::Relaxed) {
            match hot.topic("t").await {
                Ok(found) => {
                    let batch = large(500_000);
                    sent += i32::from(
                        hot.produce("t", found.partitions[0], batch, 5_000)
                            .await
                            .is_ok(),
                    );
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
        sent
    });
    sleep(Duration::from_secs(2)).await;
    all_to(&mut client, "t", 151, 2).await;
    let deadline = Instant::now() + PATIENCE;
    while ongoing(&mut client).await > 1 {
        assert!(Instant::now() < deadline, "the quiet ones wait");
        sleep(Duration::from_millis(50)).await;
    }
    none_moves(&mut client).await;
    assert_eq!(nodes.leaders("t").await, BTreeSet::from([2]));
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 5);
}
