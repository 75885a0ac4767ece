//! `--metrics-listen`: what gateways and relays serve there, as Prometheus reads it.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;

use crate::support::admin::Platform;
use crate::support::daemon::GatewayCommand;
use crate::support::lab::{GATEWAY, GATEWAY_CONNECTED, Lab, RELAY};
use crate::support::process::{Process, clean, infisical};
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::{eventually, soon};

const ON_A_FREE_PORT: &str = "--metrics-listen=127.0.0.1:0";

/// Where `process` serves metrics, as it logs it: without `/metrics`.
async fn served_at(process: &Process) -> String {
    let line = process.wait_for_line("metrics are served").await;
    let (_, address) = line.split_once("http://").expect("an address");
    let end = address.find("/metrics").expect("a path");
    format!("http://{}", &address[..end])
}

/// The status and the body of what curl gets with `words`.
async fn curl(dir: &Path, words: &[&str]) -> (u16, String) {
    let mut command = clean("curl", dir);
    command.args([
        "--silent",
        "--max-time",
        "20",
        "--write-out",
        "\n%{http_code}",
    ]);
    command.args(words);
    let process = Process::spawn("curl", command);
    process.exit().await;
    let output = process.stdout();
    let (body, status) = output.trim_end().rsplit_once('\n').unwrap_or(("", &output));
    (status.trim().parse().expect("a status"), body.to_owned())
}

/// The value of `sample`, a name with its labels.
fn value(text: &str, sample: &str) -> Option<f64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

async fn scrape(lab: &Lab, at: &str) -> String {
    let (status, text) = curl(lab.dir(), &[&format!("{at}/metrics")]).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// Waits until `sample` has `expected` for its value.
async fn until(lab: &Lab, at: &str, sample: &str, expected: f64) -> String {
    let looked = || async {
        let text = scrape(lab, at).await;
        let is_there = value(&text, sample) == Some(expected);
        if is_there { Ok(text) } else { Err(text) }
    };
    eventually(sample, looked).await
}

/// A gateway of `lab` that serves metrics, once its tunnel is up, and where it does.
async fn gateway(lab: &Lab, relay: &Process) -> (Process, String) {
    let mut command = lab.gateway_command();
    command.more.push(ON_A_FREE_PORT.to_owned());
    let gateway = command.spawn(lab.dir());
    relay.wait_for_line("gateway connected").await;
    gateway.wait_for_line("Gateway is reachable").await;
    let at = served_at(&gateway).await;
    (gateway, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_readiness_follow_the_tunnel() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let (gateway, at) = gateway(&lab, &relay).await;
    let text = scrape(&lab, &at).await;
    for (sample, expected) in [
        ("infisical_up", 1.0),
        ("infisical_supervisor_alive", 1.0),
        ("infisical_heartbeat_ok", 1.0),
        ("infisical_gateway_sessions_open", 0.0),
        ("infisical_gateway_sent_to_targets_bytes_total", 0.0),
        (
            "infisical_condition{id=\"no-tunnel\",severity=\"critical\"}",
            0.0,
        ),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample}: {text}");
    }
    let left = value(&text, "infisical_certificate_left_seconds");
    assert!(left.is_some_and(|left| left > 0.0), "{text}");
    let path = |path: &str| format!("{at}{path}");
    let (status, body) = curl(lab.dir(), &[&path("/readyz")]).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(RELAY), "{body}");
    let (status, _) = curl(lab.dir(), &[&path("/healthz")]).await;
    assert_eq!(status, 200);
    let (status, _) = curl(lab.dir(), &[&path("/")]).await;
    assert_eq!(status, 404);
    let (status, _) = curl(lab.dir(), &["--request", "POST", &path("/metrics")]).await;
    assert_eq!(status, 405);

    relay.signal(Signal::SIGKILL);
    let text = until(&lab, &at, "infisical_up", 0.0).await;
    let sample = "infisical_condition{id=\"no-tunnel\",severity=\"critical\"}";
    assert_eq!(value(&text, sample), Some(1.0), "{text}");
    assert!(
        text.contains("infisical_gateway_reconnects_total{reason=\""),
        "{text}"
    );
    let (status, body) = curl(lab.dir(), &[&path("/readyz")]).await;
    assert_eq!(status, 503);
    assert!(
        body.starts_with("not connected, next attempt in "),
        "{body}"
    );
    let (status, _) = curl(lab.dir(), &[&path("/healthz")]).await;
    assert_eq!(status, 200, "the process is alive without a tunnel");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
}

