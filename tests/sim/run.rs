//! One simulation: a thread of its own, a paused runtime, the world, and the verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::Level;
use tracing::subscriber::DefaultGuard;

use crate::plan::Plan;
use crate::steps::Tally;
use crate::trace::Trace;
use crate::world::World;
use crate::world::rot::Rotten;
use crate::{interpose, invariants};

/// What came of a simulation.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// Everything said and done.
    pub(crate) trace: String,
    /// Anomalies, and promises not kept.
    pub(crate) problems: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: u64,
    pub(crate) disk_ops: u64,
    pub(crate) disk_reads: u64,
    /// How often each kind of trouble came.
    pub(crate) fired: BTreeMap<String, u64>,
    /// What nodes counted of themselves.
    pub(crate) saw: BTreeMap<String, u64>,
    /// Steps of the act.
    pub(crate) tally: Tally,
    /// What came of damage at rest.
    pub(crate) rotten: Rotten,
}

impl Outcome {
    /// A line of figures.
    pub(crate) fn figures(&self) -> String {
        format!(
            "acknowledged {}, crashes {}, faults {}, disk operations {}",
            self.acknowledged, self.crashes, self.faults, self.disk_ops
        )
    }
}

/// Runs `plan` from `seed`, on a thread that has no other world.
pub(crate) fn simulate(seed: u64, plan: Plan) -> Outcome {
    on_its_own(seed, move || live(seed, plan))
}

/// Runs a world of `seed` on a thread that has no other: paused time, libc's clock with it.
pub(crate) fn on_its_own<T, F>(seed: u64, world: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let thread = std::thread::Builder::new().name(format!("seed-{seed}"));
    let running = thread.stack_size(16 << 20).spawn(move || {
        interpose::enter(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        runtime.block_on(follow_time(world()))
    });
    running
        .expect("a thread")
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Tells libc's clock of this thread the virtual time whenever the world is looked at.
async fn follow_time<T>(world: impl Future<Output = T>) -> T {
    let start = tokio::time::Instant::now();
    let mut world = std::pin::pin!(world);
    std::future::poll_fn(|context| {
        interpose::set_elapsed(start.elapsed());
        world.as_mut().poll(context)
    })
    .await
}

/// The node's log goes to the trace, and with it into the comparison.
fn listen(trace: &Trace) -> DefaultGuard {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_writer(trace.clone())
        .finish();
    tracing::subscriber::set_default(subscriber)
}

async fn live(seed: u64, plan: Plan) -> Outcome {
    let trace = Trace::new();
    let _listening = trace.is_kept().then(|| listen(&trace));
    trace.line(&format!("seed {seed}: {plan}"));
    let mut world = World::new(seed, plan.clone(), trace.clone());
    let mut problems = Vec::new();
    // Nothing may hang for ever: an hour of virtual time is a failure too.
    if tokio::time::timeout(Duration::from_secs(3600), world.live())
        .await
        .is_err()
    {
        problems.push("the world did not come to its end within an hour".to_owned());
    }
    problems.append(&mut world.problems);
    problems.extend(world.wrong());
    let evidence = world.evidence();
    problems.extend(invariants::judge(&evidence));
    for problem in &problems {
        trace.line(&format!("PROBLEM {problem}"));
    }
    trace.line("end");
    Outcome {
        plan,
        problems,
        acknowledged: evidence.history.acknowledged() as u64,
        crashes: world.crashes(),
        faults: world.faults(),
        disk_ops: world.disk_ops(),
        disk_reads: world.disk_reads(),
        fired: world.fired(),
        saw: world.saw(),
        tally: world.tally(),
        rotten: world.rotten.clone(),
        trace: trace.text(),
    }
}
