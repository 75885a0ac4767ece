//! Words for errors of TLS, certificates and PEM files.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::VerifierBuilderError;
use rustls::{
    AlertDescription, CertificateError, InconsistentKeys, InvalidMessage, PeerIncompatible,
};
use rustls_pki_types::{UnixTime, pem};

use super::explain::{Level, unwrap};
use crate::humanize::Utc;
use crate::trust::Untrusted;

/// Why TLS failed. Completes "TLS with … failed: ".
#[must_use]
pub fn tls_error(error: &rustls::Error) -> String {
    use rustls::Error;
    let text = match error {
        Error::InvalidCertificate(error) => return certificate_error(error),
        Error::AlertReceived(alert) => return alert_received(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "this port does not speak TLS",
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the other side speaks neither TLS 1.2 nor TLS 1.3",
        Error::PeerIncompatible(_) => "the two sides have no TLS algorithm in common",
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not belong to the certificate; if the file holds a chain, the \
             server's own certificate must come first"
        }
        Error::NoCertificatesPresented => "the other side presented no certificate",
        Error::NoApplicationProtocol => {
            "the two sides have no application protocol (ALPN) in common"
        }
        Error::DecryptError => "a message was changed on the way, or its key is wrong",
        Error::UnsupportedNameType => "the name is neither a DNS name nor an IP address",
        Error::FailedToGetCurrentTime => "the time of this machine cannot be read",
        Error::FailedToGetRandomBytes => "this machine gives no random numbers",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord => "the other side broke the TLS protocol",
        Error::General(text) => return super::printable(text),
        Error::Other(error) => return super::chain(&*error.0).to_string(),
        // The rest are mistakes of this program, or belong to features that it does not use.
        _ => "TLS failed inside this program",
    };
    text.to_owned()
}

/// Why the other side's certificate is refused.
fn certificate_error(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            return format!("its certificate expired on {}", utc(*not_after));
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            return format!(
                "its certificate is not valid before {}; is this machine's clock right?",
                utc(*not_before)
            );
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return wrong_name(&expected.to_str(), presented),
        CertificateError::Other(error) => return verifier_text(&*error.0),
        CertificateError::Expired => "its certificate has expired",
        CertificateError::NotValidYet => {
            "its certificate is not valid yet; is this machine's clock right?"
        }
        CertificateError::NotValidForName => "its certificate is for another name",
        CertificateError::UnknownIssuer => "its certificate was not issued by a trusted CA",
        CertificateError::BadSignature => {
            "its certificate does not have a valid signature of its CA"
        }
        CertificateError::BadEncoding => "its certificate cannot be read",
        CertificateError::Revoked => "its certificate was revoked",
        CertificateError::UnhandledCriticalExtension => {
            "its certificate has a critical extension that is not supported"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this use (extended key usage)"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed with an algorithm that is not supported"
        }
        _ => "its certificate is not acceptable",
    };
    text.to_owned()
}

/// Names both sides of a mismatch. A name of a certificate is a peer's text: `DnsName("…")` or
/// `IpAddress(…)`.
fn wrong_name(expected: &str, presented: &[String]) -> String {
    /// Names that are shown; certificates of content networks have hundreds.
    const SHOWN: usize = 5;
    let names: Vec<String> = presented
        .iter()
        .take(SHOWN)
        .map(|name| {
            let inner = name
                .split_once('(')
                .and_then(|(_, rest)| rest.strip_suffix(')'));
            super::printable(inner.unwrap_or(name).trim_matches('"'))
        })
        .collect();
    let more = if presented.len() > SHOWN {
        " and others"
    } else {
        ""
    };
    if names.is_empty() {
        return format!("its certificate is not for {expected}: it holds no name at all");
    }
    let names = names.join(", ");
    format!("its certificate is not for {expected}, but for {names}{more}")
}

