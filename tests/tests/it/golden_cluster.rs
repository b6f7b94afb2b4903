//! What three nodes of an earlier build left is opened by three of this one, read, and written on
//! (`tests/golden/cluster`, made once by `tests/golden/make-cluster.sh`).

use std::path::Path;

use tests::process::BrokerProcess;

use crate::golden::{CODECS, RECORDS, committed, copy, expected, run};
use crate::load::LIMIT;

const NODES: usize = 3;
/// Length of a segment of the Raft log, zeros at its end.
const RAFT_SEGMENT_BYTES: u64 = 2 << 20;

/// Where the controller of a node listens: it stands in the golden logs, and is of loopback, with a
/// port that no client is ever given.
fn controller(n: usize) -> String {
    format!("127.77.4.{}:9093", n + 1)
}

/// Held while those addresses are ours: another checkout may run the same test.
fn hold_addresses() -> std::fs::File {
    let path = std::env::temp_dir().join("headwater-golden-cluster.lock");
    let file = std::fs::File::create(path).unwrap();
    file.lock().unwrap();
    file
}

fn start(dir: &Path) -> Vec<BrokerProcess> {
    let voters = (0..NODES).map(|n| format!("{}@{}", n + 1, controller(n)));
    let voters: Vec<String> = voters.collect();
    let starting = (0..NODES).map(|n| {
        let controller = controller(n);
        let settings = [
            format!("node.id={}", n + 1),
            format!("listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://{controller}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("object.store.url={}", dir.join("objects").display()),
            "wal.backend=object".to_owned(),
            // The records are as old as the directory.
            "log.retention.hours=-1".to_owned(),
            "wal.object.puts.per.second=500".to_owned(),
        ];
        let flags = settings
            .into_iter()
            .flat_map(|setting| ["--set".to_owned(), setting]);
        let flags: Vec<String> = flags.collect();
        let data = dir.join(format!("node{}", n + 1));
        // In the background: it is ready when there is a quorum.
        std::thread::spawn(move || {
            let any = "127.0.0.1:0";
            BrokerProcess::start(&data, any, any, &flags).unwrap()
        })
    });
    let starting: Vec<_> = starting.collect();
    starting
        .into_iter()
        .map(|one| one.join().unwrap())
        .collect()
}

fn stop(nodes: Vec<BrokerProcess>) {
    let stopping = nodes
        .into_iter()
        .map(|node| std::thread::spawn(move || node.stop(LIMIT)));
    let stopping: Vec<_> = stopping.collect();
    for stopped in stopping {
        stopped.join().unwrap().unwrap();
    }
}

/// Every record by value and offset, whichever node is asked first.
fn check(nodes: &[BrokerProcess], records: usize) {
    for (n, codec) in CODECS.iter().enumerate() {
        let (node, topic) = (&nodes[n % NODES], format!("golden-{codec}"));
        let read = run(node, &["consume", &topic, "-o", "json"], "");
        let values: Vec<String> = read
            .lines()
            .enumerate()
            .map(|(offset, line)| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(record["offset"], offset, "{topic}: {line}");
                format!("{}\n", record["value"].as_str().unwrap())
            })
            .collect();
        assert_eq!(values.concat(), expected(codec, records), "{topic}");
    }
    let offsets = [
        ("golden-none".to_owned(), 700),
        ("golden-zstd".to_owned(), 1234),
    ];
    assert_eq!(committed(&nodes[2]), offsets);
}

#[test]
fn what_three_nodes_of_an_earlier_build_left_is_read_and_written_on() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cluster");
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("cluster");
    copy(&golden, &dir);
    for node in 1..=NODES {
        let log = dir.join(format!("node{node}/raft/log"));
        for entry in std::fs::read_dir(log).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wal") {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(RAFT_SEGMENT_BYTES).unwrap();
            }
        }
    }
    let _addresses = hold_addresses();
    let nodes = start(&dir);
    check(&nodes, RECORDS);
    for (n, codec) in CODECS.iter().enumerate() {
        let more = format!("{codec} record {}\n", RECORDS + 1);
        let topic = format!("golden-{codec}");
        run(&nodes[n % NODES], &["produce", &topic, "-z", codec], &more);
    }
    check(&nodes, RECORDS + 1);
    stop(nodes);
    let nodes = start(&dir);
    check(&nodes, RECORDS + 1);
    stop(nodes);
}
