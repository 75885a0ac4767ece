//! Which algorithms both sides use (RFC 4253 §7.1). Pure.

use crate::Error;
use crate::cipher::{Cipher, Mac, Suite};
use crate::kex::Method;
use crate::msg::{Directions, KexInit};
use crate::sign::SignatureAlgorithm;
use infisical_runtime::error::printable;

/// Strict key exchange, announced by a client (OpenSSH PROTOCOL §1.10).
pub(super) const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
/// Strict key exchange, announced by a server.
pub(super) const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
/// The client hears of extensions (RFC 8308 §2.1).
pub(super) const EXT_INFO_CLIENT: &str = "ext-info-c";

/// What one side is ready to use, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    pub(crate) kex: Vec<Method>,
    pub(crate) ciphers: Vec<Cipher>,
    pub(crate) macs: Vec<Mac>,
}

/// Exchanges that every modern peer has (protocol.md §3).
const MODERN_KEX: [Method; 4] = [
    Method::MlKem768X25519Sha256,
    Method::Curve25519Sha256,
    Method::Curve25519Sha256Libssh,
    Method::EcdhNistP256,
];
/// For deployed gateways, which have finite-field groups only (protocol.md §3). All of them offer
/// this one. The larger ones cost a server up to thirty times as much, for a request of 300 bytes
/// from a peer that has not authenticated.
const DEPLOYED_GATEWAY_KEX: [Method; 1] = [Method::DhGroup14Sha256];
/// Authenticated encryption, fastest first.
const AEAD: [Cipher; 3] = [
    Cipher::Aes128Gcm,
    Cipher::Aes256Gcm,
    Cipher::ChaCha20Poly1305,
];
/// The only ciphers of deployed gateways (protocol.md §3).
const DEPLOYED_GATEWAY_CIPHERS: [Cipher; 3] =
    [Cipher::Aes128Ctr, Cipher::Aes192Ctr, Cipher::Aes256Ctr];
const MACS: [Mac; 4] = [
    Mac::HmacSha256Etm,
    Mac::HmacSha512Etm,
    Mac::HmacSha256,
    Mac::HmacSha512,
];

impl Algorithms {
    /// Of a client: modern exchanges and authenticated encryption only.
    #[must_use]
    pub(crate) fn client() -> Self {
        Self {
            kex: MODERN_KEX.to_vec(),
            ciphers: AEAD.to_vec(),
            macs: MACS.to_vec(),
        }
    }

    /// Of a server: the same first, and behind it what deployed gateways can speak.
    #[must_use]
    pub(crate) fn server() -> Self {
        Self {
            kex: [&MODERN_KEX[..], &DEPLOYED_GATEWAY_KEX].concat(),
            ciphers: [AEAD, DEPLOYED_GATEWAY_CIPHERS].concat(),
            macs: MACS.to_vec(),
        }
    }
}

impl Algorithms {
    /// For a peer that has all of it: what deployed gateways have is left out.
    pub(super) fn modern(&self) -> Self {
        Self {
            kex: best(&self.kex, |method| !DEPLOYED_GATEWAY_KEX.contains(method)),
            ciphers: best(&self.ciphers, |cipher| cipher.is_aead()),
            macs: best(&self.macs, |mac| mac.is_etm()),
        }
    }

    /// For a peer that proposes `theirs`: older algorithms are left out of each list in which it
    /// has something better.
    pub(super) fn for_peer(&self, theirs: &KexInit<'_>) -> Self {
        let is_strict = has(theirs.kex, STRICT_CLIENT);
        let has_both = |lists: &Directions<'_>, name: &str| {
            has(lists.client_to_server, name) && has(lists.server_to_client, name)
        };
        let modern = self.modern();
        let mut kex = modern.kex.iter();
        let mut ciphers = modern.ciphers.iter().filter(|cipher| {
            // See [`agree`].
            cipher.is_aead() && (is_strict || **cipher != Cipher::ChaCha20Poly1305)
        });
        let mut macs = modern.macs.iter().filter(|mac| is_strict && mac.is_etm());
        let (has_kex, has_cipher, has_mac) = (
            kex.any(|method| has(theirs.kex, method.name())),
            ciphers.any(|cipher| has_both(&theirs.ciphers, cipher.name())),
            macs.any(|mac| has_both(&theirs.macs, mac.name())),
        );
        let choose = |is_modern| if is_modern { &modern } else { self };
        Self {
            kex: choose(has_kex).kex.clone(),
            ciphers: choose(has_cipher).ciphers.clone(),
            // Authenticated encryption needs none.
            macs: choose(has_mac || has_cipher).macs.clone(),
        }
    }
}

/// Those of `all` that are modern, or all if none is.
fn best<T: Copy>(all: &[T], is_modern: impl Fn(&T) -> bool) -> Vec<T> {
    let modern: Vec<T> = all.iter().filter(|one| is_modern(one)).copied().collect();
    if modern.is_empty() {
        all.to_vec()
    } else {
        modern
    }
}

