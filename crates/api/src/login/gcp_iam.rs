//! `gcp-iam`: a token that GCP signs for a service account, whose key we have. The key signs only
//! what authorizes us to the signing API; the token itself is signed there, with a key that Google
//! keeps, as the deployed program has it.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Error;
use super::fetch::{self, Service};
use super::gcp_id_token;
use crate::config::cloud::Cloud;
use crate::config::proxy::Proxies;
use crate::secret::Secret;

const WHAT: &str = super::error::GCP_KEY;
/// What we may do with the token that our key signs; Google's own libraries ask for no less.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Life of that token, in seconds: the longest that Google allows. It is used once.
const LIFE: i64 = 3600;

const SERVICE: Service = Service {
    name: "the GCP IAM credentials service",
    absent: "",
    refused: "; is the IAM Service Account Credentials API enabled, and may the account sign (roles/iam.serviceAccountTokenCreator)?",
};

/// What a key file holds, as far as it is needed.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: Secret,
    #[serde(default)]
    private_key_id: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// What authorizes us (AIP-4111): self-signed, so that no one has to be asked for it.
#[derive(Serialize)]
struct Authorization<'a> {
    iss: &'a str,
    sub: &'a str,
    scope: &'static str,
    iat: i64,
    exp: i64,
}

/// What is to be signed for us, in the order of the deployed program.
#[derive(Serialize)]
struct Payload<'a> {
    sub: &'a str,
    aud: &'a str,
}

#[derive(Serialize)]
struct Request {
    payload: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    signed_jwt: Secret,
}

pub(super) async fn token(
    identity_id: &str,
    path: &Path,
    at: &str,
    proxies: &Proxies,
) -> Result<Secret, Error> {
    let (email, bearer) = read_key(path).await?;
    sign(identity_id, &email, &bearer, at, proxies).await
}

/// Reads the key at `path`. Gives the address of its account and a token that is signed with it.
pub(super) async fn read_key(path: &Path) -> Result<(String, Secret), Error> {
    let wrong = |reason| fetch::content(path, WHAT, reason);
    let text = fetch::file(path, WHAT).await?;
    let key: KeyFile = serde_json::from_str(&text)
        .map_err(|_| wrong("it is not JSON with client_email and private_key"))?;
    if !is_address(&key.client_email) {
        return Err(wrong("its client_email is no address"));
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let bearer = authorization(&key, now)
        .ok_or_else(|| wrong("its private_key is no RSA key in PKCS#8 and PEM"))?;
    Ok((key.client_email, bearer))
}

/// The same for the service account of the machine, which needs no key.
pub(super) async fn machine_token(
    identity_id: &str,
    cloud: &Cloud,
    at: &str,
    proxies: &Proxies,
) -> Result<Secret, Error> {
    let email = gcp_id_token::email(cloud).await?;
    if !is_address(&email) {
        let reason = "the metadata service does not tell the address of the machine's account";
        return Err(SERVICE.nonsense(at, reason));
    }
    let bearer = gcp_id_token::access_token(cloud).await?;
    sign(identity_id, &email, &bearer, at, proxies).await
}

/// True if `email` may become a part of a path.
fn is_address(email: &str) -> bool {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "@.-_:".contains(c);
    !email.is_empty() && email.chars().all(is_harmless)
}

/// Has a token for `identity_id` signed as the account `email`.
async fn sign(
    identity_id: &str,
    email: &str,
    bearer: &Secret,
    at: &str,
    proxies: &Proxies,
) -> Result<Secret, Error> {
    let payload = Payload {
        sub: email,
        aud: identity_id,
    };
    let request = Request {
        payload: json(&payload),
    };
    let url = format!("{at}/v1/projects/-/serviceAccounts/{email}:signJwt");
    let (client, proxy) = fetch::far(at, proxies)?;
    let request = client.post(url).bearer_auth(bearer.expose()).json(&request);
    let answer = SERVICE.ask(at, request).await;
    let answer = answer.map_err(|error| error.through(proxy.as_deref()))?;
    let answer: Result<Answer, _> = serde_json::from_str(&answer);
    match answer {
        Ok(answer) if !answer.signed_jwt.is_empty() => Ok(answer.signed_jwt),
        Ok(_) | Err(_) => Err(SERVICE.nonsense(at, "it holds no signedJwt")),
    }
}

/// A JSON web token by which Google knows the service account, from `now` on; `None` if the key
/// cannot sign.
fn authorization(key: &KeyFile, now: i64) -> Option<Secret> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.private_key.expose().as_bytes()).ok()?;
    let pair = KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
    let header = Header {
        alg: "RS256",
        typ: "JWT",
        kid: key.private_key_id.as_deref(),
    };
    let claims = Authorization {
        iss: &key.client_email,
        sub: &key.client_email,
        scope: SCOPE,
        iat: now,
        exp: now.saturating_add(LIFE),
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (json(&header), json(&claims));
    let signed = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(
        &RSA_PKCS1_SHA256,
        &random,
        signed.as_bytes(),
        &mut signature,
    )
    .ok()?;
    Some(Secret::new(format!("{signed}.{}", encode(&signature))))
}

/// Our own flat structures are always JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
