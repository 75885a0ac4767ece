//! What repeats does not fill the log: health checks of load balancers, failed sessions, and
//! failures that are retried, whose text may be another one each time.

use std::net::Ipv4Addr;

use infisical_runtime::events;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::fake_platform::Answer;
use crate::support::lab::{Lab, REGISTER_GATEWAY, RELAY_HEARTBEAT};
use crate::support::manager::Manager;
use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::x509::{Ca, Leaf};
use crate::support::{eventually, loopback, soon, tls, write_private};
use crate::tls_errors::tls_server;

/// As many checks of each kind as a load balancer makes in a minute, and more.
const CHECKS: usize = 64;
/// What HAProxy's `send-proxy` writes first.
const PROXY: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 8443\r\n";
/// Attempts of something that fails and is retried.
const ATTEMPTS: usize = 5;
/// More silent connections than a source may have unfinished handshakes.
const SILENT: usize = 600;

/// Lines with `part` that are shown at the usual log level.
fn shown(output: &str, part: &str) -> usize {
    let is_shown = |line: &&str| line.contains(part) && !line.contains("DEBUG");
    output.lines().filter(is_shown).count()
}

/// Waits until `process` has written `count` lines with `part`, whatever their level, and gives how
/// many of them are shown at the usual one.
async fn shown_of(process: &Process, count: usize, part: &str) -> usize {
    let enough = |lines: &[String]| {
        let written = lines.iter().filter(|line| line.contains(part)).count();
        (written >= count).then_some(())
    };
    process
        .wait_for(&format!("{count} lines with {part:?}"), enough)
        .await;
    shown(&process.output(), part)
}

