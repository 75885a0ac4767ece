//! Judges a server's certificate by root certificates, and says in words why it is refused.
//!
//! A root that the server presents as its own certificate is believed too, whatever its basic
//! constraints say: people configure a self-signed certificate as its own CA, and deployed programs
//! accept that. Names and validity are checked all the same.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::{Error, Roots, provider};
use crate::error::printable;

/// Whom a certificate is to prove, which decides what helps when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// The platform, or a service that a login needs.
    Platform,
    /// A target, by the machine's roots.
    Target,
    /// A target, by the roots that its settings name.
    Given,
}

/// Root certificates, ready to use.
#[derive(Debug)]
pub(super) struct Anchors {
    library: Arc<WebPkiServerVerifier>,
    /// SHA-256 of each certificate, sorted: the certificates themselves are not needed any more.
    fingerprints: Vec<[u8; 32]>,
    judged: Judged,
}

impl Anchors {
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        judged: Judged,
    ) -> Result<Self, Error> {
        let mut fingerprints: Vec<_> = certificates.iter().map(|c| fingerprint(c)).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        let mut store = RootCertStore::empty();
        // A system's store may hold an odd certificate; the others still count.
        store.add_parsable_certificates(certificates);
        let library = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|_| match judged {
                Judged::Platform | Judged::Target => Error::NoRoots,
                Judged::Given => Error::NoneUsable,
            })?;
        Ok(Self {
            library,
            fingerprints,
            judged,
        })
    }

    /// True if both hold the same certificates.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.fingerprints == other.fingerprints
    }

    fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        let wanted = fingerprint(certificate);
        self.fingerprints.binary_search(&wanted).is_ok()
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .library
            .verify_server_cert(leaf, intermediates, name, ocsp, now);
        match verified {
            Ok(verified) => Ok(verified),
            Err(_) if self.holds(leaf) => verify_pinned(leaf, name, now),
            Err(error) => Err(self.explain(error, leaf, intermediates)),
        }
    }

    /// Says which CA is missing and how it is added, where that is what is wrong.
    fn explain(
        &self,
        error: rustls::Error,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> rustls::Error {
        let is_untrusted = match &error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.to_string() == "CaUsedAsEndEntity"
            }
            _ => false,
        };
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            return error;
        };
        if !is_untrusted {
            return error;
        }
        let untrusted = Untrusted {
            issuer: printable(&certificate.issuer().to_string()),
            is_self_signed: certificate.issuer() == certificate.subject(),
            is_alone: intermediates.is_empty(),
            judged: self.judged,
        };
        CertificateError::Other(OtherError(Arc::new(untrusted))).into()
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// No root vouches for a certificate.
#[derive(Debug)]
pub(crate) struct Untrusted {
    issuer: String,
    is_self_signed: bool,
    is_alone: bool,
    judged: Judged,
}

impl std::fmt::Display for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (issuer, what) = (&self.issuer, "certificate");
        if self.is_self_signed {
            write!(
                f,
                "its {what} ({issuer}) is self-signed and not trusted here"
            )?;
        } else {
            write!(
                f,
                "its {what} was issued by {issuer}, which is not trusted here"
            )?;
            if self.is_alone {
                f.write_str(" (or the server does not send its intermediate certificates)")?;
            }
        }
        f.write_str(match (self.judged, self.is_self_signed) {
            (Judged::Platform, true) => {
                "; if it is the right one, name a file with it with --ca-file \
                 (INFISICAL_CA_FILE)"
            }
            (Judged::Platform, false) => {
                "; if it is the right one, name a file with the CA's certificate with --ca-file \
                 (INFISICAL_CA_FILE)"
            }
            (Judged::Target, _) => {
                "; add it to this machine's trusted certificates (update-ca-certificates), or to \
                 the target's settings on the platform"
            }
            (Judged::Given, _) => "; the target's settings on the platform name another CA",
        })
    }
}

impl std::error::Error for Untrusted {}

/// A certificate that is a root itself needs no signature; it must be valid now, for this name, and
/// not be limited to other uses.
fn verify_pinned(
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now_asn1 = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or(CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    let time = |at: ASN1Time| {
        let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    if now_asn1 < validity.not_before {
        let not_before = time(validity.not_before);
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        }
        .into());
    }
    if now_asn1 > validity.not_after {
        let not_after = time(validity.not_after);
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after,
        }
        .into());
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

/// The roots that a [`Verifier`] uses.
#[derive(Debug)]
enum Anchored {
    /// These.
    Fixed(Arc<Anchors>),
    /// The current ones.
    Following(Arc<Roots>),
}

/// The signatures of a handshake, and their algorithms, are for `self.provider` to judge, whichever
/// certificates a verifier accepts.
macro_rules! signatures_by_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}
pub(super) use signatures_by_provider;

/// Judges a server's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    anchored: Anchored,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn fixed(anchors: Arc<Anchors>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            anchored: Anchored::Fixed(anchors),
            provider,
        }
    }

    pub(super) fn following(roots: Arc<Roots>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            anchored: Anchored::Following(roots),
            provider,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let anchors = match &self.anchored {
            Anchored::Fixed(anchors) => Arc::clone(anchors),
            Anchored::Following(roots) => roots
                .anchors()
                .map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))?,
        };
        anchors.verify(leaf, intermediates, name, ocsp, now)
    }

    signatures_by_provider!();
}
