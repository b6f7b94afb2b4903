//! Real clients against a real broker: installs them, runs each against a fresh broker on each
//! store, and prints a table. A tool that cannot be installed is a failure, never a skip.
//!
//! ```text
//! tests/compat/CLIENT/install.sh            once, pinned, into the cache
//! tests/compat/{s3,azure,gcs}/SERVER.sh start ─▶ headwater object probe     per store
//! tests/compat/broker.sh start ─▶ CLIENT/run.sh 127.0.0.1:PORT ─▶ broker.sh stop
//! ```

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::stage::{self, Program};

/// The credentials of the S3 servers on this machine: key, secret.
const S3_KEYS: (&str, &str) = ("test", "testtesttest");
/// The account of the Azure server on this machine: name, key in base64.
const AZURE_ACCOUNT: (&str, &str) = ("headwater", "dGVzdHRlc3R0ZXN0");
/// Size of the log that goes through, and of the one in CI.
const BIGLOG_MIB: &str = "100";
const BIGLOG_MIB_CI: &str = "10";

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs the named subset that fits into CI: kcat, confluent-kafka, kafka-python, java and a
    /// small biglog on files; kcat, confluent-kafka and a small biglog on S3.
    #[arg(long)]
    ci: bool,
    /// Runs only these clients.
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Client>,
    /// Runs only on these stores.
    #[arg(long, value_enum)]
    store: Vec<Store>,
    /// Judges the scripts instead of the broker: runs them against Apache Kafka itself.
    #[arg(long, conflicts_with_all = ["ci", "store"])]
    reference: bool,
    /// Keeps data and logs of brokers also when everything passed.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Client {
    Kcat,
    ConfluentKafka,
    KafkaPython,
    Aiokafka,
    Kafkajs,
    FranzGo,
    Java,
    KafkaTools,
    Restart,
    Biglog,
    Zones,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Store {
    /// Disk WAL, objects in a local folder.
    File,
    /// Object WAL and objects on moto.
    S3,
    /// Object WAL and objects on versitygw.
    Versitygw,
    /// Object WAL and objects on Azurite.
    Azure,
    /// Object WAL and objects on fake-gcs-server.
    Gcs,
    /// Not ours: Apache Kafka.
    #[value(skip)]
    Reference,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::ConfluentKafka => "confluent-kafka",
            Self::KafkaPython => "kafka-python",
            Self::Aiokafka => "aiokafka",
            Self::Kafkajs => "kafkajs",
            Self::FranzGo => "franz-go",
            Self::Java => "java",
            Self::KafkaTools => "kafka-tools",
            Self::Restart => "restart",
            Self::Biglog => "biglog",
            Self::Zones => "zones",
        }
    }

    /// Seconds after which a run is stopped and counts as failed.
    fn limit_s(self) -> u32 {
        match self {
            Self::KafkaTools => 480,
            Self::Biglog => 600,
            _ => 240,
        }
    }
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "s3 (moto)",
            Self::Versitygw => "s3 (versitygw)",
            Self::Azure => "azure (azurite)",
            Self::Gcs => "gcs (fake-gcs)",
            Self::Reference => "apache kafka",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "moto",
            Self::Versitygw => "versitygw",
            Self::Azure => "azurite",
            Self::Gcs => "fakegcs",
            Self::Reference => "reference",
        }
    }

    /// The script that serves this store.
    fn server(self) -> Option<&'static str> {
        match self {
            Self::File | Self::Reference => None,
            Self::S3 => Some("s3/moto.sh"),
            Self::Versitygw => Some("s3/versitygw.sh"),
            Self::Azure => Some("azure/azurite.sh"),
            Self::Gcs => Some("gcs/fakegcs.sh"),
        }
    }

    /// The store's URL when its server listens on `port` of this machine.
    fn url(self, port: u16) -> String {
        let (scheme, account, settings) = match self {
            Self::Azure => ("az", "/headwater", ""),
            Self::Gcs => ("gs", "", "&skip_signature=true"),
            _ => ("s3", "", "&region=us-east-1&path_style=true"),
        };
        format!(
            "{scheme}://headwater/{}?endpoint=http://127.0.0.1:{port}{account}\
             &allow_http=true{settings}",
            self.folder(),
        )
    }

    fn broker(self) -> &'static str {
        match self {
            Self::Reference => "reference/kafka.sh",
            _ => "broker.sh",
        }
    }
}

