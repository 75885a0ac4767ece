//! ID tokens: whether one is what the provider issued for this login, and whom it is about. Pure but
//! for the clock, which the library reads.
//!
//! Invariants: only algorithms of public keys count, so `none` and secrets of clients do not; the key
//! is one of the provider's set; issuer, audience, end, nonce and the hash of the access token are
//! checked (OpenID Connect Core §3.1.3.7).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

/// Longest subject (OpenID Connect Core §2), in characters.
const MAX_SUBJECT: usize = 255;

/// Why an ID token does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the provider sent no ID token")]
    Missing,
    #[error("the ID token is malformed")]
    Malformed(#[source] jsonwebtoken::errors::Error),
    #[error("the ID token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// Another key may have come into use.
    #[error("no key of the provider has signed the ID token")]
    UnknownKey,
    #[error("a key of the provider is not usable")]
    Key(#[source] jsonwebtoken::errors::Error),
    #[error("the ID token is not valid: {}", reason(.0))]
    Refused(jsonwebtoken::errors::Error),
    #[error("the ID token was issued for another login (nonce)")]
    Nonce,
    #[error("the ID token was issued for another client (azp)")]
    AuthorizedParty,
    #[error("the ID token belongs to another access token (at_hash)")]
    AccessTokenHash,
    #[error("the subject of the ID token is not usable")]
    Subject,
}

/// What is wrong with a token whose signature is right. The library has names for it only.
fn reason(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired; are the clocks right?".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet; are the clocks right?".to_owned(),
        ErrorKind::InvalidIssuer => "another provider has issued it (iss)".to_owned(),
        ErrorKind::InvalidAudience => "it was issued for another client (aud)".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no claim {claim}"),
        _ => error.to_string(),
    }
}

/// The keys of a provider (RFC 7517), as far as they are used here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// One of them; of the wrong kind it has none of the fields that are needed.
#[derive(Debug, Clone, Default, Deserialize)]
struct Key {
    #[serde(default)]
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What an ID token must say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    /// Of the request; none was sent for a device.
    pub(super) nonce: Option<&'a str>,
    /// The access token that came with it.
    pub(super) access_token: &'a str,
}

/// What is used of an ID token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    aud: Audience,
    azp: Option<String>,
    nonce: Option<String>,
    at_hash: Option<String>,
    /// All others.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Verifies `token` with `keys`.
pub(super) fn verify(token: &str, keys: &Keys, expected: Expected<'_>) -> Result<Claims, Error> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // The algorithm "none" is no algorithm of the library.
        ErrorKind::Json(_) | ErrorKind::InvalidAlgorithmName => Error::Algorithm,
        _ => Error::Malformed(error),
    })?;
    let family = Family::of(header.alg).ok_or(Error::Algorithm)?;
    let candidates = keys.keys.iter().filter(|key| {
        let is_named = header.kid.is_none() || key.kid == header.kid;
        is_named && key.is_for_signatures() && family.has(key)
    });
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[expected.client_id]);
    validation.set_issuer(&[expected.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    let mut outcome = Err(Error::UnknownKey);
    for key in candidates {
        let key = key.decoding(family).map_err(Error::Key)?;
        match decode::<Claims>(token, &key, &validation) {
            Ok(found) => {
                outcome = Ok(found.claims);
                break;
            }
            // Without a key id another one may have signed it.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(error) => return Err(Error::Refused(error)),
        }
    }
    let claims = outcome?;
    claims.check(header.alg, expected)?;
    Ok(claims)
}

impl Claims {
    /// What the library does not check.
    fn check(&self, algorithm: Algorithm, expected: Expected<'_>) -> Result<(), Error> {
        let length = self.sub.chars().count();
        if !(1..=MAX_SUBJECT).contains(&length) || self.sub.chars().any(char::is_control) {
            return Err(Error::Subject);
        }
        let is_shared = matches!(&self.aud, Audience::Several(all) if all.len() > 1);
        let is_ours = match &self.azp {
            Some(party) => party == expected.client_id,
            None => !is_shared,
        };
        let is_audience = match &self.aud {
            Audience::One(one) => one == expected.client_id,
            Audience::Several(all) => all.iter().any(|one| one == expected.client_id),
        };
        if !is_ours || !is_audience || self.iss != expected.issuer {
            return Err(Error::AuthorizedParty);
        }
        if let Some(nonce) = expected.nonce {
            let sent = self.nonce.as_deref().unwrap_or_default();
            if !bool::from(sent.as_bytes().ct_eq(nonce.as_bytes())) {
                return Err(Error::Nonce);
            }
        }
        match &self.at_hash {
            Some(hash) if *hash != access_token_hash(algorithm, expected.access_token) => {
                Err(Error::AccessTokenHash)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The left half of the hash, by the algorithm's hash function (OpenID Connect Core §3.1.3.6).
fn access_token_hash(algorithm: Algorithm, token: &str) -> String {
    let function = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
        _ => &digest::SHA256,
    };
    let hash = digest::digest(function, token.as_bytes());
    let half = hash.as_ref().split_at(hash.as_ref().len() / 2).0;
    URL_SAFE_NO_PAD.encode(half)
}

/// The kinds of public keys that sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Family {
    fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Some(Self::Rsa),
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            Algorithm::EdDSA => Some(Self::Ed25519),
            _ => None,
        }
    }

    fn has(self, key: &Key) -> bool {
        let curve = key.crv.as_deref();
        match self {
            Self::Rsa => key.kty == "RSA",
            Self::P256 => key.kty == "EC" && curve == Some("P-256"),
            Self::P384 => key.kty == "EC" && curve == Some("P-384"),
            Self::Ed25519 => key.kty == "OKP" && curve == Some("Ed25519"),
        }
    }
}

impl Key {
    fn is_for_signatures(&self) -> bool {
        let is_encryption = self
            .alg
            .as_deref()
            .is_some_and(|alg| alg.starts_with("RSA-"));
        self.purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig")
            && !is_encryption
    }

    fn decoding(&self, family: Family) -> Result<DecodingKey, jsonwebtoken::errors::Error> {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        match family {
            Family::Rsa => DecodingKey::from_rsa_components(&part(&self.n), &part(&self.e)),
            Family::P256 | Family::P384 => {
                DecodingKey::from_ec_components(&part(&self.x), &part(&self.y))
            }
            Family::Ed25519 => DecodingKey::from_ed_components(&part(&self.x)),
        }
    }
}
