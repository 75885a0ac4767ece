//! The algorithms of signatures: their names, and the arithmetic behind each.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaParameters,
    RsaSignatureEncoding,
};
use ssh_key::EcdsaCurve;
use ssh_key::public::KeyData;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    RsaSha256,
    RsaSha512,
}

impl SignatureAlgorithm {
    /// All of them, best first.
    pub(crate) const ALL: [Self; 6] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::RsaSha256,
        Self::RsaSha512,
    ];

    /// Its name, in negotiations and signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::RsaSha256 => "rsa-sha2-256",
            Self::RsaSha512 => "rsa-sha2-512",
        }
    }

    /// Its name in negotiations, where the key is in a certificate (PROTOCOL.certkeys). The
    /// signature itself still has the plain name.
    pub(crate) fn certificate_name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::RsaSha256 => "rsa-sha2-256-cert-v01@openssh.com",
            Self::RsaSha512 => "rsa-sha2-512-cert-v01@openssh.com",
        }
    }

    /// The algorithm of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The algorithm of this name for certificates.
    pub(crate) fn from_certificate_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.certificate_name() == name)
    }

    /// Whether keys like this one sign with it: the right type, and the right curve.
    pub(crate) fn signs_with(self, key: &KeyData) -> bool {
        match (self.scheme(), key) {
            (Scheme::Ed25519, KeyData::Ed25519(_)) | (Scheme::Rsa(_), KeyData::Rsa(_)) => true,
            (Scheme::Ecdsa(scheme), KeyData::Ecdsa(key)) => key.curve() == scheme.curve,
            _ => false,
        }
    }

    pub(super) fn scheme(self) -> Scheme {
        match self {
            Self::Ed25519 => Scheme::Ed25519,
            Self::EcdsaP256 => Scheme::Ecdsa(&P256),
            Self::EcdsaP384 => Scheme::Ecdsa(&P384),
            Self::EcdsaP521 => Scheme::Ecdsa(&P521),
            Self::RsaSha256 => Scheme::Rsa(&SHA256),
            Self::RsaSha512 => Scheme::Rsa(&SHA512),
        }
    }
}

/// The arithmetic behind an algorithm.
#[derive(Clone, Copy)]
pub(super) enum Scheme {
    Ed25519,
    Ecdsa(&'static EcdsaScheme),
    Rsa(&'static RsaScheme),
}

pub(super) struct EcdsaScheme {
    pub(super) curve: EcdsaCurve,
    /// Bytes of a number modulo the order of the curve.
    pub(super) scalar: usize,
    pub(super) signing: &'static EcdsaSigningAlgorithm,
    pub(super) verification: &'static EcdsaVerificationAlgorithm,
}

pub(super) static P256: EcdsaScheme = EcdsaScheme {
    curve: EcdsaCurve::NistP256,
    scalar: 32,
    signing: &ECDSA_P256_SHA256_FIXED_SIGNING,
    verification: &ECDSA_P256_SHA256_FIXED,
};
pub(super) static P384: EcdsaScheme = EcdsaScheme {
    curve: EcdsaCurve::NistP384,
    scalar: 48,
    signing: &ECDSA_P384_SHA384_FIXED_SIGNING,
    verification: &ECDSA_P384_SHA384_FIXED,
};
pub(super) static P521: EcdsaScheme = EcdsaScheme {
    curve: EcdsaCurve::NistP521,
    scalar: 66,
    signing: &ECDSA_P521_SHA512_FIXED_SIGNING,
    verification: &ECDSA_P521_SHA512_FIXED,
};

pub(super) struct RsaScheme {
    pub(super) signing: &'static RsaSignatureEncoding,
    pub(super) verification: &'static RsaParameters,
}

static SHA256: RsaScheme = RsaScheme {
    signing: &RSA_PKCS1_SHA256,
    verification: &RSA_PKCS1_2048_8192_SHA256,
};
static SHA512: RsaScheme = RsaScheme {
    signing: &RSA_PKCS1_SHA512,
    verification: &RSA_PKCS1_2048_8192_SHA512,
};