/// What a certificate's verifier found that the TLS library has no error for.
fn verifier_text(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    use webpki::Error;
    let Some(error) = error.downcast_ref::<Error>() else {
        // A verifier of this program.
        return super::chain(error).to_string();
    };
    let text = match error {
        Error::CaUsedAsEndEntity => {
            "its certificate is a CA's own certificate and not trusted here (self-signed?)"
        }
        Error::EndEntityUsedAsCa => {
            "its certificate was issued by a certificate that is not a CA's"
        }
        Error::PathLenConstraintViolated => "its chain of CAs is longer than one of them permits",
        Error::NameConstraintViolation => "its CA may not issue certificates for this name",
        Error::UnsupportedCertVersion => {
            "its certificate is not of X.509 version 3; issue a new one"
        }
        Error::MaximumPathBuildCallsExceeded | Error::MaximumPathDepthExceeded => {
            "its chain of CAs is too long"
        }
        Error::MaximumSignatureChecksExceeded | Error::MaximumNameConstraintComparisonsExceeded => {
            "its chain of CAs is too complicated"
        }
        _ => "its certificate is not acceptable",
    };
    text.to_owned()
}

/// What an alert of the other side means. RFC 8446 §6.2.
fn alert_received(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => {
            "the other side ended the handshake"
        }
        AlertDescription::UnknownCA => {
            "the other side refused this certificate: its CA is not trusted there"
        }
        AlertDescription::CertificateExpired => {
            "the other side refused this certificate: it has expired there; are both clocks right?"
        }
        AlertDescription::CertificateRevoked => {
            "the other side refused this certificate: it was revoked"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateUnobtainable
        | AlertDescription::AccessDenied => "the other side refused this certificate",
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "the other side wants a certificate"
        }
        AlertDescription::ProtocolVersion => "the other side supports no TLS version in common",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the other side refused the handshake: no TLS algorithm in common, or it wants a \
             certificate"
        }
        AlertDescription::UnrecognisedName => "the other side does not serve this name",
        AlertDescription::NoApplicationProtocol => {
            "the other side does not offer this service (ALPN)"
        }
        AlertDescription::InternalError => "the other side failed (TLS alert internal_error)",
        other => {
            let number = u8::from(other);
            return format!("the other side ended the connection with TLS alert {number}");
        }
    };
    text.to_owned()
}

/// Why a text is not PEM.
#[must_use]
pub fn pem_error(error: &pem::Error) -> String {
    let text = match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing; was it cut off?",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged",
        pem::Error::Base64Decode(_) => "its text is damaged (not valid base64)",
        pem::Error::Io(error) => return super::chain(error).to_string(),
        pem::Error::NoItemsFound => "there is none in PEM form",
        pem::Error::SectionTooLarge => "it is too large",
        _ => "it is not valid PEM",
    };
    text.to_owned()
}

/// Why certificates cannot be judged.
pub(super) fn verifier_error(error: &VerifierBuilderError) -> String {
    let text = match error {
        VerifierBuilderError::NoRootAnchors => "there is no usable root certificate",
        _ => "the revocation list cannot be read",
    };
    text.to_owned()
}

/// True if the other side closed the connection in the middle of a TLS handshake, without a word.
#[must_use]
pub fn is_closed_in_handshake(error: &io::Error) -> bool {
    let wraps_tls = error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    !wraps_tls
        && matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        )
}

/// What is wrong with a certificate that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// None of the trusted CAs issued it.
    UnknownCa,
    /// It has expired, or is not valid yet.
    Dates,
    /// It is for another name.
    Name,
    /// Anything else.
    Other,
}

/// Why the other side's certificate was refused, at whatever depth of `error`; `None` if it was
/// not.
#[must_use]
pub fn certificate_fault(error: &(dyn StdError + 'static)) -> Option<CertificateFault> {
    let mut next = Some(error);
    while let Some(error) = next {
        let error = unwrap(error);
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(match why {
                CertificateError::UnknownIssuer => CertificateFault::UnknownCa,
                CertificateError::Other(error) if error.0.is::<Untrusted>() => {
                    CertificateFault::UnknownCa
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => CertificateFault::Dates,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => CertificateFault::Name,
                _ => CertificateFault::Other,
            });
        }
        next = error.source();
    }
    None
}

/// What went wrong in a TLS handshake before a certificate was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The other side does not speak TLS.
    NotTls,
    /// The connection was reset, or ended without a word.
    Cut,
    /// Anything else.
    Other,
}

/// How the handshake failed, at whatever depth of `error`.
#[must_use]
pub fn handshake_fault(error: &(dyn StdError + 'static)) -> HandshakeFault {
    let mut next = Some(error);
    while let Some(error) = next {
        let error = unwrap(error);
        if let Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) =
            error.downcast_ref()
        {
            return HandshakeFault::NotTls;
        }
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(is_closed_in_handshake)
        {
            return HandshakeFault::Cut;
        }
        next = error.source();
    }
    HandshakeFault::Other
}

