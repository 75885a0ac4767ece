//! The platform's HTTPS certificate is replaced while it serves, and the address that a request
//! counts for behind a reverse proxy.

use std::net::{IpAddr, Ipv4Addr};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::x509::{Ca, Leaf};
use crate::support::{loopback, write_private};
use infisical_runtime::events;

/// A client that trusts `ca` alone, and keeps its connections.
fn client(ca: &Ca) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).expect("PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    client.build().expect("a client")
}

async fn answers(client: &reqwest::Client, platform: &Platform) -> bool {
    let answer = client.get(format!("{}/api/v1/relays", platform.url)).send();
    answer.await.is_ok_and(|answer| answer.status() == 401)
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_cuts_no_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = loopback::address();
    let (first, second) = (Ca::root("first"), Ca::root("second"));
    let platform = Platform::with_tls(dir.path(), host, &first).await;
    let (old, new) = (client(&first), client(&second));
    assert!(answers(&old, &platform).await && !answers(&new, &platform).await);
    let [certificate, key] = ["server.pem", "server.key"].map(|name| dir.path().join(name));
    let renewed = second.sign(&Leaf::relay_server(host));

    // Half of it: the old one is kept, and someone has to act.
    write_private(&certificate, &renewed.certificate);
    let mark = platform.process.mark();
    platform.process.signal(Signal::SIGHUP);
    let kept = platform
        .process
        .wait_for_line_after(mark, events::TLS_KEPT.text);
    kept.await;
    assert!(answers(&client(&first), &platform).await);

    write_private(&key, &renewed.key);
    let mark = platform.process.mark();
    platform.process.signal(Signal::SIGHUP);
    let replaced = platform
        .process
        .wait_for_line_after(mark, events::TLS_REPLACED.text);
    replaced.await;
    assert!(answers(&new, &platform).await);
    assert!(
        !answers(&client(&first), &platform).await,
        "a new connection"
    );
    assert!(answers(&old, &platform).await, "the open connection");
    let log = platform.process.output();
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

/// Without HTTPS there is nothing to read, and the signal must not end the platform.
#[tokio::test(flavor = "multi_thread")]
async fn hangup_leaves_plain_platform_running() {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    platform.process.signal(Signal::SIGHUP);
    let (status, list) = platform.request(Method::GET, "gateways", None).await;
    assert_eq!((status, list), (200, json!([])));
}

/// A caller with the address `from`, which may say that it asks for another one.
struct From {
    client: reqwest::Client,
    url: String,
}

impl From {
    fn new(platform: &Platform, from: Ipv4Addr) -> Self {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.local_address(IpAddr::from(from));
        Self {
            client: client.build().expect("a client"),
            url: format!("{}/api/v1/auth/universal-auth/login", platform.url),
        }
    }

    /// The status of a login that fails.
    async fn log_in(&self, forwarded_for: &str) -> u16 {
        let body = json!({"clientId": "unknown", "clientSecret": "wrong"});
        let request = self.client.post(&self.url).json(&body);
        let request = request.header("x-forwarded-for", forwarded_for);
        request.send().await.expect("an answer").status().as_u16()
    }
}

async fn sources(platform: &Platform) -> Vec<String> {
    let (status, entries) = platform.request(Method::GET, "audit/0/0", None).await;
    assert_eq!(status, 200, "{entries}");
    let entries = entries.as_array().expect("entries").iter();
    let logins = entries.filter(|entry| entry["kind"] == "login");
    let source = |entry: &Value| entry["source"].as_str().expect("a source").to_owned();
    logins.map(source).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_proxies_name_the_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    let (proxy, stranger) = (loopback::address(), loopback::address());
    let options = ["--trusted-proxy", &proxy.to_string()];
    let platform = Platform::start(dir.path(), loopback::address(), 0, &options).await;
    let proxied = From::new(&platform, proxy);
    let direct = From::new(&platform, stranger);
    assert_eq!(proxied.log_in("203.0.113.1, 198.51.100.1").await, 401);
    assert_eq!(direct.log_in("203.0.113.2").await, 401);
    let stranger = stranger.to_string();
    assert_eq!(sources(&platform).await, ["198.51.100.1", &stranger]);

    // The rate of logins is that of the caller behind the proxy, whatever a caller claims.
    let mut is_refused = false;
    for attempt in 0..200 {
        let claim = format!("192.0.2.{attempt}, 198.51.100.2");
        is_refused |= proxied.log_in(&claim).await == 429;
    }
    assert!(is_refused);
    assert_eq!(proxied.log_in("198.51.100.3").await, 401);
    let mut is_refused = false;
    for attempt in 0..200 {
        is_refused |= direct.log_in(&format!("192.0.2.{attempt}")).await == 429;
    }
    assert!(is_refused);
}
