//! Platform, relay and gateway as processes, with something to see on each page.

use serde_json::json;

use crate::browser::Browser;
use crate::support::admin::Platform;
use crate::support::stack::{GATEWAY, Stack};

/// Every page, with the heading that it has.
pub(crate) const PAGES: [(&str, &str); 8] = [
    ("/gateways", "Gateways"),
    ("/relays", "Relays"),
    ("/sessions", "Sessions"),
    ("/access", "Access rules"),
    ("/identities", "Identities"),
    ("/tokens", "Enrollment tokens"),
    ("/audit", "Audit"),
    ("/gateways/add", "Add a gateway"),
];

/// A gateway that is reachable, and a row in each table.
pub(crate) async fn lively() -> Stack {
    let stack = Stack::start().await;
    stack
        .gateway
        .wait_for_line("Gateway is reachable by Infisical")
        .await;
    let platform = &stack.platform;
    let body = json!({"name": "alice", "method": "token", "roles": ["client"], "groups": ["dba"]});
    create(platform, "identities", &body).await;
    let rule = json!({"who": "alice", "gateway": GATEWAY, "targets": ["db.internal:5432", "10.0.0.0/16:443"]});
    create(platform, "access-rules", &rule).await;
    let rule = json!({"who": "group:dba", "gateway": "*", "targets": ["*.db.internal"]});
    create(platform, "access-rules", &rule).await;
    platform
        .enrollment_token("gateway", "warehouse", None)
        .await;
    platform.session(GATEWAY, "db.internal", 5432).await;
    stack
}

pub(crate) async fn create(platform: &Platform, what: &str, body: &serde_json::Value) {
    let answer = platform
        .request(reqwest::Method::POST, what, Some(body))
        .await;
    assert_eq!(answer.0, 200, "{what}: {}", answer.1);
}

/// Logs in by the form.
pub(crate) async fn log_in(browser: &Browser<'_>, platform: &Platform) {
    browser.open(&platform.url).await;
    browser.type_into("#token", &platform.token).await;
    browser.click("button.primary").await;
    browser.shows("h1", "Gateways").await;
}
