//! The flags that say how a broker is configured; shared by `serve` and `config`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, Flags, HostPort, Problem, Problems, Source, keys};

/// Configuration flags.
#[derive(Debug, Args)]
#[command(after_long_help = keys_help())]
pub(super) struct Settings {
    /// TOML file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of local data (data.dir).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// One Kafka listener (listeners), as HOST:PORT or NAME://HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the admin HTTP server (admin.listen).
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Object store (object.store.url): file:///PATH, s3://…, gs://…, az://…, memory:.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// Where records become durable (wal.backend): disk, object, memory.
    #[arg(long, value_name = "BACKEND")]
    wal: Option<String>,
    /// Any setting, as KEY=VALUE; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The configuration of the file and the environment alone.
///
/// # Errors
/// Everything that is wrong, at once.
pub(super) fn of_file(path: &Path) -> Result<Config, Problems> {
    let mut flags = Flags::default();
    read_file(path, &mut flags);
    Config::load(flags, std::env::vars())
}

fn read_file(path: &Path, flags: &mut Flags) {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(content) => flags.file = Some((shown, content)),
        Err(error) => flags.problems.push(Problem {
            source: Source::Flag("--config".to_owned()),
            message: format!("cannot read {shown}: {error}"),
        }),
    }
}

impl Settings {
    /// The effective configuration: file, environment and these flags.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub(super) fn load(&self) -> Result<Config, Problems> {
        let mut flags = Flags::default();
        self.short_flags(&mut flags);
        for setting in &self.set {
            match setting.split_once('=') {
                Some((name, value)) => flags.settings.push((
                    format!("--set {name}"),
                    name.trim().to_owned(),
                    value.to_owned(),
                )),
                None => flags.problems.push(Problem {
                    source: Source::Flag(format!("--set {setting}")),
                    message: "is not KEY=VALUE".to_owned(),
                }),
            }
        }
        if let Some(path) = &self.config {
            read_file(path, &mut flags);
        }
        Config::load(flags, std::env::vars())
    }

    fn short_flags(&self, flags: &mut Flags) {
        let listen = self
            .listen
            .as_ref()
            .map(|address| match address.split_once("://") {
                Some(_) => address.clone(),
                None => format!("PLAINTEXT://{address}"),
            });
        if let Some(address) = &self.admin_listen
            && let Err(message) = HostPort::parse(address)
        {
            let source = Source::Flag("--admin-listen".to_owned());
            flags.problems.push(Problem { source, message });
            return;
        }
        let short = [
            ("--data-dir", "data.dir", &self.data_dir),
            ("--listen", "listeners", &listen),
            ("--admin-listen", "admin.listen", &self.admin_listen),
            ("--object-store", "object.store.url", &self.object_store),
            ("--wal", "wal.backend", &self.wal),
        ];
        for (flag, name, value) in short {
            if let Some(value) = value {
                flags
                    .settings
                    .push((flag.to_owned(), name.to_owned(), value.clone()));
            }
        }
    }
}

/// Every key of the table, for `--help`.
fn keys_help() -> String {
    let mut help = String::from(
        "Settings (in the file, as --set KEY=VALUE, or as HEADWATER_KEY_WITH_UNDERSCORES in the \
         environment; a flag wins over the environment, and that over the file):\n",
    );
    for key in keys::all() {
        let default = if key.default.is_empty() {
            "none"
        } else {
            key.default
        };
        help.push_str(&format!(
            "\n  {}\n      {} [{}; default: {default}]\n",
            key.name,
            key.doc,
            key.kind.describe()
        ));
    }
    help
}
