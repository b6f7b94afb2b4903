//! What every rehearsal does: pods with records in them, a page, and waiting for what it names.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use super::alerts::{Alert, Look};
use super::book::Book;
use super::pods::{BROKER, Pods, Values, tail};
use super::shell::{self, Told};
use crate::load::{LIMIT, Load, check, read_all_at};

/// How long what takes several turns may take.
const PATIENCE: Duration = Duration::from_secs(4 * LIMIT.as_secs());
/// How much of the past an alert sees that is to rest.
const RANGE: Duration = Duration::from_secs(15);

/// A page, pods, and records that must be served whatever happens.
pub(super) struct Scene {
    pub(super) book: Book,
    pub(super) pods: Pods,
    /// Topics of one partition, each with its load.
    pub(super) loads: Vec<(String, Load)>,
    /// What was seen when the trouble began.
    before: Look,
}

// === impl Scene ===

impl Scene {
    /// Pods that are ready, each broker leading at least one topic that has records.
    pub(super) fn begin(book: &str, values: Values) -> Self {
        let mut pods = Pods::new(values);
        pods.start_all();
        let before = pods.look_whole();
        let mut scene = Self {
            book: Book::open(book),
            pods,
            loads: Vec::new(),
            before,
        };
        for pod in scene.pods.of_set(BROKER) {
            scene.has_topics(&pod);
        }
        scene.write(100);
        scene.flush();
        scene.look();
        scene
    }

    /// Makes topics until a broker leads some: those.
    pub(super) fn has_topics(&mut self, pod: &str) -> Vec<String> {
        loop {
            let topics = self.topics_of(pod);
            if !topics.is_empty() {
                return topics;
            }
            assert!(self.loads.len() < 16, "{pod} leads none of 16 topics");
            self.add(&format!("t{}", self.loads.len()), 0);
        }
    }

    /// Writes and flushes so often that every log has groups in its middle.
    pub(super) fn write_groups(&mut self) {
        for _ in 0..8 {
            self.write(10);
            self.flush();
        }
    }

    /// Another topic, and its load of values of this width.
    pub(super) fn add(&mut self, name: &str, width: usize) {
        self.make_topic(name);
        let load = Load::at(&self.pods.bootstrap(), width);
        self.loads.push((name.to_owned(), load));
    }

