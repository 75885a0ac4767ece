//! `aws-iam`, and enrollment with `aws`: a request to AWS that is signed as the machine's role. The
//! platform sends it on, and AWS tells it whose signature it is; the role's secret never leaves the
//! machine.
//!
//! The two differ in what they sign and in which headers they hand over, because the deployed
//! programs do.

mod credentials;
#[cfg(any(test, feature = "testing"))]
pub(super) mod fuzzing;
mod profile;
mod signature;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use super::token_lifetime::IssuedToken;
use super::{ApiError, Client, ask};
use crate::config::cloud::Cloud;
use crate::config::credential::ResourceId;
use crate::secret::Secret;
use crate::types::{AwsLogin, AwsProof, GatewayAwsLogin, Login, RelayAwsLogin, RoleToken};
use credentials::Role;
use signature::Request;

/// Which of the deployed programs' two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Of a machine identity: the content's type is sent beside the signature.
    Identity,
    /// Of a gateway or relay: it is signed too.
    Resource,
}

const METHOD: &str = "POST";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Logs a machine identity in.
pub(super) async fn log_in(
    client: &Client,
    identity_id: &str,
    cloud: &Cloud,
    organization: Option<&str>,
) -> Result<Login, ApiError> {
    let role = Role::find(cloud, client.proxies()).await?;
    let request = AwsLogin {
        proof: proof(&role, Form::Identity, OffsetDateTime::now_utc()),
        identity_id: identity_id.to_owned(),
        organization_slug: organization.map(str::to_owned),
    };
    ask(client, "/v1/auth/aws-auth/login", &request).await
}

/// Logs a gateway or relay in that is enrolled with its role.
pub(super) async fn enrolled(
    client: &Client,
    id: &ResourceId,
    cloud: &Cloud,
) -> Result<IssuedToken, ApiError> {
    let role = Role::find(cloud, client.proxies()).await?;
    let proof = proof(&role, Form::Resource, OffsetDateTime::now_utc());
    let method = "aws".to_owned();
    let answer: RoleToken = match id {
        ResourceId::Gateway(id) => {
            let request = GatewayAwsLogin {
                method,
                gateway_id: id.clone(),
                proof,
            };
            ask(client, "/v3/gateways/login", &request).await?
        }
        ResourceId::Relay(id) => {
            let request = RelayAwsLogin {
                method,
                relay_id: id.clone(),
                proof,
            };
            ask(client, "/v2/relays/login", &request).await?
        }
    };
    Ok(IssuedToken::lasting(answer.access_token))
}

/// The signed request, as it is handed over.
fn proof(role: &Role, form: Form, now: OffsetDateTime) -> AwsProof {
    let host = format!("sts.{}.amazonaws.com", role.region);
    let length = BODY.len().to_string();
    let mut signed = vec![("content-length", length.as_str()), ("host", host.as_str())];
    if form == Form::Resource {
        signed.push(("content-type", CONTENT_TYPE));
    }
    let request = Request {
        method: METHOD,
        path: "/",
        headers: &signed,
        body: BODY.as_bytes(),
    };
    let signature = request.sign(&role.credentials, &role.region, "sts", now);
    // Sorted, as the deployed programs have them.
    let mut headers: BTreeMap<&str, &str> = BTreeMap::from([
        ("Authorization", signature.authorization.expose()),
        ("Content-Type", CONTENT_TYPE),
        ("Host", &host),
        ("X-Amz-Date", &signature.date),
    ]);
    if form == Form::Identity {
        headers.insert("Content-Length", &length);
    }
    if let Some(session) = &role.credentials.session {
        headers.insert("X-Amz-Security-Token", session.expose());
    }
    let headers = serde_json::to_vec(&headers).unwrap_or_default();
    AwsProof {
        iam_http_request_method: METHOD.to_owned(),
        iam_request_body: STANDARD.encode(BODY),
        iam_request_headers: Secret::new(STANDARD.encode(headers)),
    }
}

#[cfg(test)]
mod tests {
    use super::{BODY, Form, Role, proof};
    use crate::login::aws::credentials::Credentials;
    use crate::secret::Secret;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use time::macros::datetime;

    /// What the deployed program's signer (aws-sdk-go-v2 1.27.2) makes of the same keys at the same
    /// moment.
    const DEPLOYED: [(Form, Option<&str>, &str); 4] = [
        (
            Form::Resource,
            None,
            r#"{"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/sts/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date, Signature=eb2fef51036d6efc1cdd36a2528b5ebe79afdba4fa47cd5432a1ca0c481a377d","Content-Type":"application/x-www-form-urlencoded; charset=utf-8","Host":"sts.eu-central-1.amazonaws.com","X-Amz-Date":"20261124T123456Z"}"#,
        ),
        (
            Form::Resource,
            Some("Fwo+/token=="),
            r#"{"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/sts/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token, Signature=1dbfcc2d414f1fc2281ed63eaad9aed11ea0f81ed5bb017cdeea019f5f0943eb","Content-Type":"application/x-www-form-urlencoded; charset=utf-8","Host":"sts.eu-central-1.amazonaws.com","X-Amz-Date":"20261124T123456Z","X-Amz-Security-Token":"Fwo+/token=="}"#,
        ),
        (
            Form::Identity,
            None,
            r#"{"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/sts/aws4_request, SignedHeaders=content-length;host;x-amz-date, Signature=1f22c224019d55bfbad3422bbb2c96c2095e8f250567aa7fbbc7f0190f8d8f25","Content-Length":"43","Content-Type":"application/x-www-form-urlencoded; charset=utf-8","Host":"sts.eu-central-1.amazonaws.com","X-Amz-Date":"20261124T123456Z"}"#,
        ),
        (
            Form::Identity,
            Some("Fwo+/token=="),
            r#"{"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/sts/aws4_request, SignedHeaders=content-length;host;x-amz-date;x-amz-security-token, Signature=441e47f778f42f3b0dbab1cc433672bc9f26226414c582a971237574bf1d68a1","Content-Length":"43","Content-Type":"application/x-www-form-urlencoded; charset=utf-8","Host":"sts.eu-central-1.amazonaws.com","X-Amz-Date":"20261124T123456Z","X-Amz-Security-Token":"Fwo+/token=="}"#,
        ),
    ];

    #[test]
    fn request_equals_the_deployed_programs() {
        for (form, session, headers) in DEPLOYED {
            let role = Role {
                credentials: Credentials {
                    key_id: "AKIDEXAMPLE".to_owned(),
                    secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                    session: session.map(Secret::new),
                },
                region: "eu-central-1".to_owned(),
            };
            let proof = proof(&role, form, datetime!(2026-11-24 12:34:56 UTC));
            let decoded = STANDARD.decode(proof.iam_request_headers.expose());
            let decoded = String::from_utf8(decoded.expect("base64")).expect("text");
            assert_eq!(decoded, headers, "{form:?}");
            assert_eq!(proof.iam_http_request_method, "POST");
            assert_eq!(proof.iam_request_body, STANDARD.encode(BODY));
        }
    }
}
