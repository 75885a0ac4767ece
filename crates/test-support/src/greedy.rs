//! An organization that takes what it can get of a relay: its gateway sends without end, and its
//! clients do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use infisical_ssh::client::Session;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::session::Way;
use super::tls::{self, Outer};

/// The organization.
pub const ORGANIZATION: &str = "11111111-2222-4333-8444-555555555555";

/// Ids of its gateways.
pub const GATEWAYS: [&str; 4] = [
    "0d7a2f54-9a53-4a0e-8c4e-000000000001",
    "0d7a2f54-9a53-4a0e-8c4e-000000000002",
    "0d7a2f54-9a53-4a0e-8c4e-000000000003",
    "0d7a2f54-9a53-4a0e-8c4e-000000000004",
];

/// What its gateway has done.
#[derive(Default)]
pub struct Counts {
    /// Channels that were opened.
    pub channels: AtomicU64,
    /// Bytes that went out.
    pub sent: AtomicU64,
}

/// Accepts every channel and sends on it as much as is taken, until what is returned is dropped.
pub fn pour(session: Session, counts: Arc<Counts>) -> JoinSet<()> {
    let mut pouring = JoinSet::new();
    pouring.spawn(async move {
        let mut channels = JoinSet::new();
        while let Some(mut channel) = session.accept().await {
            counts.channels.fetch_add(1, Ordering::Relaxed);
            let counts = Arc::clone(&counts);
            channels.spawn(async move {
                let block = [0x5a; 4096];
                while channel.write_all(&block).await.is_ok() {
                    counts.sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    pouring
}

/// A client of `way` for which the kernel keeps little, so that the relay has to keep it.
pub async fn narrow(way: &Way) -> std::io::Result<Outer> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    socket2::SockRef::from(&socket).set_tcp_mss(1024)?;
    let tcp = socket.connect((way.relay_host, 8443).into()).await?;
    tls::outer_over(tcp, way.relay_host, Some(&way.relay), &way.relay_anchors).await
}
