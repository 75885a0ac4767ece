//! The TLS side: accepts clients, reads from their certificate which gateway they want, and bridges
//! them to a channel of that gateway (protocol.md §4).

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::bridge;
use super::hub::{Hub, NoPlace};
use super::tunnel::{Need, Tunnel};
use crate::error::{chain, kind};
use crate::names::GatewayId;
use crate::net::accept::{Accepted, Acceptor};
use crate::net::handshake_cpu::HandshakeCpu;
use crate::net::handshake_progress::Progress;
use crate::net::handshakes::Handshake;
use crate::net::limits::{Slot, Source};
use crate::net::pooled_buf_reader::PooledBufReader;
use crate::net::progress::ProgressTimeout;
use crate::net::reset;
use crate::pki::extensions;
use crate::pki::stream::SecureStream;
use crate::scope::Scope;
use crate::ssh::{self, ChannelStream};

/// Target of every channel. Gateways take the target from TLS 2 and ignore this one (protocol.md
/// §3).
const TARGET: (&str, u16) = ("localhost", 0);
/// Largest amount read from a client that is being sent away, in bytes.
const MAX_IGNORED: u64 = 64 * 1024;

/// Progress of a client that has sent its hello, about as many bytes as a hello has.
const HELLO: u64 = 511;

/// Longest part of a certificate's common name that is shown, in characters.
const MAX_SHOWN: usize = 128;

/// Logged when a handshake ends because another connection of its source needs its place.
pub(super) const GAVE_WAY: &str = "unfinished handshake gave way to another one of its source";

/// A client that completed its handshake.
type Tls = SecureStream<TlsStream<PooledBufReader<TcpStream>>>;

/// Why a client that proved itself is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Certificate(#[from] extensions::Error),
    #[error("its certificate names no gateway")]
    NoGateway,
    #[error("the gateway is not connected")]
    NotConnected,
    #[error("the relay has as many clients as it may have")]
    RelayFull,
    #[error("its organization has as many clients at this relay as it may have")]
    OrganizationFull,
    #[error("the gateway has as many channels as it may have")]
    GatewayFull,
    #[error("the gateway opened no channel")]
    Channel(#[source] ssh::Error),
    #[error("the gateway opened no channel in time")]
    ChannelTimedOut,
}

/// Accepts clients until `stop` is cancelled, which also ends those that are still shaking hands.
/// Bridges belong to `bridges`: its cancellation cuts them.
pub(crate) async fn serve(listener: TcpListener, hub: Arc<Hub>, stop: Scope, bridges: Scope) {
    let mut acceptor = Acceptor::new(listener, hub.handshakes);
    while let Some(accepted) = stop.run(acceptor.accept()).await {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot accept clients any more");
                return;
            }
        };
        let Some(unfinished) = hub.admit(accepted.peer, &hub.tls_handshakes, "client") else {
            acceptor.refuse(accepted);
            continue;
        };
        let client = Client {
            hub: Arc::clone(&hub),
            peer: accepted.peer,
            stop: stop.clone(),
            bridges: bridges.clone(),
        };
        bridges.spawn("client", async move {
            Box::pin(client.serve(accepted, unfinished)).await;
        });
    }
}

/// One connection.
struct Client {
    hub: Arc<Hub>,
    peer: SocketAddr,
    stop: Scope,
    bridges: Scope,
}

/// A channel, and what it takes to keep it.
struct Opened {
    tunnel: Arc<Tunnel>,
    channel: ChannelStream,
    permits: ClientPermits,
}

/// What a client holds of its gateway until its channel is closed.
struct ClientPermits {
    _of_gateway: Slot<GatewayId>,
    _need: Need,
}

