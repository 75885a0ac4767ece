//! OpenSSH with the same roles and direction: `sshd` is the relay, `ssh -R` the gateway,
//! AES-128-GCM.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::{Peer, Start, beyond, free_address, installed, wait_until_listens};
use crate::entrance::Entrance;
use crate::process::Process;
use crate::stack::Between;

const CIPHER: &str = "aes128-gcm@openssh.com";
/// It must be started by its absolute path, and is not in everyone's PATH.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/lib/ssh/sshd"];

/// Starts both, with `between` between them.
pub(crate) async fn start(target: SocketAddr, between: Between) -> anyhow::Result<Start> {
    let Some(sshd) = SSHD.iter().find(|path| Path::new(path).is_file()) else {
        return Ok(Start::Absent("sshd"));
    };
    let (Some(ssh), Some(keygen)) = (installed("ssh"), installed("ssh-keygen")) else {
        return Ok(Start::Absent("ssh"));
    };
    let uid = nix::unistd::Uid::effective();
    if uid.is_root() {
        // Where distributions want the empty directory of the unprivileged child.
        let _ = std::fs::create_dir("/run/sshd");
    }
    let user = nix::unistd::User::from_uid(uid)?.context("this user has no name")?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    for key in ["host", "user"] {
        let made = Command::new(&keygen)
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)])
            .stdin(Stdio::null())
            .status()?;
        if !made.success() {
            bail!("ssh-keygen failed");
        }
    }
    let (here, listen) = (free_address()?, free_address()?);
    let mut config = String::new();
    for (key, value) in [
        ("ListenAddress", here.to_string().as_str()),
        ("HostKey", &path("host")),
        ("AuthorizedKeysFile", &path("user.pub")),
        ("Ciphers", CIPHER),
        ("PidFile", "none"),
        ("UsePAM", "no"),
        ("StrictModes", "no"),
        ("PermitRootLogin", "prohibit-password"),
        ("PasswordAuthentication", "no"),
        ("KbdInteractiveAuthentication", "no"),
        ("LogLevel", "QUIET"),
    ] {
        writeln!(config, "{key} {value}")?;
    }
    std::fs::write(path("config"), config)?;
    let mut server = Command::new(sshd);
    server.args(["-D", "-e", "-f", &path("config")]);
    let relay = Process::start(server)?;
    wait_until_listens(here).await?;
    let there = beyond(between, here).await?;

    let mut client = Command::new(ssh);
    client.args(["-F", "none", "-N", "-q", "-i", &path("user")]);
    client.args(["-l", &user.name, "-p", &there.port().to_string()]);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "ExitOnForwardFailure=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        &format!("Ciphers={CIPHER}"),
    ] {
        client.args(["-o", option]);
    }
    client.args(["-R", &format!("{listen}:{target}")]);
    client.arg(there.ip().to_string());
    let gateway = Process::start(client)?;
    Ok(Start::Ready(Peer {
        entrance: Entrance::Tcp(listen),
        relay,
        gateway: Some(gateway),
        _dir: Some(dir),
    }))
}
