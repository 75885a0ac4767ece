//! Signatures against ssh-key's and OpenSSL's, and everything that is none.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use ssh_key::getrandom::SysRng;
use ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey, Ed25519Keypair, RsaKeypair, RsaPrivateKey};
use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::rand_core::UnwrapErr;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Mpint, PrivateKey, Signature, SshSig};

use super::{Error, SignatureAlgorithm, SigningKey, verify};
use crate::wire::{Reader, Write as _};

/// One key of each kind. An RSA key takes long to make, so the tests share it.
static KEYS: LazyLock<Vec<PrivateKey>> = LazyLock::new(|| {
    let mut rng = UnwrapErr(SysRng);
    let mut keys: Vec<PrivateKey> = [
        EcdsaCurve::NistP256,
        EcdsaCurve::NistP384,
        EcdsaCurve::NistP521,
    ]
    .map(|curve| PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve }).unwrap())
    .into();
    keys.push(Ed25519Keypair::from_seed(&[7; 32]).into());
    keys.push(RsaKeypair::random(&mut rng, 2048).unwrap().into());
    keys
});

/// Every key with every algorithm that it signs with.
fn signers() -> impl Iterator<Item = (&'static KeyData, SigningKey, SignatureAlgorithm)> {
    KEYS.iter().flat_map(|key| {
        let signer = SigningKey::try_new(key).unwrap();
        signer.algorithms().iter().map(move |algorithm| {
            let signer = SigningKey::try_new(key).unwrap();
            (key.public_key().key_data(), signer, *algorithm)
        })
    })
}

fn rsa() -> &'static PrivateKey {
    KEYS.iter()
        .find(|key| key.key_data().is_rsa())
        .expect("an RSA key")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn blob(name: &str, signature: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(name);
    blob.put_string(signature);
    blob
}

/// The signature proper of a blob.
fn inner(blob: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(blob);
    reader.string().unwrap();
    reader.string().unwrap().to_vec()
}

#[test]
fn every_algorithm_is_tried() {
    let mut tried: Vec<&str> = signers()
        .map(|(_, _, algorithm)| algorithm.name())
        .collect();
    tried.sort_unstable();
    let mut all = SignatureAlgorithm::ALL.map(SignatureAlgorithm::name);
    all.sort_unstable();
    assert_eq!(tried, all);
}

#[test]
fn signature_is_bound_to_key_and_data() {
    for (key, signer, algorithm) in signers() {
        for data in [&b""[..], b"data", &[0x5a; 100_000]] {
            let blob = signer.sign(algorithm, data).unwrap();
            assert_eq!(verify(key, algorithm, &blob, data), Ok(()), "{algorithm:?}");
            assert_eq!(
                verify(key, algorithm, &blob, b"other data"),
                Err(Error::Mismatch),
                "{algorithm:?}"
            );
        }
        let blob = signer.sign(algorithm, b"data").unwrap();
        for other in KEYS.iter().map(|key| key.public_key().key_data()) {
            if other != key {
                assert_eq!(
                    verify(other, algorithm, &blob, b"data"),
                    Err(Error::WrongKey(algorithm.name())),
                    "{algorithm:?}"
                );
            }
        }
    }
}

#[test]
fn ssh_key_believes_our_signatures() {
    for (key, signer, algorithm) in signers() {
        let signed = SshSig::signed_data("test", HashAlg::Sha512, b"data").unwrap();
        let blob = signer.sign(algorithm, &signed).unwrap();
        let signature = Signature::try_from(&blob[..]).unwrap();
        assert_eq!(signature.algorithm().to_string(), algorithm.name());
        let signature = SshSig::new(key.clone(), "test", HashAlg::Sha512, signature).unwrap();
        let key = ssh_key::PublicKey::from(key.clone());
        assert!(
            key.verify("test", b"data", &signature).is_ok(),
            "{algorithm:?}"
        );
        assert!(
            key.verify("test", b"more", &signature).is_err(),
            "{algorithm:?}"
        );
    }
}

