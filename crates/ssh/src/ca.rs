//! The key of a CA, which signs certificates by the arithmetic of this engine: ssh-key's own for
//! RSA is not in constant time (RUSTSEC-2023-0071).

use signature::Signer;
use ssh_key::public::KeyData;
use ssh_key::{PrivateKey, Signature};

use super::keys::Error;
use super::sign::{SignatureAlgorithm, SigningKey};

/// A CA's private key, ready to sign. It is what ssh-key's builder of certificates takes.
#[derive(Debug)]
pub struct CaKey {
    signer: SigningKey,
    algorithm: SignatureAlgorithm,
    public: KeyData,
}

impl CaKey {
    /// Checks that the key's parts belong together. RSA keys sign with `rsa-sha2-512`.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn try_new(key: &PrivateKey) -> Result<Self, Error> {
        let signer =
            SigningKey::try_new(key).map_err(|error| Error::Unusable(error.to_string()))?;
        let algorithm = *signer
            .algorithms()
            .last()
            .ok_or_else(|| Error::Unusable("it has no algorithm".to_owned()))?;
        Ok(Self {
            signer,
            algorithm,
            public: key.public_key().key_data().clone(),
        })
    }
}

impl From<&CaKey> for KeyData {
    fn from(key: &CaKey) -> Self {
        key.public.clone()
    }
}

impl Signer<Signature> for CaKey {
    fn try_sign(&self, data: &[u8]) -> Result<Signature, signature::Error> {
        let blob = self
            .signer
            .sign(self.algorithm, data)
            .map_err(signature::Error::from_source)?;
        Signature::try_from(blob.as_slice()).map_err(signature::Error::from_source)
    }
}
