//! Figures, one JSON line each.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

/// Most dirty page-cache bytes with which a round starts.
const QUIET_DIRTY_BYTES: u64 = 8 << 20;
/// Longest wait for that.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// Collects figures: prints each for people and appends it as a JSON line to a file.
#[derive(Debug)]
pub struct Report {
    file: Option<std::fs::File>,
}

impl Report {
    /// Appends to `path`, or only prints.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn new(path: Option<&std::path::Path>) -> Result<Self> {
        let open = |p| {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(p)
        };
        Ok(Self {
            file: path.map(open).transpose()?,
        })
    }

    /// Records one benchmark's figures.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, name: &str, figures: Value) -> Result<()> {
        println!("{name}");
        if let Value::Object(fields) = &figures {
            for (key, value) in fields {
                println!("  {key:<32} {value}");
            }
        }
        let cpu = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let line = json!({
            "benchmark": name,
            "figures": figures,
            "load_average": cpu.trim(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
        });
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// Brings write-back to rest, so that one round does not pay for the one before; gives the dirty
/// bytes left.
///
/// # Errors
/// When /proc/meminfo cannot be read.
pub(super) fn quiet_disk() -> Result<u64> {
    let _ = std::process::Command::new("sync").status()?;
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let dirty = text
            .lines()
            .find_map(|l| l.strip_prefix("Dirty:"))
            .and_then(|l| l.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
        if dirty <= QUIET_DIRTY_BYTES || begun.elapsed() > QUIET_LIMIT {
            return Ok(dirty);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
