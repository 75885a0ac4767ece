//! What an operator sees of a service, inside its sandbox: metrics, status, sessions, audit.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::container::Container;
use crate::lab::{Lab, PROGRAM};
use crate::request;
use crate::service::{self, CONFIGURATION, GATEWAY, UNIT, UNITS, User};
use crate::wait;

const PORT: &str = "127.0.0.1:9464";
const SOCKET: &str = "unix:/run/infisical-gateway/metrics.sock";
const SETTING: &str = "INFISICAL_METRICS_LISTEN";
const AUDIT: &str = "/var/log/infisical/audit.jsonl";

fn drop_in() -> String {
    format!("{UNITS}/{UNIT}.d/ports.conf")
}

fn is_there(container: &Container, path: &str) -> bool {
    container.run(["test", "-e", path]).status == Some(0)
}

/// Installs the gateway with `more` arguments; gives what the installer printed.
#[track_caller]
fn install(lab: &Lab, user: User, more: &[&str]) -> String {
    let mut words = service::words(lab, user);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    lab.container.run(words).ok()
}

/// Waits until the three pages at `place` tell of a gateway that serves.
#[track_caller]
fn assert_served(container: &Container, place: &str) {
    wait::until("readiness", || {
        match request::get(container, place, "/readyz") {
            Ok((200, line)) => Ok(line),
            other => Err(format!("{other:?}\n{}", container.journal(UNIT))),
        }
    });
    let get = |page: &str| request::get(container, place, page).expect(page);
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    let (status, metrics) = get("/metrics");
    assert_eq!(status, 200, "{metrics}");
    for part in ["\ninfisical_up 1", "\ninfisical_gateway_sessions_open 0"] {
        assert!(metrics.contains(part), "no {part:?} in {metrics}");
    }
    assert_eq!(get("/else").0, 404);
}

pub(super) fn installer_shows_that_it_waits(lab: &mut Lab) {
    let container = &lab.container;
    let words = service::words(lab, User::Root);
    let platform = |signal: &str| {
        let signal = format!("--signal={signal}");
        let kill = ["systemctl", "kill", &signal, "test-platform.service"];
        container.run(kill).ok();
    };
    platform("SIGSTOP");
    let mut command = container.command(words);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut installer = command.spawn().expect("timeout");
    let errors = installer.stderr.take().expect("a pipe");
    let mut errors = BufReader::new(errors).lines().map_while(Result::ok);
    let waits = format!("Waiting for the platform {}/api ...", lab.domain);
    let shown = errors.find(|line| *line == waits);
    platform("SIGCONT");
    assert_eq!(shown, Some(waits));
    let mut account = String::new();
    let mut stdout = installer.stdout.take().expect("a pipe");
    stdout.read_to_string(&mut account).expect("text");
    assert!(installer.wait().expect("a child of ours").success());
    assert!(!account.contains("Waiting for"), "{account}");
    assert!(account.contains("is active"), "{account}");
}

/// The unit of a gateway forbids it; the role works without.
pub(super) fn without_the_installer_no_port_is_opened(lab: &mut Lab) {
    let container = &lab.container;
    service::set(container, CONFIGURATION, SETTING, PORT);
    container.run(["systemctl", "restart", UNIT]).ok();
    service::wait_for_line(container, UNIT, "metrics are not served");
    request::get(container, PORT, "/healthz").expect_err("no one listens");
    lab.assert_session(GATEWAY);
}

pub(super) fn installed_metrics_are_served_in_the_sandbox(lab: &mut Lab) {
    let container = &lab.container;
    let account = install(lab, User::Root, &["--metrics-listen", PORT]);
    assert!(
        account.contains(&format!("+ {}", drop_in())),
        "the unit is opened: {account}"
    );
    assert_served(container, PORT);
    // Other ports stay closed.
    let allowed = container.property(UNIT, "SocketBindAllow");
    let allowed: Vec<&str> = allowed.lines().collect();
    assert!(
        matches!(allowed.as_slice(), [port, udp] if port.ends_with("9464") && udp.contains("udp")),
        "{allowed:?}"
    );
}

pub(super) fn readiness_follows_the_tunnel(lab: &mut Lab) {
    let container = &lab.container;
    let get = |page: &str| request::get(container, PORT, page);
    container.run(["systemctl", "stop", "test-relay"]).ok();
    let line = wait::until("the loss", || match get("/readyz") {
        Ok((503, line)) => Ok(line),
        other => Err(format!("{other:?}")),
    });
    // Whichever attempt it was that failed last.
    assert!(line.contains("the tunnel cannot be made"), "{line}");
    assert_eq!(get("/healthz").expect("alive").0, 200);
    let checked = container.run([PROGRAM, "gateway", "healthcheck"]);
    assert_eq!(checked.exits(2), "");
    container.run(["systemctl", "start", "test-relay"]).ok();
    assert_served(container, PORT);
}

