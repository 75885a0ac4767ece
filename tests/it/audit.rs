//! The record of sessions: one event for each, with who, where to, how much and how it ended.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use infisical_pki::stream::SecureStream;
use infisical_runtime::events::{self, Event};
use infisical_runtime::net::status;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::journald::{Journald, as_service, get, may_mount};
use crate::support::lab::{GATEWAY_CONNECTED, Lab};
use crate::support::process::Process;
use crate::support::session::{Way, echoes};
use crate::support::targets::Target;
use crate::support::tls::refused;
use crate::support::x509::Leaf;
use crate::support::{eventually, mode, soon};

const NAME: &str = "Jane \"JD\" Doe";

/// A gateway of `lab` that logs JSON; the relay must see it connect.
async fn gateway(lab: &Lab, relay: &Process) -> Process {
    let mut command = lab.gateway_command();
    command.more.push("--log-format=json".to_owned());
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line(events::GATEWAY_STARTED.text).await;
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    gateway
}

/// A way to `target` on behalf of a user.
fn way(lab: &Lab, target: SocketAddr) -> Way {
    let actor = json!({"type": "user", "id": "u-1", "name": NAME});
    let host = target.ip().to_string();
    let leaf = Leaf::gateway_client(&lab.gateway_id, (&host, target.port()));
    Way {
        gateway: lab.gateway_pki.clients.sign(&leaf.acting(&actor)),
        ..lab.way(target)
    }
}

/// The first entry of `gateway`'s log of `event` at the usual level.
async fn entry(gateway: &Process, event: Event) -> Value {
    let find = |lines: &[String]| {
        let mut entries = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        entries.find(|entry: &Value| entry["message_id"] == event.id && entry["level"] == "INFO")
    };
    gateway.wait_for(event.text, find).await
}

