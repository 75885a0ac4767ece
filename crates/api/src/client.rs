//! The client of the platform's HTTP API (protocol.md §1).
//!
//! One method per endpoint; those of logins are in [`login`](crate::login). Every call has a
//! deadline and a bound on the answer's size; nothing is retried here: the caller looks at
//! [`Error::class`]. Tokens go into the `Authorization` header and nowhere else.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use infisical_runtime::error::{is_certificate_error, printable};
use reqwest::header::{AGE, AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::answer::Answer;
use crate::clock::Clock;
use crate::config::proxy::Proxies;
use crate::config::settings::{ApiBase, CustomHeaders};
use crate::log_throttle::LogThrottle;
use crate::names::{GatewayName, RelayName};
use crate::secret::Secret;
use crate::session_reports::SessionReport;
use crate::types::{
    ConnectGateway, EnrollGateway, GatewayCredentials, GatewayHeartbeat, GatewayLogin,
    HeartbeatAnswer, Login, Message, OpenSession, RegisterGateway, RegisterRelay, Relay,
    RelayCredentials, RelayHeartbeat, RelayLoggedIn, RelayLogin, RenewToken, SessionCredentials,
};
use crate::{Error, outbound, resolve, trust};

/// Limit for one call. A heartbeat is the longest: the platform dials back meanwhile.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Limit for a connection to the platform, its name's lookup and TLS included. One that was begun
/// while the network was away is as good as lost, and the caller's next attempt is not.
const CONNECT_DEADLINE: Duration = Duration::from_secs(8);
/// Largest answer read, in bytes: credentials are some 20 KiB, lists some 300 bytes a row.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// What deployed gateways and relays call themselves; the platform compares the whole text.
const USER_AGENT: &str = "cli";
/// The header that carries the version instead.
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-infisical-gateway-version");
const VERSION: HeaderValue = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));

/// A client of one platform. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    proxies: Proxies,
    /// The proxy on the way to the platform, as errors name it.
    proxy: Option<Arc<str>>,
    clock: Clock,
    /// For lines about answers.
    log_throttle: Arc<LogThrottle>,
}

