//! Defaults, then a TOML file, then the environment, then flags; the later wins.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::{self, Key};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Default,
    /// A file; with its line.
    File {
        /// Its path, as given.
        path: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, as given.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that is wrong with the configuration, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub source: Source,
    /// What.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => f.write_str(&self.message),
            source => write!(f, "{source}: {}", self.message),
        }
    }
}

/// An effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As kept; empty for none.
    pub text: String,
    /// Whence.
    pub source: Source,
}

/// Every name of the table with its value.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// The table's defaults.
    pub fn defaults() -> Self {
        let value = |key: &Key| Value {
            text: key.default.to_owned(),
            source: Source::Default,
        };
        Self(
            keys::all()
                .iter()
                .map(|key| (key.name, value(key)))
                .collect(),
        )
    }

    /// The value of a name of the table.
    ///
    /// # Panics
    /// When the name is not in the table: a defect of the caller's.
    pub fn get(&self, name: &str) -> &Value {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("{name} is in the table"))
    }

    /// The text of a name of the table.
    pub fn text(&self, name: &str) -> &str {
        &self.get(name).text
    }

    /// The number of a name of the table that is a number, 0 when it has none.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Whether a name of the table that is a truth is true.
    pub fn truth(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// Every name with its value, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Sets a name, unless it is unknown or the value is wrong: that goes to `problems`.
    pub fn set(&mut self, name: &str, value: &str, source: Source, problems: &mut Vec<Problem>) {
        let Some(key) = keys::find(name) else {
            let names = keys::all().iter().map(|key| key.name);
            let message = match keys::suggest(name, names) {
                Some(near) => format!("{name} is not known; is {near} meant?"),
                None => format!("{name} is not known"),
            };
            problems.push(Problem { source, message });
            return;
        };
        // Empty is "none" wherever that is the default.
        let checked = match value.trim() {
            "" if key.default.is_empty() => Ok(String::new()),
            value => key.kind.check(value),
        };
        match checked {
            Ok(text) => {
                self.0.insert(key.name, Value { text, source });
            }
            Err(message) => {
                problems.push(Problem {
                    source,
                    message: format!("{name}: {message}"),
                });
            }
        }
    }

    /// Lays a TOML file over. Dotted, nested and quoted keys are the same.
    pub fn lay_file(&mut self, path: &str, content: &str, problems: &mut Vec<Problem>) {
        let line = |at: usize| {
            1 + content
                .bytes()
                .take(at)
                .filter(|byte| *byte == b'\n')
                .count()
        };
        let document = match toml::de::DeTable::parse(content) {
            Ok(document) => document,
            Err(error) => {
                let line = error.span().map_or(1, |span| line(span.start));
                let source = Source::File {
                    path: path.to_owned(),
                    line,
                };
                problems.push(Problem {
                    source,
                    message: error.message().to_owned(),
                });
                return;
            }
        };
        let mut flat = Vec::new();
        flatten("", document.get_ref(), &mut flat);
        let mut seen = BTreeMap::new();
        for (name, at, value) in flat {
            let source = Source::File {
                path: path.to_owned(),
                line: line(at),
            };
            if let Some(earlier) = seen.insert(name.clone(), line(at)) {
                let message = format!("{name} is set already in line {earlier}");
                problems.push(Problem { source, message });
                continue;
            }
            match value {
                Ok(value) => self.set(&name, &value, source, problems),
                Err(message) => {
                    problems.push(Problem {
                        source,
                        message: format!("{name}: {message}"),
                    });
                }
            }
        }
    }

    /// Lays environment variables over: those that begin with `HEADWATER_`. A few names are no
    /// settings and are left alone.
    pub fn lay_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        problems: &mut Vec<Problem>,
    ) {
        let by_variable: BTreeMap<String, &Key> = keys::all()
            .iter()
            .map(|key| (key.environment_name(), key))
            .collect();
        let ours: BTreeMap<String, String> = variables
            .filter(|(name, _)| name.starts_with("HEADWATER_"))
            .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()))
            .collect();
        for (variable, value) in ours {
            let source = Source::Environment(variable.clone());
            if let Some(key) = by_variable.get(&variable) {
                self.set(key.name, &value, source, problems);
                continue;
            }
            let near = keys::suggest(&variable, by_variable.keys().map(String::as_str));
            let message = match near {
                Some(near) => format!("is not known; is {near} meant?"),
                None => "is not known".to_owned(),
            };
            problems.push(Problem { source, message });
        }
    }
}

