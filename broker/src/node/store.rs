//! The object store: opened, waited for, and probed.

use std::sync::Arc;
use std::time::Duration;

use controller::{Client, Command};
use object_store::ObjectStore;
use storage::store::{OpenedStore, RequestSettings, StoreMetrics, StoreOptions, StoreUrl, probe};
use storage::{ErrorKind, KeySpace};

use super::{Context, NodeError, Status};
use crate::limits::{RETRY_FIRST, RETRY_MOST};

/// Room on a local disk that only uploads may use, so that a full disk can be freed.
const LOCAL_RESERVE_BYTES: u64 = 128 << 20;

/// The store of a node.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: String,
    pub(crate) metrics: StoreMetrics,
    /// The URL as it may be shown.
    pub(crate) shown: String,
    /// Where its files are, when it is a directory of this machine.
    pub(crate) directory: Option<std::path::PathBuf>,
}

impl Store {
    /// The key space of the cluster that `client` speaks for.
    pub(crate) fn keys(&self, client: &Client) -> KeySpace {
        let image = client.image();
        let image = image.borrow();
        let cluster = image.cluster.map(|id| id.to_string()).unwrap_or_default();
        KeySpace::new(&self.prefix, &cluster, image.generation)
    }
}

/// The store's URL as configured.
///
/// # Errors
/// When it is none.
pub(super) fn parse(context: &Context) -> Result<StoreUrl, NodeError> {
    Ok(StoreUrl::parse(&context.config.object_store_url)?)
}

/// Opens the store that the parts or the configuration name; says what it waits for.
pub(super) async fn open(
    context: &Context,
    say: &(impl Fn(&str) + Sync),
) -> Result<Store, NodeError> {
    if let Some((store, prefix)) = &context.parts.store {
        return Ok(Store {
            store: Arc::clone(store),
            prefix: prefix.clone(),
            metrics: StoreMetrics::default(),
            shown: "given".to_owned(),
            directory: None,
        });
    }
    let url = with_secrets(context, parse(context)?);
    let options = || StoreOptions {
        read_only: false,
        reserve_bytes: LOCAL_RESERVE_BYTES,
        requests: RequestSettings::standard(),
    };
    let mut pause = Pause::default();
    let opened: OpenedStore = loop {
        match storage::store::open(&context.env, &url, options()).await {
            Ok(opened) => break opened,
            Err(error) if error.kind() == ErrorKind::Retry => {
                say(&format!("the object store cannot be opened: {error}"));
                tokio::time::sleep(pause.next()).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let directory = match url {
        StoreUrl::File { directory } => Some(directory),
        StoreUrl::Memory | StoreUrl::Cloud { .. } => None,
    };
    let OpenedStore {
        store,
        prefix,
        metrics,
        shown,
    } = opened;
    Ok(Store {
        store,
        prefix,
        metrics,
        shown,
        directory,
    })
}

/// Keys from the configuration, which a URL would show.
fn with_secrets(context: &Context, mut url: StoreUrl) -> StoreUrl {
    if let StoreUrl::Cloud { settings, .. } = &mut url {
        let secrets = [
            ("access_key_id", "object.store.access.key.id"),
            ("secret_access_key", "object.store.secret.access.key"),
        ];
        for (name, key) in secrets {
            let value = context.config.values.text(key);
            if !value.is_empty() {
                settings.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    url
}

/// Probes the store, unless it passed lately. One that answers wrongly is refused; one that
/// cannot be reached is waited for.
pub(super) async fn check(
    context: &Context,
    store: &Store,
    client: &Client,
) -> Result<(), NodeError> {
    if context.parts.store.is_some() {
        return Ok(());
    }
    let now_ms = context.env.clock.wall_ms();
    let interval = context
        .config
        .values
        .number("object.store.probe.interval.ms");
    let passed = client.image().borrow().probes.get(&store.shown).copied();
    if passed.is_some_and(|at| (0..interval).contains(&(now_ms - at))) {
        return Ok(());
    }
    let mut pause = Pause::default();
    loop {
        match probe(&context.env, &store.store, &store.prefix).await {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::Retry => {
                let why = format!(
                    "the object store {} cannot be reached: {error}",
                    store.shown
                );
                wait(context, &why, &mut pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let at_ms = context.env.clock.wall_ms();
    let record = Command::RecordProbe {
        store_url: store.shown.clone(),
        at_ms,
    };
    match client.submit(record).await {
        // Not recorded, it is only probed again.
        Err(error) if error.kind() == controller::ErrorKind::Retry => {
            tracing::warn!(%error, "the passed probe of the object store is not recorded");
            Ok(())
        }
        recorded => Ok(recorded.map(drop)?),
    }
}

/// Says why the node is not ready, and waits a little longer each time.
pub(super) async fn wait(context: &Context, why: &str, pause: &mut Pause) {
    tracing::warn!(why, "waiting");
    context
        .status
        .send_replace(Status::Starting(why.to_owned()));
    tokio::time::sleep(pause.next()).await;
}

/// Pauses that double up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Pause(Option<Duration>);

impl Pause {
    /// The next one.
    pub(crate) fn next(&mut self) -> Duration {
        let next = self
            .0
            .map_or(RETRY_FIRST, |last| (last * 2).min(RETRY_MOST));
        self.0 = Some(next);
        next
    }

    /// No pause beyond `most` from here on, until the next one.
    pub(crate) fn at_most(&mut self, most: Duration) {
        self.0 = self.0.map(|last| last.min(most / 2));
    }
}
