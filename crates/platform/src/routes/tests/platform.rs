//! A platform that tests talk to over a socket.

use std::path::Path;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::routes::App;
use crate::scope::Scope;
use crate::tests::plain_settings;
use crate::{Settings, build};

/// A served platform in a directory that vanishes with it.
pub(super) struct Platform {
    pub(super) url: String,
    pub(super) admin: String,
    pub(super) http: reqwest::Client,
    pub(super) scope: Scope,
    pub(super) app: App,
    directory: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) headers: reqwest::header::HeaderMap,
}

fn settings(directory: &Path) -> Settings {
    Settings {
        organization: Some("acme".to_owned()),
        ..plain_settings(directory)
    }
}

impl Platform {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let platform = build(settings(directory.path()), Metrics::default())
            .await
            .expect("built");
        let url = platform.url.clone();
        let app = platform.app.clone();
        let scope = Scope::new("test");
        let run = platform.run(scope.clone());
        scope.spawn("platform", async move { run.await.expect("a clean end") });
        let admin = std::fs::read_to_string(directory.path().join("admin-token"));
        Self {
            url,
            admin: admin.expect("a token").trim().to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            scope,
            app,
            directory,
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<String>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}/api{path}", self.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).expect("JSON");
        Answer {
            status,
            body,
            headers,
        }
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        let body = Some(body.to_string());
        self.send(Method::POST, path, token, body).await
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(Method::GET, path, token, None).await
    }

    pub(super) async fn create(&self, what: &str, body: Value) -> Value {
        let path = format!("/v1/embedded/{what}");
        self.post(&path, &self.admin, body).await.ok()
    }

    pub(super) async fn identity(&self, role: &str) -> (String, String) {
        // What a member of earlier programs might do, nothing, or one role.
        let roles: Vec<&str> = match role {
            "member" => vec!["gateway", "relay", "operator"],
            "no-access" => Vec::new(),
            role => vec![role],
        };
        let body = json!({"name": "someone", "method": "token", "roles": roles});
        let created = self.create("identities", body).await;
        (text(&created, "identityId"), text(&created, "accessToken"))
    }

    pub(super) async fn enrollment(&self, body: Value) -> String {
        text(&self.create("enrollment-tokens", body).await, "token")
    }

    pub(super) async fn stop(self) {
        self.scope.cancel();
        let ended = self.scope.finish(std::time::Duration::from_secs(30)).await;
        assert!(ended, "the platform did not stop");
        drop(self.directory);
    }
}

impl Answer {
    #[track_caller]
    pub(super) fn ok<T: DeserializeOwned>(self) -> T {
        assert_eq!(self.status, 200, "{}", self.body);
        assert!(self.headers.contains_key("x-request-id"));
        serde_json::from_value(self.body).expect("what the protocol says")
    }

    /// It is a refusal in the API's form; gives its message.
    #[track_caller]
    pub(super) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["statusCode"], status);
        assert!(self.body["error"].is_string(), "{}", self.body);
        let id = self.body["reqId"].as_str().expect("an id");
        assert_eq!(self.headers["x-request-id"], id);
        self.body["message"].to_string()
    }
}

pub(super) fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().expect("a text").to_owned()
}
