//! Certificates of clients with keys that would cost a server much to verify with, made without any
//! private key for them.

use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PublicKeyData,
    SignatureAlgorithm,
};
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use crate::support::tls;

/// Bytes of modulus and exponent: RSA-16384 with the usual exponent, RSA-8192 with the longest one,
/// and the longest that a relay takes to verify.
const KEYS: [(usize, usize); 3] = [(2048, 3), (1024, 1024), (1024, 3)];

/// What the relay's own authority for clients is called (`support::x509`).
const AUTHORITY: &str = "Test Relay Client CA";

/// Of clients that show such certificates one after the other, issued by an authority that calls
/// itself like the relay's.
pub(crate) fn configs(anchors: &str) -> Vec<Arc<ClientConfig>> {
    let one = |(modulus, exponent)| {
        let key = RsaKey::new(modulus, exponent);
        let authority = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY);
        let issuer = Issuer::new(params, &authority);
        let leaf = CertificateParams::new(vec!["client".to_owned()]).expect("a name");
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
        // The signature by another key is wrong, but first the certificate is judged.
        let signer = KeyPair::generate().expect("a key");
        let signer = PrivateKeyDer::try_from(signer.serialize_der()).expect("a key");
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&signer);
        let chain = vec![certificate.der().clone()];
        let shown = Shown(Arc::new(CertifiedKey::new(chain, signer.expect("a key"))));
        let mut config = ClientConfig::clone(&tls::config(None, anchors, &[]));
        config.client_auth_cert_resolver = Arc::new(shown);
        Arc::new(config)
    };
    KEYS.into_iter().map(one).collect()
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// An RSA key of which there is no private half, in the form of RFC 8017 appendix A.1.1.
struct RsaKey(Vec<u8>);

impl RsaKey {
    fn new(modulus: usize, exponent: usize) -> Self {
        let numbers = [modulus, exponent].map(|length| {
            let mut number = vec![0; length];
            getrandom::fill(&mut number).expect("randomness");
            number[0] = 0x7f;
            number[length - 1] |= 1;
            field(0x02, &number)
        });
        Self(field(0x30, &numbers.concat()))
    }
}

/// A field of DER (X.690 §8.1).
fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    let head = match body.len() {
        0..0x80 => vec![tag, length[1]],
        0x80..0x100 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [&head[..], body].concat()
}

impl PublicKeyData for RsaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}