/// True if the other side's certificate was refused, at whatever depth of `error`.
#[must_use]
pub fn is_certificate_error(error: &(dyn StdError + 'static)) -> bool {
    certificate_fault(error).is_some()
}

/// For I/O errors that the TLS libraries make of sentences.
pub(super) fn handshake_text(text: &str) -> Option<Level> {
    let text = if text == "tls handshake eof" {
        "the other side closed the connection during the TLS handshake"
    } else if text.starts_with("peer closed connection without sending TLS close_notify") {
        "the connection was cut off: it ended without TLS's close_notify"
    } else {
        return None;
    };
    Some(Level::Last(text.to_owned()))
}

fn utc(time: UnixTime) -> Utc {
    let since = Duration::from_secs(time.as_secs());
    Utc(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};
    use rustls_pki_types::{ServerName, UnixTime};

    use super::super::chain;
    use super::{is_certificate_error, is_closed_in_handshake};

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn library_errors_become_sentences() {
        let name = ServerName::try_from("platform.example").expect("a name");
        let cases: Vec<(rustls::Error, &str)> = vec![
            (
                InvalidMessage::InvalidContentType.into(),
                "this port does not speak TLS",
            ),
            (
                InvalidMessage::MessageTooShort.into(),
                "the other side broke the TLS protocol",
            ),
            (
                CertificateError::ExpiredContext {
                    time: at(1_000_000),
                    not_after: at(86_400),
                }
                .into(),
                "its certificate expired on 1970-01-02 00:00:00 UTC",
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(86_400),
                }
                .into(),
                "its certificate is not valid before 1970-01-02 00:00:00 UTC; is this machine's \
                 clock right?",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: name.to_owned(),
                    presented: vec![
                        "DnsName(\"a.example\")".to_owned(),
                        "IpAddress(10.0.0.1)".to_owned(),
                    ],
                }
                .into(),
                "its certificate is not for platform.example, but for a.example, 10.0.0.1",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: name.to_owned(),
                    presented: Vec::new(),
                }
                .into(),
                "its certificate is not for platform.example: it holds no name at all",
            ),
            (
                CertificateError::UnknownIssuer.into(),
                "its certificate was not issued by a trusted CA",
            ),
            (
                CertificateError::Other(OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity)))
                    .into(),
                "its certificate is a CA's own certificate and not trusted here (self-signed?)",
            ),
            (
                CertificateError::Other(OtherError(Arc::new(webpki::Error::ExtensionValueInvalid)))
                    .into(),
                "its certificate is not acceptable",
            ),
            (
                CertificateError::Other(OtherError(Arc::new(io::Error::other(
                    "its certificate is for a relay of another name",
                ))))
                .into(),
                "its certificate is for a relay of another name",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "the other side refused this certificate: its CA is not trusted there",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::Unknown(200)),
                "the other side ended the connection with TLS alert 200",
            ),
        ];
        for (error, words) in cases {
            // As deep as libraries wrap it.
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let is_refusal = matches!(words.split_once(' '), Some(("its", _)));
            assert_eq!(is_certificate_error(&wrapped), is_refusal, "{words}");
            assert_eq!(chain(&wrapped).to_string(), words);
        }
    }

    #[test]
    fn silent_close_is_reported_from_tls_failure() {
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert!(is_closed_in_handshake(&eof));
        assert_eq!(
            chain(&eof).to_string(),
            "the other side closed the connection during the TLS handshake"
        );
        assert!(is_closed_in_handshake(
            &io::ErrorKind::ConnectionReset.into()
        ));
        let broken = rustls::Error::from(InvalidMessage::InvalidContentType);
        let broken = io::Error::new(io::ErrorKind::UnexpectedEof, broken);
        assert!(!is_closed_in_handshake(&broken));
        let cut = "peer closed connection without sending TLS close_notify: https://docs.rs/x";
        let cut = io::Error::new(io::ErrorKind::UnexpectedEof, cut);
        let text = chain(&cut).to_string();
        assert!(
            text.contains("cut off") && !text.contains("https"),
            "{text}"
        );
    }
}
