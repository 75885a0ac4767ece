//! The SSH authority: one CA for the gateways' user certificates, another for the relays' host
//! certificates (protocol.md §2).

use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::getrandom::SysRng;
use ssh_key::private::{KeypairData, RsaKeypair, RsaPrivateKey};
use ssh_key::public::RsaPublicKey;
use ssh_key::rand_core::UnwrapErr;
use ssh_key::{Algorithm, EcdsaCurve, LineEnding, Mpint, PrivateKey};
use x509_parser::der_parser::parse_der;

use super::{
    CaRecord, Error, GatewaySubject, HOST_LIFETIME, Issued, KeyAlgorithm, RelaySubject,
    SERVER_LIFETIME, record, validity,
};
use crate::config::settings::RelayKind;
use crate::secret::Secret;
use crate::ssh::ca::CaKey;

const USER_CA: &str = "ssh-user";
const HOST_CA: &str = "ssh-host";
/// Key id of every relay's host certificate (protocol.md §2).
const HOST_KEY_ID: &str = "relay-server";
/// What `ssh-keygen` puts into a user certificate unless told otherwise.
pub(super) const DEFAULT_EXTENSIONS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

/// Both SSH CAs.
#[derive(Debug)]
pub(super) struct Ssh {
    algorithm: KeyAlgorithm,
    user_ca: Ca,
    host_ca: Ca,
}

/// A CA, ready to sign.
#[derive(Debug)]
struct Ca {
    key: CaKey,
    /// Its public key, one line.
    line: String,
}

/// Makes both CAs.
pub(super) fn generate(algorithm: KeyAlgorithm) -> Result<Vec<CaRecord>, Error> {
    [USER_CA, HOST_CA]
        .into_iter()
        .map(|name| {
            Ok(CaRecord {
                name: name.to_owned(),
                private_key: to_pem(&generate_key(algorithm)?)?,
                certificate: String::new(),
            })
        })
        .collect()
}

impl Ssh {
    pub(super) fn load(algorithm: KeyAlgorithm, records: &[CaRecord]) -> Result<Self, Error> {
        let read = |name| {
            let key = PrivateKey::from_openssh(record(records, name)?.private_key.expose())
                .map_err(wrap("read a CA key"))?;
            Ok(Ca {
                line: public_line(&key)?,
                key: CaKey::try_new(&key).map_err(|_| Error::Unusable(name))?,
            })
        };
        Ok(Self {
            algorithm,
            user_ca: read(USER_CA)?,
            host_ca: read(HOST_CA)?,
        })
    }

    /// The user CA's public key, one line: what relays trust.
    pub(super) fn user_ca(&self) -> &str {
        &self.user_ca.line
    }

    /// The host CA's public key, one line: what gateways trust.
    pub(super) fn host_ca(&self) -> &str {
        &self.host_ca.line
    }

    /// A user certificate that opens one relay to one gateway.
    pub(super) fn gateway(
        &self,
        gateway: GatewaySubject<'_>,
        relay: RelaySubject<'_>,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let mut principals = vec![gateway.id.as_str()];
        // Names are unique only within an organization, so the instance's relays must not see them.
        if relay.kind == RelayKind::Org {
            principals.push(gateway.name.as_str());
        }
        self.issue(
            &self.user_ca.key,
            CertType::User,
            &relay.name.client_key_id(),
            &principals,
            SERVER_LIFETIME,
            now,
        )
    }

    /// A host certificate for a relay.
    pub(super) fn relay(&self, relay: RelaySubject<'_>, now: SystemTime) -> Result<Issued, Error> {
        self.issue(
            &self.host_ca.key,
            CertType::Host,
            HOST_KEY_ID,
            &[&relay.host.host_principal()],
            HOST_LIFETIME,
            now,
        )
    }

    fn issue(
        &self,
        ca: &CaKey,
        kind: CertType,
        key_id: &str,
        principals: &[&str],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let key = generate_key(self.algorithm)?;
        let (begin, end) = validity(now, lifetime)?;
        let certificate = build(ca, &key, kind, key_id, principals, begin, end)
            .and_then(|certificate| certificate.to_openssh())
            .map_err(wrap("sign a certificate"))?;
        Ok(Issued {
            certificate,
            private_key: to_pem(&key)?,
        })
    }
}

fn build(
    ca: &CaKey,
    key: &PrivateKey,
    kind: CertType,
    key_id: &str,
    principals: &[&str],
    begin: u64,
    end: u64,
) -> ssh_key::Result<ssh_key::Certificate> {
    let mut rng = UnwrapErr(SysRng);
    let mut builder = Builder::new_with_random_nonce(&mut rng, key.public_key(), begin, end)?;
    builder.serial(crate::backoff::random())?;
    builder.cert_type(kind)?;
    builder.key_id(key_id)?;
    for principal in principals {
        builder.valid_principal(*principal)?;
    }
    if kind == CertType::User {
        for extension in DEFAULT_EXTENSIONS {
            builder.extension(extension, "")?;
        }
    }
    builder.sign(ca)
}

fn generate_key(algorithm: KeyAlgorithm) -> Result<PrivateKey, Error> {
    let mut rng = UnwrapErr(SysRng);
    let algorithm = match algorithm {
        KeyAlgorithm::EcdsaP256 => Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
        KeyAlgorithm::Ed25519 => Algorithm::Ed25519,
        KeyAlgorithm::Rsa2048 => return generate_rsa(),
    };
    PrivateKey::random(&mut rng, algorithm).map_err(wrap("generate a key"))
}

/// Makes an RSA key with aws-lc-rs: much faster than `ssh-key`'s own generator, which always makes
/// 4096 bits besides.
fn generate_rsa() -> Result<PrivateKey, Error> {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::Generate)?;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| Error::Generate)?;
    parse_rsa(pkcs8.as_ref()).ok_or(Error::Generate)
}

/// Reads the numbers of an RSA key from PKCS#8 (RFC 5958 §2; RFC 8017 §A.1.2).
fn parse_rsa(pkcs8: &[u8]) -> Option<PrivateKey> {
    let (_, outer) = parse_der(pkcs8).ok()?;
    let octets = outer.as_sequence().ok()?.get(2)?.as_slice().ok()?;
    let (_, inner) = parse_der(octets).ok()?;
    let numbers = inner.as_sequence().ok()?;
    let number = |index: usize| -> Option<Mpint> {
        let bytes = numbers.get(index)?.as_slice().ok()?;
        // DER puts a zero byte before a number whose first bit is set.
        Some(Mpint::from_positive_bytes(
            bytes.strip_prefix(&[0]).unwrap_or(bytes),
        ))
    };
    let [n, e, d, p, q, inverse] = [
        number(1)?,
        number(2)?,
        number(3)?,
        number(4)?,
        number(5)?,
        number(8)?,
    ];
    let public = RsaPublicKey::new(e, n).ok()?;
    let private = RsaPrivateKey::new(d, inverse, p, q).ok()?;
    let pair = RsaKeypair::new(public, private).ok()?;
    PrivateKey::new(KeypairData::Rsa(pair), "").ok()
}

fn public_line(key: &PrivateKey) -> Result<String, Error> {
    key.public_key()
        .to_openssh()
        .map_err(wrap("write a public key"))
}

fn to_pem(key: &PrivateKey) -> Result<Secret, Error> {
    key.to_openssh(LineEnding::LF)
        .map(|pem| Secret::new(pem.as_str()))
        .map_err(wrap("write a private key"))
}

fn wrap(action: &'static str) -> impl Fn(ssh_key::Error) -> Error {
    move |source| Error::Ssh { action, source }
}