/// A relay with metrics that is up, and where it serves them.
async fn relay(lab: &Lab) -> (Process, String) {
    let mut command = lab.relay_command();
    command.more.push(ON_A_FREE_PORT.to_owned());
    let relay = command.spawn(lab.dir());
    let at = served_at(&relay).await;
    until(lab, &at, "infisical_up", 1.0).await;
    (relay, at)
}

/// After a session the counters of gateway and relay hold it, and what it carried.
#[tokio::test(flavor = "multi_thread")]
async fn counters_hold_a_session_and_its_bytes() {
    let lab = Lab::new().await;
    let (relay, relay_at) = relay(&lab).await;
    let (gateway, at) = gateway(&lab, &relay).await;
    let echo = Target::echo(lab.host).await;
    let mut client = lab.way(echo.address).tcp().await.expect("a way");
    echoes(&mut client, b"eleven byte").await.expect("an echo");
    // An open session is counted with its bytes.
    let text = until(&lab, &at, "infisical_gateway_sessions_open", 1.0).await;
    for sample in [
        "infisical_gateway_sent_to_targets_bytes_total",
        "infisical_gateway_received_from_targets_bytes_total",
    ] {
        assert_eq!(value(&text, sample), Some(11.0), "{sample}: {text}");
    }
    let buffered = value(&text, "infisical_gateway_buffered_bytes");
    assert!(buffered.is_some(), "{text}");
    drop(client);
    let open = "infisical_gateway_sessions_open";
    let text = until(&lab, &at, open, 0.0).await;
    let sent = "infisical_gateway_sent_to_targets_bytes_total";
    assert_eq!(value(&text, sent), Some(11.0), "{text}");
    let connects = "infisical_gateway_target_connect_seconds_count";
    assert_eq!(value(&text, connects), Some(1.0), "{text}");

    // A target that refuses, and one whose name is unknown.
    let nowhere = lab.way_by_name("nowhere.invalid", 1);
    for way in [lab.way(Target::refusing(lab.host)), nowhere] {
        let mut stream = way.tcp().await.expect("a way");
        let mut nothing = Vec::new();
        let end = soon("the end", stream.read_to_end(&mut nothing)).await;
        end.expect_err("no target");
    }
    for reason in ["refused", "dns"] {
        let sample = format!("infisical_gateway_target_failures_total{{reason=\"{reason}\"}}");
        until(&lab, &at, &sample, 1.0).await;
    }
    let sample = "infisical_gateway_sessions_total{outcome=\"unreachable\"}";
    until(&lab, &at, sample, 2.0).await;

    // TLS 2 is among what the relay carries.
    let of_gateway = |name: &str| {
        let id = &lab.gateway_id;
        format!("infisical_relay_gateway_{name}_total{{gateway=\"{id}\"}}")
    };
    let text = until(&lab, &relay_at, &of_gateway("connections"), 3.0).await;
    for (name, total) in [
        (
            "received_bytes",
            "infisical_relay_sent_to_gateways_bytes_total",
        ),
        ("sent_bytes", "infisical_relay_sent_to_clients_bytes_total"),
    ] {
        let carried = value(&text, &of_gateway(name));
        assert!(carried.is_some_and(|bytes| bytes > 11.0), "{name}: {text}");
        assert_eq!(carried, value(&text, total), "{text}");
    }

    // A reload keeps the listener and what was counted.
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_line("configuration reloaded").await;
    let text = scrape(&lab, &at).await;
    assert_eq!(value(&text, sent), Some(11.0), "{text}");
    let served = gateway.output().matches("metrics are served").count();
    assert_eq!(served, 1, "{}", gateway.output());
}

/// A token that says when it expires is shown with the time that is left.
#[tokio::test(flavor = "multi_thread")]
async fn token_expiry_is_counted_down() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    // {"alg":"none"} . {"exp":4102444800}, which is the year 2100.
    let token = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";
    let keys = format!("INFISICAL_TOKEN={token}\n");
    let url = lab.platform.url();
    let mut command = GatewayCommand::new(lab.dir(), GATEWAY, &url, RELAY, &keys);
    command.more.push(ON_A_FREE_PORT.to_owned());
    let gateway = command.spawn(lab.dir());
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let at = served_at(&gateway).await;
    let text = until(&lab, &at, "infisical_up", 1.0).await;
    let left = value(&text, "infisical_token_left_seconds").expect("a time");
    assert!(left > 1e9, "{text}");
    let mut command = infisical(lab.dir());
    command.args(["gateway", "status", "--json"]);
    let status = Process::spawn("status", command);
    status.exit().await;
    let status: serde_json::Value = serde_json::from_str(&status.stdout()).expect("JSON");
    let expires = &status["gateways"][0]["token_expires"];
    assert_eq!(expires, "2100-01-01T00:00:00Z", "{status}");
}

