//! What a failure means, and what to do about it.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InconsistentKeys};

use super::TlsFiles;

/// A plaintext side that hears TLS.
pub(super) const TLS_HEARD: &str = "the other side speaks TLS and this one does not: set \
    controller.tls.certificate.path, controller.tls.key.path and controller.tls.ca.path here, too";

const PLAINTEXT_HEARD: &str = "the other side does not speak TLS: set \
    controller.tls.certificate.path, controller.tls.key.path and controller.tls.ca.path there, too";

/// Nothing came of it in time.
pub(super) fn late(within: Duration) -> io::Error {
    let text =
        format!("no TLS handshake within {within:?}: the other side hangs, or does not speak TLS");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Why a handshake failed, or a connection right after it.
pub(super) fn handshake(error: &io::Error, files: &TlsFiles) -> String {
    match rustls_of(error) {
        Some(error) => of_tls(error, files),
        None if error.kind() == io::ErrorKind::UnexpectedEof
            || error.kind() == io::ErrorKind::ConnectionReset =>
        {
            format!(
                "the other side closed the connection within the TLS handshake: it stops, or has \
                 no controller.tls.* ({error})"
            )
        }
        None => error.to_string(),
    }
}

/// What TLS says of a broken connection, if that is why it broke.
pub(super) fn rustls_of(error: &io::Error) -> Option<&Error> {
    let inner = error.get_ref()?;
    let found = inner.downcast_ref::<Error>();
    found.or_else(|| inner.source()?.downcast_ref::<Error>())
}

/// What is wrong with this node's own files.
pub(super) fn own(error: &Error, files: &TlsFiles) -> String {
    let (certificate, ca) = (files.certificate.display(), files.ca.display());
    let key = files.key.display();
    let what = format!("controller.tls.certificate.path: {certificate}");
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "controller.tls.key.path: {key} is not the key of {certificate}: they must be made \
             together"
        ),
        Error::InvalidCertificate(bad) => match bad {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("{what} has expired, or an authority of it: put a new one in its place")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("{what} is not valid yet: is this machine's clock right?")
            }
            CertificateError::UnknownIssuer => format!(
                "{what} is of no authority in {ca} (controller.tls.ca.path): other nodes would \
                 refuse it"
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                format!(
                    "{what} is not for both sides of a connection: its extendedKeyUsage needs \
                     serverAuth and clientAuth"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{what} does not name this node as the others reach it: {bad}")
            }
            other => format!("{what}: {other}"),
        },
        other => format!("{what}, {key}: {other}"),
    }
}

fn of_tls(error: &Error, files: &TlsFiles) -> String {
    let (certificate, ca) = (files.certificate.display(), files.ca.display());
    match error {
        Error::InvalidMessage(_) => PLAINTEXT_HEARD.to_owned(),
        Error::NoCertificatesPresented => "the other side shows no certificate: set \
             controller.tls.certificate.path and controller.tls.key.path there"
            .to_owned(),
        Error::InvalidCertificate(bad) => theirs(bad, files),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA => format!(
                "the other side refuses {certificate}, which is of no authority that it knows: \
                 have the same controller.tls.ca.path on all nodes"
            ),
            AlertDescription::CertificateExpired => format!(
                "the other side refuses {certificate}, which has expired: put a new one in its \
                 place; it is read without a restart"
            ),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied => format!(
                "the other side refuses {certificate} ({alert:?}): its log says why; the \
                 certificate must name this node's address (subjectAltName) and be for serverAuth \
                 and clientAuth"
            ),
            AlertDescription::CertificateRequired => {
                "the other side wants a certificate, and got none".to_owned()
            }
            AlertDescription::DecodeError | AlertDescription::UnexpectedMessage => format!(
                "the other side does not understand ({alert:?}): it may speak another version of \
                 TLS; 1.3 is wanted"
            ),
            other => format!("the other side refuses: {other:?}"),
        },
        Error::PeerIncompatible(why) => {
            format!("the other side speaks another version of TLS, 1.3 is wanted ({why:?})")
        }
        other => format!("TLS with the other side failed ({ca} has the authorities): {other}"),
    }
}

/// What is wrong with the certificate of the other side.
fn theirs(bad: &CertificateError, files: &TlsFiles) -> String {
    let ca = files.ca.display();
    match bad {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: put a new one in its place there (it is read without a \
             restart), or set the clocks right"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: set the clocks right".to_owned()
        }
        CertificateError::UnknownIssuer => format!(
            "its certificate is of no authority in {ca} (controller.tls.ca.path): have the same \
             authority on all nodes"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate does not name the address that it is reached at: {bad}. Make one \
                 with it as a subjectAltName"
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this: its extendedKeyUsage needs serverAuth and clientAuth"
                .to_owned()
        }
        other => format!("its certificate cannot be taken: {other}"),
    }
}
