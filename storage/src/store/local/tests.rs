//! The local store: create-only, durable in the right order, clean after a crash.

mod crash;

use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use env::{DirLock, Disk, Env, File, OpenMode};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parking_lot::Mutex;

use super::*;

/// The real disk, which notes what is done and fails on demand.
struct Watched {
    inner: Arc<dyn Disk>,
    log: Mutex<Vec<String>>,
    fail: Mutex<Option<(&'static str, io::ErrorKind)>>,
    available: Mutex<Option<u64>>,
}

impl Watched {
    fn note(&self, what: &str, path: &FilePath) -> io::Result<()> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        self.log
            .lock()
            .push(format!("{what} {}", name.unwrap_or_default()));
        match *self.fail.lock() {
            Some((operation, kind)) if operation == what => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }

    fn fail(&self, operation: &'static str, kind: io::ErrorKind) {
        *self.fail.lock() = Some((operation, kind));
    }

    fn heal(&self) {
        *self.fail.lock() = None;
    }
}

/// Lets tests see syncs and writes of files too.
struct WatchedFile(Box<dyn File>, Arc<Watched>);

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.note("write", FilePath::new("tmp"))?;
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.note("sync", FilePath::new("tmp"))?;
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The trait is on the handle so that files can point back to it.
struct Handle(Arc<Watched>);

impl Disk for Handle {
    fn open(&self, path: &FilePath, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = self.0.inner.open(path, mode)?;
        Ok(Box::new(WatchedFile(file, Arc::clone(&self.0))))
    }
    fn create_dir_all(&self, path: &FilePath) -> io::Result<()> {
        self.0.note("mkdir", path)?;
        self.0.inner.create_dir_all(path)
    }
    fn read_dir(&self, path: &FilePath) -> io::Result<Vec<PathBuf>> {
        self.0.inner.read_dir(path)
    }
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.0.note("rename", to)?;
        self.0.inner.rename(from, to)
    }
    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.0.note("link", to)?;
        self.0.inner.hard_link(from, to)
    }
    fn remove_file(&self, path: &FilePath) -> io::Result<()> {
        self.0.note("remove", FilePath::new("tmp"))?;
        self.0.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &FilePath) -> io::Result<()> {
        self.0.inner.remove_dir(path)
    }
    fn sync_dir(&self, path: &FilePath) -> io::Result<()> {
        self.0.note("syncdir", path)?;
        self.0.inner.sync_dir(path)
    }
    fn file_len(&self, path: &FilePath) -> io::Result<Option<u64>> {
        self.0.inner.file_len(path)
    }
    fn available_bytes(&self, path: &FilePath) -> io::Result<u64> {
        match *self.0.available.lock() {
            Some(bytes) => Ok(bytes),
            None => self.0.inner.available_bytes(path),
        }
    }
    fn lock_dir(&self, path: &FilePath) -> io::Result<Box<dyn DirLock>> {
        self.0.inner.lock_dir(path)
    }
}

fn watched_env(available: Option<u64>) -> (Env, Arc<Watched>) {
    let mut env = env::real::env();
    let watched = Arc::new(Watched {
        inner: Arc::clone(&env.disk),
        log: Mutex::default(),
        fail: Mutex::default(),
        available: Mutex::new(available),
    });
    env.disk = Arc::new(Handle(Arc::clone(&watched)));
    (env, watched)
}

async fn put(store: &LocalStore, key: &str, bytes: &'static [u8]) -> Result<()> {
    let options = PutOptions::from(PutMode::Create);
    store
        .put_opts(&Path::from(key), PutPayload::from_static(bytes), options)
        .await
        .map(drop)
}

async fn get(store: &LocalStore, key: &str) -> Result<Bytes> {
    store.get(&Path::from(key)).await?.bytes().await
}

async fn names(store: &LocalStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    let listed: Vec<_> = store.list(prefix.as_ref()).try_collect().await.unwrap();
    listed
        .into_iter()
        .map(|meta| meta.location.to_string())
        .collect()
}

