//! Bytes in channels with OpenSSH. Its `ssh` opens channels to a server and its `sshd` accepts them
//! from a client, the reverse of the tunnel; so our server accepts here, and our client opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use futures_util::future::join_all;
use infisical_ssh::{Error, client, server};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::bytes::{echo, receive, send};
use crate::support::openssh::{Sshd, ssh_to};
use crate::support::process::Process;
use crate::support::ssh_sides::{self, Keyring, Kinds, Sides, next};
use crate::support::{eventually, soon};

const CHANNELS: usize = 4;
/// 32 MiB each way, in all channels.
const BYTES: usize = (32 << 20) / CHANNELS;
/// At least so many exchanges at a mebibyte each, of both directions together.
const EXCHANGES: usize = 30;
const CIPHERS: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
/// What our server has besides, each with a MAC of another kind.
const OLD_CIPHERS: [(&str, &str); 4] = [
    ("aes128-ctr", "hmac-sha2-256"),
    ("aes192-ctr", "hmac-sha2-512"),
    ("aes256-ctr", "hmac-sha2-256-etm@openssh.com"),
    ("aes128-ctr", "hmac-sha2-512-etm@openssh.com"),
];

fn exchanged(output: &str) -> usize {
    output.matches("SSH2_MSG_NEWKEYS received").count()
}

/// Our server's side, which here takes the channels of its client.
fn accepting(sides: &Sides) -> server::Config {
    server::Config {
        channels: server::Channels::Accepted,
        ..sides.server_config()
    }
}

/// Sends back what comes until it ends.
async fn mirror(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let copied = tokio::io::copy(&mut reader, &mut writer).await;
    copied.expect("an end");
    writer.shutdown().await.expect("half-closed");
}

/// Sends back whatever comes in any channel, until the session ends.
async fn mirror_all(session: server::Session) {
    let mut mirrors = JoinSet::new();
    while let Some(channel) = session.accept().await {
        mirrors.spawn(mirror(channel));
    }
}

/// `ssh` that listens on the socket `local`, and our server, which mirrors what comes through it.
async fn forwarding(
    ring: &Keyring,
    listener: &TcpListener,
    sides: &Sides,
    local: &Path,
    more: &[&str],
) -> (Process, server::Session) {
    let forward = format!("{}:localhost:1", local.display());
    let mut arguments = vec!["-v", "-N", "-L", &forward];
    let options = ["RekeyLimit=1M", "StreamLocalBindUnlink=yes"];
    let options = options.iter().chain(more);
    arguments.extend(options.flat_map(|option| ["-o", option]));
    let ssh = Process::spawn("ssh", ssh_to(ring, sides, &arguments));
    let session = ssh_sides::accept(next(listener).await, &accepting(sides)).await;
    (ssh, session.expect("a session"))
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_ports_carry_bulk_during_rekeys() {
    let ring = Keyring::new();
    let listener = ring.listen().await;
    let sides = ring.sides(&Kinds::default());
    let local = ring.dir().join("local");
    let modern = CIPHERS.iter().map(|cipher| (*cipher, "hmac-sha2-256"));
    for (cipher, mac) in modern.chain(OLD_CIPHERS) {
        let case = format!("{cipher} {mac}");
        let more = [format!("Ciphers={cipher}"), format!("MACs={mac}")];
        let more = more.each_ref().map(String::as_str);
        let (ssh, session) = forwarding(&ring, &listener, &sides, &local, &more).await;
        let mut task = JoinSet::new();
        task.spawn(mirror_all(session));
        let connections = (0..CHANNELS).map(|_| async {
            let stream = eventually("ssh listens", || UnixStream::connect(&local)).await;
            echo(stream, BYTES).await;
        });
        soon(&case, join_all(connections)).await;
        let output = ssh.output();
        assert!(output.contains(&format!("cipher: {cipher}")), "{case}");
        let exchanges = exchanged(&output);
        assert!(exchanges > EXCHANGES, "{case}: {exchanges} exchanges");
        ssh.kill().await;
        soon("the end", task.join_next()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_channel_ends_by_halves() {
    let ring = Keyring::new();
    let listener = ring.listen().await;
    let sides = ring.sides(&Kinds::default());
    let command = ssh_to(&ring, &sides, &["-W", "localhost:1", "-o", "RekeyLimit=1M"]);
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut ssh = command.kill_on_drop(true).spawn().expect("ssh");
    let session = ssh_sides::accept(next(&listener).await, &accepting(&sides)).await;
    let mut task = JoinSet::new();
    task.spawn(mirror_all(session.expect("a session")));
    let mut input = ssh.stdin.take().expect("stdin");
    let mut output = ssh.stdout.take().expect("stdout");
    let sending = async {
        send(&mut input, 5, BYTES).await;
        // A pipe ends with its last writer.
        drop(input);
    };
    let both = async { tokio::join!(sending, receive(&mut output, 5, BYTES)) };
    soon("all of it", both).await;
    let status = soon("the end of ssh", ssh.wait()).await.expect("a child");
    assert!(status.success(), "{status}");
    soon("the end", task.join_next()).await;
}

/// A mirror on a port.
async fn target(host: Ipv4Addr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((host, 0)).await.expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut mirrors = JoinSet::new();
        loop {
            let stream = next(&listener).await;
            mirrors.spawn(mirror(stream));
        }
    });
    (address, task)
}

/// `sshd` with one cipher, and a session of our client with it.
async fn server(ring: &Keyring, sides: &Sides, cipher: &str) -> (Process, client::Session) {
    let cipher = format!("Ciphers {cipher}");
    let sshd = Sshd {
        address: SocketAddr::from((ring.host, 2222)),
        host_key: &sides.server.key,
        host_certificate: Some(&sides.server.certificate),
        user_ca: Some(&sides.user_ca),
        authorized: None,
        more: &["RekeyLimit 1M", &cipher],
    }
    .start(ring.dir())
    .await;
    let stream = TcpStream::connect((ring.host, 2222)).await;
    let session = ssh_sides::connect(stream.expect("connected"), &sides.client_config()).await;
    (sshd, session.expect("a session"))
}

fn originator() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_server_carries_bulk_during_rekeys() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let (address, _target) = target(ring.host).await;
    let host = address.ip().to_string();
    for cipher in CIPHERS {
        let (sshd, session) = server(&ring, &sides, cipher).await;
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            let opened = session.open((&host, address.port()), originator()).await;
            channels.push(opened.unwrap_or_else(|error| panic!("{cipher}: {error:?}")));
        }
        let echoes = channels.into_iter().map(|channel| echo(channel, BYTES));
        soon(cipher, join_all(echoes)).await;
        let exchanges = exchanged(&sshd.output());
        assert!(exchanges > EXCHANGES, "{cipher}: {exchanges} exchanges");
        session.close("done").await;
        sshd.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_servers_failed_channel_is_refused() {
    let ring = Keyring::new();
    let sides = ring.sides(&Kinds::default());
    let (sshd, session) = server(&ring, &sides, CIPHERS[0]).await;
    let host = ring.host.to_string();
    let opened = soon("an answer", session.open((&host, 1), originator())).await;
    assert!(
        matches!(opened, Err(Error::ChannelRefused(_))),
        "{opened:?}"
    );
    // The session goes on.
    let (address, _target) = target(ring.host).await;
    let opened = session.open((&host, address.port()), originator()).await;
    soon("an echo", echo(opened.expect("a channel"), 1 << 20)).await;
    drop(session);
    sshd.wait_for_line("Connection closed by").await;
}
