//! Every endpoint over a socket: what it gives to whom, and each refusal.

mod access;
mod audit;
mod platform;
mod probes;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::rfc3339;
use platform::{Platform, text};

use crate::api::types::{
    GatewayCredentials, Login, Relay, RelayCredentials, ServerPki, SessionCredentials,
};
use crate::clock::Clock;
use crate::names::{GatewayId, TLS_PORT};
use crate::pki;
use crate::scope::Scope;

#[tokio::test]
async fn registered_gateway_serves_a_clients_session() {
    let platform = Platform::start().await;
    let (relay_identity, relay) = platform.identity("member").await;
    let (_, gateway) = platform.identity("member").await;
    let host = json!({"host": "relay.example.com", "name": "eu-1"});
    let issued = platform.post("/v1/relays/register-org-relay", &relay, host);
    let issued: RelayCredentials = issued.await.ok();
    pki::tls::server(&issued.pki, &[], &Clock::new()).expect("TLS 1 can be served");

    let relays: Vec<Relay> = platform.get("/v1/relays", &gateway).await.ok();
    assert_eq!(relays.len(), 1);
    assert_eq!(
        relays[0].identity_id.as_deref(),
        Some(relay_identity.as_str())
    );
    assert!(relays[0].org_id.is_some() && relays[0].heartbeat.is_none());

    let register = json!({"relayName": "eu-1", "name": "office"});
    let first = platform.post("/v2/gateways", &gateway, register.clone());
    let first: GatewayCredentials = first.await.ok();
    assert_eq!(first.relay_host.as_str(), "relay.example.com");
    let again = platform.post("/v2/gateways", &gateway, register);
    let again: GatewayCredentials = again.await.ok();
    assert_eq!(first.gateway_id, again.gateway_id);
    assert_ne!(first.ssh.client_certificate, again.ssh.client_certificate);
    let listed = platform.get("/v2/gateways", &gateway).await;
    assert_eq!(listed.body[0]["id"], first.gateway_id.as_str());
    assert_eq!(listed.body[0]["relayName"], "eu-1");

    let target = json!({"targetHost": "db.internal", "targetPort": 5432});
    let path = "/v1/embedded/gateways/office/sessions";
    let session: SessionCredentials = platform.post(path, &platform.admin, target).await.ok();
    assert_eq!(session.gateway_id, first.gateway_id);
    let leaf = pki::parse_certificates("leaf", &session.gateway.client_certificate);
    let claims = pki::extensions::parse_claims(&leaf.expect("PEM")[0]).expect("claims");
    assert!(!claims.actor.expect("an actor").is_platform());
    assert_eq!(claims.route.expect("a route").target_port, 5432);
    platform.stop().await;
}

#[tokio::test]
async fn gateways_and_relays_enroll_once() {
    let platform = Platform::start().await;
    let relay = json!({"kind": "relay", "name": "eu-1", "host": "127.0.0.9"});
    let token = platform.enrollment(relay).await;
    let login = json!({"method": "token", "token": token});
    let answer: Value = platform
        .post("/v2/relays/login", "", login.clone())
        .await
        .ok();
    let relay = text(&answer, "accessToken");
    let twice = platform.post("/v2/relays/login", "", login).await;
    assert!(twice.refused(401).contains("enrollment token"));
    let aws = json!({"method": "aws", "token": "x"});
    platform
        .post("/v2/relays/login", "", aws)
        .await
        .refused(400);
    let connect = platform.send(Method::POST, "/v2/relays/connect", &relay, None);
    let issued: RelayCredentials = connect.await.ok();
    pki::tls::server(&issued.pki, &[], &Clock::new()).expect("TLS 1 can be served");

    let gateway = json!({"kind": "gateway", "name": "office"});
    let token = platform.enrollment(gateway).await;
    let enroll = json!({"token": token});
    let path = "/v3/gateways/token-auth/enroll";
    let answer: Value = platform.post(path, "", enroll.clone()).await.ok();
    let gateway = text(&answer, "accessToken");
    platform.post(path, "", enroll).await.refused(401);
    for body in [json!({"relayName": "eu-1"}), json!({})] {
        let connect = platform.post("/v3/gateways/connect", &gateway, body);
        let issued: GatewayCredentials = connect.await.ok();
        assert_eq!(issued.gateway_id.as_str(), answer["gatewayId"]);
        assert_eq!(issued.relay_host.as_str(), "127.0.0.9");
    }
    let elsewhere = json!({"relayName": "us-1"});
    let unknown = platform.post("/v3/gateways/connect", &gateway, elsewhere);
    assert!(unknown.await.refused(404).contains("us-1"));

    let path = "/v1/embedded/gateways/office";
    let delete = platform.send(Method::DELETE, path, &platform.admin, None);
    let _: Value = delete.await.ok();
    for (method, path) in [
        (Method::POST, "/v3/gateways/connect"),
        (Method::POST, "/v2/gateways/heartbeat"),
        (Method::GET, "/v1/relays"),
    ] {
        let gone = platform.send(method, path, &gateway, None).await;
        assert!(gone.refused(404).contains("was deleted"), "{path}");
    }
    platform.stop().await;
}

