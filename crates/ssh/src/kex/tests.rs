//! Every method, both halves against each other, and the hashes against numbers made elsewhere.

use aws_lc_rs::digest;

use super::{Error, Initiator, Method, SharedSecret, Transcript, respond};

const TRANSCRIPT: Transcript<'_> = Transcript {
    client_version: b"SSH-2.0-client",
    server_version: b"SSH-2.0-server",
    client_kexinit: b"client kexinit",
    server_kexinit: b"server kexinit",
    host_key: b"host key",
    client_public: b"client public",
    server_public: b"server public",
};

pub(super) fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn refused(result: Result<SharedSecret, Error>) -> Error {
    result.err().expect("it is refused")
}

#[test]
fn both_sides_derive_the_same_secret() {
    for method in Method::ALL {
        let client = Initiator::try_new(method).unwrap();
        let client_public = client.public().to_vec();
        let (server_public, server) = respond(method, &client_public).unwrap();
        let client = client.finish(&server_public).unwrap();
        let transcript = Transcript {
            client_public: &client_public,
            server_public: &server_public,
            ..TRANSCRIPT
        };
        let hash = client.exchange_hash(method, &transcript);
        assert_eq!(
            hash,
            server.exchange_hash(method, &transcript),
            "{method:?}"
        );
        assert_eq!(
            client.derive(method, &hash, &hash, b'A', 100),
            server.derive(method, &hash, &hash, b'A', 100),
            "{method:?}"
        );
    }
}

#[test]
fn no_two_exchanges_are_alike() {
    for method in Method::ALL {
        let client = Initiator::try_new(method).unwrap();
        let other = Initiator::try_new(method).unwrap();
        assert_ne!(client.public(), other.public(), "{method:?}");
        let (one, of_one) = respond(method, client.public()).unwrap();
        let (two, of_two) = respond(method, client.public()).unwrap();
        assert_ne!(one, two, "{method:?}");
        assert_ne!(
            of_one.exchange_hash(method, &TRANSCRIPT),
            of_two.exchange_hash(method, &TRANSCRIPT),
            "{method:?}"
        );
    }
}

#[test]
fn methods_are_found_by_name_only() {
    for method in Method::ALL {
        assert_eq!(Method::from_name(method.name()), Some(method));
    }
    for name in [
        "",
        "curve25519-sha256 ",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512",
        "ecdh-sha2-nistp384",
    ] {
        assert_eq!(Method::from_name(name), None, "{name:?}");
    }
}

#[test]
fn every_method_refuses_an_empty_value() {
    for method in Method::ALL {
        let (server, client) = match method {
            Method::MlKem768X25519Sha256 => (length(1216), length(1120)),
            Method::Curve25519Sha256 | Method::Curve25519Sha256Libssh => (length(32), length(32)),
            Method::EcdhNistP256 => (length(65), length(65)),
            Method::DhGroup14Sha256 => (Error::OutOfRange, Error::OutOfRange),
        };
        let error = respond(method, &[]).err().unwrap();
        assert_eq!(error, server, "{method:?}");
        let half = Initiator::try_new(method).unwrap();
        assert_eq!(refused(half.finish(&[])), client, "{method:?}");
    }
}

fn length(expected: usize) -> Error {
    Error::WrongLength { expected, found: 0 }
}

/// The secret with which the numbers below were made, by other means: the RFC's formulas in another
/// language. As a number it loses its two zeros and gets another in front of its high bit.
const SECRET: &[u8] = &[0, 0, 0x80, 1];

#[test]
fn exchange_hash_covers_the_transcript() {
    let number = SharedSecret::number(SECRET);
    let bytes = SharedSecret::bytes(SECRET);
    assert_eq!(
        number.exchange_hash(Method::Curve25519Sha256, &TRANSCRIPT),
        hex("f87982abedcc922b27b6ebe6e5062297b38b4d93971595dfa703df4e07580764")
    );
    assert_eq!(
        bytes.exchange_hash(Method::MlKem768X25519Sha256, &TRANSCRIPT),
        hex("b7ef518362dee3aee6ffc69a1d7bd044ccfac90f3e49435c3a4f65f0fc32233a")
    );
}

#[test]
fn each_method_uses_its_rfcs_hash() {
    let secret = SharedSecret::number(SECRET);
    for method in Method::ALL {
        let hash = secret.exchange_hash(method, &TRANSCRIPT);
        assert_eq!(hash.len(), 32, "{method:?}");
    }
}

#[test]
fn keys_of_any_length_are_derived() {
    let secret = SharedSecret::number(SECRET);
    // The first 16 bytes of the key B, and the hash of 200 bytes of the key A, six blocks.
    let method = Method::Curve25519Sha256;
    let hash = secret.exchange_hash(method, &TRANSCRIPT);
    let derive = |letter, length| secret.derive(method, &hash, b"the session id", letter, length);
    assert_eq!(*derive(b'B', 16), hex("9d2cfdfb03d0c0bd7ec8cfff39e79b53"));
    let long_key = derive(b'A', 200);
    assert_eq!(
        sha256(&long_key),
        hex("d1c7ce384d7efea56faad9b0a6960ee314cd739b3c3770e28751a1a32532006e")
    );
    for length in 0..200 {
        assert_eq!(*derive(b'A', length), long_key[..length]);
    }
}

/// The figures of docs/reliability.md: `cargo test --locked --lib -- --ignored --nocapture
/// cost_of`.
#[test]
#[ignore = "prints what a server's part costs"]
fn cost_of_each_method() {
    const TIMES: u32 = 200;
    for method in Method::ALL {
        let client = Initiator::try_new(method).unwrap();
        let begin = std::time::Instant::now();
        for _ in 0..TIMES {
            let (_, secret) = respond(method, client.public()).unwrap();
            secret.exchange_hash(method, &TRANSCRIPT);
        }
        println!("{}: {:?}", method.name(), begin.elapsed() / TIMES);
    }
}
