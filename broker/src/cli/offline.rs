//! What the commands share that read a store without a broker.

use anyhow::{Context, Result};
use clap::Args;
use env::Env;
use storage::store::{OpenedStore, RequestSettings, StoreOptions, StoreUrl, open};

/// Which store.
#[derive(Args, Clone, Debug)]
pub(crate) struct Offline {
    /// file:///PATH, s3://BUCKET/PREFIX?endpoint=…, gs://…, az://…; a plain path is a directory.
    #[arg(
        long,
        global = true,
        default_value = "headwater-data/objects",
        env = "HEADWATER_OBJECT_STORE_URL"
    )]
    object_store: String,
}

impl Offline {
    /// Opens the store for reading only, unless it shall be probed.
    pub(crate) async fn open(&self, env: &Env, read_only: bool) -> Result<OpenedStore> {
        let url = StoreUrl::parse(&self.object_store)?;
        let options = StoreOptions {
            read_only,
            reserve_bytes: 0,
            requests: RequestSettings::standard(),
        };
        open(env, &url, options)
            .await
            .context("cannot open the object store")
    }
}