/// Runs every chosen client on every chosen store.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let plan = plan(args);
    if plan.is_empty() {
        bail!("nothing chosen");
    }
    if !args.reference {
        stage::cargo(&["build", "--release", "--locked", "-p", "broker"]).run()?;
    }
    let scratch = scratch()?;
    let session = Session {
        scratch: scratch.clone(),
        ci: args.ci,
    };

    let mut results = Results::default();
    let mut clients: Vec<Client> = plan.iter().map(|(_, client)| *client).collect();
    clients.sort();
    clients.dedup();
    let mut missing = Vec::new();
    for client in clients {
        let start = Instant::now();
        println!("== install {}", client.name());
        if let Err(error) = session
            .script(&format!("{}/install.sh", client.name()))
            .run()
        {
            eprintln!("error: {error:#}");
            missing.push(client);
        }
        println!(
            "{:>8.1} s  install {}",
            start.elapsed().as_secs_f64(),
            client.name()
        );
    }
    if session.has_crosscheck(args) {
        session.crosscheck(&mut results);
    }
    let mut stores: Vec<Store> = plan.iter().map(|(store, _)| *store).collect();
    stores.dedup();
    for store in stores {
        let chosen = plan
            .iter()
            .filter(|(of, _)| *of == store)
            .map(|(_, client)| *client);
        session.store(store, chosen, &missing, &mut results);
    }

    let failed = results.print();
    if failed == 0 && !args.keep {
        std::fs::remove_dir_all(&scratch)?;
    } else {
        println!("data and logs are kept in {}", scratch.display());
    }
    if failed > 0 {
        bail!("compat: {failed} failed");
    }
    Ok(())
}

/// Which clients run on which stores, stores in order.
fn plan(args: &Args) -> Vec<(Store, Client)> {
    use Client::{Biglog, ConfluentKafka, Java, KafkaPython, Kcat, Restart};
    let all = Client::value_variants();
    let offered: Vec<(Store, &[Client])> = if args.reference {
        vec![(Store::Reference, all)]
    } else if args.ci {
        vec![
            (
                Store::File,
                &[Kcat, ConfluentKafka, KafkaPython, Java, Biglog][..],
            ),
            (Store::S3, &[Kcat, ConfluentKafka, Biglog][..]),
        ]
    } else {
        vec![
            (Store::File, all),
            (Store::S3, all),
            (Store::Versitygw, all),
            // What differs from S3 is the store, not the protocol.
            (Store::Azure, &[Kcat, ConfluentKafka, Restart, Biglog][..]),
            (Store::Gcs, &[Kcat, ConfluentKafka, Restart, Biglog][..]),
        ]
    };
    offered
        .into_iter()
        .filter(|(store, _)| args.store.is_empty() || args.store.contains(store))
        .flat_map(|(store, clients)| clients.iter().map(move |client| (store, *client)))
        // It starts brokers of ours, over a folder.
        .filter(|(store, client)| *client != Client::Zones || *store == Store::File)
        .filter(|(_, client)| args.only.is_empty() || args.only.contains(client))
        .collect()
}

/// A fresh folder for the brokers' data and the logs of this run.
fn scratch() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("headwater-compat-run-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A port of this machine that is free now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

struct Session {
    scratch: PathBuf,
    ci: bool,
}

/// A server that a script started; stopped by the same script when dropped.
struct Running<'a> {
    session: &'a Session,
    script: &'static str,
    folder: PathBuf,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let stop = self
            .session
            .script(self.script)
            .args(&["stop", &self.folder.display().to_string()])
            .run();
        if let Err(error) = stop {
            eprintln!("error: {error:#}");
        }
    }
}

impl Session {
    /// A script of tests/compat, with what every script may need in its environment.
    fn script(&self, path: &str) -> Program {
        let mut program = with_credentials(compat_folder().join(path));
        program
            .env(
                "HEADWATER_BINARY",
                stage::target().join("release").join("headwater"),
            )
            .env(
                "HEADWATER_COMPAT_BIGLOG_MIB",
                if self.ci { BIGLOG_MIB_CI } else { BIGLOG_MIB },
            );
        program
    }