#[tokio::test]
async fn objects_are_created_once_and_read_by_range() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    put(&store, "a/b/one", b"hello world").await.unwrap();
    let error = put(&store, "a/b/one", b"other").await.unwrap_err();
    assert!(
        matches!(error, object_store::Error::AlreadyExists { .. }),
        "{error}"
    );
    assert_eq!(get(&store, "a/b/one").await.unwrap(), "hello world");

    let one = Path::from("a/b/one");
    assert_eq!(store.get_range(&one, 6..11).await.unwrap(), "world");
    assert_eq!(store.get_range(&one, 6..99).await.unwrap(), "world");
    assert!(store.get_range(&one, 11..12).await.is_err());
    assert_eq!(store.head(&one).await.unwrap().size, 11);
    for absent in ["a/b/two", "a/b", "a/b/one/below", "x"] {
        let error = store.head(&Path::from(absent)).await.unwrap_err();
        assert!(
            matches!(error, object_store::Error::NotFound { .. }),
            "{absent}: {error}"
        );
        let error = get(&store, absent).await.unwrap_err();
        assert!(
            matches!(error, object_store::Error::NotFound { .. }),
            "{absent}: {error}"
        );
    }
    let overwrite = store
        .put(&one, PutPayload::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(
        matches!(overwrite, object_store::Error::NotSupported { .. }),
        "{overwrite}"
    );

    put(&store, "a/c", b"").await.unwrap();
    put(&store, "ab/d", b"1").await.unwrap();
    assert_eq!(names(&store, None).await, ["a/c", "a/b/one", "ab/d"]);
    assert_eq!(names(&store, Some("a")).await, ["a/c", "a/b/one"]);
    assert_eq!(names(&store, Some("zzz")).await, [""; 0]);
    let below = store
        .list_with_delimiter(Some(&Path::from("a")))
        .await
        .unwrap();
    assert_eq!(below.common_prefixes, [Path::from("a/b")]);
    assert_eq!(below.objects.len(), 1);

    store.delete(&one).await.unwrap();
    assert!(matches!(
        store.delete(&one).await,
        Err(object_store::Error::NotFound { .. })
    ));
    put(&store, "a/b/one", b"again").await.unwrap();
}

#[tokio::test]
async fn bodies_longer_than_a_chunk_come_whole() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    // Small and large pieces, so that gathering starts, stops and is passed by.
    let sizes = [1, 700_000, 400_000, 3_000_000, 5, 2_000_000, 1];
    let pieces: Vec<Bytes> = sizes
        .iter()
        .enumerate()
        .map(|(n, size)| vec![n as u8; *size].into())
        .collect();
    let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
    let payload: PutPayload = pieces.into_iter().collect();
    let path = Path::from("big");
    store
        .put_opts(&path, payload, PutMode::Create.into())
        .await
        .unwrap();
    assert_eq!(get(&store, "big").await.unwrap(), whole);
    let range = 1_000_000..6_000_001;
    let part = store.get_range(&path, range.clone()).await.unwrap();
    assert_eq!(part, whole[range.start as usize..range.end as usize]);
    let end = whole.len() as u64;
    let ranges = [0..3, 3..700_001, 6_000_000..end, 5..5];
    let parts = store.get_ranges(&path, &ranges).await.unwrap();
    assert_eq!(parts.len(), ranges.len());
    for (part, range) in parts.iter().zip(&ranges) {
        assert_eq!(part, &whole[range.start as usize..range.end as usize]);
    }
    for past in [0..end + 1, end..u64::MAX] {
        let past = store.get_ranges(&path, &[0..1, past]).await;
        assert!(past.is_err(), "bytes that are not there");
    }
    let gone = store.get_ranges(&Path::from("gone"), &ranges).await;
    assert!(matches!(gone, Err(object_store::Error::NotFound { .. })));
}

