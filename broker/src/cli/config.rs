//! `headwater config`: the effective configuration, with sources.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};

use super::settings::Settings;
use crate::config::{Config, Source, keys};

/// Arguments of `headwater config`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Only what differs from the defaults.
    #[arg(long)]
    changed: bool,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.settings.load()?;
    let rows = rows(&config, arguments.changed);
    match arguments.output {
        Output::Json => {
            let rows: Vec<serde_json::Value> = rows
                .iter()
                .map(|(name, value, source)| {
                    serde_json::json!({ "name": name, "value": value, "source": source })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
        }
        Output::Table => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            table.set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(["NAME", "VALUE", "SOURCE"]);
            for (name, value, source) in rows {
                table.add_row([name.to_owned(), value, source]);
            }
            println!("{table}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(config: &Config, changed: bool) -> Vec<(&'static str, String, String)> {
    config
        .values
        .iter()
        .filter(|(_, value)| !changed || value.source != Source::Default)
        .map(|(name, value)| {
            let secret = keys::find(name).is_some_and(|key| key.sensitive);
            let text = match value.text.as_str() {
                text if secret && !text.is_empty() => "(hidden)".to_owned(),
                text => text.to_owned(),
            };
            (name, text, value.source.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_sources_told() {
        let config = Config::with(&[
            ("object.store.secret.access.key", "s3cret"),
            ("node.id", "3"),
        ])
        .unwrap();
        let rows = rows(&config, true);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows[0],
            ("node.id", "3".to_owned(), "flag --set".to_owned())
        );
        assert!(!format!("{rows:?}").contains("s3cret"));
    }
}