    /// The check against the Java client's classes needs no broker; it belongs to a whole run.
    fn has_crosscheck(&self, args: &Args) -> bool {
        !self.ci && !args.reference && args.only.is_empty() && args.store.is_empty()
    }

    /// Every API and version served, encoded by one side and decoded by the other.
    fn crosscheck(&self, results: &mut Results) {
        println!("== every version served, against the Java client's classes");
        let start = Instant::now();
        let outcome = self.script("crosscheck.sh").run();
        if let Err(error) = &outcome {
            eprintln!("error: {error:#}");
        }
        let outcome = outcome.map_err(|_| "FAILED");
        results.add("java classes", "-", outcome, start.elapsed());
    }

    fn start(
        &self,
        script: &'static str,
        folder: PathBuf,
        args: &[String],
    ) -> anyhow::Result<Running<'_>> {
        std::fs::create_dir_all(&folder)?;
        let running = Running {
            session: self,
            script,
            folder,
        };
        self.script(script)
            .args(&["start", &running.folder.display().to_string()])
            .args(args)
            .run()?;
        Ok(running)
    }

    /// Runs the chosen clients on one store.
    fn store(
        &self,
        store: Store,
        clients: impl Iterator<Item = Client>,
        missing: &[Client],
        results: &mut Results,
    ) {
        let served = self.serve(store);
        if let Err(error) = &served {
            eprintln!("error: {}: {error:#}", store.name());
        }
        for client in clients {
            println!("== {} on {}", client.name(), store.name());
            let start = Instant::now();
            let outcome = match &served {
                _ if missing.contains(&client) => Err("not installed"),
                Err(_) => Err("store did not start"),
                Ok((_, broker_args)) => match self.client(store, client, broker_args) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        eprintln!("error: {error:#}");
                        Err("FAILED")
                    }
                },
            };
            results.add(client.name(), store.name(), outcome, start.elapsed());
        }
    }

    /// Starts what the store needs; gives the broker's arguments for it.
    fn serve(&self, store: Store) -> anyhow::Result<(Option<Running<'_>>, Vec<String>)> {
        let Some(server) = store.server() else {
            return Ok((None, Vec::new()));
        };
        let port = free_port()?;
        let folder = self.scratch.join(format!("{}-server", store.folder()));
        let running = self.start(server, folder, &[port.to_string()])?;
        let url = store.url(port);
        let mut probe = with_credentials(stage::target().join("release").join("headwater"));
        probe
            .args(&["object", "probe", "--object-store", &url])
            .run()?;
        Ok((
            Some(running),
            vec![
                "--object-store".into(),
                url,
                "--wal".into(),
                "object".into(),
            ],
        ))
    }

    /// One client against a broker of its own.
    fn client(&self, store: Store, client: Client, broker_args: &[String]) -> anyhow::Result<()> {
        let folder = self
            .scratch
            .join(format!("{}-{}", store.folder(), client.name()));
        let port = free_port()?;
        let mut args = vec![port.to_string()];
        // Clients share a bucket, not a cluster.
        args.extend(
            broker_args
                .iter()
                .map(|arg| arg.replacen("headwater/", &format!("headwater/{}-", client.name()), 1)),
        );
        let broker = self.start(store.broker(), folder.clone(), &args)?;

        // `timeout` ends the whole process group of a client that hangs.
        let mut program = self.script("timed.sh");
        program
            .env(
                "HEADWATER_COMPAT_BROKER",
                compat_folder().join(store.broker()),
            )
            .env("HEADWATER_COMPAT_FOLDER", &folder)
            .args(&[client.limit_s().to_string()])
            .args(&[compat_folder()
                .join(client.name())
                .join("run.sh")
                .display()
                .to_string()])
            .args(&[format!("127.0.0.1:{port}")]);
        let outcome = program.run();
        drop(broker);
        if outcome.is_err() {
            show_tail(&folder.join("server.log"));
        }
        outcome?;
        refuse_panics(&folder.join("server.log"))
    }
}

