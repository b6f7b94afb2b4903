//! Rot: the machine rests, stored bytes change, the machine wakes.
//!
//! **What must hold:** no wrong byte is ever served, none is passed over in silence. What cannot be
//! read is refused, and the file or object is named. Nothing that is done about damage makes it
//! worse: with the bytes back as they were, every acknowledged record is there.

use std::path::PathBuf;

use controller::Command;
use object_store::path::Path;

use super::*;
use crate::clients::{partition, read};

/// Longest wait for the machine to have nothing to write.
const REST_WITHIN: Duration = Duration::from_secs(20);
/// No disk operation for so long: marks of idleness are written.
const REST: Duration = Duration::from_millis(150);
/// Tries of a read that fails.
const TRIES: u32 = 6;

/// Where bytes are stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File(PathBuf),
    Object(Path),
}

/// What was done to stored bytes.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    place: Place,
    how: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotten {
    pub(crate) damage: String,
    /// Whether an error named it.
    pub(crate) named: bool,
    /// Acknowledged records that were refused while it stood.
    pub(crate) refused: usize,
}

// === impl Machine ===

impl Machine {
    /// Ends the process when nothing is left to write, and starts no other.
    async fn rest(&self, in_order: bool) {
        let resting = async {
            loop {
                let before = (self.host.disk.ops(), self.store.objects().len());
                sleep(REST).await;
                if before == (self.host.disk.ops(), self.store.objects().len()) {
                    return;
                }
            }
        };
        let rested = timeout(REST_WITHIN, resting).await.is_ok();
        self.say(&format!("at rest: {rested}, in order: {in_order}"));
        self.hold();
        if in_order {
            self.ask_to_stop();
        } else {
            self.kill(false);
        }
        self.ended().await;
    }

    fn bytes_at(&self, place: &Place) -> Option<Vec<u8>> {
        match place {
            Place::File(path) => self.host.disk.contents(path),
            Place::Object(path) => self.store.objects().get(path).map(|bytes| bytes.to_vec()),
        }
    }

    fn put_at(&self, place: &Place, bytes: Vec<u8>) {
        match place {
            Place::File(path) => self.host.disk.replace(path, bytes),
            Place::Object(path) => self.store.corrupt(path, bytes.into()),
        }
    }

    /// All that is stored, by kind: `raft/log`, `wal`, `data`, …
    fn places(&self) -> BTreeMap<String, Vec<Place>> {
        let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for path in self.host.disk.files() {
            let inner = path.strip_prefix("/data").unwrap_or(&path);
            let extension = inner.extension().map(|e| e.to_string_lossy().into_owned());
            let top = inner.iter().next().unwrap_or_default().to_string_lossy();
            let kind = format!("file {top} {}", extension.unwrap_or_default());
            places.entry(kind).or_default().push(Place::File(path));
        }
        for path in self.store.objects().into_keys() {
            // Cluster and generation come first.
            let kind = path.parts().nth(2).map(|part| part.as_ref().to_owned());
            let kind = format!("object {}", kind.unwrap_or_default());
            places.entry(kind).or_default().push(Place::Object(path));
        }
        places
    }
}

// === impl Damage ===

impl Damage {
    /// Something of what is stored, damaged in some way.
    fn draw(machine: &Machine, random: &SimEntropy) -> Self {
        let places = machine.places();
        let kinds: Vec<_> = places.values().collect();
        loop {
            let kind = kinds[random.below(kinds.len() as u64) as usize];
            let place = &kind[random.below(kind.len() as u64) as usize];
            let before = machine.bytes_at(place).expect("listed just before");
            let other = &kind[random.below(kind.len() as u64) as usize];
            let other = machine.bytes_at(other).expect("listed just before");
            let is_file = matches!(place, Place::File(_));
            let Some((how, after)) = changed(&before, &other, is_file, random) else {
                continue;
            };
            if after != before {
                let place = place.clone();
                return Self {
                    place,
                    how,
                    before,
                    after,
                };
            }
        }
    }

