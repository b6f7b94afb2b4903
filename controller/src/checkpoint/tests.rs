use std::time::Duration;

use object_store::memory::InMemory;
use protocol::NodeId;

use super::*;
use crate::level::NEWEST_LEVEL;
use crate::server::{Controller, ControllerSettings};

const BASE: &str = "prefix/cluster/00000001";

async fn start(dir: &std::path::Path) -> Controller {
    let settings = ControllerSettings {
        dir: dir.join("raft"),
        node: NodeId(1),
        voters: [(NodeId(1), String::new())].into(),
        listener: None,
        cluster: None,
        generation: 1,
        lease: Duration::from_secs(6),
        tls: None,
        newest_level: NEWEST_LEVEL,
    };
    Controller::start(env::real::env(), settings).await.unwrap()
}

#[tokio::test]
async fn a_checkpoint_reads_back_into_an_equal_state_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let controller = start(dir.path()).await;
    let client = controller.client();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    assert_eq!(verify_newest_checkpoint(&*store, BASE).await.unwrap(), None);
    for level in 1..=5 {
        let name = "f".to_owned();
        client
            .submit(Command::FinalizeFeature { name, level })
            .await
            .unwrap();
        let written = client.checkpoint(&store, BASE).await.unwrap();
        let found = verify_newest_checkpoint(&*store, BASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found, written, "the newest is found");
        assert_eq!(found.cluster, client.image().borrow().cluster);
    }
    let condemned = client.condemned(i64::MAX, None, 100).await.unwrap();
    assert_eq!(condemned.len(), 2, "three are kept");
    let kept = verify_newest_checkpoint(&*store, BASE)
        .await
        .unwrap()
        .unwrap()
        .key;
    let path = Path::from(kept.as_str());
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        store.put(&path, damaged.into()).await.unwrap();
        let error = verify_checkpoint(&*store, &kept).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt, "byte {at}");
        assert!(error.to_string().contains(&kept));
    }
    controller.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_keeper_writes_when_something_changed_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let controller = start(dir.path()).await;
    let client = controller.client();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let period = Duration::from_millis(5);
    let keeper = client.keep_checkpoints(store.clone(), BASE.to_owned(), period);
    let mut image = client.image();
    let first = loop {
        if let Some(found) = verify_newest_checkpoint(&*store, BASE).await.unwrap() {
            break found;
        }
        image.changed().await.unwrap();
    };
    let last = keeper.finish().await.unwrap();
    assert!(last.unwrap().applied > first.applied);
    controller.shutdown().await.unwrap();
}
