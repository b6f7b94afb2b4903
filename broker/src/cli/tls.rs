//! The flags of commands that call controllers themselves, where calls between nodes are TLS.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use controller::{Tls, TlsFiles};
use env::Env;

/// Mutual TLS with the controllers: all three or none.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct TlsArgs {
    /// Certificate to show to the controllers (controller.tls.certificate.path), PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "HEADWATER_CONTROLLER_TLS_CERTIFICATE_PATH"
    )]
    tls_certificate: Option<PathBuf>,
    /// Its key (controller.tls.key.path), PEM.
    #[arg(long, value_name = "FILE", env = "HEADWATER_CONTROLLER_TLS_KEY_PATH")]
    tls_key: Option<PathBuf>,
    /// The authorities of their certificates (controller.tls.ca.path), PEM.
    #[arg(long, value_name = "FILE", env = "HEADWATER_CONTROLLER_TLS_CA_PATH")]
    tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// What the flags say; else what a configuration says.
    pub(super) async fn open(
        &self,
        env: &Env,
        configured: Option<TlsFiles>,
    ) -> Result<Option<Tls>> {
        let files = match (&self.tls_certificate, &self.tls_key, &self.tls_ca) {
            (None, None, None) => configured,
            (Some(certificate), Some(key), Some(ca)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                ca: ca.clone(),
            }),
            _ => bail!("--tls-certificate, --tls-key and --tls-ca go together"),
        };
        match files {
            Some(files) => Ok(Some(Tls::open(env, files).await?)),
            None => Ok(None),
        }
    }
}