impl Client {
    async fn serve(&self, accepted: Accepted, unfinished: Handshake) {
        let Accepted { stream, permit, .. } = accepted;
        // Boxed, as what follows: a client's task should hold only the state it is in, and that
        // once.
        let (progress, cpu) = (unfinished.progress(), unfinished.cpu());
        let handshake = Box::pin(self.handshake(stream, progress, cpu));
        let tls = match unfinished.run(handshake).await {
            Some(Some(tls)) => tls,
            Some(None) => return,
            None => {
                tracing::debug!(peer = %self.peer, "{GAVE_WAY}");
                return;
            }
        };
        let Some(_connection) = unfinished.finish() else {
            return;
        };
        drop(permit);

        let name = match common_name(&tls) {
            Ok(name) => name,
            Err(refusal) => return Box::pin(self.refuse(tls, "", &refusal)).await,
        };
        if name == GatewayId::HEALTH_CHECK {
            tracing::debug!(peer = %self.peer, "health check");
            let mut tls = tls;
            Box::pin(self.dismiss(&mut tls)).await;
            return;
        }
        let admitted = organization(&tls).and_then(|organization| {
            let client = self.hub.admit_client(organization.clone())?;
            Ok((organization, client))
        });
        let (organization, _client) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return Box::pin(self.refuse(tls, &name, &refusal)).await,
        };
        let opening = Box::pin(self.channel(&name, &organization));
        let opened = self.stop.run(opening).await;
        let opened = match opened {
            None => return,
            Some(Err(refusal)) => return Box::pin(self.refuse(tls, &name, &refusal)).await,
            Some(Ok(opened)) => opened,
        };
        Box::pin(self.bridge(tls, &name, opened)).await;
    }

    async fn bridge(&self, tls: Box<Tls>, name: &str, opened: Box<Opened>) {
        let Opened {
            tunnel,
            mut channel,
            permits,
        } = *opened;
        let mut tls = *tls;
        reset::arm(socket(&tls));
        let parties = bridge::Parties {
            gateway: name,
            peer: self.peer,
            session: &tunnel.session,
            close_wait: self.hub.deadlines.close_wait,
            counts: &self.hub.counts,
        };
        // Packets that have come together go to the client in one write; the bridge flushes.
        tls.batch_writes();
        let end = {
            // TLS lends one record at a time, of which a client makes large and tiny ones in turn:
            // a buffer joins them.
            let client = &mut PooledBufReader::new(&mut tls);
            bridge::run(client, &mut channel, &parties, &self.bridges).await
        };
        match end {
            bridge::End::Complete => reset::disarm(socket(&tls)),
            bridge::End::GatewayClosed => {
                // What it still sends is without effect; one that goes on is reset.
                drop((channel, permits));
                if self.dismiss(&mut tls).await {
                    reset::disarm(socket(&tls));
                }
            }
            bridge::End::Broken => {
                // The gateway is to know at once.
                drop((channel, permits));
                abort(&mut tls).await;
            }
            bridge::End::Stopped => {
                // The end of a channel would look like the end of what it carried, the end of the
                // session does not.
                drop(permits);
                let lost = async {
                    let ended = tunnel.session.ended();
                    let _ = tokio::time::timeout(self.hub.deadlines.close_wait, ended).await;
                    drop(channel);
                };
                tokio::join!(lost, abort(&mut tls));
            }
        }
    }

    /// TLS 1; `None` if it did not come about, which has been told.
    async fn handshake(
        &self,
        stream: TcpStream,
        progress: Progress,
        cpu: HandshakeCpu,
    ) -> Option<Box<Tls>> {
        let config = Arc::clone(&self.hub.identity().tls);
        let deadline = self.hub.deadlines.tls_handshake;
        let handshake = tokio::time::timeout(deadline, async move {
            stream.readable().await?;
            progress.add(1);
            let stream = PooledBufReader::new(stream);
            let acceptor = rustls::server::Acceptor::default();
            let hello = cpu
                .measured(LazyConfigAcceptor::new(acceptor, stream))
                .await?;
            progress.add(HELLO);
            // From here on it costs: a key exchange and a signature.
            cpu.measured_with_permit(hello.into_stream(config)).await
        });
        match self.stop.run(handshake).await? {
            Err(_) => {
                let limit_ms = deadline.as_millis();
                tracing::debug!(peer = %self.peer, limit_ms, "TLS handshake took too long");
                None
            }
            Ok(Err(error)) => {
                self.report(&error);
                None
            }
            Ok(Ok(tls)) => {
                let mut tls = SecureStream::new(tls);
                // TLS 2 tells the gateway whether what a client sent is whole.
                tls.tolerate_truncation();
                Some(Box::new(tls))
            }
        }
    }

    /// A channel of the gateway called `name`, for a client of `organization`.
    async fn channel(&self, name: &str, organization: &str) -> Result<Box<Opened>, Refusal> {
        let id = GatewayId::try_new(name).map_err(|_| Refusal::NoGateway)?;
        let tunnel = self.hub.find(&id).await.ok_or(Refusal::NotConnected)?;
        let slot = self.hub.channels.take(id).ok_or(Refusal::GatewayFull)?;
        let permits = ClientPermits {
            _of_gateway: slot,
            _need: tunnel.need(),
        };
        tunnel.charge_to(|| self.hub.buffers.account(organization));

        // Opened by a task of its own: an answer that comes too late must be heard all the same, or
        // the channel would stay open on the gateway's side, belonging to no one.
        let (opened, wait) = oneshot::channel();
        let opener = Arc::clone(&tunnel);
        let originator = self.peer;
        let stop = self.stop.clone();
        self.bridges.spawn("open", async move {
            tokio::select! {
                result = opener.session.open(TARGET, originator) => {
                    // Dropped, and so closed, if no one waits any more.
                    let _ = opened.send(result.map(|channel| (channel, permits)));
                }
                () = opener.session.ended() => {}
                () = stop.cancelled() => {}
            }
        });
        match tokio::time::timeout(self.hub.deadlines.open, wait).await {
            Err(_) => Err(Refusal::ChannelTimedOut),
            Ok(Err(_)) => Err(Refusal::Channel(ssh::Error::Closed)),
            Ok(Ok(Err(error))) => Err(Refusal::Channel(error)),
            Ok(Ok(Ok((channel, permits)))) => Ok(Box::new(Opened {
                tunnel,
                channel,
                permits,
            })),
        }
    }

    /// Logs a failed handshake: health checks of load balancers and the like as one line for each
    /// source and ten minutes, a certificate that is refused as one for each reason.
    fn report(&self, error: &std::io::Error) {
        const REFUSED: &str = "client refused";
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let class = match tls {
            None => {
                tracing::debug!(
                    peer = %self.peer,
                    error = %chain(error),
                    "connection ended before a client authenticated"
                );
                return;
            }
            Some(rustls::Error::InvalidCertificate(_)) => kind(error),
            Some(_) => String::new(),
        };
        let source = Source::from(self.peer.ip()).address();
        let log = &self.hub.tls_handshakes.log;
        if let Some(permission) = log.should_log_peer(REFUSED, &class, source) {
            tracing::info!(
                peer = %self.peer,
                suppressed = permission.suppressed(),
                error = %chain(error),
                "{REFUSED}"
            );
        } else {
            tracing::debug!(peer = %self.peer, error = %chain(error), "{REFUSED}");
        }
    }

    async fn refuse(&self, mut tls: Box<Tls>, gateway: &str, refusal: &Refusal) {
        const SENT_AWAY: &str = "client sent away";
        let gateway: String = gateway.escape_default().take(MAX_SHOWN).collect();
        // For each gateway: that one is away must not hide that another one is.
        let class = format!("{} {gateway}", kind(refusal));
        let source = Source::from(self.peer.ip()).address();
        if let Some(permission) = self.hub.refusals.should_log_peer(SENT_AWAY, &class, source) {
            tracing::info!(
                peer = %self.peer,
                gateway.id = gateway,
                suppressed = permission.suppressed(),
                error = %chain(refusal),
                "{SENT_AWAY}"
            );
        } else {
            tracing::debug!(
                peer = %self.peer,
                gateway.id = gateway,
                error = %chain(refusal),
                "{SENT_AWAY}"
            );
        }
        self.dismiss(&mut tls).await;
    }

    /// Ends a session cleanly: says so, then waits for the client to end too. Closing a socket with
    /// unread bytes would reset the connection and could destroy our disconnect message on its way.
    /// True if the client ended.
    async fn dismiss(&self, tls: &mut Tls) -> bool {
        let close_wait = async {
            tls.shutdown().await?;
            let mut ignored = tls.take(MAX_IGNORED);
            tokio::io::copy(&mut ignored, &mut tokio::io::sink()).await
        };
        let ignored = tokio::time::timeout(self.hub.deadlines.close_wait, close_wait).await;
        matches!(ignored, Ok(Ok(bytes)) if bytes < MAX_IGNORED)
    }
}

