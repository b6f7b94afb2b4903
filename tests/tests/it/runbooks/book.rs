//! A page of `deploy/runbooks`: what it says to run and to look at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Below the checkout.
pub(super) fn file(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(below)
}

/// A page, and what of it has not been rehearsed yet.
pub(super) struct Book {
    name: String,
    /// Commands of its shell blocks, a line each.
    commands: Vec<String>,
    /// Lines that nodes log.
    pub(super) logs: Vec<String>,
    metrics: BTreeSet<String>,
    alerts: BTreeSet<String>,
    left: BTreeSet<String>,
}

// === impl Book ===

impl Book {
    pub(super) fn open(name: &str) -> Self {
        let text = std::fs::read_to_string(file(&format!("deploy/runbooks/{name}.md"))).unwrap();
        Self::parse(name, &text)
    }

    fn parse(name: &str, text: &str) -> Self {
        let mut book = Self {
            name: name.to_owned(),
            commands: Vec::new(),
            logs: Vec::new(),
            metrics: words(text, |word| word.starts_with("headwater_")),
            alerts: words(text, |word| {
                let rest = word.strip_prefix("Headwater").unwrap_or_default();
                rest.starts_with(|c: char| c.is_ascii_uppercase())
            }),
            left: BTreeSet::new(),
        };
        let (mut block, joined) = (None, text.replace("\\\n", " "));
        for line in joined.lines().map(str::trim) {
            match (line.strip_prefix("```"), block) {
                (Some(_), Some(_)) => block = None,
                (Some(kind), None) => block = Some(kind),
                (None, Some("sh")) => book.commands.extend(command(line)),
                (None, Some("log")) => book.logs.push(line.to_owned()),
                (None, _) => {}
            }
        }
        let all = book
            .commands
            .iter()
            .chain(&book.metrics)
            .chain(&book.alerts);
        book.left = all.cloned().collect();
        book
    }

    /// The one command with these words.
    pub(super) fn command(&mut self, with: &str) -> String {
        let found = self.commands.iter().filter(|line| line.contains(with));
        let found: BTreeSet<String> = found.cloned().collect();
        let [line] = &found.iter().collect::<Vec<_>>()[..] else {
            panic!("{}: {with:?} is in {found:?}", self.name);
        };
        self.left.remove(*line);
        (*line).clone()
    }

    /// The one command that ends so.
    pub(super) fn ending(&mut self, with: &str, end: &str) -> String {
        let mut found = self.commands.iter();
        let found = found.find(|line| line.contains(with) && line.ends_with(end));
        let line = found.expect("a command that ends so").clone();
        self.left.remove(&line);
        line
    }

    /// A metric that the page names.
    pub(super) fn metric(&mut self, name: &str) -> String {
        assert!(self.metrics.contains(name), "{}: no {name}", self.name);
        self.left.remove(name);
        name.to_owned()
    }

    /// An alert that the page names.
    pub(super) fn alert(&mut self, name: &str) -> String {
        assert!(self.alerts.contains(name), "{}: no {name}", self.name);
        self.left.remove(name);
        name.to_owned()
    }

    /// Nothing was left out.
    pub(super) fn end(&self) {
        let none = BTreeSet::new();
        assert_eq!(self.left, none, "{}: not rehearsed", self.name);
    }
}

/// The words of letters, digits and underscores that `wanted` wants.
fn words(text: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words = words.filter(|word| wanted(word));
    words.map(str::to_owned).collect()
}

/// What a line of a shell block runs, without its remark.
fn command(line: &str) -> Option<String> {
    let line = line.split(" # ").next().unwrap_or_default();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

#[test]
fn a_page_gives_its_commands_lines_metrics_and_alerts() {
    let text = "# A\nAlert HeadwaterDown, `headwater_x_total{a=\"b\"}`, headwater-broker-100.\n\n\
                ```sh\n# remark\nkubectl a \\\n  --b   # remark\n```\n- so:\n  ```log\n  the log waits\n  ```\n";
    let mut book = Book::parse("a", text);
    assert_eq!(book.commands, ["kubectl a --b"]);
    assert_eq!(book.logs, ["the log waits"]);
    assert_eq!(book.command("kubectl"), "kubectl a --b");
    assert_eq!(book.metric("headwater_x_total"), "headwater_x_total");
    assert_eq!(book.left, BTreeSet::from(["HeadwaterDown".to_owned()]));
    assert_eq!(book.alert("HeadwaterDown"), "HeadwaterDown");
    book.end();
}

/// Each page but these is rehearsed here; whoever adds one adds its rehearsal.
#[test]
fn every_page_is_rehearsed() {
    let rehearsed = [
        "broker-lost",
        "bucket-unreachable",
        "controller-quorum-lost",
        "disk-full",
        "rolling-upgrade",
        "slow-store",
        "wal-quarantined",
        "wal-volume-lost",
    ];
    // The front page, and what `cargo xtask deploy` rehearses with the chart's own pods.
    let elsewhere = ["README", "scale"];
    let pages = std::fs::read_dir(file("deploy/runbooks")).unwrap();
    let pages = pages.map(|page| page.unwrap().path());
    let pages: BTreeSet<String> = pages
        .map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known = rehearsed.iter().chain(&elsewhere);
    assert_eq!(pages, known.map(|name| (*name).to_owned()).collect());
}
