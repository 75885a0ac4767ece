//! Logins of people at a certified OpenID provider (npm `oidc-provider`), with curl as the browser.

mod provider;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::loopback;
use crate::support::process::{Process, infisical};
use crate::support::write_private;
use crate::web::Browser;
use provider::Provider;

struct Lab {
    directory: tempfile::TempDir,
    platform: Platform,
    provider: Provider,
}

impl Lab {
    /// `None` where there is no provider.
    async fn start(client: &str, more: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let provider = Provider::start(directory.path()).await?;
        let secret = directory.path().join("client-secret");
        write_private(&secret, "provider-secret");
        let secret = format!("--oidc-client-secret-file={}", secret.display());
        let issuer = format!("--oidc-issuer={}", provider.url);
        let client_id = format!("--oidc-client-id={client}");
        let mut options = vec![issuer.as_str(), &client_id, "--oidc-groups-claim=groups"];
        if client == "platform" {
            options.push(&secret);
        }
        options.extend(more);
        // Providers let the port differ for this address (RFC 8252 §7.3).
        let address = std::net::Ipv4Addr::LOCALHOST;
        let platform = Platform::start(directory.path(), address, 0, &options).await;
        Some(Self {
            directory,
            platform,
            provider,
        })
    }

    fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// `infisical …` as the person.
    fn run(&self, words: &[&str]) -> Process {
        let mut command = infisical(self.dir());
        command.args(words);
        Process::spawn(words[0], command)
    }

    fn begin(&self, more: &[&str]) -> Process {
        let words = ["login", "--domain", &self.platform.url];
        self.run(&[&words[..], more].concat())
    }

    /// Logs in with a browser: exit code, and what it says.
    async fn log_in(&self) -> (i32, String) {
        let login = self.begin(&["--no-browser"]);
        let url = login.wait_for_line("response_type=code").await;
        self.provider.browse(self.dir(), url.trim()).await;
        (login.exit_code().await, login.output())
    }

