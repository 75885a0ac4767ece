//! Signatures of keys (RFC 4253 §6.6): Ed25519 (RFC 8709), ECDSA (RFC 5656 §3.1.2) and RSA with
//! SHA-2 (RFC 8332). There is no SHA-1 here, so that nothing can choose it.
//!
//! Keys are ssh-key's, which reads them; the arithmetic is aws-lc's on both sides. A signature is
//! judged under the one algorithm that the caller names, whatever the blob says of itself.

mod algorithm;

use std::fmt;

pub(super) use algorithm::SignatureAlgorithm;
use algorithm::{EcdsaScheme, P256, P384, P521, Scheme};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{ED25519, EcdsaKeyPair, Ed25519KeyPair, UnparsedPublicKey};
use crypto_bigint::{BoxedUint, NonZero};
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{EcdsaCurve, Mpint};
use zeroize::Zeroizing;

use super::wire::{Malformed, Reader, Write as _};
use infisical_runtime::error::printable;

/// Shortest RSA modulus accepted, in bits.
pub(super) const MIN_RSA_BITS: usize = 2048;
/// Longest RSA modulus accepted, in bits: the cost of a verification grows with its square, and
/// aws-lc-rs accepts no longer one.
pub(super) const MAX_RSA_BITS: usize = 8192;

/// Why something is not signed, or a signature not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The private key is of a type that is not known here, or still encrypted.
    #[error("the private key is encrypted or of an unknown type")]
    UnknownKey,
    /// The key's numbers do not belong together.
    #[error("the key's numbers do not belong together")]
    InconsistentKey,
    /// The RSA key is too short or too long.
    #[error("RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, this one has {0}")]
    RsaSize(usize),
    /// The key is of another type or on another curve.
    #[error("the key does not sign with {0}")]
    WrongKey(&'static str),
    /// The signature says that it was made with another algorithm.
    #[error("the signature is by {found:?}, not by {expected}")]
    WrongAlgorithm {
        /// What it says.
        found: String,
        /// What is due.
        expected: &'static str,
    },
    /// The signature does not have the form of its algorithm.
    #[error("the signature is malformed")]
    Malformed,
    /// The key did not make this signature, or not of this data.
    #[error("the signature is wrong")]
    Mismatch,
    /// The library failed us.
    #[error("the library did not sign")]
    Library,
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A private key, made ready once: reading and checking its numbers is not repeated at each
/// signature.
pub(super) struct SigningKey {
    pair: Pair,
    algorithms: &'static [SignatureAlgorithm],
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Checks that the key's parts belong together.
    pub(super) fn try_new(key: &ssh_key::PrivateKey) -> Result<Self, Error> {
        match key.key_data() {
            KeypairData::Ed25519(pair) => Ok(Self {
                pair: Pair::Ed25519(ed25519(pair)?),
                algorithms: &[SignatureAlgorithm::Ed25519],
            }),
            KeypairData::Ecdsa(pair) => {
                let (scheme, algorithms): (_, &[_]) = match pair.curve() {
                    EcdsaCurve::NistP256 => (&P256, &[SignatureAlgorithm::EcdsaP256]),
                    EcdsaCurve::NistP384 => (&P384, &[SignatureAlgorithm::EcdsaP384]),
                    EcdsaCurve::NistP521 => (&P521, &[SignatureAlgorithm::EcdsaP521]),
                };
                let pair = Pair::Ecdsa(ecdsa(scheme, pair)?);
                Ok(Self { pair, algorithms })
            }
            KeypairData::Rsa(pair) => Ok(Self {
                pair: Pair::Rsa(rsa(pair)?),
                algorithms: &[SignatureAlgorithm::RsaSha256, SignatureAlgorithm::RsaSha512],
            }),
            _ => Err(Error::UnknownKey),
        }
    }

    /// What it can sign with, best first.
    pub(super) fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.algorithms
    }

    /// A signature's blob: the algorithm's name and the signature proper, each a `string`.
    pub(super) fn sign(
        &self,
        algorithm: SignatureAlgorithm,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        if !self.algorithms.contains(&algorithm) {
            return Err(Error::WrongKey(algorithm.name()));
        }
        let signature = match (algorithm.scheme(), &self.pair) {
            (Scheme::Ed25519, Pair::Ed25519(pair)) => {
                let signature = pair.try_sign(data).map_err(|_| Error::Library)?;
                signature.as_ref().to_vec()
            }
            (Scheme::Ecdsa(scheme), Pair::Ecdsa(pair)) => {
                let fixed = pair
                    .sign(&SystemRandom::new(), data)
                    .map_err(|_| Error::Library)?;
                let (r, s) = fixed
                    .as_ref()
                    .split_at_checked(scheme.scalar)
                    .ok_or(Error::Library)?;
                let mut numbers = Vec::new();
                numbers.put_mpint(r);
                numbers.put_mpint(s);
                numbers
            }
            (Scheme::Rsa(scheme), Pair::Rsa(pair)) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(scheme.signing, &SystemRandom::new(), data, &mut signature)
                    .map_err(|_| Error::Library)?;
                signature
            }
            _ => return Err(Error::WrongKey(algorithm.name())),
        };
        let mut blob = Vec::new();
        blob.put_string(algorithm.name());
        blob.put_string(signature);
        Ok(blob)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

fn ed25519(pair: &Ed25519Keypair) -> Result<Ed25519KeyPair, Error> {
    let seed = Zeroizing::new(pair.private.to_bytes());
    Ed25519KeyPair::from_seed_and_public_key(&*seed, pair.public.as_ref())
        .map_err(|_| Error::InconsistentKey)
}

fn ecdsa(scheme: &EcdsaScheme, pair: &EcdsaKeypair) -> Result<EcdsaKeyPair, Error> {
    EcdsaKeyPair::from_private_key_and_public_key(
        scheme.signing,
        pair.private_key_bytes(),
        pair.public_key_bytes(),
    )
    .map_err(|_| Error::InconsistentKey)
}

fn rsa(pair: &RsaKeypair) -> Result<RsaKeyPair, Error> {
    let public_key = rsa_public(pair.public())?;
    let private = pair.private();
    let [d, p, q, q_inverse] = [private.d(), private.p(), private.q(), private.iqmp()]
        .map(|number| number.as_positive_bytes().ok_or(Error::InconsistentKey));
    let (d, p, q) = (d?, p?, q?);
    // OpenSSH's format leaves these two out.
    let d_p = crt_exponent(d, p).ok_or(Error::InconsistentKey)?;
    let d_q = crt_exponent(d, q).ok_or(Error::InconsistentKey)?;
    RsaKeyPair::from_components(&KeyPairComponents {
        public_key,
        d,
        p,
        q,
        dP: &d_p,
        dQ: &d_q,
        qInv: q_inverse?,
    })
    .map_err(|_| Error::InconsistentKey)
}

/// `d mod (prime - 1)` (RFC 8017 §3.2).
fn crt_exponent(d: &[u8], prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bits = u32::try_from(d.len().max(prime.len()).checked_mul(8)?).ok()?;
    let d = Zeroizing::new(BoxedUint::from_be_slice(d, bits).ok()?);
    let prime = Zeroizing::new(BoxedUint::from_be_slice(prime, bits).ok()?);
    let less_one = NonZero::new(prime.wrapping_sub(BoxedUint::one_with_precision(bits)));
    let exponent = Zeroizing::new(d.rem(&less_one.into_option()?));
    Some(Zeroizing::new(exponent.to_be_bytes().into_vec()))
}

fn rsa_public(key: &RsaPublicKey) -> Result<PublicKeyComponents<&[u8]>, Error> {
    let n = digits(key.n())?;
    let e = digits(key.e())?;
    let zeros = n.first().map_or(0, |first| first.leading_zeros());
    let bits = (n.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or(0));
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(Error::RsaSize(bits));
    }
    Ok(PublicKeyComponents { n, e })
}