    fn make_topic(&self, name: &str) {
        let pod = &self.pods.of_set(BROKER)[0];
        let arguments = ["topic", "create", name].map(str::to_owned);
        let begun = Instant::now();
        loop {
            let told = Told::from(self.pods.exec(pod, &arguments));
            if told.ok || told.text.contains("TOPIC_ALREADY_EXISTS") {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{}", told.text);
        }
    }

    /// Our topics that a broker leads, as the cluster's page of topics says.
    pub(super) fn topics_of(&self, pod: &str) -> Vec<String> {
        let node = self.pods.node(pod).to_string();
        let names = self.loads.iter().map(|(name, _)| name.clone());
        names.filter(|name| self.leader_of(name) == node).collect()
    }

    fn leader_of(&self, topic: &str) -> String {
        let arguments = ["topic", "describe", topic, "-o", "json"].map(str::to_owned);
        let begun = Instant::now();
        loop {
            for pod in self.pods.of_set(BROKER) {
                if self.pods.pid(&pod).is_none() {
                    continue;
                }
                let output = self.pods.exec(&pod, &arguments);
                let page: serde_json::Value =
                    serde_json::from_slice(&output.stdout).unwrap_or_default();
                if let Some(leader) = leader_in(&page) {
                    return leader.to_string();
                }
            }
            assert!(begun.elapsed() < LIMIT, "nobody tells who leads {topic}");
        }
    }

    /// Sends to every topic, and waits for nothing.
    pub(super) fn write(&mut self, count: u64) {
        for (name, load) in &mut self.loads {
            load.send(name, count);
        }
    }

    /// How many records are on their way.
    pub(super) fn unacknowledged(&self) -> u64 {
        let loads = self.loads.iter();
        loads
            .map(|(_, load)| load.sent - load.acknowledged.count() as u64)
            .sum()
    }

    /// Waits until all that was sent is acknowledged.
    pub(super) fn flush(&self) {
        for (name, load) in &self.loads {
            let sent = usize::try_from(load.sent).unwrap();
            load.producer.flush(PATIENCE).unwrap();
            assert_eq!(load.acknowledged.count(), sent, "{name}");
        }
    }

    /// Begins to compare with what is shown now.
    pub(super) fn look(&mut self) {
        self.before = self.pods.look_whole();
    }

    /// The only pod where a metric is 1. What is shown now is compared with from here on.
    pub(super) fn only(&mut self, metric: &str) -> String {
        let begun = Instant::now();
        loop {
            self.look();
            let pods = self.before.pods.keys();
            let found = pods.filter(|pod| self.before.of(pod, metric) == Some(1.0));
            if let [one] = found.collect::<Vec<_>>()[..] {
                return one.clone();
            }
            assert!(begun.elapsed() < LIMIT, "{metric} is not 1 at one pod");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until what the pods show is so.
    pub(super) fn until(&self, what: &str, is_so: impl Fn(&Look, &Look) -> bool) {
        let begun = Instant::now();
        loop {
            let now = self.pods.look();
            // Nothing is said of a pod that had no time to answer.
            if self.pods.is_whole(&now) && is_so(&self.before, &now) {
                println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
                return;
            }
            assert!(begun.elapsed() < LIMIT, "not seen: {what}\n{}", shown(&now));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an alert that the page names would fire, and says of which metric it is made.
    pub(super) fn fires(&mut self, alert: &str) {
        let alert = Alert::named(&self.book.alert(alert));
        let what = format!("{} fires", alert.name);
        self.until(&what, |before, now| alert.fires(before, now));
    }

    /// Waits until an alert of the page would not fire any more.
    pub(super) fn rests(&mut self, alert: &str) {
        let alert = Alert::named(&self.book.alert(alert));
        let what = format!("{} rests", alert.name);
        // As its range moves on, it forgets what was still slow or failed at first.
        let since = RefCell::new(None::<Look>);
        self.until(&what, |before, now| {
            let mut since = since.borrow_mut();
            let rests = !alert.fires(since.as_ref().unwrap_or(before), now);
            if now.at - since.as_ref().unwrap_or(before).at > RANGE {
                *since = Some(now.clone());
            }
            rests
        });
    }

    /// An alert that the page names and that takes longer, or other trouble, than is made here: it
    /// asks for this metric.
    pub(super) fn asks(&mut self, alert: &str, metric: &str) {
        let alert = Alert::named(&self.book.alert(alert));
        assert!(alert.expression.contains(metric), "{}", alert.expression);
    }

    /// Waits until a metric that the page names has grown since the trouble began.
    pub(super) fn grows(&mut self, metric: &str) {
        let metric = self.book.metric(metric);
        let what = format!("{metric} grows");
        self.until(&what, |before, now| {
            let pods = now.pods.keys();
            let grown =
                pods.filter_map(|pod| Some((before.of(pod, &metric), now.of(pod, &metric)?)));
            let mut grown = grown.map(|(was, is)| is > was.unwrap_or(0.0));
            grown.any(|grown| grown)
        });
    }

    /// Waits until the sum of a metric that the page names is so.
    pub(super) fn shows(&mut self, metric: &str, is_so: impl Fn(f64) -> bool) {
        let metric = self.book.metric(metric);
        self.until(&format!("{metric} shows it"), |_, now| {
            is_so(now.sum(&metric))
        });
    }

    /// A metric that the page names and that shows trouble of another kind: it is there.
    pub(super) fn has(&mut self, metric: &str) {
        let metric = self.book.metric(metric);
        let shown = |page: &Option<Vec<_>>| {
            let lines = page.iter().flatten();
            let mut names = lines.map(|(name, ..): &(String, String, f64)| name);
            names.any(|name| *name == metric)
        };
        let look = self.pods.look_whole();
        assert!(look.pods.values().any(shown), "{metric}");
    }

    /// Waits until the lines that the page promises have been logged.
    pub(super) fn logs(&self, but: &[&str]) {
        for line in &self.book.logs {
            if !but.contains(&line.as_str()) {
                self.until(&format!("log {line:?}"), |_, _| self.pods.logged(line));
            }
        }
    }

    /// Runs the one command of the page with these words; it succeeds.
    pub(super) fn run(&mut self, with: &str) -> String {
        let line = self.book.command(with);
        self.line(&line)
    }

    /// Runs the one command of the page with these words until it says so.
    pub(super) fn run_until(&mut self, with: &str, is_so: impl Fn(&str) -> bool) -> String {
        let line = self.book.command(with);
        self.line_until(&line, is_so)
    }

    /// Runs a line of the page, filled in; it succeeds.
    pub(super) fn line(&mut self, line: &str) -> String {
        self.line_until(line, |_| true)
    }

    /// Again after failures: a lease that lapsed on a busy machine, a checkpoint not written yet.
    fn line_until(&mut self, line: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let told = shell::run(&mut self.pods, line);
            if told.ok && is_so(&told.text) {
                return told.text;
            }
            assert!(begun.elapsed() < LIMIT, "{line}: {}", told.text);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every record that was sent has been acknowledged and is served, once and in order; the page
    /// has been rehearsed whole; and everybody can stop.
    pub(super) fn end(mut self) {
        self.write(50);
        self.flush();
        let bootstrap = self.pods.bootstrap();
        for (name, load) in &self.loads {
            check(
                &read_all_at(&bootstrap, name),
                &load.acknowledged,
                load.sent,
            );
        }
        self.book.end();
        self.pods.stop_all();
    }
}

/// The leader of partition 0 in what `topic describe` prints.
fn leader_in(page: &serde_json::Value) -> Option<i64> {
    let rows = page.as_array().or_else(|| page["partitions"].as_array())?;
    let leader = rows.first()?["leader"].as_i64()?;
    (leader >= 0).then_some(leader)
}

/// What matters of a look, for whoever reads a failure.
fn shown(look: &Look) -> String {
    let mut lines = Vec::new();
    for (pod, page) in &look.pods {
        match page {
            None => lines.push(format!("{pod} does not answer")),
            Some(page) => {
                let of_interest = ["takeover", "controller_", "lease", "retries", "unuploaded"];
                let page = page.iter().filter(|(name, ..)| {
                    !name.contains("bucket") && of_interest.iter().any(|word| name.contains(word))
                });
                lines.extend(
                    page.map(|(name, labels, value)| format!("{pod} {name}{{{labels}}} {value}")),
                );
            }
        }
    }
    tail(&lines.join("\n"))
}
