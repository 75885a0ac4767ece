//! Fatal alerts on established TLS connections.
//!
//! A connection that breaks must say so. To omit `close_notify` is not enough: Go's `crypto/tls`
//! and others take an end between two records for an orderly one. But the TLS library sends fatal
//! alerts for mistakes of its peer only. One could be provoked by feeding it an invalid record;
//! that would name the wrong cause, and does not work once the peer has sent its own
//! `close_notify`, after which nothing more is read from it.
//!
//! So the alert is sent in the place of `close_notify`, by public interfaces only: the cipher
//! suites of [`suites`] encrypt through [`Encrypter`], which, while [`send`] runs, encrypts
//! `internal_error` instead. All else is the library's: the record, its number, and that nothing is
//! sent after it. It is the same for TLS 1.2 and 1.3.

use std::cell::Cell;
use std::sync::LazyLock;

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundOpaqueMessage, OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::{
    CipherSuiteCommon, CommonState, ConnectionTrafficSecrets, ContentType, Error,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

/// Level fatal, description `internal_error` (RFC 8446 §6).
const INTERNAL_ERROR: [u8; 2] = [2, 80];

thread_local! {
    static IS_FATAL: Cell<bool> = const { Cell::new(false) };
}

/// Queues the alert, behind everything that was written; nothing can be written after it. Does
/// nothing if `close_notify` or an alert was sent before: that direction has ended.
pub(super) fn send(connection: &mut CommonState) {
    IS_FATAL.set(true);
    connection.send_close_notify();
    IS_FATAL.set(false);
}

/// The suites of aws-lc-rs, with which [`send`] works.
pub(super) fn suites() -> Vec<SupportedCipherSuite> {
    // Made once: the library wants them for as long as the process lives.
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.into_iter().map(wrap).collect()
    });
    SUITES.clone()
}

fn wrap(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Aead12(suite.aead_alg))),
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(Aead13(suite.aead_alg))),
                quic: suite.quic,
            })))
        }
    }
}

fn common(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    }
}

/// Replaces alerts while [`IS_FATAL`] is set.
struct Encrypter(Box<dyn MessageEncrypter>);

impl MessageEncrypter for Encrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        if message.typ == ContentType::Alert && IS_FATAL.get() {
            let alert = OutboundPlainMessage {
                payload: OutboundChunks::Single(&INTERNAL_ERROR),
                typ: message.typ,
                version: message.version,
            };
            return self.0.encrypt(alert, number);
        }
        self.0.encrypt(message, number)
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.0.encrypted_payload_len(length)
    }
}

struct Aead12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Aead12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(Encrypter(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Aead13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Aead13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Encrypter(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}
