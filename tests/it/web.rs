//! The platform's web page as HTTP: who gets in, what answers say to a browser, and what is refused.
//! What a browser makes of it is in `tests/web`.

use reqwest::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER, SET_COOKIE};
use reqwest::{Method, StatusCode};

use crate::support::admin::Platform;
use crate::support::{loopback, soon};

/// A browser: keeps cookies, follows no redirect, and says which site a request is from.
pub(crate) struct Browser {
    client: reqwest::Client,
    url: String,
    cookies: Vec<(String, String)>,
    site: &'static str,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers
            .get(LOCATION)
            .map_or("", |value| value.to_str().expect("a path"))
    }

    /// The value of the first hidden field of that name.
    fn field(&self, name: &str) -> String {
        let (_, rest) = self
            .text
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("no field {name} in {}", self.text));
        rest.split('"').next().expect("a value").to_owned()
    }
}

impl Browser {
    pub(crate) fn new(platform: &Platform) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            client: client.expect("a client"),
            url: platform.url.clone(),
            cookies: Vec::new(),
            site: "same-origin",
        }
    }

    async fn send(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.url))
            .header("sec-fetch-site", self.site);
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if method == Method::POST {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            body.extend_pairs(fields);
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.finish());
        }
        let response = soon("a page", request.send()).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let text = cookie.to_str().expect("text");
            let (name, value) = text
                .split(';')
                .next()
                .expect("a pair")
                .split_once('=')
                .expect("a pair");
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Answer {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    /// Sends a form of the page at `path`.
    async fn submit(&mut self, path: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get(path).await.field("form_token");
        let mut all = vec![("form_token", token.as_str())];
        all.extend_from_slice(fields);
        self.send(Method::POST, action, &all).await
    }

    async fn log_in(&mut self, token: &str) -> Answer {
        self.submit("/login", "/login", &[("token", token)]).await
    }

    /// One who has logged in.
    async fn with(platform: &Platform, token: &str) -> Self {
        let mut browser = Self::new(platform);
        let answer = browser.log_in(token).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        browser
    }
}

