//! X.509 and TLS: the configurations of TLS 1 and TLS 2 on both sides, and what a client
//! certificate says about where it wants to go (protocol.md §4).

use infisical_api as api;
use infisical_runtime::{clock, error, names, net, secret};

mod alert;
pub mod dial;
pub mod extensions;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod peer_bounds;
pub mod stream;
pub mod tls;

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::pem_error;
use crate::secret::Secret;

/// What is wrong with X.509 material, and which field it is.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("{field} is not a PEM certificate: {reason}")]
    Certificate { field: &'static str, reason: String },
    #[error("{field} is not a PEM private key: {reason}")]
    PrivateKey {
        field: &'static str,
        /// Why; never contains any of it.
        reason: &'static str,
    },
    #[error("{field} cannot be used for TLS: {reason}")]
    Unusable { field: &'static str, reason: String },
    #[error("TLS with {peer} failed")]
    Handshake {
        peer: String,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS with {peer} took longer than {} s", .after.as_secs())]
    HandshakeTimedOut { peer: String, after: Duration },
    #[error(transparent)]
    Dial(#[from] crate::net::dial::Error),
}

/// Reads every certificate of a PEM text; at least one.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn parse_certificates(
    field: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let error = |reason: String| Error::Certificate { field, reason };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(pem_error(&e)))?;
    for (index, certificate) in certificates.iter().enumerate() {
        if x509_parser::parse_x509_certificate(certificate).is_err() {
            let number = index.saturating_add(1);
            return Err(error(format!(
                "certificate {number} is damaged, or no X.509 certificate"
            )));
        }
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
    let pem = pem.expose();
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::PrivateKey {
        field,
        reason: without_key(pem),
    })
}

/// What is in a text that is no private key that can be used.
fn without_key(pem: &str) -> &'static str {
    let is_encrypted = pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains(",ENCRYPTED");
    if is_encrypted {
        "it is encrypted; remove the passphrase, for instance with \
         `openssl pkey -in KEY -out KEY.plain`"
    } else if pem.contains("BEGIN OPENSSH PRIVATE KEY") {
        "it is an SSH key; convert it with `ssh-keygen -p -m PEM`, or make one with openssl"
    } else if pem.contains("PRIVATE KEY-----") {
        "it is damaged or cut off"
    } else if pem.contains("BEGIN CERTIFICATE") {
        "it holds a certificate and no key"
    } else if pem.trim().is_empty() {
        "it is empty"
    } else {
        "it has no -----BEGIN PRIVATE KEY----- line"
    }
}

/// True if the first certificate of `pem` is one of a server that is called `host`, a DNS name or
/// an IP address.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn is_for(field: &'static str, pem: &str, host: &str) -> Result<bool, Error> {
    let certificates = parse_certificates(field, pem)?;
    let error = |reason: &str| Error::Certificate {
        field,
        reason: reason.to_owned(),
    };
    let leaf = certificates.first().ok_or_else(|| error("it holds none"))?;
    let parsed = rustls::server::ParsedCertificate::try_from(leaf)
        .map_err(|_| error("it cannot be read"))?;
    let name = rustls::pki_types::ServerName::try_from(host);
    Ok(name.is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok()))
}

/// When the first certificate of `pem` expires.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn expires(field: &'static str, pem: &str) -> Result<SystemTime, Error> {
    Ok(*validity(field, pem)?.end())
}

/// From when until when the first certificate of `pem` is valid.
///
/// # Errors
/// [`Error::Certificate`], naming `field`.
pub fn validity(field: &'static str, pem: &str) -> Result<RangeInclusive<SystemTime>, Error> {
    let certificates = parse_certificates(field, pem)?;
    let error = |reason: &str| Error::Certificate {
        field,
        reason: reason.to_owned(),
    };
    let leaf = certificates.first().ok_or_else(|| error("it holds none"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|_| error("it is damaged, or no X.509 certificate"))?;
    let validity = parsed.validity();
    let time = |seconds: u64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let begins = time(u64::try_from(validity.not_before.timestamp()).unwrap_or(0));
    let ends = u64::try_from(validity.not_after.timestamp());
    let ends = time(ends.map_err(|_| error("it expired before 1970"))?);
    match (begins, ends) {
        (Some(begins), Some(ends)) => Ok(begins..=ends),
        _ => Err(error("its validity is out of range")),
    }
}

/// When the certificate `der` expires, if that can be read from it.
#[must_use]
pub fn expires_der(der: &[u8]) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    end(&parsed)
}

fn end(parsed: &x509_parser::certificate::X509Certificate<'_>) -> Option<SystemTime> {
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
