//! Judges OpenSSH certificates (PROTOCOL.certkeys, protocol.md §2): the whole rule, in one place.
//!
//! A certificate is believed only if every question has the right answer: its type, that the CA is
//! exactly the named one, the CA's signature (never SHA-1), the validity at the given time, the
//! principal, the key id, and that it has no critical option, since this program enforces none.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;
use ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};

use super::keys;
use super::sign::{self, SignatureAlgorithm};
use crate::clock::Skew;
use crate::humanize::Utc;

/// What a client asks of a server's host certificate.
#[derive(Debug, Clone)]
pub struct HostPolicy {
    /// The only CA that may have signed it.
    pub ca: PublicKey,
    /// The principal it must carry, exactly.
    pub principal: String,
}

/// What a server asks of a client's user certificate, besides its own user name as a principal.
#[derive(Debug, Clone)]
pub struct UserPolicy {
    /// The only CA that may have signed it.
    pub ca: PublicKey,
    /// The key id it must carry, exactly.
    pub key_id: String,
}

/// Why a certificate is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A user certificate where a host certificate is due, or the reverse.
    #[error("it is a {found} certificate, not a {expected} certificate")]
    WrongType {
        /// What it is.
        found: &'static str,
        /// What is due.
        expected: &'static str,
    },
    /// Another CA signed it.
    #[error("it is signed by {found}, not by the CA that the platform named ({expected})")]
    WrongCa {
        /// The signer's fingerprint.
        found: String,
        /// The named CA's fingerprint.
        expected: String,
    },
    /// The signature uses SHA-1.
    #[error("its signature uses {0}, which is not accepted")]
    WeakSignature(String),
    /// The signature is not the CA's.
    #[error("its signature is wrong")]
    BadSignature,
    /// A key in it is not acceptable.
    #[error("its key is not accepted: {0}")]
    BadKey(String),
    /// Its time has not come.
    #[error("it is not valid before {0}")]
    NotYetValid(Limit),
    /// Its time is over.
    #[error("it expired at {0}")]
    Expired(Limit),
    /// The principal is not in it.
    #[error("it is for {found:?}, not for {expected:?}")]
    WrongPrincipal {
        /// Its principals.
        found: Vec<String>,
        /// The one that is due.
        expected: String,
    },
    /// It was issued for another relay.
    #[error("its key id is {found:?}, not {expected:?}")]
    WrongKeyId {
        /// Its key id.
        found: String,
        /// The one that is due.
        expected: String,
    },
    /// It asks for something that this program cannot enforce.
    #[error("it has the critical option {0:?}, which is not supported")]
    CriticalOption(String),
}

/// A limit of a certificate's validity that was not kept, and by which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The limit.
    pub at: SystemTime,
    /// When it was judged.
    pub now: SystemTime,
    /// By how much this machine's own clock is known to be wrong; it was judged by the right time
    /// then.
    pub skew: Option<Skew>,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, now) = (Utc(self.at), Utc(self.now));
        match self.skew {
            None => write!(f, "{at} (is this machine's clock right? it says {now})"),
            Some(skew) => write!(f, "{at}, and it is {now}; {skew}"),
        }
    }
}

impl Error {
    /// The same, told by someone who knows how wrong this machine's clock is.
    #[must_use]
    pub(crate) fn knowing(self, skew: Option<Skew>) -> Self {
        match self {
            Self::NotYetValid(limit) => Self::NotYetValid(Limit { skew, ..limit }),
            Self::Expired(limit) => Self::Expired(Limit { skew, ..limit }),
            other @ (Self::WrongType { .. }
            | Self::WrongCa { .. }
            | Self::WeakSignature(_)
            | Self::BadSignature
            | Self::BadKey(_)
            | Self::WrongPrincipal { .. }
            | Self::WrongKeyId { .. }
            | Self::CriticalOption(_)) => other,
        }
    }
}

