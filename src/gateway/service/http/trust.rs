//! Whom to believe that a target is the one it should be: TLS towards https targets.
//!
//! Three kinds of trust: in anything (`verify=false`), in given roots only, in the system's roots. A
//! given root that the target presents as its own certificate is believed too, whatever its basic
//! constraints say: people configure a self-signed certificate as its own CA, and deployed gateways
//! accept that. Names and validity are checked all the same.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use crate::pki;

/// Certificates that may vouch for a target; at least one.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads PEM; text around the certificates is ignored. `field` names their origin in errors.
    ///
    /// # Errors
    /// No certificate, or one that cannot be read.
    pub fn parse(field: &'static str, pem: &[u8]) -> Result<Self, pki::Error> {
        let certificates = pki::parse_certificates(field, &String::from_utf8_lossy(pem))?;
        // What cannot become an anchor is refused here, where the error can still name its origin.
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store
                .add(certificate.clone())
                .map_err(|error| pki::Error::Certificate {
                    field,
                    reason: error.to_string(),
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
    #[error("this system has no root certificates")]
    NoSystemRoots,
    #[error("the roots cannot be used")]
    Roots(#[source] VerifierBuilderError),
    #[error("TLS cannot be used")]
    Config(#[source] rustls::Error),
}

/// The TLS configuration of a client with this trust.
pub(super) async fn client(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let provider = pki::tls::provider();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anything => Arc::new(AnyCertificate {
            schemes: provider
                .signature_verification_algorithms
                .supported_schemes(),
        }),
        Trust::Roots(Roots(roots)) => Arc::new(GivenRoots {
            inner: verifier(roots.clone(), &provider)?,
            roots: roots.clone(),
        }),
        Trust::System => verifier(system_roots().await?, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Config)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn verifier(
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut store = RootCertStore::empty();
    // A system's store may hold an odd certificate; the others still count.
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(Error::Roots)
}

/// Reads the system's roots, anew each time: they may have been updated.
async fn system_roots() -> Result<Vec<CertificateDer<'static>>, Error> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|_| Error::NoSystemRoots)?;
    if loaded.certs.is_empty() {
        return Err(Error::NoSystemRoots);
    }
    Ok(loaded.certs)
}

/// The library's check against given roots, and the case where a root is the target's own certificate.
#[derive(Debug)]
struct GivenRoots {
    inner: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for GivenRoots {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_server_cert(leaf, intermediates, name, ocsp, now);
        if verified.is_ok() || !self.roots.contains(leaf) {
            return verified;
        }
        verify_pinned(leaf, name, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A certificate that is a root itself needs no signature; it must be valid now, for this name, and
/// not be limited to other uses.
fn verify_pinned(
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or(CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
    Ok(ServerCertVerified::assertion())
}

/// Accepts whatever the target presents, certificates included that the library cannot even read.
/// Whoever turns verification off has no use for the handshake's signature either: it only proves the
/// key of a certificate that nobody vouches for.
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
