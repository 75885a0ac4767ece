//! Every SSH certificate that must not be believed: gateways' towards our relay (OpenSSH's `ssh`
//! presents them), relays' towards our gateway (OpenSSH's `sshd` presents them). `ssh-keygen`
//! forges all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use infisical_runtime::secret::Secret;
use infisical_ssh as ssh;
use infisical_ssh::keys;
use tokio::net::TcpStream;

use crate::support::lab::{Lab, REGISTER_GATEWAY, RELAY};
use crate::support::openssh::{Sshd, current_user, ssh_as_gateway};
use crate::support::process::Process;
use crate::support::session::echoes;
use crate::support::ssh_ca::{SshCert, SshKey};
use crate::support::targets::Target;

/// The id that the forger wants to be.
const VICTIM: &str = "0e0f6f0c-7a54-4d3c-8f5c-2d1b6a9e8f70";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_believes_only_its_own_gateways() {
    let lab = Lab::new().await;
    let relay = lab.relay().await;
    let _gateway = lab.gateway(&relay).await;
    let echo = Target::echo(lab.host).await;
    let key = SshKey::generate(lab.dir(), "forger", "ed25519");
    let good = || SshCert::user(RELAY, VICTIM);
    let by = |ca: &crate::support::ssh_ca::SshCa, cert: SshCert| Some(ca.certify(&key, &cert));
    let ours = &lab.user_ca;
    // What the relay's log must say of each.
    let cases: Vec<(&str, Option<PathBuf>, &str)> = vec![
        ("no certificate at all", None, ""),
        (
            "an authority no one named",
            by(&lab.stranger, good()),
            "not by the CA",
        ),
        (
            "the hosts' authority",
            by(&lab.host_ca, good()),
            "not by the CA",
        ),
        ("expired", by(ours, good().expired()), "it expired"),
        (
            "not yet valid",
            by(ours, good().not_yet_valid()),
            "it is not valid before",
        ),
        (
            "another gateway's",
            by(ours, good().principals(&["someone-else"])),
            "not for",
        ),
        (
            "without principals",
            by(ours, good().principals(&[])),
            "not for",
        ),
        (
            "issued for another relay",
            by(ours, good().key_id("client-other")),
            "start this relay with --name other",
        ),
        (
            "a host certificate",
            by(ours, good().of_the_other_type()),
            "host certificate",
        ),
        (
            "an unknown critical option",
            by(ours, good().critical_option()),
            "unheard-of@example.com",
        ),
    ];
    for (name, certificate, reason) in &cases {
        let mark = relay.mark();
        let ssh = as_gateway(&lab, &key, certificate.as_deref());
        assert_ne!(ssh.exit_code().await, 0, "{name}");
        let output = ssh.output();
        assert!(!output.contains("Authenticated to"), "{name} was let in");
        assert!(
            output.contains("Permission denied"),
            "{name}: not refused by authentication"
        );
        // OpenSSH keeps back what it can tell to be of no use; our own client presents everything.
        if let Some(certificate) = certificate {
            let error = present(&lab, &key, certificate).await.expect_err(name);
            assert!(
                matches!(error, ssh::Error::AuthenticationRefused),
                "{name}: {error}"
            );
            relay.wait_for_line_after(mark, reason).await;
        }
        let mut stream = lab
            .way(echo.address)
            .tcp()
            .await
            .expect("a good client right after");
        echoes(&mut stream, b"still serving")
            .await
            .expect("an echo");
    }

    let certificate = lab.user_ca.certify(&key, &good());
    present(&lab, &key, &certificate).await.expect("a good one");
    let ssh = as_gateway(&lab, &key, Some(&certificate));
    ssh.wait_for_line("Authenticated to").await;
    assert!(relay.is_running());
}