impl Client {
    /// Below which address the calls are.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The proxies of this machine.
    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// What time it is according to the platform.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Prepares calls below `base`, with `headers` added to each, by way of
    /// `proxies`.
    ///
    /// # Errors
    /// A header is not valid, or TLS cannot be set up on this machine.
    pub fn try_new(
        base: &ApiBase,
        headers: &CustomHeaders,
        proxies: &Proxies,
    ) -> Result<Self, Error> {
        let mut map = HeaderMap::new();
        map.insert(VERSION_HEADER, VERSION);
        for (name, value) in &headers.0 {
            let bad = || Error::Header(name.clone());
            let parsed = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| bad())?;
            value.set_sensitive(true);
            map.append(parsed, value);
        }
        let builder = reqwest::Client::builder()
            .default_headers(map)
            .user_agent(USER_AGENT)
            .timeout(CALL_DEADLINE)
            .connect_timeout(CONNECT_DEADLINE)
            .dns_resolver(Arc::new(resolve::Resolver))
            // A redirect would carry the token to another host.
            .redirect(redirect::Policy::none());
        let (mut builder, proxy) =
            outbound::route(builder, proxies, base.as_url()).map_err(Error::Local)?;
        if base.as_url().scheme() == "https" {
            // Without roots no call can succeed, and a person must act.
            trust::roots().load().map_err(Error::Roots)?;
        }
        let tls = trust::roots().client_config().map_err(Error::Roots)?;
        builder = builder.tls_backend_preconfigured(tls);
        let http = builder.build().map_err(Error::Local)?;
        Ok(Self {
            base: base.as_url().as_str().trim_end_matches('/').to_owned(),
            http,
            proxies: proxies.clone(),
            proxy: proxy.map(Arc::from),
            clock: Clock::new(),
            log_throttle: Arc::new(LogThrottle::for_peers()),
        })
    }

    /// `POST /v2/gateways`, with an identity access token.
    ///
    /// # Errors
    /// See [`Error`]; so for every call below.
    pub async fn register_gateway(
        &self,
        token: &Secret,
        request: &RegisterGateway,
    ) -> Result<GatewayCredentials, Error> {
        self.post(
            "registering the gateway",
            "/v2/gateways",
            Some(token),
            request,
        )
        .await
    }

    /// `POST /v3/gateways/connect`, with a gateway access token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn connect_gateway(
        &self,
        token: &Secret,
        request: &ConnectGateway,
    ) -> Result<GatewayCredentials, Error> {
        self.post(
            "connecting the gateway",
            "/v3/gateways/connect",
            Some(token),
            request,
        )
        .await
    }

    /// `POST /v3/gateways/token-auth/enroll`: spends a one-time token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn enroll_gateway(&self, token: &Secret) -> Result<GatewayLogin, Error> {
        let request = EnrollGateway {
            token: token.clone(),
        };
        self.post(
            "enrolling the gateway",
            "/v3/gateways/token-auth/enroll",
            None,
            &request,
        )
        .await
    }

    /// `POST /v2/gateways/heartbeat`, with either token; success proves the whole path.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn gateway_heartbeat(
        &self,
        token: &Secret,
        request: &GatewayHeartbeat,
    ) -> Result<HeartbeatAnswer, Error> {
        self.heartbeat("/v2/gateways/heartbeat", token, Some(request))
            .await
    }

    /// `GET /v1/relays`, with either token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relays(&self, token: &Secret) -> Result<Vec<Relay>, Error> {
        let rows: Vec<serde_json::Value> =
            self.get("listing the relays", "/v1/relays", token).await?;
        let parse = |row| parse_relay(row, &self.log_throttle);
        Ok(rows.into_iter().filter_map(parse).collect())
    }

    /// `POST /v1/relays/register-org-relay`, with an identity access token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn register_org_relay(
        &self,
        token: &Secret,
        request: &RegisterRelay,
    ) -> Result<RelayCredentials, Error> {
        let path = "/v1/relays/register-org-relay";
        self.post("registering the relay", path, Some(token), request)
            .await
    }

    /// `POST /v1/relays/register-instance-relay`, with the relay auth secret.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn register_instance_relay(
        &self,
        secret: &Secret,
        request: &RegisterRelay,
    ) -> Result<RelayCredentials, Error> {
        let path = "/v1/relays/register-instance-relay";
        self.post("registering the relay", path, Some(secret), request)
            .await
    }

    /// `POST /v1/relays/heartbeat-org-relay`.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relay_heartbeat_org(
        &self,
        token: &Secret,
        name: &RelayName,
    ) -> Result<HeartbeatAnswer, Error> {
        self.name_heartbeat("/v1/relays/heartbeat-org-relay", token, name)
            .await
    }

    /// `POST /v1/relays/heartbeat-instance-relay`.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relay_heartbeat_instance(
        &self,
        secret: &Secret,
        name: &RelayName,
    ) -> Result<HeartbeatAnswer, Error> {
        self.name_heartbeat("/v1/relays/heartbeat-instance-relay", secret, name)
            .await
    }

    async fn name_heartbeat(
        &self,
        path: &str,
        token: &Secret,
        name: &RelayName,
    ) -> Result<HeartbeatAnswer, Error> {
        let request = RelayHeartbeat { name: name.clone() };
        self.heartbeat(path, token, Some(&request)).await
    }

    /// `POST /v2/relays/login`: spends a one-time token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relay_login(&self, token: &Secret) -> Result<RelayLoggedIn, Error> {
        let request = RelayLogin {
            method: "token".to_owned(),
            token: token.clone(),
        };
        self.post("enrolling the relay", "/v2/relays/login", None, &request)
            .await
    }

    /// `POST /v2/relays/connect`, with a relay access token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relay_connect(&self, token: &Secret) -> Result<RelayCredentials, Error> {
        let (action, path) = ("connecting the relay", "/v2/relays/connect");
        // Without a body, as deployed relays call it.
        let request = self.request(Method::POST, action, path, Some(token))?;
        self.call(action, path, request).await
    }

    /// `POST /v2/relays/heartbeat`, with a relay access token.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn relay_heartbeat(&self, token: &Secret) -> Result<HeartbeatAnswer, Error> {
        let nothing: Option<&RelayHeartbeat> = None;
        self.heartbeat("/v2/relays/heartbeat", token, nothing).await
    }

    /// Sends a heartbeat. Any answer of the platform to one that succeeds will do.
    async fn heartbeat<Q: Serialize + Sync>(
        &self,
        path: &str,
        token: &Secret,
        request: Option<&Q>,
    ) -> Result<HeartbeatAnswer, Error> {
        let action = "the heartbeat";
        let mut builder = self.request(Method::POST, action, path, Some(token))?;
        if let Some(request) = request {
            builder = builder.json(request);
        }
        self.exchange(action, path, builder, |answer| answer.heartbeat())
            .await
    }

    /// `GET /status`, without a token: whether the platform answers.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn status(&self) -> Result<(), Error> {
        let (action, path) = ("the status", "/status");
        let builder = self.request(Method::GET, action, path, None)?;
        self.exchange(action, path, builder, |answer| answer.acknowledgement())
            .await
    }

    /// `POST /v1/auth/token/renew`.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn renew_token(&self, token: &Secret) -> Result<Login, Error> {
        let request = RenewToken {
            access_token: token.clone(),
        };
        self.post(
            "renewing the access token",
            "/v1/auth/token/renew",
            None,
            &request,
        )
        .await
    }

    /// `POST /v1/embedded/gateways/{name}/sessions`, of the embedded platform only.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn open_session(
        &self,
        token: &Secret,
        gateway: &GatewayName,
        request: &OpenSession,
    ) -> Result<SessionCredentials, Error> {
        let name = gateway.url_segment();
        let path = format!("/v1/embedded/gateways/{name}/sessions");
        self.post("asking for a session", &path, Some(token), request)
            .await
    }

    /// `POST /v1/embedded/session-reports`, with either token of a gateway; of an embedded platform
    /// that names the capability only.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn report_sessions(
        &self,
        token: &Secret,
        report: &SessionReport,
    ) -> Result<(), Error> {
        let (action, path) = ("reporting sessions", "/v1/embedded/session-reports");
        let builder = self.request(Method::POST, action, path, Some(token))?;
        self.exchange(action, path, builder.json(report), |answer| {
            answer.acknowledgement()
        })
        .await
    }

    /// Sends `request` to `path` and reads the answer. `action` completes "… was refused with".
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn post<Q, A>(
        &self,
        action: &'static str,
        path: &str,
        token: Option<&Secret>,
        request: &Q,
    ) -> Result<A, Error>
    where
        Q: Serialize + Sync + ?Sized,
        A: DeserializeOwned,
    {
        let builder = self.request(Method::POST, action, path, token)?;
        self.call(action, path, builder.json(request)).await
    }

    /// Reads `path`.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn get<A: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        token: &Secret,
    ) -> Result<A, Error> {
        let builder = self.request(Method::GET, action, path, Some(token))?;
        self.call(action, path, builder).await
    }

    /// Deletes `path`.
    #[expect(clippy::missing_errors_doc, reason = "see register_gateway")]
    pub async fn delete(
        &self,
        action: &'static str,
        path: &str,
        token: &Secret,
    ) -> Result<Message, Error> {
        let builder = self.request(Method::DELETE, action, path, Some(token))?;
        self.call(action, path, builder).await
    }

    fn request(
        &self,
        method: Method,
        action: &'static str,
        path: &str,
        token: Option<&Secret>,
    ) -> Result<reqwest::RequestBuilder, Error> {
        let builder = self.http.request(method, format!("{}{path}", self.base));
        let Some(token) = token else {
            return Ok(builder);
        };
        let bad = |_| Error::Token { action };
        let bearer = format!("Bearer {}", token.expose());
        let mut value = HeaderValue::try_from(bearer).map_err(bad)?;
        value.set_sensitive(true);
        Ok(builder.header(AUTHORIZATION, value))
    }

    async fn call<A: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        builder: reqwest::RequestBuilder,
    ) -> Result<A, Error> {
        self.exchange(action, path, builder, |answer| answer.content())
            .await
    }

    /// Sends a request and receives its answer, from which `read` takes what is used.
    async fn exchange<A>(
        &self,
        action: &'static str,
        path: &str,
        builder: reqwest::RequestBuilder,
        read: impl FnOnce(&Answer<'_>) -> Result<A, Error>,
    ) -> Result<A, Error> {
        let url = format!("{}{path}", self.base);
        let failed = |source: reqwest::Error| {
            // The address is in our own text already.
            let source = source.without_url();
            if source.is_builder() {
                return Error::Request { action, source };
            }
            Error::Transport {
                url: url.clone(),
                proxy: self.proxy.as_deref().map(str::to_owned),
                source,
            }
        };
        let asked = self.clock.ask();
        let mut response = send(builder).await.map_err(failed)?;
        let written = written_at(response.headers());
        if let Some(date) = written {
            self.clock.observe(date, asked);
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(Error::TooLong {
                    action,
                    url: url.clone(),
                    limit: MAX_ANSWER,
                });
            }
            body.extend_from_slice(&chunk);
        }
        read(&Answer {
            action,
            url: &url,
            proxy: self.proxy.as_deref(),
            status: response.status(),
            headers: response.headers(),
            body: &body,
            now: written.unwrap_or_else(|| self.clock.now()),
        })
    }
}

