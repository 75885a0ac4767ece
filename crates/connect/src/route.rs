//! The way to one target: a session of the platform, then relay, then gateway.
//!
//! Each connection is its own TLS 1 and TLS 2; what they share is the session's certificates, for
//! as long as those are valid. A way that no longer leads anywhere (the gateway has moved to
//! another relay) is asked for again once per connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::AsyncWriteExt as _;

use super::error::{Error, Refusal, Reported};
use super::lease::{Lease, Leases};
use super::{Settings, Target};
use crate::api::types::{OpenSession, SessionCredentials};
use crate::names::{GatewayName, RelayHost};
use crate::net::status::{self, NotReached};
use crate::pki::dial::{GatewayDialer, GatewayStream};
use crate::{api, pki};
use infisical_runtime::error::{is_closed_in_handshake, printable};

/// The gateway's service that forwards bytes (protocol.md §5), and before it the one that also says
/// whether the target was reached. The gateway chooses; deployed ones know the former only.
const SERVICES: [&str; 2] = [status::ALPN, "infisical-tcp-proxy"];
/// The gateway's service that answers and does nothing else.
const PING: &str = "infisical-ping";
/// Limit for the end of a check.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Limit for TCP and TLS 1. The relay itself gives TLS 1 five seconds.
const RELAY_DEADLINE: Duration = Duration::from_secs(10);
/// Limit for TLS 2, the relay's opening of a channel included.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(15);
/// Limit for the gateway's status. It gives the connection to the target ten seconds.
const STATUS_DEADLINE: Duration = Duration::from_secs(20);

/// An open connection.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) stream: GatewayStream,
    /// The gateway has said so. False if it does not know how to.
    pub(super) is_target_reached: bool,
    pub(super) relay: RelayHost,
}

/// A session of the platform.
#[derive(Debug)]
struct Session {
    dialer: GatewayDialer,
    /// The same way to another service, which does not connect to the target.
    ping: GatewayDialer,
    /// When the platform last reached the gateway, if it says so.
    last_seen: Option<SystemTime>,
}

/// Opens connections to one target. Shared by all local connections.
#[derive(Debug)]
pub(super) struct Route {
    settings: Settings,
    target: Target,
    platform: api::Client,
    leases: Leases<Session, Refusal>,
}

impl Route {
    /// Prepares requests; nothing is asked of anyone yet.
    pub(super) fn new(settings: Settings, target: Target, platform: api::Client) -> Self {
        Self {
            settings,
            target,
            platform,
            leases: Leases::new(),
        }
    }

