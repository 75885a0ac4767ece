//! The embedded platform as its administrator: the process, its token, and its admin API.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::process::{Process, infisical};
use super::session::Way;
use super::x509::{Ca, Leaf};
use super::{ready_file, soon, write_private};

/// A running embedded platform.
pub struct Platform {
    pub process: Process,
    pub url: String,
    pub token: String,
    state: PathBuf,
    client: reqwest::Client,
}

impl Platform {
    /// Starts it on a free port of `host`, or on the port given, and waits until it serves.
    pub async fn start(dir: &Path, host: Ipv4Addr, port: u16, more: &[&str]) -> Self {
        Self::start_as(dir, host, port, more, |command| command).await
    }

    /// The same, with the command changed by `change`.
    pub async fn start_as(
        dir: &Path,
        host: Ipv4Addr,
        port: u16,
        more: &[&str],
        change: impl FnOnce(Command) -> Command,
    ) -> Self {
        let state = dir.join("platform");
        let ready = dir.join("platform-ready");
        let _ = std::fs::remove_file(&ready);
        let mut command = infisical(dir);
        command.args(["platform", "start", "--listen", &format!("{host}:{port}")]);
        command.arg("--state-dir").arg(&state);
        command.arg("--ready-file").arg(&ready).args(more);
        let process = Process::spawn("platform", change(command));
        process.wait_for_line("Platform started successfully").await;
        let url = ready_file(&ready).await;
        Self::known(process, url, state, None)
    }

    /// One with HTTPS, and a certificate of `ca`.
    pub async fn with_tls(dir: &Path, host: Ipv4Addr, ca: &Ca) -> Self {
        let pem = ca.sign(&Leaf::relay_server(host));
        let [certificate, key] = [("server.pem", &pem.certificate), ("server.key", &pem.key)]
            .map(|(name, text)| (dir.join(name), text))
            .map(|(path, text)| {
                write_private(&path, text);
                path.display().to_string()
            });
        let options = ["--tls-cert", &certificate, "--tls-key", &key];
        let platform = Self::start(dir, host, 0, &options).await;
        let state = platform.state().to_owned();
        Self::known(platform.process, platform.url, state, Some(&ca.pem()))
    }

    /// One that runs and serves at `url`; with HTTPS, `root` is what its certificate is checked
    /// against.
    pub fn known(process: Process, url: String, state: PathBuf, root: Option<&str>) -> Self {
        let token = std::fs::read_to_string(state.join("admin-token")).expect("the token file");
        // A proxy of this machine's environment has no business here.
        let mut client = reqwest::Client::builder().no_proxy();
        // A kept connection may have ended while the case did something else.
        client = client.pool_max_idle_per_host(0);
        if let Some(root) = root {
            let root = reqwest::Certificate::from_pem(root.as_bytes()).expect("PEM");
            client = client.tls_certs_only([root]);
        }
        Self {
            process,
            url,
            token: token.trim().to_owned(),
            state,
            client: client.build().expect("a client"),
        }
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The file with the administrator's token.
    pub fn token_file(&self) -> PathBuf {
        self.state.join("admin-token")
    }

    /// One request of the admin API; gives status and body.
    pub async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let path = format!("v1/embedded/{path}");
        self.api(method, &path, &self.token, body).await
    }

    /// One request of the platform's API (`path` without `/api/`) with any bearer token.
    pub async fn api(
        &self,
        method: reqwest::Method,
        path: &str,
        bearer: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let url = format!("{}/api/{path}", self.url);
        let mut request = self.client.request(method, url).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.json(body);
        }
        let exchange = async {
            let response = request.send().await.expect("the platform answers");
            let status = response.status().as_u16();
            let text = response.text().await.expect("a body");
            (
                status,
                serde_json::from_str(&text).unwrap_or(Value::String(text)),
            )
        };
        soon("an answer of the platform", exchange).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.request(reqwest::Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// A new machine identity that may register a gateway and relays, with a plain access token.
    pub async fn identity_token(&self, name: &str) -> String {
        self.token_with(name, &["gateway", "relay"]).await
    }

    /// A new machine identity with these roles, with a plain access token.
    pub async fn token_with(&self, name: &str, roles: &[&str]) -> String {
        let body = json!({"name": name, "method": "token", "roles": roles});
        let created = self.post("identities", &body).await;
        if roles.contains(&"client") {
            let who = text(&created, "identityId");
            let everything = json!({"who": who, "gateway": "*", "targets": ["*"]});
            self.post("access-rules", &everything).await;
        }
        text(&created, "accessToken")
    }

    /// A new machine identity with universal auth: client id and secret.
    pub async fn universal_auth(&self, name: &str) -> (String, String) {
        let body = json!({"name": name, "method": "universal-auth",
            "roles": ["gateway", "relay"]});
        let answer = self.post("identities", &body).await;
        (text(&answer, "clientId"), text(&answer, "clientSecret"))
    }

    /// A one-time enrollment token.
    pub async fn enrollment_token(&self, kind: &str, name: &str, host: Option<Ipv4Addr>) -> String {
        let mut body = json!({"kind": kind, "name": name});
        if let Some(host) = host {
            body["host"] = json!(host.to_string());
        }
        text(&self.post("enrollment-tokens", &body).await, "token")
    }

    /// The secret with which the instance's own relay registers.
    pub async fn relay_auth_secret(&self) -> String {
        let (status, answer) = self
            .request(reqwest::Method::GET, "relay-auth-secret", None)
            .await;
        assert_eq!(status, 200, "{answer}");
        text(&answer, "relayAuthSecret")
    }

    /// The answer to a session request, whatever it is.
    pub async fn session(&self, gateway: &str, host: &str, port: u16) -> (u16, Value) {
        let body = json!({"targetHost": host, "targetPort": port});
        let path = format!("gateways/{gateway}/sessions");
        self.request(reqwest::Method::POST, &path, Some(&body))
            .await
    }

    /// A way to a target behind `gateway`.
    pub async fn way(&self, gateway: &str, host: &str, port: u16) -> Way {
        let (status, answer) = self.session(gateway, host, port).await;
        assert!((200..300).contains(&status), "session: {status} {answer}");
        Way::from_json(&answer)
    }
}

fn text(answer: &Value, field: &str) -> String {
    answer
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
        .to_owned()
}
