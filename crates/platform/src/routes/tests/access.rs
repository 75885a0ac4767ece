//! What a client reaches, over a socket: with no rule, with rules of each kind, and when they change.

use reqwest::Method;
use serde_json::{Value, json};

use super::platform::{Answer, Platform, text};
use crate::api::session_reports::SESSION_REPORTS;
use crate::api::types::{GatewayCredentials, SessionCredentials, TARGET_ADDRESSES};
use crate::pki;
use crate::pki::extensions::Route;

/// A platform with the gateways `prod` and `lab`, and a client.
struct Lab {
    platform: Platform,
    client_id: String,
    client: String,
    /// The token of the gateway `prod`.
    gateway: String,
}

impl Lab {
    async fn start() -> Self {
        let platform = Platform::start().await;
        let (_, relay) = platform.identity("relay").await;
        let host = json!({"host": "192.0.2.1", "name": "eu-1"});
        let path = "/v1/relays/register-org-relay";
        let _: Value = platform.post(path, &relay, host).await.ok();
        let mut gateways = Vec::new();
        for name in ["lab", "prod"] {
            let (_, token) = platform.identity("gateway").await;
            let register = json!({"relayName": "eu-1", "name": name});
            let issued: GatewayCredentials =
                platform.post("/v2/gateways", &token, register).await.ok();
            let accepted = [TARGET_ADDRESSES, SESSION_REPORTS];
            assert_eq!(issued.accepted_capabilities, accepted);
            gateways.push(token);
        }
        let (client_id, client) = platform.identity("client").await;
        let gateway = gateways.pop().expect("two");
        Self {
            platform,
            client_id,
            client,
            gateway,
        }
    }

    async fn ask(&self, gateway: &str, target: &str) -> Answer {
        let (host, port) = target.rsplit_once(':').expect("a port");
        let port: u16 = port.parse().expect("a number");
        let body = json!({"targetHost": host, "targetPort": port});
        let path = format!("/v1/embedded/gateways/{gateway}/sessions");
        self.platform.post(&path, &self.client, body).await
    }

    async fn assert_granted(&self, gateway: &str, target: &str) -> Route {
        let session: SessionCredentials = self.ask(gateway, target).await.ok();
        let leaf = pki::parse_certificates("leaf", &session.gateway.client_certificate);
        let claims = pki::extensions::parse_claims(&leaf.expect("PEM")[0]).expect("claims");
        claims.route.expect("a route")
    }

    async fn assert_denied(&self, gateway: &str, target: &str) -> String {
        self.ask(gateway, target).await.refused(403)
    }

    async fn allow(&self, who: &str, gateway: &str, targets: &[&str]) -> Value {
        let body = json!({"who": who, "gateway": gateway, "targets": targets});
        self.platform.create("access-rules", body).await
    }

    async fn check(&self, target: &str) -> String {
        let (host, port) = target.rsplit_once(':').expect("a port");
        let port: u16 = port.parse().expect("a number");
        let body = json!({
            "who": self.client_id, "gateway": "prod", "targetHost": host, "targetPort": port
        });
        text(
            &self.platform.create("access-rules/check", body).await,
            "outcome",
        )
    }
}

#[tokio::test]
async fn client_without_a_rule_reaches_nothing() {
    let lab = Lab::start().await;
    for gateway in ["prod", "unknown"] {
        let said = lab.assert_denied(gateway, "db.internal:5432").await;
        assert!(said.contains("no access rule"), "{said}");
    }
    assert_eq!(lab.check("db.internal:5432").await, "denied");
    lab.platform.stop().await;
}

#[tokio::test]
async fn rules_allow_what_they_name() {
    let lab = Lab::start().await;
    let targets = [
        "db.internal:5432",
        "*.web.internal:80-90",
        "10.0.0.0/16:443",
    ];
    lab.allow(&lab.client_id, "prod", &targets).await;
    for target in [
        "db.internal:5432",
        "DB.Internal.:5432",
        "a.web.internal:85",
        "https://a.web.internal:85",
        "10.0.9.9:443",
        "::ffff:10.0.9.9:443",
    ] {
        let route = lab.assert_granted("prod", target).await;
        assert_eq!(route.target_addresses, [""; 0], "{target}");
        assert_eq!(lab.check(target).await, "allowed", "{target}");
        lab.assert_denied("lab", target).await;
    }
    for target in [
        "db.internal:5433",
        "web.internal:85",
        "a.web.internal:91",
        "10.1.0.1:443",
        "10.0.9.9:80",
        "2002:a00:909::1:443",
    ] {
        lab.assert_denied("prod", target).await;
        assert_eq!(lab.check(target).await, "denied", "{target}");
    }
    for target in [
        "evil.example/.web.internal:85",
        "evil.example#.web.internal:85",
        "evil.example@a.web.internal:85",
        "ftp://a.web.internal:85",
        "a.web.internal%00:85",
        // To a resolver all of it is a name.
        "10.0.9.9%evil.example:443",
        "::ffff:10.0.9.9%evil/example:443",
    ] {
        lab.ask("prod", target).await.refused(400);
    }
    lab.platform.stop().await;
}

