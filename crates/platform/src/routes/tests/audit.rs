//! What is on record of each request, over a socket: who, what, from where, and no secret.

use reqwest::Method;
use serde_json::{Value, json};

use super::platform::{Platform, text};
use crate::api::types::{AuditEntry, AuditVerification, Login};

async fn entries(platform: &Platform) -> Vec<AuditEntry> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.number);
        let path = format!("/v1/embedded/audit/0/{after}");
        let page: Vec<AuditEntry> = platform.get(&path, &platform.admin).await.ok();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

/// Kind, action, type of the actor, subject and details; without the number of an id.
fn brief(entry: &AuditEntry) -> Value {
    assert_eq!(entry.source.as_deref(), Some("127.0.0.1"), "{entry:?}");
    assert_eq!(entry.class.is_some(), entry.reason.is_some(), "{entry:?}");
    let subject = entry.subject.as_ref();
    json!([
        entry.kind,
        entry.action,
        entry.actor.kind,
        subject.map(|subject| &subject.kind),
        subject.and_then(|subject| subject.name.as_ref()),
        entry.details,
        entry.class,
    ])
}

/// What an administrator and an operator can do leaves one entry each, in the name of the one who
/// did it.
#[tokio::test]
async fn each_administrative_action_is_on_record() {
    let platform = Platform::start().await;
    let body = json!({"name": "root", "method": "token", "roles": ["admin"]});
    let created = platform.create("identities", body).await;
    let (admin_id, admin) = (text(&created, "identityId"), text(&created, "accessToken"));
    let body = json!({"name": "ops", "method": "token", "roles": ["operator"], "groups": ["dba"]});
    let created = platform.create("identities", body).await;
    let (operator_id, operator) = (text(&created, "identityId"), text(&created, "accessToken"));

    let embedded = async |method: Method, path: &str, token: &str, body: Value| -> Value {
        let path = format!("/v1/embedded/{path}");
        let body = Some(body.to_string());
        platform.send(method, &path, token, body).await.ok()
    };
    let (post, delete) = (Method::POST, Method::DELETE);
    let groups = json!({"identity": operator_id, "groups": ["dba", "dev"]});
    embedded(post.clone(), "identity-groups", &admin, groups).await;
    let rule = json!({"who": "ops", "gateway": "prod", "targets": ["db:5432", "10.0.0.0/16"]});
    // The second time nothing changes.
    for _ in 0..2 {
        embedded(post.clone(), "access-rules", &admin, rule.clone()).await;
    }
    embedded(delete.clone(), "access-rules/2", &admin, json!({})).await;
    let token = json!({"kind": "gateway", "name": "prod"});
    let token = embedded(post.clone(), "enrollment-tokens", &operator, token).await;
    let gateway_token = text(&token, "token");
    let token = json!({"kind": "relay", "name": "eu-1", "host": "192.0.2.1"});
    let token = embedded(post.clone(), "enrollment-tokens", &operator, token).await;
    let relay_token = text(&token, "token");
    let other = json!({"kind": "gateway", "name": "lab"});
    embedded(post.clone(), "enrollment-tokens", &operator, other).await;
    let path = "enrollment-tokens/gateway/lab";
    embedded(delete.clone(), path, &operator, json!({})).await;
    let enroll = json!({"token": gateway_token});
    let path = "/v3/gateways/token-auth/enroll";
    let _: Value = platform.post(path, "", enroll.clone()).await.ok();
    platform.post(path, "", enroll).await.refused(401);
    let login = json!({"method": "token", "token": relay_token});
    let _: Value = platform
        .post("/v2/relays/login", "", login.clone())
        .await
        .ok();
    platform
        .post("/v2/relays/login", "", login)
        .await
        .refused(401);
    embedded(delete.clone(), "gateways/prod", &operator, json!({})).await;
    embedded(delete.clone(), "relays/eu-1", &operator, json!({})).await;
    let secret = embedded(Method::GET, "relay-auth-secret", &admin, json!({})).await;
    let secret = text(&secret, "relayAuthSecret");
    let path = format!("identities/{operator_id}");
    embedded(delete, &path, &admin, json!({})).await;

    let found = entries(&platform).await;
    let rule = |target: &str| {
        format!("identity ops ({operator_id}) may reach {target} through gateway prod")
    };
    let admin_kind = "administration";
    let one = |actor: &str, action: &str, kind: &str, name: Value, details: Value| {
        json!([admin_kind, action, actor, kind, name, details, null])
    };
    let by_token = "administrator";
    let refused = |kind: &str| {
        json!([
            "enrollment",
            "enroll",
            "unauthenticated",
            kind,
            null,
            null,
            "Unauthorized"
        ])
    };
    let expected = [
        one(
            by_token,
            "create-identity",
            "identity",
            json!("root"),
            json!("roles admin"),
        ),
        one(
            by_token,
            "create-identity",
            "identity",
            json!("ops"),
            json!("roles operator; groups dba"),
        ),
        one(
            "identity",
            "set-groups",
            "identity",
            json!("ops"),
            json!("groups dba, dev"),
        ),
        one(
            "identity",
            "add-access-rule",
            "access-rule",
            json!(null),
            json!(rule("db:5432")),
        ),
        one(
            "identity",
            "add-access-rule",
            "access-rule",
            json!(null),
            json!(rule("10.0.0.0/16")),
        ),
        one(
            "identity",
            "remove-access-rule",
            "access-rule",
            json!(null),
            json!(rule("10.0.0.0/16")),
        ),
        one(
            "identity",
            "create-enrollment-token",
            "gateway",
            json!("prod"),
            json!(null),
        ),
        one(
            "identity",
            "create-enrollment-token",
            "relay",
            json!("eu-1"),
            json!("host 192.0.2.1"),
        ),
        one(
            "identity",
            "create-enrollment-token",
            "gateway",
            json!("lab"),
            json!(null),
        ),
        one(
            "identity",
            "revoke-enrollment-tokens",
            "gateway",
            json!("lab"),
            json!("tokens revoked: 1"),
        ),
        json!([
            "enrollment",
            "enroll",
            "gateway",
            "gateway",
            "prod",
            null,
            null
        ]),
        refused("gateway"),
        json!([
            "enrollment",
            "enroll",
            "relay",
            "relay",
            "eu-1",
            "host 192.0.2.1",
            null
        ]),
        refused("relay"),
        one(
            "identity",
            "delete-gateway",
            "gateway",
            json!("prod"),
            json!(null),
        ),
        one(
            "identity",
            "delete-relay",
            "relay",
            json!("eu-1"),
            json!("host 192.0.2.1"),
        ),
        one(
            "identity",
            "read-relay-auth-secret",
            "relay-auth-secret",
            json!(null),
            json!(null),
        ),
        one(
            "identity",
            "delete-identity",
            "identity",
            json!("ops"),
            json!("roles operator; groups dba, dev"),
        ),
    ];
    let all: Vec<Value> = found.iter().map(brief).collect();
    assert_eq!(all, expected);
    for (entry, name, id) in [
        (&found[2], "root", &admin_id),
        (&found[6], "ops", &operator_id),
        (&found[17], "root", &admin_id),
    ] {
        assert_eq!(entry.actor.name.as_deref(), Some(name), "{entry:?}");
        assert_eq!(entry.actor.id.as_ref(), Some(id), "{entry:?}");
    }
    let shown = format!("{found:?}");
    for secret in [&admin, &operator, &gateway_token, &relay_token, &secret] {
        assert!(!shown.contains(secret.as_str()));
    }
    let chain = platform
        .get("/v1/embedded/audit-chain/3", &platform.admin)
        .await;
    let chain: AuditVerification = chain.ok();
    assert_eq!(chain.entries, u64::try_from(found.len()).expect("few"));
    assert!(chain.broken.is_none(), "{chain:?}");
    assert_eq!(chain.asked.as_ref(), Some(&found[2].hash));
    platform.stop().await;
}

