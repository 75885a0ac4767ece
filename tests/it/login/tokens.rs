//! Tokens that others issue, in files or at hand; and what becomes of the token that was obtained.

use std::path::Path;

use infisical_config::credential::{Jwt, LoginMethod};
use infisical_runtime::error::{Class, Reason};
use infisical_runtime::secret::Secret;
use serde_json::json;

use super::{
    Answer, Bench, JWT, absent, assert_hidden, failure, header, identity, jwt_login, login, no_one,
    token,
};
use crate::support::eventually;

const RENEW: &str = "POST /api/v1/auth/token/renew";

fn pod(path: &Path) -> LoginMethod {
    LoginMethod::Kubernetes {
        identity_id: identity(),
        token_path: path.to_owned(),
    }
}

#[tokio::test]
async fn kubernetes_token_is_read_at_each_login() {
    let bench = Bench::new().await;
    bench.logs_in("kubernetes-auth", "first");
    let path = bench.write("token", &format!("{JWT}\n"));
    let source = bench.source_of(pod(&path), Some("branch"));
    assert_eq!(token(&source).await, "first");
    assert_eq!(token(&source).await, "first");
    // Kubernetes replaced the file, and the platform refuses the access token: the next login shows
    // the new one.
    bench.write("token", "the.second.one");
    bench.logs_in("kubernetes-auth", "second");
    let refused = bench.refuse(&source, &Secret::new("first")).await;
    assert_eq!(refused, Class::Reauthenticate);
    assert_eq!(token(&source).await, "second");
    let logins = bench.logins("kubernetes-auth");
    let bodies: Vec<_> = logins.iter().map(|login| login.body.clone()).collect();
    let mut expected = [jwt_login(JWT), jwt_login("the.second.one")];
    for body in &mut expected {
        body["organizationSlug"] = "branch".into();
    }
    assert_eq!(bodies, expected);
    assert_eq!(logins[0].bearer, "", "a login carries no token");
}

#[tokio::test]
async fn missing_login_input_is_named() {
    let bench = Bench::new().await;
    let path = absent(bench.dir.path());
    let source = bench.source(pod(&path));
    let (text, class) = failure(&source).await;
    let expected = format!(
        "cannot read the pod's service account token from {} (set by --service-account-token-path \
         or INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH): ",
        path.display()
    );
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(class, Class::Fatal(Reason::Unavailable));
    // It is there later, and nothing has to be started again.
    bench.write("absent", JWT);
    bench.logs_in("kubernetes-auth", "late");
    assert_eq!(token(&source).await, "late");

    for (bad, part) in [
        ("", "the value is empty"),
        ("hunter2 hunter2", "the value holds white space"),
        ("hunter2\nhunter2\n", "the value has several lines"),
        ("Bearer hunter2.hunter2.hunter2", "begins with \"Bearer\""),
        ("hunter2", "not a JSON web token"),
    ] {
        let path = bench.write("bad", bad);
        let (text, class) = failure(&bench.source(pod(&path))).await;
        let named = format!("{} does not hold the pod's", path.display());
        assert!(text.starts_with(&named) && text.contains(part), "{text}");
        assert_eq!(class, Class::Fatal(Reason::Configuration));
        assert_hidden(&text, &["hunter2"]);
    }
    let huge = bench.write("huge", &"x".repeat(300 << 10));
    let (text, _) = failure(&bench.source(pod(&huge))).await;
    assert!(text.ends_with("it is too long"), "{text}");
    let (text, _) = failure(&bench.source(pod(bench.dir.path()))).await;
    assert!(text.ends_with("it is not a regular file"), "{text}");
}

#[tokio::test]
async fn oidc_and_jwt_use_given_or_stored() {
    for path in ["oidc-auth", "jwt-auth"] {
        let bench = Bench::new().await;
        bench.logs_in(path, "obtained");
        let file = bench.write("jwt", "from.the.file\n");
        for (jwt, shown) in [
            (Jwt::Given(Secret::new(JWT)), JWT),
            (Jwt::File(file), "from.the.file"),
        ] {
            let identity_id = identity();
            let method = match path {
                "oidc-auth" => LoginMethod::OidcAuth { identity_id, jwt },
                _ => LoginMethod::JwtAuth { identity_id, jwt },
            };
            assert_eq!(token(&bench.source(method)).await, "obtained");
            let last = bench.logins(path).pop().expect("a login");
            assert_eq!(last.body, jwt_login(shown));
        }
    }
}

#[tokio::test]
async fn universal_auth_shows_id_and_secret() {
    let bench = Bench::new().await;
    bench.logs_in("universal-auth", "obtained");
    let method = LoginMethod::UniversalAuth {
        client_id: "the-client".to_owned(),
        client_secret: Secret::new("the-secret"),
    };
    for (organization, body) in [
        (
            None,
            json!({"clientId": "the-client", "clientSecret": "the-secret"}),
        ),
        (
            Some("branch"),
            json!({"clientId": "the-client", "clientSecret": "the-secret", "organizationSlug": "branch"}),
        ),
    ] {
        let source = bench.source_of(method.clone(), organization);
        assert_eq!(token(&source).await, "obtained");
        let last = bench.logins("universal-auth").pop().expect("a login");
        assert_eq!(last.body, body);
    }
}

const AZURE: &str = "GET /metadata/identity/oauth2/token";

fn azure() -> LoginMethod {
    LoginMethod::Azure {
        identity_id: identity(),
    }
}

