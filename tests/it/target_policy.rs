//! `[targets]`: what the owner of a gateway lets sessions reach, and what is refused always.

use infisical_pki::stream::SecureStream;
use infisical_runtime::net::status::{self, Class, NotReached};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::lab::{GATEWAY, Lab, TOKEN};
use crate::support::process::{Process, infisical};
use crate::support::session::{Way, echoes};
use crate::support::soon;
use crate::support::targets::Target;
use crate::support::tls::Inner;
use crate::support::write_private;

const REFUSED: &str = "target not allowed; the session is refused";

/// Writes a gateway's configuration with these lines below `[targets]`.
fn configure(lab: &Lab, rules: &str) {
    let text = format!("token = \"{TOKEN}\"\n[targets]\n{rules}\n");
    write_private(&lab.gateway_command().config, &text);
}

/// A gateway with these rules, whose tunnel is up.
async fn gateway(lab: &Lab, relay: &Process, rules: &str) -> Process {
    let mut command = lab.gateway_command();
    configure(lab, rules);
    command.more.push("--metrics-listen=127.0.0.1:0".to_owned());
    let mark = relay.mark();
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    relay.wait_for_line_after(mark, "gateway connected").await;
    gateway
}

/// What the gateway says of the target of `way`.
async fn asked(way: &Way) -> Result<SecureStream<Inner>, NotReached> {
    let stream = way.offer(&[status::ALPN]).await.expect("the service");
    let mut stream = SecureStream::new(stream);
    let received = soon("the status", status::receive(&mut stream)).await;
    received.expect("a status").map(|()| stream)
}

async fn refusal(way: &Way) -> String {
    let NotReached { class, reason } = asked(way).await.expect_err("refused");
    assert_eq!(class, Class::Refused, "{reason}");
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_targets_are_explained_and_not_dialled() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let [allowed, denied] = [Target::echo(lab.host).await, Target::echo(lab.host).await];
    let local = Target::echo(std::net::Ipv4Addr::LOCALHOST).await;
    let rules = format!(
        "allow = [\"{}/32\", \"localhost\"]\ndeny = [\n  \"*:{}\", # the other one\n  \"127.0.0.1\", \"::1\",\n]",
        lab.host,
        denied.address.port(),
    );
    let gateway = gateway(&lab, &relay, &rules).await;
    let mut stream = asked(&lab.way(allowed.address)).await.expect("allowed");
    echoes(&mut stream, b"allowed").await.expect("an echo");

    let reason = refusal(&lab.way(denied.address)).await;
    let target = denied.address;
    let expected = format!("the policy of this gateway does not allow {target}; its owner can");
    assert!(reason.starts_with(&expected), "{reason}");
    let line = gateway.wait_for_line(REFUSED).await;
    let rule = format!("deny rule *:{}", target.port());
    assert!(
        line.contains(&rule) && line.contains(&target.to_string()),
        "{line}"
    );

    // A deployed client hears nothing but the end.
    let mut plain = lab.way(denied.address).tcp().await.expect("the service");
    let mut nothing = Vec::new();
    let end = soon("the end", plain.read_to_end(&mut nothing)).await;
    end.expect_err("a fatal alert");
    assert!(nothing.is_empty());

    // The name is allowed, and what it resolves to is not.
    let port = local.address.port();
    refusal(&lab.way_by_name("localhost", port)).await;
    for form in [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "::ffff:127.0.0.1",
        "0.0.0.0",
    ] {
        refusal(&lab.way_by_name(form, port)).await;
    }
    assert_eq!((denied.accepted(), local.accepted()), (0, 0));

    let way = lab.way(denied.address);
    let mut stream = way
        .offer(&["infisical-http-proxy"])
        .await
        .expect("the service");
    let request = b"CONFIG\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("written");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    let message = "{\"message\": \"gateway: the policy of this gateway does not allow ";
    assert!(answer.contains(message), "{answer}");
    assert_eq!(denied.accepted(), 0);
}

/// A gateway without rules is as the deployed one, with two exceptions.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_own_sockets_are_refused() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay, "").await;
    let line = gateway.wait_for_line("metrics are served").await;
    let (_, address) = line.split_once("http://127.0.0.1:").expect("an address");
    let (port, _) = address.split_once('/').expect("a path");
    let port: u16 = port.parse().expect("a port");

    let echo = Target::echo(lab.host).await;
    let mut stream = asked(&lab.way(echo.address)).await.expect("allowed");
    echoes(&mut stream, b"allowed").await.expect("an echo");
    for (host, port) in [
        ("169.254.169.254", 80),
        ("::ffff:169.254.169.254", 80),
        ("100.100.100.200", 443),
        ("fd00:ec2::254", 80),
        ("127.0.0.1", port),
        ("0.0.0.0", port),
    ] {
        refusal(&lab.way_by_name(host, port)).await;
    }
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("metrics");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("written");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("a page");
    for sample in [
        "infisical_gateway_targets_not_allowed_total{reason=\"metadata\"} 4",
        "infisical_gateway_targets_not_allowed_total{reason=\"own_socket\"} 2",
    ] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_ends_only_refused_sessions() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let gateway = gateway(&lab, &relay, "").await;
    let [kept, lost] = [Target::echo(lab.host).await, Target::echo(lab.host).await];
    let page = Target::http(lab.host).await;
    let mut kept_session = lab.way(kept.address).tcp().await.expect("a way");
    let mut lost_session = lab.way(lost.address).tcp().await.expect("a way");
    for session in [&mut kept_session, &mut lost_session] {
        echoes(session, b"before").await.expect("an echo");
    }
    let way = lab.way(page.address);
    let mut http = way
        .offer(&["infisical-http-proxy"])
        .await
        .expect("the service");
    let request = b"CONFIG\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    http.write_all(request).await.expect("written");
    let mut begin = [0; 12];
    soon("an answer", http.read_exact(&mut begin))
        .await
        .expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 200");

    let ports = [lost.address.port(), page.address.port()];
    configure(
        &lab,
        &format!("deny = [\"*:{}\", \"*:{}\"]", ports[0], ports[1]),
    );
    gateway.signal(Signal::SIGHUP);
    for session in [&mut lost_session, &mut http] {
        let mut rest = Vec::new();
        let end = soon("the end", session.read_to_end(&mut rest)).await;
        end.expect_err("a fatal alert");
    }
    let line = gateway
        .wait_for_line("session ended; the new policy does not")
        .await;
    assert!(line.contains("deny rule *:"), "{line}");
    echoes(&mut kept_session, b"still").await.expect("an echo");
    refusal(&lab.way(lost.address)).await;

    // Wrong rules change nothing.
    configure(&lab, "deny = [\"10.0.0.0/99\"]");
    gateway.signal(Signal::SIGHUP);
    let line = gateway.wait_for_line("configuration not reloaded").await;
    assert!(
        line.contains("targets.deny in") && line.contains("line 3: rule 1"),
        "{line}"
    );
    refusal(&lab.way(lost.address)).await;

    let mark = gateway.mark();
    configure(&lab, "");
    gateway.signal(Signal::SIGHUP);
    gateway
        .wait_for_line_after(mark, "configuration reloaded")
        .await;
    let again = async { while asked(&lab.way(lost.address)).await.is_err() {} };
    soon("a session", again).await;
    echoes(&mut kept_session, b"to the end")
        .await
        .expect("an echo");
}

