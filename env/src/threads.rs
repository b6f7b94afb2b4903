//! Blocking work, off the runtime: OS threads when real, tasks of the scheduler when simulated.

use std::sync::Arc;

use tokio::sync::oneshot;

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Takes jobs and runs each to its end.
pub trait Executor: Send + Sync + 'static {
    /// Queues `job`. Never blocks for long: callers bound what they have in flight.
    fn submit(&self, job: Job);
}

/// Makes threads.
pub trait Threads: Send + Sync + 'static {
    /// A thread of its own, named `name`, which runs jobs one after the other in order of
    /// submission and ends when the handle is dropped.
    fn io_thread(&self, name: &str) -> IoThread;

    /// A shared pool for short blocking work, in no order.
    fn pool(&self) -> IoThread;
}

/// Handle to an [`Executor`]. Cheap to clone.
#[derive(Clone)]
pub struct IoThread(Arc<dyn Executor>);

impl IoThread {
    /// A handle to `executor`.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self(executor)
    }

    /// Runs `job` there and gives its result. Once called, the job runs whether or not the
    /// future is polled to its end.
    ///
    /// # Panics
    /// When the job panicked, or the executor is gone (a simulated crash parks instead).
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let (done, result) = oneshot::channel();
        self.0.submit(Box::new(move || {
            // The caller may have gone: its loss.
            let _ = done.send(job());
        }));
        async move { result.await.expect("an executor runs each job to its end") }
    }
}
