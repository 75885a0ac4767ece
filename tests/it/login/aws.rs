//! AWS: each place where a role's keys may be, and the signature, which AWS's own library makes
//! again.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use infisical_config::cloud::Cloud;
use infisical_config::credential::LoginMethod;
use infisical_runtime::error::{Class, Reason};
use serde_json::{Map, Value, json};

use super::{
    Answer, Bench, IDENTITY, JWT, assert_hidden, failure, header, identity, no_one, token,
};
use crate::support::fake_platform::Request;
use crate::support::python::with_botocore;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SESSION: &str = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ==";

pub(super) const METADATA_TOKEN: &str = "PUT /latest/api/token";
pub(super) const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/";
pub(super) const KEYS: &str = "GET /latest/meta-data/iam/security-credentials/edge-role";
pub(super) const DOCUMENT: &str = "GET /latest/dynamic/instance-identity/document";

/// What a service of AWS answers that has a role's keys.
pub(super) fn keys() -> Value {
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": SESSION,
        "Expiration": "2036-01-01T00:00:00Z",
    })
}

/// What a login handed over, decoded.
pub(super) struct Proof {
    method: String,
    body: String,
    pub(super) headers: Map<String, Value>,
}

impl Proof {
    pub(super) fn of(login: &Request) -> Self {
        let decode = |key: &str| {
            let text = login.body[key].as_str().expect(key);
            String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text")
        };
        Self {
            method: login.body["iamHttpRequestMethod"]
                .as_str()
                .expect("a method")
                .to_owned(),
            body: decode("iamRequestBody"),
            headers: serde_json::from_str(&decode("iamRequestHeaders")).expect("an object"),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.headers.keys().map(String::as_str).collect()
    }

    fn authorization(&self) -> &str {
        self.headers["Authorization"].as_str().expect("text")
    }

    fn signature(&self) -> &str {
        let (_, signature) = self.authorization().rsplit_once("Signature=").expect("one");
        signature
    }

    /// Asserts that AWS's own library signs it in the same way, where that can be had.
    pub(super) fn assert_signed(&self, bench_dir: &std::path::Path, session: Option<&str>) {
        let Some(mut python) = with_botocore(bench_dir) else {
            return;
        };
        let given = json!({
            "method": self.method, "body": self.body, "headers": self.headers,
            "key": KEY, "secret": SECRET, "session": session,
        });
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/login/botocore_signs.py"
        );
        let mut child = python
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut input = child.stdin.take().expect("a pipe");
        input
            .write_all(given.to_string().as_bytes())
            .expect("written");
        drop(input);
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{output:?}");
        let signature = String::from_utf8(output.stdout).expect("text");
        assert_eq!(self.signature(), signature.trim());
    }
}

fn aws(variables: &[(&str, &str)]) -> LoginMethod {
    LoginMethod::AwsIam {
        identity_id: identity(),
        cloud: Cloud::of(variables),
    }
}

/// Logs in with these variables and gives what was handed over.
async fn handed_over(bench: &Bench, variables: &[(&str, &str)]) -> Proof {
    bench.logs_in("aws-auth", "obtained");
    assert_eq!(token(&bench.source(aws(variables))).await, "obtained");
    let login = bench.logins("aws-auth").pop().expect("a login");
    assert_eq!(login.body["identityId"], IDENTITY);
    let fields: Vec<&String> = login.body.as_object().expect("an object").keys().collect();
    let expected = [
        "iamHttpRequestMethod",
        "iamRequestBody",
        "iamRequestHeaders",
        "identityId",
    ];
    assert_eq!(fields, expected);
    Proof::of(&login)
}

