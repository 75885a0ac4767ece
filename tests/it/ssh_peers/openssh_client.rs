//! OpenSSH's `ssh` against our server's side. It accepts no channel that a server opens, so each is
//! refused; bytes in channels are in `openssh_channels`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use infisical_ssh::{Error, Keepalive, server};
use tokio::net::TcpListener;

use super::{known_to_openssh, pairwise, pick};
use crate::support::openssh::ssh_to;
use crate::support::process::Process;
use crate::support::ssh_sides::{self, KINDS, Keyring, Kinds, PATIENT, Sides, next};
use crate::support::{PATIENCE, soon};

const KEX: [&str; 5] = [
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group14-sha256",
];
const CIPHERS: [&str; 6] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
];
const MACS: [&str; 4] = [
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
];
/// The smallest limit there is: keys are exchanged again after each packet.
const ALWAYS: &str = "RekeyLimit=16";

fn originator() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))
}

/// `ssh` with a session on our server.
async fn session(
    ring: &Keyring,
    listener: &TcpListener,
    sides: &Sides,
    config: &server::Config,
    more: &[&str],
) -> (Process, Result<server::Session, Error>) {
    let mut arguments = vec!["-vvv", "-N"];
    arguments.extend(more.iter().flat_map(|option| ["-o", option]));
    let command = ssh_to(ring, sides, &arguments);
    let ssh = Process::spawn("ssh", command);
    let stream = next(listener).await;
    let session = ssh_sides::accept(stream, config).await;
    (ssh, session)
}

async fn good_session(more: &[&str], keepalive: Keepalive) -> (Keyring, Process, server::Session) {
    let ring = Keyring::new();
    let listener = ring.listen().await;
    let sides = ring.sides(&Kinds::default());
    let config = server::Config {
        keepalive,
        ..sides.server_config()
    };
    let (ssh, session) = session(&ring, &listener, &sides, &config, more).await;
    (ring, ssh, session.expect("a session"))
}

/// Opens a channel, which `ssh` refuses.
async fn be_refused(case: &str, session: &server::Session) {
    let opened = soon(case, session.open(("localhost", 0), originator())).await;
    assert!(
        matches!(opened, Err(Error::ChannelRefused(_))),
        "{case}: {opened:?}"
    );
}