#[tokio::test]
async fn eight_racing_creators_have_one_winner() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let store = Arc::new(LocalStore::open(&env, root.path(), 0).await.unwrap());
    for round in 0..50 {
        let path = Path::from(format!("race/{round}"));
        let racers = (0..8_u8).map(|racer| {
            let (store, path) = (Arc::clone(&store), path.clone());
            async move {
                let payload = PutPayload::from(vec![racer; 100]);
                store
                    .put_opts(&path, payload, PutMode::Create.into())
                    .await
                    .map(|_| racer)
            }
        });
        let results = futures::future::join_all(racers).await;
        let winners: Vec<u8> = results
            .into_iter()
            .filter_map(std::result::Result::ok)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(stored, vec![winners[0]; 100]);
    }
}

/// As the nodes of a cluster do over one directory: each a store of its own, which others open and
/// close meanwhile, and whose files are whole or absent for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_share_a_directory_while_others_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let open = || async {
        let env = env::real::env();
        LocalStore::open(&env, root.path(), 0).await.unwrap()
    };
    let writers = (0..4_u8).map(|writer| async move {
        let store = open().await;
        let mut won = Vec::new();
        for round in 0..40_u8 {
            let key = format!("race/{}/{round}", round % 5);
            let payload = PutPayload::from(vec![writer; 50_000]);
            let path = Path::from(key);
            match store.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => won.push(round),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => panic!("writer {writer}, round {round}: {error}"),
            }
            // Whoever won, it is whole for everybody by now.
            let found = store.get(&path).await.unwrap().bytes().await.unwrap();
            assert!(found.len() == 50_000 && found.iter().all(|byte| *byte == found[0]));
        }
        won
    });
    let passers = async {
        for number in 0..40 {
            let (one, two) = futures::join!(open(), open());
            put(&one, &format!("own/{number}"), b"1").await.unwrap();
            drop(one);
            drop(two);
        }
    };
    let (won, ()) = futures::join!(futures::future::join_all(writers), passers);
    let mut won = won.concat();
    won.sort_unstable();
    assert_eq!(won, (0..40).collect::<Vec<u8>>(), "each has one winner");
    let last = open().await;
    assert_eq!(names(&last, Some("race")).await.len(), 40);
    assert_eq!(names(&last, Some("own")).await.len(), 40);
    let left = walk(&root.path().join(".tmp"));
    let left: Vec<_> = left.iter().filter(|path| !path.ends_with("LOCK")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn walk(directory: &FilePath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn success_comes_after_file_and_directories_are_synced() {
    let root = tempfile::tempdir().unwrap();
    let (env, disk) = watched_env(None);
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    disk.take_log();
    put(&store, "data/aa/x", b"1").await.unwrap();
    let root_name = root
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        disk.take_log(),
        [
            "mkdir data".to_owned(),
            format!("syncdir {root_name}"),
            "mkdir aa".to_owned(),
            "syncdir data".to_owned(),
            "write tmp".to_owned(),
            "sync tmp".to_owned(),
            "link x".to_owned(),
            "syncdir aa".to_owned(),
            "remove tmp".to_owned(),
        ]
    );
    put(&store, "data/aa/y", b"1").await.unwrap();
    assert_eq!(
        disk.take_log(),
        [
            "write tmp",
            "sync tmp",
            "link y",
            "syncdir aa",
            "remove tmp"
        ]
    );
    // Who is told that it exists may rely on it.
    put(&store, "data/aa/y", b"2").await.unwrap_err();
    assert_eq!(
        disk.take_log(),
        [
            "write tmp",
            "sync tmp",
            "link y",
            "syncdir aa",
            "remove tmp"
        ]
    );
    // A new process cannot know whether the directories it finds are durable.
    drop(store);
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    disk.take_log();
    put(&store, "data/aa/z", b"1").await.unwrap();
    let log = disk.take_log();
    assert!(log.contains(&format!("syncdir {root_name}")), "{log:?}");
    assert!(log.contains(&"syncdir data".to_owned()), "{log:?}");
}

#[tokio::test]
async fn a_failed_step_leaves_no_object_and_no_waste() {
    let root = tempfile::tempdir().unwrap();
    let (env, disk) = watched_env(None);
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    for step in ["write", "sync", "link"] {
        disk.fail(step, io::ErrorKind::StorageFull);
        let error = put(&store, "x", b"12345").await.unwrap_err();
        assert!(is_no_space(&error), "{step}: {error}");
        disk.heal();
        assert!(names(&store, None).await.is_empty(), "{step}");
        let left = env.disk.read_dir(&root.path().join(".tmp/0")).unwrap();
        assert_eq!(left, [root.path().join(".tmp/0/LOCK")], "{step}");
    }
    put(&store, "x", b"12345").await.unwrap();
}

#[tokio::test]
async fn after_a_failed_directory_sync_nothing_is_promised_any_more() {
    let root = tempfile::tempdir().unwrap();
    let (env, disk) = watched_env(None);
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    put(&store, "x", b"1").await.unwrap();
    disk.fail("syncdir", io::ErrorKind::Other);
    put(&store, "y", b"1").await.unwrap_err();
    disk.heal();
    for key in ["y", "z"] {
        let error = put(&store, key, b"1").await.unwrap_err().to_string();
        assert!(error.contains("restart"), "{error}");
    }
    assert_eq!(get(&store, "x").await.unwrap(), "1");
    let store = LocalStore::open(&env, root.path(), 0).await;
    drop(store.unwrap());
}

#[tokio::test]
async fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let first = LocalStore::open(&env, root.path(), 0).await.unwrap();
    let second = LocalStore::open(&env, root.path(), 0).await.unwrap();
    let leftovers = [
        root.path().join(".tmp/0/half"),
        root.path().join(".tmp/1/half"),
    ];
    for path in &leftovers {
        std::fs::write(path, b"unfinished").unwrap();
    }
    drop(first);
    let third = LocalStore::open(&env, root.path(), 0).await.unwrap();
    assert!(!leftovers[0].exists(), "its process is dead");
    assert!(leftovers[1].exists(), "its process lives");
    put(&second, "s", b"2").await.unwrap();
    put(&third, "t", b"3").await.unwrap();
    assert_eq!(names(&third, None).await, ["s", "t"]);
    assert_eq!(
        std::fs::read_dir(root.path().join(".tmp")).unwrap().count(),
        2,
        "slots are reused"
    );
}

