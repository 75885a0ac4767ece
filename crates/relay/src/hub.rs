//! What both sides of the relay share: who is connected, what the limits leave, and the credentials
//! in use.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::identity::Identity;
use super::metrics::Counts;
use super::registry::{Registered, Registry, Replaced, Ticket};
use super::tunnel::Tunnel;
use crate::config::settings::RelayLimits;
use crate::log_throttle::LogThrottle;
use crate::names::GatewayId;
use crate::net::buffers::Pool;
use crate::net::handshake_cpu::CpuPool;
use crate::net::handshakes::{Handshake, Handshakes, Refusal, TIMES_WHAT_IS_FREE};
use crate::net::limits::{Counters, Slot, Source};

/// How long what is connected may go on after the relay was told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Limits on every wait for a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// TLS 1 handshake (protocol.md §4).
    pub(crate) tls_handshake: Duration,
    /// A gateway that is not there yet. It learns that it has proved itself a moment before it is
    /// registered, and one that reconnects is soon back.
    pub(crate) arrival: Duration,
    /// A gateway's answer to the opening of a channel.
    pub(crate) open: Duration,
    /// A replaced session's answer to its probe.
    pub(crate) probe: Duration,
    /// A client's answer to our disconnect message, and what a gateway left behind to be read.
    pub(crate) close_wait: Duration,
    /// All clients and gateways together, once the relay was told to stop.
    pub(crate) grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(5),
            arrival: Duration::from_millis(500),
            open: Duration::from_secs(10),
            probe: Duration::from_secs(2),
            close_wait: Duration::from_secs(2),
            grace: GRACE,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Replaced by the renewal; each handshake takes the current one.
    identity: watch::Receiver<Arc<Identity>>,
    registry: Mutex<Registry<Arc<Tunnel>>>,
    /// Told of each registration; clients whose gateway is missing listen.
    arrivals: Notify,
    /// Connections of either port, per source.
    pub(crate) sources: Counters<Source>,
    /// Those of port 2222 that have not authenticated yet.
    pub(crate) ssh_handshakes: Handshakes,
    /// Those of port 8443.
    pub(crate) tls_handshakes: Handshakes,
    /// For lines about clients that authenticated and are not served.
    pub(crate) refusals: LogThrottle,
    /// Client connections with a gateway to go to, per gateway.
    pub(crate) channels: Counters<GatewayId>,
    /// What tunnels hold, per organization.
    pub(crate) buffers: Arc<Pool>,
    /// Client connections that authenticated, per organization.
    clients: Counters<String>,
    /// All of them together.
    most_clients: usize,
    /// Handshakes of each port.
    pub(crate) handshakes: usize,
    pub(crate) deadlines: Deadlines,
    /// What ended.
    pub(crate) counts: Counts,
}

/// Why a client that authenticated gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Relay,
    /// Its organization has its share.
    Organization,
}

/// A registered gateway. The registration ends when this is dropped, after a panic too.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    hub: &'a Hub,
    ticket: Ticket,
}

impl Registration<'_> {
    /// False if another session took over before.
    pub(crate) fn end(self) -> bool {
        self.hub.registry().deregister(&self.ticket)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // Nothing, where it has ended already: no ticket is given twice.
        self.hub.registry().deregister(&self.ticket);
    }
}

impl Hub {
    pub(crate) fn new(
        identity: watch::Receiver<Arc<Identity>>,
        limits: &RelayLimits,
        deadlines: Deadlines,
    ) -> Self {
        let most_clients = limits.clients;
        let handshakes = limits.handshakes.clamp(1, Semaphore::MAX_PERMITS);
        let pool = Arc::new(CpuPool::new());
        Self {
            identity,
            registry: Mutex::new(Registry::new(limits.gateways)),
            arrivals: Notify::new(),
            sources: Counters::new(limits.per_source),
            ssh_handshakes: Handshakes::metered(handshakes, Arc::clone(&pool)),
            tls_handshakes: Handshakes::metered(handshakes, pool),
            refusals: LogThrottle::for_peers(),
            channels: Counters::new(limits.per_gateway),
            buffers: Pool::new(limits.buffer_bytes()),
            clients: Counters::new(most_clients),
            most_clients,
            handshakes,
            deadlines,
            counts: Counts::default(),
        }
    }