    async fn create(&self, oidc: &str) {
        let body = json!({
            "name": "alice", "method": "oidc", "person": oidc, "roles": ["client"]
        });
        let post = reqwest::Method::POST;
        let (status, answer) = self.platform.request(post, "identities", Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The record's entries about logins, the newest last: action, name and whether it was refused.
    async fn logins(&self) -> Vec<(String, String, bool)> {
        let get = reqwest::Method::GET;
        let (_, entries) = self.platform.request(get, "audit/0/0", None).await;
        let entries = entries.as_array().expect("entries").iter();
        let logins = entries.filter(|entry| entry["kind"] == "login");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |entry: &Value| {
            let name = text(&entry["actor"]["name"]);
            (text(&entry["action"]), name, !entry["reason"].is_null())
        };
        logins.map(row).collect()
    }
}

/// The files of sessions.
fn kept(directory: &Path) -> usize {
    let sessions = directory.join(".config/infisical/sessions");
    std::fs::read_dir(sessions).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn person_logs_in_with_a_browser() {
    let Some(lab) = Lab::start("platform", &[]).await else {
        return;
    };
    // No one has said who that is.
    let (code, said) = lab.log_in().await;
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("--oidc alice@example.com"), "{said}");
    assert_eq!(kept(lab.dir()), 0);

    lab.create("alice@example.com").await;
    // The address is not verified.
    lab.provider.account(lab.dir(), "mallory").await;
    let (code, said) = lab.log_in().await;
    assert_eq!(code, 77, "{said}");

    lab.provider.account(lab.dir(), "alice").await;
    let (code, said) = lab.log_in().await;
    assert_eq!(code, 0, "{said}");
    let logged_in = format!("Logged in at {} as alice, until", lab.platform.url);
    assert!(said.contains(&logged_in), "{said}");
    assert!(said.contains("roles: client; groups: dba)"), "{said}");
    assert!(!said.contains("provider-secret"), "{said}");
    assert_eq!(kept(lab.dir()), 1);
    let status = lab.run(&["login", "--status"]);
    assert_eq!(status.exit_code().await, 0);
    assert!(status.stdout().contains("as alice"), "{}", status.stdout());
    let status = lab.run(&["login", "--status", "--json"]);
    assert_eq!(status.exit_code().await, 0);
    let object: Value = serde_json::from_str(&status.stdout()).expect("JSON");
    assert_eq!(object["logged_in"], true, "{object}");
    assert_eq!(object["name"], "alice", "{object}");
    assert_eq!(object["groups"], json!(["dba"]), "{object}");

    // It is a client: what it may do is decided by its roles.
    let list = ["platform", "gateway", "list", "--domain", &lab.platform.url];
    let list = lab.run(&list);
    assert_eq!(list.exit_code().await, 0, "{}", list.output());
    let services = lab.run(&["platform", "service", "list", "--domain", &lab.platform.url]);
    assert_eq!(services.exit_code().await, 77, "{}", services.output());

    let logout = lab.run(&["logout"]);
    assert_eq!(logout.exit_code().await, 0, "{}", logout.output());
    assert_eq!(kept(lab.dir()), 0);
    let ended = ("log-out".to_owned(), "alice".to_owned(), false);
    let logins = lab.logins().await;
    assert_eq!(logins.last(), Some(&ended), "{logins:?}");
    let refused: Vec<bool> = logins.iter().map(|(_, _, refused)| *refused).collect();
    assert_eq!(refused, [true, true, false, false]);
}

/// An address that someone else gets later does not make them the same person.
#[tokio::test(flavor = "multi_thread")]
async fn identity_belongs_to_its_first_person() {
    let Some(lab) = Lab::start("public", &["--oidc-create-identities"]).await else {
        return;
    };
    lab.create("subject:bob").await;
    lab.provider.account(lab.dir(), "bob").await;
    let (code, said) = lab.log_in().await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("as alice, until"), "{said}");
    // Someone unknown gets an identity of their own.
    lab.provider.account(lab.dir(), "mallory").await;
    let (code, said) = lab.log_in().await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("as oidc:mallory, until"), "{said}");
    assert!(said.contains("roles: client; groups: none"), "{said}");
    // The earlier session was replaced, and revoked.
    assert_eq!(kept(lab.dir()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn person_logs_in_on_another_device() {
    let Some(lab) = Lab::start("platform", &["--oidc-create-identities"]).await else {
        return;
    };
    let login = lab.begin(&["--device"]);
    let url = login.wait_for_line("user_code=").await;
    lab.provider.confirm(lab.dir(), url.trim()).await;
    assert_eq!(login.exit_code().await, 0, "{}", login.output());
    let said = login.stdout();
    assert!(said.contains("as alice@example.com, until"), "{said}");
}

/// The same for the web page: the session belongs to the browser that began the login.
#[tokio::test(flavor = "multi_thread")]
async fn person_logs_in_on_the_page() {
    let Some(lab) = Lab::start("platform", &[]).await else {
        return;
    };
    lab.create("alice@example.com").await;
    let mut browser = Browser::new(&lab.platform);
    let page = browser.get("/login?next=/sessions").await;
    let link = "/login/oidc?next=%2Fsessions";
    assert!(page.text.contains(link), "{}", page.text);
    let begun = browser.get(link).await;
    assert_eq!(begun.status, 303, "{}", begun.text);
    // Another browser comes back with the code, and is refused; the code is still good.
    let came_back = lab.provider.destination(lab.dir(), begun.location()).await;
    let callback = came_back.strip_prefix(&lab.platform.url).expect(&came_back);
    let mut other = Browser::new(&lab.platform);
    let refused = other.get(callback).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(
        other
            .get("/gateways")
            .await
            .location()
            .starts_with("/login")
    );

    let answer = browser.get(callback).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer.text.contains("href=\"/sessions\""),
        "{}",
        answer.text
    );
    let page = browser.get("/gateways").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("alice"), "{}", page.text);
    // The login has ended.
    let again = browser.get(callback).await;
    assert_eq!(again.status, 403, "{}", again.text);
    // The words of a stranger's link are not shown as the provider's.
    let forged = browser.get("/login/oidc/callback?error=call-us").await;
    assert_eq!(forged.status, 403);
    assert!(!forged.text.contains("call-us"), "{}", forged.text);
    let begun = browser.get("/login/oidc").await;
    let location = url::Url::parse(begun.location()).expect("a URL");
    let mut pairs = location.query_pairs();
    let (_, state) = pairs.find(|(name, _)| name == "state").expect("a state");
    let path = format!("/login/oidc/callback?error=access_denied&state={state}");
    let denied = browser.get(&path).await;
    assert_eq!(denied.status, 403);
    assert!(denied.text.contains("access_denied"), "{}", denied.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_provider_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let closed = crate::support::targets::Target::refusing(std::net::Ipv4Addr::LOCALHOST);
    let issuer = format!("--oidc-issuer=http://{closed}");
    let options = [issuer.as_str(), "--oidc-client-id=platform"];
    let platform = Platform::start(directory.path(), loopback::address(), 0, &options).await;
    for more in ["--no-browser", "--device"] {
        let mut command = infisical(directory.path());
        command.args(["login", "--domain", &platform.url, more]);
        let login = Process::spawn("login", command);
        assert_eq!(login.exit_code().await, 69, "{}", login.output());
        let said = login.output();
        assert!(
            said.contains("the OpenID provider does not answer"),
            "{said}"
        );
    }
    // Everything else works.
    let (status, _) = platform
        .request(reqwest::Method::GET, "gateways", None)
        .await;
    assert_eq!(status, 200);
}