    /// Puts back what still is as the damage left it.
    fn mend(&self, machine: &Machine) {
        let Some(mut now) = machine.bytes_at(&self.place) else {
            return machine.say("the damaged bytes are gone meanwhile");
        };
        if now == self.after {
            return machine.put_at(&self.place, self.before.clone());
        }
        machine.say("what is damaged was written to meanwhile");
        if self.before.len() == self.after.len() {
            let both = self.before.iter().zip(&self.after);
            for (byte, (before, after)) in now.iter_mut().zip(both) {
                if before != after && *byte == *after {
                    *byte = *before;
                }
            }
            machine.put_at(&self.place, now);
        }
    }

    /// Whether an error in `log` says where the damage is.
    fn is_named(&self, log: &str) -> bool {
        let names = match &self.place {
            // A log is named by its directory: damage shows where a group is missed.
            Place::File(path) => {
                let parent = path.parent().map(|parent| parent.display().to_string());
                [path.display().to_string(), parent.unwrap_or_default()]
            }
            Place::Object(path) => [path.to_string(), path.to_string()],
        };
        let loud = |line: &&str| {
            let loud = ["ERROR", "WARN", "process ended", "process did not start"];
            loud.iter().any(|word| line.contains(word))
        };
        let mut lines = log.lines().filter(loud);
        lines.any(|line| names.iter().any(|name| line.contains(name.as_str())))
    }

    fn shown(&self) -> String {
        let place = match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Object(path) => path.to_string(),
        };
        format!("{place} ({} bytes): {}", self.before.len(), self.how)
    }
}

/// Other bytes in the place of `before`; `other` are of the same kind.
fn changed(
    before: &[u8],
    other: &[u8],
    is_file: bool,
    random: &SimEntropy,
) -> Option<(String, Vec<u8>)> {
    const BLOCK: usize = 4096;
    if before.is_empty() {
        return None;
    }
    let mut after = before.to_vec();
    let blocks = before.len().div_ceil(BLOCK);
    let block = |number: usize| number * BLOCK..before.len().min((number + 1) * BLOCK);
    // Space that was never written to is not worth a world.
    let written = |number: &usize| before[block(*number)].iter().any(|byte| *byte != 0);
    let written: Vec<usize> = (0..blocks).filter(written).collect();
    let at = *written.get(random.below(written.len().max(1) as u64) as usize)?;
    let how = match random.below(3) {
        0 => {
            let range = block(at);
            let bit = random.below(range.len() as u64 * 8) as usize;
            after[range.start + bit / 8] ^= 1 << (bit % 8);
            format!("bit {} of byte {} flipped", bit % 8, range.start + bit / 8)
        }
        1 => {
            let range = block(at);
            let kept = range.start + random.below(range.len() as u64) as usize;
            after.truncate(kept);
            format!("cut to {kept} bytes")
        }
        _ if is_file => {
            let from = written[random.below(written.len() as u64) as usize];
            let (from, to) = (block(from), block(at));
            let length = from.len().min(to.len());
            after[to.start..to.start + length].copy_from_slice(&before[from][..length]);
            format!("another block at byte {}", to.start)
        }
        _ => {
            after = other.to_vec();
            "another object's bytes".to_owned()
        }
    };
    Some((how, after))
}

// === impl World ===

