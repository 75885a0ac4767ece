//! Logins of people at an OpenID provider, of which the platform is a client (relying party).
//!
//! In a browser by the authorization code with PKCE, elsewhere by a device code (RFC 8628). The
//! platform exchanges the code, so that a client secret stays here. A login that has begun is found
//! by a secret which only the program or browser that began it has, ends once, and within ten
//! minutes. Who the person is here, and what they may do, is decided by the store.

mod id_token;
mod pending;
mod provider;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use id_token::{Claims, Expected};
use pending::Pending;
use provider::{Metadata, Provider, Tokens, shown};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use crate::config::proxy::Proxies;
use crate::limit;
use crate::secret::Secret;
use crate::token;

/// Time between two questions for the result of a login on another device, if the provider names
/// none; and by how much it grows when that is too often (RFC 8628 §3.2, §3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest such time.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// What people are asked to reveal.
const SCOPES: &str = "openid profile email";

/// At which provider people log in, and as which client of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The provider's URL, exactly as it calls itself.
    pub issuer: String,
    /// As which client the platform is known to it.
    pub client_id: String,
    /// Without one it is a public client.
    pub client_secret: Option<Secret>,
    /// The claim that has the groups of a person.
    pub groups_claim: Option<String>,
    /// Someone who is not known gets an identity.
    pub create_identities: bool,
    /// Proxies on the way to the provider.
    pub proxies: Proxies,
}

/// Why a login did not begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "people cannot log in: the platform has no --oidc-issuer; its administrator names the OpenID \
         provider there, or creates an identity, whose token connect takes: --token-file"
    )]
    NotConfigured,
    #[error(transparent)]
    Provider(#[from] provider::Error),
    #[error(transparent)]
    IdToken(#[from] id_token::Error),
    #[error("there is no such login: it has ended, or began more than 10 minutes ago")]
    Unknown,
    #[error("this is the answer to another login")]
    OtherLogin,
    #[error("too many logins of this address have begun and not ended")]
    TooMany(Duration),
    #[error(transparent)]
    Token(#[from] token::Error),
}

/// Someone who has logged in at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) issuer: String,
    /// Who it is, at this issuer, for good.
    pub(crate) subject: String,
    /// In small letters, and only one of which the provider has verified that it is theirs.
    pub(crate) email: Option<String>,
    /// If the provider decides about groups: all of theirs.
    pub(crate) groups: Option<Vec<String>>,
}

/// A login in a browser that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// To open in the browser.
    pub(crate) authorization_url: String,
    /// Comes back with the code.
    pub(crate) state: Secret,
    /// Needed to finish it.
    pub(crate) secret: Secret,
}

/// A login on another device that has begun.
#[derive(Debug)]
pub(crate) struct BegunDevice {
    /// Needed to ask for its result.
    pub(crate) secret: Secret,
    pub(crate) verification_uri: String,
    pub(crate) verification_uri_complete: Option<String>,
    pub(crate) user_code: String,
    pub(crate) interval: Duration,
    pub(crate) expires_in: Duration,
}

/// What has become of a login on another device.
#[derive(Debug)]
pub(crate) enum Polled {
    /// It makes sense to ask again after this time.
    Pending(Duration),
    Done(Person),
}

/// The client of the provider.
#[derive(Debug)]
pub(crate) struct Oidc {
    provider: Provider,
    browsers: Mutex<Pending<Browser>>,
    devices: Mutex<Pending<Device>>,
}

#[derive(Debug)]
struct Browser {
    state: Secret,
    nonce: Secret,
    /// Of PKCE (RFC 7636).
    verifier: Secret,
    redirect_uri: String,
}

#[derive(Debug, Clone)]
struct Device {
    code: Secret,
    interval: Duration,
    next_poll: Instant,
}

/// The answer of RFC 8628 §3.2.
#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Secret,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

