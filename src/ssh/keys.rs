//! Reads OpenSSH keys and certificates as the platform sends them: one `authorized_keys`-style line for
//! public material, OpenSSH PEM for private keys. Errors never repeat private material.

use ssh_key::public::KeyData;
use ssh_key::{Certificate, PrivateKey, PublicKey};

use crate::secret::Secret;

/// Smallest RSA modulus accepted, in bits.
const MIN_RSA_BITS: usize = 2048;

/// Why a text is not the key or certificate it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text cannot be read.
    #[error("not a valid OpenSSH {expected}: {reason}")]
    Malformed {
        /// What was expected.
        expected: &'static str,
        /// Why it is not one.
        reason: String,
    },
    /// The private key is protected by a passphrase.
    #[error("the private key is encrypted; it must be without passphrase")]
    Encrypted,
    /// The key's kind is not accepted.
    #[error("keys of type {0} are not accepted (use Ed25519, ECDSA or RSA)")]
    Algorithm(String),
    /// The RSA key is too short.
    #[error("RSA keys must have at least {MIN_RSA_BITS} bits, this one has {0}")]
    ShortRsa(usize),
    /// The private key is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

/// Reads a certificate line.
///
/// # Errors
/// See [`Error`].
pub fn parse_certificate(line: &str) -> Result<Certificate, Error> {
    let certificate =
        Certificate::from_openssh(line.trim()).map_err(|error| malformed("certificate", &error))?;
    check_key(certificate.public_key())?;
    check_key(certificate.signature_key())?;
    Ok(certificate)
}

/// Reads a public key line.
///
/// # Errors
/// See [`Error`].
pub fn parse_public_key(line: &str) -> Result<PublicKey, Error> {
    let key =
        PublicKey::from_openssh(line.trim()).map_err(|error| malformed("public key", &error))?;
    check_key(key.key_data())?;
    Ok(key)
}

/// Reads an unencrypted private key in OpenSSH PEM.
///
/// # Errors
/// See [`Error`].
pub fn parse_private_key(pem: &Secret) -> Result<PrivateKey, Error> {
    let key = PrivateKey::from_openssh(pem.expose().trim())
        .map_err(|error| malformed("private key", &error))?;
    if key.is_encrypted() {
        return Err(Error::Encrypted);
    }
    check_key(key.public_key().key_data())?;
    Ok(key)
}

/// A private key together with the certificate of its public key.
#[derive(Clone)]
pub struct CertifiedKey {
    pub(super) key: PrivateKey,
    pub(super) certificate: Certificate,
}

impl CertifiedKey {
    /// Joins the two.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if they do not belong together.
    pub fn try_new(key: PrivateKey, certificate: Certificate) -> Result<Self, Error> {
        if key.public_key().key_data() != certificate.public_key() {
            return Err(Error::Mismatch);
        }
        Ok(Self { key, certificate })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl std::fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertifiedKey")
            .field("key_id", &self.certificate.key_id())
            .finish_non_exhaustive()
    }
}

fn malformed(expected: &'static str, error: &ssh_key::Error) -> Error {
    Error::Malformed {
        expected,
        reason: error.to_string(),
    }
}

/// Accepts Ed25519, ECDSA on the NIST curves and RSA of decent size (protocol.md §2).
pub(super) fn check_key(key: &KeyData) -> Result<(), Error> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let bits = rsa.key_size() as usize;
            if bits < MIN_RSA_BITS {
                Err(Error::ShortRsa(bits))
            } else {
                Ok(())
            }
        }
        other => Err(Error::Algorithm(other.algorithm().to_string())),
    }
}