/// The gateway works without its metrics, says why, and serves them once the port is free.
#[tokio::test(flavor = "multi_thread")]
async fn taken_metrics_port_is_tried_again() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let taken = std::net::TcpListener::bind((lab.host, 0)).expect("a port");
    let place = taken.local_addr().expect("an address");
    let mut command = lab.gateway_command();
    command.more.push(format!("--metrics-listen={place}"));
    let gateway = command.spawn(lab.dir());
    let line = gateway.wait_for_line("metrics are not served").await;
    for part in [place.to_string().as_str(), "in use"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    drop(taken);
    gateway.wait_for_line("metrics are served").await;
    until(&lab, &format!("http://{place}"), "infisical_up", 1.0).await;
}

/// A platform counts its requests, what it refused, and what it issued.
#[tokio::test(flavor = "multi_thread")]
async fn platform_counts_requests_and_certificates() {
    let lab = Lab::new().await;
    let platform = Platform::start(lab.dir(), lab.host, 0, &[ON_A_FREE_PORT]).await;
    let at = served_at(&platform.process).await;
    until(&lab, &at, "infisical_up", 1.0).await;
    let (status, body) = curl(lab.dir(), &[&format!("{at}/readyz")]).await;
    assert_eq!((status, body.as_str()), (200, "serving\n"));
    let token = platform.identity_token("edge").await;
    let post = reqwest::Method::POST;
    let register = serde_json::json!({"host": "127.0.0.1", "name": "relay-1"});
    let path = "v1/relays/register-org-relay";
    let asked = [(&*token, 200), ("made-up", 401), ("made-up", 401)];
    for (bearer, expected) in asked {
        let answer = platform.api(post.clone(), path, bearer, Some(&register));
        assert_eq!(answer.await.0, expected);
    }
    let register = serde_json::json!({"relayName": "relay-1", "name": "edge"});
    let (status, answer) = platform
        .api(post, "v2/gateways", &token, Some(&register))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(platform.session("edge", "db", 1).await.0, 200);
    let text = scrape(&lab, &at).await;
    for (sample, expected) in [
        ("requests_total{route=\"relays\",status=\"200\"}", 1.0),
        ("requests_total{route=\"relays\",status=\"401\"}", 2.0),
        ("requests_total{route=\"gateways\",status=\"200\"}", 1.0),
        ("requests_total{route=\"sessions\",status=\"200\"}", 1.0),
        ("errors_total{kind=\"Unauthorized\"}", 2.0),
        ("issued_total{to=\"relay\"}", 1.0),
        ("issued_total{to=\"gateway\"}", 1.0),
        ("issued_total{to=\"session\"}", 1.0),
    ] {
        let sample = format!("infisical_platform_{sample}");
        assert_eq!(value(&text, &sample), Some(expected), "{sample}: {text}");
    }
    assert_documented(&text);
}

