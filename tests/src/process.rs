//! The real binary as a process of its own: started, watched through `/proc`, stopped by its pid.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long an admin page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a broker may take to say where it listens.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running broker. Killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where the admin pages are.
    pub admin: SocketAddr,
    /// Time from exec to the line that says where Kafka listens.
    pub started_in: Duration,
}

/// The binary under test: `HEADWATER_BIN`, or `headwater` beside the running test or benchmark.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HEADWATER_BIN") {
        return Ok(path.into());
    }
    let mut dir = std::env::current_exe()?;
    while dir.pop() {
        let candidate = dir.join("headwater");
        if candidate.is_file() {
            return Ok(candidate);
        }
        if dir.ends_with("target") {
            break;
        }
    }
    bail!("no `headwater` beside this program: run `cargo build -p broker` or set HEADWATER_BIN")
}

/// Runs `command` as `headwater serve` over `data_dir`; what it says to standard error is appended to
/// `log`.
pub(crate) fn serve(
    mut command: Command,
    data_dir: &Path,
    arguments: &[String],
    log: &Path,
    stdout: Stdio,
) -> Result<Child> {
    let mut options = std::fs::OpenOptions::new();
    let log = options.create(true).append(true).open(log)?;
    command.arg("serve").arg("--data-dir").arg(data_dir);
    let command = command.args(arguments).stdin(Stdio::null());
    let child = command.stdout(stdout).stderr(log).spawn();
    child.context("cannot start headwater")
}

/// A command without the variables that are ours: to a broker each HEADWATER_ variable is a setting.
pub(crate) fn without_ours(mut command: Command) -> Command {
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    command
}

/// Sends `signal` (a name as `kill` takes it) to one process.
pub(crate) fn send_signal(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill -s {signal} {pid}: {status}");
    Ok(())
}

/// Status and body of an admin page, each step of which may take `patience`.
pub(crate) fn page(admin: SocketAddr, path: &str, patience: Duration) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok((status, body.to_owned()))
}

impl BrokerProcess {
    /// Starts `headwater serve` over `data_dir` on `kafka` and `admin` (port 0 takes a free one),
    /// and returns when it says that it listens.
    ///
    /// # Errors
    /// When it exits, or says nothing within a minute; with what it wrote to standard error.
    pub fn start(data_dir: &Path, kafka: &str, admin: &str, more: &[String]) -> Result<Self> {
        Self::start_in(&[], data_dir, kafka, admin, more)
    }

    /// [`BrokerProcess::start`] with `environment` on top of this program's.
    ///
    /// # Errors
    /// As there.
    pub fn start_in(
        environment: &[(String, PathBuf)],
        data_dir: &Path,
        kafka: &str,
        admin: &str,
        more: &[String],
    ) -> Result<Self> {
        for address in [kafka, admin] {
            ensure!(
                address.starts_with("127.0.0.1:"),
                "{address:?} is not loopback"
            );
        }
        let log_path = data_dir.with_extension("log");
        let begun = Instant::now();
        let mut command = without_ours(Command::new(binary()?));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let listen = ["--listen", kafka, "--admin-listen", admin];
        let listen = listen.map(str::to_owned);
        let arguments = [&listen, more].concat();
        let mut child = serve(command, data_dir, &arguments, &log_path, Stdio::piped())?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the broker never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let (mut kafka_at, mut admin_at) = (None, None);
        let mut said = String::new();
        loop {
            let left = START_LIMIT.saturating_sub(begun.elapsed());
            let Ok(line) = lines.recv_timeout(left) else {
                let _ = child.kill();
                let status = child.wait()?;
                let errors = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("headwater did not start ({status}):\n{said}{errors}");
            };
            let lower = line.to_lowercase();
            let address = loopback_address(&line);
            if lower.contains("kafka") {
                kafka_at = kafka_at.or(address);
            } else if lower.contains("admin") {
                admin_at = admin_at.or(address);
            }
            said.push_str(&line);
            said.push('\n');
            if let (Some(kafka), Some(admin)) = (kafka_at, admin_at) {
                return Ok(Self {
                    child,
                    kafka,
                    admin,
                    started_in: begun.elapsed(),
                });
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` (a name as `kill` takes it) to this process only.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        send_signal(self.pid(), signal)
    }

    /// Kills it at once, as a power cut of the process would.
    ///
    /// # Errors
    /// The system's.
    pub fn kill_9(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for a clean exit, at most `limit`.
    ///
    /// # Errors
    /// When it does not exit in time, or not with success.
    pub fn stop(mut self, limit: Duration) -> Result<()> {
        self.signal("TERM")?;
        let status = self.wait(limit)?;
        ensure!(status.success(), "headwater ended with {status}");
        Ok(())
    }

    /// Waits for its end by itself.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("headwater still runs after {limit:?}")
    }

    /// CPU seconds of user and system so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let (user, system) = self.cpu_user_and_system()?;
        Ok(user + system)
    }

    /// CPU seconds of user and of system so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_user_and_system(&self) -> Result<(f64, f64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let after = stat.rsplit_once(')').context("no command in stat")?.1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        // USER_HZ is 100 on every Linux that we run on.
        let seconds = |n: usize| Ok::<_, anyhow::Error>(fields[n].parse::<u64>()? as f64 / 100.0);
        Ok((seconds(11)?, seconds(12)?))
    }

    /// Resident bytes now, and at the peak.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find(|l| l.starts_with(name))
                .context("no such field")?;
            Ok(line
                .split_whitespace()
                .nth(1)
                .context("no value")?
                .parse::<u64>()?
                * 1024)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Body of an admin page.
    ///
    /// # Errors
    /// When it cannot be had, or its status is not 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let (status, body) = self.get_any(path)?;
        ensure!(status == 200, "{path}: status {status}: {body}");
        Ok(body)
    }

    /// Status and body of an admin page.
    ///
    /// # Errors
    /// When the page cannot be had.
    pub fn get_any(&self, path: &str) -> Result<(u16, String)> {
        page(self.admin, path, PAGE_PATIENCE)
    }

    /// Sum of a metric over its labels, 0 when it is not there.
    ///
    /// # Errors
    /// When `/metrics` cannot be had.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for line in self.get("/metrics")?.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            if rest.starts_with(['{', ' ']) {
                sum += rest.rsplit(' ').next().unwrap_or("0").parse::<f64>()?;
            }
        }
        Ok(sum)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first `127.0.0.1:PORT` in `line`.
fn loopback_address(line: &str) -> Option<SocketAddr> {
    let tail = &line[line.find("127.0.0.1:")?..];
    let end = tail
        .char_indices()
        .skip("127.0.0.1:".len())
        .find(|(_, c)| !c.is_ascii_digit())
        .map_or(tail.len(), |(at, _)| at);
    tail[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::loopback_address;

    #[test]
    fn finds_the_address_in_a_line() {
        let found = loopback_address("Kafka listens on PLAINTEXT://127.0.0.1:9092, ready");
        assert_eq!(found, Some("127.0.0.1:9092".parse().unwrap()));
        assert_eq!(loopback_address("Kafka listens nowhere"), None);
    }
}