#[tokio::test]
async fn logins_are_on_record_without_secrets() {
    let platform = Platform::start().await;
    let body = json!({"name": "ci", "method": "universal-auth"});
    let created = platform.create("identities", body).await;
    let (id, secret) = (text(&created, "clientId"), text(&created, "clientSecret"));
    let path = "/v1/auth/universal-auth/login";
    let login = async |id: &str, secret: &str| {
        let body = json!({"clientId": id, "clientSecret": secret});
        platform.post(path, "", body).await
    };
    let issued: Login = login(&id, &secret).await.ok();
    login(&id, "wrong-secret").await.refused(401);
    login("unknown-client", &secret).await.refused(401);
    let found = entries(&platform).await;
    let expected = json!([
        ["login", "log-in", "identity", "identity", "ci", null, null],
        [
            "login",
            "log-in",
            "unauthenticated",
            "identity",
            "ci",
            null,
            "Unauthorized"
        ],
        [
            "login",
            "log-in",
            "unauthenticated",
            null,
            null,
            null,
            "Unauthorized"
        ],
    ]);
    let all: Vec<Value> = found.iter().skip(1).map(brief).collect();
    assert_eq!(Value::Array(all), expected);
    let shown = format!("{found:?}");
    let token = issued.access_token.expose();
    for secret in [token, &secret, "wrong-secret", "unknown-client"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    platform.stop().await;
}

/// Who has no token cannot push out what others did; the next entry counts what is not listed.
#[tokio::test]
async fn flood_of_refused_logins_is_counted() {
    let platform = Platform::start().await;
    let login = json!({"clientId": "x", "clientSecret": "y"});
    let path = "/v1/auth/universal-auth/login";
    let enroll = json!({"token": "x"});
    let mut refused = 0;
    for _ in 0..50 {
        for (path, body) in [(path, &login), ("/v3/gateways/token-auth/enroll", &enroll)] {
            let answer = platform.post(path, "", body.clone()).await;
            // Of more attempts than an address has, nothing is known but their number.
            refused += u64::from(answer.status == 401);
        }
    }
    let body = json!({"targetHost": "db", "targetPort": 1});
    let session = "/v1/embedded/gateways/unknown/sessions";
    platform
        .post(session, &platform.admin, body)
        .await
        .refused(404);
    let found = entries(&platform).await;
    let left_out: u64 = found.iter().map(|entry| entry.left_out).sum();
    let listed = u64::try_from(found.len()).expect("few") - 1;
    assert_eq!(listed + left_out, refused);
    platform.stop().await;
}