/// The lists of a KEXINIT as they are written.
pub(super) struct Offer {
    pub kex: String,
    pub host_key: String,
    pub ciphers: String,
    pub macs: String,
}

impl Offer {
    /// `host_keys` are those that we can prove or check, as certificates; `is_first` is true for
    /// the first exchange of a connection, the only one in which the markers mean anything.
    pub(super) fn new(
        algorithms: &Algorithms,
        host_keys: &[SignatureAlgorithm],
        is_client: bool,
        is_first: bool,
    ) -> Self {
        let mut kex: Vec<&str> = algorithms.kex.iter().map(|m| m.name()).collect();
        match (is_first, is_client) {
            (true, true) => kex.extend([EXT_INFO_CLIENT, STRICT_CLIENT]),
            (true, false) => kex.push(STRICT_SERVER),
            (false, _) => {}
        }
        let join = |names: Vec<&str>| names.join(",");
        Self {
            kex: join(kex),
            host_key: join(host_keys.iter().map(|a| a.certificate_name()).collect()),
            ciphers: join(algorithms.ciphers.iter().map(|c| c.name()).collect()),
            macs: join(algorithms.macs.iter().map(|m| m.name()).collect()),
        }
    }

    pub(super) fn proposal(&self, cookie: [u8; 16]) -> KexInit<'_> {
        let both = |list| Directions {
            client_to_server: list,
            server_to_client: list,
        };
        KexInit {
            cookie,
            kex: &self.kex,
            host_key: &self.host_key,
            ciphers: both(&self.ciphers),
            macs: both(&self.macs),
            compressions: both("none"),
            first_kex_packet_follows: false,
        }
    }
}

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreement {
    pub method: Method,
    pub host_key: SignatureAlgorithm,
    pub client_to_server: Suite,
    pub server_to_client: Suite,
    /// The peer's guess was wrong, so the packet that it sent on it is to be ignored.
    pub is_guess_wrong: bool,
}

/// Whether a proposal has a marker.
pub(super) fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|other| other == name)
}

/// Finds what both sides have. Without strict key exchange an attacker may drop packets from the
/// beginning of the encrypted part unnoticed if the cipher is ChaCha20-Poly1305 or the MAC is over
/// the ciphertext (CVE-2023-48795, "Terrapin"), so those are then not used.
pub(super) fn agree(
    ours: &KexInit<'_>,
    theirs: &KexInit<'_>,
    we_are_client: bool,
    is_strict: bool,
) -> Result<Agreement, Error> {
    let (client, server) = if we_are_client {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    let kex = pick("key exchange", client.kex, server.kex, theirs.kex, |name| {
        Method::from_name(name)
    })?;
    let host_key = pick(
        "host key",
        client.host_key,
        server.host_key,
        theirs.host_key,
        SignatureAlgorithm::from_certificate_name,
    );
    let host_key = match host_key {
        Err(_) if we_are_client && theirs.host_key.split(',').any(is_raw_key) => {
            return Err(Error::RawHostKey);
        }
        other => other?,
    };
    let suite = |select: for<'a> fn(&Directions<'a>) -> &'a str| {
        let cipher = pick(
            "cipher",
            select(&client.ciphers),
            select(&server.ciphers),
            select(&theirs.ciphers),
            |name| {
                Cipher::from_name(name)
                    .filter(|cipher| is_strict || *cipher != Cipher::ChaCha20Poly1305)
            },
        )?;
        let mac = if cipher.is_aead() {
            None
        } else {
            Some(pick(
                "MAC",
                select(&client.macs),
                select(&server.macs),
                select(&theirs.macs),
                |name| Mac::from_name(name).filter(|mac| is_strict || !mac.is_etm()),
            )?)
        };
        pick(
            "compression",
            select(&client.compressions),
            select(&server.compressions),
            select(&theirs.compressions),
            |name| (name == "none").then_some(()),
        )?;
        Ok::<_, Error>(Suite { cipher, mac })
    };
    let first = |list: &str| list.split(',').next().unwrap_or_default().to_owned();
    let is_guess_right =
        first(client.kex) == first(server.kex) && first(client.host_key) == first(server.host_key);
    Ok(Agreement {
        method: kex,
        host_key,
        client_to_server: suite(|lists| lists.client_to_server)?,
        server_to_client: suite(|lists| lists.server_to_client)?,
        is_guess_wrong: theirs.first_kex_packet_follows && !is_guess_right,
    })
}

fn is_raw_key(name: &str) -> bool {
    SignatureAlgorithm::from_name(name).is_some()
}

/// The first of the client's names that the server has too and that we know.
fn pick<T>(
    kind: &str,
    client: &str,
    server: &str,
    theirs: &str,
    known: impl Fn(&str) -> Option<T>,
) -> Result<T, Error> {
    client
        .split(',')
        .filter(|name| has(server, name))
        .find_map(known)
        .ok_or_else(|| Error::NoCommonAlgorithm {
            kind: kind.to_owned(),
            theirs: printable(theirs),
        })
}