/// The socket below TLS 1.
fn socket(tls: &Tls) -> &TcpStream {
    tls.get_ref().get_ref().0.get_ref()
}

/// Ends a client's connection so that it does not look complete, after what was received for it.
async fn abort(tls: &mut Tls) {
    let mut timeout = ProgressTimeout::new();
    tls.abort_within(&mut timeout).await;
    if reset::delivered_within(socket(tls), &mut timeout).await {
        // The alert says all, and a reset could overtake what the client has not read.
        reset::disarm(socket(tls));
    }
}

/// The routing key of a client that completed its handshake.
fn common_name(tls: &Tls) -> Result<String, Refusal> {
    let leaf = tls.state().peer_certificates().and_then(<[_]>::first);
    Ok(extensions::parse_common_name(
        leaf.ok_or(Refusal::NoGateway)?,
    )?)
}

/// The organization of a client that completed its handshake.
fn organization(tls: &Tls) -> Result<String, Refusal> {
    let leaf = tls.state().peer_certificates().and_then(<[_]>::first);
    Ok(extensions::parse_organization(
        leaf.ok_or(Refusal::NoGateway)?,
    )?)
}

impl From<NoPlace> for Refusal {
    fn from(no_place: NoPlace) -> Self {
        match no_place {
            NoPlace::Relay => Self::RelayFull,
            NoPlace::Organization => Self::OrganizationFull,
        }
    }
}
