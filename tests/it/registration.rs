//! What the platform may answer to a daemon that starts, and what the daemon makes of it.

use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::fake_platform::{Answer, FakePlatform};
use crate::support::lab::{GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY, REGISTER_RELAY, TOKEN};
use crate::support::process::Process;
use crate::support::write_private;

/// sysexits: the configuration is wrong.
const CONFIG: i32 = 78;
/// sysexits: permission denied.
const NOPERM: i32 = 77;

#[tokio::test(flavor = "multi_thread")]
async fn final_refusal_ends_gateway_with_platforms_words() {
    let lab = Lab::new().await;
    for (status, message, code) in [
        (401, "Your token has been revoked", NOPERM),
        (403, "You are not allowed to create gateways", NOPERM),
        (404, "Relay lab-relay was not found", CONFIG),
        (400, "Your plan does not include gateways", CONFIG),
    ] {
        let id = format!("req-{status}-abc");
        lab.platform
            .always(REGISTER_GATEWAY, Answer::error(status, message, &id));
        let gateway = lab.gateway_command().spawn(lab.dir());
        assert_eq!(gateway.exit_code().await, code, "{status}");
        let output = gateway.output();
        assert!(
            output.contains(message),
            "{status}: the message is not shown"
        );
        assert!(
            output.contains(&id),
            "{status}: the request id is not shown"
        );
        assert!(!output.contains(TOKEN), "{status}: the token is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn final_refusal_ends_relay_with_platforms_words() {
    let lab = Lab::new().await;
    for (status, message, code) in [
        (401, "Your token has been revoked", NOPERM),
        (403, "You are not allowed to create relays", NOPERM),
        (400, "A relay of this name exists", CONFIG),
    ] {
        let id = format!("req-{status}-abc");
        lab.platform
            .always(REGISTER_RELAY, Answer::error(status, message, &id));
        let relay = lab.relay_command().spawn(lab.dir());
        assert_eq!(relay.exit_code().await, code, "{status}");
        let output = relay.output();
        assert!(
            output.contains(message),
            "{status}: the message is not shown"
        );
        assert!(
            output.contains(&id),
            "{status}: the request id is not shown"
        );
        assert!(!output.contains(TOKEN), "{status}: the token is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_ends_only_new_credentials() {
    let lab = Lab::new().await;
    let start = |name: &str, mut command: Command| {
        let state = lab.dir().join(format!("state-{name}"));
        std::fs::create_dir_all(&state).expect("a state directory");
        command.env("STATE_DIRECTORY", state);
        Process::spawn(name, command)
    };
    let start_relay = || start("relay", lab.relay_command().command(lab.dir()));
    let start_gateway = || start("gateway", lab.gateway_command().command(lab.dir()));
    let relay = start_relay();
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let gateway = start_gateway();
    gateway.wait_for_line("Gateway started successfully").await;
    gateway.kill().await;

    let gone = || Answer::error(404, "the platform is being redeployed", "req-404");
    lab.platform.once(REGISTER_GATEWAY, gone());
    let gateway = start_gateway();
    gateway
        .wait_for_line("the platform is being redeployed")
        .await;
    // It would try again by itself, half a minute later.
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_line("Gateway started successfully").await;
    gateway.kill().await;
    relay.kill().await;
    lab.platform.once(REGISTER_RELAY, gone());
    let relay = start_relay();
    relay.wait_for_line("not registered; trying again").await;
    relay.kill().await;

    let keys = format!("INFISICAL_TOKEN=another-{TOKEN}\n");
    let refused = || Answer::error(403, "not with this token", "req-403");
    lab.platform.always(REGISTER_RELAY, refused());
    lab.platform.always(REGISTER_GATEWAY, refused());
    let relay = lab.relay_command();
    write_private(&relay.config, &keys);
    let relay = start("relay", relay.command(lab.dir()));
    assert_eq!(relay.exit_code().await, NOPERM);
    let gateway = lab.gateway_command();
    write_private(&gateway.config, &keys);
    let gateway = start("gateway", gateway.command(lab.dir()));
    assert_eq!(gateway.exit_code().await, NOPERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn details_of_a_validation_error_are_shown() {
    let lab = Lab::new().await;
    let body = json!({
        "statusCode": 422, "error": "ValidationFailure", "reqId": "req-422",
        "message": [{"path": ["name"], "message": "Must be a valid slug"}],
    });
    lab.platform
        .always(REGISTER_GATEWAY, Answer::raw(422, &body.to_string()));
    let gateway = lab.gateway_command().spawn(lab.dir());
    gateway.wait_for_line("Must be a valid slug").await;
    gateway.wait_for_line("req-422").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_answers_are_waited_out() {
    let lab = Lab::new().await;
    let html = "<html><body>502 Bad Gateway</body></html>";
    for what in [REGISTER_RELAY, REGISTER_GATEWAY] {
        lab.platform
            .once(what, Answer::error(500, "Something went wrong", "req-500"));
        lab.platform.once(what, Answer::raw(502, html));
        lab.platform.once(
            what,
            Answer::error(429, "Rate limit exceeded", "req-429").header("retry-after", "1"),
        );
        // A 200 that is not what it should be.
        lab.platform.once(what, Answer::raw(200, "{}"));
    }
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    assert!(lab.platform.requests(REGISTER_RELAY).len() >= 5);
    assert!(lab.platform.requests(REGISTER_GATEWAY).len() >= 5);
    for daemon in [&relay, &gateway] {
        let output = daemon.output();
        assert!(
            output.contains("req-500"),
            "the request id of a 500 is not shown"
        );
        assert!(
            output.contains("req-429"),
            "the request id of a 429 is not shown"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_platform_is_waited_for() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let address = SocketAddr::from((lab.host, 18080));
    let mut command = lab.gateway_command();
    command.domain = format!("http://{address}");
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line(&address.to_string()).await;
    assert!(gateway.is_running());
    let late = FakePlatform::start(address).await;
    late.always(REGISTER_GATEWAY, Answer::ok(&lab.gateway_credentials()));
    late.always(GATEWAY_HEARTBEAT, Answer::ok(&json!({"message": "ok"})));
    gateway.wait_for_line("Gateway started successfully").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_what_the_deployed_platform_expects() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let relay = lab.platform.asked(REGISTER_RELAY, 1).await;
    assert_eq!(relay.bearer, TOKEN);
    assert_eq!(
        relay.body,
        json!({"host": lab.host.to_string(), "name": "lab-relay"})
    );
    let registered = lab.platform.asked(REGISTER_GATEWAY, 1).await;
    assert_eq!(registered.bearer, TOKEN);
    assert_eq!(
        registered.body,
        json!({"relayName": "lab-relay", "name": "lab-gateway"})
    );
    let heartbeat = lab.platform.asked(GATEWAY_HEARTBEAT, 1).await;
    assert_eq!(heartbeat.bearer, TOKEN);
    assert_eq!(heartbeat.text, "{}");
    gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unpinned_gateway_gets_healthy_relay_of_organization() {
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let now = time::OffsetDateTime::now_utc();
    let stamp = |time: time::OffsetDateTime| {
        time.format(&time::format_description::well_known::Rfc3339)
            .expect("a time")
    };
    let row = |name: &str, host: &str, org: Option<&str>, heartbeat: Option<String>| {
        json!({
            "id": format!("id-{name}"), "createdAt": stamp(now), "updatedAt": stamp(now),
            "orgId": org, "identityId": null, "name": name, "host": host,
            "heartbeat": heartbeat, "somethingNew": {"x": 1},
        })
    };
    let here = lab.host.to_string();
    let fresh = Some(stamp(now));
    let stale = Some(stamp(now - time::Duration::hours(2)));
    lab.platform.always(
        "GET /api/v1/relays",
        Answer::ok(&json!([
            row("stale", &here, Some("org"), stale),
            row("never", &here, Some("org"), None),
            row("instance", &here, None, fresh.clone()),
            row("lab-relay", &here, Some("org"), fresh),
        ])),
    );
    let mut command = lab.gateway_command();
    command.relay = None;
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    let registered = lab.platform.asked(REGISTER_GATEWAY, 1).await;
    assert_eq!(registered.body["relayName"], "lab-relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_headers_go_with_every_request() {
    let lab = Lab::new().await;
    let mut command = lab.relay_command().command(lab.dir());
    command.env(
        "INFISICAL_CUSTOM_HEADERS",
        "X-Proxy-Key=secret-of-the-proxy X-Two=\"two words\"",
    );
    let relay = crate::support::process::Process::spawn("relay", command);
    relay
        .wait_for_line("Relay server started successfully")
        .await;
    let request = lab.platform.asked(REGISTER_RELAY, 1).await;
    assert_eq!(request.headers["x-proxy-key"], "secret-of-the-proxy");
    assert_eq!(request.headers["x-two"], "two words");
    assert!(!relay.output().contains("secret-of-the-proxy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_token_is_replaced_by_login() {
    const LOGIN: &str = "POST /api/v1/auth/universal-auth/login";
    let lab = Lab::new().await;
    let _relay = lab.relay().await;
    let login = |token: &str| {
        Answer::ok(&json!({
            "accessToken": token, "expiresIn": 7200, "accessTokenMaxTTL": 86_400, "tokenType": "Bearer",
        }))
    };
    lab.platform.once(LOGIN, login("token-that-is-revoked"));
    lab.platform.always(LOGIN, login("token-that-is-good"));
    let revoked = Answer::error(401, "Token has been revoked", "req-401");
    lab.platform.once(REGISTER_GATEWAY, revoked);
    let mut command = lab.gateway_command();
    // The most talkative, since it must not tell any of these.
    command.more = vec!["--log-level=trace".to_owned()];
    write_private(
        &command.config,
        "INFISICAL_AUTH_METHOD=universal-auth\n\
         INFISICAL_UNIVERSAL_AUTH_CLIENT_ID=the-client\n\
         INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET=the-client-secret\n",
    );
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    let logins = lab.platform.requests(LOGIN);
    assert_eq!(logins.len(), 2);
    assert_eq!(
        logins[0].body,
        json!({"clientId": "the-client", "clientSecret": "the-client-secret"})
    );
    let bearers: Vec<_> = lab.platform.requests(REGISTER_GATEWAY);
    let bearers: Vec<_> = bearers.iter().map(|r| r.bearer.as_str()).collect();
    assert_eq!(bearers, ["token-that-is-revoked", "token-that-is-good"]);
    let output = gateway.output();
    for secret in [
        "the-client-secret",
        "token-that-is-revoked",
        "token-that-is-good",
    ] {
        assert!(!output.contains(secret), "the log shows {secret}");
    }
}