#[tokio::test]
async fn environment_keys_sign_like_awss_library() {
    let bench = Bench::new().await;
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "eu-central-1"),
    ];
    let proof = handed_over(&bench, &variables).await;
    assert_eq!(proof.method, "POST");
    assert_eq!(proof.body, "Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!(
        proof.names(),
        [
            "Authorization",
            "Content-Length",
            "Content-Type",
            "Host",
            "X-Amz-Date"
        ]
    );
    assert_eq!(proof.headers["Content-Length"], "43");
    assert_eq!(proof.headers["Host"], "sts.eu-central-1.amazonaws.com");
    assert!(proof.authorization().contains(
        "/eu-central-1/sts/aws4_request, SignedHeaders=content-length;host;x-amz-date, Signature="
    ));
    proof.assert_signed(bench.dir.path(), None);

    variables.push(("AWS_SESSION_TOKEN", SESSION));
    let proof = handed_over(&bench, &variables).await;
    assert_eq!(proof.headers["X-Amz-Security-Token"], SESSION);
    assert!(proof.authorization().contains(
        ", SignedHeaders=content-length;host;x-amz-date;x-amz-security-token, Signature="
    ));
    proof.assert_signed(bench.dir.path(), Some(SESSION));
}

#[tokio::test]
async fn machines_role_comes_from_metadata_service() {
    let bench = Bench::new().await;
    let answer = |what: &str, text: &str| bench.stand_in.always(what, Answer::raw(200, text));
    answer(METADATA_TOKEN, "metadata-token");
    answer(ROLES, "edge-role\n");
    answer(KEYS, &keys().to_string());
    answer(DOCUMENT, r#"{"region":"us-west-2","instanceId":"i-1"}"#);
    let url = bench.stand_in.url();
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let proof = handed_over(&bench, &variables).await;
    assert_eq!(proof.headers["Host"], "sts.us-west-2.amazonaws.com");
    assert_eq!(proof.headers["X-Amz-Security-Token"], SESSION);
    proof.assert_signed(bench.dir.path(), Some(SESSION));
    let asked = bench
        .stand_in
        .requests(METADATA_TOKEN)
        .pop()
        .expect("asked");
    assert_eq!(
        header(&asked, "x-aws-ec2-metadata-token-ttl-seconds"),
        "300"
    );
    for what in [ROLES, KEYS, DOCUMENT] {
        let asked = bench.stand_in.requests(what).pop().expect(what);
        assert_eq!(header(&asked, "x-aws-ec2-metadata-token"), "metadata-token");
    }

    // A region that is given is not asked for.
    let variables = [variables[0], ("AWS_DEFAULT_REGION", "eu-north-1")];
    let proof = handed_over(&bench, &variables).await;
    assert_eq!(proof.headers["Host"], "sts.eu-north-1.amazonaws.com");
    assert_eq!(bench.stand_in.requests(DOCUMENT).len(), 1);
}

#[tokio::test]
async fn containers_role_uses_the_current_token() {
    let bench = Bench::new().await;
    bench
        .stand_in
        .always("GET /v1/credentials", Answer::ok(&keys()));
    let url = format!("{}/v1/credentials", bench.stand_in.url());
    let file = bench.write("token", "first\n");
    let file = file.to_str().expect("text");
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
        ("AWS_REGION", "eu-central-1"),
    ];
    handed_over(&bench, &variables)
        .await
        .assert_signed(bench.dir.path(), Some(SESSION));
    bench.write("token", "second");
    handed_over(&bench, &variables).await;
    let without_file = [
        variables[0],
        variables[2],
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "third"),
    ];
    handed_over(&bench, &without_file).await;
    let asked = bench.stand_in.requests("GET /v1/credentials");
    let tokens: Vec<_> = asked.iter().map(|r| header(r, "authorization")).collect();
    assert_eq!(tokens, ["first", "second", "third"]);
}

