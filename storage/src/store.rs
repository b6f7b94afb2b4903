//! Object stores, by URL, behind one layer of time-outs, short retries and counters.
//!
//! ```text
//!   StoreUrl ─▶ open ─▶ ManagedStore ─▶ LocalStore | memory | S3 | GCS | Azure
//!                          │ time-outs, retries, hedges, metrics
//!                          └▶ probe: refuses a store that breaks its promises
//! ```
//!
//! **Invariant (R2):** every put is create-only. Nothing here overwrites an object, and the local
//! store cannot.

mod connect;
mod create;
mod local;
mod managed;
mod metrics;
mod probe;
mod url;

pub use connect::{OpenedStore, StoreOptions, open};
pub use create::create;
pub use local::{LocalStore, UseReserve, is_no_space};
pub use managed::{ManagedStore, RequestSettings};
pub use metrics::StoreMetrics;
pub use probe::probe;
pub use url::StoreUrl;
