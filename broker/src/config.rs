//! The broker's configuration: one flat namespace of dotted names.
//!
//! ```text
//! table's defaults ─▶ TOML file ─▶ environment ─▶ flags ─▶ Values ─▶ Config
//! ```
//!
//! **Invariant:** everything wrong is reported at once, each with its place; an unknown name is
//! refused.

pub mod keys;
mod kind;
mod layers;
mod listeners;
mod quorum;
pub mod topics;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::NodeId;

pub use keys::Key;
pub use kind::{Kind, items};
pub use layers::{Problem, Source, Value, Values};
pub use listeners::{HostPort, ListenerConfig};
pub use quorum::{Quorum, Roles, voters};

/// Where records become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalBackend {
    /// Files on this machine.
    Disk,
    /// The object store.
    Object,
    /// Nowhere.
    Memory,
}

impl WalBackend {
    /// What it guarantees, for a person.
    pub fn guarantee(self) -> &'static str {
        match self {
            Self::Disk => "disk: every acknowledged record is synced to this machine's disk first",
            Self::Object => "object: every acknowledged record is in the object store first",
            Self::Memory => {
                "memory: NOTHING is durable before it is uploaded; for tests and benchmarks only"
            }
        }
    }
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every name with its value and source.
    pub values: Values,
    /// This node.
    pub node_id: NodeId,
    /// What it is.
    pub roles: Roles,
    /// Who the controllers are.
    pub quorum: Quorum,
    /// Where local data lies.
    pub data_dir: PathBuf,
    /// Kafka listeners, in order of configuration.
    pub listeners: Vec<ListenerConfig>,
    /// The admin server.
    pub admin: HostPort,
    /// The WAL.
    pub wal: WalBackend,
    /// The object store, complete.
    pub object_store_url: String,
    /// What works, and is hardly meant.
    pub warnings: Vec<String>,
}

/// What is wrong with a configuration: everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s):", self.0.len())?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What the command line says about configuration, in its order.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: path and content.
    pub file: Option<(String, String)>,
    /// Flag as given, name that it sets, value.
    pub settings: Vec<(String, String, String)>,
    /// What was wrong with the flags themselves.
    pub problems: Vec<Problem>,
}

