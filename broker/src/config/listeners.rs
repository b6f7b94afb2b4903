//! Named listeners and what clients are told of them.

use std::collections::BTreeMap;

use super::kind::items;
use super::layers::Values;

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

/// One Kafka listener.
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

/// Reads `listeners`, `advertised.listeners` and the protocol map. Problems go to `wrong` with
/// the name that they concern.
pub(super) fn read(
    values: &Values,
    wrong: &mut Vec<(&'static str, String)>,
) -> Vec<ListenerConfig> {
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
    if listeners.is_empty() {
        wrong.push(("listeners", "a broker needs one at least".to_owned()));
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
    listeners
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
    use super::super::layers::Source;
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> (Vec<ListenerConfig>, Vec<(&'static str, String)>) {
        let mut values = Values::defaults();
        let mut problems = Vec::new();
        for (name, value) in pairs {
            values.set(name, value, Source::Flag("--set".to_owned()), &mut problems);
        }
        assert!(problems.is_empty(), "{problems:?}");
        let mut wrong = Vec::new();
        (read(&values, &mut wrong), wrong)
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
        ] {
            let (_, wrong) = parse(&[(key, value)]);
            assert!(
                wrong.iter().any(|(name, _)| *name == key),
                "{key}={value}: {wrong:?}"
            );
        }
    }
}
