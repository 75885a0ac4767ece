//! One client and one channel: bytes both ways, with half-close.
//!
//! When one side ends, the other is told (EOF on the channel, `close_notify` towards the client) and the
//! other direction goes on. The bridge ends when both directions have, when one fails, or when the
//! gateway's session ends; what that session left behind may be read for a moment longer.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::Instant;

use crate::error::chain;
use crate::net::copy::{self, Side};
use crate::scope::Scope;
use crate::ssh::server::Session;

/// Between whom the bridge is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties<'a> {
    /// The gateway's id.
    pub(crate) gateway: &'a str,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The session of the channel.
    pub(crate) session: &'a Session,
    /// How long the client may take for what a lost session left behind.
    pub(crate) farewell: Duration,
}

/// Copies until the bridge ends or `scope` is cancelled, and logs what was.
pub(crate) async fn run<C, G>(client: &mut C, channel: &mut G, parties: &Parties<'_>, scope: &Scope)
where
    C: AsyncBufRead + AsyncWrite + Unpin,
    G: AsyncBufRead + AsyncWrite + Unpin,
{
    let begin = Instant::now();
    let mut stop = pin!(async {
        tokio::select! {
            () = scope.cancelled() => "relay: it is going away",
            () = async {
                // A channel of a session that is gone takes bytes, or none, for ever.
                parties.session.ended().await;
                tokio::time::sleep(parties.farewell).await;
            } => "gateway: its session ended",
        }
    });
    let (copied, result) = copy::copy_both_until(client, channel, stop.as_mut()).await;
    let (ended_by, error) = match &result {
        Ok(Ok(())) => (who(copied.ended_first), String::new()),
        Ok(Err(error)) => ("a failure", chain(error).to_string()),
        Err(by) => (*by, String::new()),
    };
    tracing::debug!(
        gateway.id = parties.gateway,
        peer = %parties.peer,
        to_gateway = copied.a_to_b,
        to_client = copied.b_to_a,
        duration_ms = begin.elapsed().as_millis(),
        ended_by,
        error,
        "bridge ended"
    );
}

fn who(first: Option<Side>) -> &'static str {
    match first {
        Some(Side::A) => "client",
        Some(Side::B) => "gateway",
        None => "nobody",
    }
}