async fn alone() -> (tempfile::TempDir, Platform) {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::start(dir.path(), loopback::address(), 0, &[]).await;
    (dir, platform)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_for_those_who_logged_in() {
    let (_dir, platform) = alone().await;
    let mut browser = Browser::new(&platform);
    assert_eq!(browser.get("/").await.location(), "/gateways");
    let refused = browser.get("/gateways?x=1").await;
    assert_eq!(
        (refused.status.as_u16(), refused.location()),
        (303, "/login?next=%2Fgateways%3Fx%3D1")
    );

    let wrong = browser.log_in("wrong").await;
    assert_eq!(wrong.status, 403);
    assert!(
        wrong.text.contains("wrong, expired or revoked"),
        "{}",
        wrong.text
    );
    let form = browser.get("/login?next=/gateways%3Fx%3D1").await;
    let fields = [
        ("form_token", form.field("form_token")),
        ("next", form.field("next")),
        ("token", platform.token.clone()),
    ];
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let in_ = browser.send(Method::POST, "/login", &fields).await;
    assert_eq!(
        (in_.status.as_u16(), in_.location()),
        (303, "/gateways?x=1")
    );
    let cookie = in_
        .headers
        .get(SET_COOKIE)
        .expect("a cookie")
        .to_str()
        .expect("text");
    assert!(cookie.starts_with("__Host-infisical-session="), "{cookie}");
    for part in [
        "; Path=/",
        "; Secure",
        "; HttpOnly",
        "; SameSite=Strict",
        "; Max-Age=43200",
    ] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let page = browser.get("/gateways").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("There is no gateway yet"),
        "{}",
        page.text
    );

    let session = browser.cookies.clone();
    let out = browser.submit("/gateways", "/logout", &[]).await;
    assert_eq!((out.status.as_u16(), out.location()), (303, "/login"));
    // Not only the cookie is gone, but the session.
    browser.cookies = session;
    assert_eq!(browser.get("/gateways").await.status, 303);
    let output = platform.process.output();
    assert!(!output.contains(&platform.token), "the log has the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_on_record() {
    let (_dir, platform) = alone().await;
    let token = platform.token_with("olivia", &["operator"]).await;
    let mut browser = Browser::new(&platform);
    browser.log_in("wrong").await;
    browser.log_in(&token).await;
    Browser::with(&platform, &platform.token).await;
    let (status, entries) = platform.request(Method::GET, "audit/0/0", None).await;
    assert_eq!(status, 200);
    let entries = entries.as_array().expect("entries").iter();
    let logins: Vec<_> = entries
        .filter(|entry| entry["kind"] == "login")
        .map(|entry| {
            assert_eq!(entry["details"], "web page", "{entry}");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("–").to_owned();
            (
                text(&entry["actor"]["type"]),
                text(&entry["actor"]["name"]),
                text(&entry["class"]),
            )
        })
        .collect();
    let expected = [
        ("unauthenticated", "–", "Unauthorized"),
        ("identity", "olivia", "–"),
        ("administrator", "–", "–"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(logins, expected);
}

/// A page of another site can have a browser send a form, but neither knows the token in our forms
/// nor can it hide where it is from.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_forms_are_refused() {
    let (_dir, platform) = alone().await;
    let mut browser = Browser::with(&platform, &platform.token).await;
    for fields in [&[][..], &[("form_token", "")], &[("form_token", "0123")]] {
        let refused = browser.send(Method::POST, "/logout", fields).await;
        assert_eq!(refused.status, 403, "{fields:?}");
    }
    // The token of another session.
    let token = Browser::with(&platform, &platform.token)
        .await
        .get("/gateways")
        .await;
    let token = token.field("form_token");
    let refused = browser
        .send(Method::POST, "/logout", &[("form_token", &token)])
        .await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("no longer valid"), "{}", refused.text);
    let token = browser.get("/gateways").await.field("form_token");
    for site in ["cross-site", "same-site", "none"] {
        browser.site = site;
        let refused = browser
            .send(Method::POST, "/logout", &[("form_token", &token)])
            .await;
        assert_eq!(refused.status, 403, "{site}");
    }
    // Browsers without Fetch Metadata name the origin; text browsers and programs name neither, and
    // the form's token decides.
    let own = platform.url.as_str();
    for (origin, has_token, status) in [
        (Some("null"), true, 403),
        (Some("https://evil.example"), true, 403),
        (Some(own), false, 403),
        (Some(own), true, 303),
        (None, false, 403),
        (None, true, 303),
    ] {
        let mut browser = Browser::with(&platform, &platform.token).await;
        let token = browser.get("/gateways").await.field("form_token");
        let cookies = browser.cookies.iter().map(|(n, v)| format!("{n}={v}"));
        let cookies: Vec<_> = cookies.collect();
        let mut request = browser
            .client
            .post(format!("{own}/logout"))
            .header("cookie", cookies.join("; "));
        if has_token {
            request = request.body(format!("form_token={token}"));
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{origin:?} {has_token}");
    }
    // No one is logged in as someone else by a foreign form.
    let mut stranger = Browser::new(&platform);
    let form = stranger.get("/login").await.field("form_token");
    stranger.cookies.clear();
    let fields = [("form_token", form.as_str()), ("token", &platform.token)];
    let refused = stranger.send(Method::POST, "/login", &fields).await;
    assert_eq!(refused.status, 403);
    assert_eq!(stranger.get("/gateways").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_restrict_what_browsers_do() {
    let (_dir, platform) = alone().await;
    let mut browser = Browser::with(&platform, &platform.token).await;
    for path in [
        "/gateways",
        "/login",
        "/",
        "/no-such-page",
        "/style.css",
        "/api/v2/gateways",
    ] {
        let answer = browser.get(path).await;
        let header = |name: &'static str| {
            let value = answer.headers.get(HeaderName::from_static(name));
            value
                .map_or("", |value| value.to_str().expect("text"))
                .to_owned()
        };
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(part), "{path}: {part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("strict-transport-security"), "", "{path}: HTTP");
        if path != "/style.css" {
            assert_eq!(header("cache-control"), "no-store", "{path}");
        }
        assert!(!answer.text.contains("style="), "{path}: an inline style");
    }
    let missing = browser.get("/no-such-page").await;
    assert_eq!(missing.status, 404);
    assert!(
        missing.text.starts_with("<!DOCTYPE html>"),
        "{}",
        missing.text
    );
    let missing = browser.get("/api/v1/no-such-path").await;
    assert!(
        missing.text.contains("\"statusCode\":404"),
        "{}",
        missing.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn login_attempts_are_limited() {
    let (_dir, platform) = alone().await;
    let mut browser = Browser::new(&platform);
    let token = browser.get("/login").await.field("form_token");
    let fields = [("form_token", token.as_str()), ("token", "guess")];
    // The bucket holds 60 and refills while this runs.
    for attempt in 0..200 {
        let answer = browser.send(Method::POST, "/login", &fields).await;
        if answer.status == 429 {
            assert!(attempt >= 60, "after {attempt} attempts");
            assert!(answer.headers.contains_key(RETRY_AFTER));
            assert!(answer.text.contains("Too many attempts"), "{}", answer.text);
            return;
        }
        assert_eq!(answer.status, 403);
    }
    panic!("no attempt was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_cannot_become_markup() {
    let (_dir, platform) = alone().await;
    let name = "<script>alert(1)</script>\"'&";
    let token = platform.token_with(name, &["operator"]).await;
    let mut browser = Browser::with(&platform, &token).await;
    let page = browser.get("/gateways").await;
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
    assert!(
        page.text.contains("&lt;script&gt;alert(1)"),
        "{}",
        page.text
    );
    let next = "/login?next=/%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    let page = Browser::new(&platform).get(next).await;
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_identity_is_out_at_once() {
    let (_dir, platform) = alone().await;
    let token = platform.token_with("olivia", &["operator"]).await;
    let mut browser = Browser::with(&platform, &token).await;
    let (_, identities) = platform.request(Method::GET, "identities", None).await;
    let id = identities[0]["id"].as_str().expect("an id");
    assert_eq!(browser.get("/gateways").await.status, 200);
    let (status, _) = platform
        .request(Method::DELETE, &format!("identities/{id}"), None)
        .await;
    assert_eq!(status, 200);
    assert_eq!(browser.get("/gateways").await.status, 303);
}
