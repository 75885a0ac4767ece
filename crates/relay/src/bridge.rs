//! One client and one channel: bytes both ways, with half-close.
//!
//! When one side ends, the other is notified (EOF on the channel, `close_notify` towards the
//! client) and the other direction goes on. The bridge ends when both directions have, when one
//! fails, or when the gateway's session ends; what that session left behind may be read for a
//! moment longer.
//!
//! A channel that is closed without EOF is no failure: deployed gateways end every session so, and
//! TLS 2 tells the client whether it was whole. A session that ends is one.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::Instant;

use crate::error::chain;
use crate::metrics::Counts;
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
    pub(crate) close_wait: Duration,
    /// Where it is counted.
    pub(crate) counts: &'a Counts,
}

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both directions came to their end.
    Complete,
    /// The gateway has said everything and closed the channel, and the client goes on. Deployed
    /// gateways end like that.
    GatewayClosed,
    /// The relay stops.
    Stopped,
    /// One side was lost.
    Broken,
}

/// Copies until the bridge ends or `scope` is cancelled, and logs what was.
pub(crate) async fn run<C, G>(
    client: &mut C,
    channel: &mut G,
    parties: &Parties<'_>,
    scope: &Scope,
) -> End
where
    C: AsyncBufRead + AsyncWrite + Unpin,
    G: AsyncBufRead + AsyncWrite + Unpin,
{
    let begin = Instant::now();
    let mut stop = pin!(async {
        tokio::select! {
            () = scope.cancelled() => (End::Stopped, "relay: it is going away"),
            () = async {
                // A channel of a session that is gone takes bytes, or none, forever.
                parties.session.ended().await;
                tokio::time::sleep(parties.close_wait).await;
            } => (End::Broken, "gateway: its session ended"),
        }
    });
    let (copied, stopped) = copy::copy_both_until(client, channel, stop.as_mut()).await;
    let failure = copied.failure.as_ref();
    let (end, ended_by) = match (stopped, failure.map(|failure| failure.side)) {
        _ if copied.is_complete() => (End::Complete, who(copied.ended_first)),
        (Some(stopped), _) => stopped,
        (None, Some(Side::B)) if copied.b_to_a.is_complete => (End::GatewayClosed, "gateway"),
        (None, _) => (End::Broken, "a failure"),
    };
    let error = failure.map(|failure| chain(&failure.error).to_string());
    parties
        .counts
        .ended(parties.gateway, copied.a_to_b.bytes, copied.b_to_a.bytes);
    tracing::debug!(
        gateway.id = parties.gateway,
        peer = %parties.peer,
        to_gateway = copied.a_to_b.bytes,
        to_client = copied.b_to_a.bytes,
        duration_ms = begin.elapsed().as_millis(),
        ended_by,
        error = error.unwrap_or_default(),
        "bridge ended"
    );
    end
}

fn who(first: Option<Side>) -> &'static str {
    match first {
        Some(Side::A) => "client",
        Some(Side::B) => "gateway",
        None => "neither",
    }
}