#[test]
fn we_believe_ssh_keys_signatures() {
    for key in KEYS.iter() {
        let signature = key.sign("test", HashAlg::Sha512, b"data").unwrap();
        let signed = SshSig::signed_data("test", HashAlg::Sha512, b"data").unwrap();
        let blob = Vec::try_from(signature.signature().clone()).unwrap();
        let name = signature.signature().algorithm().to_string();
        let algorithm = SignatureAlgorithm::from_name(&name).unwrap();
        let key = key.public_key().key_data();
        assert_eq!(verify(key, algorithm, &blob, &signed), Ok(()), "{name}");
        assert_eq!(
            verify(key, algorithm, &blob, b"data"),
            Err(Error::Mismatch),
            "{name}"
        );
    }
}

#[test]
fn we_believe_openssl_signatures() {
    // `openssl dgst -sha256 -sign` and `-sha512`, of the four bytes "data".
    let key = rsa_public(&hex(MODULUS));
    for (algorithm, signature) in [
        (SignatureAlgorithm::RsaSha256, SHA_256),
        (SignatureAlgorithm::RsaSha512, SHA_512),
    ] {
        let blob = blob(algorithm.name(), &hex(signature));
        assert_eq!(verify(&key, algorithm, &blob, b"data"), Ok(()));
    }
    // What one hash signed is not the other's.
    let blob = blob("rsa-sha2-512", &hex(SHA_256));
    let result = verify(&key, SignatureAlgorithm::RsaSha512, &blob, b"data");
    assert_eq!(result, Err(Error::Mismatch));
}

#[test]
fn blob_must_name_the_expected_algorithm() {
    for (key, signer, algorithm) in signers() {
        let signature = inner(&signer.sign(algorithm, b"data").unwrap());
        let others = SignatureAlgorithm::ALL.map(SignatureAlgorithm::name);
        let others = others.into_iter().chain([
            algorithm.certificate_name(),
            "ssh-rsa",
            "ssh-dss",
            "",
            "\n",
        ]);
        for name in others.filter(|name| *name != algorithm.name()) {
            let result = verify(key, algorithm, &blob(name, &signature), b"data");
            assert!(
                matches!(result, Err(Error::WrongAlgorithm { .. })),
                "{algorithm:?} {name:?} {result:?}"
            );
        }
    }
}

#[test]
fn changed_signature_is_refused() {
    for (key, signer, algorithm) in signers() {
        let good = signer.sign(algorithm, b"data").unwrap();
        for at in 0..good.len() {
            for bit in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                let result = verify(key, algorithm, &bad, b"data");
                assert!(result.is_err(), "{algorithm:?} {at} {bit}");
            }
        }
    }
}

#[test]
fn signature_of_wrong_extent_is_malformed() {
    for (key, signer, algorithm) in signers() {
        let mut blob = signer.sign(algorithm, b"data").unwrap();
        for end in 0..blob.len() {
            assert_eq!(
                verify(key, algorithm, &blob[..end], b"data"),
                Err(Error::Malformed),
                "{algorithm:?} {end}"
            );
        }
        blob.push(0);
        assert_eq!(
            verify(key, algorithm, &blob, b"data"),
            Err(Error::Malformed),
            "{algorithm:?}"
        );
    }
}

#[test]
fn inner_signature_of_wrong_length_is_refused() {
    for (key, signer, algorithm) in signers() {
        let signature = inner(&signer.sign(algorithm, b"data").unwrap());
        let longer = [&signature[..], &[0]].concat();
        let padded = [&[0], &signature[..]].concat();
        for wrong in (0..signature.len())
            .map(|length| &signature[..length])
            .chain([&longer[..], &padded[..]])
        {
            let blob = blob(algorithm.name(), wrong);
            let result = verify(key, algorithm, &blob, b"data");
            assert!(result.is_err(), "{algorithm:?} {}", wrong.len());
        }
    }
}

