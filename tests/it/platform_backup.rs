//! A backup that is made while the platform works is restored elsewhere: every gateway and relay
//! comes back by itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::admin::Platform;
use crate::support::process::{Process, infisical};
use crate::support::session::echoes;
use crate::support::stack::{Credential, GATEWAY, Plan, Stack};
use crate::support::targets::Target;
use crate::support::{mode, soon};

/// `infisical platform …`; its exit code and output.
async fn run(dir: &Path, words: &[&str]) -> (i32, String) {
    let mut command = infisical(dir);
    command.arg("platform").args(words);
    let process = Process::spawn("platform", command);
    (process.exit_code().await, process.output())
}

/// The audit entries of backups.
async fn backups(platform: &Platform) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), json!(0));
    loop {
        let path = format!("audit/0/{after}");
        let (status, page) = platform.request(Method::GET, &path, None).await;
        assert_eq!(status, 200, "{page}");
        let page = page.as_array().expect("entries");
        let Some(last) = page.last() else {
            return found;
        };
        after = last["number"].clone();
        let backups = page.iter().filter(|entry| entry["action"] == "back-up");
        found.extend(backups.cloned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_platform_gets_everyone_back() {
    let mut stack = Stack::plan(&Plan {
        relay: Credential::Enrollment,
        gateway: Credential::Enrollment,
        ..Plan::default()
    })
    .await;
    let dir = stack.dir().to_owned();
    let url = stack.platform.url.clone();
    let state = stack.platform.state().display().to_string();
    let used = stack.secrets.last().expect("the gateway's token").clone();
    let alice = stack.platform.token_with("alice", &["client"]).await;

    // Under load.
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    {
        let (stop, url) = (Arc::clone(&stop), url.clone());
        let token = stack.platform.token.clone();
        load.spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().expect("made");
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let body = json!({"kind": "gateway", "name": format!("edge-{count}")});
                let path = format!("{url}/api/v1/embedded/enrollment-tokens");
                let request = client.post(path).bearer_auth(&token).json(&body);
                assert_eq!(request.send().await.expect("an answer").status(), 200);
                count += 1;
            }
            count
        });
    }
    let archive = dir.join("backup.tar");
    let file = archive.display().to_string();
    let words = ["backup", &file, "--state-dir", &state, "--domain", &url];
    let (code, output) = run(&dir, &words).await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(mode(&archive), 0o600);
    stop.store(true, Ordering::Relaxed);
    let made = load.join_next().await.expect("a task");
    assert!(made.expect("no refusal") > 0);
    let backups = backups(&stack.platform).await;
    let [backup] = &backups[..] else {
        panic!("{backups:?}");
    };
    let names = std::fs::read_dir(&state).expect("the state");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    let is_snapshot = |name: std::ffi::OsString| name.to_string_lossy().starts_with("backup-");
    assert!(!names.into_iter().any(is_snapshot), "a snapshot is left");

    // Issued since, and so lost.
    let later = stack.platform.token_with("later", &["operator"]).await;
    let elsewhere = dir.join("other machine");
    let new_state = elsewhere.join("platform").display().to_string();
    stack.platform.process.signal(Signal::SIGTERM);
    let ended = stack.platform.process.exit_code();
    assert_eq!(soon("the end", ended).await, 0);
    let words = ["restore", &file, "--state-dir", &new_state];
    let (code, output) = run(&dir, &words).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("Next: infisical platform start"),
        "{output}"
    );
    let port = url.rsplit(':').next().expect("a port");
    let port = port.parse().expect("a number");
    let token = stack.platform.token.clone();
    stack.platform = Platform::start(&elsewhere, stack.host, port, &[]).await;
    assert_eq!(stack.platform.token, token);

    // They ask again by themselves within minutes; a restart is sooner and harder.
    stack.relay.signal(Signal::SIGTERM);
    soon("the relay's end", stack.relay.exit_code()).await;
    stack.restart_relay().await;
    stack.gateway.signal(Signal::SIGTERM);
    soon("the gateway's end", stack.gateway.exit_code()).await;
    stack.gateway = stack.spawn_gateway();
    let up = stack.gateway.wait_for_line("is reachable by Infisical");
    up.await;
    let echo = Target::echo(stack.host).await;
    let path = format!("v1/embedded/gateways/{GATEWAY}/sessions");
    let body = json!({"targetHost": echo.address.ip(), "targetPort": echo.address.port()});
    let post = |path: &'static str, token: String, body: Value| {
        let platform = &stack.platform;
        async move {
            platform
                .api(Method::POST, path, &token, Some(&body))
                .await
                .0
        }
    };
    let answer = stack.platform.api(Method::POST, &path, &alice, Some(&body));
    assert_eq!(answer.await.0, 200);
    let mut client = stack.way(&echo).await.tcp().await.expect("a way");
    echoes(&mut client, b"hello").await.expect("an echo");

    let enroll = "v3/gateways/token-auth/enroll";
    let again = json!({"token": used});
    assert_eq!(post(enroll, String::new(), again).await, 401, "it is used");
    let list = stack
        .platform
        .api(Method::GET, "v1/embedded/relays", &later, None);
    assert_eq!(list.await.0, 401, "it was issued since");
    let token_file = stack.platform.token_file().display().to_string();
    let hash = backup["hash"].as_str().expect("a hash");
    let newest = format!("{}:{hash}", backup["number"]);
    let verify = ["audit", "verify", "--domain", &stack.platform.url];
    let verify = [
        &verify[..],
        &["--token-file", &token_file, "--expect", &newest],
    ]
    .concat();
    let (code, output) = run(&dir, &verify).await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_platform_is_backed_up_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = crate::support::loopback::address();
    let platform = Platform::start(dir.path(), host, 0, &[]).await;
    let state = platform.state().display().to_string();
    // At another address answers no one, or another platform.
    let words = ["backup", "-", "--state-dir", &state];
    let domain = format!("http://{host}:1");
    let wrong = [&words[..], &["--domain", &domain]].concat();
    let (code, output) = run(dir.path(), &wrong).await;
    assert_ne!(code, 0, "{output}");
    platform.process.signal(Signal::SIGTERM);
    soon("the end", platform.process.exit_code()).await;
    let folder = dir.path().join("backups");
    std::fs::create_dir(&folder).expect("made");
    let shown = folder.display().to_string();
    let words = ["backup", "--keep", "1", &shown, "--state-dir", &state];
    let (code, output) = run(dir.path(), &words).await;
    assert_eq!(code, 0, "{output}");
    let files: Vec<_> = std::fs::read_dir(&folder).expect("read").collect();
    assert_eq!(files.len(), 1);
    let file = files[0].as_ref().expect("an entry").path();
    let words = [
        "restore",
        &file.display().to_string(),
        "--state-dir",
        &state,
    ];
    let (code, output) = run(dir.path(), &words).await;
    assert_eq!(code, 78, "{output}");
    assert!(output.contains("--replace"), "{output}");
    let (code, output) = run(dir.path(), &[&words[..], &["--replace"]].concat()).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("before-restore-"), "{output}");
}
