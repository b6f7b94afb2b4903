//! The Java client as a process beside ours: `tests/compat/java/Chaos.java` says what it does, line
//! by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::load::{By, Clients, JAVA, STRIDE, Seen, TOPIC};
use crate::history::Outcome;

/// It may wait as long for an acknowledgement.
const END_WITHIN: Duration = Duration::from_secs(200);

/// The process. Dropped, it is killed.
pub(super) struct Java {
    child: Child,
    /// Its end ends the clients.
    input: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/java")
}

/// Installs the client, pinned, where the compat suite has it; does nothing when it is there.
///
/// # Errors
/// When there is no Java, or the client cannot be fetched.
pub fn install() -> Result<()> {
    let status = Command::new(scripts().join("install.sh"))
        .stdin(Stdio::null())
        .status()?;
    ensure!(
        status.success(),
        "the Java client is not installed: {status}"
    );
    Ok(())
}

// === impl Java ===

impl Java {
    pub(super) fn start(clients: &Clients, partitions: i32, seen: &Arc<Seen>) -> Result<Self> {
        let numbers = [partitions.to_string(), JAVA.to_string(), STRIDE.to_string()];
        let timeout = clients.timeout.as_millis().to_string();
        let mut child = Command::new(scripts().join("chaos.sh"))
            .args([&clients.bootstrap, TOPIC])
            .args(numbers)
            .arg(timeout)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the Java client")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        let seen = Arc::clone(seen);
        let listener = std::thread::spawn(move || listen(output, &seen));
        Ok(Self {
            child,
            input,
            listener: Some(listener),
        })
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn end(&mut self, seen: &Seen) {
        drop(self.input.take());
        let begun = Instant::now();
        while begun.elapsed() < END_WITHIN {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(status)) if status.success() => return self.join(seen),
                other => {
                    seen.problem(format!("the Java client has ended: {other:?}"));
                    return self.join(seen);
                }
            }
        }
        seen.problem(format!("the Java client does not end in {END_WITHIN:?}"));
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join(seen);
    }

    fn join(&mut self, seen: &Seen) {
        if let Some(listener) = self.listener.take()
            && listener.join().is_err()
        {
            seen.problem("the Java client said what nobody understands".to_owned());
        }
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: ChildStdout, seen: &Seen) {
    let mut read: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    let mut sent: BTreeMap<u64, i32> = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else {
            break;
        };
        if understand(&line, seen, &mut sent, &mut read).is_none() {
            seen.problem(format!("the Java client: {line}"));
        }
    }
    read.into_iter()
        .for_each(|(index, records)| seen.read(index, records));
}

/// None for what is not one of its usual lines.
fn understand(
    line: &str,
    seen: &Seen,
    sent: &mut BTreeMap<u64, i32>,
    read: &mut BTreeMap<i32, Vec<(i64, u64)>>,
) -> Option<()> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    if kind == "r" {
        let index = words.next()?.parse().ok()?;
        let record = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        read.entry(index).or_default().push(record);
        return Some(());
    }
    let value = words.next()?.parse().ok()?;
    match kind {
        "s" => {
            let index = words.next()?.parse().ok()?;
            sent.insert(value, index);
            seen.sending(JAVA, index, value);
        }
        "a" => {
            let offset = words.next()?.parse().ok()?;
            seen.acknowledged_by(By::Java, *sent.get(&value)?);
            seen.sent(value, Outcome::Acknowledged(offset));
        }
        "f" => seen.has_failed(value),
        _ => return None,
    }
    Some(())
}
