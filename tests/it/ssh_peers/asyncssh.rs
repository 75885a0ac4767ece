//! AsyncSSH, a Python library, in either role of the tunnel. It knows `mlkem768x25519-sha256`,
//! which older OpenSSH does not, opens channels to our client and accepts those of our server, and
//! counts its key exchanges.

use std::net::SocketAddr;

use futures_util::future::join_all;
use infisical_ssh::{ChannelStream, client, server};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::bytes::echo;
use crate::support::openssh::utf8;
use crate::support::process::Process;
use crate::support::python::with_asyncssh;
use crate::support::soon;
use crate::support::ssh_sides::{self, KINDS, Keyring, Kinds, Sides, next};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/ssh_peers/asyncssh_peer.py"
);
/// Of both, what our client offers.
const MODERN_KEX: [&str; 4] = [
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
];
const OLD_KEX: &str = "diffie-hellman-group14-sha256";
const AEAD: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
const CTR: [&str; 3] = ["aes128-ctr", "aes192-ctr", "aes256-ctr"];
const MACS: [&str; 4] = [
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
];

/// What AsyncSSH is to do.
#[derive(Debug, Clone, Copy)]
struct Plan {
    kex: &'static str,
    cipher: &'static str,
    mac: &'static str,
    channels: usize,
    /// Whether it opens channels with the four fields of RFC 4254 §7.2.
    has_fields: bool,
    rekey_bytes: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kex: MODERN_KEX[0],
            cipher: AEAD[0],
            mac: MACS[0],
            channels: 2,
            has_fields: true,
            rekey_bytes: 1 << 30,
        }
    }
}

impl Plan {
    fn json(&self, role: &str, sides: &Sides, address: SocketAddr) -> Value {
        let (own, ca) = match role {
            "relay" => (&sides.server, &sides.user_ca),
            _ => (&sides.client, &sides.host_ca),
        };
        json!({
            "role": role,
            "host": address.ip().to_string(),
            "port": address.port(),
            "key": utf8(&own.key.file),
            "certificate": utf8(&own.certificate),
            "ca": ca,
            "user": sides.user,
            "principal": sides.principal,
            "kex": [self.kex],
            "ciphers": [self.cipher],
            "macs": [self.mac],
            "channels": self.channels,
            "fields": self.has_fields,
            "rekey_bytes": self.rekey_bytes,
            "keepalive": "0.05",
            "window": 2 << 20,
            "packet": 32 << 10,
        })
    }

    /// AsyncSSH in a role; as a gateway it connects to `port`.
    fn start(&self, role: &str, ring: &Keyring, sides: &Sides, port: u16) -> Option<Process> {
        let mut command = with_asyncssh(ring.dir())?;
        let plan = self.json(role, sides, SocketAddr::from((ring.host, port)));
        command.arg(SCRIPT).arg(plan.to_string());
        Some(Process::spawn(role, command))
    }
}

/// Our client, with the channels that AsyncSSH has opened to it.
async fn our_client(
    ring: &Keyring,
    sides: &Sides,
    plan: &Plan,
) -> Option<(Process, client::Session, Vec<ChannelStream>)> {
    let relay = plan.start("relay", ring, sides, 0)?;
    let line = relay.wait_for_line("listening").await;
    let port = line.split(' ').nth(1).and_then(|port| port.parse().ok());
    let port: u16 = port.expect("a port");
    let stream = TcpStream::connect((ring.host, port)).await;
    let session = ssh_sides::connect(stream.expect("connected"), &sides.client_config()).await;
    let session = session.unwrap_or_else(|error| panic!("{plan:?}: {error:?}"));
    let mut channels = Vec::new();
    for _ in 0..plan.channels {
        let channel = soon("a channel", session.accept()).await;
        channels.push(channel.unwrap_or_else(|| panic!("{plan:?}: {:?}", session.take_end())));
    }
    Some((relay, session, channels))
}

/// Our server, with the channels that AsyncSSH has accepted from it.
async fn our_server(
    ring: &Keyring,
    sides: &Sides,
    plan: &Plan,
) -> Option<(Process, server::Session, Vec<ChannelStream>)> {
    let listener = ring.listen().await;
    let gateway = plan.start("gateway", ring, sides, 2222)?;
    let session = ssh_sides::accept(next(&listener).await, &sides.server_config()).await;
    let session = session.unwrap_or_else(|error| panic!("{plan:?}: {error:?}"));
    let originator = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let mut channels = Vec::new();
    for _ in 0..plan.channels {
        let opened = soon("a channel", session.open(("localhost", 0), originator)).await;
        channels.push(opened.unwrap_or_else(|error| panic!("{plan:?}: {error:?}")));
    }
    Some((gateway, session, channels))
}

