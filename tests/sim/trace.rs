//! Everything that is said and done in a simulation, in order, with its virtual time.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// Settings of those who read it.
const READ_BY: [&str; 3] = [
    "HEADWATER_SIM_TRACE",
    "HEADWATER_SIM_STORY",
    "HEADWATER_SIM_REPLAY_ROT",
];

/// A shared text. Clones write to the same.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    /// None where nobody reads it: a seed gives the same world without.
    text: Option<Arc<Mutex<String>>>,
}

impl Trace {
    /// An empty trace that starts now, kept when the environment says that somebody reads it.
    pub(crate) fn new() -> Self {
        let kept = READ_BY.iter().any(|name| std::env::var_os(name).is_some());
        Self {
            start: Instant::now(),
            text: kept.then(Arc::default),
        }
    }

    /// Whether anybody reads it.
    pub(crate) fn is_kept(&self) -> bool {
        self.text.is_some()
    }

    /// Adds a line.
    pub(crate) fn line(&self, line: &str) {
        let Some(text) = &self.text else { return };
        let elapsed = self.start.elapsed();
        let mut text = text.lock().expect("no panic under this lock");
        writeln!(text, "{:>12.6} {line}", elapsed.as_secs_f64()).expect("a String takes all");
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        let text = self.text.as_ref();
        let text = text.map(|text| text.lock().expect("no panic under this lock").clone());
        text.unwrap_or_default()
    }
}

/// Where the node's own log goes: the same trace, so that it too must be the same every time.
pub(crate) struct Line(Trace);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            self.0.line(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Trace {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}