impl World {
    /// Work under the plan's trouble, rest, damage, a look at what is left, mending, and a look at
    /// everything.
    pub(super) async fn work_and_rot(&mut self) {
        self.work_until_healed().await;
        let machine = Arc::clone(self.machine());
        machine.rest(self.random.chance(30)).await;
        let damage = Damage::draw(&machine, &self.random);
        machine.say(&format!("ROT {}", damage.shown()));
        machine.put_at(&damage.place, damage.after.clone());
        let before = self.shared.trace.text().len();
        machine.wake();
        let refused = self.look_around().await;
        let named = damage.is_named(&self.shared.trace.text()[before..]);
        self.rotten = Rotten {
            damage: damage.shown(),
            named,
            refused: refused.len(),
        };
        machine.say(&format!("named: {named}, refused: {}", refused.len()));
        let idempotent = BTreeSet::from(IDEMPOTENT);
        let found = self
            .history()
            .anomalies_under_damage(&idempotent, &refused, named);
        let found = found.iter().take(20);
        self.problems
            .extend(found.map(|anomaly| format!("with {}: {anomaly:?}", damage.shown())));
        machine.rest(false).await;
        damage.mend(&machine);
        if let Err(error) = self.unquarantine().await {
            let problem = format!("mended, and the controller does not start: {error}");
            self.problems.push(problem);
        }
        machine.say("MENDED");
        machine.wake();
        self.read_everything().await;
    }

    /// Puts logs back that were set aside.
    async fn unquarantine(&self) -> Result<(), controller::Error> {
        let machine = self.machine();
        let put_back = self.ask_controllers(async |client| {
            let image = Arc::clone(&client.image().borrow());
            for (wal, found) in image.wals.iter() {
                if found.quarantine.is_some() {
                    machine.say(&format!("log {wal} is put back"));
                    client
                        .submit(Command::UnquarantineWal { wal: *wal })
                        .await?;
                }
            }
            Ok(())
        });
        put_back.await
    }

    /// Reads all that can be read; gives the acknowledged records that cannot.
    async fn look_around(&mut self) -> BTreeSet<(tests::history::Partition, i64)> {
        let mut cluster = self.shared.cluster(self.random.below(u64::MAX), 17);
        let partitions = self.plan.partitions;
        let serving = async {
            while !is_serving(&mut cluster, partitions).await {
                sleep(Duration::from_millis(300)).await;
            }
        };
        // Not serving is an answer, too.
        let serving = timeout(Duration::from_secs(20), serving).await;
        self.say(&format!("serving: {}", serving.is_ok()));
        let mut refused = BTreeSet::new();
        for (index, acknowledged) in self.acknowledged() {
            let partition = partition(index);
            let mut all = BTreeMap::new();
            let mut rest = acknowledged.clone();
            let (mut next, mut stride) = (0, 1);
            loop {
                let (seen, error) = self.stream(&mut cluster, index, &mut next).await;
                all.extend(seen.iter().copied());
                stride = if seen.is_empty() { stride * 2 } else { 1 };
                self.shared
                    .history
                    .lock()
                    .expect("no panic")
                    .read(&partition, seen);
                let Some(error) = error else {
                    break;
                };
                self.say(&format!("{TOPIC}-{index} from {next}: {error}"));
                rest = rest.split_off(&next);
                // A partition that nobody leads refuses all of it; a damaged block some of it.
                let some = if error.code().is_some() {
                    stride
                } else {
                    rest.len()
                };
                let some: Vec<i64> = rest.iter().take(some).copied().collect();
                let Some(last) = some.last() else {
                    break;
                };
                next = last + 1;
                refused.extend(some.into_iter().map(|offset| (partition.clone(), offset)));
            }
            let mut history = self.shared.history.lock().expect("no panic");
            history.read_finally(&partition, all.into_iter().collect());
        }
        refused
    }

    /// Reads on until the end, or until an error stays.
    async fn stream(
        &self,
        cluster: &mut Cluster,
        index: i32,
        next: &mut i64,
    ) -> (Vec<(i64, u64)>, Option<broker::client::Error>) {
        let mut seen = Vec::new();
        let mut tries = 0;
        loop {
            match read(&self.shared, cluster, index, next, &mut seen).await {
                Ok(true) => {}
                Ok(false) => return (seen, None),
                Err(error) => {
                    tries += 1;
                    if tries == TRIES {
                        return (seen, Some(error));
                    }
                    sleep(Duration::from_millis(300)).await;
                }
            }
        }
    }
}
