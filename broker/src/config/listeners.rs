//! Named listeners and what clients are told of them.

use std::collections::BTreeMap;

use controller::limits::MAX_LISTENERS;

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
    /// What clients of one zone are told instead, by zone.
    pub zones: BTreeMap<String, HostPort>,
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
    let (mut advertised, mut zones) = advertised(values, wrong);
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for (name, zone, bind) in addresses(values, "listeners", wrong) {
        if zone.is_some() {
            let message = "a zone's address is told, not bound: it stands in advertised.listeners";
            wrong.push(("listeners", format!("{name}: {message}")));
            continue;
        }
        if listeners.iter().any(|listener| listener.name == name) {
            wrong.push(("listeners", format!("{name} twice")));
            continue;
        }
        let protocol = protocols
            .remove(&name)
            .unwrap_or_else(|| "PLAINTEXT".to_owned());
        listeners.push(ListenerConfig {
            advertised: advertised.remove(&name),
            zones: zones.remove(&name).unwrap_or_default(),
            name,
            protocol,
            bind,
        });
    }
    for name in advertised.keys().chain(zones.keys()) {
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
    let told: usize = listeners.iter().map(|one| 1 + one.zones.len()).sum();
    if told > MAX_LISTENERS {
        let message = format!("{told} addresses with those of zones, {MAX_LISTENERS} at most");
        wrong.push(("advertised.listeners", message));
    }
    (listeners, controllers)
}

type ByName = BTreeMap<String, HostPort>;

/// What clients are told: by listener, and by listener and zone.
fn advertised(
    values: &Values,
    wrong: &mut Vec<(&'static str, String)>,
) -> (ByName, BTreeMap<String, ByName>) {
    let key = "advertised.listeners";
    let (mut all, mut zones) = (ByName::new(), BTreeMap::<String, ByName>::new());
    for (name, zone, address) in addresses(values, key, wrong) {
        let clients_cannot = address.port == 0 || matches!(address.host.as_str(), "" | "0.0.0.0");
        if clients_cannot {
            wrong.push((key, format!("clients cannot connect to {address}")));
            continue;
        }
        let earlier = match &zone {
            Some(zone) if crate::zones::of_rack(zone).is_none() => {
                wrong.push((key, format!("{zone:?} is no zone's name")));
                continue;
            }
            Some(zone) => zones
                .entry(name.clone())
                .or_default()
                .insert(zone.clone(), address),
            None => all.insert(name.clone(), address),
        };
        if earlier.is_some() {
            let zone = zone.map(|zone| format!("@{zone}")).unwrap_or_default();
            wrong.push((key, format!("{name}{zone} twice")));
        }
    }
    (all, zones)
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
    if found.advertised.is_some() || !found.zones.is_empty() {
        let message = format!(
            "{name} is the controllers' listener (controller.listener.names), which clients are \
             not told: other nodes find it by controller.quorum.voters"
        );
        wrong.push(("advertised.listeners", message));
    }
    Some(found)
}

/// `NAME://HOST:PORT` or `NAME@ZONE://HOST:PORT` between commas. Names are in capitals, zones as
/// they are.
fn addresses(
    values: &Values,
    key: &'static str,
    wrong: &mut Vec<(&'static str, String)>,
) -> Vec<(String, Option<String>, HostPort)> {
    let mut found = Vec::new();
    for item in items(values.text(key)) {
        let Some((name, address)) = item.split_once("://") else {
            wrong.push((key, format!("{item:?} is not NAME://HOST:PORT")));
            continue;
        };
        match HostPort::parse(address) {
            Ok(address) => {
                let (name, zone) = match name.split_once('@') {
                    Some((name, zone)) => (name, Some(zone.to_owned())),
                    None => (name, None),
                };
                found.push((name.to_uppercase(), zone, address));
            }
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
    fn a_listener_has_addresses_of_its_own_for_zones() {
        let (listeners, wrong) = parse(&[
            ("listeners", "PLAINTEXT://:9092,OTHER://:9093"),
            (
                "advertised.listeners",
                "PLAINTEXT://b1:9092,plaintext@az-A://b1.a:9092,PLAINTEXT@az-b://b1.b:19092",
            ),
        ]);
        assert_eq!(wrong, []);
        assert_eq!(listeners[0].advertised.as_ref().unwrap().host, "b1");
        let zones = listeners[0].zones.iter();
        let zones: Vec<_> = zones.map(|(zone, at)| format!("{zone} {at}")).collect();
        assert_eq!(zones, ["az-A b1.a:9092", "az-b b1.b:19092"]);
        assert!(listeners[1].zones.is_empty());
        for (key, value) in [
            (
                "advertised.listeners",
                "PLAINTEXT@a://h:1,PLAINTEXT@a://h:2",
            ),
            ("advertised.listeners", "PLAINTEXT@://h:1"),
            ("advertised.listeners", "PLAINTEXT@a b://h:1"),
            ("advertised.listeners", "OTHER@a://h:1"),
            ("listeners", "PLAINTEXT@a://h:1"),
        ] {
            let (_, wrong) = parse(&[(key, value)]);
            let one: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
            assert_eq!(one, [key], "{value}: {wrong:?}");
        }
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
