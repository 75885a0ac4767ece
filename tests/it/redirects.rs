//! Redirects of the platform's API: reported with their target, never followed.

use std::net::SocketAddr;

use crate::support::fake_platform::{Answer, FakePlatform};
use crate::support::lab::{Lab, REGISTER_GATEWAY, REGISTER_RELAY, TOKEN};
use crate::support::loopback;

const ANYTHING: [&str; 4] = [
    REGISTER_GATEWAY,
    REGISTER_RELAY,
    "GET /api/v2/gateways",
    "GET /api/v1/relays/register-org-relay",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_token_follows_a_redirect() {
    let lab = Lab::new().await;
    let elsewhere = FakePlatform::start(SocketAddr::from((loopback::address(), 0))).await;
    let other = elsewhere.url();
    for status in [301, 302, 303, 307, 308] {
        let redirect = |path: &str| {
            Answer::raw(status, "<html>moved</html>").header("location", format!("{other}{path}"))
        };
        lab.platform.once(
            REGISTER_RELAY,
            redirect("/api/v1/relays/register-org-relay"),
        );
        lab.platform
            .once(REGISTER_GATEWAY, redirect("/api/v2/gateways"));
        let relay = lab.relay().await;
        let gateway = lab.gateway(&relay).await;
        for process in [&relay, &gateway] {
            let line = process.wait_for_line(&format!("--domain {other}")).await;
            assert!(line.contains(&status.to_string()), "{line}");
            assert!(line.contains(&lab.platform.url()), "{line}");
            assert!(!process.output().contains(TOKEN), "the token is shown");
        }
        gateway.kill().await;
        relay.kill().await;
    }
    for what in ANYTHING {
        assert!(elsewhere.requests(what).is_empty(), "{what} was followed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_is_named_as_such() {
    let lab = Lab::new().await;
    let portal = "https://portal.example/login?token=hunter2";
    let answer = Answer::raw(302, "").header("location", portal);
    lab.platform.once(REGISTER_GATEWAY, answer);
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let line = gateway.wait_for_line("https://portal.example/login").await;
    assert!(line.contains("captive portal"), "{line}");
    let advice = "if that is the platform, set --domain https://portal.example;";
    assert!(line.contains(advice), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}
