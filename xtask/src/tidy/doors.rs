//! Who may touch the outside world, and who may know which library.

use super::Finding;
use super::paths::{self, Named};
use super::source::Source;

/// The crates whose code runs in a broker.
const PRODUCT: &[&str] = &[
    "protocol",
    "env",
    "wal",
    "storage",
    "controller",
    "coordinators",
    "broker",
];

/// Paths that only `env`'s real side may name, and why.
const DOORS: &[(&str, &str)] = &[
    ("std::thread", "threads come from env"),
    (
        "tokio::task::spawn_blocking",
        "blocking work goes through env",
    ),
    (
        "tokio::task::block_in_place",
        "blocking work goes through env",
    ),
    (
        "tokio::runtime::Handle::spawn_blocking",
        "blocking work goes through env",
    ),
    ("std::fs", "files come from env"),
    ("tokio::fs", "files come from env"),
    ("std::os", "the system's own calls stay in env"),
    ("rustix", "the system's own calls stay in env"),
    ("libc", "the system's own calls stay in env"),
    ("std::net::TcpStream", "sockets come from env"),
    ("std::net::TcpListener", "sockets come from env"),
    ("std::net::UdpSocket", "sockets come from env"),
    ("std::net::ToSocketAddrs", "names are resolved by env"),
    ("tokio::net", "sockets come from env"),
    (
        "std::time::Instant::now",
        "time comes from env, or from tokio::time::Instant",
    ),
    ("std::time::SystemTime::now", "time comes from env"),
    ("std::time::UNIX_EPOCH::elapsed", "time comes from env"),
    ("chrono", "time comes from env"),
    ("getrandom", "entropy comes from env"),
    ("rand", "entropy comes from env"),
    ("fastrand", "entropy comes from env"),
    ("uuid::Uuid::new_v4", "entropy comes from env"),
    ("uuid::Uuid::now_v7", "entropy and time come from env"),
    ("std::env", "settings come from the configuration"),
    ("std::process::Command", "a broker starts no other program"),
];

/// Paths with an ordered or bounded counterpart, refused in product code.
const REFUSED: &[(&str, &str)] = &[
    (
        "std::collections::HashMap",
        "its order differs per process: BTreeMap, or env's HashMap",
    ),
    (
        "std::collections::HashSet",
        "its order differs per process: BTreeSet, or env's HashSet",
    ),
    ("std::hash::RandomState", "its seed differs per process"),
    (
        "std::collections::hash_map::RandomState",
        "its seed differs per process",
    ),
    ("std::sync::mpsc::channel", "it has no bound: sync_channel"),
    (
        "futures::select",
        "it polls in random order: tokio::select! with biased",
    ),
];

/// Single exceptions: the start of the file's path, the path named, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("env/src/real.rs", "", "this is the door"),
    ("env/src/real/", "", "this is the door"),
    (
        "env/src/hash.rs",
        "std::collections::",
        "gives the maps their seeded hasher",
    ),
    (
        "env/src/planted.rs",
        "std::env",
        "chooses the planted bug, in builds that have them",
    ),
    (
        "broker/src/main.rs",
        "std::env",
        "arguments and variables enter here",
    ),
    ("broker/src/config", "std::env", "variables are settings"),
    (
        "broker/src/cli/settings.rs",
        "std::fs::read_to_string",
        "the configuration file is read before there is an env",
    ),
    (
        "broker/src/cli",
        "std::env",
        "the operator's commands read variables and arguments",
    ),
];

/// Libraries that one place alone may name.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("kafka_protocol", &["protocol/"]),
    (
        "openraft",
        &["controller/src/raft/", "controller/src/raft.rs"],
    ),
];

