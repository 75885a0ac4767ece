//! The hybrid exchange of ML-KEM-768 and X25519 (draft-ietf-sshm-mlkem-hybrid-kex): anyone who
//! breaks only one of the two learns nothing.
//!
//! The client sends an encapsulation key and an X25519 value, one behind the other; the server
//! answers with a ciphertext and its own X25519 value. The secret is `SHA-256(K_PQ || K_CL)`, and
//! unlike all others it enters the hashes as a `string`.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};

use super::ecdh::{self, Curve};
use super::{Error, SharedSecret};

/// Bytes of an encapsulation key (FIPS 203 §8, table 3).
const ENCAPSULATION_KEY: usize = 1184;
/// Bytes of a ciphertext (FIPS 203 §8, table 3).
const CIPHERTEXT: usize = 1088;

/// The client's half.
pub(super) struct Half {
    decapsulation: DecapsulationKey,
    classical: ecdh::Half,
    public: Vec<u8>,
}

impl Half {
    pub(super) fn try_new() -> Result<Self, Error> {
        let decapsulation = DecapsulationKey::generate(&ML_KEM_768)
            .map_err(|_| Error::Local("no key for ML-KEM"))?;
        let classical = ecdh::Half::try_new(Curve::X25519)?;
        let key = decapsulation
            .encapsulation_key()
            .and_then(|key| key.key_bytes())
            .map_err(|_| Error::Local("no public key for ML-KEM"))?;
        let public = [key.as_ref(), classical.public()].concat();
        Ok(Self {
            decapsulation,
            classical,
            public,
        })
    }

    /// C_INIT.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Takes S_REPLY. A ciphertext that was not made for our key yields a secret that no one knows
    /// (FIPS 203 §6.3), so the exchange then fails at the server's signature.
    pub(super) fn finish(self, reply: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, classical) = parts(reply, CIPHERTEXT)?;
        let classical = self.classical.agree(classical)?;
        let quantum = self
            .decapsulation
            .decapsulate(Ciphertext::from(ciphertext))
            .map_err(|_| Error::Local("ML-KEM does not decapsulate"))?;
        Ok(combine(quantum.as_ref(), &classical))
    }
}

/// The server's half: S_REPLY and the secret.
pub(super) fn respond(init: &[u8]) -> Result<(Vec<u8>, SharedSecret), Error> {
    let (key, classical) = parts(init, ENCAPSULATION_KEY)?;
    let half = ecdh::Half::try_new(Curve::X25519)?;
    let classical = half.agree(classical)?;
    // Whether the key is valid (FIPS 203 §7.2) is checked by its use.
    let (ciphertext, quantum) = EncapsulationKey::new(&ML_KEM_768, key)
        .map_err(|_| Error::NotAnEncapsulationKey)?
        .encapsulate()
        .map_err(|_| Error::NotAnEncapsulationKey)?;
    let reply = [ciphertext.as_ref(), half.public()].concat();
    Ok((reply, combine(quantum.as_ref(), &classical)))
}

/// The part of ML-KEM, of the given length, and the part of X25519.
fn parts(public: &[u8], quantum: usize) -> Result<(&[u8], &[u8]), Error> {
    let expected = quantum + Curve::X25519.public_length();
    public
        .split_at_checked(quantum)
        .filter(|_| public.len() == expected)
        .ok_or(Error::WrongLength {
            expected,
            found: public.len(),
        })
}

fn combine(quantum: &[u8], classical: &[u8]) -> SharedSecret {
    let mut hash = Context::new(&SHA256);
    hash.update(quantum);
    hash.update(classical);
    SharedSecret::bytes(hash.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::{CIPHERTEXT, ENCAPSULATION_KEY, Half, combine, respond};
    use crate::kex::tests::hex;
    use crate::kex::{Error, Method, SharedSecret};

    #[test]
    fn message_lengths_match_the_draft() {
        let client = Half::try_new().unwrap();
        assert_eq!(client.public().len(), 1216);
        let (reply, _) = respond(client.public()).unwrap();
        assert_eq!(reply.len(), 1120);
    }

    #[test]
    fn secret_hashes_both_parts_in_order() {
        // Made elsewhere: the key A of `string SHA-256(K_PQ || K_CL)`, the hash "hash" and the id
        // "id".
        let secret = combine(&[1; 32], &[2; 32]);
        assert_eq!(
            *secret.derive(Method::MlKem768X25519Sha256, b"hash", b"id", b'A', 32),
            hex("ce66b6157e779b72a9492465cf770eb061e7e1bb077e2912594512561c3aa117")
        );
    }

    #[test]
    fn a_message_of_another_length_is_refused() {
        let init = Half::try_new().unwrap().public().to_vec();
        let (reply, _) = respond(&init).unwrap();
        for found in (0..1216).chain([1217]) {
            let wrong = init.iter().copied().chain([0]).take(found);
            let error = Error::WrongLength {
                expected: 1216,
                found,
            };
            let result = respond(&wrong.collect::<Vec<_>>());
            assert_eq!(result.map(|_| ()), Err(error));
        }
        for found in [0, 1, 32, 1088, 1119, 1121] {
            let wrong = reply.iter().copied().chain([0]).take(found);
            let error = Error::WrongLength {
                expected: 1120,
                found,
            };
            let client = Half::try_new().unwrap();
            let result = client.finish(&wrong.collect::<Vec<_>>());
            assert_eq!(result.map(|_| ()), Err(error));
        }
    }

    #[test]
    fn oversized_encapsulation_key_is_refused() {
        // FIPS 203 §7.2: each coefficient, 12 bits, must be below 3329.
        let mut init = Half::try_new().unwrap().public().to_vec();
        init[..3].fill(0xff);
        assert_eq!(
            respond(&init).map(|_| ()),
            Err(Error::NotAnEncapsulationKey)
        );
    }

    #[test]
    fn changed_ciphertext_makes_another_secret() {
        let client = Half::try_new().unwrap();
        let (mut reply, server) = respond(client.public()).unwrap();
        reply[0] ^= 1;
        let client = client.finish(&reply).unwrap();
        let key = |secret: &SharedSecret| {
            secret.derive(Method::MlKem768X25519Sha256, b"hash", b"id", b'A', 32)
        };
        assert_ne!(key(&client), key(&server));
    }

    #[test]
    fn x25519_part_without_secret_is_refused() {
        let client = Half::try_new().unwrap();
        let (mut reply, _) = respond(client.public()).unwrap();
        let mut init = client.public().to_vec();
        init[ENCAPSULATION_KEY..].fill(0);
        assert_eq!(respond(&init).map(|_| ()), Err(Error::NoSecret));
        reply[CIPHERTEXT..].fill(0);
        assert_eq!(client.finish(&reply).map(|_| ()), Err(Error::NoSecret));
    }
}
