//! Whether a quorum of the controllers can be reached: asked now and again, since a leader that has
//! lost its quorum does not know it.

use std::sync::Arc;
use std::time::Duration;

use controller::Client;
use env::Clock;
use parking_lot::Mutex;
use protocol::{TopicId, TopicPartition};
use tokio::sync::watch;
use tokio::time::timeout;

/// What the last question brought.
pub(crate) struct Pulse {
    clock: Arc<dyn Clock>,
    /// When a quorum answered last: time of the clock.
    heard: Mutex<Duration>,
    answers: watch::Sender<bool>,
}

// === impl Pulse ===

impl Pulse {
    /// A quorum that answers at this moment.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let heard = Mutex::new(clock.monotonic());
        Arc::new(Self {
            clock,
            heard,
            answers: watch::Sender::new(true),
        })
    }

    /// Time since a quorum answered.
    pub(crate) fn age(&self) -> Duration {
        self.clock.monotonic().saturating_sub(*self.heard.lock())
    }

    /// Whether it answered the last time, to be followed.
    pub(super) fn answers(&self) -> watch::Receiver<bool> {
        self.answers.subscribe()
    }

    /// Asks every `period`, for as long as it runs; an answer may take as long.
    pub(super) async fn ask(self: Arc<Self>, client: Client, period: Duration) {
        let nothing = TopicPartition::new(TopicId::default(), 0);
        loop {
            // A read that a quorum must confirm. What it reads does not matter.
            let answers = matches!(timeout(period, client.partition(nothing)).await, Ok(Ok(_)));
            if answers {
                *self.heard.lock() = self.clock.monotonic();
            }
            self.answers
                .send_if_modified(|before| std::mem::replace(before, answers) != answers);
            tokio::time::sleep(period).await;
        }
    }
}
