//! A log whose volume is gone, and one that was damaged: brought back first, given up then.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use super::pods::Values;
use super::scene::Scene;
use super::shell;
use crate::load::{LIMIT, Load, check, check_acknowledged, read_all_at};
use crate::zones::Reader;

const FIRST: &str = "headwater-broker-100";
const SECOND: &str = "headwater-broker-101";

/// Nothing leaves the log before somebody reads it in recovery.
const NO_UPLOADS: &str = "upload.age.ms=3600000";

// === impl Scene ===

impl Scene {
    /// The newest log of a broker that is not closed.
    fn log_of(&self, pod: &str) -> String {
        let begun = Instant::now();
        loop {
            let page = self.pods.page("/v1/cluster");
            let page: serde_json::Value = serde_json::from_str(&page).unwrap();
            let open = page["wals"]["open"].as_array().into_iter().flatten();
            let own = open.filter(|wal| wal["node"] == self.pods.node(pod));
            let newest = own.max_by_key(|wal| wal["broker_epoch"].as_i64());
            if let Some(wal) = newest.and_then(|newest| newest["wal"].as_str()) {
                return wal.to_owned();
            }
            assert!(begun.elapsed() < LIMIT, "{pod} has no log: {page:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that was ever sent is served.
    fn served(&self) {
        self.flush();
        for (name, load) in &self.loads {
            let records = read_all_at(&self.pods.bootstrap(), name);
            check(&records, &load.acknowledged, load.sent);
        }
    }

    /// Gives up `log`, by the page's commands, and takes its topics out of what must be served.
    fn give_up(&mut self, log: &str, topics: &[String]) {
        let fill = |line: String| line.replace("--wal WAL", &format!("--wal {log}"));
        let tell = self.book.ending("wal abandon", "\"");
        let told = shell::run(&mut self.pods, &fill(tell));
        assert!(
            !told.ok && told.text.contains("nothing is done"),
            "{}",
            told.text
        );
        let dead = "headwater_broker_takeover_dead_logs";
        self.until("its log is dead", |_, now| now.sum(dead) > 0.0);
        let decide = self.book.ending("wal abandon", "--yes");
        self.line(&fill(decide));
        self.until("its log is closed", |_, now| now.sum(dead) == 0.0);
        let loads = std::mem::take(&mut self.loads);
        for (name, load) in loads {
            match topics.contains(&name) {
                true => given_up(&self.pods.bootstrap(), &name, load),
                false => self.loads.push((name, load)),
            }
        }
    }
}

/// No offset means two records: new ones are far beyond, and what is left of the old ones is right.
fn given_up(bootstrap: &str, topic: &str, old: Load) {
    let mut new = Load::at(bootstrap, 0);
    new.send(topic, 20);
    new.producer.flush(LIMIT).unwrap();
    let records = read_all_at(bootstrap, topic);
    check_acknowledged(&records, &new.acknowledged);
    let (left, beyond): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|(offset, _)| *offset < 1_000_000);
    assert_eq!(
        beyond.len(),
        20,
        "{topic}: a gap, and no offset given twice"
    );
    let known = old.acknowledged.0.lock().unwrap();
    for (offset, value) in left {
        let known = known.iter().find(|(_, at)| at.1 == offset);
        assert_eq!(
            known.map(|(number, _)| format!("value {number}")),
            Some(value)
        );
    }
}

#[test]
fn wal_volume_lost() {
    let values = Values {
        wal: "disk",
        config: vec![NO_UPLOADS],
        ..Values::default()
    };
    let mut scene = Scene::begin("wal-volume-lost", values);
    let (volume, log) = (scene.pods.data(FIRST), scene.log_of(FIRST));
    let elsewhere = volume.with_extension("elsewhere");
    scene.pods.kill_9(FIRST);
    std::fs::rename(&volume, &elsewhere).unwrap();
    scene.look();
    scene.fires("HeadwaterNodeDown");
    scene.shows("headwater_broker_takeover_dead_logs", |sum| sum > 0.0);
    scene.fires("HeadwaterDeadLogsOpen");
    let why = "is on the disk of node";
    assert!(scene.book.logs.iter().any(|line| line == why));
    scene.run_until("curl", |page| page.contains(&log) && page.contains(why));
    scene.run("get pvc data-headwater-broker-100");
    scene.run("get pv -o wide");
    // The volume is attached again.
    std::fs::rename(&elsewhere, &volume).unwrap();
    scene.pods.start(FIRST);
    scene.pods.await_ready(&[FIRST.to_owned()]);
    scene.rests("HeadwaterDeadLogsOpen");
    scene.rests("HeadwaterNodeDown");
    scene.served();

    // Gone for good, and an empty one is given to the pod.
    let (log, topics) = (scene.log_of(FIRST), scene.has_topics(FIRST));
    scene.write_groups();
    scene.pods.kill_9(FIRST);
    std::fs::remove_dir_all(&volume).unwrap();
    // Kubernetes starts it again and again: no second start is less careful than the first.
    for _ in 0..2 {
        scene.pods.start(FIRST);
        scene.pods.await_failure(FIRST);
    }
    scene.logs(&[why]);
    scene.fires("HeadwaterDeadLogsOpen");
    scene.give_up(&log, &topics);
    scene.pods.start(FIRST);
    scene.pods.await_ready(&[FIRST.to_owned()]);
    scene.rests("HeadwaterDeadLogsOpen");
    scene.served();
    scene.end();
}

/// Files of the store whose path holds `part`, in order.
fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_str().unwrap().contains(part) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn flip(path: &Path) -> Vec<u8> {
    let whole = std::fs::read(path).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
    whole
}

/// Damages what the broker's log needs in recovery, then the broker dies: the object, and its bytes.
fn damage(scene: &mut Scene, pod: &str, log: &str) -> (PathBuf, Vec<u8>) {
    let groups = files(&scene.pods.objects(), &format!("/{log}/"));
    assert!(groups.len() > 2, "{groups:?}");
    let path = groups[groups.len() / 2].clone();
    let whole = flip(&path);
    scene.pods.kill_9(pod);
    (path, whole)
}

#[test]
fn wal_quarantined() {
    let values = Values {
        config: vec![NO_UPLOADS, "wal.object.puts.per.second=100"],
        ..Values::default()
    };
    let mut scene = Scene::begin("wal-quarantined", values);
    scene.write_groups();
    let log = scene.log_of(FIRST);
    let (path, whole) = damage(&mut scene, FIRST, &log);
    set_aside(&mut scene, &log);
    // Kubernetes starts the pod again; what was set aside stays so.
    scene.pods.start(FIRST);
    scene.pods.await_ready(&[FIRST.to_owned()]);
    scene.run_until("curl", |page| page.contains(&log));
    let inspect = scene.book.command("wal inspect --prefix");
    let prefix = path.parent().unwrap().parent().unwrap();
    let prefix = prefix.strip_prefix(scene.pods.objects()).unwrap();
    let inspect = inspect.replace("--wal WAL", &format!("--wal {log}"));
    let told = shell::run(&mut scene.pods, &inspect);
    assert!(
        !told.ok && told.text.contains("no group of log"),
        "{}",
        told.text
    );
    let inspect = inspect.replace("PREFIX", prefix.to_str().unwrap());
    let told = shell::run(&mut scene.pods, &inspect);
    assert!(!told.ok && told.text.contains("corrupt"), "{}", told.text);
    let verify = scene.book.command("object verify");
    scene.line(&verify);
    // The object's earlier version is put back.
    std::fs::write(&path, whole).unwrap();
    scene.line(&inspect);
    let back = scene.book.command("wal unquarantine");
    scene.line(&back.replace("--wal WAL", &format!("--wal {log}")));
    scene.rests("HeadwaterWalSetAside");
    scene.served();
    on_disk(&mut scene);

    // Another one, for good.
    // What the other one leads is served throughout.
    scene.has_topics(FIRST);
    let (log, topics) = (scene.log_of(SECOND), scene.has_topics(SECOND));
    scene.write_groups();
    damage(&mut scene, SECOND, &log);
    set_aside(&mut scene, &log);
    scene.give_up(&log, &topics);
    scene.rests("HeadwaterWalSetAside");
    scene.pods.start(SECOND);
    scene.pods.await_ready(&[SECOND.to_owned()]);
    damaged_objects(&mut scene, &verify);
    scene.logs(&[]);
    scene.has("headwater_wal_torn_bytes_total");
    scene.end();
}

fn set_aside(scene: &mut Scene, log: &str) {
    scene.look();
    scene.shows("headwater_broker_takeover_quarantined_logs", |sum| {
        sum > 0.0
    });
    scene.fires("HeadwaterWalSetAside");
    // Counted by whoever read it, maybe before we looked.
    scene.shows("headwater_wal_rereads_total", |sum| sum > 0.0);
    scene.asks("HeadwaterWalDamaged", "headwater_wal_rereads_total");
    scene.until("the cluster's page names it", |_, _| {
        let page = scene.pods.page("/v1/cluster");
        page.contains(log) && page.contains("quarantined")
    });
}

/// The line for a log on a disk reads one beside its volume; here there is none on any, and it says so.
fn on_disk(scene: &mut Scene) {
    let line = scene.book.command("wal inspect --data-dir");
    let none = uuid::Uuid::from_u128(1).to_string();
    std::fs::create_dir_all(scene.pods.data(FIRST).join("wal")).unwrap();
    let told = shell::beside(&scene.pods, FIRST, &line.replace("WAL", &none));
    assert!(!told.ok && told.text.contains("is not in"), "{}", told.text);
}

/// Objects that are gone, then damaged, then as they were: nothing wrong is served meanwhile.
fn damaged_objects(scene: &mut Scene, verify: &str) {
    // Everything moves out of the logs and out of memory.
    for pod in [FIRST, SECOND] {
        scene.pods.stop(pod);
        scene.pods.start(pod);
        scene.pods.await_ready(&[pod.to_owned()]);
    }
    let objects = files(&scene.pods.objects(), "/data/");
    assert!(!objects.is_empty());
    let kept: Vec<_> = objects
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    scene.look();
    for path in &objects {
        std::fs::remove_file(path).unwrap();
    }
    let bootstrap = scene.pods.bootstrap();
    let readers = scene.loads.iter().map(|(name, load)| {
        let count = usize::try_from(load.sent).unwrap();
        let mut reader = Reader::new(&bootstrap, "", name);
        // For as long as all of what follows may take.
        std::thread::spawn(move || {
            reader.until(count);
            reader.records
        })
    });
    let readers: Vec<_> = readers.collect();
    scene.grows("headwater_storage_lost_total");
    scene.fires("HeadwaterDataDamaged");
    for (path, whole) in objects.iter().zip(&kept) {
        let mut bytes = whole.clone();
        // Blocks of records stand first.
        let half = bytes.len() / 2;
        bytes[..half]
            .iter_mut()
            .step_by(61)
            .for_each(|byte| *byte ^= 0x10);
        std::fs::write(path, bytes).unwrap();
    }
    scene.grows("headwater_storage_damaged_total");
    let told = shell::run(&mut scene.pods, verify);
    assert!(!told.ok && told.text.contains("damaged"), "{}", told.text);
    for (path, whole) in objects.iter().zip(kept) {
        std::fs::write(path, whole).unwrap();
    }
    scene.line(verify);
    for (reader, (_, load)) in readers.into_iter().zip(&scene.loads) {
        check(&reader.join().unwrap(), &load.acknowledged, load.sent);
    }
}
