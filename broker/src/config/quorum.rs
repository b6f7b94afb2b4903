//! Roles, and who the controllers are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use controller::TlsFiles;
use controller::limits::MAX_VOTERS;
use protocol::NodeId;

use super::kind::items;
use super::layers::{Source, Values};
use super::listeners::{HostPort, ListenerConfig};

/// Problems with the name that each concerns.
type Wrong = Vec<(&'static str, String)>;

const ROLES: &str = "process.roles";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const TLS: [&str; 3] = [
    "controller.tls.certificate.path",
    "controller.tls.key.path",
    "controller.tls.ca.path",
];

/// What a process is: one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Serves Kafka clients.
    pub broker: bool,
    /// Votes among the controllers.
    pub controller: bool,
}

/// The controllers, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The voters that a new cluster begins with; empty means this node alone.
    pub voters: BTreeMap<NodeId, HostPort>,
    /// Where a broker without a voter finds controllers.
    pub bootstrap: Vec<HostPort>,
    /// Where other nodes' calls come in.
    pub listener: Option<ListenerConfig>,
    /// Mutual TLS for all calls between nodes.
    pub tls: Option<TlsFiles>,
}

impl Quorum {
    /// Whether the cluster is more than this node.
    pub fn is_shared(&self, roles: Roles) -> bool {
        self.voters.len() > 1 || !roles.controller
    }
}

/// Reads roles. Never none: that is told as wrong.
pub(super) fn roles(values: &Values, wrong: &mut Wrong) -> Roles {
    let named: Vec<&str> = items(values.text(ROLES)).collect();
    if named.is_empty() {
        let message = "broker, controller, or both must be named".to_owned();
        wrong.push((ROLES, message));
    }
    Roles {
        broker: named.is_empty() || named.contains(&"broker"),
        controller: named.is_empty() || named.contains(&"controller"),
    }
}

/// Reads who the controllers are, and checks that roles and listeners fit. Kafka's listeners that
/// nobody asked for are taken away from a process that is no broker.
pub(super) fn read(
    values: &Values,
    (node, roles): (NodeId, Roles),
    kafka: &mut Vec<ListenerConfig>,
    listener: Option<ListenerConfig>,
    wrong: &mut Wrong,
) -> Quorum {
    let before = wrong.len();
    let quorum = Quorum {
        voters: read_voters(values.text(VOTERS), wrong),
        bootstrap: bootstrap(values, wrong),
        listener,
        tls: tls(values, wrong),
    };
    // What cannot be read is one problem, and no further ones.
    if wrong.len() == before {
        if roles.controller {
            check_voter(&quorum, node, wrong);
        } else {
            check_broker(&quorum, node, wrong);
        }
    }
    if roles.broker && kafka.is_empty() {
        let message = match &quorum.listener {
            Some(listener) => format!(
                "a broker needs one at least besides {}, which is the controllers' \
                 (controller.listener.names): add PLAINTEXT://HOST:PORT",
                listener.name
            ),
            None => "a broker needs one at least".to_owned(),
        };
        wrong.push(("listeners", message));
    }
    if !roles.broker {
        if values.get("listeners").source != Source::Default && !kafka.is_empty() {
            let names: Vec<&str> = kafka.iter().map(|one| one.name.as_str()).collect();
            let message = format!(
                "{} is for Kafka clients, and this process is no broker: take it away, or add \
                 broker to process.roles",
                names.join(", ")
            );
            wrong.push(("listeners", message));
        }
        kafka.clear();
    }
    quorum
}

/// Reads a list of voters, as `controller.quorum.voters` names them.
///
/// # Errors
/// The first thing that is wrong.
pub fn voters(text: &str) -> Result<BTreeMap<NodeId, HostPort>, String> {
    let mut wrong = Wrong::new();
    let found = read_voters(text, &mut wrong);
    match wrong.into_iter().next() {
        Some((_, message)) => Err(message),
        None => Ok(found),
    }
}

fn read_voters(text: &str, wrong: &mut Wrong) -> BTreeMap<NodeId, HostPort> {
    let (mut found, mut addresses) = (BTreeMap::new(), BTreeSet::new());
    for item in items(text) {
        let (id, address) = match voter(item) {
            Ok(voter) => voter,
            Err(message) => {
                wrong.push((VOTERS, message));
                continue;
            }
        };
        if !addresses.insert(address.to_string()) {
            wrong.push((VOTERS, format!("{address} is named twice")));
        }
        if found.insert(id, address).is_some() {
            let message = format!("voter {id} is named twice: each has an id of its own");
            wrong.push((VOTERS, message));
        }
    }
    if found.len() > MAX_VOTERS {
        let message = format!("{} voters: {MAX_VOTERS} are the most", found.len());
        wrong.push((VOTERS, message));
    }
    found
}