#[test]
fn ecdsa_numbers_have_one_form_only() {
    for (key, signer, algorithm) in signers().filter(|(key, _, _)| key.is_ecdsa()) {
        let signature = inner(&signer.sign(algorithm, b"data").unwrap());
        let mut reader = Reader::new(&signature);
        let (r, s) = (reader.string().unwrap(), reader.string().unwrap());
        let judged = |r: &[u8], s: &[u8]| {
            let mut numbers = Vec::new();
            numbers.put_string(r);
            numbers.put_string(s);
            verify(key, algorithm, &blob(algorithm.name(), &numbers), b"data")
        };
        assert_eq!(judged(r, s), Ok(()), "{algorithm:?}");
        // Needless zeros, a negative number, one that is too long for the curve.
        let zero = [&[0], r].concat();
        for bad in [&zero[..], &[0], &[0x80], &[0x01; 67], &[0x7f; 1000]] {
            assert_eq!(judged(bad, s), Err(Error::Malformed), "{algorithm:?}");
            assert_eq!(judged(r, bad), Err(Error::Malformed), "{algorithm:?}");
        }
        // Zero, and a number beyond the order of the curve.
        let length = key.ecdsa().unwrap().as_sec1_bytes().len() / 2;
        let beyond = [&[0][..], &vec![0xff; length]].concat();
        for bad in [&[][..], &beyond] {
            assert_eq!(judged(bad, s), Err(Error::Mismatch), "{algorithm:?}");
            assert_eq!(judged(r, bad), Err(Error::Mismatch), "{algorithm:?}");
        }
    }
}

#[test]
fn leading_zeros_are_dropped_and_read() {
    for (key, signer, algorithm) in signers().filter(|(key, _, _)| key.is_ecdsa()) {
        // About every 128th signature has a number that is a byte shorter than the curve's.
        let length = key.ecdsa().unwrap().as_sec1_bytes().len() / 2;
        let is_short = |signature: &[u8]| {
            let mut reader = Reader::new(signature);
            let (r, s) = (reader.mpint().unwrap(), reader.mpint().unwrap());
            r.len() < length || s.len() < length
        };
        let found = (0..10_000_u32).find(|attempt| {
            let data = attempt.to_be_bytes();
            let blob = signer.sign(algorithm, &data).unwrap();
            assert_eq!(
                verify(key, algorithm, &blob, &data),
                Ok(()),
                "{algorithm:?}"
            );
            is_short(&inner(&blob))
        });
        assert!(found.is_some(), "{algorithm:?}");
    }
}

#[test]
fn rsa_signature_may_lack_leading_zeros() {
    let signer = SigningKey::try_new(rsa()).unwrap();
    let key = rsa().public_key().key_data();
    let algorithm = SignatureAlgorithm::RsaSha256;
    let (data, signature) = (0..10_000_u32)
        .map(u32::to_be_bytes)
        .map(|data| (data, inner(&signer.sign(algorithm, &data).unwrap())))
        .find(|(_, signature)| signature[0] == 0)
        .expect("every 256th has one");
    assert_eq!(signature.len(), 256);
    let blob = blob(algorithm.name(), &signature[1..]);
    assert_eq!(verify(key, algorithm, &blob, &data), Ok(()));
}

/// A key pair of this private number.
fn ecdsa(curve: EcdsaCurve, number: u8) -> PrivateKey {
    let (algorithm, length) = match curve {
        EcdsaCurve::NistP256 => (&ECDH_P256, 32),
        EcdsaCurve::NistP384 => (&ECDH_P384, 48),
        EcdsaCurve::NistP521 => (&ECDH_P521, 66),
    };
    let mut scalar = vec![0; length];
    scalar[length - 1] = number;
    let pair = agreement::PrivateKey::from_private_key(algorithm, &scalar).unwrap();
    let public = pair.compute_public_key().unwrap();
    let pair = match EcdsaPublicKey::from_sec1_bytes(public.as_ref()).unwrap() {
        EcdsaPublicKey::NistP256(public) => EcdsaKeypair::NistP256 {
            public,
            private: EcdsaPrivateKey::from(<[u8; 32]>::try_from(scalar).unwrap()),
        },
        EcdsaPublicKey::NistP384(public) => EcdsaKeypair::NistP384 {
            public,
            private: EcdsaPrivateKey::from(<[u8; 48]>::try_from(scalar).unwrap()),
        },
        EcdsaPublicKey::NistP521(public) => EcdsaKeypair::NistP521 {
            public,
            private: EcdsaPrivateKey::from(<[u8; 66]>::try_from(scalar).unwrap()),
        },
    };
    PrivateKey::new(pair.into(), "").unwrap()
}

