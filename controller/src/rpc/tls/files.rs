//! What is in the files, and what is made of it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Disk, Env, OpenMode};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use super::TlsFiles;
use super::explain::own;
use crate::limits::MAX_TLS_FILE_BYTES;

/// The protocol of calls: HTTP/2.
const ALPN: &[u8] = b"h2";
/// Later than any certificate.
const DOOMSDAY: Duration = Duration::from_secs(u32::MAX as u64 * 16);

/// The bytes of the files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

/// Both sides of a connection, ready.
pub(super) struct Loaded {
    contents: Contents,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    as_client: Arc<dyn ClientCertVerifier>,
    as_server: Arc<WebPkiServerVerifier>,
}

/// `env`'s clock.
struct Now(Arc<dyn Clock>);

// === impl Contents ===

impl Contents {
    pub(super) async fn read(env: &Env, files: &TlsFiles) -> Result<Self, String> {
        let (disk, files) = (env.disk.clone(), files.clone());
        let reading = env.threads.pool().run(move || {
            let read = |key: &str, path: &Path| {
                read(&*disk, path).map_err(|error| format!("{key}: {}: {error}", path.display()))
            };
            Ok(Self {
                certificate: read("controller.tls.certificate.path", &files.certificate)?,
                key: read("controller.tls.key.path", &files.key)?,
                ca: read("controller.tls.ca.path", &files.ca)?,
            })
        });
        reading.await
    }
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > MAX_TLS_FILE_BYTES {
        let reason = format!("{length} bytes are no PEM file: {MAX_TLS_FILE_BYTES} are the most");
        return Err(io::Error::other(reason));
    }
    file.read_new_at(length, 0)
}

// === impl Loaded ===

impl Loaded {
    /// Makes both sides, and checks that others take them for a client's now.
    pub(super) fn new(env: &Env, files: &TlsFiles, contents: Contents) -> Result<Self, String> {
        let loaded = Self::unchecked(env, files, contents)?;
        let (end, between) = loaded.parts();
        let verified = loaded.as_client.verify_client_cert(end, between, wall(env));
        verified.map_err(|error| own(&error, files))?;
        Ok(loaded)
    }

    pub(super) fn unchecked(
        env: &Env,
        files: &TlsFiles,
        contents: Contents,
    ) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let now: Arc<dyn TimeProvider> = Arc::new(Now(env.clock.clone()));
        let chain = chain(files, &contents)?;
        let roots = Arc::new(roots(files, &contents)?);
        let unusable = |error: &dyn std::fmt::Display| {
            let ca = files.ca.display();
            format!("controller.tls.ca.path: {ca}: {error}")
        };
        let as_client =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| unusable(&error))?;
        let as_server = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| unusable(&error))?;
        let client = client(
            files,
            &contents,
            &chain,
            (&provider, &now),
            as_server.clone(),
        )?;
        let server = server(
            files,
            &contents,
            &chain,
            (&provider, &now),
            as_client.clone(),
        )?;
        Ok(Self {
            contents,
            client: Arc::new(client),
            server: Arc::new(server),
            chain,
            as_client,
            as_server,
        })
    }

    pub(super) fn is_of(&self, contents: &Contents) -> bool {
        self.contents == *contents
    }

    /// Checks that others, who connect to `host`, take it for a server's.
    pub(super) fn check_serves(
        &self,
        env: &Env,
        files: &TlsFiles,
        host: &str,
    ) -> Result<(), String> {
        let name = ServerName::try_from(host).map_err(|error| format!("{host:?}: {error}"))?;
        let (end, between) = self.parts();
        let now = wall(env);
        let verified = self
            .as_server
            .verify_server_cert(end, between, &name, &[], now);
        verified.map(|_| ()).map_err(|error| own(&error, files))
    }

    /// How long the certificate is still valid.
    pub(super) fn left(&self, env: &Env) -> Duration {
        let (end, between) = self.parts();
        let doomsday = UnixTime::since_unix_epoch(DOOMSDAY);
        match self.as_client.verify_client_cert(end, between, doomsday) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => Duration::from_secs(not_after.as_secs().saturating_sub(wall(env).as_secs())),
            // It says nothing of its end.
            _ => DOOMSDAY,
        }
    }

    fn parts(&self) -> (&CertificateDer<'static>, &[CertificateDer<'static>]) {
        self.chain.split_first().expect("a chain is never empty")
    }
}

type Details<'a> = (&'a Arc<CryptoProvider>, &'a Arc<dyn TimeProvider>);

fn client(
    files: &TlsFiles,
    contents: &Contents,
    chain: &[CertificateDer<'static>],
    (provider, now): Details<'_>,
    verifier: Arc<WebPkiServerVerifier>,
) -> Result<ClientConfig, String> {
    let mut client = ClientConfig::builder_with_details(provider.clone(), now.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain.to_vec(), key(files, contents)?)
        .map_err(|error| own(&error, files))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn server(
    files: &TlsFiles,
    contents: &Contents,
    chain: &[CertificateDer<'static>],
    (provider, now): Details<'_>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, String> {
    let mut server = ServerConfig::builder_with_details(provider.clone(), now.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key(files, contents)?)
        .map_err(|error| own(&error, files))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.send_tls13_tickets = 0;
    Ok(server)
}

fn chain(files: &TlsFiles, contents: &Contents) -> Result<Vec<CertificateDer<'static>>, String> {
    let what = format!(
        "controller.tls.certificate.path: {}",
        files.certificate.display()
    );
    certificates(&what, &contents.certificate)
}

fn roots(files: &TlsFiles, contents: &Contents) -> Result<RootCertStore, String> {
    let what = format!("controller.tls.ca.path: {}", files.ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&what, &contents.ca)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{what}: {error}"))?;
    }
    Ok(roots)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("{what}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{what}: no certificate in it (PEM is expected)"));
    }
    Ok(found)
}

fn key(files: &TlsFiles, contents: &Contents) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
        let path = files.key.display();
        format!(
            "controller.tls.key.path: {path}: no key that can be read (PEM, not encrypted, is \
             expected): {error}"
        )
    })
}

fn wall(env: &Env) -> UnixTime {
    unix(&*env.clock)
}

fn unix(clock: &dyn Clock) -> UnixTime {
    let ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_millis(ms))
}

// === impl Now ===

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(&*self.0))
    }
}
