//! What a peer proves itself with: public values, certificates, signatures, keys.

use ssh_key::Certificate;

use super::{
    HOST, KEY_ID, Script, USER, clock, host_identity, host_policy, user_identity, user_policy,
};
use crate::cert::{verify_host, verify_user};
use crate::kex::{self, Initiator, Method, Transcript};
use crate::keys::{parse_certificate, parse_private_key, parse_public_key};
use crate::msg::Message;
use crate::secret::Secret;
use crate::sign::{self, SignatureAlgorithm};

/// The larger groups differ from the smallest by their numbers only, and take a second for each
/// value.
const METHODS: [Method; 5] = [
    Method::MlKem768X25519Sha256,
    Method::Curve25519Sha256,
    Method::Curve25519Sha256Libssh,
    Method::EcdhNistP256,
    Method::DhGroup14Sha256,
];

/// Public values of a peer, and the server's reply. Script: what it is, the method, then the value
/// or message.
pub fn kex(data: &[u8]) {
    let mut script = Script::new(data);
    match script.u8() % 3 {
        0 => {
            let method = script.one_of(&METHODS);
            let theirs = script.rest();
            if let Ok((ours, secret)) = kex::respond(method, theirs) {
                assert!(!ours.is_empty() && !theirs.is_empty());
                let hash = secret.exchange_hash(method, &transcript(theirs, &ours));
                assert_eq!(secret.derive(method, &hash, &hash, b'A', 64).len(), 64);
            }
        }
        1 => {
            let method = script.one_of(&METHODS);
            let theirs = script.rest();
            let half = Initiator::try_new(method).expect("a half");
            let ours = half.public().to_vec();
            if let Ok(secret) = half.finish(theirs) {
                let hash = secret.exchange_hash(method, &transcript(&ours, theirs));
                assert!(hash.len() >= 32 && !theirs.is_empty());
            }
        }
        _ => reply(script.rest()),
    }
}

fn transcript<'a>(client_public: &'a [u8], server_public: &'a [u8]) -> Transcript<'a> {
    Transcript {
        client_version: b"SSH-2.0-a",
        server_version: b"SSH-2.0-b",
        client_kexinit: b"",
        server_kexinit: b"",
        host_key: b"",
        client_public,
        server_public,
    }
}

/// No signature is of data that no one has signed.
fn reply(payload: &[u8]) {
    let Ok(Message::KexExchangeReply {
        host_key,
        signature,
        ..
    }) = Message::parse(payload)
    else {
        return;
    };
    let ours = host_identity().certificate().public_key().clone();
    let theirs = Certificate::from_bytes(host_key).ok();
    let keys = theirs.iter().map(Certificate::public_key).chain([&ours]);
    for key in keys {
        for algorithm in SignatureAlgorithm::ALL {
            // Of a key that is not ours anything may be true.
            let believed = sign::verify(key, algorithm, signature, b"never signed").is_ok();
            assert!(!believed || *key != ours, "a forged signature is believed");
        }
    }
}

/// A certificate on the wire: two are believed, and whatever is not one of them byte for byte is
/// not. Script: the blob.
pub fn cert(blob: &[u8]) {
    let Ok(certificate) = Certificate::from_bytes(blob) else {
        return;
    };
    if verify_host(&certificate, host_policy(), clock()).is_ok() {
        assert_eq!(blob, &*host_identity().blob, "another host is believed");
    }
    if verify_user(&certificate, USER, user_policy(), clock()).is_ok() {
        assert_eq!(blob, &*user_identity().blob, "another user is believed");
    }
    assert!(verify_user(&certificate, HOST, user_policy(), clock()).is_err());
    assert!(verify_user(&certificate, KEY_ID, user_policy(), clock()).is_err());
}

/// Keys and certificates as text, as the platform sends them. Script: what it is, then the text.
pub fn keys(data: &[u8]) {
    let mut script = Script::new(data);
    let kind = script.u8() % 3;
    let Ok(text) = std::str::from_utf8(script.rest()) else {
        return;
    };
    match kind {
        0 => {
            if let Ok(key) = parse_public_key(text) {
                let again = parse_public_key(&key.to_openssh().expect("a line")).expect("a key");
                assert_eq!(again.key_data(), key.key_data());
            }
        }
        1 => {
            if let Ok(certificate) = parse_certificate(text) {
                let line = certificate.to_openssh().expect("a line");
                let again = parse_certificate(&line).expect("a certificate");
                assert_eq!(again.to_bytes().ok(), certificate.to_bytes().ok());
            }
        }
        _ => {
            if let Ok(key) = parse_private_key(&Secret::new(text)) {
                // Whatever was read either signs or says why not.
                let _ = sign::SigningKey::try_new(&key);
            }
        }
    }
}