#[tokio::test]
async fn the_reserve_is_kept_for_those_who_may_use_it() {
    let root = tempfile::tempdir().unwrap();
    let (env, disk) = watched_env(Some(1_000));
    let store = LocalStore::open(&env, root.path(), 995).await.unwrap();
    put(&store, "fits", b"12345").await.unwrap();
    let error = put(&store, "more", b"123456").await.unwrap_err();
    assert!(is_no_space(&error), "{error}");
    *disk.available.lock() = Some(10);
    let mut options = PutOptions::from(PutMode::Create);
    options.extensions.insert(UseReserve);
    let payload = PutPayload::from_static(b"recovered");
    store
        .put_opts(&Path::from("recovery"), payload, options)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_opened_for_reading_touches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let store = LocalStore::open_read_only(&env, root.path());
    let error = put(&store, "x", b"1").await.unwrap_err();
    assert!(
        matches!(error, object_store::Error::NotSupported { .. }),
        "{error}"
    );
    assert!(store.delete(&Path::from("x")).await.is_err());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn temporary_files_are_out_of_reach() {
    let root = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let store = LocalStore::open(&env, root.path(), 0).await.unwrap();
    assert!(put(&store, ".tmp/0/x", b"1").await.is_err());
    assert!(get(&store, ".tmp/0/LOCK").await.is_err());
    assert!(names(&store, Some(".tmp")).await.is_empty());
}