/// How often keys were exchanged.
fn exchanged(output: &str) -> usize {
    output.matches("SSH2_MSG_NEWKEYS received").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_authenticates_with_every_algorithm() {
    let ring = Keyring::new();
    let listener = ring.listen().await;
    let exchanges = known_to_openssh(&KEX);
    // Of the finite-field groups the server offers one; OpenSSH may be too old for the hybrids.
    assert!(exchanges.len() >= 4, "{exchanges:?}");
    for [kex, cipher, mac, host, host_ca, user, user_ca, rekey] in pairwise() {
        let kinds = Kinds {
            host: pick(&KINDS, host),
            host_ca: pick(&KINDS, host_ca),
            user: pick(&KINDS, user),
            user_ca: pick(&KINDS, user_ca),
        };
        let (kex, cipher, mac) = (
            pick(&exchanges, kex),
            pick(&CIPHERS, cipher),
            pick(&MACS, mac),
        );
        let rekeys = rekey % 2 == 0;
        let case = format!("{kex} {cipher} {mac} rekeys={rekeys} {kinds:?}");
        let sides = ring.sides(&kinds);
        let mut more = vec![
            format!("KexAlgorithms={kex}"),
            format!("Ciphers={cipher}"),
            format!("MACs={mac}"),
            format!("HostKeyAlgorithms={}", kinds.host.algorithm),
            // Without the plain key's name OpenSSH does not load the key.
            format!(
                "PubkeyAcceptedAlgorithms={},{}",
                kinds.user.algorithm,
                kinds.user.algorithm.replace("-cert-v01@openssh.com", "")
            ),
        ];
        if rekeys {
            more.push(ALWAYS.to_owned());
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let config = sides.server_config();
        let (ssh, session) = session(&ring, &listener, &sides, &config, &more).await;
        let session = session.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_eq!(session.subject(), sides.user, "{case}");
        for _ in 0..3 {
            be_refused(&case, &session).await;
            assert!(session.ping(PATIENCE).await, "{case}: no answer");
        }
        ssh.wait_for_line("Authenticated to").await;
        let output = ssh.output();
        let line = |needle: &str| {
            let found = output.lines().any(|line| line.contains(needle));
            assert!(found, "{case}: no {needle:?}");
        };
        line(&format!("kex: algorithm: {kex}"));
        line(&format!(
            "kex: host key algorithm: {}",
            kinds.host.algorithm
        ));
        // Authenticated encryption has no MAC of its own.
        let own = if cipher.contains('@') {
            "<implicit>"
        } else {
            mac
        };
        for way in ["server->client", "client->server"] {
            line(&format!("kex: {way} cipher: {cipher} MAC: {own}"));
        }
        line("will use strict KEX ordering");
        line(&format!("signing using {}", kinds.user.algorithm));
        if rekeys {
            assert!(exchanged(&output) > 3, "{case}: keys were not renewed");
        }
        if !rekeys {
            // Else what it sends at the same moment may reset the connection before it reads.
            session.close("enough").await;
            ssh.wait_for_line("enough").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_rekeys_after_every_packet() {
    let (_ring, ssh, session) = good_session(&[ALWAYS], PATIENT).await;
    for round in 0..150 {
        be_refused(&format!("round {round}"), &session).await;
    }
    assert!(session.ping(PATIENCE).await);
    let output = ssh.output();
    assert!(exchanged(&output) > 100, "{}", exchanged(&output));
    assert!(!session.is_ended() && ssh.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalives_are_answered_both_ways() {
    let quick = Keepalive {
        interval: Duration::from_millis(20),
        unanswered: 1000,
    };
    let (_ring, ssh, session) = good_session(&["ServerAliveInterval=1"], quick).await;
    // 80 is a global request; 81 and 82 are its answers.
    let seen = |lines: &[String], what: &[&str]| {
        let is_seen = |line: &&String| what.iter().any(|what| line.contains(what));
        lines.iter().filter(is_seen).count()
    };
    let asked = ["receive packet: type 80"];
    let sent = ["send packet: type 81", "send packet: type 82"];
    let answered = ["receive packet: type 81", "receive packet: type 82"];
    ssh.wait_for("keepalives of both, answered", |lines| {
        let ours = seen(lines, &asked) > 20 && seen(lines, &sent) > 20;
        (ours && seen(lines, &answered) > 1).then_some(())
    })
    .await;
    assert!(!session.is_ended() && ssh.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_other_requests_are_refused() {
    let (_ring, ssh, session) = good_session(
        &[
            "RemoteForward=0 127.0.0.1:9",
            "ExitOnForwardFailure=no",
            "ForwardAgent=yes",
        ],
        PATIENT,
    )
    .await;
    ssh.wait_for_line("remote port forwarding failed").await;
    be_refused("after a refused forwarding", &session).await;
    assert!(session.ping(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_and_forwarded_channel_are_refused() {
    let ring = Keyring::new();
    let listener = ring.listen().await;
    let sides = ring.sides(&Kinds::default());
    let config = sides.server_config();
    for (arguments, remote) in [
        (&["-v"][..], Some("true")),
        (&["-v", "-W", "127.0.0.1:9"], None),
    ] {
        let mut command = ssh_to(&ring, &sides, arguments);
        command.args(remote);
        let ssh = Process::spawn("ssh", command);
        let session = ssh_sides::accept(next(&listener).await, &config).await;
        let session = session.expect("a session");
        ssh.wait_for_line("open failed").await;
        assert_ne!(ssh.exit_code().await, 0, "{remote:?}");
        soon("the end", session.ended()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_heard_on_either_side() {
    let (_ring, ssh, session) = good_session(&[], PATIENT).await;
    session.close("come back later").await;
    ssh.wait_for_line("come back later").await;
    assert_eq!(ssh.exit_code().await, 255);

    let (_ring, ssh, session) = good_session(&[], PATIENT).await;
    ssh.signal(nix::sys::signal::Signal::SIGTERM);
    soon("the end", session.ended()).await;
    assert!(session.is_ended());
    assert!(!session.ping(PATIENCE).await);
}
