//! The certificates that a server presents, of whichever issuer: to describe a chain that was
//! refused. Nothing secret may be sent over a connection that is made with this.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::verifier::signatures_by_provider;
use super::{Error, provider};
use crate::error::printable;
use crate::humanize::Utc;

/// Certificates of a chain that are described; more are no help.
const MAX_DESCRIBED: usize = 6;

/// What the certificates of a connection say.
#[derive(Debug, Clone, Default)]
pub struct Presented(Arc<Mutex<Vec<Certificate>>>);

/// What a certificate says of itself. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The distinguished name of its owner.
    pub subject: String,
    /// The distinguished name of the CA that issued it.
    pub issuer: String,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last one.
    pub not_after: SystemTime,
}

impl Certificate {
    fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let time = |at: ASN1Time| {
            let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
            UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = certificate.validity();
        Some(Self {
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        })
    }

    /// True if it is valid at `time`.
    #[must_use]
    pub fn is_valid_at(&self, time: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject, issuer, ..
        } = self;
        let (not_before, not_after) = (Utc(self.not_before), Utc(self.not_after));
        write!(
            f,
            "{subject}, issued by {issuer}, valid from {not_before} until {not_after}"
        )
    }
}

impl Presented {
    /// The certificates of the last handshake, the server's own first.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

/// The TLS configuration of a client that accepts every certificate, and where it keeps what they
/// say.
///
/// # Errors
/// [`Error::Tls`].
pub fn accepting_config() -> Result<(ClientConfig, Presented), Error> {
    let presented = Presented::default();
    let accepting = Accepting {
        presented: presented.clone(),
        provider: provider(),
    };
    let mut config = super::client_config(Arc::new(accepting))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, presented))
}

/// Accepts every certificate, and keeps what it says.
#[derive(Debug)]
struct Accepting {
    presented: Presented,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Accepting {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(intermediates);
        let chain = chain.take(MAX_DESCRIBED).filter_map(Certificate::read);
        let chain: Vec<_> = chain.collect();
        *self
            .presented
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by_provider!();
}
