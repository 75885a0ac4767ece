//! rathole, a tunnel whose client dials its server: one TCP connection for each stream, encrypted
//! with Noise or not at all.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context as _;

use super::{Peer, Start, free_address, installed};
use crate::entrance::Entrance;
use crate::process::Process;

pub(crate) fn start(target: SocketAddr, encrypted: bool) -> anyhow::Result<Start> {
    let Some(program) = installed("rathole") else {
        return Ok(Start::Absent("rathole"));
    };
    let dir = tempfile::tempdir()?;
    let (here, listen) = (free_address()?, free_address()?);
    let (mut server, mut client) = (String::new(), String::new());
    if encrypted {
        let made = Command::new(&program).arg("--genkey").output()?;
        let made = String::from_utf8(made.stdout)?;
        let key = |title: &str| {
            let mut lines = made.lines().skip_while(|line| !line.starts_with(title));
            lines.nth(1).context("rathole made no key")
        };
        server = noise("server", "local_private_key", key("Private")?);
        client = noise("client", "remote_public_key", key("Public")?);
    }
    let server = format!(
        "[server]\nbind_addr = \"{here}\"\ndefault_token = \"bench\"\n{server}\n\
         [server.services.bench]\nbind_addr = \"{listen}\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{here}\"\ndefault_token = \"bench\"\n{client}\n\
         [client.services.bench]\nlocal_addr = \"{target}\"\n"
    );
    let run = |role: &str, config: String| {
        let file = dir.path().join(role);
        std::fs::write(&file, config)?;
        let mut command = Command::new(&program);
        command.arg(format!("--{role}")).arg(file);
        Process::start(command)
    };
    let (relay, gateway) = (run("server", server)?, run("client", client)?);
    Ok(Start::Ready(Peer {
        entrance: Entrance::Tcp(listen),
        relay,
        gateway: Some(gateway),
        _dir: Some(dir),
    }))
}

fn noise(role: &str, name: &str, key: &str) -> String {
    format!("[{role}.transport]\ntype = \"noise\"\n[{role}.transport.noise]\n{name} = \"{key}\"\n")
}
