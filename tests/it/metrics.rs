//! `--metrics-listen`: what gateways and relays serve there, as Prometheus reads it.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::eventually;
use crate::support::lab::{Lab, RELAY};
use crate::support::process::{Process, clean};

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
    let mut command = lab.relay_command();
    command.more.push(ON_A_FREE_PORT.to_owned());
    let relay = command.spawn(lab.dir());
    let relay_at = served_at(&relay).await;
    until(&lab, &relay_at, "infisical_up", 1.0).await;
    let (_gateway, gateway_at) = gateway(&lab, &relay).await;
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let rules = packaging.join("prometheus/rules.yml");
    let rules_name = rules.to_str().expect("UTF-8");
    let checked = promtool(&["check", "rules", rules_name], &rules);
    assert!(checked.status.success(), "{checked:?}");
    let operations = include_str!("../../docs/operations.md");
    for at in [&relay_at, &gateway_at] {
        let text = scrape(&lab, at).await;
        let file = lab.dir().join("metrics.txt");
        std::fs::write(&file, &text).expect("written");
        let checked = promtool(&["check", "metrics"], &file);
        assert!(checked.status.success(), "{checked:?}: {text}");
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, _) = line.split_once(' ').expect("a type");
            let row = format!("| `{name}` |");
            assert!(operations.contains(&row), "docs/operations.md lacks {name}");
        }
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