#[test]
fn keys_whose_numbers_have_leading_zeros_sign() {
    let mut keys = Vec::new();
    for number in 1..=u8::MAX {
        let mut seed = [0; 32];
        seed[31] = number;
        keys.push(Ed25519Keypair::from_seed(&seed).into());
        for curve in [
            EcdsaCurve::NistP256,
            EcdsaCurve::NistP384,
            EcdsaCurve::NistP521,
        ] {
            keys.push(ecdsa(curve, number));
        }
    }
    for key in keys {
        let signer = SigningKey::try_new(&key).unwrap();
        let algorithm = signer.algorithms()[0];
        let blob = signer.sign(algorithm, b"data").unwrap();
        let public = key.public_key().key_data();
        assert_eq!(verify(public, algorithm, &blob, b"data"), Ok(()));
    }
}

#[test]
fn key_signs_with_own_algorithms_only() {
    for key in KEYS.iter() {
        let signer = SigningKey::try_new(key).unwrap();
        for algorithm in SignatureAlgorithm::ALL {
            let own = signer.algorithms().contains(&algorithm);
            assert_eq!(algorithm.signs_with(key.public_key().key_data()), own);
            let result = signer.sign(algorithm, b"data");
            if own {
                assert!(result.is_ok(), "{algorithm:?}");
            } else {
                assert_eq!(result, Err(Error::WrongKey(algorithm.name())));
            }
        }
    }
}

#[test]
fn algorithms_are_found_by_name_only() {
    for algorithm in SignatureAlgorithm::ALL {
        let (name, certificate) = (algorithm.name(), algorithm.certificate_name());
        assert_eq!(certificate, format!("{name}-cert-v01@openssh.com"));
        assert_eq!(SignatureAlgorithm::from_name(name), Some(algorithm));
        assert_eq!(SignatureAlgorithm::from_name(certificate), None);
        assert_eq!(SignatureAlgorithm::from_certificate_name(name), None);
        assert_eq!(
            SignatureAlgorithm::from_certificate_name(certificate),
            Some(algorithm)
        );
    }
    // SHA-1 has no name here.
    for name in ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss", ""] {
        assert_eq!(SignatureAlgorithm::from_name(name), None);
        assert_eq!(SignatureAlgorithm::from_certificate_name(name), None);
    }
}

fn rsa_public(modulus: &[u8]) -> KeyData {
    let e = Mpint::from_positive_bytes(&[1, 0, 1]);
    let n = Mpint::from_positive_bytes(modulus);
    KeyData::Rsa(RsaPublicKey::new(e, n).unwrap())
}

#[test]
fn rsa_key_of_wrong_size_is_refused() {
    let algorithm = SignatureAlgorithm::RsaSha256;
    let judged = |first: u8, bytes: usize| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        let blob = blob(algorithm.name(), &vec![1; bytes]);
        verify(&rsa_public(&modulus), algorithm, &blob, b"data")
    };
    assert_eq!(judged(0xff, 128), Err(Error::RsaSize(1024)));
    assert_eq!(judged(0x7f, 256), Err(Error::RsaSize(2047)));
    assert_eq!(judged(0x80, 256), Err(Error::Mismatch));
    assert_eq!(judged(0xff, 1024), Err(Error::Mismatch));
    assert_eq!(judged(0x01, 1025), Err(Error::RsaSize(8193)));
    assert_eq!(judged(0xff, 30_000), Err(Error::RsaSize(240_000)));
}

