//! What is probed while a page is watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::platform::Platform;
use super::relay_listener;

const GATEWAYS: usize = 20;

#[tokio::test]
async fn lost_relays_gateways_are_not_tried() {
    let platform = Platform::start().await;
    let (host, listener) = relay_listener().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let (scope, until) = (&platform.scope, platform.scope.clone());
    // No relay any more: each connection is closed at once.
    let lost = Box::pin(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    scope.spawn("relay", async move {
        until.run(lost).await;
    });
    let (_, relay) = platform.identity("member").await;
    let register = json!({"host": host.to_string(), "name": "eu-1"});
    let path = "/v1/relays/register-org-relay";
    let _: Value = platform.post(path, &relay, register).await.ok();
    for number in 0..GATEWAYS {
        let (_, gateway) = platform.identity("member").await;
        let register = json!({"relayName": "eu-1", "name": format!("office-{number}")});
        let _: Value = platform.post("/v2/gateways", &gateway, register).await.ok();
    }

    let app = &platform.app;
    let gateways = app.store().gateways().await.expect("read");
    let mut changes = app.watch().changes();
    app.watch().page_loaded();
    let all_failed = || {
        gateways.iter().all(|gateway| {
            let seen = app.observations().of(gateway.id.as_str());
            seen.is_some_and(|seen| seen.failed_since.is_some())
        })
    };
    while !all_failed() {
        changes.changed().await.expect("the platform lives");
    }
    // The relay, once or, as one that is lost, twice.
    let tried = connections.load(Ordering::SeqCst);
    assert!((1..=2).contains(&tried), "{tried} connections");
    platform.stop().await;
}