async fn ended(gateway: &Process) -> Value {
    entry(gateway, events::SESSION_ENDED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn completed_session_is_recorded() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let count = Target::count(lab.host).await;
    let mut stream = way(&lab, count.address).tcp().await.expect("a way");
    stream.write_all(b"question").await.expect("written");
    stream.shutdown().await.expect("our end");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("a clean end");
    assert_eq!(answer, "8\n");
    let entry = ended(&gateway).await;
    let address = count.address.to_string();
    for (field, value) in [
        ("outcome", json!("completed")),
        ("actor.type", json!("user")),
        ("actor.id", json!("u-1")),
        ("actor.name", json!(NAME)),
        ("service", json!("infisical-tcp-proxy")),
        ("target.name", json!(address)),
        ("target.address", json!(address)),
        ("bytes.to_target", json!(8)),
        ("bytes.from_target", json!(2)),
        ("gateway.id", json!(lab.gateway_id)),
        ("message", json!(events::SESSION_ENDED.text)),
    ] {
        assert_eq!(entry[field], value, "{field}: {entry}");
    }
    assert!(entry["duration_ms"].is_u64(), "{entry}");
    assert!(entry.get("error").is_none(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_target_is_recorded_with_reason() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let dead = Target::refusing(lab.host);
    let stream = way(&lab, dead).tcp().await.expect("TLS 2");
    refused(Ok(stream)).await;
    let entry = ended(&gateway).await;
    assert_eq!(entry["outcome"], "unreachable", "{entry}");
    assert_eq!(entry["actor.id"], "u-1", "{entry}");
    assert_eq!(entry["target.name"], dead.to_string(), "{entry}");
    assert!(entry.get("target.address").is_none(), "{entry}");
    let error = entry["error"].as_str().expect("a reason");
    assert!(error.contains("connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_client_is_recorded_with_reason() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let leaf = Leaf::gateway_client("another-gateway", ("db", 5432));
    let way = Way {
        gateway: lab.gateway_pki.clients.sign(&leaf),
        ..lab.way_by_name("db", 5432)
    };
    refused(way.tcp().await).await;
    let entry = ended(&gateway).await;
    assert_eq!(entry["outcome"], "refused", "{entry}");
    assert_eq!(entry["actor.type"], "platform", "{entry}");
    let error = entry["error"].as_str().expect("a reason");
    assert!(error.contains("another-gateway"), "{error}");
}

/// A client of this program hears the reason that is on record.
#[tokio::test(flavor = "multi_thread")]
async fn own_client_hears_the_recorded_reason() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let dead = Target::refusing(lab.host);
    let other = Leaf::gateway_client("another-gateway", ("db", 5432));
    let nowhere = Leaf::gateway_client_without_route(&lab.gateway_id);
    let leaf = |leaf| Way {
        gateway: lab.gateway_pki.clients.sign(leaf),
        ..lab.way_by_name("db", 5432)
    };
    for (way, outcome) in [
        (way(&lab, dead), "unreachable"),
        (leaf(&other), "refused"),
        (leaf(&nowhere), "refused"),
    ] {
        let stream = way.offer(&[status::ALPN]).await.expect("TLS 2");
        // The library alone would lose what comes in one read with the alert.
        let mut stream = SecureStream::new(stream);
        let received = soon("the status", status::receive(&mut stream)).await;
        let told = received.expect("a status").expect_err("no target");
        assert_eq!(told.class.as_str(), outcome);
        let reason = told.reason;
        let find = |lines: &[String]| {
            let mut entries = lines
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok());
            entries.find(|entry: &Value| {
                entry["message_id"] == events::SESSION_ENDED.id && entry["error"] == reason
            })
        };
        let entry: Value = gateway.wait_for(&reason, find).await;
        assert_eq!(entry["outcome"], outcome, "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_the_target_cut_is_recorded() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let reset = Target::reset(lab.host).await;
    let mut stream = way(&lab, reset.address).tcp().await.expect("a way");
    stream.write_all(b"x").await.expect("written");
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest))
        .await
        .expect_err("an abnormal end");
    let entry = ended(&gateway).await;
    assert_eq!(entry["outcome"], "cut", "{entry}");
    assert_eq!(entry["bytes.to_target"], 1, "{entry}");
    assert!(entry["error"].is_string(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_gateway_records_open_sessions() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let echo = Target::echo(lab.host).await;
    let mut stream = way(&lab, echo.address).tcp().await.expect("a way");
    echoes(&mut stream, b"open").await.expect("an echo");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    let entry = ended(&gateway).await;
    assert_eq!(entry["outcome"], "draining", "{entry}");
    assert_eq!(entry["bytes.to_target"], 4, "{entry}");
}

/// The fields at the end of a line of text: `name=value`, where a value may be quoted.
fn fields(line: &str) -> BTreeMap<String, String> {
    let (_, mut rest) = line
        .split_once(events::SESSION_ENDED.text)
        .expect("the sentence");
    let mut fields = BTreeMap::new();
    while let Some(field) = rest.strip_prefix(' ') {
        let (name, value) = field.split_once('=').expect("a value");
        assert!(!name.contains(' '), "{name:?} in {line}");
        let value = if value.starts_with('"') {
            let mut quoted = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let unquoted = quoted.next().expect("a value").expect("a quoted value");
            rest = &value[quoted.byte_offset()..];
            unquoted
        } else {
            let end = value.find(' ').unwrap_or(value.len());
            rest = &value[end..];
            value[..end].to_owned()
        };
        let before = fields.insert(name.to_owned(), value);
        assert!(before.is_none(), "{name} is there twice in {line}");
    }
    assert_eq!(rest, "", "{line}");
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn text_line_of_a_session_is_parsable() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let dead = Target::refusing(lab.host);
    refused(way(&lab, dead).tcp().await).await;
    let line = gateway.wait_for_line(events::SESSION_ENDED.text).await;
    let fields = fields(&line);
    let error = format!("cannot connect to {dead}: connection refused");
    for (name, value) in [
        ("actor.name", NAME),
        ("target.name", &dead.to_string()),
        ("outcome", "unreachable"),
        ("error", &error),
        ("bytes.to_target", "0"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{line}");
    }
}

/// The lines of an audit file, once there are `count`.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(&format!("{count} lines in {}", path.display()), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        found = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let is_enough = found.len() >= count;
        async move { is_enough.then_some(()).ok_or("not yet") }
    })
    .await;
    found
}

/// A session of one message, to its end.
async fn exchange(way: &Way) {
    let mut stream = way.tcp().await.expect("a way");
    echoes(&mut stream, b"message").await.expect("an echo");
    stream.shutdown().await.expect("our end");
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest))
        .await
        .expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_file_has_each_session_after_rotation() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let (audit, moved) = (lab.dir().join("audit.log"), lab.dir().join("audit.log.1"));
    let mut command = lab.gateway_command();
    // The log is silent about sessions; the file is not.
    command.more = vec![
        "--log-level=warn".to_owned(),
        format!("--audit-file={}", audit.display()),
    ];
    let gateway = command.spawn(lab.dir());
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    let way = way(&lab, echo.address);
    exchange(&way).await;
    let first = lines(&audit, 1).await;
    assert_eq!(mode(&audit), 0o600);
    assert_eq!(first[0]["message_id"], events::SESSION_ENDED.id);
    assert_eq!(first[0]["actor.name"], NAME);
    assert_eq!(first[0]["outcome"], "completed");
    assert_eq!(first[0]["bytes.from_target"], 7);
    assert!(first[0].get("error").is_none(), "{first:?}");
    assert!(first[0]["timestamp"].is_string(), "{first:?}");

    for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
        fs::rename(&audit, &moved).expect("moved");
        gateway.signal(signal);
        lines(&audit, 0).await;
        eventually("a new file", || async {
            audit.exists().then_some(()).ok_or("none")
        })
        .await;
        exchange(&way).await;
        let second = lines(&audit, 1).await;
        assert_eq!(
            (second.len(), second[0]["outcome"].as_str()),
            (1, Some("completed"))
        );
        assert_eq!(mode(&audit), 0o600);
    }
    assert!(!gateway.output().contains(events::SESSION_ENDED.text));
}

