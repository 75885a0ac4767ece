//! What a shared secret is turned into: the exchange hash (RFC 4253 §8) and keys (RFC 4253 §7.2).

use aws_lc_rs::digest::{self, Context};
use zeroize::Zeroizing;

use super::Method;
use crate::wire::Write as _;

/// Room for the length and the sign of a number, so that a secret is never moved by a growing
/// buffer, which would leave a copy behind.
const OVERHEAD: usize = 5;

/// The secret of an exchange, K, in the form in which it enters a hash.
pub(crate) struct SharedSecret {
    encoded: Zeroizing<Vec<u8>>,
}

/// What both sides have seen of an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transcript<'a> {
    /// V_C, the client's identification line without its end.
    pub(crate) client_version: &'a [u8],
    /// V_S, the server's.
    pub(crate) server_version: &'a [u8],
    /// I_C, the payload of the client's KEXINIT.
    pub(crate) client_kexinit: &'a [u8],
    /// I_S, the server's.
    pub(crate) server_kexinit: &'a [u8],
    /// K_S, the server's host key or certificate.
    pub(crate) host_key: &'a [u8],
    /// The client's public value: e, Q_C or C_INIT.
    pub(crate) client_public: &'a [u8],
    /// The server's public value: f, Q_S or S_REPLY.
    pub(crate) server_public: &'a [u8],
}

impl SharedSecret {
    /// A secret that is a number, from its magnitude: an `mpint`.
    pub(super) fn number(magnitude: &[u8]) -> Self {
        let mut encoded = Zeroizing::new(Vec::with_capacity(magnitude.len() + OVERHEAD));
        encoded.put_mpint(magnitude);
        Self { encoded }
    }

    /// A secret that is bytes: a `string`.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        let mut encoded = Zeroizing::new(Vec::with_capacity(bytes.len() + OVERHEAD));
        encoded.put_string(bytes);
        Self { encoded }
    }

    /// The exchange hash, H, which the server signs; the first one of a connection is its session
    /// id.
    pub(crate) fn exchange_hash(&self, method: Method, transcript: &Transcript<'_>) -> Vec<u8> {
        let mut seen = Vec::new();
        for field in [
            transcript.client_version,
            transcript.server_version,
            transcript.client_kexinit,
            transcript.server_kexinit,
            transcript.host_key,
            transcript.client_public,
            transcript.server_public,
        ] {
            seen.put_string(field);
        }
        let mut hash = Context::new(method.hash());
        hash.update(&seen);
        hash.update(&self.encoded);
        hash.finish().as_ref().to_vec()
    }

    /// The key of a letter, `A` to `F`, of any length: `K1 = HASH(K || H || letter || session_id)`,
    /// and while more is due, `HASH(K || H || all of the key so far)`.
    pub(crate) fn derive(
        &self,
        method: Method,
        exchange_hash: &[u8],
        session_id: &[u8],
        letter: u8,
        length: usize,
    ) -> Zeroizing<Vec<u8>> {
        let hash = method.hash();
        let mut start = Context::new(hash);
        start.update(&self.encoded);
        start.update(exchange_hash);
        let mut first = start.clone();
        first.update(&[letter]);
        first.update(session_id);
        let mut block = first.finish();
        let mut key = Zeroizing::new(Vec::with_capacity(length + digest::MAX_OUTPUT_LEN));
        key.extend_from_slice(block.as_ref());
        while key.len() < length {
            let mut next = start.clone();
            next.update(&key);
            block = next.finish();
            key.extend_from_slice(block.as_ref());
        }
        key.truncate(length);
        key
    }
}