/// Reads `ID@HOST:PORT`.
fn voter(item: &str) -> Result<(NodeId, HostPort), String> {
    let (id, address) = item
        .split_once('@')
        .ok_or_else(|| format!("{item:?} is not ID@HOST:PORT"))?;
    let id = id
        .parse::<i32>()
        .ok()
        .filter(|id| *id >= 0)
        .ok_or_else(|| format!("{id:?} in {item:?} is no node.id"))?;
    Ok((NodeId(id), reachable(address)?))
}

/// Reads an address that other nodes can connect to.
fn reachable(address: &str) -> Result<HostPort, String> {
    let address = HostPort::parse(address)?;
    if address.port == 0 || matches!(address.host.as_str(), "" | "0.0.0.0" | "::") {
        return Err(format!("nobody can connect to {address}"));
    }
    Ok(address)
}

fn bootstrap(values: &Values, wrong: &mut Wrong) -> Vec<HostPort> {
    let mut found = Vec::new();
    for item in items(values.text(BOOTSTRAP)) {
        match reachable(item) {
            Ok(address) => found.push(address),
            Err(message) => wrong.push((BOOTSTRAP, message)),
        }
    }
    found
}

/// All three paths, or none.
fn tls(values: &Values, wrong: &mut Wrong) -> Option<TlsFiles> {
    let [certificate, key, ca] = TLS.map(|name| values.text(name));
    let missing: Vec<&str> = TLS
        .into_iter()
        .filter(|name| values.text(name).is_empty())
        .collect();
    if missing.len() == TLS.len() {
        return None;
    }
    if let Some(first) = missing.first() {
        let message = format!(
            "TLS between nodes needs all three of {}: {} set",
            TLS.join(", "),
            match missing.as_slice() {
                [one] => format!("{one} is not"),
                more => format!("{} are not", more.join(" and ")),
            }
        );
        wrong.push((*first, message));
        return None;
    }
    Some(TlsFiles {
        certificate: PathBuf::from(certificate),
        key: PathBuf::from(key),
        ca: PathBuf::from(ca),
    })
}

fn check_voter(quorum: &Quorum, node: NodeId, wrong: &mut Wrong) {
    let Quorum {
        voters, listener, ..
    } = quorum;
    if voters.is_empty() && !quorum.bootstrap.is_empty() {
        let message = format!(
            "role controller, and no voters named: this node would make a cluster of its own. Name \
             the voters in {VOTERS}, or set {ROLES} = \"broker\""
        );
        wrong.push((BOOTSTRAP, message));
    }
    if !voters.is_empty() && !voters.contains_key(&node) {
        let message = format!(
            "this node is {node} (node.id) and has the role controller, and is not among the \
             voters: add {node}@HOST:PORT, or set {ROLES} = \"broker\""
        );
        wrong.push((VOTERS, message));
    }
    if voters.len() > 1 && listener.is_none() {
        let port = voters.get(&node).map_or(9093, |own| own.port);
        let message = format!(
            "{} voters, and nowhere to listen for the others' calls: add CONTROLLER://HOST:{port} \
             (the name is controller.listener.names)",
            voters.len()
        );
        wrong.push(("listeners", message));
    }
}

fn check_broker(quorum: &Quorum, node: NodeId, wrong: &mut Wrong) {
    if quorum.voters.is_empty() && quorum.bootstrap.is_empty() {
        let message = format!(
            "a broker without the role controller needs to know where controllers are: set \
             {BOOTSTRAP} = \"HOST:PORT,…\""
        );
        wrong.push((ROLES, message));
    }
    if quorum.voters.contains_key(&node) {
        let message = format!(
            "node {node} (node.id) is among the voters ({VOTERS}), and has not the role \
             controller: add it, or give this node an id of its own"
        );
        wrong.push((ROLES, message));
    }
    if let Some(listener) = &quorum.listener {
        let message = format!(
            "{} is the controllers' (controller.listener.names), and this process is none: take it \
             away",
            listener.name
        );
        wrong.push(("listeners", message));
    }
}

