//! A broker that the controllers do not hear gives out no offset beyond the gap.

use super::*;
use protocol::Compression;

/// So many offsets in a batch of few bytes.
fn many(records: usize) -> bytes::Bytes {
    let mut builder = BatchBuilder::new().compression(Compression::Zstd);
    for _ in 0..records {
        builder.append(1, None, Some(b""), &[]);
    }
    builder.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_cut_off_gives_out_no_offset_beyond_the_gap() {
    const RECORDS: usize = 300_000;
    let mut nodes = Nodes::none(23, 3, "object");
    for node in 1..=3 {
        nodes.start_with(node, &[("lease.ms", "30000")]).await;
    }
    nodes.settled().await;
    nodes.topic().await;
    let owner = nodes.follower();
    let led = nodes.leaders().await;
    let info = led.iter().find(|info| info.leader == i32::from(owner));
    let info = *info.unwrap();
    let mut client = nodes.client();
    assert_eq!(produce(&mut client, info.partition, "before").await, 0);
    // Known to the controllers, and then nothing more.
    sleep(Duration::from_secs(15)).await;
    let cut = Instant::now();
    for other in (1..=3).filter(|other| *other != owner) {
        nodes.network.cut(ip(owner), ip(other));
    }
    let batch = many(RECORDS);
    let mut next = 1;
    for _ in 0..3 {
        let offset = client.produce("t", info, batch.clone(), 3_000).await;
        assert_eq!(offset.unwrap(), next);
        next += i64::try_from(RECORDS).unwrap();
    }
    // A million offsets beyond what they know another leader might begin.
    for _ in 0..2 {
        let beyond = client.produce("t", info, batch.clone(), 3_000).await;
        // For want of a report, not of a lease.
        let why = beyond.unwrap_err().to_string();
        assert!(why.contains("too far ahead"), "{why}");
    }
    assert!(
        cut.elapsed() < Duration::from_secs(25),
        "{:?}",
        cut.elapsed()
    );
    nodes.network.heal_all();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.produce("t", info, batch.clone(), 3_000).await {
            Ok(offset) => break assert_eq!(offset, next, "none was given out in vain"),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}
