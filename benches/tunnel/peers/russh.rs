//! russh as an engine: the smallest server and client that forward connections over its channels,
//! with the same cipher, windows and direction as this program's tunnel, and without any TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use russh::client::{self, ChannelOpenHandle};
use russh::keys::PublicKeyOrCertificate;
use russh::server::{self, Auth};
use russh::{Channel, MethodKind, MethodSet, Preferred, cipher};
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use tokio::net::{TcpListener, TcpStream};

use super::{Peer, Start, free_address};
use crate::entrance::Entrance;
use crate::process::Process;
use crate::{BUFFER, in_background};

pub(crate) const RELAY: &str = "russh-relay";
pub(crate) const GATEWAY: &str = "russh-gateway";

const WINDOW: u32 = 2 * 1024 * 1024;
const MAX_PACKET: u32 = 32 * 1024;
const QUEUE: usize = 128;

pub(crate) fn start(target: SocketAddr) -> anyhow::Result<Start> {
    let (ssh, listen) = (free_address()?, free_address()?);
    let relay = Process::start_self(&[RELAY, &ssh.to_string(), &listen.to_string()])?;
    let gateway = Process::start_self(&[GATEWAY, &ssh.to_string(), &target.to_string()])?;
    Ok(Start::Ready(Peer {
        entrance: Entrance::Tcp(listen),
        relay,
        gateway: Some(gateway),
        _dir: None,
    }))
}

fn preferred() -> Preferred {
    Preferred {
        cipher: vec![cipher::AES_128_GCM].into(),
        ..Preferred::default()
    }
}

/// Takes one gateway at `ssh`, and clients at `listen`.
pub(crate) async fn relay(ssh: &str, listen: &str) -> anyhow::Result<()> {
    // The gateway is known to no one but this bench.
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let config = server::Config {
        methods: MethodSet::from(&[MethodKind::None][..]),
        keys: vec![key],
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: QUEUE,
        preferred: preferred(),
        inactivity_timeout: None,
        ..server::Config::default()
    };
    let gateways = TcpListener::bind(ssh).await?;
    let (stream, _) = gateways.accept().await?;
    stream.set_nodelay(true)?;
    let session = server::run_stream(Arc::new(config), stream, Relay).await?;
    let handle = session.handle();
    in_background(session);
    let clients = TcpListener::bind(listen).await?;
    loop {
        let (mut near, from) = clients.accept().await?;
        near.set_nodelay(true)?;
        let handle = handle.clone();
        in_background(async move {
            let from = (from.ip().to_string(), u32::from(from.port()));
            let channel = handle
                .channel_open_forwarded_tcpip("localhost", 0, from.0, from.1)
                .await?;
            let mut far = channel.into_stream();
            tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
            anyhow::Ok(())
        });
    }
}

/// Connects to the relay, and each channel to `target`.
pub(crate) async fn gateway(ssh: &str, target: SocketAddr) -> anyhow::Result<()> {
    let config = client::Config {
        window_size: WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: QUEUE,
        preferred: preferred(),
        ..client::Config::default()
    };
    let stream = loop {
        match TcpStream::connect(ssh).await {
            Ok(stream) => break stream,
            // It has just been started; the bench ends this process when it takes too long.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    stream.set_nodelay(true)?;
    let mut handle = client::connect_stream(Arc::new(config), stream, Gateway { target }).await?;
    let outcome = handle.authenticate_none("bench").await?;
    outcome.success().then_some(()).context("refused")?;
    // The end of the relay is this one's end, and no failure.
    let _ = handle.await;
    Ok(())
}

struct Relay;

impl server::Handler for Relay {
    type Error = anyhow::Error;

    async fn auth_none(&mut self, _user: &str) -> anyhow::Result<Auth> {
        Ok(Auth::Accept)
    }
}

struct Gateway {
    target: SocketAddr,
}

impl client::Handler for Gateway {
    type Error = anyhow::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> anyhow::Result<bool> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> anyhow::Result<()> {
        reply.accept().await;
        let target = self.target;
        in_background(async move {
            let mut far = TcpStream::connect(target).await?;
            far.set_nodelay(true)?;
            let mut near = channel.into_stream();
            tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
        });
        Ok(())
    }
}
