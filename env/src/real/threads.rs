//! OS threads.

use std::sync::{Arc, mpsc};

use crate::{Executor, IoThread, Job, Threads};

pub(super) struct SystemThreads;

impl Threads for SystemThreads {
    fn io_thread(&self, name: &str) -> IoThread {
        let (sender, receiver) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Ok(job) = receiver.recv() {
                    job();
                }
            })
            .expect("the system gives a thread at start");
        IoThread::new(Arc::new(OwnThread(sender)))
    }

    fn pool(&self) -> IoThread {
        IoThread::new(Arc::new(Pool))
    }
}

/// The channel is bounded by its users: each has a fixed number of jobs in flight.
struct OwnThread(mpsc::Sender<Job>);

impl Executor for OwnThread {
    fn submit(&self, job: Job) {
        self.0
            .send(job)
            .expect("an I/O thread lives as long as its handle");
    }
}

struct Pool;

impl Executor for Pool {
    fn submit(&self, job: Job) {
        drop(tokio::task::spawn_blocking(job));
    }
}
