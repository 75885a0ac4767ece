//! SIGHUP: the configuration is read again, used if it is right, and no session is cut.

use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::daemon::RelayCommand;
use crate::support::fake_platform::Answer;
use crate::support::lab::{
    GATEWAY, GATEWAY_CONNECTED, Lab, REGISTER_GATEWAY, REGISTER_RELAY, RELAY, TOKEN,
};
use crate::support::loopback;
use crate::support::manager::Manager;
use crate::support::process::{Process, infisical};
use crate::support::session::{Way, echoes};
use crate::support::ssh_ca::SshCert;
use crate::support::targets::Target;
use crate::support::write_private;

const OTHER: &str = "other-relay";

/// A lab whose gateway takes the relay's name from its file, with its relay and the manager of the
/// gateway.
async fn begin() -> (Lab, Process, Process, Manager) {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let mut command = lab.gateway_command();
    command.relay = None;
    choose(&lab, RELAY);
    let mut command = command.command(lab.dir());
    let manager = Manager::listen(&lab.dir().join("notify"), &mut command);
    let gateway = Process::spawn("gateway", command);
    gateway.wait_for_line("Gateway started successfully").await;
    relay.wait_for_line(GATEWAY_CONNECTED).await;
    (lab, relay, gateway, manager)
}

/// Writes what the gateway's file is to hold.
fn configure(lab: &Lab, text: &str) {
    write_private(&lab.gateway_command().config, text);
}

/// Writes a right configuration, which names this relay.
fn choose(lab: &Lab, relay: &str) {
    configure(
        lab,
        &format!("INFISICAL_TOKEN={TOKEN}\nINFISICAL_RELAY_NAME={relay}\n"),
    );
}

