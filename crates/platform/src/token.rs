//! Tokens: 256 random bits each, known to the platform only by their SHA-256.
//!
//! A fast hash suffices because no one chooses these secrets: there is nothing to guess. They are
//! found by looking up the hash, so comparing takes no longer for a nearly right token.

use std::fmt;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;

/// Random bytes in a token.
const BYTES: usize = 32;

/// The operating system has no random numbers to give.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a token")]
pub(super) struct Error(#[source] getrandom::Error);

/// A new token: 64 hexadecimal digits, which no shell and no option parser mistakes for anything
/// else.
pub(super) fn generate() -> Result<Secret, Error> {
    let mut bytes = zeroize::Zeroizing::new([0; BYTES]);
    getrandom::fill(bytes.as_mut()).map_err(Error)?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(Secret::new(text))
}

/// What is kept of a token.
#[derive(Clone, Copy)]
pub(super) struct TokenHash([u8; digest::SHA256_OUTPUT_LEN]);

impl TokenHash {
    pub(super) fn of(token: &Secret) -> Self {
        let digest = digest::digest(&digest::SHA256, token.expose().as_bytes());
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// For a table whose key it is.
    pub(super) fn into_bytes(self) -> [u8; digest::SHA256_OUTPUT_LEN] {
        self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    pub(super) fn matches(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<token hash>")
    }
}

#[cfg(test)]
mod tests {
    use super::{TokenHash, generate};
    use crate::secret::Secret;

    #[test]
    fn tokens_are_long_different_and_plain() {
        let (one, two) = (generate().expect("one"), generate().expect("two"));
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), 64);
        assert!(one.expose().chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn a_hash_matches_its_token_only() {
        let hash = TokenHash::of(&Secret::new("abc"));
        // FIPS 180-4, the example of one block.
        assert_eq!(hash.as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(hash.matches(TokenHash::of(&Secret::new("abc")).as_bytes()));
        assert!(!hash.matches(TokenHash::of(&Secret::new("abd")).as_bytes()));
    }
}
