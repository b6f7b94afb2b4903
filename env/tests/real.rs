//! The real side keeps what the seams promise.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use env::OpenMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn files_are_created_once_linked_once_and_locked_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let env = env::real::env();
    let (disk, at) = (&env.disk, dir.path().join("a/b"));
    disk.create_dir_all(&at).unwrap();
    let path = at.join("file");
    assert_eq!(
        disk.open(&path, OpenMode::Existing).err().unwrap().kind(),
        ErrorKind::NotFound
    );
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    let twice = disk.open(&path, OpenMode::CreateNew).err().unwrap();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    file.write_all_at(b"hello", 3).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.file_len(&path).unwrap(), Some(8));
    let mut back = [9; 8];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"\0\0\0hello");
    let short = file.read_exact_at(&mut back, 1).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);

    disk.hard_link(&path, &at.join("published")).unwrap();
    let taken = disk.hard_link(&path, &at.join("published")).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    disk.rename(&path, &at.join("renamed")).unwrap();
    disk.sync_dir(&at).unwrap();
    let names = [at.join("published"), at.join("renamed")];
    assert_eq!(disk.read_dir(&at).unwrap(), names);

    let lock = disk.lock_dir(&at).unwrap();
    assert_eq!(
        disk.lock_dir(&at).err().unwrap().kind(),
        ErrorKind::WouldBlock
    );
    drop(lock);
    drop(disk.lock_dir(&at).unwrap());
    assert!(disk.remove_dir(&at).is_err(), "it is not empty");
    for path in disk.read_dir(&at).unwrap() {
        disk.remove_file(&path).unwrap();
    }
    disk.remove_dir(&at).unwrap();
    assert_eq!(disk.file_len(&at).unwrap(), None);
    assert!(disk.available_bytes(dir.path()).unwrap() > 0);
}

#[tokio::test]
async fn an_io_thread_runs_jobs_in_order_even_when_nobody_waits() {
    let thread = env::real::env().threads.io_thread("test");
    let done = Arc::new(AtomicUsize::new(0));
    for i in 0..100 {
        let done = done.clone();
        drop(thread.run(move || assert_eq!(done.fetch_add(1, Ordering::SeqCst), i)));
    }
    let seen = done.clone();
    assert_eq!(thread.run(move || seen.load(Ordering::SeqCst)).await, 100);
}

#[tokio::test]
async fn a_connection_carries_bytes_and_names_its_peer() {
    let net = env::real::env().net;
    let listener = net
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(
        net.resolve("127.0.0.1", address.port()).await.unwrap(),
        [address]
    );
    let mut near = net.connect(address).await.unwrap();
    let (mut far, peer) = listener.accept().await.unwrap();
    assert!(peer.ip().is_loopback());
    near.write_all(b"ping").await.unwrap();
    let mut four = [0; 4];
    far.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");
}

#[test]
fn time_goes_on_and_random_bytes_differ() {
    let env = env::real::env();
    let before = env.clock.monotonic();
    assert!(env.clock.monotonic() >= before);
    assert!(env.clock.wall_ms() > 1_700_000_000_000);
    assert_ne!(env.entropy.uuid(), env.entropy.uuid());
    let mut long = [0; 1000];
    env.entropy.fill(&mut long);
    assert!(long.iter().any(|byte| *byte != 0));
}