impl Config {
    /// Lays defaults, file, environment and flags over each other and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(
        flags: Flags,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let mut values = Values::defaults();
        let mut problems = flags.problems;
        if let Some((path, content)) = &flags.file {
            values.lay_file(path, content, &mut problems);
        }
        values.lay_environment(environment, &mut problems);
        for (flag, name, value) in &flags.settings {
            values.set(name, value, Source::Flag(flag.clone()), &mut problems);
        }
        Self::check(values, problems)
    }

    /// The defaults with `settings` over them: for tests and tools.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn with(settings: &[(&str, &str)]) -> Result<Self, Problems> {
        let settings = settings
            .iter()
            .map(|(name, value)| ("--set".to_owned(), (*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::load(
            Flags {
                settings,
                ..Flags::default()
            },
            std::iter::empty(),
        )
    }

    fn check(values: Values, mut problems: Vec<Problem>) -> Result<Self, Problems> {
        let mut wrong: Vec<(&'static str, String)> = Vec::new();
        let (mut listeners, controllers) = listeners::read(&values, &mut wrong);
        let admin = HostPort::parse(values.text("admin.listen")).unwrap_or_else(|message| {
            wrong.push(("admin.listen", message));
            HostPort {
                host: String::new(),
                port: 0,
            }
        });
        let data_dir = data_dir(&values, &mut wrong);
        let roles = quorum::roles(&values, &mut wrong);
        let node_id = node_id(&values, &mut wrong);
        let node = (node_id, roles);
        let quorum = quorum::read(&values, node, &mut listeners, controllers, &mut wrong);
        // A frame must fit while as much again is held by what was read before it.
        let (budget, frame) = (
            values.number("memory.budget.bytes"),
            values.number("socket.request.max.bytes"),
        );
        if budget <= 2 * frame {
            let message = format!(
                "{budget} must exceed twice the largest request (socket.request.max.bytes, {frame})"
            );
            wrong.push(("memory.budget.bytes", message));
        }
        let object_store_url = match values.text("object.store.url") {
            "" => absolute(&data_dir, "objects"),
            url => url.to_owned(),
        };
        check_shared(&values, &quorum, roles, &mut wrong);
        let wal = match values.text("wal.backend") {
            "object" => WalBackend::Object,
            "memory" => WalBackend::Memory,
            _ => WalBackend::Disk,
        };
        if wal == WalBackend::Object && object_store_url.starts_with("memory:") {
            let message = "object over an object store that is memory would lose every record";
            wrong.push(("wal.backend", message.to_owned()));
        }
        problems.extend(wrong.into_iter().map(|(name, message)| Problem {
            source: values.get(name).source.clone(),
            message: format!("{name}: {message}"),
        }));
        if problems.is_empty() {
            Ok(Self {
                warnings: quorum::warnings(&values, node, &quorum),
                values,
                node_id,
                roles,
                quorum,
                data_dir,
                listeners,
                admin,
                wal,
                object_store_url,
            })
        } else {
            Err(Problems(problems))
        }
    }

    /// A name that is a number of milliseconds, as time. Negative is `None`.
    pub fn time(&self, name: &str) -> Option<Duration> {
        u64::try_from(self.values.number(name))
            .ok()
            .map(Duration::from_millis)
    }

    /// A name that is a count or size and never negative.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.values.number(name)).unwrap_or(0)
    }
}

fn absolute(data_dir: &Path, below: &str) -> String {
    data_dir.join(below).to_string_lossy().into_owned()
}

fn data_dir(values: &Values, wrong: &mut Vec<(&'static str, String)>) -> PathBuf {
    let set = |name: &str| values.get(name).source != Source::Default;
    let kafkas = ["log.dirs", "log.dir"];
    let name = if set("data.dir") {
        None
    } else {
        kafkas.into_iter().find(|name| set(name))
    };
    let text = values.text(name.unwrap_or("data.dir"));
    if text.is_empty() {
        wrong.push((
            name.unwrap_or("data.dir"),
            "a directory must be named".to_owned(),
        ));
    } else if name.is_some() && items(text).count() > 1 {
        wrong.push((
            name.unwrap_or("data.dir"),
            "one directory, not several".to_owned(),
        ));
    }
    PathBuf::from(text)
}

/// Several nodes are one cluster only over one object store.
fn check_shared(
    values: &Values,
    quorum: &Quorum,
    roles: Roles,
    wrong: &mut Vec<(&'static str, String)>,
) {
    let key = "object.store.url";
    let url = values.text(key);
    if roles.broker && quorum.is_shared(roles) && (url.is_empty() || url.starts_with("memory:")) {
        let message = "the nodes of a cluster share one object store: name the same bucket or \
                       directory on each"
            .to_owned();
        wrong.push((key, message));
    }
}

fn node_id(values: &Values, wrong: &mut Vec<(&'static str, String)>) -> NodeId {
    let (node, broker) = (values.number("node.id"), values.number("broker.id"));
    let named = values.get("node.id").source != Source::Default;
    if broker >= 0 && named && node != broker {
        wrong.push(("broker.id", format!("{broker} contradicts node.id {node}")));
    }
    let id = if broker >= 0 && !named { broker } else { node };
    NodeId(i32::try_from(id).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_stand_alone() {
        let config = Config::load(Flags::default(), std::iter::empty()).unwrap();
        assert_eq!(config.node_id, NodeId(1));
        assert_eq!(config.wal, WalBackend::Disk);
        assert_eq!(config.object_store_url, "headwater-data/objects");
        assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.1:9092");
        assert_eq!(config.time("lease.ms"), Some(Duration::from_secs(6)));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let flags = Flags {
            file: Some((
                "f.toml".into(),
                "node.id = 2\nlease.ms = 700\nnum.partitions = 3".into(),
            )),
            settings: vec![("--set".into(), "node.id".into(), "4".into())],
            problems: Vec::new(),
        };
        let environment = [("HEADWATER_NODE_ID", "3"), ("HEADWATER_LEASE_MS", "800")]
            .map(|(k, v)| (k.into(), v.into()));
        let config = Config::load(flags, environment.into_iter()).unwrap();
        assert_eq!(config.node_id, NodeId(4));
        assert_eq!(config.values.number("lease.ms"), 800);
        assert_eq!(
            config.values.get("num.partitions").source.to_string(),
            "f.toml:3"
        );
    }

    #[test]
    fn contradictions_are_told_all_at_once() {
        let error = Config::with(&[
            ("node.id", "1"),
            ("broker.id", "2"),
            ("memory.budget.bytes", "268435456"),
            ("socket.request.max.bytes", "104857600"),
            ("process.roles", "broker"),
            ("admin.listen", "nowhere"),
            ("log.dirs", "/a,/b"),
            ("object.store.url", "memory:"),
            ("wal.backend", "object"),
            ("wal.bakend", "disk"),
        ])
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "broker.id",
            "controllers are",
            "admin.listen",
            "log.dirs",
            "wal.backend: object",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            text.contains("wal.bakend is not known; is wal.backend meant?"),
            "{text}"
        );
        assert!(text.contains("share one object store"), "{text}");
        assert_eq!(error.0.len(), 7, "{text}");
    }

    #[test]
    fn the_budget_must_hold_two_of_the_largest_frames() {
        // The smallest budget holds two frames of the default limit, and then some.
        assert!(Config::with(&[("memory.budget.bytes", "268435456")]).is_ok());
        assert!(Config::with(&[("memory.budget.bytes", "209715200")]).is_err());
    }
}