/// Without logrotate the program bounds the file itself.
#[tokio::test(flavor = "multi_thread")]
async fn large_audit_file_is_moved_away() {
    const FULL: u64 = 128 << 20;
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let (audit, old) = (
        lab.dir().join("audit.log"),
        lab.dir().join("audit.log.old.1"),
    );
    // Nearly full of nothing, which takes no room on the disk.
    let file = fs::File::create(&audit).expect("a file");
    file.set_len(FULL - 10).expect("a length");
    fs::set_permissions(&audit, fs::Permissions::from_mode(0o640)).expect("a mode");
    let mut command = lab.gateway_command();
    command.more = vec![format!("--audit-file={}", audit.display())];
    let _gateway = command.spawn(lab.dir());
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    exchange(&way(&lab, echo.address)).await;
    eventually("the file is moved", || async {
        old.exists().then_some(()).ok_or("not yet")
    })
    .await;
    let found = lines(&audit, 1).await;
    assert_eq!(found[0]["message_id"], events::SESSION_ENDED.id);
    assert_eq!(fs::metadata(&old).expect("the old one").len(), FULL - 10);
    assert_eq!(mode(&audit), 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_audit_file_stops_no_session() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let mut command = lab.gateway_command();
    command.more = vec!["--audit-file=/dev/full".to_owned()];
    let gateway = command.spawn(lab.dir());
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    let way = way(&lab, echo.address);
    for _ in 0..3 {
        exchange(&way).await;
    }
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    let output = gateway.output();
    let count = |event: Event| output.matches(event.text).count();
    assert_eq!(count(events::SESSION_ENDED), 3, "{output}");
    assert_eq!(count(events::AUDIT_FILE_FAILED), 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_session_has_outcome_of_its_requests() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let page = Target::http(lab.host).await;
    let request = "CONFIG\nGET / HTTP/1.1\r\nHost: private\r\nConnection: close\r\n\r\n";
    for (target, outcome) in [
        (Target::refusing(lab.host), "unreachable"),
        (page.address, "completed"),
    ] {
        let stream = way(&lab, target).offer(&["infisical-http-proxy"]).await;
        let mut stream = stream.expect("the service");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        soon("the answer", stream.read_to_end(&mut answer))
            .await
            .expect("an answer");
        let find = |lines: &[String]| {
            let mut entries = lines
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok());
            entries.find(|entry: &Value| {
                entry["message_id"] == events::SESSION_ENDED.id
                    && entry["target.name"] == target.to_string()
            })
        };
        let entry: Value = gateway.wait_for("the end", find).await;
        assert_eq!(entry["outcome"], outcome, "{entry}");
        assert_eq!(entry["bytes.from_target"], answer.len(), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_of_a_gateway_are_details() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay).await;
    let stream = lab
        .way_by_name("unused", 0)
        .offer(&["infisical-ping"])
        .await;
    let mut stream = stream.expect("the service");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("a clean end");
    let line = gateway.wait_for_line(events::SESSION_ENDED.id).await;
    let entry: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(entry["level"], "DEBUG", "{entry}");
    assert_eq!(entry["service"], "infisical-ping", "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_has_each_field_of_a_session() {
    if !may_mount() {
        return;
    }
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let journald = Journald::listen(lab.dir());
    let mut command = lab.gateway_command();
    command.more = vec!["--log-level=info".to_owned()];
    let stderr = lab.dir().join("stderr");
    let command = command.command(lab.dir());
    let command = as_service(&command, lab.dir(), &journald.directory, &stderr);
    let gateway = Process::spawn("gateway", command);
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    let mut stream = way(&lab, echo.address).tcp().await.expect("a way");
    echoes(&mut stream, b"open").await.expect("an echo");
    gateway.signal(Signal::SIGTERM);
    gateway.exit_code().await;
    let entry = journald.entry_with("MESSAGE_ID", events::SESSION_ENDED.id);
    for (field, value) in [
        ("OUTCOME", "draining"),
        ("ACTOR_TYPE", "user"),
        ("ACTOR_NAME", NAME),
        ("TARGET_NAME", &echo.address.to_string()),
        ("BYTES_TO_TARGET", "4"),
    ] {
        assert_eq!(get(&entry, field), Some(value), "{field}: {entry:?}");
    }
}
