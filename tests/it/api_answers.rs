//! Answers of the platform, and of what answers in its place: only what is used of an answer
//! matters, and only the platform's own JSON ends a program.

use std::net::SocketAddr;

use infisical_api::Client;
use infisical_api::types::{
    ConnectGateway, GatewayCredentials, OpenSession, RegisterGateway, RegisterRelay,
    RelayCredentials,
};
use infisical_config::proxy::Proxies;
use infisical_config::settings::{ApiBase, CustomHeaders};
use infisical_runtime::error::chain;
use infisical_runtime::secret::Secret;
use serde_json::{Map, Value, json};

use crate::support::fake_platform::{Answer, FakePlatform};
use crate::support::lab::{
    GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY, REGISTER_RELAY, RELAY_HEARTBEAT, TOKEN,
};
use crate::support::loopback;

/// Variants of each endpoint's answer.
const VARIANTS: u64 = 120;

/// Numbers that look random and are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A value of any type.
    fn value(&mut self) -> Value {
        match self.below(10) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-7),
            3 => json!(12.5),
            4 => json!(u64::MAX),
            5 => json!(""),
            6 => json!("2026-11-27T10:00:00.000Z"),
            7 => json!("a \u{7}\u{e9}\n b"),
            8 => json!([1, null, {"a": "b"}]),
            _ => json!({"nested": {"more": [null]}, "id": 3}),
        }
    }

    /// `base` with every field outside of `needed` missing or of any type, and with unknown fields.
    fn vary(&mut self, base: &Value, needed: &[&str], path: &str) -> Value {
        let Value::Object(fields) = base else {
            return base.clone();
        };
        let mut varied = Map::new();
        for (key, value) in fields {
            let path = format!("{path}/{key}");
            let is_needed = needed.iter().any(|needed| needed.starts_with(&path));
            if is_needed {
                varied.insert(key.clone(), self.vary(value, needed, &path));
            } else if self.below(3) > 0 {
                varied.insert(key.clone(), self.value());
            }
        }
        for number in 0..self.below(3) {
            varied.insert(format!("unknown{number}"), self.value());
        }
        Value::Object(varied)
    }
}

struct Bench {
    platform: FakePlatform,
    client: Client,
    token: Secret,
}

impl Bench {
    async fn new() -> Self {
        let platform = FakePlatform::start(SocketAddr::from((loopback::address(), 0))).await;
        let base = ApiBase::parse(&platform.url()).expect("a URL");
        let client = Client::try_new(&base, &CustomHeaders::default(), &Proxies::default())
            .expect("a client");
        Self {
            platform,
            client,
            token: Secret::new("token"),
        }
    }

    /// Answers `what` with variants of `base`, each of which `call` must be able to use.
    async fn accepts<F: Future<Output = Result<(), infisical_api::Error>>>(
        &self,
        what: &str,
        base: &Value,
        needed: &[&str],
        call: impl Fn() -> F,
    ) {
        for seed in 0..VARIANTS {
            let varied = Random(seed).vary(base, needed, "");
            self.platform.once(what, Answer::ok(&varied));
            if let Err(error) = call().await {
                panic!("{what}, seed {seed}: {}: {varied}", chain(&error));
            }
        }
        assert_eq!(self.platform.requests(what).len() as u64, VARIANTS);
        for needed in needed {
            let mut lacking = base.clone();
            let (parent, key) = needed.rsplit_once('/').expect("a path");
            let parent = lacking.pointer_mut(parent).expect("an object");
            parent.as_object_mut().expect("an object").remove(key);
            self.platform.once(what, Answer::ok(&lacking));
            call().await.expect_err("a needed field is missing");
        }
    }
}

const SERVER_PKI: [&str; 3] = [
    "/pki/serverCertificate",
    "/pki/serverPrivateKey",
    "/pki/clientCertificateChain",
];

fn pki() -> Value {
    json!({
        "serverCertificate": "certificate", "serverPrivateKey": "key",
        "clientCertificateChain": "chain", "clientCACertificate": "more",
    })
}

