//! Threads as tasks of the scheduler: jobs run inline, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::SimEntropy;
use crate::{Executor, IoThread, Job, Threads};

/// How long jobs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpeed {
    /// The least.
    pub least: Duration,
    /// The most.
    pub most: Duration,
}

impl DiskSpeed {
    /// No time at all.
    pub const INSTANT: Self = Self {
        least: Duration::ZERO,
        most: Duration::ZERO,
    };
}

/// Makes executors that are tasks. A job runs after a latency drawn from the seed, all at one
/// instant of simulated time.
pub struct SimThreads {
    entropy: SimEntropy,
    speed: Arc<std::sync::Mutex<DiskSpeed>>,
    gate: Arc<Gate>,
}

/// Closed while the machine is held still.
#[derive(Default)]
struct Gate {
    closed: AtomicBool,
    opened: Notify,
}

impl Gate {
    async fn pass(&self) {
        loop {
            let opened = self.opened.notified();
            if !self.closed.load(Ordering::Relaxed) {
                return;
            }
            opened.await;
        }
    }
}

impl SimThreads {
    /// Threads whose jobs take what `speed` says.
    pub fn new(seed: u64, speed: DiskSpeed) -> Self {
        Self {
            entropy: SimEntropy::new(seed),
            speed: Arc::new(std::sync::Mutex::new(speed)),
            gate: Arc::default(),
        }
    }

    /// No job begins until [`SimThreads::release`].
    pub fn hold(&self) {
        self.gate.closed.store(true, Ordering::Relaxed);
    }

    /// Jobs run again.
    pub fn release(&self) {
        self.gate.closed.store(false, Ordering::Relaxed);
        self.gate.opened.notify_waiters();
    }

    /// Makes all threads slower or faster from now on.
    pub fn set_speed(&self, speed: DiskSpeed) {
        *self.speed.lock().expect("no panic under this lock") = speed;
    }

    fn spawn(&self) -> IoThread {
        // Bounded by its users: each has a fixed number of jobs in flight.
        let (sender, receiver) = mpsc::unbounded_channel();
        let latency = Latency {
            entropy: self.entropy.fork(),
            speed: self.speed.clone(),
        };
        tokio::spawn(run(receiver, latency, self.gate.clone()));
        IoThread::new(Arc::new(SimThread(sender)))
    }
}

impl Threads for SimThreads {
    fn io_thread(&self, _name: &str) -> IoThread {
        self.spawn()
    }

    fn pool(&self) -> IoThread {
        self.spawn()
    }
}

struct Latency {
    entropy: SimEntropy,
    speed: Arc<std::sync::Mutex<DiskSpeed>>,
}

impl Latency {
    fn draw(&self) -> Duration {
        let speed = *self.speed.lock().expect("no panic under this lock");
        let span = speed.most.saturating_sub(speed.least);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        speed.least + Duration::from_micros(self.entropy.below(micros.saturating_add(1)))
    }
}

async fn run(mut jobs: mpsc::UnboundedReceiver<Job>, latency: Latency, gate: Arc<Gate>) {
    while let Some(job) = jobs.recv().await {
        let wait = latency.draw();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        gate.pass().await;
        job();
    }
}

struct SimThread(mpsc::UnboundedSender<Job>);

impl Executor for SimThread {
    fn submit(&self, job: Job) {
        // The task is gone only when its runtime ends: then nobody waits for the answer.
        drop(self.0.send(job));
    }
}
