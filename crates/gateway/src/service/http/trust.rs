//! Whom to believe that a target is the one it should be: TLS towards https targets.
//!
//! Three kinds of trust: in anything (`verify=false`), in given roots only, in the system's roots
//! ([`crate::trust`]).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::tls_error;
use crate::{pki, trust};

/// Certificates that may vouch for a target; at least one.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads PEM; text around the certificates is ignored. `field` names their origin in errors.
    ///
    /// # Errors
    /// No certificate, or one that cannot be read.
    pub(crate) fn parse(field: &'static str, pem: &[u8]) -> Result<Self, pki::Error> {
        let certificates = pki::parse_certificates(field, &String::from_utf8_lossy(pem))?;
        // What cannot become an anchor is refused here, where the error can still name its origin.
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store
                .add(certificate.clone())
                .map_err(|error| pki::Error::Certificate {
                    field,
                    reason: tls_error(&error),
                })?;
        }
        Ok(Self(certificates))
    }
}

/// What makes a target credible.
#[derive(Debug)]
pub(super) enum Trust {
    /// Any certificate.
    Anything,
    /// Only what these roots signed.
    Roots(Roots),
    /// What the system's roots signed.
    System,
}

/// Why there can be no trust.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Roots(#[from] trust::Error),
    #[error("TLS cannot be used")]
    Config(#[source] rustls::Error),
    #[error("the gateway stops")]
    Interrupted,
}

/// The TLS configuration of a client with this trust.
pub(super) async fn client(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let config = match trust {
        Trust::Anything => any_certificate()?,
        Trust::Roots(Roots(roots)) => trust::given_config(roots.clone())?,
        // Read again each time: they may have been updated.
        Trust::System => tokio::task::spawn_blocking(|| trust::roots().target_config())
            .await
            .map_err(|_| Error::Interrupted)??,
    };
    Ok(Arc::new(config))
}

fn any_certificate() -> Result<ClientConfig, Error> {
    let provider = pki::tls::provider();
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate { schemes }))
        .with_no_client_auth())
}

/// Accepts whatever the target presents, certificates included that the library cannot even read.
/// Anyone who turns verification off has no use for the handshake's signature either: it only
/// proves the key of a certificate that no one vouches for.
#[derive(Debug)]
struct AnyCertificate {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
