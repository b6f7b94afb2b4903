//! Tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON array of objects.
    Json,
}

/// Rows under named columns.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// No rows yet.
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row: a value per column.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        assert_eq!(row.len(), self.columns.len(), "a value per column");
        self.rows.push(row);
    }

    /// The rows as text.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Json => {
                let object = |row: &Vec<Value>| {
                    let pairs = self.columns.iter().zip(row);
                    let pairs = pairs.map(|(name, value)| ((*name).to_owned(), value.clone()));
                    Value::Object(pairs.collect::<Map<_, _>>())
                };
                let all = Value::Array(self.rows.iter().map(object).collect());
                format!("{all:#}")
            }
            Format::Table => {
                let mut table = Table::new();
                table.load_preset(presets::NOTHING);
                table.set_content_arrangement(ContentArrangement::Disabled);
                table.set_header(self.columns.iter().map(|name| name.to_uppercase()));
                for row in &self.rows {
                    table.add_row(row.iter().map(cell));
                }
                table.trim_fmt()
            }
        }
    }

    /// Prints the rows.
    pub(crate) fn print(&self, format: Format) -> io::Result<()> {
        line(self.render(format))
    }
}

/// Prints a line. A reader that went away, as `head` does, is an error and no panic.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prints_for_people_and_for_programs() {
        let mut rows = Rows::new(&["name", "partitions"]);
        rows.push(vec![json!("events"), json!(3)]);
        rows.push(vec![Value::Null, json!(12)]);
        let table = rows.render(Format::Table);
        assert!(table.contains("NAME") && table.contains("events") && table.contains('-'));
        let parsed: Value = serde_json::from_str(&rows.render(Format::Json)).unwrap();
        assert_eq!(parsed[0], json!({"name": "events", "partitions": 3}));
        assert_eq!(parsed[1]["name"], Value::Null);
    }
}
