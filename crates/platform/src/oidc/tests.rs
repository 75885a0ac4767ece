//! A provider of the tests' own, which issues what no honest one would.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Error, Oidc, Person, Polled, Settings, id_token, pending};
use crate::error::chain;
use crate::scope::Scope;
use crate::secret::Secret;

const CLIENT: &str = "platform";
const ACCESS_TOKEN: &str = "an-access-token";
const SOURCE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// What the provider does next.
struct Script {
    issuer: String,
    /// As it is published; the last one signs.
    keys: Vec<(&'static str, Arc<EcdsaKeyPair>)>,
    /// Signs in place of it.
    unpublished: Option<Arc<EcdsaKeyPair>>,
    header: Value,
    /// What is changed in the ID token.
    claims: Value,
    /// Errors before tokens.
    refusals: Vec<&'static str>,
    /// Reads of the keys.
    reads: usize,
    /// Logins on other devices that have begun.
    devices: usize,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Script>>;

struct Lab {
    oidc: Oidc,
    script: Shared,
    scope: Scope,
}

fn key() -> Arc<EcdsaKeyPair> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    Arc::new(key)
}

fn published((kid, key): &(&'static str, Arc<EcdsaKeyPair>)) -> Value {
    let point = key.public_key().as_ref();
    let (x, y) = (&point[1..33], &point[33..]);
    let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y})
}

async fn configuration(State(script): State<Shared>) -> axum::Json<Value> {
    let issuer = script.lock().expect("it").issuer.clone();
    axum::Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "scopes_supported": ["openid", "groups"],
    }))
}

async fn keys(State(script): State<Shared>) -> axum::Json<Value> {
    let mut script = script.lock().expect("it");
    script.reads += 1;
    let keys: Vec<Value> = script.keys.iter().map(published).collect();
    axum::Json(json!({"keys": keys}))
}

async fn device(State(script): State<Shared>) -> axum::Json<Value> {
    let mut script = script.lock().expect("it");
    script.devices += 1;
    let issuer = &script.issuer;
    axum::Json(json!({
        "device_code": "device-code", "user_code": "AB-CD", "expires_in": 1800, "interval": 1,
        "verification_uri": format!("{issuer}/activate"),
    }))
}

/// Tokens for a code, which is taken for the nonce.
async fn token(State(script): State<Shared>, body: String) -> (StatusCode, axum::Json<Value>) {
    let mut script = script.lock().expect("it");
    let field = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(body.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let nonce = field("code");
    if field("grant_type").is_some_and(|kind| kind == "authorization_code") {
        assert_eq!(field("code_verifier").expect("PKCE").len(), 64);
    }
    script.asked.push(body.clone());
    if let Some(error) = script.refusals.pop() {
        return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error})));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ACCESS_TOKEN.as_bytes());
    let mut claims = json!({
        "iss": script.issuer, "sub": "subject-1", "aud": CLIENT, "exp": now + 300, "iat": now,
        "at_hash": URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]), "nonce": nonce,
        "email": "Alice@Example.com", "email_verified": true, "groups": ["dba", 7, "ops"],
    });
    for (name, value) in script.claims.as_object().expect("changes") {
        claims[name] = value.clone();
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&script.header), part(&claims));
    let (_, key) = script.keys.last().expect("a key");
    let signature = script
        .unpublished
        .as_ref()
        .unwrap_or(key)
        .sign(&SystemRandom::new(), signed.as_bytes())
        .expect("signed");
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let answer = json!({
        "access_token": ACCESS_TOKEN, "token_type": "Bearer", "id_token": token
    });
    (StatusCode::OK, axum::Json(answer))
}