impl Oidc {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            provider: Provider::new(settings),
            browsers: Mutex::new(Pending::new()),
            devices: Mutex::new(Pending::new()),
        }
    }

    fn settings(&self) -> &Settings {
        self.provider.settings()
    }

    /// The provider's URL.
    pub(crate) fn issuer(&self) -> &str {
        &self.settings().issuer
    }

    /// True if someone who is not known gets an identity.
    pub(crate) fn creates_identities(&self) -> bool {
        self.settings().create_identities
    }

    /// Begins a login of `source` in a browser, which comes back to `redirect_uri`.
    pub(crate) async fn begin(
        &self,
        redirect_uri: String,
        source: Option<IpAddr>,
    ) -> Result<Begun, Error> {
        let metadata = self.provider.metadata().await?;
        let (secret, state) = (token::generate()?, token::generate()?);
        let (nonce, verifier) = (token::generate()?, token::generate()?);
        let hash = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
        let mut url = metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings().client_id)
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("scope", &self.scopes(&metadata))
            .append_pair("state", state.expose())
            .append_pair("nonce", nonce.expose())
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(hash))
            .append_pair("code_challenge_method", "S256");
        let begun = Begun {
            authorization_url: url.into(),
            state: state.clone(),
            secret,
        };
        let browser = Browser {
            state,
            nonce,
            verifier,
            redirect_uri,
        };
        let source = limit::source(source);
        let added = lock(&self.browsers).add(&begun.secret, source, browser, Instant::now());
        added.map_err(|error| Error::TooMany(error.0))?;
        Ok(begun)
    }

    /// Ends the login that `secret` finds with what the browser has brought back. It can be ended
    /// once, whatever becomes of it.
    pub(crate) async fn finish(
        &self,
        secret: &Secret,
        state: &str,
        code: &Secret,
    ) -> Result<Person, Error> {
        let login = self.take_browser(secret, state)?;
        let metadata = self.provider.metadata().await?;
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", &login.redirect_uri),
            ("code_verifier", login.verifier.expose()),
        ];
        let tokens = self.provider.tokens(&metadata, &grant).await?;
        self.person(&metadata, &tokens, Some(login.nonce.expose()))
            .await
    }

    /// Ends the login that `secret` finds, which the provider has refused.
    pub(crate) fn abandon(&self, secret: &Secret, state: &str) -> Result<(), Error> {
        self.take_browser(secret, state).map(drop)
    }

    fn take_browser(&self, secret: &Secret, state: &str) -> Result<Browser, Error> {
        let found = lock(&self.browsers).take(secret, Instant::now());
        let login = found.ok_or(Error::Unknown)?;
        match bool::from(login.state.expose().as_bytes().ct_eq(state.as_bytes())) {
            true => Ok(login),
            false => Err(Error::OtherLogin),
        }
    }

    /// Begins a login of `source` on another device.
    pub(crate) async fn begin_device(&self, source: Option<IpAddr>) -> Result<BegunDevice, Error> {
        let source = limit::source(source);
        // Before the provider is asked: its answer would be of no use.
        let checked = lock(&self.devices).check(source, Instant::now());
        checked.map_err(|error| Error::TooMany(error.0))?;
        let metadata = self.provider.metadata().await?;
        let scopes = self.scopes(&metadata);
        let form = [("scope", scopes.as_str())];
        let answer: DeviceAnswer = self.provider.device(&metadata, &form).await?;
        let interval = answer.interval.map_or(INTERVAL, Duration::from_secs);
        let interval = interval.clamp(Duration::from_secs(1), MAX_INTERVAL);
        let secret = token::generate()?;
        let now = Instant::now();
        let device = Device {
            code: answer.device_code,
            interval,
            next_poll: now,
        };
        let added = lock(&self.devices).add(&secret, source, device, now);
        added.map_err(|error| Error::TooMany(error.0))?;
        Ok(BegunDevice {
            secret,
            verification_uri: shown(&answer.verification_uri),
            verification_uri_complete: answer.verification_uri_complete.as_deref().map(shown),
            user_code: shown(&answer.user_code),
            interval,
            expires_in: Duration::from_secs(answer.expires_in).min(pending::LIFETIME),
        })
    }

    /// Asks the provider whether the person is done with the login that `secret` finds, but never
    /// more often than the provider wants to be asked.
    pub(crate) async fn poll_device(&self, secret: &Secret) -> Result<Polled, Error> {
        let now = Instant::now();
        let device = {
            let mut devices = lock(&self.devices);
            let device = devices.find(secret, now).ok_or(Error::Unknown)?;
            let wait = device.next_poll.saturating_duration_since(now);
            if !wait.is_zero() {
                return Ok(Polled::Pending(wait));
            }
            // Another question meanwhile waits.
            device.next_poll = now + device.interval;
            device.clone()
        };
        let metadata = self.provider.metadata().await?;
        let grant = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.code.expose()),
        ];
        let asked = self.provider.tokens(&metadata, &grant).await;
        let tokens = match asked {
            Ok(tokens) => tokens,
            Err(provider::Error::Refused { code, .. }) if code == "authorization_pending" => {
                return Ok(Polled::Pending(device.interval));
            }
            Err(provider::Error::Refused { code, .. }) if code == "slow_down" => {
                let interval = (device.interval + INTERVAL).min(MAX_INTERVAL);
                if let Some(device) = lock(&self.devices).find(secret, now) {
                    device.interval = interval;
                    device.next_poll = Instant::now() + interval;
                }
                return Ok(Polled::Pending(interval));
            }
            Err(error @ provider::Error::Refused { .. }) => {
                lock(&self.devices).take(secret, now);
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        // Only one caller gets a session out of it.
        lock(&self.devices)
            .take(secret, now)
            .ok_or(Error::Unknown)?;
        let person = self.person(&metadata, &tokens, None).await?;
        Ok(Polled::Done(person))
    }

    fn scopes(&self, metadata: &Metadata) -> String {
        let wants_groups = self.settings().groups_claim.is_some();
        match wants_groups && metadata.has_groups_scope {
            true => format!("{SCOPES} groups"),
            false => SCOPES.to_owned(),
        }
    }

    /// Whom the tokens are about. The provider may have changed its keys since they were read.
    async fn person(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        nonce: Option<&str>,
    ) -> Result<Person, Error> {
        let Settings {
            issuer, client_id, ..
        } = self.settings();
        let token = tokens.id_token.as_deref().ok_or(id_token::Error::Missing)?;
        let expected = Expected {
            issuer,
            client_id,
            nonce,
            access_token: &tokens.access_token,
        };
        let claims = match id_token::verify(token, &metadata.keys, expected) {
            Err(id_token::Error::UnknownKey) => {
                let metadata = self.provider.metadata_with_new_keys(metadata).await?;
                id_token::verify(token, &metadata.keys, expected)?
            }
            claims => claims?,
        };
        Ok(self.person_of(claims))
    }

    fn person_of(&self, claims: Claims) -> Person {
        let is_verified = claims.more.get("email_verified") == Some(&Value::Bool(true));
        let email = claims.more.get("email").and_then(Value::as_str);
        let email = email.filter(|email| is_verified && is_email(email));
        let groups = self.settings().groups_claim.as_ref();
        Person {
            email: email.map(str::to_lowercase),
            groups: groups.map(|claim| groups_in(claims.more.get(claim))),
            issuer: claims.iss,
            subject: claims.sub,
        }
    }
}

/// The groups of a claim, which is a list or one name.
fn groups_in(claim: Option<&Value>) -> Vec<String> {
    let names: Vec<&str> = match claim {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    };
    names.into_iter().map(str::to_owned).collect()
}

/// True for what may name a person: bounded, visible, and an address.
pub(crate) fn is_email(text: &str) -> bool {
    text.len() <= 254 && text.contains('@') && text.chars().all(|c| c.is_ascii_graphic())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
