//! The start against a platform that answers what a test wants.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::testing::{Authority, HOST, NAME, any_port, until};
use super::{Error, register, run};
use crate::agent::enroll;
use crate::agent::last_known_good::LastKnownGood;
use crate::agent::status;
use crate::api::Client;
use crate::config::credential::{Credential, IdentityCredential};
use crate::config::file;
use crate::config::proxy::Proxies;
use crate::config::settings::{
    ApiBase, CommonSettings, CustomHeaders, LogSettings, RelayCredential, RelayKind, RelayLimits,
    RelaySettings,
};
use crate::error::{Reason, chain};
use crate::health::liveness;
use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::secret::Secret;

const REGISTER: &str = "/api/v1/relays/register-org-relay";
const LOGIN: &str = "/api/v2/relays/login";
const CONNECT: &str = "/api/v2/relays/connect";

/// What it answers, in this order, and what it was asked.
#[derive(Clone, Default)]
struct Platform {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

async fn answer(
    State(platform): State<Platform>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let asked = (uri.path().to_owned(), bearer.to_owned());
    platform.asked.lock().expect("a lock").push(asked);
    let next = platform.answers.lock().expect("a lock").pop_front();
    let (status, body) = next.expect("a question that was foreseen");
    (StatusCode::from_u16(status).expect("a status"), Json(body))
}

impl Platform {
    /// Serves for as long as the test runs; gives the domain.
    async fn start(&self, scope: &Scope) -> ApiBase {
        let listener = TcpListener::bind(any_port()).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/api/{*path}", post(answer))
            .with_state(self.clone());
        scope.spawn("platform", async move {
            let _ = axum::serve(listener, router).await;
        });
        ApiBase::parse(&format!("http://{address}")).expect("a domain")
    }

    fn will_answer(&self, status: u16, body: Value) {
        let mut answers = self.answers.lock().expect("a lock");
        answers.push_back((status, body));
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().expect("a lock").clone()
    }
}

fn credentials() -> Value {
    serde_json::to_value(Authority::new().relay()).expect("JSON")
}

fn settings(domain: ApiBase, credential: RelayCredential, store: &Path) -> RelaySettings {
    RelaySettings {
        name: NAME.parse().expect("a name"),
        host: Some(HOST.parse().expect("a host")),
        kind: RelayKind::Org,
        common: CommonSettings {
            domain,
            headers: CustomHeaders::default(),
            proxies: Proxies::default(),
            roots: crate::trust::Source::default(),
            log: LogSettings::default(),
            metrics: None,
            store: store.to_owned(),
        },
        credential,
        ssh_listen: Some(any_port()),
        tls_listen: Some(any_port()),
        limits: RelayLimits::default(),
    }
}

fn identity() -> RelayCredential {
    RelayCredential::Own(Credential::Identity(IdentityCredential::Token(
        Secret::new("id-token"),
    )))
}

/// Settings that no one changes.
fn fixed(settings: RelaySettings) -> watch::Receiver<RelaySettings> {
    watch::channel(settings).1
}

/// A relay that has worked with nothing, until `scope` is cancelled.
async fn started(settings: RelaySettings, scope: Scope) -> Result<(), Error> {
    run(
        fixed(settings),
        &LastKnownGood::new(None),
        status::relay().0,
        Metrics::default(),
        liveness().0,
        scope,
    )
    .await
}

async fn begin(settings: &RelaySettings) -> Result<(), register::Error> {
    let client = Client::try_new(
        &settings.common.domain,
        &settings.common.headers,
        &settings.common.proxies,
    )
    .expect("a client");
    let begun = register::begin(
        &client,
        settings,
        &LastKnownGood::new(None),
        &status::relay().0,
        &Scope::new("relay"),
    )
    .await;
    begun.map(|begun| assert!(begun.is_some(), "nothing was cancelled"))
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    platform.will_answer(500, json!({"message": "oops", "reqId": "req-1"}));
    platform.will_answer(200, credentials());
    begin(&settings(
        domain,
        identity(),
        Path::new("/nonexistent/store"),
    ))
    .await
    .expect("credentials");
    let asked = (REGISTER.to_owned(), "Bearer id-token".to_owned());
    assert_eq!(platform.asked(), [asked.clone(), asked]);
}

#[tokio::test]
async fn final_refusal_shows_message_and_request_id() {
    for (status, reason) in [
        (400, Reason::Configuration),
        (401, Reason::Permission),
        (403, Reason::Permission),
        (404, Reason::Configuration),
    ] {
        let (platform, scope) = (Platform::default(), Scope::new("test"));
        let domain = platform.start(&scope).await;
        platform.will_answer(status, json!({"message": "not you", "reqId": "req-2"}));
        let settings = settings(domain, identity(), Path::new("/nonexistent/store"));
        let error = begin(&settings).await.expect_err("refused");
        assert_eq!(error.reason(), reason, "{status}");
        let text = chain(&error).to_string();
        assert!(text.contains("not you") && text.contains("req-2"), "{text}");
        assert!(!text.contains("id-token"), "{text}");
    }
}

#[tokio::test]
async fn enrollment_token_is_saved_before_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("relay.conf");
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    platform.will_answer(200, json!({"accessToken": "obtained", "more": 1}));
    platform.will_answer(403, json!({"message": "not yet"}));
    let token = Secret::new("one-time");
    let settings = settings(
        domain,
        RelayCredential::Own(Credential::Enroll { token }),
        &store,
    );
    begin(&settings).await.expect_err("the second call fails");

