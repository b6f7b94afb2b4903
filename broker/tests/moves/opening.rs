//! Clients that are faster than the opening of what they come for.

use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{ListOffsetsRequest, ProduceRequest};

use super::*;

const PARTITIONS: i32 = 24;

fn record(partition: i32, sequence: i32) -> bytes::Bytes {
    let mut batch = BatchBuilder::new().producer(1000 + i64::from(partition), 0, sequence);
    batch.append(1, None, Some(b"0"), &[]);
    batch.build().unwrap()
}

/// Error codes and leaders that an answer to one Produce for all of them names.
async fn produce_all(client: &mut Cluster, sequence: i32) -> BTreeSet<(i16, i32)> {
    let data = |partition: i32| {
        PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(record(partition, sequence)))
    };
    let topic = TopicProduceData::default()
        .with_name(TopicName(text("t")))
        .with_partition_data((0..PARTITIONS).map(data).collect());
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let Response::Produce(answer) = client.call_node(2, request, 12).await.unwrap() else {
        panic!("another answer");
    };
    let partitions = answer.responses.iter().flat_map(|t| &t.partition_responses);
    partitions
        .map(|p| (p.error_code, p.current_leader.leader_id.0))
        .collect()
}

async fn end_of_first(client: &mut Cluster) -> i16 {
    let asked = ListOffsetsPartition::default()
        .with_timestamp(-1)
        .with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let Response::ListOffsets(answer) = client.call_node(2, request, 7).await.unwrap() else {
        panic!("another answer");
    };
    answer.topics[0].partitions[0].error_code
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_once_for_all_that_opens_and_is_sent_nowhere() {
    let nodes = Nodes::begun(36).await;
    let mut client = nodes.client(2);
    create(&mut client, "t", PARTITIONS).await;
    let to = |node: i32| (0..PARTITIONS).map(move |p| (p, Some(vec![node])));
    reassign(&mut client, "t", to(1)).await;
    none_moves(&mut client).await;
    let found = client.topic("t").await.unwrap();
    for (info, partition) in found.partitions.iter().zip(0..) {
        let sent = client
            .produce("t", *info, record(partition, 0), 5_000)
            .await;
        assert_eq!(sent.unwrap(), 0);
    }
    // Nobody opens what has producers without asking the store for them.
    nodes
        .store
        .config_mut(|store| store.wait_get_per_call = Duration::from_secs(20));
    reassign(&mut client, "t", to(2)).await;
    none_moves(&mut client).await;
    let found = client.topic("t").await.unwrap();
    assert_eq!(nodes.leaders("t").await, BTreeSet::from([2]));
    let asked = Instant::now();
    let answered = produce_all(&mut client, 1).await;
    assert_eq!(
        answered,
        BTreeSet::from([(6, -1)]),
        "NOT_LEADER, and no name"
    );
    let waited = asked.elapsed();
    let patience = Duration::from_secs(1)..Duration::from_secs(2);
    assert!(
        patience.contains(&waited),
        "one patience for all: {waited:?}"
    );
    let asked = Instant::now();
    assert_eq!(end_of_first(&mut client).await, 6);
    assert!(patience.contains(&asked.elapsed()), "{:?}", asked.elapsed());
    let limits = FetchLimits {
        max_wait_ms: 700,
        max_bytes: 1 << 20,
    };
    let asked = Instant::now();
    let fetched = client.fetch("t", found.partitions[0], 0, limits).await;
    assert!(fetched.is_err());
    assert!(asked.elapsed() >= Duration::from_millis(700), "not at once");
    // Whoever asks when it is about to open is served by that very request.
    let deadline = Instant::now() + 2 * PATIENCE;
    nodes
        .store
        .config_mut(|store| store.wait_get_per_call = Duration::ZERO);
    while produce_all(&mut client, 1).await != BTreeSet::from([(0, -1)]) {
        assert!(Instant::now() < deadline, "they do not open");
    }
    assert_eq!(end_of_first(&mut client).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_batch_that_came_too_early_does_not_overtake_it() {
    let nodes = Nodes::begun(37).await;
    let mut client = nodes.client(2);
    create(&mut client, "t", PARTITIONS).await;
    let to = |node: i32| (0..PARTITIONS).map(move |p| (p, Some(vec![node])));
    reassign(&mut client, "t", to(1)).await;
    none_moves(&mut client).await;
    client.topic("t").await.unwrap();
    // The first of what a producer sends in one go comes before the partitions do.
    assert_eq!(
        produce_all(&mut client, 0).await,
        BTreeSet::from([(6, 1)]),
        "NOT_LEADER"
    );
    reassign(&mut client, "t", to(2)).await;
    none_moves(&mut client).await;
    for _ in 0..2 {
        let behind = produce_all(&mut client, 1).await;
        assert_eq!(behind, BTreeSet::from([(45, -1)]), "OUT_OF_ORDER_SEQUENCE");
    }
    for sequence in 0..3 {
        assert_eq!(
            produce_all(&mut client, sequence).await,
            BTreeSet::from([(0, -1)])
        );
    }
}
