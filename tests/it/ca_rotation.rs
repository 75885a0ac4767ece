//! All CAs of the embedded platform are rotated while a session streams: nothing is cut, and new
//! sessions work at each moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Platform;
use crate::support::eventually;
use crate::support::session::echoes;
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;

const PATH: &str = "v1/embedded/certification-authorities";

async fn status(platform: &Platform) -> Value {
    let (code, status) = platform.api(Method::GET, PATH, &platform.token, None).await;
    assert_eq!(code, 200, "{status}");
    status
}

async fn post(platform: &Platform, command: &str, body: Value) -> (u16, Value) {
    let path = format!("{PATH}/{command}");
    platform
        .api(Method::POST, &path, &platform.token, Some(&body))
        .await
}

/// Waits until the rotation is in `phase`, and where it is to be `alone` until no one is waited for;
/// meanwhile each new session must work.
async fn reaches(stack: &Stack, target: &Target, phase: &str, alone: bool) -> Value {
    eventually(&format!("the phase {phase}"), || async {
        session(stack, target).await;
        let found = status(&stack.platform).await;
        if found["phase"] == phase && (!alone || found["waitsFor"] == json!([])) {
            return Ok(found);
        }
        Err(found.to_string())
    })
    .await
}

async fn session(stack: &Stack, target: &Target) {
    let (ip, port) = (target.address.ip().to_string(), target.address.port());
    let way = stack.platform.way(GATEWAY, &ip, port).await;
    let mut stream = way.tcp().await.expect("a way");
    echoes(&mut stream, b"hello").await.expect("an echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_of_every_ca_cuts_nothing() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    let echo = Target::echo(stack.host).await;
    let (ip, port) = (echo.address.ip().to_string(), echo.address.port());
    let mut witness = platform
        .way(GATEWAY, &ip, port)
        .await
        .tcp()
        .await
        .expect("a way");
    let (stop, echoed) = (AtomicBool::new(false), AtomicU64::new(0));
    let streaming = async {
        while !stop.load(Ordering::Relaxed) {
            echoes(&mut witness, &[7; 4096]).await?;
            echoed.fetch_add(1, Ordering::Relaxed);
        }
        echoes(&mut witness, b"and it goes on").await
    };
    let rotating = async {
        rotate(&stack, &echo).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (streamed, ()) = tokio::join!(streaming, rotating);
    streamed.expect("the session was not cut");
    assert!(echoed.load(Ordering::Relaxed) > 0, "nothing was streamed");
    let connected = stack.relay.output().matches("gateway connected").count();
    assert_eq!(connected, 1, "the tunnel was made again");
}

/// The actions of all entries of the record, in their order.
async fn actions(platform: &Platform) -> Vec<String> {
    let (mut actions, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("v1/embedded/audit/0/{after}");
        let (code, page) = platform
            .api(Method::GET, &path, &platform.token, None)
            .await;
        assert_eq!(code, 200, "{page}");
        let entries = page.as_array().expect("entries");
        let Some(last) = entries.last() else {
            return actions;
        };
        after = last["number"].as_i64().expect("a number");
        let texts = entries.iter().filter_map(|entry| entry["action"].as_str());
        actions.extend(texts.map(str::to_owned));
    }
}

/// A whole rotation, whose last step is forced.
async fn rotate(stack: &Stack, echo: &Target) {
    let platform = &stack.platform;
    let settled = status(platform).await;
    assert_eq!(settled["phase"], "settled", "{settled}");

    let (code, begun) = post(platform, "rotate", json!({})).await;
    assert_eq!(
        (code, &begun["phase"]),
        (200, &json!("distribute")),
        "{begun}"
    );
    let waits_for = begun["waitsFor"].as_array().expect("who is waited for");
    assert_eq!(waits_for.len(), 2, "{begun}");
    let (code, refused) = post(platform, "rotate", json!({})).await;
    assert_eq!(code, 400, "one at a time: {refused}");
    let (code, refused) = post(platform, "advance", json!({"force": false})).await;
    assert_eq!(code, 400, "{refused}");
    assert!(refused.to_string().contains(GATEWAY), "{refused}");

    reaches(stack, echo, "retire", false).await;
    let switched = reaches(stack, echo, "retire", true).await;
    assert_eq!(switched["generations"][1]["signs"], true, "{switched}");
    let (code, refused) = post(platform, "advance", json!({"force": false})).await;
    assert_eq!(code, 400, "what the old one signed is valid: {refused}");
    let (code, over) = post(platform, "advance", json!({"force": true})).await;
    assert_eq!((code, &over["phase"]), (200, &json!("settled")), "{over}");
    assert_eq!(
        over["generations"].as_array().map(Vec::len),
        Some(1),
        "{over}"
    );
    session(stack, echo).await;

    let recorded = actions(platform).await;
    for action in ["rotate-cas", "switch-cas", "remove-cas"] {
        let count = recorded.iter().filter(|found| *found == action).count();
        assert_eq!(count, 1, "{action}");
    }
}

/// What deployed peers may meet too: the step is forced while no one holds the new anchors.
#[tokio::test(flavor = "multi_thread")]
async fn forced_switch_keeps_peers_reachable() {
    let stack = Stack::start().await;
    let platform = &stack.platform;
    let echo = Target::echo(stack.host).await;
    let (code, begun) = post(platform, "rotate", json!({})).await;
    assert_eq!(
        (code, &begun["phase"]),
        (200, &json!("distribute")),
        "{begun}"
    );
    let (code, forced) = post(platform, "advance", json!({"force": true})).await;
    assert_eq!(
        (code, &forced["phase"]),
        (200, &json!("retire")),
        "{forced}"
    );
    // Clients get certificates that relay and gateway can verify still.
    session(&stack, &echo).await;
    reaches(&stack, &echo, "retire", true).await;
    stack.relay.signal(Signal::SIGTERM);
    assert_eq!(stack.relay.exit_code().await, 0);
    let relay = stack.relay_command.spawn(stack.dir());
    relay.wait_for_line("gateway connected").await;
    let (_, found) = (relay, status(platform).await);
    assert_eq!(found["phase"], "retire", "{found}");
}
