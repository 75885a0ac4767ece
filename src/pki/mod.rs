//! X.509 and TLS: the configurations of TLS 1 and TLS 2 on both sides, and what a client certificate says
//! about where it wants to go (protocol.md §4).

pub mod dial;
pub mod extensions;
pub mod tls;

use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::secret::Secret;

/// What is wrong with X.509 material, and which field it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The field has no certificate, or something that is none.
    #[error("{field} is not a PEM certificate: {reason}")]
    Certificate {
        /// The field of the API.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// The field has no usable private key.
    #[error("{field} is not a PEM private key")]
    PrivateKey {
        /// The field of the API.
        field: &'static str,
    },
    /// The parts do not make a TLS configuration.
    #[error("{field} cannot be used for TLS: {reason}")]
    Unusable {
        /// The field of the API.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// The handshake failed.
    #[error("TLS with {peer} failed")]
    Handshake {
        /// The other side.
        peer: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The handshake took too long.
    #[error("TLS with {peer} took longer than {} s", .after.as_secs())]
    HandshakeTimedOut {
        /// The other side.
        peer: String,
        /// The limit.
        after: Duration,
    },
    /// The connection below could not be made.
    #[error(transparent)]
    Dial(#[from] crate::net::dial::Error),
}

/// Characters of a library's reason that an error keeps.
const LONGEST_REASON: usize = 120;

/// Reads every certificate of a PEM text; at least one.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn parse_certificates(
    field: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    // The library repeats the line that it does not understand, however long it is.
    let error = |reason: String| Error::Certificate {
        field,
        reason: reason.chars().take(LONGEST_REASON).collect(),
    };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(e.to_string()))?;
    for certificate in &certificates {
        x509_parser::parse_x509_certificate(certificate).map_err(|e| error(e.to_string()))?;
    }
    if certificates.is_empty() {
        return Err(error("it holds none".to_owned()));
    }
    Ok(certificates)
}

/// Reads a PEM private key (PKCS#8, also PKCS#1 and SEC1).
///
/// # Errors
/// [`Error::PrivateKey`], naming `field` and nothing of its content.
pub fn parse_private_key(
    field: &'static str,
    pem: &Secret,
) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| Error::PrivateKey { field })
}

/// When the first certificate of `pem` expires.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn expires(field: &'static str, pem: &str) -> Result<SystemTime, Error> {
    let certificates = parse_certificates(field, pem)?;
    let error = |reason: &str| Error::Certificate {
        field,
        reason: reason.to_owned(),
    };
    let leaf = certificates.first().ok_or_else(|| error("it holds none"))?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|e| error(&e.to_string()))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp())
        .map_err(|_| error("it expired before 1970"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
