//! Our S3 client code against a real HTTP server that keeps, or breaks, its promises.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use storage::ErrorKind;
use storage::store::{OpenedStore, RequestSettings, StoreOptions, StoreUrl, create, open, probe};
use tests::faults::{Conditions, FaultSettings};
use tests::s3::{S3Server, S3Settings};

fn options() -> StoreOptions {
    let requests = RequestSettings {
        timeout: Duration::from_secs(5),
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        ..RequestSettings::standard()
    };
    StoreOptions {
        read_only: false,
        reserve_bytes: 0,
        requests,
    }
}

async fn connect(url: &str) -> OpenedStore {
    let url = StoreUrl::parse(url).unwrap();
    open(&env::real::env(), &url, options()).await.unwrap()
}

async fn server(faults: FaultSettings) -> S3Server {
    S3Server::start(S3Settings {
        faults,
        ..S3Settings::default()
    })
    .await
    .unwrap()
}

async fn names(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut names: Vec<_> = listed
        .into_iter()
        .map(|meta| meta.location.to_string())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_lie_in_files_and_bytes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let server = S3Server::start(S3Settings {
        dir: Some(dir.path().to_owned()),
        ..S3Settings::default()
    })
    .await
    .unwrap();
    let store = connect(&server.url("files")).await.store;
    let before = server.bytes();
    let large: Bytes = (0..100_000_u32).map(|n| n as u8).collect();
    let (small, path, beside) = (large.slice(..10), Path::from("large"), Path::from("small"));
    for (path, bytes) in [(&path, &large), (&beside, &small)] {
        let create = store.put_opts(path, bytes.clone().into(), PutMode::Create.into());
        create.await.unwrap();
    }
    assert_eq!(files(), 1);
    assert_eq!(store.get_range(&beside, 2..4).await.unwrap(), small[2..4]);
    let range = store.get_range(&path, 70_000..90_000).await.unwrap();
    assert_eq!(range, large[70_000..90_000]);
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(whole, large);
    assert_eq!(server.bytes(), (before.0 + 100_010, before.1 + 120_002));
    store.delete(&path).await.unwrap();
    assert_eq!(files(), 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_racing_creators_have_one_winner_a_hundred_times() {
    let server = server(FaultSettings::default()).await;
    let store = connect(&server.url("race")).await.store;
    for round in 0..100 {
        let path = Path::from(format!("race/{round}"));
        let racers = (0..8_u8).map(|racer| {
            let (store, path) = (Arc::clone(&store), path.clone());
            tokio::spawn(async move {
                let payload = PutPayload::from(vec![racer; 512]);
                store.put_opts(&path, payload, PutMode::Create.into()).await
            })
        });
        let results: Vec<_> = join_all(racers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let winners: Vec<u8> = (0..8)
            .filter(|n| results[usize::from(*n)].is_ok())
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        for lost in results.into_iter().filter_map(Result::err) {
            assert!(matches!(lost, StoreError::AlreadyExists { .. }), "{lost}");
        }
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(stored, vec![winners[0]; 512]);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_client_reads_lists_and_deletes() {
    let server = server(FaultSettings::default()).await;
    let opened = connect(&server.url("one/two/")).await;
    assert_eq!(opened.prefix, "one/two");
    assert!(
        !opened.shown.contains("test-secret-key"),
        "{}",
        opened.shown
    );
    let store = opened.store;
    let body: Bytes = (0..300_000_u32).map(|n| n as u8).collect();
    let name = "one/two/a b+c%/ü";
    let key = Path::from(name);
    create(store.as_ref(), name, body.clone().into(), false)
        .await
        .unwrap();
    // The same bytes again are the same object; others are not.
    create(store.as_ref(), name, body.clone().into(), false)
        .await
        .unwrap();
    let foreign = create(store.as_ref(), name, Bytes::new().into(), false).await;
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::Corrupt);

    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), body);
    assert_eq!(store.get_range(&key, 7..9).await.unwrap(), body.slice(7..9));
    assert_eq!(
        store.get_range(&key, 299_999..300_000).await.unwrap(),
        body.slice(299_999..)
    );
    assert_eq!(store.head(&key).await.unwrap().size, 300_000);
    let puts = (0..1_100).map(|n| {
        let (store, key) = (&store, format!("one/two/many/{n:04}"));
        async move {
            let payload = PutPayload::from_static(b"x");
            create(store.as_ref(), &key, payload, false).await.unwrap();
        }
    });
    futures::stream::iter(puts)
        .for_each_concurrent(16, |put| put)
        .await;
    assert_eq!(names(&store).await.len(), 1_101, "more than one page");
    let below = store
        .list_with_delimiter(Some(&Path::from("one/two")))
        .await
        .unwrap();
    assert_eq!(below.common_prefixes.len(), 2);
    let after = Path::from("one/two/many/1097");
    let rest: Vec<_> = store
        .list_with_offset(None, &after)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rest.len(), 2);

    store.delete(&key).await.unwrap();
    assert!(matches!(
        store.get(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(
        store.head(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    let overwrite = store.put(&key, PutPayload::from_static(b"x")).await;
    assert!(matches!(overwrite, Err(StoreError::NotSupported { .. })));
    server.shutdown().await;
}

#[tokio::test]
async fn wrong_keys_are_denied_and_not_shown() {
    let server = server(FaultSettings::default()).await;
    let url = server.url("").replace("test-secret-key", "a-wrong-secret");
    let store = connect(&url).await.store;
    let error = store.get(&Path::from("x")).await.unwrap_err();
    assert!(
        matches!(error, StoreError::PermissionDenied { .. }),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("a-wrong-secret"));
    server.shutdown().await;
}

#[tokio::test]
async fn sound_stores_pass_the_probe_which_cleans_up() {
    let env = env::real::env();
    let server = server(FaultSettings::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().to_str().unwrap().to_owned();
    for url in [server.url("p"), file, "memory:".to_owned()] {
        let opened = connect(&url).await;
        probe(&env, &opened.store, &opened.prefix).await.unwrap();
        assert_eq!(names(&opened.store).await, [""; 0], "{url}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_troubled_but_sound_store_passes_the_probe() {
    let faults = FaultSettings {
        unavailable: 0.02,
        lost_answers: 0.05,
        ..Default::default()
    };
    let server = server(faults).await;
    let opened = connect(&server.url("")).await;
    let env = env::real::env();
    // What cannot be asked is asked again, as `serve` does; what is sound is never refused.
    for attempt in 0.. {
        match probe(&env, &opened.store, &opened.prefix).await {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Retry, "{error}"),
        }
        assert!(attempt < 50, "the probe never passed");
    }
    assert!(server.injected() > 0);
    server.shutdown().await;
}

#[tokio::test]
async fn a_store_that_breaks_its_promises_is_refused_by_name() {
    let env = env::real::env();
    for (conditions, named) in [
        (
            Conditions::Ignored,
            "racing conditional creates of one key succeeded",
        ),
        (
            Conditions::Racy,
            "racing conditional creates of one key succeeded",
        ),
    ] {
        let server = server(FaultSettings {
            conditions,
            ..Default::default()
        })
        .await;
        let opened = connect(&server.url("")).await;
        let error = probe(&env, &opened.store, &opened.prefix)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let shown = error.to_string();
        assert!(shown.contains(named), "{shown}");
        assert!(shown.contains("If-None-Match"), "what to do: {shown}");
        assert_eq!(names(&opened.store).await, [""; 0], "{conditions:?}");
        server.shutdown().await;
    }
    let faults = FaultSettings {
        truncated: 1.0,
        ..Default::default()
    };
    let server = server(faults).await;
    let opened = connect(&server.url("")).await;
    let error = probe(&env, &opened.store, "").await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Retry,
        "short bodies are no answer: {error}"
    );
    server.set_faults(FaultSettings {
        flipped: 1.0,
        ..Default::default()
    });
    let error = probe(&env, &opened.store, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_waited_for() {
    let env = env::real::env();
    let server = server(FaultSettings::default()).await;
    let opened = connect(&server.url("")).await;
    server.set_faults(FaultSettings {
        away: true,
        ..Default::default()
    });
    let error = probe(&env, &opened.store, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    server.set_faults(FaultSettings::default());
    probe(&env, &opened.store, "").await.unwrap();
    server.shutdown().await;
    let error = probe(&env, &opened.store, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
}

#[tokio::test]
async fn lost_answers_and_late_puts_change_nothing_that_was_said() {
    let faults = FaultSettings {
        unavailable: 0.1,
        lost_answers: 0.3,
        late_puts: 0.1,
        late_by: Duration::from_millis(20),
        truncated: 0.1,
        ..Default::default()
    };
    let server = server(faults).await;
    let store = connect(&server.url("")).await.store;
    for n in 0..60_u8 {
        let key = format!("object/{n}");
        let bytes = Bytes::from(vec![n; 2_000]);
        let mut tries = 0;
        // Retry means: the same bytes again are safe. Never Foreign: there is one writer.
        while let Err(error) = create(store.as_ref(), &key, bytes.clone().into(), false).await {
            assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
            tries += 1;
            assert!(tries < 50, "{error}");
        }
    }
    server.set_faults(FaultSettings::default());
    assert_eq!(names(&store).await.len(), 60);
    for n in 0..60_u8 {
        let stored = store.get(&Path::from(format!("object/{n}"))).await.unwrap();
        assert_eq!(stored.bytes().await.unwrap(), vec![n; 2_000]);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_server_serves_nobody_but_this_machine() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let error = S3Server::start(S3Settings {
        listen,
        ..S3Settings::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
