//! Pods of the chart as processes: named, numbered and configured as it does, on ports of loopback
//! that they keep over restarts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tests::process::binary;
use tests::shim::DiskFaults;

use super::alerts::{Look, parse};
use crate::cluster::{ended, free_port, output};
use crate::load::LIMIT;

/// What a chart is rendered with.
pub(super) struct Values {
    pub(super) controllers: i32,
    pub(super) brokers: i32,
    pub(super) wal: &'static str,
    /// `object.store.url`; a directory of its own when empty.
    pub(super) store: String,
    /// What the Secret of the store holds.
    pub(super) secret: Vec<(String, String)>,
    /// Further settings, of every pod.
    pub(super) config: Vec<&'static str>,
    /// Whether volumes can be full.
    pub(super) volumes_fail: bool,
}

struct Pod {
    node: i32,
    /// Kafka's listener, or that of the controllers.
    port: SocketAddr,
    admin: SocketAddr,
    process: Option<Child>,
    /// Stopped by a signal, so that it says nothing.
    halted: bool,
    /// Of its volume.
    faults: Option<DiskFaults>,
    /// Of its template; the StatefulSet's when they are alike.
    pub(super) tag: String,
}

impl Default for Values {
    /// The smallest cluster with an heir: one controller, two brokers on the object WAL.
    fn default() -> Self {
        Self {
            controllers: 1,
            brokers: 2,
            wal: "object",
            store: String::new(),
            secret: Vec::new(),
            config: Vec::new(),
            volumes_fail: false,
        }
    }
}

/// All of them. Dropped, they are killed.
pub(super) struct Pods {
    dir: tempfile::TempDir,
    pub(super) values: Values,
    pods: BTreeMap<String, Pod>,
}

// === impl Pod ===

impl Pod {
    /// Whether its admin pages should be answered.
    fn answers(&self) -> bool {
        self.process.is_some() && !self.halted
    }
}

// === impl Pods ===

impl Pods {
    /// Chooses ports; starts nothing.
    pub(super) fn new(values: Values) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let controllers = (1..=values.controllers).map(|node| (set_pod(CONTROLLER, node), node));
        let brokers = (100..100 + values.brokers).map(|node| (set_pod(BROKER, node), node));
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let pods = controllers.chain(brokers).map(|(name, node)| {
            let faults = values.volumes_fail.then(|| {
                let own = dir.path().join(format!("{name}-faults"));
                std::fs::create_dir(&own).unwrap();
                DiskFaults::new(&own).unwrap()
            });
            let pod = Pod {
                node,
                port: address(),
                admin: address(),
                process: None,
                halted: false,
                faults,
                tag: "old".to_owned(),
            };
            (name, pod)
        });
        let pods = pods.collect();
        Self { dir, values, pods }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// Pods of a StatefulSet, newest first.
    pub(super) fn of_set(&self, set: &str) -> Vec<String> {
        let of_set = self
            .pods
            .iter()
            .filter(|(name, pod)| **name == set_pod(set, pod.node));
        let mut of_set: Vec<_> = of_set.map(|(name, pod)| (pod.node, name.clone())).collect();
        of_set.sort();
        of_set.into_iter().rev().map(|(_, name)| name).collect()
    }

    pub(super) fn node(&self, pod: &str) -> i32 {
        self.pods[pod].node
    }

    pub(super) fn tag(&self, pod: &str) -> &str {
        &self.pods[pod].tag
    }

    pub(super) fn set_tag(&mut self, pod: &str, tag: &str) {
        self.pods.get_mut(pod).unwrap().tag = tag.to_owned();
    }

    pub(super) fn admin(&self, pod: &str) -> SocketAddr {
        self.pods[pod].admin
    }

    pub(super) fn pid(&self, pod: &str) -> Option<u32> {
        self.pods[pod].process.as_ref().map(Child::id)
    }

    /// Its volume's `data.dir`.
    pub(super) fn data(&self, pod: &str) -> PathBuf {
        self.dir.path().join(pod)
    }

