//! Names that do not resolve delay their own sessions only.

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::fake_platform::Answer;
use crate::support::lab::{GATEWAY_CONNECTED, Lab, REGISTER_GATEWAY, REGISTER_RELAY};
use crate::support::namespaces::{Dns, with_dns};
use crate::support::process::Process;
use crate::support::session::{Way, echoes};
use crate::support::ssh_ca::SshCert;
use crate::support::targets::Target;
use crate::support::{eventually, loopback};

const PLATFORM: &str = "platform.test";
const RELAY_HOST: &str = "relay.test";
const TARGET: &str = "target.test";
/// Sessions to each name that does not resolve.
const SESSIONS: usize = 40;

/// Threads of the process.
fn threads(process: &Process) -> usize {
    let path = format!("/proc/{}/task", process.pid());
    std::fs::read_dir(path).expect("a process").count()
}

/// Begins sessions to `host`, of which none will work.
fn begin(lab: &Lab, host: &str, count: usize, sessions: &mut JoinSet<()>) {
    for _ in 0..count {
        let way = lab.way_by_name(host, 7);
        sessions.spawn(async move {
            let stream = way.tcp().await;
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
}

async fn works(what: &str, way: &Way) {
    eventually(what, || async {
        echoes(&mut way.tcp().await?, b"hello").await
    })
    .await;
}

/// A relay whose certificate names its host too.
fn script(lab: &Lab) {
    let certificate =
        SshCert::host("").principals(&[&lab.principal(), &format!("{RELAY_HOST}:2222")]);
    let mut relay = lab.relay_credentials();
    let line = lab.host_ca.certificate_line(&lab.server_key, &certificate);
    relay["ssh"]["serverCertificate"] = json!(line);
    lab.platform.always(REGISTER_RELAY, Answer::ok(&relay));
    let mut gateway = lab.gateway_credentials();
    gateway["relayHost"] = json!(RELAY_HOST);
    lab.platform.always(REGISTER_GATEWAY, Answer::ok(&gateway));
}

async fn hung(lab: Lab, dns: Dns) {
    script(&lab);
    let relay = lab.relay().await;
    let mut command = lab.gateway_command();
    let url: reqwest::Url = lab.platform.url().parse().expect("a URL");
    command.domain = format!("http://{PLATFORM}:{}", url.port().expect("a port"));
    let gateway = command.spawn(lab.dir());
    gateway.wait_for_line("Gateway started successfully").await;
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    let echo = Target::echo(lab.host).await;
    let by_address = lab.way(echo.address);
    let by_name = lab.way_by_name(TARGET, echo.address.port());
    works("a session by name", &by_name).await;

    let mut sessions = JoinSet::new();
    let names: Vec<String> = (0..3).map(|number| format!("hung-{number}.test")).collect();
    for name in &names {
        begin(&lab, name, SESSIONS, &mut sessions);
    }
    all_asked(&dns, &names).await;
    works("a session by address beside three names", &by_address).await;
    works("a session by name beside three names", &by_name).await;
    let relay = restart(&lab, relay, &gateway).await;
    works("a session after the reconnect", &by_name).await;

    // More names than there are threads: other names of targets wait, addresses and the gateway's
    // own names do not.
    let more: Vec<String> = (0..200)
        .map(|number| format!("hung-more-{number}.test"))
        .collect();
    for name in &more {
        begin(&lab, name, 1, &mut sessions);
    }
    eventually("as many lookups as possible", || async {
        let now = threads(&gateway);
        (now > 40).then_some(()).ok_or(now)
    })
    .await;
    let most = threads(&gateway);
    assert!(most < 128, "{most} threads");
    works("a session by address beside many names", &by_address).await;
    let mark = gateway.mark();
    let _relay = restart(&lab, relay, &gateway).await;
    works("a session after the second reconnect", &by_address).await;
    gateway
        .wait_for_line_after(mark, "Gateway is reachable by Infisical")
        .await;
}

async fn all_asked(dns: &Dns, names: &[String]) {
    eventually("queries for all names", || async {
        let all = names.iter().all(|name| dns.asked(name) > 0);
        all.then_some(()).ok_or("not yet")
    })
    .await;
}

/// Kills the relay and starts it again; the gateway must come back by the relay's name.
async fn restart(lab: &Lab, relay: Process, gateway: &Process) -> Process {
    let mark = gateway.mark();
    relay.kill().await;
    drop(relay);
    let relay = lab.relay().await;
    gateway
        .wait_for_line_after(mark, "the tunnel is up again")
        .await;
    relay
}

#[test]
fn hung_target_names_do_not_delay_others() {
    let host = loopback::address();
    let names = [(PLATFORM, host), (RELAY_HOST, host), (TARGET, host)];
    with_dns(&names, async |dns| {
        let lab = Lab::at(host).await;
        hung(lab, dns).await;
    });
}