#[tokio::test]
async fn azure_requests_the_management_apis_token() {
    let bench = Bench::new().await;
    bench.logs_in("azure-auth", "obtained");
    let answer = json!({
        "access_token": JWT, "client_id": "x", "expires_in": "86399", "resource": "https://management.azure.com/",
        "token_type": "Bearer",
    });
    bench.stand_in.always(AZURE, Answer::ok(&answer));
    assert_eq!(token(&bench.source(azure())).await, "obtained");
    let asked = bench.stand_in.requests(AZURE).pop().expect("asked");
    assert_eq!(
        asked.query,
        "api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com/"
    );
    assert_eq!(header(&asked, "metadata"), "true");
    assert_eq!(header(&asked, "accept"), "application/json");
    let login = bench.logins("azure-auth").pop().expect("a login");
    assert_eq!(login.body, jwt_login(JWT));
}

#[tokio::test]
async fn bad_metadata_service_is_named() {
    let bench = Bench::new().await;
    let at = bench.stand_in.address;
    let hunter = r#"{"access_token":{"hunter2":1}}"#;
    let huge = format!("{{\"access_token\":\"{}\"}}", "x".repeat(300 << 10));
    let elsewhere = Answer::raw(302, "").header(
        "location",
        format!(
            "{}{}",
            bench.stand_in.url(),
            AZURE.trim_start_matches("GET ")
        ),
    );
    for (answer, end, class) in [
        (
            Answer::raw(
                400,
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            ),
            "answered 400 Bad Request: Identity not found; does the machine have a managed identity?",
            Class::Fatal(Reason::Permission),
        ),
        (
            Answer::raw(404, ""),
            "answered 404 Not Found; does the machine have a managed identity?",
            Class::Retry,
        ),
        (
            Answer::raw(503, "later"),
            "answered 503 Service Unavailable: later; does the machine have a managed identity?",
            Class::Retry,
        ),
        (
            elsewhere,
            "answered 302 Found; does the machine have a managed identity?",
            Class::Retry,
        ),
    ] {
        bench.stand_in.once(AZURE, answer);
        let (text, found) = failure(&bench.source(azure())).await;
        assert_eq!(text, format!("the Azure metadata service at {at} {end}"));
        assert_eq!(found, class, "{text}");
    }
    for (body, reason) in [
        (hunter, "it holds no access_token"),
        (r#"{"access_token":""}"#, "it holds no access_token"),
        ("", "it holds no access_token"),
        (&huge, "it is too long"),
    ] {
        bench.stand_in.once(AZURE, Answer::raw(200, body));
        let (text, class) = failure(&bench.source(azure())).await;
        let expected =
            format!("the answer of the Azure metadata service at {at} cannot be used: {reason}");
        assert_eq!(text, expected);
        assert_eq!(class, Class::Retry);
    }
    let endpoints = infisical_api::login::CloudEndpoints {
        azure: format!("http://{}", no_one()),
        ..Default::default()
    };
    let at = endpoints.azure.trim_start_matches("http://").to_owned();
    let credential = infisical_config::credential::IdentityCredential::Login(
        infisical_config::credential::IdentityLogin {
            method: azure(),
            organization: None,
        },
    );
    let source = infisical_api::login::TokenSource::at(bench.client(), credential, endpoints);
    let (text, class) = failure(&source).await;
    let expected = format!(
        "the Azure metadata service at {at} does not answer: connection refused; is this an Azure machine?"
    );
    assert_eq!(text, expected);
    assert_eq!(class, Class::Retry);
    assert!(bench.logins("azure-auth").is_empty());
}

/// A token that lasts a second, renewed or obtained repeatedly until `done`.
async fn use_up(bench: &Bench, at_most: u64, done: impl Fn() -> bool) {
    let what = "POST /api/v1/auth/kubernetes-auth/login";
    bench.stand_in.always(what, login("obtained", 1, at_most));
    bench.stand_in.always(RENEW, login("renewed", 1, at_most));
    let path = bench.write("token", JWT);
    let source = bench.source(pod(&path));
    eventually("the token is replaced often enough", || async {
        token(&source).await;
        if done() { Ok(()) } else { Err("not yet") }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let bench = Bench::new().await;
    use_up(&bench, 3600, || bench.stand_in.requests(RENEW).len() >= 2).await;
    let renewals = bench.stand_in.requests(RENEW);
    assert_eq!(renewals[0].body, json!({"accessToken": "obtained"}));
}

#[tokio::test]
async fn unrenewable_token_is_issued_again() {
    let bench = Bench::new().await;
    use_up(&bench, 1, || bench.logins("kubernetes-auth").len() >= 3).await;
    assert!(bench.stand_in.requests(RENEW).is_empty());
}

#[tokio::test]
async fn refused_login_is_kept_for_retry() {
    let bench = Bench::new().await;
    let path = bench.write("token", JWT);
    let source = bench.source(pod(&path));
    let what = "POST /api/v1/auth/kubernetes-auth/login";
    for _ in 0..3 {
        let answer = Answer::error(401, "Access denied", "req-401");
        bench.stand_in.once(what, answer);
        let (text, class) = failure(&source).await;
        let url = format!("{}/api/v1/auth/kubernetes-auth/login", bench.stand_in.url());
        let expected = format!(
            "logging in was refused with 401 Unauthorized: Access denied (request req-401, {url})"
        );
        assert_eq!(text, expected);
        assert_eq!(class, Class::Reenroll);
    }
    bench.logs_in("kubernetes-auth", "obtained");
    assert_eq!(token(&source).await, "obtained");
}

#[tokio::test]
async fn older_tokens_refusal_keeps_the_newer_one() {
    let bench = Bench::new().await;
    bench.logs_in("kubernetes-auth", "newest");
    let path = bench.write("token", JWT);
    let source = bench.source(pod(&path));
    assert_eq!(token(&source).await, "newest");
    bench.refuse(&source, &Secret::new("older")).await;
    assert_eq!(token(&source).await, "newest");
    assert_eq!(bench.logins("kubernetes-auth").len(), 1);
}