    pub(super) fn gateway(&self) -> &GatewayName {
        &self.settings.gateway
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// A connection to the gateway, which connects to the target as its first act.
    pub(super) async fn open(&self) -> Result<Remote, Error> {
        let mut lease = self.lease().await?;
        let stream = match self.dial(&lease.value).await {
            Err(_) if !lease.fresh => {
                self.leases.discard(lease.generation).await;
                lease = self.lease().await?;
                self.dial(&lease.value).await?
            }
            outcome => outcome?,
        };
        let relay = lease.value.dialer.relay().host().clone();
        self.await_target(stream, relay).await
    }

    /// Waits for the gateway's status, if it sends one.
    async fn await_target(
        &self,
        mut stream: GatewayStream,
        relay: RelayHost,
    ) -> Result<Remote, Error> {
        if stream.state().alpn_protocol() != Some(status::ALPN.as_bytes()) {
            return Ok(Remote {
                stream,
                is_target_reached: false,
                relay,
            });
        }
        let received = tokio::time::timeout(STATUS_DEADLINE, status::receive(&mut stream)).await;
        let source = match received {
            Ok(Ok(Ok(()))) => {
                return Ok(Remote {
                    stream,
                    is_target_reached: true,
                    relay,
                });
            }
            Ok(Ok(Err(NotReached { class, reason }))) => {
                let target = self.target.clone();
                return Err(Error::Target {
                    gateway: self.settings.gateway.clone(),
                    class,
                    reason: Reported(shortened(&printable(&reason), &target)),
                    target,
                });
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        Err(Error::Silent {
            gateway: self.settings.gateway.clone(),
            target: self.target.clone(),
            source,
        })
    }

    /// Asks for a session and connects to the gateway, but not to the target.
    pub(super) async fn check(&self) -> Result<(), Error> {
        let session = self.lease().await?.value;
        let mut stream = self.dial_to(&session, &session.ping).await?;
        // The connection has shown what it was for; how its end is taken does not matter.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, stream.shutdown()).await;
        Ok(())
    }

    async fn lease(&self) -> Result<Lease<Session>, Error> {
        let lease = self.leases.current(|| self.ask()).await;
        lease.map_err(|source: Arc<Refusal>| Error::Session {
            gateway: self.settings.gateway.clone(),
            source,
        })
    }

    /// Asks the platform for a session; also says for how long it is valid.
    async fn ask(&self) -> Result<(Session, Duration), Refusal> {
        let request = OpenSession {
            target_host: self.target.host().to_owned(),
            target_port: self.target.port(),
        };
        let credentials = self
            .platform
            .open_session(&self.settings.token, &self.settings.gateway, &request)
            .await?;
        let dialer = GatewayDialer::try_new(&credentials, &SERVICES, self.platform.clock())
            .map_err(Refusal::Credentials)?;
        let validity =
            validity(&credentials, self.platform.clock().now()).map_err(Refusal::Credentials)?;
        tracing::debug!(
            gateway.id = %credentials.gateway_id,
            relay.host = %credentials.relay_host,
            validity_s = validity.as_secs(),
            "session opened"
        );
        let session = Session {
            dialer,
            ping: GatewayDialer::try_new(&credentials, &[PING], self.platform.clock())
                .map_err(Refusal::Credentials)?,
            last_seen: credentials.gateway_heartbeat.as_deref().and_then(rfc3339),
        };
        Ok((session, validity))
    }

    async fn dial(&self, session: &Session) -> Result<GatewayStream, Error> {
        self.dial_to(session, &session.dialer).await
    }

    async fn dial_to(
        &self,
        session: &Session,
        dialer: &GatewayDialer,
    ) -> Result<GatewayStream, Error> {
        let relay = || dialer.relay().host().clone();
        let outer = dialer
            .relay()
            .dial(RELAY_DEADLINE)
            .await
            .map_err(|source| Error::Relay {
                relay: relay(),
                source,
            })?;
        dialer
            .dial_through(outer, GATEWAY_DEADLINE)
            .await
            .map_err(|source| match &source {
                // A relay without that gateway closes TLS 1 without a byte (protocol.md §3).
                pki::Error::Handshake { source, .. } if is_closed_in_handshake(source) => {
                    Error::NotConnected {
                        gateway: self.settings.gateway.clone(),
                        relay: relay(),
                        last_seen: session.last_seen,
                    }
                }
                _ => Error::Gateway {
                    gateway: self.settings.gateway.clone(),
                    relay: relay(),
                    source,
                },
            })
    }
}

/// A gateway's reason without the target, which our own text names: `connection refused`, or with
/// the address of a name `connection refused (192.0.2.1)`.
fn shortened(reason: &str, target: &Target) -> String {
    let beside = reason.strip_prefix(&format!("cannot connect to {target}"));
    match beside.and_then(|beside| beside.split_once(": ")) {
        Some((address, cause)) => format!("{cause}{address}"),
        None => reason.to_owned(),
    }
}

/// Reads a time as the API writes it.
fn rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .map(SystemTime::from)
}

/// How long both certificates are valid from `now`; nothing where they
/// have expired (then each connection asks again, and the relay's clock decides).
fn validity(credentials: &SessionCredentials, now: SystemTime) -> Result<Duration, pki::Error> {
    let field = "clientCertificate";
    let relay = pki::expires(field, &credentials.relay.client_certificate)?;
    let gateway = pki::expires(field, &credentials.gateway.client_certificate)?;
    let end = relay.min(gateway);
    Ok(end.duration_since(now).unwrap_or(Duration::ZERO))
}
