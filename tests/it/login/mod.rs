//! Each way to log in, against stand-ins of the clouds' services and of the platform's login. What
//! is sent must be what the deployed programs send: the names, the headers and the bodies here are
//! theirs, written by hand.

mod aws;
mod enrollment;
mod gcp;
mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use infisical_api::Client;
use infisical_api::login::{CloudEndpoints, TokenSource};
use infisical_config::credential::{IdentityCredential, IdentityLogin, LoginMethod};
use infisical_config::proxy::Proxies;
use infisical_config::settings::{ApiBase, CustomHeaders};
use infisical_runtime::error::{Class, chain};
use infisical_runtime::secret::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake_platform::{Answer, FakePlatform, Request};
use crate::support::loopback;

/// The machine identity that logs in.
const IDENTITY: &str = "9d1f0a3e-5c1b-4a53-9d57-3b7a0e1f2c4d";

/// A platform and a cloud, which are the same stand-in, and a directory.
struct Bench {
    stand_in: FakePlatform,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let address = SocketAddr::from((loopback::address(), 0));
        Self {
            stand_in: FakePlatform::start(address).await,
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn client(&self) -> Client {
        let base = ApiBase::parse(&self.stand_in.url()).expect("a URL");
        Client::try_new(&base, &CustomHeaders::default(), &Proxies::default()).expect("a client")
    }

    /// A source of tokens by `method`, which asks this stand-in for everything.
    fn source(&self, method: LoginMethod) -> TokenSource {
        self.source_of(method, None)
    }

    fn source_of(&self, method: LoginMethod, organization: Option<&str>) -> TokenSource {
        let login = IdentityLogin {
            method,
            organization: organization.map(str::to_owned),
        };
        let endpoints = CloudEndpoints {
            azure: self.stand_in.url(),
            gcp_iam: self.stand_in.url(),
        };
        TokenSource::at(self.client(), IdentityCredential::Login(login), endpoints)
    }

    /// Lets the platform answer logins at `path` with `token`.
    fn logs_in(&self, path: &str, token: &str) {
        let what = format!("POST /api/v1/auth/{path}/login");
        self.stand_in.always(&what, login(token, 7200, 86_400));
    }

    /// Every login at `path` so far.
    fn logins(&self, path: &str) -> Vec<Request> {
        let what = format!("POST /api/v1/auth/{path}/login");
        self.stand_in.requests(&what)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        crate::support::write_private(&path, text);
        path
    }

    /// What comes of refusing `token` once: the class of the error.
    async fn refuse(&self, source: &TokenSource, token: &Secret) -> Class {
        let relays = "GET /api/v1/relays";
        let answer = Answer::error(401, "Token has been revoked", "req-401");
        self.stand_in.once(relays, answer);
        let error = self.client().relays(token).await.expect_err("refused");
        source.class(&error, Some(token)).await
    }
}

fn login(token: &str, expires_in: u64, at_most: u64) -> Answer {
    Answer::ok(&json!({
        "accessToken": token, "expiresIn": expires_in, "accessTokenMaxTTL": at_most, "tokenType": "Bearer",
    }))
}

fn identity() -> String {
    IDENTITY.to_owned()
}

/// The token that `source` gives.
async fn token(source: &TokenSource) -> String {
    match source.token().await {
        Ok(token) => token.expose().to_owned(),
        Err(error) => panic!("no token: {}", chain(&error)),
    }
}

/// Why `source` gives none: the text, and what is to be done.
async fn failure(source: &TokenSource) -> (String, Class) {
    let error: infisical_api::Error = source.token().await.expect_err("no token");
    let class = source.class(&error, None).await;
    (chain(&error).to_string(), class)
}

/// An address at which no one listens.
fn no_one() -> String {
    let listener = std::net::TcpListener::bind((loopback::address(), 0)).expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    let value = request.headers.get(name);
    value.map_or("", |value| value.to_str().expect("text"))
}

/// Asserts that no one can read `secrets` off an error.
fn assert_hidden(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} shows: {text}");
    }
}

/// The JSON of a file that is not there is never asked for.
fn absent(dir: &Path) -> PathBuf {
    dir.join("absent")
}

/// A JSON web token, or what looks like one.
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

fn jwt_login(jwt: &str) -> Value {
    json!({"identityId": IDENTITY, "jwt": jwt})
}
