//! OpenSSH's `sshd` against our client's side. It opens no channel unless asked for one; bytes in
//! channels are in `openssh_channels`.

use std::net::SocketAddr;
use std::time::Duration;

use infisical_ssh::{Keepalive, client};
use tokio::net::TcpStream;

use super::{known_to_openssh, pairwise, pick};
use crate::support::openssh::Sshd;
use crate::support::process::Process;
use crate::support::soon;
use crate::support::ssh_sides::{self, KINDS, Keyring, Kinds, Sides};

const KEX: [&str; 4] = [
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
];
const CIPHERS: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
/// The smallest limit there is: keys are exchanged again after each packet.
const ALWAYS: &str = "RekeyLimit 16";
/// A client sends nothing but keepalives.
const QUICK: Keepalive = Keepalive {
    interval: Duration::from_millis(10),
    unanswered: 2000,
};

/// Starts an `sshd` with more settings.
async fn start(ring: &Keyring, sides: &Sides, more: &[&str]) -> Process {
    // `sshd` tells at this level of every packet.
    let mut all = vec!["LogLevel DEBUG3"];
    all.extend(more);
    Sshd {
        address: SocketAddr::from((ring.host, 2222)),
        host_key: &sides.server.key,
        host_certificate: Some(&sides.server.certificate),
        user_ca: Some(&sides.user_ca),
        authorized: None,
        more: &all,
    }
    .start(ring.dir())
    .await
}

async fn connect(case: &str, ring: &Keyring, config: &client::Config) -> client::Session {
    let stream = TcpStream::connect((ring.host, 2222)).await;
    let session = ssh_sides::connect(stream.expect("connected"), config).await;
    session.unwrap_or_else(|error| panic!("{case}: {error:?}"))
}

/// Lines with any of these in them.
fn seen(lines: &[String], what: &[&str]) -> usize {
    let is_seen = |line: &&String| what.iter().any(|what| line.contains(what));
    lines.iter().filter(is_seen).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_is_accepted_with_every_algorithm() {
    let ring = Keyring::new();
    let exchanges = known_to_openssh(&KEX);
    assert!(exchanges.len() >= 3, "{exchanges:?}");
    for [kex, cipher, host, host_ca, user, user_ca, rekey, _] in pairwise() {
        let kinds = Kinds {
            host: pick(&KINDS, host),
            host_ca: pick(&KINDS, host_ca),
            user: pick(&KINDS, user),
            user_ca: pick(&KINDS, user_ca),
        };
        let (kex, cipher) = (pick(&exchanges, kex), pick(&CIPHERS, cipher));
        let rekeys = rekey % 2 == 0;
        let case = format!("{kex} {cipher} rekeys={rekeys} {kinds:?}");
        let sides = ring.sides(&kinds);
        let mut more = vec![
            format!("KexAlgorithms {kex}"),
            format!("Ciphers {cipher}"),
            format!("HostKeyAlgorithms {}", kinds.host.algorithm),
        ];
        if rekeys {
            more.push(ALWAYS.to_owned());
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let sshd = start(&ring, &sides, &more).await;
        let config = client::Config {
            keepalive: QUICK,
            ..sides.client_config()
        };
        let session = connect(&case, &ring, &config).await;
        sshd.wait_for_line("Accepted publickey for").await;
        let renewals = if rekeys { 4 } else { 1 };
        sshd.wait_for(&format!("keepalives and renewals of {case}"), |lines| {
            let asked = seen(lines, &["receive packet: type 80"]) > 2;
            let renewed = seen(lines, &["SSH2_MSG_NEWKEYS received"]) >= renewals;
            (asked && renewed).then_some(())
        })
        .await;
        let output = sshd.output();
        for needle in [
            format!("kex: algorithm: {kex}"),
            format!("kex: host key algorithm: {}", kinds.host.algorithm),
            format!("kex: server->client cipher: {cipher} MAC: <implicit>"),
            format!("kex: client->server cipher: {cipher} MAC: <implicit>"),
            "will use strict KEX ordering".to_owned(),
        ] {
            assert!(output.contains(&needle), "{case}: no {needle:?}");
        }
        session.close("done").await;
        if !rekeys {
            // Else what it sends at the same moment may reset the connection before it reads.
            sshd.wait_for_line("Received disconnect from").await;
        }
        sshd.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_key_signs_as_the_server_supports() {
    let ring = Keyring::new();
    let user = KINDS[4];
    let sides = ring.sides(&Kinds {
        user,
        ..Kinds::default()
    });
    for hash in ["256", "512"] {
        let only = format!("PubkeyAcceptedAlgorithms rsa-sha2-{hash}-cert-v01@openssh.com");
        let sshd = start(&ring, &sides, &[&only]).await;
        let session = connect(&only, &ring, &sides.client_config()).await;
        sshd.wait_for_line("Accepted publickey for").await;
        drop(session);
        sshd.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_rekeys_after_every_packet() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let sshd = start(&ring, &sides, &[ALWAYS]).await;
    let config = client::Config {
        keepalive: QUICK,
        ..sides.client_config()
    };
    let _session = connect("rekeying", &ring, &config).await;
    sshd.wait_for("a hundred exchanges", |lines| {
        (seen(lines, &["SSH2_MSG_NEWKEYS received"]) > 100).then_some(())
    })
    .await;
}

/// Connects with keepalives of ours at this interval, and waits until `sshd` has seen enough.
async fn keepalives(option: &str, interval: u64, is_enough: fn(&[String]) -> bool) {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let sshd = start(&ring, &sides, &[option]).await;
    let config = client::Config {
        keepalive: Keepalive {
            interval: Duration::from_secs(interval),
            unanswered: 20,
        },
        ..sides.client_config()
    };
    let session = connect("keepalives", &ring, &config).await;
    let watched = sshd.wait_for("keepalives", |lines| is_enough(lines).then_some(()));
    tokio::select! {
        () = watched => {}
        channel = session.accept() => panic!("{channel:?}: {:?}", session.take_end()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalives_are_answered_both_ways() {
    // Each asks only after silence, so one of them at a time.
    let answers = |lines: &[String]| {
        seen(
            lines,
            &["receive packet: type 81", "receive packet: type 82"],
        ) > 1
    };
    keepalives("ClientAliveInterval 1", 20, answers).await;
    let questions = |lines: &[String]| seen(lines, &["receive packet: type 80"]) > 1;
    keepalives("ClientAliveInterval 0", 1, questions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_server_ends_the_session() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let sshd = start(&ring, &sides, &[]).await;
    let session = connect("an end", &ring, &sides.client_config()).await;
    sshd.wait_for_line("Accepted publickey for").await;
    let child = sshd.wait_for("the child of the connection", |lines| {
        let forked = lines
            .iter()
            .find_map(|line| line.split("Forked child ").nth(1))?;
        forked.trim_end_matches('.').parse().ok()
    });
    let child = nix::unistd::Pid::from_raw(child.await);
    nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGTERM).expect("a child");
    let accepted = soon("the end", session.accept()).await;
    assert!(accepted.is_none(), "{accepted:?}");
}
