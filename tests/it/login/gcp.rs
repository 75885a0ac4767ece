//! The two ways of GCP. The token that authorizes us to the signing API is verified by OpenSSL.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use infisical_api::login::{CloudEndpoints, TokenSource};
use infisical_config::cloud::Cloud;
use infisical_config::credential::{LoginMethod, MachineEnrollment, MachineProof, ResourceId};
use infisical_runtime::error::{Class, Reason};
use serde_json::{Value, json};

use super::{
    Answer, Bench, IDENTITY, JWT, assert_hidden, failure, header, identity, jwt_login, no_one,
    token,
};

const ID_TOKEN: &str = "GET /computeMetadata/v1/instance/service-accounts/default/identity";
const EMAIL: &str = "gateway@project-1.iam.gserviceaccount.com";

fn id_token(host: &str) -> LoginMethod {
    LoginMethod::GcpIdToken {
        identity_id: identity(),
        cloud: Cloud::of(&[("GCE_METADATA_HOST", host)]),
    }
}

#[tokio::test]
async fn id_token_names_the_identity() {
    let bench = Bench::new().await;
    bench.logs_in("gcp-auth", "obtained");
    bench.stand_in.always(ID_TOKEN, Answer::raw(200, JWT));
    let host = bench.stand_in.address.to_string();
    assert_eq!(token(&bench.source(id_token(&host))).await, "obtained");
    let asked = bench.stand_in.requests(ID_TOKEN).pop().expect("asked");
    assert_eq!(asked.query, format!("audience={IDENTITY}&format=full"));
    assert_eq!(header(&asked, "metadata-flavor"), "Google");
    let login = bench.logins("gcp-auth").pop().expect("a login");
    assert_eq!(login.body, jwt_login(JWT));

    bench
        .stand_in
        .once(ID_TOKEN, Answer::raw(200, "<html>\n</html>"));
    let (text, _) = failure(&bench.source(id_token(&host))).await;
    assert_eq!(
        text,
        format!("the answer of the GCP metadata service at {host} cannot be used: it is no token")
    );
    let host = no_one();
    let (text, class) = failure(&bench.source(id_token(&host))).await;
    let expected = format!(
        "the GCP metadata service at {host} does not answer: connection refused; is this a GCP machine?"
    );
    assert_eq!(text, expected);
    assert_eq!(class, Class::Retry);
}

fn openssl(dir: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(arguments);
    command.output().expect("openssl starts")
}

