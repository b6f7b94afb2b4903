use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use protocol::{BrokerEpoch, LeaderEpoch, TopicId, TopicPartition};
use uuid::Uuid;
use wal::WalId;

use super::*;
use crate::command::{CommitUpload, CreateTopic, RegisterBroker, Response, WalBackend};
use crate::types::{Digest, ObjectRef, SliceOutcome, SliceRef};

fn settings(dir: &std::path::Path) -> ControllerSettings {
    ControllerSettings {
        dir: dir.join("raft"),
        node: NodeId(0),
        address: "127.0.0.1:0".to_owned(),
        cluster: None,
        generation: 1,
        lease: Duration::from_secs(6),
    }
}

async fn start(dir: &std::path::Path) -> Controller {
    Controller::start(env::real::env(), settings(dir))
        .await
        .unwrap()
}

fn register(incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        node: NodeId(0),
        incarnation: Uuid::from_u128(incarnation),
        listeners: Vec::new(),
        rack: None,
    }
}

const TOPIC: TopicId = TopicId(Uuid::from_u128(77));
const TP: TopicPartition = TopicPartition {
    topic: TOPIC,
    partition: 0,
};

fn topic(name: &str) -> Command {
    Command::CreateTopic(CreateTopic {
        name: name.to_owned(),
        id: TOPIC,
        internal: false,
        partitions: 3,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    })
}

fn commit(broker: BrokerEpoch, wal: WalId, groups: (u64, u64), offsets: (i64, i64)) -> Command {
    let key = format!("data/00/0-{broker}-{}", offsets.0);
    let digest = Digest::Crc32([1; 4]);
    let slice = SliceRef {
        topic_partition: TP,
        leader_epoch: LeaderEpoch(0),
        first_offset: offsets.0,
        end_offset: offsets.1,
        max_timestamp_ms: 1,
        bytes: 100,
        object: Arc::new(ObjectRef {
            key,
            length: 1000,
            digest: digest.clone(),
        }),
        index_position: 100,
        index_length: 10,
        index_digest: digest,
        checkpoint: false,
    };
    Command::CommitUpload(CommitUpload {
        broker_epoch: broker,
        wal,
        claim: None,
        from: groups.0,
        to: groups.1,
        slices: vec![slice],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let controller = start(dir.path()).await;
    println!("first start {:?}", began.elapsed());
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    let wal = WalId(Uuid::from_u128(5));
    let open = Command::OpenWal {
        broker,
        wal,
        backend: WalBackend::Disk,
    };
    assert_eq!(client.submit(open).await.unwrap(), Response::Done);
    client.submit(topic("logs")).await.unwrap();
    let image = client.image().borrow().clone();
    assert_eq!(image.controller, Some(NodeId(0)));
    assert_eq!(
        image.topic("logs").unwrap().partitions[0].broker,
        Some(broker)
    );
    let id = client.command_id();
    let round = commit(broker, wal, (0, 5), (0, 10));
    let answer = Response::Committed(vec![SliceOutcome::Committed]);
    assert_eq!(client.submit_as(id, round.clone()).await.unwrap(), answer);
    let began = Instant::now();
    for n in 0..200 {
        let round = commit(broker, wal, (5 + n, 6 + n), (10 + n as i64, 11 + n as i64));
        client.submit(round).await.unwrap();
    }
    println!("200 commits one by one {:?}", began.elapsed());
    let before = client.partition(TP).await.unwrap().unwrap();
    let cluster = client.image().borrow().cluster;
    // No shutdown: the files are as a kill leaves them.
    drop((client, controller));

    let began = Instant::now();
    let controller = start(dir.path()).await;
    println!("restart {:?}", began.elapsed());
    let client = controller.client();
    assert_eq!(client.partition(TP).await.unwrap().unwrap(), before);
    assert_eq!(client.image().borrow().cluster, cluster);
    assert_eq!(
        client.submit_as(id, round).await.unwrap(),
        answer,
        "done once"
    );
    assert_eq!(
        client.partition(TP).await.unwrap().unwrap().committed_end,
        210
    );
    controller.shutdown().await.unwrap();
}
