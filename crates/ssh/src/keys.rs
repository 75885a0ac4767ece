//! Reads OpenSSH keys and certificates as the platform sends them: one `authorized_keys`-style line
//! for public material, OpenSSH PEM for private keys. Errors never repeat private material.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::sign::{MAX_RSA_BITS, MIN_RSA_BITS, SigningKey};
use super::wire::Reader;
use crate::secret::Secret;

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
    /// The RSA key is too long.
    #[error("RSA keys must have at most {MAX_RSA_BITS} bits, this one has {0}")]
    LongRsa(usize),
    /// The private key is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The private key's numbers do not make a key.
    #[error("the private key cannot sign: {0}")]
    Unusable(String),
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
    let pem = pem.expose().trim();
    let key = PrivateKey::from_openssh(pem)
        .or_else(|error| parse_short_p256(pem).ok_or(error))
        .map_err(|error| malformed("private key", &error))?;
    if key.is_encrypted() {
        return Err(Error::Encrypted);
    }
    check_key(key.public_key().key_data())?;
    Ok(key)
}

/// Reads an unencrypted P-256 key whose number is shorter than 32 bytes, as one in 512 is: OpenSSH
/// writes a number without leading zeros (RFC 4251 §5), and the library wants all of them.
fn parse_short_p256(pem: &str) -> Option<PrivateKey> {
    let body = pem
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?
        .strip_suffix("-----END OPENSSH PRIVATE KEY-----")?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    let bytes = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
    let mut rest = Reader::new(bytes.strip_prefix(b"openssh-key-v1\0")?);
    // Cipher, key derivation and its options of an unencrypted key.
    for plain in [&b"none"[..], b"none", b""] {
        (rest.string().ok()? == plain).then_some(())?;
    }
    (rest.u32().ok()? == 1).then_some(())?;
    rest.string().ok()?;
    let private = rest.string().ok()?;
    rest.finish().ok()?;
    let mut rest = Reader::new(private);
    (rest.u32().ok()? == rest.u32().ok()?).then_some(())?;
    (rest.string().ok()? == b"ecdsa-sha2-nistp256").then_some(())?;
    (rest.string().ok()? == b"nistp256").then_some(())?;
    let EcdsaPublicKey::NistP256(public) =
        EcdsaPublicKey::from_sec1_bytes(rest.string().ok()?).ok()?
    else {
        return None;
    };
    let short = rest.string().ok()?;
    // The comment, and padding up to the next multiple of 8.
    rest.string().ok()?;
    b"\x01\x02\x03\x04\x05\x06\x07"
        .starts_with(rest.rest())
        .then_some(())?;
    let mut scalar = Zeroizing::new([0; 32]);
    let start = scalar.len().checked_sub(short.len())?;
    scalar.get_mut(start..)?.copy_from_slice(short);
    let pair = EcdsaKeypair::NistP256 {
        public,
        private: EcdsaPrivateKey::from(*scalar),
    };
    PrivateKey::new(pair.into(), "").ok()
}

/// A private key together with the certificate of its public key.
#[derive(Clone)]
pub struct CertifiedKey {
    /// The private key, ready to sign.
    pub(super) signer: Arc<SigningKey>,
    /// The certificate as it goes over the wire.
    pub(super) blob: Arc<[u8]>,
    certificate: Arc<Certificate>,
}

impl CertifiedKey {
    /// Joins the two.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if they do not belong together, [`Error::Unusable`] if the key cannot
    /// sign.
    pub fn try_new(key: &PrivateKey, certificate: Certificate) -> Result<Self, Error> {
        if key.public_key().key_data() != certificate.public_key() {
            return Err(Error::Mismatch);
        }
        let signer =
            SigningKey::try_new(key).map_err(|error| Error::Unusable(error.to_string()))?;
        let blob = certificate
            .to_bytes()
            .map_err(|error| malformed("certificate", &error))?;
        Ok(Self {
            signer: Arc::new(signer),
            blob: blob.into(),
            certificate: Arc::new(certificate),
        })
    }

    /// The certificate.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub(crate) fn certificate(&self) -> &Certificate {
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
    use ssh_key::Error as Library;
    let reason = match error {
        Library::Encoding(_) | Library::FormatEncoding | Library::TrailingData { .. } => {
            "it is damaged or cut off".to_owned()
        }
        Library::AlgorithmUnknown | Library::AlgorithmUnsupported { .. } => {
            "its algorithm is not supported".to_owned()
        }
        other => other.to_string(),
    };
    Error::Malformed { expected, reason }
}

/// Accepts Ed25519, ECDSA on the NIST curves and RSA of decent size (protocol.md §2).
pub(super) fn check_key(key: &KeyData) -> Result<(), Error> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let bits = rsa.key_size() as usize;
            if bits < MIN_RSA_BITS {
                Err(Error::ShortRsa(bits))
            } else if bits > MAX_RSA_BITS {
                Err(Error::LongRsa(bits))
            } else {
                Ok(())
            }
        }
        other => Err(Error::Algorithm(other.algorithm().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, parse_private_key, parse_public_key};
    use crate::secret::Secret;
    use ssh_key::HashAlg;

    /// Made by `ssh-keygen -t ecdsa`; its private number has 31 bytes.
    const SHORT_P256: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS\n\
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQT+tmMk3embHgaOUbZf3mWGjt0PaHTw\n\
d2dvDhKKn3Geon0ql7VgB0bp1EWsf/Ha1bc9Rmkog/ZW0gAGbBAtr+86AAAAmJzvQd6c70\n\
HeAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBP62YyTd6ZseBo5R\n\
tl/eZYaO3Q9odPB3Z28OEoqfcZ6ifSqXtWAHRunURax/8drVtz1GaSiD9lbSAAZsEC2v7z\n\
oAAAAfMIo4vLxFHUF3tjUzlenk369rp0YOu/o2RtWdJrsnDwAAAAAB\n\
-----END OPENSSH PRIVATE KEY-----";
    const SHORT_P256_PUBLIC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBP62YyTd6ZseBo5Rtl/eZYaO3Q9odPB3Z28OEoqfcZ6ifSqXtWAHRunURax/8drVtz1GaSiD9lbSAAZsEC2v7zo=";

    #[test]
    fn p256_key_with_short_number_signs() {
        let key = parse_private_key(&Secret::new(SHORT_P256)).expect("a key");
        let public = parse_public_key(SHORT_P256_PUBLIC).expect("a key");
        assert_eq!(key.public_key().key_data(), public.key_data());
        let signature = key.sign("test", HashAlg::Sha256, b"text").expect("signs");
        public
            .verify("test", b"text", &signature)
            .expect("verifies");
    }

    #[test]
    fn cut_keys_error_does_not_repeat_it() {
        for end in 0..SHORT_P256.len() {
            let cut = SHORT_P256.get(..end).expect("ASCII");
            let error = parse_private_key(&Secret::new(cut)).expect_err("cut");
            assert!(matches!(error, Error::Malformed { .. }), "{end}: {error}");
            assert!(!error.to_string().contains("b3Bl"));
        }
    }
}