/// What `infisical gateway` prints with `words` and the configuration of the lab, and its exit code.
async fn run(lab: &Lab, words: &[&str]) -> (i32, Process) {
    let mut command = infisical(lab.dir());
    command.arg("gateway").args(words);
    let config = lab.dir().join(format!("gateway-{GATEWAY}.conf"));
    command.arg("--config").arg(config);
    let process = Process::spawn("gateway", command);
    (process.exit_code().await, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_check_explains_the_verdict() {
    let lab = Lab::new().await;
    let allow = "allow = [\"10.0.0.0/8:443\", \"localhost\"]";
    configure(
        &lab,
        &format!("{allow}\ndeny = [\"*.secret\", \"10.9.0.0/16\"]"),
    );
    for (target, expected, texts) in [
        (
            "10.1.2.3:443",
            0,
            &["10.1.2.3", "allowed", "allow rule 10.0.0.0/8:443"][..],
        ),
        ("10.1.2.3:80", 1, &["refused", "no allow rule matches"]),
        ("10.9.2.3:443", 1, &["refused", "deny rule 10.9.0.0/16"]),
        // Not looked up.
        ("a.secret:1", 1, &["any", "deny rule *.secret"]),
        ("localhost:5432", 0, &["127.0.0.1", "allow rule localhost"]),
        (
            "169.254.169.254:80",
            1,
            &["cloud metadata is refused unless"],
        ),
        ("localhost", 64, &["it has no port"]),
    ] {
        let (code, process) = run(&lab, &["policy", "check", target]).await;
        let output = process.output();
        assert_eq!(code, expected, "{target}: {output}");
        for text in texts {
            assert!(output.contains(text), "{target}: {output}");
        }
    }
    let (code, process) = run(&lab, &["policy", "check", "10.9.2.3:443", "--json"]).await;
    assert_eq!(code, 1);
    let found: Value = serde_json::from_str(&process.stdout()).expect("JSON");
    let verdict = json!({
        "address": "10.9.2.3",
        "allowed": false,
        "verdict": "denied",
        "rule": "10.9.0.0/16",
        "why": "deny rule 10.9.0.0/16",
    });
    assert_eq!(found["verdicts"], json!([verdict]), "{found}");
    assert_eq!(found["allowed"], false, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_rules_are_found_by_the_check() {
    let lab = Lab::new().await;
    configure(&lab, "deny = [\"10.0.0.1/8\", \"ok.internal\", \"x:0\"]");
    let (code, process) = run(&lab, &["check", GATEWAY]).await;
    let output = process.output();
    assert_eq!(code, 78, "{output}");
    for text in [
        "line 3",
        "rule 1 (10.0.0.1/8)",
        "write 10.0.0.0/8",
        "rule 3 (x:0)",
    ] {
        assert!(output.contains(text), "{text}: {output}");
    }
}