/// Sends a request. Should the certificate be refused, the roots are read again, in case its CA was
/// added meanwhile; if they changed the request, of which nothing was sent, is repeated.
async fn send(builder: reqwest::RequestBuilder) -> Result<reqwest::Response, reqwest::Error> {
    let again = builder.try_clone();
    match (send_once(builder).await, again) {
        (Err(error), Some(again)) if is_certificate_error(&error) => {
            let reload = || trust::roots().reload_after_refusal();
            let has_changed = tokio::task::spawn_blocking(reload).await;
            if !has_changed.unwrap_or(false) {
                return Err(error);
            }
            send_once(again).await
        }
        (result, _) => result,
    }
}

/// Connections on which a request is tried that could not be sent on the ones before.
const CONNECTIONS: u32 = 5;

/// Sends a request, on another connection if one is closed before the request goes out. Why it was
/// closed is lost then: a server that wants a certificate says so at about that time.
async fn send_once(
    mut builder: reqwest::RequestBuilder,
) -> Result<reqwest::Response, reqwest::Error> {
    for _ in 1..CONNECTIONS {
        let Some(again) = builder.try_clone() else {
            break;
        };
        match builder.send().await {
            Err(error) if was_never_sent(&error) => builder = again,
            result => return result,
        }
    }
    builder.send().await
}

