//! `doctor`: exactly the layer that failed is named, what depends on it is not checked, and nothing
//! that runs is disturbed.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tls_errors::{acceptor, tls_server};
use crate::support::fake_platform::Answer;
use crate::support::lab::{
    GATEWAY, GATEWAY_CONNECTED, GATEWAY_HEARTBEAT, Lab, REGISTER_GATEWAY, REGISTER_RELAY, RELAY,
    RELAY_HEARTBEAT, TOKEN,
};
use crate::support::process::{Process, infisical};
use crate::support::session::echoes;
use crate::support::targets::Target;
use crate::support::write_private;
use crate::support::x509::{Ca, Leaf, Pem};

/// What the doctor asks the platform for.
const STATUS: &str = "GET /api/status";
const RELAYS: &str = "GET /api/v1/relays";
/// Layers that may be left out where nothing is wrong: without systemd, TLS or control groups.
const OPTIONAL: &[&str] = &["unit", "hardened", "platform-tls", "descriptors", "memory"];

/// A lab whose platform answers the doctor.
async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.platform.always(STATUS, Answer::ok(&json!({})));
    let relays = json!([{"name": RELAY, "host": lab.host.to_string()}]);
    lab.platform.always(RELAYS, Answer::ok(&relays));
    lab
}

/// A file that is a good configuration of the lab's gateway.
fn good(lab: &Lab) -> String {
    let path = lab.dir().join("doctor.conf");
    write_private(&path, &format!("INFISICAL_TOKEN={TOKEN}\n"));
    path.to_str().expect("text").to_owned()
}

/// What a doctor found.
struct Findings {
    code: i32,
    json: Value,
}

impl Findings {
    /// The checks with `status`, in their order.
    fn with(&self, status: &str) -> Vec<&str> {
        let checks = self.json["checks"].as_array().expect("checks").iter();
        let found = checks.filter(|check| check["status"] == status);
        found.filter_map(|check| check["id"].as_str()).collect()
    }

    fn check(&self, id: &str) -> &Value {
        let mut checks = self.json["checks"].as_array().expect("checks").iter();
        checks.find(|check| check["id"] == id).expect(id)
    }