impl Lab {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("bound"));
        let script = Arc::new(Mutex::new(Script {
            issuer: issuer.clone(),
            keys: vec![("one", key())],
            unpublished: None,
            header: json!({"alg": "ES256", "kid": "one"}),
            claims: json!({}),
            refusals: Vec::new(),
            reads: 0,
            devices: 0,
            asked: Vec::new(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/device", post(device))
            .route("/token", post(token))
            .with_state(Arc::clone(&script));
        let scope = Scope::new("provider");
        scope.spawn("provider", async move {
            axum::serve(listener, router).await.expect("served");
        });
        let oidc = Oidc::new(Settings {
            issuer,
            client_id: CLIENT.to_owned(),
            client_secret: Some(Secret::new("provider-secret")),
            groups_claim: Some("groups".to_owned()),
            create_identities: false,
            proxies: crate::config::proxy::Proxies::default(),
        });
        Self {
            oidc,
            script,
            scope,
        }
    }

    /// One login of a browser that does as it should.
    async fn log_in(&self) -> Result<Person, Error> {
        let begun = self
            .oidc
            .begin("http://127.0.0.1:1/callback".to_owned(), SOURCE)
            .await?;
        let nonce = nonce(&begun.authorization_url);
        self.oidc
            .finish(&begun.secret, begun.state.expose(), &nonce)
            .await
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().expect("it"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn nonce(url: &str) -> Secret {
    let url = url::Url::parse(url).expect("a URL");
    let mut pairs = url.query_pairs();
    let (_, nonce) = pairs.find(|(key, _)| key == "nonce").expect("a nonce");
    Secret::new(nonce)
}

#[tokio::test]
async fn person_is_who_the_token_names() {
    let lab = Lab::start().await;
    let begun = lab
        .oidc
        .begin("http://127.0.0.1:1/callback".to_owned(), SOURCE)
        .await;
    let url = begun.expect("begun").authorization_url;
    for part in [
        "response_type=code",
        "client_id=platform",
        "redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback",
        "scope=openid+profile+email+groups",
        "code_challenge_method=S256",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    let person = lab.log_in().await.expect("logged in");
    assert_eq!(person.subject, "subject-1");
    assert_eq!(person.email.as_deref(), Some("alice@example.com"));
    assert_eq!(
        person.groups,
        Some(vec!["dba".to_owned(), "ops".to_owned()])
    );
    for (name, value) in [
        ("email_verified", json!(false)),
        ("email_verified", json!("true")),
        ("email_verified", Value::Null),
        ("email", json!("no address")),
        ("email", json!("a\n@example.com")),
    ] {
        lab.change(|script| script.claims = json!({name: value}));
        let person = lab.log_in().await.expect("logged in");
        assert_eq!(person.email, None, "{name}");
    }
    let asked = lab.change(|script| script.asked.concat());
    assert!(
        !asked.contains("provider-secret"),
        "it goes into a header: {asked}"
    );
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let lab = Lab::start().await;
    let issuer = lab.change(|script| script.issuer.clone());
    lab.log_in().await.expect("the unchanged one is good");
    for (name, value) in [
        ("nonce", json!("of-another-login")),
        ("nonce", Value::Null),
        ("aud", json!("another-client")),
        ("aud", json!(["another-client"])),
        ("aud", json!([CLIENT, "another-client"])),
        ("azp", json!("another-client")),
        ("iss", json!("https://evil.example")),
        ("iss", json!([issuer, "https://evil.example"])),
        ("exp", json!(1_000_000_000)),
        ("exp", Value::Null),
        ("nbf", json!(9_000_000_000_u64)),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!("s".repeat(256))),
        ("sub", json!("a\nb")),
    ] {
        lab.change(|script| script.claims = json!({name: value}));
        let refused = lab.log_in().await;
        let Err(Error::IdToken(error)) = refused else {
            panic!("{name}: {refused:?}");
        };
        let text = chain(&error).to_string();
        let is_plain = !["Invalid", "Signature", "Missing"]
            .iter()
            .any(|part| text.contains(part));
        assert!(is_plain, "{name}: {text}");
    }
    lab.change(|script| script.claims = json!({"aud": [CLIENT, "more"], "azp": CLIENT}));
    lab.log_in().await.expect("shared, and issued to us");
    lab.change(|script| script.claims = json!({}));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": "one"}),
        json!({"alg": "RS256", "kid": "one"}),
        json!({"alg": "ES256K", "kid": "one"}),
        json!({"alg": "ES256", "kid": "unknown"}),
    ] {
        lab.change(|script| script.header = header.clone());
        let refused = lab.log_in().await;
        assert!(
            matches!(refused, Err(Error::IdToken(_))),
            "{header}: {refused:?}"
        );
    }
    // A key that the provider does not publish, under a name that it does.
    lab.change(|script| {
        script.header = json!({"alg": "ES256", "kid": "one"});
        script.unpublished = Some(key());
    });
    let refused = lab.log_in().await;
    let is_unknown = matches!(refused, Err(Error::IdToken(id_token::Error::UnknownKey)));
    assert!(is_unknown, "{refused:?}");
}

/// The platform learns new keys at once, but not as often as strangers may want it to.
#[tokio::test]
async fn new_key_is_looked_up_at_once() {
    let lab = Lab::start().await;
    lab.log_in().await.expect("logged in");
    assert_eq!(lab.change(|script| script.reads), 1);
    lab.change(|script| {
        script.keys = vec![("two", key())];
        script.header = json!({"alg": "ES256", "kid": "two"});
    });
    lab.log_in().await.expect("the new key was read");
    assert_eq!(lab.change(|script| script.reads), 2);
    lab.change(|script| script.header = json!({"alg": "ES256", "kid": "unknown"}));
    for _ in 0..8 {
        lab.log_in().await.expect_err("no such key");
    }
    assert_eq!(lab.change(|script| script.reads), 6);
    lab.change(|script| {
        script.keys = vec![("three", key())];
        script.header = json!({"alg": "ES256", "kid": "three"});
    });
    lab.log_in().await.expect_err("too early to look again");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    lab.log_in().await.expect("the new key was read");
    assert_eq!(lab.change(|script| script.reads), 7);
}

#[tokio::test]
async fn login_ends_once_and_for_its_owner() {
    let lab = Lab::start().await;
    let begin = || {
        lab.oidc
            .begin("http://127.0.0.1:1/callback".to_owned(), SOURCE)
    };
    let (one, two) = (begin().await.expect("begun"), begin().await.expect("begun"));
    let (nonce_one, nonce_two) = (nonce(&one.authorization_url), nonce(&two.authorization_url));
    let unknown = Secret::new("made-up");
    let refused = lab
        .oidc
        .finish(&unknown, one.state.expose(), &nonce_one)
        .await;
    assert!(matches!(refused, Err(Error::Unknown)), "{refused:?}");
    // The other one's state, and the other one's code.
    let refused = lab
        .oidc
        .finish(&one.secret, two.state.expose(), &nonce_one)
        .await;
    assert!(matches!(refused, Err(Error::OtherLogin)), "{refused:?}");
    let refused = lab
        .oidc
        .finish(&one.secret, one.state.expose(), &nonce_one)
        .await;
    assert!(
        matches!(refused, Err(Error::Unknown)),
        "it is over: {refused:?}"
    );
    let refused = lab
        .oidc
        .finish(&two.secret, two.state.expose(), &nonce_one)
        .await;
    let is_nonce = matches!(refused, Err(Error::IdToken(id_token::Error::Nonce)));
    assert!(is_nonce, "{refused:?}");
    let refused = lab
        .oidc
        .finish(&two.secret, two.state.expose(), &nonce_two)
        .await;
    assert!(
        matches!(refused, Err(Error::Unknown)),
        "it is over: {refused:?}"
    );
    lab.change(|script| script.refusals = vec!["invalid_grant"]);
    let refused = lab.log_in().await.expect_err("a code that was used");
    assert!(refused.to_string().contains("invalid_grant"), "{refused}");
}

/// The words of a stranger's link to the callback are not the provider's.
#[tokio::test]
async fn only_own_state_ends_a_login() {
    let lab = Lab::start().await;
    let begun = lab
        .oidc
        .begin("http://127.0.0.1:1/callback".to_owned(), SOURCE);
    let begun = begun.await.expect("begun");
    let unknown = lab.oidc.abandon(&Secret::new(""), begun.state.expose());
    assert!(matches!(unknown, Err(Error::Unknown)), "{unknown:?}");
    let state = begun.state.expose();
    lab.oidc.abandon(&begun.secret, state).expect("its state");
    let again = lab.oidc.abandon(&begun.secret, state);
    assert!(matches!(again, Err(Error::Unknown)), "{again:?}");
    let other = lab
        .oidc
        .begin("http://127.0.0.1:1/callback".to_owned(), SOURCE);
    let other = other.await.expect("begun");
    let refused = lab.oidc.abandon(&other.secret, state);
    assert!(matches!(refused, Err(Error::OtherLogin)), "{refused:?}");
}

#[tokio::test]
async fn device_is_polled_at_the_providers_pace() {
    let lab = Lab::start().await;
    lab.change(|script| script.refusals = vec!["slow_down", "authorization_pending"]);
    let begun = lab.oidc.begin_device(SOURCE).await.expect("begun");
    assert_eq!(
        (begun.user_code.as_str(), begun.interval.as_secs()),
        ("AB-CD", 1)
    );
    assert_eq!(begun.expires_in, pending::LIFETIME);
    let poll = || lab.oidc.poll_device(&begun.secret);
    let waits = |polled: Result<Polled, Error>| match polled.expect("an answer") {
        Polled::Pending(wait) => wait,
        Polled::Done(_) => panic!("too early"),
    };
    assert_eq!(waits(poll().await).as_secs(), 1);
    // Too early: the provider is not asked.
    assert!(!waits(poll().await).is_zero());
    assert_eq!(lab.change(|script| script.asked.len()), 1);
    let now = std::time::Instant::now();
    let due = |secret: &Secret| {
        super::lock(&lab.oidc.devices)
            .find(secret, now)
            .expect("it")
            .next_poll = now;
    };
    due(&begun.secret);
    assert_eq!(waits(poll().await).as_secs(), 6);
    due(&begun.secret);
    let Polled::Done(person) = poll().await.expect("an answer") else {
        panic!("it is done");
    };
    assert_eq!(person.subject, "subject-1");
    let refused = poll().await;
    assert!(matches!(refused, Err(Error::Unknown)), "{refused:?}");

    let begun = lab.oidc.begin_device(SOURCE).await.expect("begun");
    lab.change(|script| script.refusals = vec!["access_denied"]);
    lab.oidc
        .poll_device(&begun.secret)
        .await
        .expect_err("refused");
    let refused = lab.oidc.poll_device(&begun.secret).await;
    assert!(matches!(refused, Err(Error::Unknown)), "{refused:?}");
}

#[tokio::test]
async fn full_share_does_not_reach_the_provider() {
    let lab = Lab::start().await;
    let refused = loop {
        match lab.oidc.begin_device(SOURCE).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TooMany(_)), "{refused:?}");
    let asked = lab.change(|script| script.devices);
    let refused = lab.oidc.begin_device(SOURCE).await;
    assert!(matches!(refused, Err(Error::TooMany(_))), "{refused:?}");
    assert_eq!(lab.change(|script| script.devices), asked);
    assert_eq!(asked, pending::MAX_OF_SOURCE);
}

#[tokio::test]
async fn other_issuer_is_not_believed() {
    let lab = Lab::start().await;
    lab.change(|script| script.issuer = "https://evil.example".to_owned());
    let refused = lab.log_in().await.expect_err("another issuer");
    assert!(refused.to_string().contains("calls itself"), "{refused}");
}