#[tokio::test]
async fn gateway_credentials_need_only_what_is_used() {
    let bench = Bench::new().await;
    let base = json!({
        "gatewayId": "g-1", "relayHost": "relay.example", "pki": pki(), "name": "edge",
        "ssh": {
            "clientCertificate": "certificate", "clientPrivateKey": "key",
            "serverCAPublicKey": "ca", "comment": "more",
        },
        "relay": {"id": 1}, "createdAt": "now",
    });
    let needed = [
        &["/gatewayId", "/relayHost"][..],
        &SERVER_PKI,
        &[
            "/ssh/clientCertificate",
            "/ssh/clientPrivateKey",
            "/ssh/serverCAPublicKey",
        ],
    ]
    .concat();
    let check =
        |credentials: GatewayCredentials| assert_eq!(credentials.gateway_id.as_str(), "g-1");
    bench
        .accepts("POST /api/v3/gateways/connect", &base, &needed, || async {
            let request = ConnectGateway { relay_name: None };
            bench
                .client
                .connect_gateway(&bench.token, &request)
                .await
                .map(check)
        })
        .await;
    let request = RegisterGateway {
        relay_name: "relay".parse().expect("a name"),
        name: "edge".parse().expect("a name"),
    };
    bench
        .accepts("POST /api/v2/gateways", &base, &needed, || async {
            bench
                .client
                .register_gateway(&bench.token, &request)
                .await
                .map(check)
        })
        .await;
    // An id that is a number is used as text.
    let mut numeric = base.clone();
    numeric["gatewayId"] = json!(17);
    bench
        .platform
        .once("POST /api/v2/gateways", Answer::ok(&numeric));
    let credentials = bench.client.register_gateway(&bench.token, &request).await;
    assert_eq!(credentials.expect("usable").gateway_id.as_str(), "17");
}

#[tokio::test]
async fn relay_credentials_need_only_what_is_used() {
    let bench = Bench::new().await;
    let base = json!({
        "relayId": "r-1", "name": "relay", "pki": pki(),
        "ssh": {
            "serverCertificate": "certificate", "serverPrivateKey": "key",
            "clientCAPublicKey": "ca", "comment": "more",
        },
    });
    let needed = [
        &SERVER_PKI[..],
        &[
            "/ssh/serverCertificate",
            "/ssh/serverPrivateKey",
            "/ssh/clientCAPublicKey",
        ],
    ]
    .concat();
    let request = RegisterRelay {
        host: "relay.example".parse().expect("a host"),
        name: "relay".parse().expect("a name"),
    };
    let check = |credentials: RelayCredentials| {
        assert_eq!(credentials.ssh.client_ca_public_key, "ca");
    };
    bench
        .accepts(REGISTER_RELAY, &base, &needed, || async {
            bench
                .client
                .register_org_relay(&bench.token, &request)
                .await
                .map(check)
        })
        .await;
    bench
        .accepts(
            "POST /api/v1/relays/register-instance-relay",
            &base,
            &needed,
            || async {
                bench
                    .client
                    .register_instance_relay(&bench.token, &request)
                    .await
                    .map(check)
            },
        )
        .await;
    let connect = "POST /api/v2/relays/connect";
    bench
        .accepts(connect, &base, &needed, || async {
            bench.client.relay_connect(&bench.token).await.map(check)
        })
        .await;
    let request = bench.platform.requests(connect).pop().expect("asked");
    assert_eq!(request.text, "", "deployed relays send no body");
}