#[test]
fn inconsistent_key_numbers_are_refused() {
    let pair = rsa().key_data().rsa().unwrap();
    let good = pair.private();
    let one = Mpint::from_positive_bytes(&[1]);
    for private in [
        RsaPrivateKey::new(
            one.clone(),
            good.iqmp().clone(),
            good.p().clone(),
            good.q().clone(),
        ),
        RsaPrivateKey::new(
            good.d().clone(),
            one.clone(),
            good.p().clone(),
            good.q().clone(),
        ),
        RsaPrivateKey::new(
            good.d().clone(),
            good.iqmp().clone(),
            one.clone(),
            good.q().clone(),
        ),
        RsaPrivateKey::new(good.d().clone(), good.iqmp().clone(), good.p().clone(), one),
        // The order of the primes matters to the coefficient.
        RsaPrivateKey::new(
            good.d().clone(),
            good.iqmp().clone(),
            good.q().clone(),
            good.p().clone(),
        ),
    ] {
        let pair = RsaKeypair::new(pair.public().clone(), private.unwrap()).unwrap();
        let result = SigningKey::try_new(&pair.into());
        assert_eq!(result.err(), Some(Error::InconsistentKey));
    }

    let mut pair = Ed25519Keypair::from_seed(&[1; 32]);
    pair.public = Ed25519Keypair::from_seed(&[2; 32]).public;
    let result = SigningKey::try_new(&pair.into());
    assert_eq!(result.err(), Some(Error::InconsistentKey));
}

#[test]
fn debug_output_shows_only_algorithms() {
    let signer = SigningKey::try_new(&KEYS[0]).unwrap();
    assert_eq!(
        format!("{signer:?}"),
        "SigningKey { algorithms: [EcdsaP256], .. }"
    );
}

const MODULUS: &str = "bbcf53fa0ae959699a1520f770708d1d517817e51ff2a63dfc318d109ebae342\
     6380b644b9911add38367fad55f55b85b4c679bfa6f8d2bc7fc34cff3b0edac5\
     b6618f81be01bbafee0f94940bf45940874e623f6e3a7b0525a5e6134e9f7a44\
     a53554368c7266af84bb1ddd3aecf84841f273d5176f158d869b61c251da79b0\
     8be47bc3d37f940ed71b1b11db49fbb905bdb89797873b4bfa13ac8614053357\
     451144f0646c8c02aa8e44df4bcd78fa8495a57cbaeef5a228a4cb377c6779a3\
     a4e45b468833ee3b27a7498aa9cf0c8530fd943ba82a6699d5f557eb142c9261\
     f831821c77ac19875db3ccef442b3e3b04af46b23039d667d43d0a91e02cab13";
const SHA_256: &str = "105c87a5d6c868f04827ae1c3dd9c41bff36a9dce5cdd799d269a9e50e62156a\
     93b7acaf9b6e7d1dfe35ce91182de608d1aa85b303561ad18212a2e88d7e58a4\
     9b78ca3ffa3781f334080c1de7b6cd0675552a4b292e113fccaa28b9356fdf89\
     7c4d38073e48f86c1adf5dc07db46ccb6eaea58d6741ebecd5f633a957c72b13\
     e15a463a1df6fe5cad81cd01fdb804fe4ab196b930174e50f8cbe6d8f4bc05cc\
     94cbec4a509628dc9184f0c6db0d83656f7a3e65f158b823fdc397b33fdb9bc1\
     43edc899d0d203890f87af37c429b7d74aed045966570eda1b44b20fb5e9d6fc\
     87cbf9e376ee397b69342fb0e9aeedb577a32e825b7e969df78cfe85638ce206";
const SHA_512: &str = "1cacc8103c3de142a10b6460d66edb3c1e19e3a06ccfb363631e548cc95243e2\
     b5941e56db3455a40dae2e2dc41ea7ecfbee876c8a96edbcc2d0ed7fc92d6765\
     b59c2fbae05467bba236b41a66f4d061d2cca0f1f695dcac1da93ed751de5e84\
     5d24d3dd09f7c9d6f676f9cb2ecb5bfafe9a260753f6742dd9e8c3f7eb935222\
     ff9e5dc284b05848bce673cc8899542d325fa59fca5b378ba0a2dce4b10ecf66\
     c8a9e726722dc7f44aa75eddd19a038b7b9b27a1116114d27a4103bb5d8fb863\
     2444ef730d97b45b849201a728e0bc623dfb395a0952267f80c5f1a450f87d1a\
     b338aadb6b4fdb17b8b552d449bf31e35c64fca18c32ec3a0cd78d5823eb2989";