pub(super) fn status_and_sessions_answer_root(lab: &mut Lab) {
    let container = &lab.container;
    let mut session = lab.session(GATEWAY);
    session.exchange(b"one");
    let shown = container.run([PROGRAM, "gateway", "sessions"]).ok();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("echo.example.org:7000"), "{shown}");
    assert_eq!(session.finish(), b"");
    let shown = container.run([PROGRAM, "gateway", "status"]).ok();
    for part in ["gateway: office", "up since", "relay: relay-one"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    let checked = container.run([PROGRAM, "gateway", "healthcheck"]);
    assert_eq!(checked.ok(), "");
}

/// They are told why, and what to type instead.
pub(super) fn ordinary_users_are_refused_with_a_reason(lab: &mut Lab) {
    let container = &lab.container;
    let user = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        PROGRAM,
        "gateway",
    ];
    for command in ["status", "sessions"] {
        let refused = container.run([&user[..], &[command]].concat());
        let told = refused.exits(2);
        for part in [
            "only root and the user of the service may ask",
            &format!("sudo infisical gateway {command}"),
        ] {
            assert!(told.contains(part), "no {part} in {told}");
        }
    }
    let checked = container.run([&user[..], &["healthcheck"]].concat());
    assert_eq!(checked.exits(2), "");
    let refused = container.run([&user[..], &["reconnect"]].concat());
    assert!(refused.stderr.contains("sudo infisical"), "{refused:?}");
}

pub(super) fn removed_setting_closes_the_port_again(lab: &mut Lab) {
    let container = &lab.container;
    let lines = container.read(CONFIGURATION);
    let lines = lines.lines().filter(|line| !line.starts_with(SETTING));
    let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
    container.write(CONFIGURATION, &lines, 0o600);
    let account = install(lab, User::Root, &[]);
    assert!(account.contains(&format!("- {}", drop_in())), "{account}");
    assert!(!is_there(container, &drop_in()));
    lab.assert_session(GATEWAY);
    request::get(container, PORT, "/healthz").expect_err("no one listens");
}

pub(super) fn socket_elsewhere_is_refused(lab: &mut Lab) {
    let mut words = service::words(lab, User::Root);
    words.extend(["--metrics-listen", "unix:/run/metrics.sock"].map(str::to_owned));
    let refused = lab.container.run(words);
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(refused.stderr.contains(SOCKET), "{refused:?}");
}

pub(super) fn installed_metrics_socket_is_served(lab: &mut Lab) {
    install(lab, User::Root, &["--metrics-listen", SOCKET]);
    assert_served(&lab.container, SOCKET);
}

pub(super) fn its_own_user_serves_metrics_and_audits(lab: &mut Lab) {
    let container = &lab.container;
    let arguments = ["--metrics-listen", SOCKET, "--audit-file", AUDIT];
    install(lab, User::Dynamic, &arguments);
    assert_served(container, SOCKET);
    let socket = SOCKET.trim_start_matches("unix:");
    let owner = container.run(["stat", "--format=%U %a", socket]).ok();
    assert_eq!(owner, "infisical-gateway 660\n");
    assert_audited(lab);
    install(lab, User::Dynamic, &["--metrics-listen", PORT]);
    assert_served(container, PORT);
    assert!(!is_there(container, socket), "the socket is left behind");
}

/// A session is in the audit file, which others cannot read.
#[track_caller]
fn assert_audited(lab: &Lab) {
    lab.assert_session(GATEWAY);
    let entry = wait::until("an audit entry", || {
        let text = lab.container.sh(&format!("cat {AUDIT}")).stdout;
        let last = text.lines().last().map(serde_json::from_str);
        match last {
            Some(Ok(entry)) => Ok(entry),
            Some(Err(_)) | None => Err(text),
        }
    });
    let entry: serde_json::Value = entry;
    assert_eq!(entry["outcome"], "completed", "{entry}");
    assert_eq!(entry["target.name"], "echo.example.org:7000", "{entry}");
    let mode = lab.container.run(["stat", "--format=%a", AUDIT]).ok();
    assert!(matches!(mode.trim(), "600" | "640"), "{mode}");
}