async fn session(way: &Way) -> std::io::Result<crate::support::tls::Inner> {
    let mut stream = way.tcp().await?;
    echoes(&mut stream, b"hello").await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_change_cuts_no_session() {
    let (lab, relay, gateway, manager) = begin().await;
    let echo = Target::echo(lab.host).await;
    let mut old = lab.way(echo.address);
    let mut witness = session(&old).await.expect("a session");

    // Another relay of the same authorities, at an address of its own.
    let host = loopback::address();
    let mut credentials = lab.relay_credentials();
    credentials["pki"] = lab.relay_pki.credentials(host);
    let certificate = SshCert::host(&format!("{host}:2222"));
    let line = lab.host_ca.certificate_line(&lab.server_key, &certificate);
    credentials["ssh"]["serverCertificate"] = Value::from(line);
    lab.platform.once(REGISTER_RELAY, Answer::ok(&credentials));
    let keys = format!("INFISICAL_TOKEN={TOKEN}\n");
    let command = RelayCommand::new(lab.dir(), OTHER, host, &lab.platform.url(), &keys);
    let other = command.spawn(lab.dir());
    other
        .wait_for_line("Relay server started successfully")
        .await;

    let mut credentials = lab.gateway_credentials();
    credentials["relayHost"] = Value::from(host.to_string());
    let certificate = SshCert::user(OTHER, &lab.gateway_id);
    let line = lab.user_ca.certificate_line(&lab.client_key, &certificate);
    credentials["ssh"]["clientCertificate"] = Value::from(line);
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    choose(&lab, OTHER);
    gateway.signal(Signal::SIGHUP);
    let said = manager.wait_for("RELOADING=1");
    assert!(said.contains("MONOTONIC_USEC="), "{said}");
    manager.wait_for("READY=1");
    other.wait_for_line(GATEWAY_CONNECTED).await;
    manager.wait_for(&format!("STATUS=connected to {OTHER}, 1 session, "));

    echoes(&mut witness, b"the old session goes on")
        .await
        .expect("an echo");
    let through_old = session(&old)
        .await
        .expect("a client that was sent there before");
    drop(through_old);
    old.relay_host = host;
    session(&old)
        .await
        .expect("a session through the other relay");
    // Back again: the tunnel that is still there is taken up, not replaced, which would cut what it
    // carries.
    let credentials = lab.gateway_credentials();
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    choose(&lab, RELAY);
    gateway.signal(Signal::SIGHUP);
    manager.wait_for(&format!("STATUS=connected to {RELAY}, "));
    echoes(&mut witness, b"nothing was cut on the way back")
        .await
        .expect("an echo");
    let connected = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(connected, 1, "a second tunnel to the first relay");
    // The other one leaves when nothing holds it any more.
    other.wait_for_line("gateway disconnected").await;
    old.relay_host = lab.host;
    session(&old).await.expect("and this one stays");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration_keeps_the_old_one() {
    let (lab, _relay, gateway, manager) = begin().await;
    let echo = Target::echo(lab.host).await;
    let mut witness = session(&lab.way(echo.address)).await.expect("a session");
    configure(&lab, "INFISICAL_TOKN=hunter2\n");
    gateway.signal(Signal::SIGHUP);
    let line = gateway.wait_for_line("configuration not reloaded").await;
    assert!(
        line.contains("line 1: unknown key INFISICAL_TOKN"),
        "{line}"
    );
    assert!(!line.contains("hunter2"), "{line}");
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    manager.wait_for(&format!("STATUS=connected to {RELAY}, 1 session, "));
    echoes(&mut witness, b"nothing was cut")
        .await
        .expect("an echo");

    choose(&lab, RELAY);
    let mark = gateway.mark();
    gateway.signal(Signal::SIGHUP);
    gateway
        .wait_for_line_after(mark, "configuration reloaded")
        .await;
    assert_eq!(
        lab.platform.requests(REGISTER_GATEWAY).len(),
        1,
        "nothing had changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_token_brings_immediate_renewal() {
    let (lab, relay, gateway, _manager) = begin().await;
    configure(
        &lab,
        &format!("INFISICAL_TOKEN=another-{TOKEN}\nINFISICAL_RELAY_NAME={RELAY}\n"),
    );
    gateway.signal(Signal::SIGHUP);
    lab.platform.asked(REGISTER_GATEWAY, 2).await;
    gateway.wait_for_line("credentials renewed").await;
    let connected = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(connected, 1, "the tunnel was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_ends_the_wait_before_retry() {
    let lab = Lab::new().await;

    let refused = Answer::error(429, "come back tomorrow", "req-1").header("retry-after", "86400");
    lab.platform.once(REGISTER_GATEWAY, refused);
    let gateway = lab.gateway_command().spawn(lab.dir());
    gateway.wait_for_line("not connected; trying again").await;
    let relay = lab.relay().await;
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_line("Gateway started successfully").await;
    relay.wait_for_line(GATEWAY_CONNECTED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_new_token_cuts_nothing() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let mut witness = session(&lab.way(echo.address)).await.expect("a session");
    write_private(
        &lab.relay_command().config,
        &format!("INFISICAL_TOKEN=another-{TOKEN}\n"),
    );
    // A token that is refused at first must not keep the next one waiting.
    let refused = Answer::error(403, "not with this token", "req-403");
    lab.platform.once(REGISTER_RELAY, refused);
    relay.signal(Signal::SIGHUP);
    relay.wait_for_line("credentials not renewed").await;
    write_private(
        &lab.relay_command().config,
        &format!("INFISICAL_TOKEN=a-third-{TOKEN}\n"),
    );
    relay.signal(Signal::SIGHUP);
    let asked = lab.platform.asked(REGISTER_RELAY, 3).await;
    assert_eq!(asked.bearer, format!("a-third-{TOKEN}"));
    relay.wait_for_line("credentials renewed").await;
    echoes(&mut witness, b"nothing was cut")
        .await
        .expect("an echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_new_relay_keeps_the_tunnel() {
    let (lab, relay, gateway, manager) = begin().await;
    let echo = Target::echo(lab.host).await;
    let way = lab.way(echo.address);
    let mut witness = session(&way).await.expect("a session");
    // No one listens there.
    let mut credentials = lab.gateway_credentials();
    credentials["relayHost"] = Value::from(loopback::address().to_string());
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    choose(&lab, OTHER);
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_line("not connected; trying again").await;
    let connected = format!("STATUS=connected to {RELAY}, 1 session, ");
    let mut said = String::new();
    while !said.contains("the other relay cannot be used yet") {
        said = manager.wait_for(&connected);
        assert!(!said.contains("STATUS=not connected"), "{said}");
    }
    session(&way).await.expect("the tunnel that is up");

    let credentials = lab.gateway_credentials();
    lab.platform
        .always(REGISTER_GATEWAY, Answer::ok(&credentials));
    choose(&lab, RELAY);
    gateway.signal(Signal::SIGHUP);
    manager.wait_for(&format!("STATUS=connected to {RELAY}, 1 session, "));
    echoes(&mut witness, b"nothing was cut")
        .await
        .expect("an echo");
    let connected = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(connected, 1, "it was the same tunnel all the time");
}

const ENROLL: &str = "POST /api/v3/gateways/token-auth/enroll";

/// A configuration that wants to enroll at the platform at `domain`.
fn enrolling(domain: &str) -> String {
    format!(
        "INFISICAL_GATEWAY_ENROLL_METHOD=token\nINFISICAL_TOKEN=one-time\n\
         INFISICAL_RELAY_NAME={RELAY}\nINFISICAL_API_URL={domain}\n"
    )
}

/// The gateway's domain is in its file.
async fn begin_without_domain() -> (Lab, Process, Process) {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let url = lab.platform.url();
    let config = lab.gateway_command().config;
    write_private(
        &config,
        &format!(
            "INFISICAL_TOKEN={TOKEN}\nINFISICAL_RELAY_NAME={RELAY}\nINFISICAL_API_URL={url}\n"
        ),
    );
    let mut command = infisical(lab.dir());
    command.args(["gateway", "start", GATEWAY, "--log-level=debug"]);
    command.arg("--config").arg(&config);
    let gateway = Process::spawn("gateway", command);
    gateway.wait_for_line("Gateway started successfully").await;
    (lab, relay, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_for_a_running_enrollment() {
    let (lab, _relay, gateway) = begin_without_domain().await;
    let release = Arc::new(Notify::new());
    let issued = json!({"accessToken": "obtained-token", "gatewayId": lab.gateway_id});
    lab.platform
        .always(ENROLL, Answer::ok(&issued).held(&release));
    configure(&lab, &enrolling(&lab.platform.url()));
    gateway.signal(Signal::SIGHUP);
    lab.platform.asked(ENROLL, 1).await;
    gateway.signal(Signal::SIGTERM);
    gateway.wait_for_line("stopping").await;
    release.notify_one();
    assert_eq!(gateway.exit_code().await, 0);
    let kept = std::fs::read_to_string(lab.dir().join(format!("gateway-{GATEWAY}.conf")))
        .expect("its file");
    assert!(
        kept.contains("INFISICAL_GATEWAY_ACCESS_TOKEN=obtained-token"),
        "what the token obtained is lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn corrected_configuration_replaces_a_pending_one() {
    let (lab, relay, gateway) = begin_without_domain().await;
    let url = lab.platform.url();
    configure(&lab, &enrolling(&format!("http://{}:9", lab.host)));
    gateway.signal(Signal::SIGHUP);
    gateway.wait_for_line("not enrolled; trying again").await;
    configure(
        &lab,
        &format!(
            "INFISICAL_TOKEN=corrected-{TOKEN}\nINFISICAL_RELAY_NAME={RELAY}\n\
             INFISICAL_API_URL={url}\n"
        ),
    );
    gateway.signal(Signal::SIGHUP);
    let asked = lab.platform.asked(REGISTER_GATEWAY, 2).await;
    assert_eq!(asked.bearer, format!("corrected-{TOKEN}"));
    let connected = relay.output().matches(GATEWAY_CONNECTED).count();
    assert_eq!(connected, 1, "the tunnel was cut");
}