/// Presents a certificate as a gateway of ours would, had it been issued.
async fn present(lab: &Lab, key: &SshKey, certificate: &Path) -> Result<(), ssh::Error> {
    let line = std::fs::read_to_string(certificate).expect("a certificate");
    let key = keys::parse_private_key(&Secret::new(key.private())).expect("a key");
    let certificate = keys::parse_certificate(&line).expect("a certificate");
    let config = ssh::client::Config::new(
        VICTIM.to_owned(),
        keys::CertifiedKey::try_new(&key, certificate).expect("a pair"),
        ssh::cert::HostPolicy {
            ca: keys::parse_public_key(&lab.host_ca.key.public).expect("a key"),
            principal: lab.principal(),
        },
    );
    let stream = TcpStream::connect((lab.host, 2222))
        .await
        .expect("the relay");
    let (reader, writer) = stream.into_split();
    let session = ssh::client::connect(reader, writer, &config).await?;
    session.close("done").await;
    Ok(())
}

fn as_gateway(lab: &Lab, key: &SshKey, certificate: Option<&Path>) -> Process {
    let ca = &lab.host_ca.key.public;
    let command = ssh_as_gateway(lab.dir(), lab.host, VICTIM, key, certificate, ca, &[]);
    Process::spawn("ssh", command)
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_trusts_only_its_assigned_relay() {
    // sshd logs in its own user only, so that is the gateway's id here.
    let user = current_user();
    let lab = Lab::with_gateway_id(&user).await;
    let address = SocketAddr::from((lab.host, 2222));
    let good = || SshCert::host(&lab.principal());
    let by = |ca: &crate::support::ssh_ca::SshCa, cert: SshCert| {
        Some(ca.certify(&lab.server_key, &cert))
    };
    let ours = &lab.host_ca;
    let cases: Vec<(&str, Option<PathBuf>, &str)> = vec![
        ("a raw host key", None, "host key"),
        (
            "an authority no one named",
            by(&lab.stranger, good()),
            "not by the CA",
        ),
        (
            "the gateways' authority",
            by(&lab.user_ca, good()),
            "not by the CA",
        ),
        ("expired", by(ours, good().expired()), "expired"),
        (
            "not yet valid",
            by(ours, good().not_yet_valid()),
            "it is not valid before",
        ),
        (
            "another relay's",
            by(ours, good().principals(&["127.0.0.1:2222"])),
            "not for",
        ),
        (
            "without principals",
            by(ours, good().principals(&[])),
            "not for",
        ),
        (
            "its host without the port",
            by(ours, good().principals(&[&lab.host.to_string()])),
            "not for",
        ),
        (
            "a user certificate",
            by(ours, good().of_the_other_type()),
            "user certificate",
        ),
        (
            "an unknown critical option",
            by(ours, good().critical_option()),
            "unheard-of@example.com",
        ),
    ];
    for (name, certificate, reason) in &cases {
        let sshd = Sshd {
            address,
            host_key: &lab.server_key,
            host_certificate: certificate.as_deref(),
            user_ca: Some(&lab.user_ca.key.public),
            authorized: None,
            more: &[],
        }
        .start(lab.dir())
        .await;
        let gateway = lab.gateway_command().spawn(lab.dir());
        gateway.wait_for_line(reason).await;
        assert!(
            !sshd.output().contains("Accepted publickey"),
            "{name} was believed"
        );
        assert!(gateway.is_running(), "{name}: the gateway gave up");
        gateway.kill().await;
        sshd.kill().await;
    }

    // The same gateway that refuses a bad relay goes on trying, and finds the good one.
    let bad = lab.stranger.certify(&lab.server_key, &good());
    let sshd = |certificate: PathBuf| {
        let lab = &lab;
        async move {
            Sshd {
                address,
                host_key: &lab.server_key,
                host_certificate: Some(&certificate),
                user_ca: Some(&lab.user_ca.key.public),
                authorized: None,
                more: &[],
            }
            .start(lab.dir())
            .await
        }
    };
    let liar = sshd(bad).await;
    let gateway = lab.gateway_command().spawn(lab.dir());
    gateway.wait_for_line("not by the CA").await;
    liar.kill().await;
    let honest = sshd(lab.host_ca.certify(&lab.server_key, &good())).await;
    honest.wait_for_line("Accepted publickey").await;
    // It refuses them, as deployed relays do; that is an answer.
    honest.wait_for_line("keepalive@openssh.com").await;
    gateway.wait_for_line("Gateway started successfully").await;
    assert!(!lab.platform.requests(REGISTER_GATEWAY).is_empty());
}
