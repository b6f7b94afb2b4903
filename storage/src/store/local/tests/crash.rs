//! Crashes at every operation of the disk, with and without loss of power.

use env::sim::SimDisk;

use super::*;
use crate::store::create;

const ROOT: &str = "/var/objects";

/// Keys and bytes that the scenario stores; the last is deleted again.
fn objects() -> Vec<(&'static str, Bytes)> {
    vec![
        ("a/b/one", Bytes::from(vec![1; 9_000])),
        ("a/b/two", Bytes::from(vec![2; 1])),
        ("c/three", Bytes::from(vec![3; 5_000])),
        ("c/gone", Bytes::from(vec![4; 100])),
    ]
}

fn env_of(disk: &SimDisk) -> Env {
    Env {
        disk: disk.mount(),
        ..env::real::env()
    }
}

async fn reopen(disk: &SimDisk) -> LocalStore {
    LocalStore::open(&env_of(disk), FilePath::new(ROOT), 0)
        .await
        .unwrap()
}

/// What was promised before the crash.
#[derive(Default)]
struct Promised {
    stored: Vec<&'static str>,
    delete_begun: bool,
    deleted: bool,
}

async fn scenario(disk: &SimDisk) -> Promised {
    let mut promised = Promised::default();
    let Ok(store) = LocalStore::open(&env_of(disk), FilePath::new(ROOT), 0).await else {
        return promised;
    };
    for (key, bytes) in objects() {
        if create(&store, key, bytes.into(), false).await.is_ok() {
            promised.stored.push(key);
        }
    }
    if promised.stored.contains(&"c/gone") {
        promised.delete_begun = true;
        promised.deleted = store.delete(&Path::from("c/gone")).await.is_ok();
    }
    promised
}

async fn check(store: &LocalStore, promised: &Promised, context: &str) {
    for (key, bytes) in objects() {
        let found = match get(store, key).await {
            Ok(found) => Some(found),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{context}: {key}: {error}"),
        };
        if let Some(found) = &found {
            assert_eq!(found, &bytes, "{context}: {key} is whole or absent");
        }
        if key == "c/gone" && promised.delete_begun {
            assert!(
                found.is_none() || !promised.deleted,
                "{context}: deleted and back"
            );
        } else if promised.stored.contains(&key) {
            assert!(found.is_some(), "{context}: {key} was promised");
        }
    }
    for name in names(store, None).await {
        assert!(
            objects().iter().any(|(key, _)| *key == name),
            "{context}: {name} is a stranger"
        );
    }
}

#[tokio::test]
async fn what_was_promised_survives_a_crash_at_any_operation() {
    let clean = SimDisk::new(0);
    let promised = scenario(&clean).await;
    assert!(promised.stored.len() == 4 && promised.deleted);
    let operations = clean.ops();
    assert!(operations > 30, "{operations}");
    for power in [false, true] {
        for op in 0..operations {
            for seed in 0..4 {
                let context = format!("power loss {power}, operation {op}, seed {seed}");
                let disk = SimDisk::new(seed);
                disk.crash_at(op);
                let promised = scenario(&disk).await;
                assert!(disk.crashed(), "{context}");
                if power {
                    disk.power_loss()
                } else {
                    disk.kill()
                }

                let store = reopen(&disk).await;
                check(&store, &promised, &context).await;
                let waste = |path: &PathBuf| {
                    path.starts_with(format!("{ROOT}/.tmp")) && !path.ends_with("LOCK")
                };
                let left: Vec<_> = disk.files().into_iter().filter(waste).collect();
                assert!(left.is_empty(), "{context}: {left:?}");

                // A second life stores the same again; what it is told to exist must last, even
                // if the first died before it had made the name durable.
                let mut again = Promised::default();
                for (key, bytes) in objects() {
                    create(&store, key, bytes.into(), false)
                        .await
                        .expect(&context);
                    again.stored.push(key);
                }
                disk.power_loss();
                check(&reopen(&disk).await, &again, &context).await;
            }
        }
    }
}

#[tokio::test]
async fn a_failed_sync_of_a_file_is_a_failed_put_and_no_object() {
    let disk = SimDisk::new(1);
    let store = reopen(&disk).await;
    disk.fail_next_sync();
    put(&store, "x", b"1").await.unwrap_err();
    assert!(names(&store, None).await.is_empty());
    put(&store, "x", b"2").await.unwrap();
    disk.power_loss();
    assert_eq!(get(&reopen(&disk).await, "x").await.unwrap(), "2");
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_stays_of_the_attempt() {
    let disk = SimDisk::new(1);
    let store = reopen(&disk).await;
    put(&store, "x", &[1; 1_000]).await.unwrap();
    disk.set_capacity(Some(disk.used() + 500));
    let error = put(&store, "y", &[2; 1_000]).await.unwrap_err();
    assert!(is_no_space(&error), "{error}");
    store.delete(&Path::from("x")).await.unwrap();
    put(&store, "y", &[2; 1_000]).await.unwrap();
}