/// Each metric of `text` has its row in docs/operations.md.
fn assert_documented(text: &str) {
    let operations = include_str!("../../docs/operations.md");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = line.split_once(' ').expect("a type");
        let row = format!("| `{name}` |");
        assert!(operations.contains(&row), "docs/operations.md lacks {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_off_unless_asked_for() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = lab.gateway(&relay).await;
    gateway.wait_for_line("Gateway is reachable").await;
    for process in [&relay, &gateway] {
        let output = process.output();
        assert!(!output.contains("metrics are served"), "{output}");
    }
    let listening = Command::new("ss").args(["-Htlnp"]).output();
    if let Ok(listening) = listening {
        let text = String::from_utf8_lossy(&listening.stdout).into_owned();
        assert!(!text.contains(&format!("pid={},", gateway.pid())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_addresses_need_permission() {
    let lab = Lab::new().await;
    let mut command = lab.gateway_command();
    command.more.push("--metrics-listen=0.0.0.0:0".to_owned());
    let gateway = command.spawn(lab.dir());
    assert_eq!(gateway.exit_code().await, 78);
    let output = gateway.output();
    for part in ["--metrics-listen", "127.0.0.1:0", "--metrics-allow-remote"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let mut command = lab.gateway_command();
    command.more.push("--metrics-listen=0.0.0.0:0".to_owned());
    command.more.push("--metrics-allow-remote".to_owned());
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("metrics are served").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_socket_serves_the_same() {
    let lab = Lab::new().await;
    let path = lab.dir().join("metrics.sock");
    let mut command = lab.relay_command();
    command
        .more
        .push(format!("--metrics-listen=unix:{}", path.display()));
    let relay = command.spawn(lab.dir());
    relay.wait_for_line("metrics are served").await;
    let socket = path.to_str().expect("UTF-8");
    let looked = || async {
        let words = ["--unix-socket", socket, "http://localhost/readyz"];
        let (status, body) = curl(lab.dir(), &words).await;
        if status == 200 { Ok(()) } else { Err(body) }
    };
    eventually("the relay is ready", looked).await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.exit_code().await, 0);
}

/// Whether the programs of Debian's package prometheus are here; says so if they are not.
fn has_prometheus() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let has_all = ["prometheus", "promtool"].into_iter().all(is_here);
    if !has_all {
        eprintln!("SKIPPED: there is no Prometheus (Debian's package prometheus)");
    }
    has_all
}

fn promtool(words: &[&str], input: &Path) -> std::process::Output {
    let input = std::fs::File::open(input).expect("the input");
    let mut command = Command::new("promtool");
    let run = command.args(words).stdin(input).output();
    run.expect("promtool runs")
}

/// Prometheus takes what gateway and relay serve, in both formats, and the alerts refer to metrics
/// that are there. The pages name each of them.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_gateway_and_relay() {
    if !has_prometheus() {
        return;
    }
    let lab = Lab::new().await;
    let (relay, relay_at) = relay(&lab).await;
    let (_gateway, gateway_at) = gateway(&lab, &relay).await;
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let rules = packaging.join("prometheus/rules.yml");
    let rules_name = rules.to_str().expect("UTF-8");
    let checked = promtool(&["check", "rules", rules_name], &rules);
    assert!(checked.status.success(), "{checked:?}");
    for at in [&relay_at, &gateway_at] {
        let text = scrape(&lab, at).await;
        let file = lab.dir().join("metrics.txt");
        std::fs::write(&file, &text).expect("written");
        let checked = promtool(&["check", "metrics"], &file);
        assert!(checked.status.success(), "{checked:?}: {text}");
        assert_documented(&text);
    }
    let targets = [&relay_at, &gateway_at].map(|at| at.trim_start_matches("http://"));
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: [{rules_name:?}]\nscrape_configs:\n  \
         - job_name: infisical\n    static_configs: [{{targets: {targets:?}}}]\n"
    );
    let file = lab.dir().join("prometheus.yml");
    std::fs::write(&file, config).expect("written");
    let mut command = clean("prometheus", lab.dir());
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!(
        "--storage.tsdb.path={}",
        lab.dir().join("tsdb").display()
    ));
    command.arg("--web.listen-address=127.0.0.1:0");
    let prometheus = Process::spawn("prometheus", command);
    let line = prometheus.wait_for_line("Listening on").await;
    let (_, address) = line.split_once("address=").expect("an address");
    let query = format!(
        "http://{}/api/v1/query?query=sum(infisical_up)",
        address.trim()
    );
    let scraped = || async {
        let (_, answer) = curl(lab.dir(), &[&query]).await;
        if answer.contains("\"2\"]") {
            Ok(())
        } else {
            Err(answer)
        }
    };
    eventually("both are up for Prometheus", scraped).await;
}

/// Each metric that dashboard and alerts use is one that docs/operations.md explains.
#[test]
fn dashboard_and_alerts_use_known_metrics() {
    let operations = include_str!("../../docs/operations.md");
    for page in [
        include_str!("../../packaging/grafana/infisical-gateway.json"),
        include_str!("../../packaging/prometheus/rules.yml"),
    ] {
        let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut names = words
            .filter(|word| word.starts_with("infisical_"))
            .peekable();
        assert!(names.peek().is_some(), "no metric");
        for name in names {
            let row = format!("| `{}` |", name.trim_end_matches("_bucket"));
            assert!(operations.contains(&row), "{name}");
        }
    }
    let dashboard = include_str!("../../packaging/grafana/infisical-gateway.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
}
