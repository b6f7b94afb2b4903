//! Work that an epoch can do without for a while: what panics is begun again.

use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Pause;

/// Keeps what `begin` spawns running until it ends by itself, and what it gives for as long. A panic
/// is logged and counted.
pub(super) async fn keep<T: Send>(
    what: &'static str,
    failures: Counter,
    mut begin: impl FnMut(&mut JoinSet<()>) -> T + Send,
) {
    let mut pause = Pause::default();
    loop {
        // Dropped with this task, it takes what it holds along.
        let mut tasks = JoinSet::new();
        let _kept = begin(&mut tasks);
        let Some(Err(error)) = tasks.join_next().await else {
            return;
        };
        failures.inc();
        tracing::error!(%error, what, "it has failed, and is begun again after a pause");
        sleep(pause.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_counted_and_begun_again_until_it_ends() {
        let failures: Counter = Counter::default();
        let begun = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&begun);
        keep("a test", failures.clone(), move |tasks| {
            let time = counting.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move { assert!(time >= 3, "on purpose") });
        })
        .await;
        assert_eq!(failures.get(), 3);
        assert_eq!(begun.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_keeps_ends_with_it() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep("a test", Counter::default(), move |tasks| {
            let held = Arc::clone(&held);
            tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }));
        tokio::task::yield_now().await;
        tasks.shutdown().await;
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