fn digits(number: &Mpint) -> Result<&[u8], Error> {
    number.as_positive_bytes().ok_or(Error::InconsistentKey)
}

/// Judges a signature, whose blob must name exactly this algorithm.
pub(super) fn verify(
    key: &KeyData,
    algorithm: SignatureAlgorithm,
    blob: &[u8],
    data: &[u8],
) -> Result<(), Error> {
    let mut reader = Reader::new(blob);
    let name = reader.string()?;
    let signature = reader.string()?;
    reader.finish()?;
    if name != algorithm.name().as_bytes() {
        return Err(Error::WrongAlgorithm {
            found: printable(&String::from_utf8_lossy(name)),
            expected: algorithm.name(),
        });
    }
    match (algorithm.scheme(), key) {
        (Scheme::Ed25519, KeyData::Ed25519(key)) => {
            UnparsedPublicKey::new(&ED25519, key.as_ref()).verify(data, signature)
        }
        (Scheme::Ecdsa(scheme), KeyData::Ecdsa(key)) if key.curve() == scheme.curve => {
            let fixed = fixed(scheme, signature)?;
            UnparsedPublicKey::new(scheme.verification, key.as_sec1_bytes()).verify(data, &fixed)
        }
        (Scheme::Rsa(scheme), KeyData::Rsa(key)) => {
            let key = rsa_public(key)?;
            let padded = padded(signature, key.n.len())?;
            key.verify(scheme.verification, data, &padded)
        }
        _ => return Err(Error::WrongKey(algorithm.name())),
    }
    .map_err(|_| Error::Mismatch)
}

/// The two numbers of an ECDSA signature (RFC 5656 §3.1.2), as long as the library wants them.
fn fixed(scheme: &EcdsaScheme, signature: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new(signature);
    let r = reader.mpint()?;
    let s = reader.mpint()?;
    reader.finish()?;
    Ok([padded(r, scheme.scalar)?, padded(s, scheme.scalar)?].concat())
}

/// A number with zeros in front. An RSA signature, too, may come without the zeros that it should
/// have (RFC 8332 §3: signers exist that leave them out).
fn padded(number: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    let zeros = length.checked_sub(number.len()).ok_or(Error::Malformed)?;
    let mut padded = vec![0; zeros];
    padded.extend_from_slice(number);
    Ok(padded)
}

#[cfg(test)]
mod tests;