/// Judges a server's host certificate at the time `now`.
///
/// # Errors
/// The first reason found to not believe it.
pub fn verify_host(
    certificate: &Certificate,
    policy: &HostPolicy,
    now: SystemTime,
) -> Result<(), Error> {
    verify(
        certificate,
        CertType::Host,
        &policy.ca,
        &policy.principal,
        now,
    )
}

/// Judges a client's user certificate at the time `now`, for the SSH user name `user`.
///
/// # Errors
/// The first reason found to not believe it.
pub fn verify_user(
    certificate: &Certificate,
    user: &str,
    policy: &UserPolicy,
    now: SystemTime,
) -> Result<(), Error> {
    verify(certificate, CertType::User, &policy.ca, user, now)?;
    if certificate.key_id() == policy.key_id {
        Ok(())
    } else {
        Err(Error::WrongKeyId {
            found: certificate.key_id().to_owned(),
            expected: policy.key_id.clone(),
        })
    }
}

fn verify(
    certificate: &Certificate,
    due: CertType,
    ca: &PublicKey,
    principal: &str,
    now: SystemTime,
) -> Result<(), Error> {
    if certificate.cert_type() != due {
        return Err(Error::WrongType {
            found: type_name(certificate.cert_type()),
            expected: type_name(due),
        });
    }
    for key in [certificate.public_key(), certificate.signature_key()] {
        keys::check_key(key).map_err(|error| Error::BadKey(error.to_string()))?;
    }
    // The signature is verified with the key *inside* the certificate, which is worth nothing
    // unless it is the CA we were told to trust.
    if certificate.signature_key() != ca.key_data() {
        return Err(Error::WrongCa {
            found: certificate
                .signature_key()
                .fingerprint(HashAlg::Sha256)
                .to_string(),
            expected: ca.fingerprint(HashAlg::Sha256).to_string(),
        });
    }
    let algorithm = certificate.signature().algorithm();
    if matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
        return Err(Error::WeakSignature(algorithm.to_string()));
    }
    is_signed(certificate).ok_or(Error::BadSignature)?;

    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    if seconds < certificate.valid_after() {
        return Err(Error::NotYetValid(limit(certificate.valid_after(), now)));
    }
    if seconds >= certificate.valid_before() {
        return Err(Error::Expired(limit(certificate.valid_before(), now)));
    }
    // An empty list means "any principal" to OpenSSH; here a certificate always names its subject.
    if !certificate
        .valid_principals()
        .iter()
        .any(|p| p == principal)
    {
        return Err(Error::WrongPrincipal {
            found: certificate.valid_principals().to_vec(),
            expected: principal.to_owned(),
        });
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Err(Error::CriticalOption(option.clone()));
    }
    Ok(())
}

/// Whether the key named in the certificate has signed it: all of it in front of the signature
/// (PROTOCOL.certkeys).
fn is_signed(certificate: &Certificate) -> Option<()> {
    let blob = certificate.to_bytes().ok()?;
    let signature = Vec::<u8>::try_from(certificate.signature().clone()).ok()?;
    // The signature is a `string`, the last one.
    let end = blob.len().checked_sub(signature.len())?.checked_sub(4)?;
    let algorithm = SignatureAlgorithm::from_name(certificate.signature().algorithm().as_str())?;
    let signed = blob.get(..end)?;
    sign::verify(certificate.signature_key(), algorithm, &signature, signed).ok()
}

/// When the certificate expires; `None` if never.
#[must_use]
pub fn expires(certificate: &Certificate) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(certificate.valid_before()))
}

fn limit(seconds: u64, now: SystemTime) -> Limit {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    Limit {
        at: at.unwrap_or(now),
        now,
        skew: None,
    }
}

fn type_name(kind: CertType) -> &'static str {
    match kind {
        CertType::User => "user",
        CertType::Host => "host",
    }
}

#[cfg(test)]
#[path = "cert_tests.rs"]
mod tests;