#[tokio::test]
async fn metadata_needs_a_rule_of_its_own() {
    let lab = Lab::start().await;
    lab.allow(&lab.client_id, "*", &["0.0.0.0/0", "*:443"])
        .await;
    lab.assert_granted("prod", "192.0.2.7:80").await;
    lab.assert_denied("prod", "169.254.169.254:80").await;
    lab.allow(&lab.client_id, "prod", &["169.254.169.254:80"])
        .await;
    lab.assert_granted("prod", "169.254.169.254:80").await;
    lab.platform.stop().await;
}

/// Older programs and deployed ones would pass the rules over.
#[tokio::test]
async fn address_rules_need_a_judging_gateway() {
    let lab = Lab::start().await;
    let targets = ["10.0.0.0/16:443", "fd00::/8", "other.internal"];
    lab.allow(&lab.client_id, "prod", &targets).await;
    let said = lab.assert_denied("prod", "web.internal:443").await;
    assert!(said.contains("heartbeat"), "{said}");
    assert_eq!(lab.check("web.internal:443").await, "denied");
    let capabilities = json!({"capabilities": {TARGET_ADDRESSES: true}});
    // The relay is not there, so that it fails; what the gateway says of itself is noted.
    let path = "/v2/gateways/heartbeat";
    lab.platform
        .post(path, &lab.gateway, capabilities)
        .await
        .refused(400);
    let route = lab.assert_granted("prod", "web.internal:443").await;
    assert_eq!(route.target_addresses, ["10.0.0.0/16:443", "fd00::/8"]);
    assert_eq!(lab.check("web.internal:443").await, "gateway_decides");
    let route = lab.assert_granted("prod", "web.internal:80").await;
    assert_eq!(route.target_addresses, ["fd00::/8"]);
    let nothing = json!({});
    lab.platform
        .post(path, &lab.gateway, nothing)
        .await
        .refused(400);
    lab.assert_denied("prod", "web.internal:443").await;
    lab.platform.stop().await;
}

#[tokio::test]
async fn groups_give_their_rules_to_members() {
    let lab = Lab::start().await;
    lab.allow("group:dba", "prod", &["db.internal"]).await;
    lab.assert_denied("prod", "db.internal:5432").await;
    let set = async |groups: &[&str]| {
        let body = json!({"identity": lab.client_id, "groups": groups});
        lab.platform.create("identity-groups", body).await
    };
    set(&["ops", "dba"]).await;
    lab.assert_granted("prod", "db.internal:5432").await;
    let listed = lab
        .platform
        .get("/v1/embedded/identities", &lab.platform.admin);
    let listed: Vec<Value> = listed.await.ok();
    let of_client = listed
        .iter()
        .find(|row| row["id"] == lab.client_id.as_str());
    assert_eq!(of_client.expect("it")["groups"], json!(["dba", "ops"]));
    set(&[]).await;
    lab.assert_denied("prod", "db.internal:5432").await;
    lab.platform.stop().await;
}

#[tokio::test]
async fn removed_rule_allows_nothing_more() {
    let lab = Lab::start().await;
    let added = lab.allow(&lab.client_id, "prod", &["db.internal"]).await;
    let again = lab.allow(&lab.client_id, "prod", &["db.internal"]).await;
    assert_eq!(added, again, "the same rule");
    let number = added[0]["number"].as_i64().expect("a number");
    lab.assert_granted("prod", "db.internal:5432").await;
    let path = format!("/v1/embedded/access-rules/{number}");
    let remove = || {
        lab.platform
            .send(Method::DELETE, &path, &lab.platform.admin, None)
    };
    let _: Value = remove().await.ok();
    lab.assert_denied("prod", "db.internal:5432").await;
    remove().await.refused(404);
    // The rules of a deleted identity go with it.
    lab.allow(&lab.client_id, "prod", &["db.internal"]).await;
    let path = format!("/v1/embedded/identities/{}", lab.client_id);
    let delete = lab
        .platform
        .send(Method::DELETE, &path, &lab.platform.admin, None);
    let _: Value = delete.await.ok();
    let rules = lab
        .platform
        .get("/v1/embedded/access-rules", &lab.platform.admin);
    assert_eq!(rules.await.body, json!([]));
    lab.platform.stop().await;
}

#[tokio::test]
async fn wrong_rules_are_refused_with_reasons() {
    let lab = Lab::start().await;
    let (_, other) = lab.platform.identity("client").await;
    let admin = &lab.platform.admin;
    for (body, status, reason) in [
        (
            json!({"who": "no-such-identity", "gateway": "*", "targets": ["*"]}),
            404,
            "no identity",
        ),
        // Both clients are called so.
        (
            json!({"who": "someone", "gateway": "*", "targets": ["*"]}),
            400,
            "several",
        ),
        (
            json!({"who": "group:a b", "gateway": "*", "targets": ["*"]}),
            400,
            "group",
        ),
        (
            json!({"who": "group:a", "gateway": "", "targets": ["*"]}),
            400,
            "name",
        ),
        (
            json!({"who": "group:a", "gateway": "*", "targets": []}),
            400,
            "targets",
        ),
        (
            json!({"who": "group:a", "gateway": "*", "targets": ["10.0.0.1/16"]}),
            400,
            "10.0.0.0/16",
        ),
    ] {
        let answer = lab
            .platform
            .post("/v1/embedded/access-rules", admin, body)
            .await;
        let said = answer.refused(status);
        assert!(said.contains(reason), "{said}");
    }
    let rules = lab.platform.get("/v1/embedded/access-rules", admin);
    assert_eq!(rules.await.body, json!([]));
    drop(other);
    lab.platform.stop().await;
}