/// True if the connection was closed before the request went out.
fn was_never_sent(error: &reqwest::Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<hyper::Error>();
        error.is_some_and(hyper::Error::is_canceled)
    })
}

/// When an answer was written (RFC 9110 §6.6.1). `None` if it does not say, or if it comes out of a
/// cache, which says so by its age (RFC 9111 §5.1): that time is long ago.
pub(crate) fn written_at(headers: &HeaderMap) -> Option<SystemTime> {
    if headers.contains_key(AGE) {
        return None;
    }
    let date = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok()
}

/// One row of the list of relays. A row that cannot be used, whosever relay it is, must not take
/// the others with it.
fn parse_relay(row: serde_json::Value, throttle: &LogThrottle) -> Option<Relay> {
    const LEFT_OUT: &str = "a relay of the platform's list is left out";
    let name = ["name", "id"].map(|key| row.get(key).and_then(|value| value.as_str()));
    let name = name.into_iter().flatten().next().map(printable);
    serde_json::from_value(row)
        .inspect_err(|error| {
            // A row holds no secret, and the rule that it breaks is worth reading.
            let error = printable(&error.to_string());
            if let Some(permission) = throttle.should_log(LEFT_OUT, name.as_deref().unwrap_or("")) {
                let suppressed = permission.suppressed();
                tracing::warn!(relay.name = name, error, suppressed, "{LEFT_OUT}");
            }
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{Client, LogThrottle, parse_relay};
    use crate::config::proxy::Proxies;
    use crate::config::settings::{ApiBase, CustomHeaders};
    use crate::secret::Secret;
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Refuses one request, with an answer that has these headers.
    async fn refusing(listener: TcpListener, headers: String) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.expect("a request");
        let answer = format!(
            "HTTP/1.1 401 Unauthorized\r\n{headers}\r\ncontent-length: 16\r\n\r\n{{\"message\":\"no\"}}"
        );
        stream.write_all(answer.as_bytes()).await.expect("answered");
    }

    #[tokio::test]
    async fn every_answer_tells_the_time() {
        let hour = std::time::Duration::from_secs(3600);
        let date = |time| format!("date: {}", httpdate::fmt_http_date(time));
        let earlier = date(SystemTime::now() - hour);
        let cases = [
            (
                date(SystemTime::now() + hour),
                Some("this clock is 60 min behind the platform"),
            ),
            (
                earlier.clone(),
                Some("this clock is 60 min ahead of the platform"),
            ),
            // Out of someone's cache.
            (format!("{earlier}\r\nage: 3600"), None),
            (date(SystemTime::now()), None),
            ("date: yesterday".to_owned(), None),
        ];
        for (headers, told) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            let base = ApiBase::parse(&format!("http://{address}")).expect("an address");
            let client = Client::try_new(&base, &CustomHeaders::default(), &Proxies::default())
                .expect("a client");
            let token = Secret::new("token");
            let heartbeat = crate::types::GatewayHeartbeat::default();
            let (refused, ()) = tokio::join!(
                client.gateway_heartbeat(&token, &heartbeat),
                refusing(listener, headers)
            );
            assert_eq!(refused.expect_err("401").status(), Some(401));
            let skew = client.clock().skew().map(|skew| skew.to_string());
            assert_eq!(skew.as_deref(), told);
        }
    }

    #[test]
    fn unusable_relay_is_left_out_alone() {
        let row = |name: &str, host: &str| {
            serde_json::json!({
                "id": "r", "createdAt": "", "updatedAt": "", "orgId": null, "identityId": null,
                "name": name, "host": host, "heartbeat": null, "more": 1
            })
        };
        let rows = [
            row("good", "relay.example.com"),
            row("odd", "https://relay.example.com"),
            row("", "relay.example.com"),
            serde_json::Value::Null,
            row("also-good", "192.0.2.1"),
        ];
        let throttle = LogThrottle::for_peers();
        let parse = |row| parse_relay(row, &throttle);
        let relays: Vec<_> = rows.into_iter().filter_map(parse).collect();
        let names: Vec<&str> = relays.iter().map(|relay| relay.name.as_str()).collect();
        assert_eq!(names, ["good", "also-good"]);
    }
}
