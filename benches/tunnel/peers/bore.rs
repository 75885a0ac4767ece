//! bore, the smallest tunnel whose client dials its server: one TCP connection for each stream, in
//! the clear.

use std::net::SocketAddr;
use std::process::Command;

use super::{Peer, Start, free_address, installed, wait_until_listens};
use crate::entrance::Entrance;
use crate::process::Process;
use crate::stack::free_loopback;

/// The only port that its clients know.
const CONTROL: u16 = 7835;

pub(crate) async fn start(target: SocketAddr) -> anyhow::Result<Start> {
    let Some(program) = installed("bore") else {
        return Ok(Start::Absent("bore"));
    };
    let host = free_loopback(&[CONTROL])?;
    let listen = SocketAddr::new(host, free_address()?.port());
    let mut server = Command::new(&program);
    server.args(["server", "--bind-addr", &host.to_string()]);
    let relay = Process::start(server)?;
    // It does not try again by itself.
    wait_until_listens(SocketAddr::new(host, CONTROL)).await?;
    let mut client = Command::new(&program);
    client.args(["local", &target.port().to_string()]);
    client.args(["--local-host", &target.ip().to_string()]);
    client.args(["--to", &host.to_string()]);
    client.args(["--port", &listen.port().to_string()]);
    let gateway = Process::start(client)?;
    Ok(Start::Ready(Peer {
        entrance: Entrance::Tcp(listen),
        relay,
        gateway: Some(gateway),
        _dir: None,
    }))
}