/// A key file as GCP hands it out, and the key's public half beside it.
fn key_file(bench: &Bench) -> PathBuf {
    let dir = bench.dir.path();
    for arguments in [
        &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            "key.pem",
        ][..],
        &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"],
    ] {
        let output = openssl(dir, arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let key = std::fs::read_to_string(dir.join("key.pem")).expect("a key");
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    let file = json!({
        "type": "service_account", "project_id": "project-1", "private_key_id": "key-1",
        "private_key": key, "client_email": EMAIL, "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
    });
    bench.write("key.json", &file.to_string())
}

fn iam(key_path: &Path) -> LoginMethod {
    LoginMethod::GcpIam {
        identity_id: identity(),
        key_path: key_path.to_owned(),
    }
}

fn claims(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn iam_signature_is_verified_by_openssl() {
    let bench = Bench::new().await;
    bench.logs_in("gcp-auth", "obtained");
    let sign = format!("POST /v1/projects/-/serviceAccounts/{EMAIL}:signJwt");
    let signed = json!({"keyId": "google-1", "signedJwt": JWT});
    bench.stand_in.always(&sign, Answer::ok(&signed));
    let key_path = key_file(&bench);
    assert_eq!(token(&bench.source(iam(&key_path))).await, "obtained");
    let login = bench.logins("gcp-auth").pop().expect("a login");
    assert_eq!(login.body, jwt_login(JWT));

    let asked = bench.stand_in.requests(&sign).pop().expect("asked");
    let payload = format!(r#"{{"sub":"{EMAIL}","aud":"{IDENTITY}"}}"#);
    assert_eq!(asked.body, json!({"payload": payload}));
    let parts: Vec<&str> = asked.bearer.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("{} parts", parts.len());
    };
    let expected = json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"});
    assert_eq!(claims(head), expected);
    let body = claims(body);
    assert_eq!(body["iss"], EMAIL);
    assert_eq!(body["sub"], EMAIL);
    assert_eq!(
        body["scope"],
        "https://www.googleapis.com/auth/cloud-platform"
    );
    let (from, to) = (body["iat"].as_i64(), body["exp"].as_i64());
    assert_eq!(to.expect("a time") - from.expect("a time"), 3600);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_secs()).expect("small");
    assert!((now - from.expect("a time")).abs() < 300, "{from:?}");

    let (signed, _) = asked.bearer.rsplit_once('.').expect("parts");
    bench.write("signed", signed);
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    std::fs::write(bench.dir.path().join("signature"), signature).expect("written");
    let verify = [
        "dgst",
        "-sha256",
        "-verify",
        "public.pem",
        "-signature",
        "signature",
        "signed",
    ];
    let output = openssl(bench.dir.path(), &verify);
    assert!(output.status.success(), "{output:?}");
    bench.write("signed", &format!("{signed}x"));
    assert!(!openssl(bench.dir.path(), &verify).status.success());
}

#[tokio::test]
async fn invalid_key_file_is_named_without_content() {
    let bench = Bench::new().await;
    for (text, reason) in [
        (
            "hunter2",
            "it is not JSON with client_email and private_key",
        ),
        ("{}", "it is not JSON with client_email and private_key"),
        (
            r#"{"client_email":"a@b","private_key":"hunter2"}"#,
            "its private_key is no RSA key in PKCS#8 and PEM",
        ),
        (
            r#"{"client_email":"a/b?hunter2","private_key":"hunter2"}"#,
            "its client_email is no address",
        ),
    ] {
        let path = bench.write("bad.json", text);
        let (text, class) = failure(&bench.source(iam(&path))).await;
        let place = path.display();
        assert_eq!(
            text,
            format!("{place} does not hold the key of a GCP service account: {reason}")
        );
        assert_eq!(class, Class::Fatal(Reason::Configuration));
        assert_hidden(&text, &["hunter2"]);
    }
    let key_path = key_file(&bench);
    let sign = format!("POST /v1/projects/-/serviceAccounts/{EMAIL}:signJwt");
    let refusal = json!({"error": {"code": 403, "message": "Permission denied", "status": "PERMISSION_DENIED"}});
    bench
        .stand_in
        .once(&sign, Answer::raw(403, &refusal.to_string()));
    let (text, class) = failure(&bench.source(iam(&key_path))).await;
    assert!(
        text.contains("answered 403 Forbidden: Permission denied; is the IAM"),
        "{text}"
    );
    assert_eq!(class, Class::Fatal(Reason::Permission));
}

/// A gateway that is enrolled as its GCP machine may have its token signed without a key file.
#[tokio::test]
async fn machine_signs_with_its_metadata_account() {
    let bench = Bench::new().await;
    let account = "GET /computeMetadata/v1/instance/service-accounts/default";
    let stand_in = &bench.stand_in;
    stand_in.always(&format!("{account}/email"), Answer::raw(200, EMAIL));
    let access =
        json!({"access_token": "machine-token", "expires_in": 3599, "token_type": "Bearer"});
    stand_in.always(&format!("{account}/token"), Answer::ok(&access));
    let sign = format!("POST /v1/projects/-/serviceAccounts/{EMAIL}:signJwt");
    stand_in.always(&sign, Answer::ok(&json!({"signedJwt": JWT})));
    let login = "POST /api/v3/gateways/login";
    stand_in.always(login, Answer::ok(&json!({"accessToken": "obtained"})));
    let enrollment = MachineEnrollment {
        id: ResourceId::Gateway(IDENTITY.parse().expect("an id")),
        proof: MachineProof::GcpIam {
            key_path: None,
            cloud: Cloud::of(&[("GCE_METADATA_HOST", &stand_in.address.to_string())]),
        },
    };
    let endpoints = CloudEndpoints {
        gcp_iam: stand_in.url(),
        ..CloudEndpoints::default()
    };
    let source = TokenSource::machine_at(bench.client(), enrollment, endpoints);
    assert_eq!(token(&source).await, "obtained");
    let signed = stand_in.requests(&sign).pop().expect("asked");
    assert_eq!(signed.bearer, "machine-token");
    let payload = format!(r#"{{"sub":"{EMAIL}","aud":"{IDENTITY}"}}"#);
    assert_eq!(signed.body, json!({"payload": payload}));
    let login = stand_in.requests(login).pop().expect("a login");
    let expected = json!({"method": "gcp", "gatewayId": IDENTITY, "jwt": JWT});
    assert_eq!(login.body, expected);
    // A proxy's page is not Google's verdict.
    stand_in.always(&sign, Answer::raw(403, "<html>Blocked</html>"));
    let refused = Answer::error(401, "revoked", "req-401");
    stand_in.once("GET /api/v1/relays", refused);
    let issued = source.token().await.expect("held");
    let error = bench.client().relays(&issued).await.expect_err("refused");
    source.class(&error, Some(&issued)).await;
    assert_eq!(failure(&source).await.1, Class::Retry);
}