#[tokio::test]
async fn pods_web_identity_becomes_keys() {
    let bench = Bench::new().await;
    let answer = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <SessionToken>{SESSION}</SessionToken><SecretAccessKey>{SECRET}</SecretAccessKey>\
         <Expiration>2036-01-01T00:00:00Z</Expiration><AccessKeyId>{KEY}</AccessKeyId></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    bench.stand_in.once("POST /", Answer::raw(200, &answer));
    let file = bench.write("token", JWT);
    let url = bench.stand_in.url();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().expect("text")),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/edge role"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_REGION", "eu-central-1"),
    ];
    let proof = handed_over(&bench, &variables).await;
    proof.assert_signed(bench.dir.path(), Some(SESSION));
    // The signed request goes to AWS all the same: it is the platform that sends it.
    assert_eq!(proof.headers["Host"], "sts.eu-central-1.amazonaws.com");
    let asked = bench.stand_in.requests("POST /").pop().expect("asked");
    assert_eq!(
        asked.text,
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fedge+role\
             &RoleSessionName=infisical&WebIdentityToken={JWT}"
        )
    );
    let refusal = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
    bench.stand_in.once("POST /", Answer::raw(403, refusal));
    let (text, class) = failure(&bench.source(aws(&variables))).await;
    assert!(text.contains("<Code>AccessDenied</Code>"), "{text}");
    assert!(
        text.contains("does the role trust this web identity?"),
        "{text}"
    );
    assert_eq!(class, Class::Fatal(Reason::Permission));
}

#[tokio::test]
async fn profile_files_give_keys_and_region() {
    let bench = Bench::new().await;
    std::fs::create_dir(bench.dir.path().join(".aws")).expect("a directory");
    bench.write(
        ".aws/credentials",
        &format!("[default]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n"),
    );
    bench.write(
        ".aws/config",
        "[default]\nregion=ap-south-1\n[profile other]\nrole_arn=arn:x\nregion=x-1\n",
    );
    let home = bench.dir.path().to_str().expect("text").to_owned();
    let home = ("HOME", home.as_str());
    let proof = handed_over(&bench, &[home]).await;
    assert_eq!(proof.headers["Host"], "sts.ap-south-1.amazonaws.com");
    proof.assert_signed(bench.dir.path(), None);
    let (text, class) = failure(&bench.source(aws(&[home, ("AWS_PROFILE", "other")]))).await;
    assert!(
        text.starts_with("the AWS profile other uses role_arn, "),
        "{text}"
    );
    assert_eq!(class, Class::Fatal(Reason::Configuration));
    let (text, _) = failure(&bench.source(aws(&[home, ("AWS_PROFILE", "none")]))).await;
    assert!(text.contains("there is no such profile"), "{text}");
}

#[tokio::test]
async fn machine_without_aws_role_is_reported() {
    let bench = Bench::new().await;
    let url = format!("http://{}", no_one());
    let nowhere = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let (text, class) = failure(&bench.source(aws(&nowhere))).await;
    assert!(
        text.starts_with("the AWS metadata service at 127."),
        "{text}"
    );
    assert!(
        text.contains("is this an AWS machine? If not, set AWS_REGION"),
        "{text}"
    );
    assert_eq!(class, Class::Retry);
    let disabled = [("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "x-1")];
    let (text, class) = failure(&bench.source(aws(&disabled))).await;
    assert!(text.starts_with("there are no AWS credentials: "), "{text}");
    assert_eq!(class, Class::Fatal(Reason::Configuration));

    bench.stand_in.always(METADATA_TOKEN, Answer::raw(200, "t"));
    bench.stand_in.always(ROLES, Answer::raw(404, ""));
    let url = bench.stand_in.url();
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_REGION", "x-1"),
    ];
    let (text, class) = failure(&bench.source(aws(&variables))).await;
    assert!(
        text.ends_with("answered 404 Not Found; does the machine have a role?"),
        "{text}"
    );
    assert_eq!(class, Class::Retry);
    bench.stand_in.always(ROLES, Answer::raw(200, "edge-role"));
    let half = json!({"Code": "Success", "AccessKeyId": KEY, "Other": "hunter2"});
    bench.stand_in.always(KEYS, Answer::ok(&half));
    let (text, _) = failure(&bench.source(aws(&variables))).await;
    assert!(text.ends_with("cannot be used: it holds no keys"), "{text}");
    assert_hidden(&text, &[KEY, "hunter2"]);
    let odd = [variables[0], ("AWS_REGION", "evil.example/")];
    let (text, class) = failure(&bench.source(aws(&odd))).await;
    assert!(text.contains("is no region"), "{text}");
    assert_eq!(class, Class::Fatal(Reason::Configuration));
    assert!(bench.logins("aws-auth").is_empty());
}