/// A program with the credentials of every store in its environment.
fn with_credentials(path: PathBuf) -> Program {
    let mut program = stage::program(path);
    program
        .env("AWS_ACCESS_KEY_ID", S3_KEYS.0)
        .env("AWS_SECRET_ACCESS_KEY", S3_KEYS.1)
        .env("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT.0)
        .env("AZURE_STORAGE_ACCOUNT_KEY", AZURE_ACCOUNT.1);
    program
}

fn compat_folder() -> PathBuf {
    stage::root().join("tests").join("compat")
}

/// The end of a server's log.
fn show_tail(log: &Path) {
    const LINES: usize = 30;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    println!("-- the end of {}", log.display());
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        println!("   {line}");
    }
}

/// A client may survive what a broker may not do.
fn refuse_panics(log: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    if String::from_utf8_lossy(&text).contains("panicked at") {
        show_tail(log);
        bail!("the broker panicked");
    }
    Ok(())
}

#[derive(Default)]
struct Results {
    /// Client, store, result, how long; in the order of running.
    rows: Vec<(&'static str, &'static str, String, Duration)>,
    failed: usize,
}

impl Results {
    fn add(
        &mut self,
        client: &'static str,
        store: &'static str,
        outcome: Result<(), &str>,
        took: Duration,
    ) {
        let word = match outcome {
            Ok(()) => "ok",
            Err(word) => {
                self.failed += 1;
                word
            }
        };
        self.rows.push((client, store, word.to_string(), took));
    }

    /// Prints client × store × result; gives the number of failures.
    fn print(&self) -> usize {
        println!(
            "\n{:<16}  {:<15}  {:<20}  {:>8}",
            "client", "store", "result", "seconds"
        );
        println!("{}", "-".repeat(65));
        for (client, store, word, took) in &self.rows {
            let seconds = took.as_secs_f64();
            println!("{client:<16}  {store:<15}  {word:<20}  {seconds:>8.1}");
        }
        println!(
            "compat: {} passed, {} failed",
            self.rows.len() - self.failed,
            self.failed
        );
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(ci: bool, only: &[Client], store: &[Store]) -> Args {
        let (only, store) = (only.to_vec(), store.to_vec());
        Args {
            ci,
            only,
            store,
            reference: false,
            keep: false,
        }
    }

    #[test]
    fn everything_runs_on_every_store_by_default() {
        let all = Client::value_variants().len();
        let plan_all = plan(&args(false, &[], &[]));
        let on = |store| plan_all.iter().filter(|(of, _)| *of == store).count();
        assert_eq!(
            [on(Store::File), on(Store::S3), on(Store::Versitygw)],
            // Zones is asked of one store only.
            [all, all - 1, all - 1]
        );
        assert_eq!([on(Store::Azure), on(Store::Gcs)], [4, 4]);
        assert_eq!(
            plan(&args(false, &[Client::Java], &[Store::S3])),
            [(Store::S3, Client::Java)]
        );
    }

    #[test]
    fn ci_runs_both_stores() {
        let plan = plan(&args(true, &[], &[]));
        assert!(plan.contains(&(Store::File, Client::Biglog)));
        assert!(plan.contains(&(Store::S3, Client::Biglog)));
        assert!(!plan.contains(&(Store::File, Client::KafkaTools)));
    }

    #[test]
    fn each_store_has_its_server_and_its_url() {
        for store in [Store::S3, Store::Versitygw, Store::Azure, Store::Gcs] {
            let server = compat_folder().join(store.server().unwrap());
            assert!(server.exists(), "{}", server.display());
        }
        assert_eq!(
            Store::Azure.url(9),
            "az://headwater/azurite?endpoint=http://127.0.0.1:9/headwater&allow_http=true"
        );
    }

    #[test]
    fn each_client_has_its_scripts() {
        for client in Client::value_variants() {
            for script in ["install.sh", "run.sh"] {
                let path = compat_folder().join(client.name()).join(script);
                assert!(path.exists(), "{}", path.display());
            }
        }
    }

    #[test]
    fn a_missing_tool_is_a_failure() {
        let mut results = Results::default();
        results.add("kcat", "file", Err("not installed"), Duration::ZERO);
        results.add("java", "file", Ok(()), Duration::ZERO);
        assert_eq!(results.print(), 1);
    }
}