/// `HEADWATER_BIN` names the binary under test; `HEADWATER_LOG` filters the log.
const NOT_SETTINGS: &[&str] = &["HEADWATER_BIN", "HEADWATER_LOG"];

type Flat = (String, usize, Result<String, String>);

fn flatten(prefix: &str, table: &toml::de::DeTable<'_>, out: &mut Vec<Flat>) {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => flatten(&name, inner, out),
            other => out.push((name, key.span().start, scalar(other))),
        }
    }
}

fn scalar(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number does not fit 64 bits".to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, String> =
                items.iter().map(|item| scalar(item.get_ref())).collect();
            Ok(items?.join(","))
        }
        DeValue::Datetime(_) => Err("a date is not taken".to_owned()),
        DeValue::Table(_) => Err("a table within a list is not taken".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (Values, Vec<String>) {
        let mut values = Values::defaults();
        let mut problems = Vec::new();
        values.lay_file("h.toml", content, &mut problems);
        (values, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn dotted_nested_and_quoted_keys_are_the_same() {
        for content in [
            "wal.backend = \"memory\"\nnode.id = 7",
            "[wal]\nbackend = \"memory\"\n[node]\nid = 7",
            "\"wal.backend\" = \"memory\"\n\"node.id\" = \"7\"",
        ] {
            let (values, problems) = file(content);
            assert_eq!(problems, Vec::<String>::new());
            assert_eq!(values.text("wal.backend"), "memory");
            assert_eq!(values.number("node.id"), 7);
        }
    }

    #[test]
    fn lists_may_be_arrays_and_numbers_of_any_base() {
        let (values, problems) =
            file("listeners = [\"A://127.0.0.1:1\", \"B://127.0.0.1:2\"]\nnum.partitions = 0x10");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(values.text("listeners"), "A://127.0.0.1:1,B://127.0.0.1:2");
        assert_eq!(values.number("num.partitions"), 16);
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_its_line() {
        let (_, problems) =
            file("wal.bakend = \"disk\"\nnode.id = 4\n\n\"node.id\" = 3\nlease.ms = 1979-05-27");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            problems.iter().any(|p| p.contains("is wal.backend meant?")),
            "{problems:?}"
        );
        assert!(
            problems
                .iter()
                .any(|p| p == "h.toml:4: node.id is set already in line 2")
        );
        let (_, problems) = file("a.b = 1\nnode.id = -4\nwal.backend = \"tape\"");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            problems
                .iter()
                .any(|p| p == "h.toml:2: node.id: -4 is below 0"),
            "{problems:?}"
        );
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("h.toml:3: wal.backend:"))
        );
    }

    #[test]
    fn the_environment_goes_over_the_file_and_unknown_names_are_refused() {
        let (mut values, _) = file("node.id = 2");
        let mut problems = Vec::new();
        let variables = [
            ("HEADWATER_NODE_ID", "3"),
            ("HEADWATER_WAL_BAKEND", "disk"),
            ("HEADWATER_BIN", "/x"),
            ("PATH", "/bin"),
        ];
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        values.lay_environment(variables, &mut problems);
        assert_eq!(values.number("node.id"), 3);
        assert_eq!(problems.len(), 1);
        assert_eq!(
            problems[0].to_string(),
            "environment HEADWATER_WAL_BAKEND: is not known; is HEADWATER_WAL_BACKEND meant?"
        );
    }
}