/// `total` bytes to AsyncSSH and back, in all channels at once.
async fn echo_all(plan: &Plan, channels: Vec<ChannelStream>, total: usize) {
    let echoes = channels.into_iter().map(|channel| echo(channel, total));
    soon(&format!("{plan:?}"), join_all(echoes)).await;
}

async fn wait_for_exchanges(peer: &Process, least: usize) {
    let seen = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| line.starts_with("exchange "))
            .count()
    };
    peer.wait_for(&format!("{least} key exchanges"), |lines| {
        (seen(lines) >= least).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_speaks_every_algorithm_with_asyncssh() {
    let ring = Keyring::new();
    let exchanges = MODERN_KEX.iter().zip(AEAD.iter().cycle());
    let ciphers = AEAD.iter().map(|cipher| (&MODERN_KEX[0], cipher));
    for (index, (kex, cipher)) in exchanges.chain(ciphers).enumerate() {
        let kind = KINDS[index % KINDS.len()];
        let sides = ring.sides(&Kinds {
            host: kind,
            user: kind,
            ..Kinds::default()
        });
        let plan = Plan {
            kex,
            cipher,
            rekey_bytes: 200_000,
            ..Plan::default()
        };
        let Some((peer, _session, channels)) = our_client(&ring, &sides, &plan).await else {
            return;
        };
        echo_all(&plan, channels, 1 << 20).await;
        wait_for_exchanges(&peer, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_speaks_every_algorithm_with_asyncssh() {
    let ring = Keyring::new();
    let modern = MODERN_KEX.iter().zip(AEAD.iter().cycle());
    let modern = modern.map(|(kex, cipher)| (kex, cipher, &MACS[0]));
    let old = CTR.iter().map(|cipher| (&OLD_KEX, cipher, &MACS[2]));
    let ctr = CTR
        .iter()
        .flat_map(|cipher| MACS.iter().map(move |mac| (cipher, mac)));
    let ctr = ctr.map(|(cipher, mac)| (&MODERN_KEX[1], cipher, mac));
    for (index, (kex, cipher, mac)) in modern.chain(old).chain(ctr).enumerate() {
        let kind = KINDS[index % KINDS.len()];
        let sides = ring.sides(&Kinds {
            host: kind,
            user: kind,
            ..Kinds::default()
        });
        let plan = Plan {
            kex,
            cipher,
            mac,
            // The large groups take their time.
            rekey_bytes: if kex.contains("group1") {
                1 << 20
            } else {
                200_000
            },
            ..Plan::default()
        };
        let Some((peer, _session, channels)) = our_server(&ring, &sides, &plan).await else {
            return;
        };
        echo_all(&plan, channels, 1 << 20).await;
        wait_for_exchanges(&peer, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_carries_bulk_during_asyncssh_rekeys() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan {
        channels: 4,
        rekey_bytes: 1 << 20,
        ..Plan::default()
    };
    let Some((peer, session, channels)) = our_client(&ring, &sides, &plan).await else {
        return;
    };
    echo_all(&plan, channels, 28 << 20).await;
    wait_for_exchanges(&peer, 50).await;
    session.close("done").await;
    peer.wait_for_line("lost:").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_carries_bulk_during_asyncssh_rekeys() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan {
        channels: 4,
        rekey_bytes: 1 << 20,
        ..Plan::default()
    };
    let Some((peer, session, channels)) = our_server(&ring, &sides, &plan).await else {
        return;
    };
    echo_all(&plan, channels, 28 << 20).await;
    wait_for_exchanges(&peer, 50).await;
    session.close("enough").await;
    peer.wait_for_line("lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_relays_channels_work_from_asyncssh() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let plan = Plan {
        has_fields: false,
        ..Plan::default()
    };
    let Some((_peer, _session, channels)) = our_client(&ring, &sides, &plan).await else {
        return;
    };
    echo_all(&plan, channels, 1 << 20).await;
}