    /// Clients that proved themselves and are connected.
    pub(crate) fn clients_connected(&self) -> usize {
        self.clients.all()
    }

    /// Bytes that tunnels hold now for clients and gateways.
    pub(crate) fn buffered(&self) -> usize {
        // Each session has a lock of its own, which is not to be waited for with the registry's.
        let tunnels = self.registry().sessions();
        let buffered = tunnels.iter().map(|tunnel| tunnel.session.buffered());
        buffered.fold(0, usize::saturating_add)
    }

    /// A place for a client of `organization`: an organization may hold seven times as many places
    /// as are free, so that the first one gets seven eighths and leaves some for the next.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn admit_client(&self, organization: String) -> Result<Slot<String>, NoPlace> {
        let mut free = 0;
        let share = |taken| {
            free = self.most_clients.saturating_sub(taken);
            free.saturating_mul(TIMES_WHAT_IS_FREE)
        };
        let slot = self.clients.take_within(organization, share);
        slot.ok_or(if free == 0 {
            NoPlace::Relay
        } else {
            NoPlace::Organization
        })
    }

    /// The credentials for a handshake that begins now.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.borrow())
    }

    /// The registry, for a moment: nothing awaits while holding it.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry<Arc<Tunnel>>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection that has just been accepted: against its source, and against the
    /// unfinished `handshakes` of its source until it has authenticated. `None` if there are too
    /// many and none of them can give way, or too many failed, which is logged for the port of
    /// `kind`.
    pub(crate) fn admit(
        &self,
        peer: SocketAddr,
        handshakes: &Handshakes,
        kind: &'static str,
    ) -> Option<Handshake> {
        let source = Source::from(peer.ip());
        let refusal = match handshakes.begin(&self.sources, source) {
            Ok(handshake) => return Some(handshake),
            Err(Refusal::TooMany) => "too many connections from this address",
            Err(Refusal::TooManyFailed) => "too many failed handshakes from this address",
        };
        let log = &handshakes.log;
        // One line for a network, which has 65,536 sources.
        let site = source.site().address();
        if let Some(permission) = log.should_log_peer(refusal, kind, site) {
            let suppressed = permission.suppressed();
            tracing::warn!(%peer, suppressed, "{refusal}; {kind} connection closed");
        }
        None
    }

    /// Registers the tunnel of a gateway that has proved itself, for as long as the registration
    /// lives, and lets waiting clients know; gives the tunnel that it replaces, too. `None` if it
    /// would be one gateway too many.
    pub(crate) fn register(
        &self,
        id: GatewayId,
        peer: SocketAddr,
        tunnel: Arc<Tunnel>,
    ) -> Option<(Registration<'_>, Option<Replaced<Arc<Tunnel>>>)> {
        let Registered { ticket, replaced } =
            self.registry().register(id, peer, tunnel, Instant::now())?;
        self.arrivals.notify_waiters();
        Some((Registration { hub: self, ticket }, replaced))
    }

    /// The tunnel of the gateway `id`; one that is not there may come within
    /// [`Deadlines::arrival`].
    pub(crate) async fn find(&self, id: &GatewayId) -> Option<Arc<Tunnel>> {
        let end = Instant::now() + self.deadlines.arrival;
        loop {
            let arrived = self.arrivals.notified();
            tokio::pin!(arrived);
            // Listening before looking, so that no arrival falls in between.
            arrived.as_mut().enable();
            if let Some(tunnel) = self.registry().find(id).map(Arc::clone) {
                return Some(tunnel);
            }
            tokio::time::timeout_at(end, arrived).await.ok()?;
        }
    }
}
