//! The four TLS configurations: server and client of TLS 1 and of TLS 2 (protocol.md §4).
//!
//! What all have in common: TLS 1.2 or 1.3 with aws-lc-rs; trust anchors are exactly the ones that
//! came with the credentials, intermediate CAs included, because peers present only their leaf; a
//! leaf must carry the extended key usage of its role (the library would accept a leaf without
//! any); and there is no session resumption, because a resumed session would skip the check of the
//! peer's certificate.
//!
//! The gateway's root CA has no basic constraints. As an anchor that does not matter: of an anchor
//! only the name and the key are used.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Error, alert, parse_certificates, parse_private_key, peer_bounds};
use crate::api::types::{ClientPki, ServerPki};
use crate::clock::Clock;
use crate::error::{chain, tls_error};

/// The configuration of a server: TLS 1 without `alpn`, TLS 2 with the names of the services, of
/// which the first one that a client offers too is chosen. `clock` is asked at each handshake.
///
/// # Errors
/// Names the field of the credentials that cannot be used.
pub fn server(pki: &ServerPki, alpn: &[&str], clock: &Clock) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let anchors = anchors("pki.clientCertificateChain", &pki.client_certificate_chain)?;
    let inner = WebPkiClientVerifier::builder_with_provider(anchors, Arc::clone(&provider))
        .build()
        .map_err(|error| Error::Unusable {
            field: "pki.clientCertificateChain",
            reason: chain(&error).to_string(),
        })?;
    let certificates = parse_certificates("pki.serverCertificate", &pki.server_certificate)?;
    let key = parse_private_key("pki.serverPrivateKey", &pki.server_private_key)?;
    usable(&provider, "pki.serverPrivateKey", &key)?;
    let mut config = ServerConfig::builder_with_details(provider, time_of(clock))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(Arc::new(ClientUsage { inner }))
                .with_single_cert(certificates, key)
        })
        .map_err(|error| Error::Unusable {
            field: "pki.serverCertificate",
            reason: tls_error(&error),
        })?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a client of TLS 1 (no `alpn`) or TLS 2. `role` is the field's prefix in the
/// credentials, for errors.
///
/// # Errors
/// Names the field of the credentials that cannot be used.
pub fn client(pki: &ClientPki, alpn: &[&str], clock: &Clock) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let anchors = anchors("serverCertificateChain", &pki.server_certificate_chain)?;
    let inner = WebPkiServerVerifier::builder_with_provider(anchors, Arc::clone(&provider))
        .build()
        .map_err(|error| Error::Unusable {
            field: "serverCertificateChain",
            reason: chain(&error).to_string(),
        })?;
    let certificates = parse_certificates("clientCertificate", &pki.client_certificate)?;
    let key = parse_private_key("clientPrivateKey", &pki.client_private_key)?;
    usable(&provider, "clientPrivateKey", &key)?;
    let mut config = ClientConfig::builder_with_details(provider, time_of(clock))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ServerUsage { inner }))
                .with_client_auth_cert(certificates, key)
        })
        .map_err(|error| Error::Unusable {
            field: "clientCertificate",
            reason: tls_error(&error),
        })?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The one provider of cryptography for TLS.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: alert::suites(),
        ..rustls::crypto::aws_lc_rs::default_provider()
    })
}

/// The time by which the library judges certificates.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.now().duration_since(UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

fn time_of(clock: &Clock) -> Arc<dyn TimeProvider> {
    Arc::new(Time(clock.clone()))
}

/// Reports a bad key itself, since the builders would report the certificate beside it.
fn usable(
    provider: &CryptoProvider,
    field: &'static str,
    key: &PrivateKeyDer<'static>,
) -> Result<(), Error> {
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map(drop)
        .map_err(|_| Error::PrivateKey {
            field,
            reason: "keys of its kind are not supported (use ECDSA, Ed25519 or RSA)",
        })
}

fn anchors(field: &'static str, pem: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    for certificate in parse_certificates(field, pem)? {
        store.add(certificate).map_err(|error| Error::Certificate {
            field,
            reason: tls_error(&error),
        })?;
    }
    Ok(Arc::new(store))
}

/// Which extended key usage a leaf must carry (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy)]
enum Usage {
    ClientAuth,
    ServerAuth,
}

fn require(usage: Usage, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
    let carried = certificate
        .extended_key_usage()
        .ok()
        .flatten()
        .is_some_and(|extension| match usage {
            Usage::ClientAuth => extension.value.client_auth,
            Usage::ServerAuth => extension.value.server_auth,
        });
    if carried {
        Ok(())
    } else {
        Err(CertificateError::InvalidPurpose.into())
    }
}

/// Leaves the signatures of the handshake to the library.
macro_rules! signatures_by_library {
    () => {
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
    };
}

/// The library's check of a client, and that its leaf is a client's.
#[derive(Debug)]
struct ClientUsage {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientUsage {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        peer_bounds::check(leaf, intermediates)?;
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        require(Usage::ClientAuth, leaf)?;
        Ok(verified)
    }

    signatures_by_library!();
}

/// The library's check of a server, and that its leaf is a server's.
#[derive(Debug)]
struct ServerUsage {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ServerUsage {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        peer_bounds::check(leaf, intermediates)?;
        let verified = self
            .inner
            .verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        require(Usage::ServerAuth, leaf)?;
        Ok(verified)
    }

    signatures_by_library!();
}
