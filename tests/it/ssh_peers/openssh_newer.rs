//! OpenSSH 10 against either side of ours: the first with `mlkem768x25519-sha256`, which it
//! prefers.

use std::net::SocketAddr;
use std::time::Duration;

use infisical_ssh::{Error, Keepalive, client};
use tokio::net::TcpStream;

use crate::support::newer_openssh::{paths, programs};
use crate::support::openssh::{Sshd, ssh_to_by};
use crate::support::process::Process;
use crate::support::ssh_sides::{self, KINDS, Keyring, Kinds, next};
use crate::support::{PATIENCE, soon};

const CHOSEN: &str = "kex: algorithm: mlkem768x25519-sha256";
/// With keys exchanged again after each packet.
const RENEWALS: usize = 5;

/// Each kind of key as subject, and another as its authority.
fn kinds() -> impl Iterator<Item = Kinds> {
    let pairs = KINDS.iter().zip(KINDS.iter().cycle().skip(1));
    pairs.map(|(&subject, &authority)| Kinds {
        host: subject,
        host_ca: authority,
        user: subject,
        user_ca: authority,
    })
}

fn exchanged(output: &str) -> usize {
    output.matches("SSH2_MSG_NEWKEYS received").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_gets_openssh_10s_first_choice() {
    let Some(programs) = programs() else {
        return;
    };
    let ring = Keyring::new();
    let listener = ring.listen().await;
    for kinds in kinds() {
        let sides = ring.sides(&kinds);
        let host_key = format!("HostKeyAlgorithms={}", kinds.host.algorithm);
        let arguments = ["-vvv", "-N", "-o", "RekeyLimit=16", "-o", &host_key];
        let command = ssh_to_by(&programs.join("ssh"), &ring, &sides, &arguments);
        let ssh = Process::spawn("ssh", command);
        let session = ssh_sides::accept(next(&listener).await, &sides.server_config()).await;
        let session = session.unwrap_or_else(|error| panic!("{kinds:?}: {error:?}"));
        let originator = SocketAddr::from(([192, 0, 2, 1], 40_000));
        for _ in 0..RENEWALS {
            let opened = soon("an answer", session.open(("localhost", 0), originator)).await;
            assert!(
                matches!(opened, Err(Error::ChannelRefused(_))),
                "{kinds:?}: {opened:?}"
            );
            assert!(session.ping(PATIENCE).await, "{kinds:?}");
        }
        let output = ssh.output();
        assert!(output.contains(CHOSEN), "{kinds:?}");
        assert!(exchanged(&output) > RENEWALS, "{kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_gets_openssh_10s_first_choice() {
    let Some(programs) = programs() else {
        return;
    };
    let ring = Keyring::new();
    let [session_path, auth_path] = paths(programs);
    for kinds in kinds() {
        let sides = ring.sides(&kinds);
        let host_key = format!("HostKeyAlgorithms {}", kinds.host.algorithm);
        let sshd = Sshd {
            address: SocketAddr::from((ring.host, 2222)),
            host_key: &sides.server.key,
            host_certificate: Some(&sides.server.certificate),
            user_ca: Some(&sides.user_ca),
            authorized: None,
            more: &["RekeyLimit 16", &host_key, &session_path, &auth_path],
        }
        .start_by(&programs.join("sshd"), ring.dir())
        .await;
        let config = client::Config {
            // A client sends nothing else.
            keepalive: Keepalive {
                interval: Duration::from_millis(10),
                unanswered: 2000,
            },
            ..sides.client_config()
        };
        let stream = TcpStream::connect((ring.host, 2222)).await;
        let session = ssh_sides::connect(stream.expect("connected"), &config).await;
        let session = session.unwrap_or_else(|error| panic!("{kinds:?}: {error:?}"));
        sshd.wait_for(&format!("renewals with {kinds:?}"), |lines| {
            let has_chosen = lines.iter().any(|line| line.contains(CHOSEN));
            (has_chosen && exchanged(&lines.join("\n")) > RENEWALS).then_some(())
        })
        .await;
        // Its process for the connection would outlive it.
        drop(session);
        sshd.kill().await;
    }
}