    let asked: Vec<String> = platform.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, [LOGIN, CONNECT]);
    assert_eq!(platform.asked().pop().expect("asked").1, "Bearer obtained");
    let kept = file::load(&store).expect("the store");
    let value = |key: &str| {
        let entry = kept.iter().find(|entry| entry.key.name == key);
        entry.expect(key).value.expose().to_owned()
    };
    assert_eq!(value("INFISICAL_RELAY_ACCESS_TOKEN"), "obtained");
    assert_eq!(value("INFISICAL_RELAY_ENROLLMENT_TOKEN"), "one-time");
}

#[tokio::test]
async fn token_is_kept_when_storage_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "").expect("a file");
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    let token = Secret::new("one-time");
    let credential = RelayCredential::Own(Credential::Enroll { token });
    let settings = settings(domain, credential, &in_the_way.join("relay.conf"));
    let error = begin(&settings).await.expect_err("no store");
    assert!(
        matches!(error, register::Error::Enroll(enroll::Error::Store { .. })),
        "{error:?}"
    );
    assert_eq!(error.reason(), Reason::Permission);
    assert_eq!(platform.asked(), []);
}

#[tokio::test]
async fn port_in_use_ends_start_early() {
    let taken = TcpListener::bind(any_port()).await.expect("a port");
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    let settings = RelaySettings {
        tls_listen: Some(taken.local_addr().expect("an address")),
        ..settings(domain, identity(), Path::new("/nonexistent/store"))
    };
    let running = started(settings, Scope::new("relay"));
    let error = Box::pin(running).await.expect_err("in use");
    assert!(matches!(error, Error::Listen(_)), "{error:?}");
    assert_eq!(error.reason(), Reason::Unavailable);
    assert_eq!(platform.asked(), []);
}

#[tokio::test]
async fn an_instance_relay_needs_the_instances_secret() {
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    let settings = RelaySettings {
        kind: RelayKind::Instance,
        ..settings(domain, identity(), Path::new("/nonexistent/store"))
    };
    let running = started(settings, Scope::new("relay"));
    let error = Box::pin(running).await.expect_err("refused");
    assert_eq!(error.reason(), Reason::Configuration);
    assert_eq!(platform.asked(), []);
}

#[tokio::test]
async fn a_relay_starts_beats_and_stops() {
    let (platform, scope) = (Platform::default(), Scope::new("test"));
    let domain = platform.start(&scope).await;
    platform.will_answer(200, credentials());
    platform.will_answer(200, json!({"message": "ok"}));
    let settings = settings(domain, identity(), Path::new("/nonexistent/store"));
    let stop = Scope::new("relay");
    let running = started(settings, stop.clone());
    let stopping = async {
        until(|| platform.asked().len() == 2).await;
        stop.cancel();
    };
    let (result, ()) = tokio::join!(running, stopping);
    result.expect("a clean stop");
    let path = |n: usize| platform.asked().get(n).expect("asked").0.clone();
    assert_eq!(path(0), REGISTER);
    assert_eq!(path(1), "/api/v1/relays/heartbeat-org-relay");
}
