//! Opens the store that a URL names.

use std::sync::Arc;
use std::time::Duration;

use env::Env;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig, StaticCredentialProvider,
};

use super::local::LocalStore;
use super::managed::{ManagedStore, RequestSettings};
use super::metrics::StoreMetrics;
use super::url::{Provider, StoreUrl, refuse};
use crate::Error;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Only reads and listings: a local store is then neither created nor cleaned.
    pub read_only: bool,
    /// Bytes of a local store's file system that only puts marked [`super::UseReserve`] may use.
    pub reserve_bytes: u64,
    /// Time-outs and retries.
    pub requests: RequestSettings,
}

/// A store ready for use.
#[derive(Clone, Debug)]
pub struct OpenedStore {
    /// The store, with time-outs, retries and counters.
    pub store: Arc<dyn ObjectStore>,
    /// Prefix of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Its counters.
    pub metrics: StoreMetrics,
    /// The URL as it may be shown.
    pub shown: String,
}

/// Opens the store that `url` names. Nothing is asked of a remote one yet.
///
/// # Errors
/// [`Error::StoreUrl`] for settings that cannot be used; [`Error::Store`] when a local directory
/// cannot be opened.
pub async fn open(env: &Env, url: &StoreUrl, options: StoreOptions) -> Result<OpenedStore, Error> {
    let inner: Arc<dyn ObjectStore> = match url {
        StoreUrl::File { directory } if options.read_only => {
            Arc::new(LocalStore::open_read_only(env, directory))
        }
        StoreUrl::File { directory } => {
            Arc::new(LocalStore::open(env, directory, options.reserve_bytes).await?)
        }
        StoreUrl::Memory => Arc::new(InMemory::new()),
        StoreUrl::Cloud {
            provider,
            bucket,
            settings,
            ..
        } => match provider {
            Provider::S3 => s3(bucket, settings)?,
            Provider::Gcs => gcs(bucket, settings)?,
            Provider::Azure => azure(bucket, settings)?,
        },
    };
    let metrics = StoreMetrics::default();
    let managed = ManagedStore::new(env, inner, metrics.clone(), options.requests);
    Ok(OpenedStore {
        store: Arc::new(managed),
        prefix: url.prefix().to_owned(),
        metrics,
        shown: url.to_string(),
    })
}

/// Time limits of connections: [`ManagedStore`] retries and keeps time; this is the last resort
/// below it. What the environment or the URL says of proxies and certificates stays.
const CLIENT: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::ConnectTimeout, "5 seconds"),
    (ClientConfigKey::Timeout, "120 seconds"),
    (ClientConfigKey::PoolIdleTimeout, "60 seconds"),
];

/// None: the library's own retries would take minutes and hide every failure.
fn no_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    }
}

fn s3(bucket: &str, settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, Error> {
    let mut builder = AmazonS3Builder::from_env();
    for (key, value) in CLIENT {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    for (name, value) in settings {
        builder = match name.as_str() {
            "path_style" => builder.with_virtual_hosted_style_request(!boolean(name, value)?),
            "allow_http" => builder.with_allow_http(boolean(name, value)?),
            name => {
                let key: AmazonS3ConfigKey = name.parse().map_err(|_| unknown(name))?;
                builder.with_config(key, value)
            }
        };
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Several S3-compatible stores lack it, and one deletion's error must name its object.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(store))
}

fn gcs(bucket: &str, settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, Error> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (key, value) in CLIENT {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    // Elsewhere plain HTTP is asked for by name too; this builder allows it from the start.
    let plain = GoogleConfigKey::Client(ClientConfigKey::AllowHttp);
    builder = builder.with_config(plain, "false");
    let mut anonymous = false;
    for (name, value) in settings {
        builder = match name.as_str() {
            "allow_http" => {
                let allow = boolean(name, value)?.to_string();
                builder.with_config(plain, allow)
            }
            "endpoint" => builder.with_base_url(value),
            "skip_signature" => {
                anonymous = boolean(name, value)?;
                builder.with_skip_signature(anonymous)
            }
            name => {
                let key: GoogleConfigKey = name.parse().map_err(|_| unknown(name))?;
                builder.with_config(key, value)
            }
        };
    }
    if anonymous {
        // Its puts fetch a token all the same, from the instance's metadata server at last.
        let bearer = String::new();
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer });
        builder = builder.with_credentials(Arc::new(nobody));
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(store))
}

fn azure(container: &str, settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, Error> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (key, value) in CLIENT {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    let mut emulator = false;
    let mut endpoint = false;
    for (name, value) in settings {
        builder = match name.as_str() {
            "allow_http" => builder.with_allow_http(boolean(name, value)?),
            "use_emulator" => {
                emulator = boolean(name, value)?;
                builder.with_use_emulator(emulator)
            }
            name => {
                let key: AzureConfigKey = name.parse().map_err(|_| unknown(name))?;
                endpoint |= key == AzureConfigKey::Endpoint;
                builder.with_config(key, value)
            }
        };
    }
    if emulator && endpoint {
        // The endpoint would be passed over without a word.
        return Err(refuse(
            "use_emulator takes its address from AZURITE_BLOB_STORAGE_URL; with an endpoint say \
             endpoint=http://HOST:PORT/ACCOUNT, account_name, account_key and allow_http=true",
        ));
    }
    let store = builder
        .with_container_name(container)
        .with_retry(no_retries())
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(store))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(refuse(&format!("{name} is true or false"))),
    }
}

fn unknown(name: &str) -> Error {
    refuse(&format!("setting \"{}\" is not known", name.escape_debug()))
}

/// The builders name settings in their errors, and quote none that is secret.
fn unusable(error: object_store::Error) -> Error {
    match error {
        object_store::Error::UnknownConfigurationKey { store, key } => {
            refuse(&format!("setting \"{key}\" is not valid for {store}"))
        }
        other => refuse(&format!("its settings do not fit together: {other}")),
    }
}

#[cfg(test)]
mod tests;