/// What works, and is hardly meant.
pub(super) fn warnings(
    values: &Values,
    (node, roles): (NodeId, Roles),
    quorum: &Quorum,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if !roles.broker && values.text("object.store.url").is_empty() {
        let message = "object.store.url is not set: this controller writes no checkpoints of the \
                       cluster's state";
        warnings.push(message.to_owned());
    }
    if quorum.tls.is_some() && roles.controller && quorum.listener.is_none() {
        let message = "controller.tls.*: without effect, since this node is alone and listens for \
                       no others";
        warnings.push(message.to_owned());
    }
    let count = quorum.voters.len();
    if count > 0 && count.is_multiple_of(2) {
        warnings.push(format!(
            "{VOTERS}: {count} voters bear the loss of no more of them than {} do: an odd number \
             is meant",
            count - 1
        ));
    }
    if let (Some(own), Some(listener)) = (quorum.voters.get(&node), &quorum.listener)
        && listener.bind.port != 0
        && own.port != listener.bind.port
    {
        warnings.push(format!(
            "{VOTERS}: the others connect to {own}, and {} listens on port {}",
            listener.name, listener.bind.port
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const THREE: (&str, &str) = (VOTERS, "1@127.0.0.1:9093,2@127.0.0.1:9193,3@[::1]:9293");
    const LISTENERS: (&str, &str) = (
        "listeners",
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
    );
    const STORE: (&str, &str) = ("object.store.url", "/shared");

    fn problems(settings: &[(&str, &str)]) -> String {
        Config::with(settings).unwrap_err().to_string()
    }

    #[test]
    fn a_node_of_three_knows_the_others_and_listens_for_them() {
        let config = Config::with(&[THREE, LISTENERS, STORE]).unwrap();
        assert_eq!(config.quorum.voters.len(), 3);
        assert_eq!(config.quorum.voters[&NodeId(3)].to_string(), "[::1]:9293");
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.quorum.listener.unwrap().name, "CONTROLLER");
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_work_names_cause_and_remedy() {
        for (settings, cause) in [
            (vec![THREE, STORE], "add CONTROLLER://HOST:9093"),
            (
                vec![THREE, LISTENERS, STORE, ("node.id", "4")],
                "add 4@HOST:PORT",
            ),
            (vec![THREE, LISTENERS], "object.store.url"),
            (
                vec![(VOTERS, "1@h:1,1@h:2"), LISTENERS, STORE],
                "voter 1 is named twice",
            ),
            (
                vec![(VOTERS, "1@h:1,2@h:1"), LISTENERS, STORE],
                "h:1 is named twice",
            ),
            (vec![(VOTERS, "1@h"), LISTENERS, STORE], "no :PORT"),
            (vec![(VOTERS, "h:1"), LISTENERS, STORE], "ID@HOST:PORT"),
            (vec![(VOTERS, "-1@h:1"), LISTENERS, STORE], "is no node.id"),
            (
                vec![(VOTERS, "1@0.0.0.0:1"), LISTENERS, STORE],
                "nobody can connect",
            ),
            (vec![(BOOTSTRAP, "h:1"), STORE], "a cluster of its own"),
            (vec![(ROLES, "")], "must be named"),
            (
                vec![(ROLES, "broker"), STORE],
                "needs to know where controllers are",
            ),
            (
                vec![(ROLES, "broker"), THREE, STORE],
                "has not the role controller",
            ),
            (
                vec![(ROLES, "broker"), (BOOTSTRAP, "h:1"), LISTENERS, STORE],
                "take it away",
            ),
            (
                vec![(ROLES, "broker"), (BOOTSTRAP, "h:1")],
                "object.store.url",
            ),
            (
                vec![(ROLES, "controller"), LISTENERS, THREE, STORE],
                "PLAINTEXT is for Kafka clients",
            ),
            (
                vec![("listeners", "CONTROLLER://h:1")],
                "a broker needs one at least besides CONTROLLER",
            ),
        ] {
            let text = problems(&settings);
            assert!(text.contains(cause), "{settings:?}: {text}");
            assert!(text.contains("1 problem"), "{settings:?}: {text}");
        }
    }

    #[test]
    fn tls_is_all_or_nothing_and_nothing_when_alone() {
        let paths = TLS.map(|name| (name, "/tls/x.pem"));
        let three = [THREE, LISTENERS, STORE];
        let config = Config::with(&[three.as_slice(), &paths].concat()).unwrap();
        let files = config.quorum.tls.unwrap();
        assert_eq!(files.key, PathBuf::from("/tls/x.pem"));
        assert_eq!(config.warnings, Vec::<String>::new());
        let text = problems(&[three.as_slice(), &paths[..1]].concat());
        let cause = "controller.tls.key.path and controller.tls.ca.path are not set";
        assert!(text.contains(cause), "{text}");
        let text = problems(&[three.as_slice(), &paths[1..]].concat());
        assert!(text.contains("certificate.path is not set"), "{text}");
        let alone = Config::with(&paths).unwrap();
        assert!(
            alone.warnings[0].contains("without effect"),
            "{:?}",
            alone.warnings
        );
    }

    #[test]
    fn even_numbers_and_other_ports_are_warned_of() {
        let two = (VOTERS, "1@127.0.0.1:9193,2@127.0.0.1:9293");
        let config = Config::with(&[two, LISTENERS, STORE]).unwrap();
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    }

    #[test]
    fn a_controller_alone_needs_no_kafka_listener_and_no_store_of_all() {
        let own = ("listeners", "CONTROLLER://127.0.0.1:9093");
        let config = Config::with(&[(ROLES, "controller"), own]).unwrap();
        assert!(config.listeners.is_empty() && !config.roles.broker);
        assert!(config.warnings[0].contains("no checkpoints"));
        let config = Config::with(&[(ROLES, "broker"), (BOOTSTRAP, "h:1"), STORE]).unwrap();
        assert!(!config.roles.controller);
        assert_eq!(config.quorum.bootstrap.len(), 1);
    }
}