    /// The directory of objects, where that is the store.
    pub(super) fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    pub(super) fn log(&self, pod: &str) -> String {
        let path = self.dir.path().join(format!("{pod}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Whether some pod has logged this.
    pub(super) fn logged(&self, what: &str) -> bool {
        self.pods.keys().any(|pod| self.log(pod).contains(what))
    }

    /// The volume has only so much left, or as much as it likes.
    pub(super) fn space(&self, pod: &str, bytes: Option<u64>) {
        let faults = self.pods[pod].faults.as_ref().unwrap();
        match bytes {
            Some(bytes) => faults.fill(&self.data(pod), bytes).unwrap(),
            None => faults.heal().unwrap(),
        }
    }

    fn store(&self) -> String {
        match self.values.store.as_str() {
            "" => format!("file://{}", self.objects().display()),
            url => url.to_owned(),
        }
    }

    fn settings(&self, pod: &Pod, broker: bool) -> Vec<String> {
        let voters = self.of_set(CONTROLLER).into_iter().rev();
        let voters = voters.map(|name| format!("{}@{}", self.node(&name), self.pods[&name].port));
        let voters: Vec<String> = voters.collect();
        let (role, listener) = match broker {
            true => ("broker", "PLAINTEXT"),
            false => ("controller", "CONTROLLER"),
        };
        let mut settings = vec![
            format!("node.id={}", pod.node),
            format!("process.roles={role}"),
            format!("listeners={listener}://{}", pod.port),
            format!("admin.listen={}", pod.admin),
            format!("controller.quorum.voters={}", voters.join(",")),
            "memory.budget.bytes=268435456".to_owned(),
            "shutdown.timeout.ms=10000".to_owned(),
            // Who leads what is for the rehearsal to know.
            "balancer.enable=false".to_owned(),
        ];
        if broker {
            settings.push(format!("wal.backend={}", self.values.wal));
        }
        settings.extend(self.values.config.iter().map(|&one| one.to_owned()));
        settings
    }

    /// What the pod's environment is made of, for its process and for commands in it.
    fn environment(&self) -> Vec<(String, String)> {
        let mut all = self.values.secret.clone();
        all.push(("HEADWATER_OBJECT_STORE_URL".to_owned(), self.store()));
        all
    }

    pub(super) fn start(&mut self, name: &str) {
        let pod = &self.pods[name];
        assert!(pod.process.is_none(), "{name} runs");
        let log = self.dir.path().join(format!("{name}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let mut command = clean();
        command.arg("serve").arg("--data-dir").arg(self.data(name));
        for setting in self.settings(pod, name.starts_with(BROKER)) {
            command.args(["--set", &setting]);
        }
        if let Some(faults) = &pod.faults {
            command.envs(faults.environment());
        }
        command.envs(self.environment());
        let streams = command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = streams.stderr(log.unwrap()).spawn().unwrap();
        let pod = self.pods.get_mut(name).unwrap();
        (pod.process, pod.halted) = (Some(process), false);
    }

    pub(super) fn start_all(&mut self) {
        for name in self.names() {
            self.start(&name);
        }
        self.await_ready(&self.names());
    }

    pub(super) fn is_ready(&self, pod: &str) -> bool {
        matches!(get(self.admin(pod), "/readyz"), Some((200, _)))
    }

    pub(super) fn await_ready(&self, pods: &[String]) {
        for pod in pods {
            let begun = Instant::now();
            while !self.is_ready(pod) {
                let said = || get(self.admin(pod), "/readyz");
                assert!(
                    begun.elapsed() < LIMIT,
                    "{pod}: {:?}\n{}",
                    said(),
                    tail(&self.log(pod))
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn signal(&self, pod: &str, signal: &str) {
        let pid = self.pid(pod).unwrap().to_string();
        let told = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(told.unwrap().success());
    }

    /// It says and hears nothing from now on, and is not gone.
    pub(super) fn halt(&mut self, pod: &str) {
        self.signal(pod, "STOP");
        self.pods.get_mut(pod).unwrap().halted = true;
    }

    pub(super) fn kill_9(&mut self, pod: &str) {
        let mut process = self.pods.get_mut(pod).unwrap().process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and a clean end.
    pub(super) fn stop(&mut self, pod: &str) {
        self.signal(pod, "TERM");
        let status = self.ended(pod);
        assert!(
            status.success(),
            "{pod}: {status}\n{}",
            tail(&self.log(pod))
        );
    }

    /// It ends by itself, and not well.
    pub(super) fn await_failure(&mut self, pod: &str) {
        let status = self.ended(pod);
        assert!(!status.success(), "{pod}: {status}");
    }

    fn ended(&mut self, pod: &str) -> ExitStatus {
        let mut process = self.pods.get_mut(pod).unwrap().process.take().unwrap();
        let status = ended(&mut process);
        status.unwrap_or_else(|| panic!("{pod} does not end\n{}", tail(&self.log(pod))))
    }

    /// Brokers, then controllers, as those who take a release away.
    pub(super) fn stop_all(&mut self) {
        for pod in self.of_set(BROKER) {
            self.stop(&pod);
        }
        for pod in self.of_set(CONTROLLER) {
            // The last of several has nobody left who would hear its goodbye.
            self.kill_9(&pod);
        }
    }

    /// Kafka addresses of all brokers.
    pub(super) fn bootstrap(&self) -> String {
        let brokers = self.of_set(BROKER);
        let addresses = brokers.iter().map(|name| self.pods[name].port.to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A page of some pod, as soon as one answers.
    pub(super) fn page(&self, path: &str) -> String {
        let begun = Instant::now();
        loop {
            let pods = self.pods.values().filter(|pod| pod.answers());
            let mut answers = pods.filter_map(|pod| get(pod.admin, path));
            if let Some((_, body)) = answers.find(|(status, _)| *status == 200) {
                return body;
            }
            assert!(begun.elapsed() < LIMIT, "nobody answers {path}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `headwater ARGUMENTS` in a pod.
    pub(super) fn exec(&self, name: &str, arguments: &[String]) -> Output {
        let pod = &self.pods[name];
        assert!(pod.process.is_some(), "{name} does not run");
        let mut command = clean();
        command.args(arguments).envs(self.environment());
        command.env("HEADWATER_BOOTSTRAP", pod.port.to_string());
        command.env("HEADWATER_ADMIN", pod.admin.to_string());
        output(&mut command)
    }

    /// What all of them show now.
    pub(super) fn look(&self) -> Look {
        let of = |pod: &Pod| {
            pod.answers().then_some(())?;
            let (status, page) = get(pod.admin, "/metrics")?;
            (status == 200).then(|| parse(&page))
        };
        let pods = self.pods.iter();
        Look {
            pods: pods.map(|(name, pod)| (name.clone(), of(pod))).collect(),
            at: Instant::now(),
        }
    }

    /// Whether everybody has answered who should.
    pub(super) fn is_whole(&self, look: &Look) -> bool {
        let mut pods = self.pods.iter();
        pods.all(|(name, pod)| !pod.answers() || look.pods[name].is_some())
    }

    /// A look that can be compared with: busy pods are asked again.
    pub(super) fn look_whole(&self) -> Look {
        let begun = Instant::now();
        loop {
            let look = self.look();
            if self.is_whole(&look) {
                return look;
            }
            assert!(begun.elapsed() < LIMIT, "not all pods answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for process in self
            .pods
            .values_mut()
            .filter_map(|pod| pod.process.as_mut())
        {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            for pod in self.pods.keys() {
                println!("-- {pod}:\n{}", tail(&self.log(pod)));
            }
        }
    }
}

pub(super) const CONTROLLER: &str = "headwater-controller";
pub(super) const BROKER: &str = "headwater-broker";

fn set_pod(set: &str, node: i32) -> String {
    format!("{set}-{node}")
}

/// The binary without settings of ours.
pub(super) fn clean() -> Command {
    let mut command = Command::new(binary().unwrap());
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    command
}

pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Status and body of an admin page; `None` when it is not answered in time.
fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let patience = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&admin, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
