//! The binary `headwater` as people meet it.

use std::process::{Command, Output};

fn headwater(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(arguments)
        .env_remove("HEADWATER_BIN")
        .output()
        .expect("cargo has built it")
}

#[test]
fn everything_wrong_is_told_at_once_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headwater.toml");
    std::fs::write(&file, "[wal]\nbakend = \"disk\"\n[node]\nid = -1\n").unwrap();
    let file = file.to_str().unwrap();
    let output = headwater(&[
        "serve", "--config", file, "--wal", "tape", "--set", "nonsense",
    ]);
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in [
        "4 problem(s)",
        "headwater.toml:2: wal.bakend is not known; is wal.backend meant?",
        "headwater.toml:4: node.id: -1 is below 0",
        "flag --wal: wal.backend: \"tape\" is none of disk, object, memory",
        "flag --set nonsense: is not KEY=VALUE",
    ] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
}

#[test]
fn the_effective_configuration_is_told_with_its_sources() {
    let arguments = [
        "config",
        "--changed",
        "--output",
        "json",
        "--set",
        "num.partitions=3",
    ];
    let output = headwater(&arguments);
    assert!(output.status.success());
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        rows,
        serde_json::json!([{
            "name": "num.partitions",
            "value": "3",
            "source": "flag --set num.partitions",
        }])
    );
}

#[test]
fn nodes_that_cannot_be_a_cluster_are_told_why_and_what_to_do() {
    let voters = "controller.quorum.voters=1@127.0.0.1:1,2@127.0.0.1:2,3@127.0.0.1:3";
    let output = headwater(&["serve", "--set", voters, "--set", "node.id=4"]);
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in [
        "3 problem(s)",
        "this node is 4 (node.id)",
        "add 4@HOST:PORT, or set process.roles = \"broker\"",
        "3 voters, and nowhere to listen for the others' calls: add CONTROLLER://HOST:9093",
        "the nodes of a cluster share one object store",
    ] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
}