/// Connects, sends `bytes`, and waits for the end.
async fn check(host: Ipv4Addr, port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect((host, port))
        .await
        .expect("the port is open");
    if bytes.is_empty() {
        return;
    }
    // The relay may have refused already.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sources_health_checks_make_one_line() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let anchors = lab.relay_pki.server_anchors();
    for _ in 0..CHECKS {
        check(lab.host, 2222, b"").await;
        check(lab.host, 8443, b"").await;
        check(lab.host, 2222, PROXY).await;
        check(lab.host, 8443, PROXY).await;
        // As HAProxy's `check-ssl`: a handshake without a client certificate.
        let _ = tls::refused(tls::outer(lab.host, None, &anchors).await).await;
    }
    let of_tls = shown_of(&relay, CHECKS * 2, "client refused").await;
    assert_eq!(of_tls, 1, "{}", relay.output());
    let of_ssh = shown_of(&relay, CHECKS, "gateway did not authenticate").await;
    assert_eq!(of_ssh, 1, "{}", relay.output());
    let ended = "connection ended before a";
    assert_eq!(shown(&relay.output(), ended), 0, "{}", relay.output());
    // Another source has a line of its own.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((loopback::address(), 0).into())
        .expect("an address");
    let mut other = socket.connect((lab.host, 8443).into()).await.expect("open");
    other.write_all(PROXY).await.expect("written");
    let of_both = shown_of(&relay, CHECKS * 2 + 1, "client refused").await;
    assert_eq!(of_both, 2, "{}", relay.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_with_changing_text_is_logged_once() {
    let lab = Lab::new().await;
    for number in 0..6 {
        let answer = Answer::error(503, &format!("not before {number}"), "req-1");
        lab.platform.once(REGISTER_GATEWAY, answer);
    }
    let gateway = lab.gateway_command().spawn(lab.dir());
    lab.platform.asked(REGISTER_GATEWAY, 5).await;
    let lines = shown_of(&gateway, 4, "not connected").await;
    assert_eq!(lines, 1, "{}", gateway.output());
}

/// The text of the failure holds dates, and each attempt has another number.
#[tokio::test(flavor = "multi_thread")]
async fn expired_platform_certificate_makes_one_line() {
    let lab = Lab::new().await;
    let ca = Ca::root("Private CA");
    let expired = ca.sign(&Leaf::relay_server(lab.host).expired());
    let platform = tls_server(lab.host, &expired, None).await;
    let roots = lab.dir().join("roots.pem");
    write_private(&roots, &ca.pem());
    let (mut gateway, mut relay) = (lab.gateway_command(), lab.relay_command());
    gateway.domain = format!("https://{}", platform.address);
    relay.domain.clone_from(&gateway.domain);
    let commands = [gateway.command(lab.dir()), relay.command(lab.dir())];
    for (name, mut command) in ["gateway", "relay"].into_iter().zip(commands) {
        command.env("SSL_CERT_FILE", &roots);
        let before = platform.accepted();
        let process = Process::spawn(name, command);
        eventually(&format!("attempts of the {name}"), || async {
            let attempts = platform.accepted() - before;
            if attempts >= ATTEMPTS {
                Ok(())
            } else {
                Err(attempts)
            }
        })
        .await;
        let lines = shown_of(&process, ATTEMPTS - 1, "certificate expired on 20").await;
        assert_eq!(lines, 1, "{}", process.output());
        process.kill().await;
    }
}

/// One row of the list of relays cannot be used, and no other relay is healthy, so that the
/// gateway asks repeatedly.
#[tokio::test(flavor = "multi_thread")]
async fn odd_relay_is_logged_once() {
    const LIST: &str = "GET /api/v1/relays";
    let lab = Lab::new().await;
    let rows = json!([
        {"id": "1", "name": "odd", "host": "https://relay.example.com/path"},
        {"id": "2", "name": "stale", "host": lab.host.to_string(), "heartbeat": null},
    ]);
    lab.platform.always(LIST, Answer::ok(&rows));
    let mut command = lab.gateway_command();
    command.relay = None;
    let gateway = command.spawn(lab.dir());
    lab.platform.asked(LIST, ATTEMPTS).await;
    gateway.wait_for_line("left out").await;
    assert_eq!(
        shown(&gateway.output(), "left out"),
        1,
        "{}",
        gateway.output()
    );
    let lines = shown_of(&gateway, ATTEMPTS - 1, "not connected").await;
    assert_eq!(lines, 1, "{}", gateway.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sessions_make_one_line_per_class() {
    const CLASS: &str = "outcome=unreachable";
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    let closed = loopback::address();
    let ways = [
        lab.way_by_name(&closed.to_string(), 9),
        lab.way_by_name(&closed.to_string(), 10),
    ];
    for way in ways.iter().cycle().take(CHECKS) {
        if let Ok(stream) = way.tcp().await {
            let _ = tls::refused(Ok(stream)).await;
        }
    }
    let failed = |line: &&String| line.contains(events::SESSION_ENDED.text) && line.contains(CLASS);
    let all = |lines: &[String]| (lines.iter().filter(failed).count() >= CHECKS).then_some(());
    gateway.wait_for("an end of each", all).await;
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
    let output = gateway.output();
    let (mut lines, mut counted) = (0, 0);
    for line in output.lines().filter(|line| !line.contains("DEBUG")) {
        if line.contains(events::SESSION_ENDED.text) {
            assert!(line.contains(CLASS), "{line}");
            lines += 1;
        } else if line.contains(events::SESSIONS_SUMMARIZED.text) {
            let count = line.split("count=").nth(1).expect("a count");
            let count: usize = count
                .split(' ')
                .next()
                .unwrap_or_default()
                .parse()
                .expect("a number");
            counted += count;
        }
    }
    assert_eq!(lines, 2, "one for each target: {output}");
    assert_eq!(lines + counted, CHECKS, "none is lost: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_give_way_to_newcomers() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let echo = Target::echo(lab.host).await;
    // From the same address as everything else on this machine.
    let fill = async |port| {
        let mut held = Vec::new();
        for _ in 0..SILENT {
            let stream = TcpStream::connect((lab.host, port)).await;
            held.push(stream.expect("the port is open"));
        }
        held
    };
    let silent = fill(2222).await;
    let _gateway = lab.gateway(&relay).await;
    drop(silent);
    let _silent = fill(8443).await;
    let mut stream = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut stream, b"served").await.expect("an echo");
    let output = relay.output();
    assert!(output.contains("unfinished handshake gave way"), "{output}");
    assert!(!output.contains("too many connections"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_status_shows_that_it_is_unreachable() {
    let lab = Lab::new().await;
    let refused = Answer::error(400, "cannot reach the relay", "req-1");
    lab.platform.always(RELAY_HEARTBEAT, refused);
    let mut command = lab.relay_command().command(lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let _relay = Process::spawn("relay", command);
    let mut all = String::new();
    while !all.contains("; but Infisical does not reach it: ") {
        all = manager.wait_for("STATUS=serving ");
    }
    assert!(all.contains("cannot reach the relay"), "{all}");
}
