//! What an earlier build left is opened, read, and written on (`tests/golden/core`, made once by
//! `tests/golden/make.sh`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::process::{BrokerProcess, binary};

pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Records per topic that the golden directory holds: 1000 in objects, 500 in the log of a process
/// that was killed.
pub(crate) const RECORDS: usize = 1500;

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn start(dir: &Path) -> BrokerProcess {
    BrokerProcess::start(dir, "127.0.0.1:0", "127.0.0.1:0", &[]).unwrap()
}

/// What `headwater ARGUMENTS` prints, given `input`.
pub(crate) fn run(broker: &BrokerProcess, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(binary().unwrap())
        .args(arguments)
        .args(["--bootstrap", &broker.kafka.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn expected(codec: &str, records: usize) -> String {
    (1..=records)
        .map(|n| format!("{codec} record {n}\n"))
        .collect()
}

pub(crate) fn committed(broker: &BrokerProcess) -> Vec<(String, i64)> {
    let text = run(
        broker,
        &["group", "describe", "golden-group", "-o", "json"],
        "",
    );
    let group: Value = serde_json::from_str(&text).unwrap();
    let offsets = group["offsets"].as_array().unwrap();
    let pair = |o: &Value| {
        (
            o["topic"].as_str().unwrap().to_owned(),
            o["committed"].as_i64().unwrap(),
        )
    };
    offsets.iter().map(pair).collect()
}

#[test]
fn what_an_earlier_build_left_is_read_and_written_on() {
    let golden: PathBuf = [env!("CARGO_MANIFEST_DIR"), "golden", "core"]
        .iter()
        .collect();
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    copy(&golden, &dir);
    let offsets = [
        ("golden-none".to_owned(), 700),
        ("golden-zstd".to_owned(), 1234),
    ];
    let broker = start(&dir);
    for codec in CODECS {
        let topic = format!("golden-{codec}");
        assert_eq!(
            run(&broker, &["consume", &topic], ""),
            expected(codec, RECORDS)
        );
        let more = format!("{codec} record {}\n", RECORDS + 1);
        run(&broker, &["produce", &topic, "-z", codec], &more);
    }
    assert_eq!(committed(&broker), offsets);
    broker.stop(Duration::from_secs(60)).unwrap();
    let broker = start(&dir);
    for codec in CODECS {
        let topic = format!("golden-{codec}");
        assert_eq!(
            run(&broker, &["consume", &topic], ""),
            expected(codec, RECORDS + 1)
        );
    }
    assert_eq!(committed(&broker), offsets);
    let described = run(
        &broker,
        &["topic", "describe", "golden-lz4", "-o", "json"],
        "",
    );
    let described: Value = serde_json::from_str(&described).unwrap();
    let configs = described["configs"].as_array().unwrap();
    let own = configs.iter().find(|c| c["set_on_topic"] == true).unwrap();
    assert_eq!(own["config"], "max.message.bytes");
    assert_eq!(own["value"], "4000");
    broker.stop(Duration::from_secs(60)).unwrap();
}

/// The memory WAL promises nothing, and its loss must not cost the partition: offsets that may have
/// been given out are passed over, and what was uploaded before stays readable.
#[test]
fn a_log_that_was_given_up_leaves_a_gap_that_readers_pass() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    let memory = ["--wal".to_owned(), "memory".to_owned()];
    let open =
        |more: &[String]| BrokerProcess::start(&dir, "127.0.0.1:0", "127.0.0.1:0", more).unwrap();
    let broker = open(&memory);
    run(&broker, &["topic", "create", "short-lived", "-p", "1"], "");
    run(&broker, &["produce", "short-lived"], "uploaded\n");
    broker.stop(Duration::from_secs(60)).unwrap();
    let broker = open(&memory);
    run(&broker, &["produce", "short-lived"], "lost\n");
    broker.kill_9().unwrap();
    let broker = open(&[]);
    run(&broker, &["produce", "short-lived"], "after\n");
    assert_eq!(
        run(&broker, &["consume", "short-lived"], ""),
        "uploaded\nafter\n"
    );
    let text = run(&broker, &["consume", "short-lived", "-o", "json"], "");
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(last["offset"].as_i64().unwrap() > 1_000_000, "{last}");
    broker.stop(Duration::from_secs(60)).unwrap();
    let broker = open(&[]);
    assert_eq!(
        run(&broker, &["consume", "short-lived"], ""),
        "uploaded\nafter\n"
    );
}
