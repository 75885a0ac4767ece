//! A platform that answers exactly what a case scripts, and remembers what it was asked. Its JSON
//! is written by hand from protocol.md §1, not with the program's own types.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::PATIENCE;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `"POST /api/v2/gateways"`.
    pub what: String,
    /// The bearer token, empty if there was none.
    pub bearer: String,
    pub headers: HeaderMap,
    /// What follows the question mark.
    pub query: String,
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// Given only when this is notified.
    held: Option<Arc<Notify>>,
}

impl Answer {
    /// 200 with `body`.
    pub fn ok(body: &Value) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.to_string(),
            held: None,
        }
    }

    /// An error as the platform writes it.
    pub fn error(status: u16, message: &str, request_id: &str) -> Self {
        let body = json!({
            "statusCode": status, "message": message, "error": "Refused", "reqId": request_id,
        });
        Self {
            status,
            headers: Vec::new(),
            body: body.to_string(),
            held: None,
        }
    }

    /// Any body, for instance a proxy's HTML.
    pub fn raw(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            held: None,
        }
    }

    /// Keeps the answer back until `release` is notified.
    pub fn held(mut self, release: &Arc<Notify>) -> Self {
        self.held = Some(Arc::clone(release));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Default)]
struct Script {
    next: VecDeque<Answer>,
    then: Option<Answer>,
}

struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    requests: watch::Sender<Vec<Request>>,
}

/// A platform that runs until dropped.
pub struct FakePlatform {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl FakePlatform {
    /// Listens on `address`.
    pub async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            requests: watch::channel(Vec::new()).0,
        });
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let mut task = JoinSet::new();
        task.spawn(async move {
            axum::serve(listener, router).await.expect("serving");
        });
        Self {
            address,
            shared,
            _task: task,
        }
    }

    /// What goes into `--domain`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on answers every `what` (`"POST /api/v2/gateways"`) with `answer`.
    pub fn always(&self, what: &str, answer: Answer) {
        let mut scripts = self.shared.scripts.lock().expect("not poisoned");
        scripts.entry(what.to_owned()).or_default().then = Some(answer);
    }

    /// Answers one `what` with `answer`, before what [`Self::always`] says.
    pub fn once(&self, what: &str, answer: Answer) {
        let mut scripts = self.shared.scripts.lock().expect("not poisoned");
        let script = scripts.entry(what.to_owned()).or_default();
        script.next.push_back(answer);
    }

    /// Every request so far that was `what`.
    pub fn requests(&self, what: &str) -> Vec<Request> {
        let requests = self.shared.requests.borrow();
        requests
            .iter()
            .filter(|r| r.what == what)
            .cloned()
            .collect()
    }

    /// Waits until `what` was asked `count` times, and gives the last of these.
    pub async fn asked(&self, what: &str, count: usize) -> Request {
        let mut changes = self.shared.requests.subscribe();
        let enough = changes.wait_for(|all| all.iter().filter(|r| r.what == what).count() >= count);
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(all) => all
                .expect("we hold the sender")
                .iter()
                .filter(|r| r.what == what)
                .nth(count - 1)
                .cloned()
                .expect("counted"),
            Err(_) => panic!("{what} was not asked {count} times"),
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let what = format!("{method} {}", uri.path());
    let bearer = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or_default()
        .to_owned();
    let answer = {
        let mut scripts = shared.scripts.lock().expect("not poisoned");
        scripts
            .get_mut(&what)
            .and_then(|script| script.next.pop_front().or_else(|| script.then.clone()))
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    shared.requests.send_modify(|all| {
        all.push(Request {
            what: what.clone(),
            bearer,
            headers,
            query: uri.query().unwrap_or_default().to_owned(),
            body,
            text,
        });
    });
    let answer = answer
        .unwrap_or_else(|| Answer::error(503, &format!("{what} has no script"), "req-unscripted"));
    if let Some(release) = &answer.held {
        release.notified().await;
    }
    let status = StatusCode::from_u16(answer.status).expect("a status");
    let mut response =
        (status, [("content-type", "application/json")], answer.body).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(&value).expect("a header value"),
        );
    }
    response
}