/// Checks the paths that a file names.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for named in paths::named(&source.code) {
        for (library, places) in LIBRARIES {
            let inside = places.iter().any(|place| source.path.starts_with(place));
            if !inside && is_under(&named.path, library) {
                let text = format!(
                    "`{}`: only {} may name it",
                    named.path,
                    places.join(" and ")
                );
                findings.push(finding(source, &named, "library", text));
            }
        }
    }
    if !is_product(source) {
        return findings;
    }
    for named in paths::named(&source.product) {
        for (rule, table) in [("door", DOORS), ("refused", REFUSED)] {
            let Some((_, why)) = table.iter().find(|(path, _)| is_under(&named.path, path)) else {
                continue;
            };
            if !is_excepted(&source.path, &named.path) {
                let text = format!("`{}`: {why}", named.path);
                findings.push(finding(source, &named, rule, text));
            }
        }
    }
    findings
}

/// Code that runs in a broker: not tests, examples, benchmarks or build scripts.
fn is_product(source: &Source) -> bool {
    let in_crate = PRODUCT.contains(&source.crate_name());
    in_crate && source.path.contains("/src/") && !source.is_test()
}

fn finding(source: &Source, named: &Named, rule: &'static str, text: String) -> Finding {
    Finding {
        path: source.path.clone(),
        line: named.line,
        rule,
        text,
    }
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_excepted(file: &str, path: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(place, allowed, _)| file.starts_with(place) && path.starts_with(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source::new(path, text))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn each_door_is_found_in_product_code() {
        for (path, _) in DOORS {
            let text = format!("fn f() {{ {path}::x(); }}");
            assert_eq!(rules("wal/src/log.rs", &text), ["door"], "{path}");
            let text = format!("use {path};");
            assert_eq!(rules("broker/src/node.rs", &text), ["door"], "{path}");
        }
    }

    #[test]
    fn each_refused_path_is_found_in_product_code() {
        for (path, _) in REFUSED {
            let text = format!("use {path};");
            assert_eq!(rules("wal/src/log.rs", &text), ["refused"], "{path}");
        }
    }

    #[test]
    fn a_clock_is_found_through_an_import() {
        let text = "use std::time::{Duration, Instant};\nfn f() { let t = Instant::now(); }";
        assert_eq!(rules("storage/src/a.rs", text), ["door"]);
        let text = "use tokio::time::Instant;\nfn f() { let t = Instant::now(); }";
        assert!(rules("storage/src/a.rs", text).is_empty());
    }

    #[test]
    fn the_real_side_tests_and_tools_are_free() {
        let text = "use std::fs;";
        for path in ["env/src/real.rs", "env/src/real/disk.rs", "xtask/src/a.rs"] {
            assert!(rules(path, text).is_empty(), "{path}");
        }
        for path in [
            "tests/sim/world.rs",
            "wal/src/log/tests.rs",
            "wal/tests/a.rs",
        ] {
            assert!(rules(path, text).is_empty(), "{path}");
        }
        assert!(rules("wal/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }").is_empty());
        assert_eq!(rules("env/src/disk.rs", text), ["door"]);
    }

    #[test]
    fn main_and_config_may_read_variables_but_no_files() {
        let text = "fn f() { std::env::var(\"A\"); }";
        assert!(rules("broker/src/main.rs", text).is_empty());
        assert!(rules("broker/src/config/load.rs", text).is_empty());
        assert_eq!(rules("broker/src/node.rs", text), ["door"]);
        assert_eq!(rules("broker/src/config.rs", "use std::fs;"), ["door"]);
    }

    #[test]
    fn addresses_and_names_in_comments_are_no_doors() {
        assert!(rules("wal/src/a.rs", "use std::net::SocketAddr; // not std::fs").is_empty());
        assert!(rules("wal/src/a.rs", "fn f() { random::get(); operand::x(); }").is_empty());
    }

    #[test]
    fn private_libraries_stay_in_their_place_even_in_tests() {
        assert_eq!(
            rules("broker/src/a.rs", "use kafka_protocol::messages;"),
            ["library"]
        );
        assert!(rules("protocol/src/a.rs", "use kafka_protocol::messages;").is_empty());
        assert_eq!(
            rules("controller/src/a.rs", "use openraft::Raft;"),
            ["library"]
        );
        assert!(rules("controller/src/raft/log.rs", "use openraft::Raft;").is_empty());
        assert_eq!(
            rules("tests/src/a.rs", "fn f() { openraft::x(); }"),
            ["library"]
        );
    }
}
