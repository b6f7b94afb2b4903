//! Which crate may depend on which.

use std::collections::BTreeMap;

use cargo_metadata::Metadata;

use super::Finding;

/// Each crate of the workspace and those below it. Whoever is not named may not be used.
const BELOW: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("env", &[]),
    ("wal", &["protocol", "env"]),
    ("storage", &["wal", "env", "protocol"]),
    ("controller", &["wal", "env", "protocol"]),
    ("coordinators", &["protocol"]),
    (
        "broker",
        &[
            "controller",
            "coordinators",
            "storage",
            "wal",
            "env",
            "protocol",
        ],
    ),
    (
        "tests",
        &[
            "broker",
            "controller",
            "coordinators",
            "storage",
            "wal",
            "env",
            "protocol",
        ],
    ),
    ("xtask", &[]),
];

/// Libraries that one crate alone may know.
const KNOWN_TO: &[(&str, &str)] = &[("kafka-protocol", "protocol"), ("openraft", "controller")];

/// Checks every edge between crates of the workspace, whatever its kind.
pub(crate) fn check(metadata: &Metadata) -> Vec<Finding> {
    let crates: BTreeMap<String, Vec<String>> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let uses = package
                .dependencies
                .iter()
                .map(|used| used.name.clone())
                .collect();
            (package.name.to_string(), uses)
        })
        .collect();
    check_edges(&crates)
}

fn check_edges(crates: &BTreeMap<String, Vec<String>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |name: &str, text: String| {
        let path = format!("{name}/Cargo.toml");
        findings.push(Finding {
            path,
            line: 0,
            rule: "direction",
            text,
        });
    };
    for (name, uses) in crates {
        let Some((_, below)) = BELOW.iter().find(|(known, _)| known == name) else {
            report(
                name,
                format!("tidy does not know where crate `{name}` stands"),
            );
            continue;
        };
        for used in uses {
            if crates.contains_key(used) && !below.contains(&used.as_str()) {
                report(name, format!("`{name}` may not depend on `{used}`"));
            }
            if let Some((_, owner)) = KNOWN_TO.iter().find(|(library, _)| library == used)
                && owner != name
            {
                report(name, format!("only `{owner}` may depend on `{used}`"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(edges: &[(&str, &[&str])]) -> Vec<String> {
        let crates = edges
            .iter()
            .map(|(name, uses)| {
                (
                    name.to_string(),
                    uses.iter().map(|used| used.to_string()).collect(),
                )
            })
            .collect();
        check_edges(&crates)
            .into_iter()
            .map(|finding| finding.text)
            .collect()
    }

    #[test]
    fn downward_edges_are_fine() {
        let edges: &[(&str, &[&str])] = &[
            ("env", &["tokio"]),
            ("wal", &["env"]),
            ("broker", &["wal", "env"]),
        ];
        assert!(findings(edges).is_empty());
    }

    #[test]
    fn upward_and_sideways_edges_are_found() {
        let edges: &[(&str, &[&str])] = &[
            ("env", &["wal"]),
            ("wal", &[]),
            ("storage", &["controller"]),
            ("controller", &[]),
        ];
        assert_eq!(
            findings(edges),
            [
                "`env` may not depend on `wal`",
                "`storage` may not depend on `controller`"
            ]
        );
    }

    #[test]
    fn nobody_depends_on_tests_or_xtask() {
        let edges: &[(&str, &[&str])] = &[
            ("broker", &["tests", "xtask"]),
            ("tests", &[]),
            ("xtask", &[]),
        ];
        assert_eq!(findings(edges).len(), 2);
    }

    #[test]
    fn private_libraries_and_unknown_crates_are_found() {
        assert_eq!(
            findings(&[("broker", &["kafka-protocol", "openraft"]), ("lake", &[])]),
            [
                "only `protocol` may depend on `kafka-protocol`",
                "only `controller` may depend on `openraft`",
                "tidy does not know where crate `lake` stands",
            ]
        );
    }
}
