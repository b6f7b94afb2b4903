//! Everything that is said and done in a simulation, in order, with its virtual time.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// A shared text. Clones write to the same.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    text: Arc<Mutex<String>>,
}

impl Trace {
    /// An empty trace that starts now.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            text: Arc::default(),
        }
    }

    /// Adds a line.
    pub(crate) fn line(&self, line: &str) {
        let elapsed = self.start.elapsed();
        let mut text = self.text.lock().expect("no panic under this lock");
        writeln!(text, "{:>12.6} {line}", elapsed.as_secs_f64()).expect("a String takes all");
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().expect("no panic under this lock").clone()
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
