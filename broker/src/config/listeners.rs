//! Named listeners and what clients are told of them.

use std::collections::BTreeMap;

use super::kind::items;
use super::layers::{Source, Values};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; empty means every interface.
    pub host: String,
    /// Port; 0 means any free one.
    pub port: u16,
}

impl HostPort {
    /// Reads `HOST:PORT`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} has no :PORT at its end"))?;
        let port = port
            .parse()
            .map_err(|_| format!("{port:?} is not a port"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self { host, port })
    }

    /// The host to bind: every interface when none is named.
    pub fn bind_host(&self) -> &str {
        if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        }
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name, upper case.
    pub name: String,
    /// Security protocol. PLAINTEXT is the only one yet.
    pub protocol: String,
    /// Where to bind.
    pub bind: HostPort,
    /// What clients are told; `None` means as bound.
    pub advertised: Option<HostPort>,
}

/// Reads `listeners`, `advertised.listeners` and the protocol map: Kafka's, and the controllers'.
/// Problems go to `wrong` with
/// the name that they concern.
pub(super) fn read(
    values: &Values,
    wrong: &mut Vec<(&'static str, String)>,
) -> (Vec<ListenerConfig>, Option<ListenerConfig>) {
    let mut protocols = BTreeMap::new();
    for item in items(values.text("listener.security.protocol.map")) {
        let name = "listener.security.protocol.map";
        match item.split_once(':') {
            Some((listener, "PLAINTEXT")) => {
                protocols.insert(listener.to_uppercase(), "PLAINTEXT".to_owned());
            }
            Some((_, other)) => wrong.push((name, format!("{other} is not served; PLAINTEXT is"))),
            None => wrong.push((name, format!("{item:?} is not NAME:PROTOCOL"))),
        }
    }
    let mut advertised = BTreeMap::new();
    for (name, address) in addresses(values, "advertised.listeners", wrong) {
        let clients_cannot = address.port == 0 || matches!(address.host.as_str(), "" | "0.0.0.0");
        if clients_cannot {
            let message = format!("clients cannot connect to {address}");
            wrong.push(("advertised.listeners", message));
        } else if advertised.insert(name.clone(), address).is_some() {
            wrong.push(("advertised.listeners", format!("{name} twice")));
        }
    }
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for (name, bind) in addresses(values, "listeners", wrong) {
        if listeners.iter().any(|listener| listener.name == name) {
            wrong.push(("listeners", format!("{name} twice")));
            continue;
        }
        let protocol = protocols
            .remove(&name)
            .unwrap_or_else(|| "PLAINTEXT".to_owned());
        let advertised = advertised.remove(&name);
        listeners.push(ListenerConfig {
            name,
            protocol,
            bind,
            advertised,
        });
    }
    for name in advertised.keys() {
        wrong.push((
            "advertised.listeners",
            format!("{name} is not among listeners"),
        ));
    }
    for name in protocols.keys() {
        let message = format!("{name} is not among listeners");
        wrong.push(("listener.security.protocol.map", message));
    }
    let controllers = take_controllers(values, &mut listeners, wrong);
    (listeners, controllers)
}

/// The one on which other nodes' calls come in; it is none of Kafka's.
fn take_controllers(
    values: &Values,
    listeners: &mut Vec<ListenerConfig>,
    wrong: &mut Vec<(&'static str, String)>,
) -> Option<ListenerConfig> {
    let key = "controller.listener.names";
    let name = values.text(key).to_uppercase();
    if name.contains(',') {
        let message = format!("{name}: one name is taken, not several");
        wrong.push((key, message));
        return None;
    }
    let Some(at) = listeners.iter().position(|one| one.name == name) else {
        if values.get(key).source != Source::Default {
            let message = format!("{name} is not among listeners: add {name}://HOST:PORT there");
            wrong.push((key, message));
        }
        return None;
    };
    let found = listeners.remove(at);
    if found.advertised.is_some() {
        let message = format!(
            "{name} is the controllers' listener (controller.listener.names), which clients are \
             not told: other nodes find it by controller.quorum.voters"
        );
        wrong.push(("advertised.listeners", message));
    }
    Some(found)
}

fn addresses(
    values: &Values,
    key: &'static str,
    wrong: &mut Vec<(&'static str, String)>,
) -> Vec<(String, HostPort)> {
    let mut found = Vec::new();
    for item in items(values.text(key)) {
        let Some((name, address)) = item.split_once("://") else {
            wrong.push((key, format!("{item:?} is not NAME://HOST:PORT")));
            continue;
        };
        match HostPort::parse(address) {
            Ok(address) => found.push((name.to_uppercase(), address)),
            Err(message) => wrong.push((key, message)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    type Wrong = Vec<(&'static str, String)>;

    fn parse(pairs: &[(&str, &str)]) -> (Vec<ListenerConfig>, Wrong) {
        let (kafka, _, wrong) = parse_all(pairs);
        (kafka, wrong)
    }

    fn parse_all(pairs: &[(&str, &str)]) -> (Vec<ListenerConfig>, Option<ListenerConfig>, Wrong) {
        let mut values = Values::defaults();
        let mut problems = Vec::new();
        for (name, value) in pairs {
            values.set(name, value, Source::Flag("--set".to_owned()), &mut problems);
        }
        assert!(problems.is_empty(), "{problems:?}");
        let mut wrong = Vec::new();
        let (kafka, controllers) = read(&values, &mut wrong);
        (kafka, controllers, wrong)
    }

    #[test]
    fn the_controllers_listener_is_none_of_kafkas() {
        let two = "PLAINTEXT://127.0.0.1:9092,controller://127.0.0.1:9093";
        let (kafka, controllers, wrong) = parse_all(&[("listeners", two)]);
        assert_eq!(wrong, []);
        assert_eq!(kafka.len(), 1);
        assert_eq!(controllers.unwrap().bind.to_string(), "127.0.0.1:9093");
        let renamed = ("controller.listener.names", "PLAINTEXT");
        let (kafka, controllers, wrong) = parse_all(&[("listeners", two), renamed]);
        assert_eq!(wrong, []);
        assert_eq!(kafka[0].name, "CONTROLLER");
        assert_eq!(controllers.unwrap().name, "PLAINTEXT");
    }

    #[test]
    fn listeners_have_names_and_advertised_addresses() {
        let (listeners, wrong) = parse(&[
            ("listeners", "internal://[::1]:9092,EXTERNAL://:9093"),
            ("advertised.listeners", "EXTERNAL://broker.example:19093"),
            ("listener.security.protocol.map", "INTERNAL:PLAINTEXT"),
        ]);
        assert_eq!(wrong, []);
        assert_eq!(listeners[0].name, "INTERNAL");
        assert_eq!(listeners[0].bind.to_string(), "[::1]:9092");
        assert_eq!(listeners[0].advertised, None);
        assert_eq!(listeners[1].bind.bind_host(), "0.0.0.0");
        let told = listeners[1].advertised.as_ref().unwrap();
        assert_eq!((told.host.as_str(), told.port), ("broker.example", 19093));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (key, value) in [
            ("listeners", "A://h:1,A://h:2"),
            ("listeners", "nonsense"),
            ("listeners", "A://h:70000"),
            ("advertised.listeners", "OTHER://h:1"),
            ("advertised.listeners", "PLAINTEXT://0.0.0.0:1"),
            ("listener.security.protocol.map", "PLAINTEXT:SSL"),
            ("controller.listener.names", "ELSEWHERE"),
            ("controller.listener.names", "A,B"),
        ] {
            let (_, wrong) = parse(&[(key, value)]);
            assert!(
                wrong.iter().any(|(name, _)| *name == key),
                "{key}={value}: {wrong:?}"
            );
        }
        let (_, wrong) = parse(&[
            ("listeners", "A://h:1,CONTROLLER://h:2"),
            ("advertised.listeners", "CONTROLLER://h:2"),
        ]);
        assert!(wrong[0].1.contains("clients are not told"), "{wrong:?}");
    }
}