#[tokio::test]
async fn logins_need_only_their_token() {
    let bench = Bench::new().await;
    let base = json!({
        "accessToken": "a-token", "expiresIn": 7200, "accessTokenMaxTTL": 86400,
        "tokenType": "Bearer", "gatewayId": "g-1", "relayId": "r-1", "name": "edge",
    });
    let needed = ["/accessToken"];
    let check = |token: Secret| assert_eq!(token, Secret::new("a-token"));
    bench
        .accepts(
            "POST /api/v3/gateways/token-auth/enroll",
            &base,
            &needed,
            || async {
                let login = bench.client.enroll_gateway(&bench.token).await?;
                check(login.access_token);
                Ok(())
            },
        )
        .await;
    bench
        .accepts("POST /api/v2/relays/login", &base, &needed, || async {
            let login = bench.client.relay_login(&bench.token).await?;
            check(login.access_token);
            Ok(())
        })
        .await;
    bench
        .accepts("POST /api/v1/auth/token/renew", &base, &needed, || async {
            let login = bench.client.renew_token(&bench.token).await?;
            check(login.access_token);
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn relay_rows_need_name_and_host() {
    let bench = Bench::new().await;
    let row = json!({
        "id": "r", "createdAt": "now", "updatedAt": "now", "orgId": "o", "identityId": "i",
        "name": "relay", "host": "relay.example", "heartbeat": "2026-11-27T10:00:00.000Z",
    });
    let what = "GET /api/v1/relays";
    for seed in 0..VARIANTS {
        let mut random = Random(seed);
        let rows: Vec<Value> = (0..3)
            .map(|_| random.vary(&row, &["/name", "/host"], ""))
            .collect();
        bench.platform.once(what, Answer::ok(&json!(rows)));
        let relays = bench.client.relays(&bench.token).await.expect("a list");
        assert_eq!(relays.len(), 3, "seed {seed}: {rows:?}");
    }
}

#[tokio::test]
async fn sessions_need_only_what_is_used() {
    let bench = Bench::new().await;
    let pki = || {
        json!({
            "clientCertificate": "certificate", "clientPrivateKey": "key",
            "serverCertificateChain": "chain", "expiresAt": "soon",
        })
    };
    let base = json!({
        "gatewayId": "g-1", "relayHost": "relay.example", "relay": pki(), "gateway": pki(),
        "sessionId": "s",
    });
    let needed = [
        "/gatewayId",
        "/relayHost",
        "/relay/clientCertificate",
        "/relay/clientPrivateKey",
        "/relay/serverCertificateChain",
        "/gateway/clientCertificate",
        "/gateway/clientPrivateKey",
        "/gateway/serverCertificateChain",
    ];
    let request = OpenSession {
        target_host: "target".to_owned(),
        target_port: 1,
    };
    let gateway = "edge".parse().expect("a name");
    let what = "POST /api/v1/embedded/gateways/edge/sessions";
    bench
        .accepts(what, &base, &needed, || async {
            let session = bench
                .client
                .open_session(&bench.token, &gateway, &request)
                .await?;
            assert_eq!(session.gateway_id.as_str(), "g-1");
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn errors_of_any_shape_keep_their_message() {
    let bench = Bench::new().await;
    let base = json!({
        "message": "no such relay", "statusCode": 404, "error": "NotFound", "reqId": "req-1",
    });
    for seed in 0..VARIANTS {
        let varied = Random(seed).vary(&base, &["/message"], "");
        let answer = Answer::raw(404, &varied.to_string());
        bench.platform.once("GET /api/v1/relays", answer);
        let error = bench
            .client
            .relays(&bench.token)
            .await
            .expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains("404 Not Found: no such relay"),
            "{text}: {varied}"
        );
        assert_eq!(error.status(), Some(404));
    }
}

/// What deployed programs send, and what the platform may answer.
#[tokio::test(flavor = "multi_thread")]
async fn any_success_of_a_heartbeat_counts() {
    let lab = Lab::new().await;
    for body in ["", "OK", "null", r#"{"message":7}"#] {
        for what in [GATEWAY_HEARTBEAT, RELAY_HEARTBEAT] {
            lab.platform.always(what, Answer::raw(200, body));
        }
        let relay = lab.relay().await;
        relay.wait_for_line("Relay is reachable by Infisical").await;
        let gateway = lab.gateway(&relay).await;
        gateway
            .wait_for_line("Gateway is reachable by Infisical")
            .await;
        gateway.kill().await;
        relay.kill().await;
    }
    let heartbeat = lab
        .platform
        .requests(GATEWAY_HEARTBEAT)
        .pop()
        .expect("asked");
    assert_eq!(heartbeat.text, "{}");
    assert_eq!(heartbeat.headers["user-agent"], "cli");
    let version = &heartbeat.headers["x-infisical-gateway-version"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let registration = lab.platform.requests(REGISTER_RELAY).pop().expect("asked");
    assert_eq!(registration.headers["user-agent"], "cli");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_the_platforms_place_end_nothing() {
    let lab = Lab::new().await;
    let html = "<!DOCTYPE html><html><title>Please sign in</title></html>";
    let page =
        |status| Answer::raw(status, html).header("content-type", "text/html; charset=utf-8");
    for status in [401, 403, 404, 200] {
        lab.platform.once(REGISTER_RELAY, page(status));
        lab.platform.once(REGISTER_GATEWAY, page(status));
        let relay = lab.relay().await;
        let gateway = lab.gateway(&relay).await;
        for (process, what) in [(&relay, "relays"), (&gateway, "gateways")] {
            let line = process.wait_for_line("Please sign in").await;
            let status = status.to_string();
            for part in [
                what,
                &status,
                "text/html; charset=utf-8",
                &lab.platform.url(),
            ] {
                assert!(line.contains(part), "{part}: {line}");
            }
            assert!(!process.output().contains(TOKEN), "the token is shown");
        }
        gateway.kill().await;
        relay.kill().await;
    }
    // It let no heartbeat through either.
    lab.platform.always(GATEWAY_HEARTBEAT, page(200));
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    gateway.wait_for_line("Please sign in").await;
    assert!(
        !gateway
            .output()
            .contains("Gateway is reachable by Infisical")
    );
}