    /// `failed` and nothing else failed, and `dependents` were not checked because of it.
    fn assert_only(&self, case: &str, failed: &str, dependents: &[&str]) {
        let json = &self.json;
        assert_eq!(self.with("failed"), [failed], "{case}: {json:#}");
        assert_eq!(self.code, 1, "{case}");
        let found = self.check(failed);
        for part in ["detail", "cause", "fix"] {
            let text = found[part].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{case}: no {part}: {json:#}");
        }
        assert_eq!(json["cause"], found["cause"], "{case}");
        assert_eq!(json["fix"], found["fix"], "{case}");
        for dependent in dependents {
            let because = self.check(dependent)["because"].as_str();
            let because = because.unwrap_or_default();
            assert!(because.ends_with(" failed"), "{case} {dependent}: {json:#}");
        }
    }

    fn assert_good(&self) {
        let json = &self.json;
        assert_eq!(self.with("failed"), [""; 0], "{json:#}");
        assert_eq!(self.code, 0, "{json:#}");
        assert_eq!((&json["cause"], &json["fix"]), (&Value::Null, &Value::Null));
        let skipped = self.with("skipped");
        let unexpected = skipped.iter().find(|id| !OPTIONAL.contains(id));
        assert_eq!(unexpected, None, "{json:#}");
    }
}

async fn run(lab: &Lab, words: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = infisical(lab.dir());
    command.args(words).envs(variables.iter().copied());
    let process = Process::spawn("doctor", command);
    let code = process.exit_code().await;
    assert!(!process.output().contains(TOKEN), "{}", process.output());
    (code, process.stdout())
}

async fn examine(lab: &Lab, words: &[&str], variables: &[(&str, &str)]) -> Findings {
    let words = [words, &["--json"]].concat();
    let (code, output) = run(lab, &words, variables).await;
    let json: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(json["version"], 1, "{json}");
    Findings { code, json }
}

/// A doctor of the lab's gateway, with the platform at `domain`.
async fn gateway(lab: &Lab, domain: &str, config: &str, more: &[&str]) -> Findings {
    let words = ["gateway", "doctor", GATEWAY, "--target-relay-name", RELAY];
    let words = [&words[..], &["--domain", domain, "--config", config], more].concat();
    examine(lab, &words, &[]).await
}

/// Ten doctors beside a session: it goes on, and the platform and the relay see no more than ten
/// questions that change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn ten_doctors_disturb_nothing() {
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let target = Target::echo(lab.host).await;
    let mut session = lab.way(target.address).tcp().await.expect("a session");
    echoes(&mut session, b"before").await.expect("an echo");
    let changing = [
        REGISTER_GATEWAY,
        REGISTER_RELAY,
        GATEWAY_HEARTBEAT,
        RELAY_HEARTBEAT,
    ];
    let asked = || changing.map(|what| lab.platform.requests(what).len());
    let (before, mark, config) = (asked(), relay.mark(), good(&lab));
    for _ in 0..10 {
        let findings = gateway(&lab, &lab.platform.url(), &config, &[]).await;
        findings.assert_good();
    }
    echoes(&mut session, b"after").await.expect("an echo");
    assert_eq!(asked(), before, "{changing:?}");
    assert_eq!(lab.platform.requests(STATUS).len(), 10);
    assert_eq!(lab.platform.requests(RELAYS).len(), 10);
    let connected = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(connected, 1, "{}", relay.output());
    assert!(relay.mark() >= mark);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_has_a_line_for_each_layer() {
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let (config, url) = (good(&lab), lab.platform.url());
    let words = [
        "gateway", "doctor", GATEWAY, "--config", &config, "--domain",
    ];
    let (code, output) = run(&lab, &[&words[..], &[&url]].concat(), &[]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.ends_with("\nNothing is wrong."), "{output}");
    assert!(!output.contains('\u{1b}'), "{output}");
    assert!(output.contains("\nok           tunnel"), "{output}");
    let dead = Target::refusing(lab.host).to_string();
    let dead = format!("http://{dead}");
    let (code, output) = run(&lab, &[&words[..], &[&dead]].concat(), &[]).await;
    assert_eq!(code, 1, "{output}");
    for part in [
        "\nfailed       platform: TCP",
        "\nnot checked  platform: answer         platform: TCP failed\n",
        "\nCause:  Nothing listens on port 9",
        "\nChange: Start the platform, or open port 9",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

/// Faults of the configuration and of the way to the platform, of a gateway that runs well.
#[tokio::test(flavor = "multi_thread")]
async fn faults_before_the_relay_are_named() {
    const ABOVE_CONFIGURATION: &[&str] = &["platform-dns", "platform-tcp", "platform-tls", "token"];
    const ABOVE_TCP: &[&str] = &["platform-tls", "platform-answer", "clock", "token"];
    const ABOVE_TLS: &[&str] = &["platform-answer", "clock", "token"];
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let (config, url, dir) = (good(&lab), lab.platform.url(), lab.dir());
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        write_private(&path, text);
        path.to_str().expect("text").to_owned()
    };

    let exposed = file("exposed.conf", &format!("INFISICAL_TOKEN={TOKEN}\n"));
    fs::set_permissions(Path::new(&exposed), Permissions::from_mode(0o644)).expect("a mode");
    let broken = file("broken.conf", "INFISICAL_TOKEN=two words\n");
    let absent = dir.join("absent.conf");
    let absent = absent.to_str().expect("text");
    for (case, config, detail) in [
        ("no file", absent, "no such file or directory"),
        ("file mode", &exposed, "open to other users"),
        ("token line", &broken, "INFISICAL_TOKEN"),
    ] {
        let found = gateway(&lab, &url, config, &[]).await;
        found.assert_only(case, "configuration", ABOVE_CONFIGURATION);
        let text = found.check("configuration")["detail"].to_string();
        assert!(text.contains(detail), "{case}: {text}");
    }

    let dead = format!("http://{}", Target::refusing(lab.host));
    let found = gateway(&lab, &dead, &config, &[]).await;
    found.assert_only("port refused", "platform-tcp", ABOVE_TCP);
    let found = gateway(&lab, "http://platform.invalid", &config, &[]).await;
    found.assert_only("unknown name", "platform-dns", &["platform-tcp", "token"]);

    let (ca, other) = (Ca::root("Platform CA"), Ca::root("Other CA"));
    let ca_file = file("ca.pem", &ca.pem());
    let elsewhere = Ipv4Addr::new(192, 0, 2, 7);
    let leaf = || Leaf::relay_server(lab.host);
    for (case, pem, fix) in [
        ("wrong CA", other.sign(&leaf()), "--ca-file"),
        (
            "expired",
            ca.sign(&leaf().expired()),
            "renew the platform's certificate",
        ),
        (
            "wrong name",
            ca.sign(&Leaf::relay_server(elsewhere)),
            "Set the domain",
        ),
    ] {
        let server = tls_server(lab.host, &pem, None).await;
        let domain = format!("https://{}", server.address);
        let found = gateway(&lab, &domain, &config, &["--ca-file", &ca_file]).await;
        found.assert_only(case, "platform-tls", ABOVE_TLS);
        let text = found.json["fix"].to_string();
        assert!(text.contains(fix), "{case}: {text}");
    }

    let words = ["gateway", "doctor", GATEWAY, "--config", &config];
    let words = [&words[..], &["--domain", "http://platform.example"]].concat();
    let proxy = [("HTTP_PROXY", dead.as_str())];
    let found = examine(&lab, &words, &proxy).await;
    found.assert_only("proxy", "proxy", &["platform-tcp", "token"]);

    let portal = Answer::raw(302, "").header("location", "https://login.example/");
    lab.platform.once(STATUS, portal);
    let found = gateway(&lab, &url, &config, &[]).await;
    found.assert_only("portal", "platform-answer", &["clock", "token"]);
    let unwell = Answer::error(503, "no database", "req-1");
    lab.platform.once(STATUS, unwell);
    let found = gateway(&lab, &url, &config, &[]).await;
    found.assert_only("unwell", "platform-answer", &["clock", "token"]);

    for days in [-2_i64, 2] {
        let offset = Duration::from_secs(days.unsigned_abs() * 86_400);
        let now = SystemTime::now();
        let date = if days < 0 { now - offset } else { now + offset };
        let date = httpdate(date);
        lab.platform
            .once(STATUS, Answer::ok(&json!({})).header("date", &date));
        lab.platform
            .once(RELAYS, Answer::ok(&json!([])).header("date", &date));
        let found = gateway(&lab, &url, &config, &[]).await;
        found.assert_only("clock", "clock", &[]);
    }
    let refused = Answer::error(401, "the token was revoked", "req-2");
    lab.platform.once(RELAYS, refused);
    let found = gateway(&lab, &url, &config, &[]).await;
    found.assert_only("token", "token", &[]);
    gateway(&lab, &url, &config, &[]).await.assert_good();
}

/// A server that answers every request with the time `date` and nothing else.
async fn dated_server(host: Ipv4Addr, pem: &Pem, date: SystemTime) -> Target {
    let (acceptor, date) = (acceptor(pem, None), httpdate(date));
    Target::serve(host, move |tcp| {
        let (acceptor, date) = (acceptor.clone(), date.clone());
        async move {
            let mut stream = acceptor.accept(tcp).await?;
            stream.read_u8().await?;
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await
}

/// The platform's own time tells whether its certificate or this machine's clock is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_clock_is_not_an_expired_certificate() {
    const DAY: Duration = Duration::from_secs(86_400);
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let (config, ca) = (good(&lab), Ca::root("Platform CA"));
    let ca_file = lab.dir().join("ca.pem");
    write_private(&ca_file, &ca.pem());
    let ca_file = ca_file.to_str().expect("text");
    let now = SystemTime::now();
    let (past, future) = (now - 30 * DAY, now + 30 * DAY);
    let around = |at: SystemTime| Leaf::relay_server(lab.host).within(at - DAY, at + DAY);
    for (case, leaf, date, failed, cause) in [
        (
            "expired",
            around(past),
            now,
            "platform-tls",
            "has expired, by its own clock",
        ),
        (
            "early",
            around(future),
            now,
            "platform-tls",
            "is not valid yet, by its own clock",
        ),
        (
            "clock ahead",
            around(past),
            past,
            "clock",
            "clock of this machine",
        ),
        (
            "clock behind",
            around(future),
            future,
            "clock",
            "clock of this machine",
        ),
    ] {
        let server = dated_server(lab.host, &ca.sign(&leaf), date).await;
        let domain = format!("https://{}", server.address);
        let found = gateway(&lab, &domain, &config, &["--ca-file", ca_file]).await;
        found.assert_only(case, failed, &["platform-answer", "token"]);
        let text = found.json["cause"].as_str().expect("a cause");
        assert!(text.contains(cause), "{case}: {text}");
        let chain = found.check("platform-tls")["detail"].to_string();
        let is_shown = chain.contains("issued by CN=Platform CA, valid from");
        assert_eq!(is_shown, failed == "platform-tls", "{case}: {chain}");
    }
}

/// As a `Date` of HTTP.
fn httpdate(time: SystemTime) -> String {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = time::OffsetDateTime::from(time);
    time.format(&form).expect("a date")
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_gateway_is_one_failure() {
    let lab = lab().await;
    let _relay = lab.relay().await;
    let found = gateway(&lab, &lab.platform.url(), &good(&lab), &[]).await;
    let dependents = ["registration", "tunnel", "heartbeat"];
    found.assert_only("stopped", "running", &dependents);
    assert_eq!(found.check("relay-ssh")["status"], "ok", "{:#}", found.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_relay_is_one_failure() {
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let mark = running.mark();
    relay.signal(Signal::SIGKILL);
    running.wait_for_line_after(mark, "not connected").await;
    let found = gateway(&lab, &lab.platform.url(), &good(&lab), &[]).await;
    let dependents = ["relay-tls", "host-certificate", "tunnel"];
    found.assert_only("dead relay", "relay-ssh", &dependents);
}

/// The platform names another CA than the one that signed the relay's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_host_ca_is_named() {
    let lab = lab().await;
    let _relay = lab.relay().await;
    let mut credentials = lab.gateway_credentials();
    credentials["ssh"]["serverCAPublicKey"] = json!(lab.stranger.key.public);
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    let running = lab.gateway_command().spawn(lab.dir());
    running.wait_for_line("not connected").await;
    let found = gateway(&lab, &lab.platform.url(), &good(&lab), &[]).await;
    found.assert_only("another CA", "host-certificate", &["tunnel"]);
    let detail = found.check("host-certificate")["detail"].to_string();
    assert!(
        detail.contains("not by the CA that the platform named"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_has_a_doctor_too() {
    let lab = lab().await;
    let relay = lab.relay().await;
    let config = lab.dir().join(format!("relay-{RELAY}.conf"));
    let config = config.to_str().expect("text");
    let (host, url) = (lab.host.to_string(), lab.platform.url());
    let words = [
        "relay", "doctor", RELAY, "--host", &host, "--config", config,
    ];
    let words = [&words[..], &["--domain", &url]].concat();
    relay.wait_for_line("Relay is reachable").await;
    examine(&lab, &words, &[]).await.assert_good();
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.exit_code().await, 0);
    let found = examine(&lab, &words, &[]).await;
    let dependents = ["relay-ssh", "relay-tls", "tunnel", "heartbeat"];
    found.assert_only("stopped relay", "running", &dependents);
}

/// Without arguments, the command line and the environment of the process count.
#[tokio::test(flavor = "multi_thread")]
async fn running_gateway_gives_the_settings() {
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    for words in [&["gateway", "doctor"][..], &["gateway", "doctor", GATEWAY]] {
        let found = examine(&lab, words, &[]).await;
        found.assert_good();
        let settings = found.check("settings")["detail"].to_string();
        for part in [GATEWAY, "INFISICAL_TOKEN=<secret> (file, line 1)", "flags"] {
            assert!(settings.contains(part), "{part}: {settings}");
        }
    }
}

/// The file was changed after the gateway read it, or is another than the copy that it has.
#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_are_named() {
    const OTHER_TOKEN: &str = "another-identity-token-0123456789";
    let lab = lab().await;
    let relay = lab.relay().await;
    let config = lab.gateway_command().config;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let doctor = ["gateway", "doctor"];
    write_private(&config, &format!("INFISICAL_TOKEN={TOKEN}\n# Changed.\n"));
    let found = examine(&lab, &doctor, &[]).await;
    found.assert_only("changed file", "reload", &[]);
    let mark = running.mark();
    running.signal(Signal::SIGHUP);
    running
        .wait_for_line_after(mark, "configuration reloaded")
        .await;
    examine(&lab, &doctor, &[]).await.assert_good();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code().await, 0);

    let copies = lab.dir().join("credentials");
    fs::create_dir(&copies).expect("a directory");
    let mut started = lab.gateway_command();
    started.config = copies.join("gateway.conf");
    let original = good(&lab);
    fs::copy(&original, &started.config).expect("a copy");
    let mut command = started.command(lab.dir());
    command.env("CREDENTIALS_DIRECTORY", &copies);
    let running = Process::spawn("gateway with a copy", command);
    running.wait_for_line("Gateway is reachable").await;
    let url = lab.platform.url();
    let found = gateway(&lab, &url, &original, &[]).await;
    assert_eq!(
        found.check("credentials")["status"],
        "ok",
        "{:#}",
        found.json
    );
    write_private(
        Path::new(&original),
        &format!("INFISICAL_TOKEN={OTHER_TOKEN}\n"),
    );
    let found = gateway(&lab, &url, &original, &[]).await;
    found.assert_only("stale copy", "credentials", &[]);
    let text = found.json.to_string();
    assert!(text.contains("it has another INFISICAL_TOKEN"), "{text}");
    assert!(!text.contains(OTHER_TOKEN), "{text}");
}

/// No member of the bundle holds a secret, though the platform and the settings try hard.
#[tokio::test(flavor = "multi_thread")]
async fn bundle_holds_no_secret() {
    const WEB_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJnYXRld2F5In0.c2lnbmF0dXJlLW9mLWl0";
    const PASSWORD: &str = "proxy-password-1234";
    const HEADER: &str = "header-secret-5678";
    let lab = lab().await;
    let relay = lab.relay().await;
    let running = lab.gateway(&relay).await;
    running.wait_for_line("Gateway is reachable").await;
    let config = lab.dir().join("doctor.conf");
    write_private(&config, &format!("INFISICAL_TOKEN={WEB_TOKEN}\n"));
    let config = config.to_str().expect("text").to_owned();
    let (client_key, server_key) = (lab.client_key.private(), lab.server_key.private());
    let key_lines = [&client_key, &server_key]
        .into_iter()
        .flat_map(|key| key.lines());
    let key_lines = key_lines.filter(|line| !line.starts_with("-----"));
    let mut secrets = vec![TOKEN, WEB_TOKEN, PASSWORD, HEADER];
    secrets.extend(WEB_TOKEN.split('.'));
    secrets.extend(key_lines);

    let unwell = format!("authorization: Bearer {WEB_TOKEN}; {HEADER}; {client_key}");
    lab.platform
        .once(STATUS, Answer::error(503, &unwell, "req-1"));
    let proxy = format!("http://user:{PASSWORD}@{}", Target::refusing(lab.host));
    let headers = format!("x-secret={HEADER}");
    let variables = [
        ("HTTP_PROXY", proxy.as_str()),
        ("INFISICAL_CUSTOM_HEADERS", &headers),
    ];
    for (name, domain) in [
        ("direct.tar", lab.platform.url().as_str()),
        ("proxy.tar", "http://platform.example"),
    ] {
        let words = ["gateway", "doctor", GATEWAY, "--domain", domain];
        let words = [&words[..], &["--config", &config, "--bundle", name]].concat();
        let (code, output) = run(&lab, &words, &variables).await;
        assert_eq!(code, 1, "{output}");
        assert!(output.contains(&format!("Bundle: {name}")), "{output}");
        let leaked = secrets.iter().find(|secret| output.contains(**secret));
        assert_eq!(leaked, None, "{output}");
        let path = lab.dir().join(name);
        let mode = fs::metadata(&path).expect("a bundle").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let members = members(&path);
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "doctor.json",
                "status.json",
                "settings.txt",
                "unit.txt",
                "journal.txt",
                "versions.txt"
            ]
        );
        for (member, text) in &members {
            let leaked = secrets.iter().find(|secret| text.contains(**secret));
            assert_eq!(leaked, None, "{name} {member}: {text}");
            assert!(!text.is_empty(), "{name} {member}");
            if member.ends_with(".json") {
                let json: Value = serde_json::from_str(text).expect("JSON");
                assert_eq!(json["version"], 1, "{member}: {json}");
            }
        }
        let text = |wanted: &str| {
            let mut members = members.iter();
            let member = members.find(|(name, _)| name == wanted);
            member.expect(wanted).1.as_str()
        };
        assert!(text("status.json").contains(GATEWAY));
        assert!(text("settings.txt").contains("INFISICAL_TOKEN"));
        assert!(text("versions.txt").contains("infisical "));
        assert!(!text("doctor.json").contains("no gateway serves"));
        let (code, _) = run(&lab, &words, &variables).await;
        assert_eq!(code, 69, "it is there already");
    }
}

/// The files of a bundle, with their names.
fn members(bundle: &Path) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(fs::File::open(bundle).expect("a bundle"));
    let entries = archive.entries().expect("a tar");
    let member = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let mut entry = entry.expect("a member");
        let name = entry.path().expect("a name").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        (name, text)
    };
    entries.map(member).collect()
}

/// A target is tried from here, whatever becomes of the layers of the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn targets_are_tried_on_request() {
    let lab = lab().await;
    let config = good(&lab);
    let echo = Target::echo(lab.host).await;
    let good = echo.address.to_string();
    let dead = Target::refusing(lab.host).to_string();
    for (target, dns, tcp) in [
        (good.as_str(), "ok", "ok"),
        (&dead, "ok", "failed"),
        ("db.invalid:5432", "failed", "skipped"),
    ] {
        let found = gateway(&lab, &lab.platform.url(), &config, &["--target", target]).await;
        for (id, status) in [("target-dns", dns), ("target-tcp", tcp)] {
            assert_eq!(
                found.check(id)["status"],
                status,
                "{target}: {:#}",
                found.json
            );
        }
    }
    let words = ["gateway", "doctor", GATEWAY, "--target", "http://db"];
    let (code, _) = run(&lab, &words, &[]).await;
    assert_eq!(code, 64);
}