/// Every endpoint that needs a token, and which of the callers it takes. Callers are the roles,
/// `none` for an identity without any, `token` for the administrator's, and enrolled gateways and
/// relays.
#[tokio::test]
async fn every_endpoint_checks_its_roles() {
    let platform = Platform::start().await;
    let mut callers = Vec::new();
    for role in ["admin", "operator", "gateway", "relay", "client"] {
        let (id, token) = platform.identity(role).await;
        if role == "client" {
            let everything = json!({"who": id, "gateway": "*", "targets": ["*"]});
            platform.create("access-rules", everything).await;
        }
        callers.push((role, token));
    }
    callers.push(("none", platform.identity("no-access").await.1));
    callers.push(("token", platform.admin.clone()));
    let token = platform
        .enrollment(json!({"kind": "gateway", "name": "office"}))
        .await;
    let path = "/v3/gateways/token-auth/enroll";
    let answer: Value = platform.post(path, "", json!({"token": token})).await.ok();
    callers.push(("enrolled-gateway", text(&answer, "accessToken")));
    let token = json!({"kind": "relay", "name": "own", "host": "192.0.2.1"});
    let token = platform.enrollment(token).await;
    let login = json!({"method": "token", "token": token});
    let answer: Value = platform.post("/v2/relays/login", "", login).await.ok();
    callers.push(("enrolled-relay", text(&answer, "accessToken")));
    let get = |path, allowed: &'static [&'static str]| (Method::GET, path, json!({}), allowed);
    let post = |path, body, allowed: &'static [&'static str]| (Method::POST, path, body, allowed);
    let delete =
        |path, allowed: &'static [&'static str]| (Method::DELETE, path, json!({}), allowed);
    let enrollment = json!({"kind": "gateway", "name": "x"});
    let target = json!({"targetHost": "h", "targetPort": 1});
    let uuid = "/v1/embedded/identities/00000000-0000-4000-8000-000000000000";
    for (method, path, body, allowed) in [
        post(
            "/v2/gateways",
            json!({"relayName": "none", "name": "g"}),
            &["gateway"],
        ),
        get("/v2/gateways", &["admin", "operator", "client", "token"]),
        post(
            "/v2/gateways/heartbeat",
            json!({}),
            &["gateway", "enrolled-gateway"],
        ),
        post(
            "/v3/gateways/connect",
            json!({"relayName": "none"}),
            &["enrolled-gateway"],
        ),
        get(
            "/v1/relays",
            &["admin", "operator", "gateway", "relay", "enrolled-gateway"],
        ),
        post(
            "/v1/relays/register-org-relay",
            json!({"host": "192.0.2.2", "name": "eu-1"}),
            &["relay"],
        ),
        post(
            "/v1/relays/heartbeat-org-relay",
            json!({"name": "unknown"}),
            &["relay"],
        ),
        post("/v2/relays/connect", json!({}), &["enrolled-relay"]),
        get(
            "/v1/embedded/gateways",
            &["admin", "operator", "client", "token"],
        ),
        get("/v1/embedded/relays", &["admin", "operator", "token"]),
        get("/v1/embedded/relay-auth-secret", &["admin", "token"]),
        post(
            "/v1/embedded/identities",
            json!({"name": "x", "method": "token"}),
            &["admin", "token"],
        ),
        get("/v1/embedded/identities", &["admin", "token"]),
        delete(uuid, &["admin", "token"]),
        get(
            "/v1/embedded/enrollment-tokens",
            &["admin", "operator", "token"],
        ),
        delete(
            "/v1/embedded/enrollment-tokens/gateway/unknown",
            &["admin", "operator", "token"],
        ),
        post(
            "/v1/embedded/enrollment-tokens",
            enrollment,
            &["admin", "operator", "token"],
        ),
        post(
            "/v1/embedded/backup-snapshots",
            json!({}),
            &["admin", "token"],
        ),
        get("/v1/embedded/access-rules", &["admin", "token"]),
        post(
            "/v1/embedded/access-rules",
            json!({"who": "group:x", "gateway": "*", "targets": ["h:1"]}),
            &["admin", "token"],
        ),
        post(
            "/v1/embedded/access-rules/check",
            json!({"who": "x", "gateway": "y", "targetHost": "h", "targetPort": 1}),
            &["admin", "token"],
        ),
        delete("/v1/embedded/access-rules/999", &["admin", "token"]),
        post(
            "/v1/embedded/identity-groups",
            json!({"identity": "unknown", "groups": ["x"]}),
            &["admin", "token"],
        ),
        get("/v1/embedded/audit/0/0", &["admin", "token"]),
        get("/v1/embedded/audit-chain/0", &["admin", "token"]),
        post(
            "/v1/embedded/gateways/unknown/sessions",
            target,
            &["admin", "client", "token"],
        ),
        post(
            "/v1/embedded/session-reports",
            json!({"open": 0, "sessions": []}),
            &["gateway", "enrolled-gateway"],
        ),
        get(
            "/v1/embedded/sessions",
            &["admin", "operator", "client", "token"],
        ),
        delete(
            "/v1/embedded/gateways/unknown",
            &["admin", "operator", "token"],
        ),
        delete(
            "/v1/embedded/relays/unknown",
            &["admin", "operator", "token"],
        ),
    ] {
        for (caller, token) in &callers {
            let answer = platform.send(method.clone(), path, token, Some(body.to_string()));
            let status = answer.await.status;
            if allowed.contains(caller) {
                // What it asks for may not be there.
                let is_refused = matches!(status, 401 | 403);
                assert!(!is_refused, "{method} {path} {caller}: {status}");
            } else if *caller == "token" {
                // No identity and no gateway: to these endpoints it is an unknown token.
                assert_eq!(status, 401, "{method} {path} {caller}");
            } else {
                assert_eq!(status, 403, "{method} {path} {caller}");
            }
        }
        for token in ["", "wrong"] {
            let answer = platform.send(method.clone(), path, token, Some(body.to_string()));
            let answer = answer.await;
            answer.refused(401);
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{path}");
        }
    }
    for path in ["register-instance-relay", "heartbeat-instance-relay"] {
        let path = format!("/v1/relays/{path}");
        let body = || json!({"host": "192.0.2.9", "name": "x"});
        for (_, token) in &callers {
            platform.post(&path, token, body()).await.refused(401);
        }
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_deleted_identity_opens_nothing() {
    let platform = Platform::start().await;
    let (id, member) = platform.identity("member").await;
    let admin = platform.admin.clone();
    let path = format!("/v1/embedded/identities/{id}");
    let delete = platform.send(Method::DELETE, &path, &admin, None);
    let _: Value = delete.await.ok();
    let revoked = platform.get("/v1/relays", &member).await;
    assert!(revoked.refused(401).contains("revoked"));
    platform.stop().await;
}

#[tokio::test]
async fn instance_relay_shares_the_platforms_secret() {
    let platform = Platform::start().await;
    let secret: Value = platform
        .get("/v1/embedded/relay-auth-secret", &platform.admin)
        .await
        .ok();
    let secret = text(&secret, "relayAuthSecret");
    let register = json!({"host": "192.0.2.1", "name": "shared"});
    let path = "/v1/relays/register-instance-relay";
    let _: RelayCredentials = platform.post(path, &secret, register.clone()).await.ok();
    let relays: Vec<Relay> = platform
        .get("/v1/embedded/relays", &platform.admin)
        .await
        .ok();
    assert!(relays[0].org_id.is_none() && relays[0].identity_id.is_none());
    let (_, member) = platform.identity("member").await;
    let taken = platform.post("/v1/relays/register-org-relay", &member, register);
    assert!(taken.await.refused(400).contains("already taken"));
    let unknown = json!({"name": "other"});
    let path = "/v1/relays/heartbeat-instance-relay";
    platform.post(path, &secret, unknown).await.refused(404);
    platform.stop().await;
}

#[tokio::test]
async fn universal_auth_token_can_be_renewed() {
    let platform = Platform::start().await;
    let body = json!({"name": "ci", "method": "universal-auth"});
    let created = platform.create("identities", body).await;
    let (id, secret) = (&created["clientId"], &created["clientSecret"]);
    let path = "/v1/auth/universal-auth/login";
    let login = json!({"clientId": id, "clientSecret": secret});
    let login: Login = platform.post(path, "", login).await.ok();
    assert_eq!(login.token_type, "Bearer");
    assert!(login.expires_in <= login.access_token_max_ttl);
    let token = login.access_token.expose();
    let _: Vec<Relay> = platform.get("/v1/relays", token).await.ok();
    let renew = platform.post("/v1/auth/token/renew", "", json!({"accessToken": token}));
    let renewed: Login = renew.await.ok();
    assert_eq!(renewed.access_token, login.access_token);
    let wrong = json!({"clientId": id, "clientSecret": "wrong"});
    platform.post(path, "", wrong).await.refused(401);
    let wrong = json!({"accessToken": "wrong"});
    platform
        .post("/v1/auth/token/renew", "", wrong)
        .await
        .refused(401);
    for path in ["/v1/auth/kubernetes-auth/login", "/v3/gateways/login"] {
        let refused = platform.post(path, "", json!({})).await;
        assert!(refused.refused(400).contains("universal auth"));
    }
    platform.stop().await;
}

#[tokio::test]
async fn what_is_not_valid_is_explained() {
    let platform = Platform::start().await;
    let admin = platform.admin.clone();
    let (_, member) = platform.identity("member").await;
    for (path, token, body) in [
        ("/v2/gateways", &member, json!({"relayName": "eu-1"})),
        (
            "/v2/gateways",
            &member,
            json!({"relayName": "../x", "name": "g"}),
        ),
        (
            "/v2/gateways",
            &member,
            json!({"relayName": "x", "name": "g".repeat(65)}),
        ),
        (
            "/v1/relays/register-org-relay",
            &member,
            json!({"host": "a:1", "name": "r"}),
        ),
        (
            "/v1/embedded/identities",
            &admin,
            json!({"name": "", "method": "token"}),
        ),
        (
            "/v1/embedded/identities",
            &admin,
            json!({"name": "x", "method": "aws"}),
        ),
        (
            "/v1/embedded/enrollment-tokens",
            &admin,
            json!({"kind": "relay", "name": "r"}),
        ),
        (
            "/v1/embedded/gateways/g/sessions",
            &admin,
            json!({"targetHost": "a b", "targetPort": 1}),
        ),
        (
            "/v1/embedded/gateways/%07/sessions",
            &admin,
            json!({"targetHost": "a", "targetPort": 1}),
        ),
        ("/v2/gateways", &member, json!([])),
    ] {
        let answer = platform.post(path, token, body).await;
        answer.refused(400);
        let details = answer.body["message"].as_array().expect("details");
        assert!(!details[0]["message"].as_str().expect("a text").is_empty());
    }
    let text = Some("{".to_owned());
    let answer = platform
        .send(Method::POST, "/v2/gateways", &member, text)
        .await;
    assert!(answer.refused(400).contains("not JSON"));
    let long = Some(format!("\"{}\"", "x".repeat(64 * 1024)));
    let answer = platform
        .send(Method::POST, "/v2/gateways", &member, long)
        .await;
    answer.refused(413);
    platform.get("/v2/nothing", &member).await.refused(404);
    platform
        .get("/v3/gateways/connect", &member)
        .await
        .refused(405);
    let odd = "/v1/embedded/gateways/%ff";
    platform
        .send(Method::DELETE, odd, &admin, None)
        .await
        .refused(400);
    let unknown = json!({"targetHost": "h", "targetPort": 1});
    let path = "/v1/embedded/gateways/unknown/sessions";
    platform.post(path, &admin, unknown).await.refused(404);
    platform.stop().await;
}

#[tokio::test]
async fn too_many_attempts_are_told_to_wait() {
    let platform = Platform::start().await;
    let guess = || json!({"clientId": "x", "clientSecret": "y"});
    let path = "/v1/auth/universal-auth/login";
    let mut waits = None;
    for _ in 0..1000 {
        let answer = platform.post(path, "", guess()).await;
        if answer.status != 401 {
            answer.refused(429);
            waits = answer.headers.get("retry-after").cloned();
            break;
        }
    }
    let seconds: u64 = waits
        .expect("a limit")
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    assert!(seconds > 0);
    // Those who have a token are not concerned.
    let _: Vec<Relay> = platform
        .get("/v1/embedded/relays", &platform.admin)
        .await
        .ok();
    platform.stop().await;
}

/// A loopback address on which the relay's port is free, and its listener.
async fn relay_listener() -> (Ipv4Addr, TcpListener) {
    loop {
        let [a, b, c, ..] = crate::backoff::random().to_be_bytes();
        let host = Ipv4Addr::new(127, a.clamp(1, 250), b, c.clamp(1, 250));
        if let Ok(listener) = TcpListener::bind((host, TLS_PORT)).await {
            return (host, listener);
        }
    }
}

/// A relay whose only gateway is in the same process: after TLS 1 it completes TLS 2 itself and
/// says `answer`. Without a gateway it closes.
async fn fake_relay(
    listener: TcpListener,
    relay: ServerPki,
    gateway: Option<(ServerPki, &'static str)>,
) {
    let outer = TlsAcceptor::from(pki::tls::server(&relay, &[], &Clock::new()).expect("TLS 1"));
    let inner = gateway.map(|(pki, answer)| {
        let config = pki::tls::server(&pki, &["infisical-health"], &Clock::new()).expect("TLS 2");
        (TlsAcceptor::from(config), answer)
    });
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let Ok(stream) = outer.accept(stream).await else {
            continue;
        };
        let leaf = stream.get_ref().1.peer_certificates().expect("a client")[0].clone();
        let name = pki::extensions::parse_common_name(&leaf).expect("a name");
        if let (Some((inner, answer)), true) = (&inner, name != GatewayId::HEALTH_CHECK) {
            let mut stream = inner.accept(stream).await.expect("TLS 2");
            stream.write_all(answer.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn a_heartbeat_proves_the_whole_path() {
    let platform = Platform::start().await;
    let (host, listener) = relay_listener().await;
    let (_, relay) = platform.identity("member").await;
    let (_, gateway) = platform.identity("member").await;
    let register = json!({"host": host.to_string(), "name": "eu-1"});
    let path = "/v1/relays/register-org-relay";
    let relay_pki: RelayCredentials = platform.post(path, &relay, register).await.ok();
    let unregistered = platform.post("/v2/gateways/heartbeat", &gateway, json!({}));
    assert!(unregistered.await.refused(404).contains("no gateway"));
    let register = json!({"relayName": "eu-1", "name": "office"});
    let register = platform.post("/v2/gateways", &gateway, register);
    let gateway_pki: GatewayCredentials = register.await.ok();
    let heartbeat = || {
        platform.post(
            "/v2/gateways/heartbeat",
            &gateway,
            json!({"capabilities": {}}),
        )
    };
    let relay_heartbeat = || {
        platform.post(
            "/v1/relays/heartbeat-org-relay",
            &relay,
            json!({"name": "eu-1"}),
        )
    };
    let heard = async || {
        let listed = platform.get("/v2/gateways", &gateway).await;
        (
            listed.body[0]["heartbeat"].is_string(),
            listed.body[0]["heartbeatTTL"].clone(),
        )
    };

    let status = async |list: &str| {
        let path = format!("/v1/embedded/{list}");
        let row = platform.get(&path, &platform.admin).await.body[0].clone();
        json!([
            row["status"],
            row["unreachableSince"],
            row["heartbeatAgeSeconds"]
        ])
    };

    // Each stage has a listener of its own behind the same address.
    let serve = |listener: TcpListener, gateway: Option<&'static str>| {
        let gateway = gateway.map(|answer| (gateway_pki.pki.clone(), answer));
        let scope = platform.scope.child("relay");
        let serve = Box::pin(fake_relay(listener, relay_pki.pki.clone(), gateway));
        let until = scope.clone();
        scope.spawn("relay", async move {
            until.run(serve).await;
        });
        scope
    };
    let again = async |scope: Scope| {
        scope.cancel();
        assert!(scope.finish(std::time::Duration::from_secs(30)).await);
        crate::net::listen::bind(Some(SocketAddr::from((host, TLS_PORT))), TLS_PORT)
            .expect("the address is free again")
    };

    let stage = serve(listener, None);
    let _: Value = relay_heartbeat().await.ok();
    let relays: Vec<Relay> = platform.get("/v1/relays", &relay).await.ok();
    assert!(relays[0].heartbeat.is_some());
    let answer = heartbeat().await.refused(400);
    assert!(answer.contains("could not reach it"), "{answer}");

    let stage = serve(again(stage).await, Some("{\"status\":\"draining\"}\n"));
    let answer = heartbeat().await.refused(400);
    assert!(answer.contains("could not reach it"), "{answer}");
    assert_eq!(heard().await, (false, Value::Null));
    assert_eq!(status("gateways").await, json!(["never_seen", null, null]));

    let stage = serve(
        again(stage).await,
        Some("{\"status\":\"ok\",\"heartbeatTTL\":77}\n"),
    );
    let _: Value = heartbeat().await.ok();
    assert_eq!(heard().await, (true, json!(77)));
    for list in ["gateways", "relays"] {
        let status = status(list).await;
        assert_eq!(status[0], "reachable", "{list}: {status}");
        assert!(
            status[1].is_null() && status[2].is_u64(),
            "{list}: {status}"
        );
    }

    drop(again(stage).await);
    for answer in [heartbeat().await, relay_heartbeat().await] {
        let answer = answer.refused(400);
        assert!(answer.contains("could not reach it"), "{answer}");
    }
    for list in ["gateways", "relays"] {
        let status = status(list).await;
        assert_eq!(status[0], "unreachable", "{list}: {status}");
        assert!(
            status[1].is_string() && status[2].is_u64(),
            "{list}: {status}"
        );
    }
    platform.stop().await;
}

#[tokio::test]
async fn relay_cannot_take_another_relays_host() {
    let platform = Platform::start().await;
    let (_, first) = platform.identity("relay").await;
    let (_, second) = platform.identity("relay").await;
    let path = "/v1/relays/register-org-relay";
    let register = |token: String, name: &'static str, host: &'static str| {
        let body = json!({"name": name, "host": host});
        let platform = &platform;
        async move { platform.post(path, &token, body).await }
    };
    let _: RelayCredentials = register(first.clone(), "eu-1", "relay.example.com")
        .await
        .ok();
    for host in ["relay.example.com", "Relay.Example.COM"] {
        let refused = register(second.clone(), "eu-2", host).await;
        assert!(refused.refused(400).contains("belongs to"), "{host}");
    }
    // The relay itself may register again, and move to a host that is free.
    let _: RelayCredentials = register(first.clone(), "eu-1", "relay.example.com")
        .await
        .ok();
    let _: RelayCredentials = register(second.clone(), "eu-2", "192.0.2.1").await.ok();
    register(second.clone(), "eu-2", "relay.example.com")
        .await
        .refused(400);
    // A host that is promised to a relay that will enroll is taken already.
    let promise = json!({"kind": "relay", "name": "us-1", "host": "us.example.com"});
    let token = platform.enrollment(promise).await;
    register(second.clone(), "eu-2", "us.example.com")
        .await
        .refused(400);
    let login = json!({"method": "token", "token": token});
    let _: Value = platform.post("/v2/relays/login", "", login).await.ok();
    register(second.clone(), "eu-2", "us.example.com")
        .await
        .refused(400);
    let path = "/v1/embedded/relays/eu-1";
    let delete = platform.send(Method::DELETE, path, &platform.admin, None);
    let _: Value = delete.await.ok();
    let _: RelayCredentials = register(second, "eu-2", "relay.example.com").await.ok();
    platform.stop().await;
}

#[tokio::test]
async fn signing_for_one_identity_is_limited() {
    let platform = Platform::start().await;
    let (_, greedy) = platform.identity("relay").await;
    let (_, other) = platform.identity("relay").await;
    let path = "/v1/relays/register-org-relay";
    let body = |name: &str, host: &str| json!({"name": name, "host": host});
    let mut refused = None;
    for _ in 0..1000 {
        let answer = platform
            .post(path, &greedy, body("eu-1", "192.0.2.1"))
            .await;
        if answer.status != 200 {
            answer.refused(429);
            refused = answer.headers.get("retry-after").cloned();
            break;
        }
    }
    assert!(refused.is_some(), "there is no limit");
    let _: RelayCredentials = platform
        .post(path, &other, body("eu-2", "192.0.2.2"))
        .await
        .ok();
    platform.stop().await;
}

/// A relay of the instance that repeats a failing heartbeat leaves the others theirs.
#[tokio::test]
async fn instance_relay_heartbeats_are_limited_each() {
    let platform = Platform::start().await;
    let path = "/v1/embedded/relay-auth-secret";
    let secret: Value = platform.get(path, &platform.admin).await.ok();
    let secret = text(&secret, "relayAuthSecret");
    // Nothing listens there.
    for (name, host) in [("failing", "127.255.255.254"), ("other", "127.255.255.253")] {
        let path = "/v1/relays/register-instance-relay";
        let body = json!({"name": name, "host": host});
        let _: RelayCredentials = platform.post(path, &secret, body).await.ok();
    }
    let beat = |name: &str| {
        let path = "/v1/relays/heartbeat-instance-relay";
        platform.post(path, &secret, json!({"name": name}))
    };
    let answers = (0..80).map(|_| beat("failing"));
    let answers = futures_util::future::join_all(answers).await;
    assert!(answers.iter().any(|answer| answer.status == 429));
    beat("other").await.refused(400);
    platform.stop().await;
}

/// Gateways name times, and one that cannot be written must not end a request.
#[test]
fn times_out_of_range_are_left_empty() {
    let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00Z");
    assert_eq!(at(253_402_300_799), "9999-12-31T23:59:59Z");
    assert_eq!(at(253_402_300_800), "");
}
