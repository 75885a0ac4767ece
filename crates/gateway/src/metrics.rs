//! What is counted of a gateway: each event at the place that logs it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::audit::{Audit, Outcome, Session};
use crate::ssh::client;

/// Upper bounds in seconds: from a neighbour to the deadlines of a handshake and a connection.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Counters for each value of one label, which has few values.
type ByLabel = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters of a gateway since its start.
#[derive(Debug)]
pub struct Metrics {
    sessions: ByLabel,
    reconnects: ByLabel,
    connect_failures: ByLabel,
    target_failures: ByLabel,
    targets_not_allowed: ByLabel,
    target_connect: Histogram,
    handshake: Histogram,
    bytes_to_target: AtomicU64,
    bytes_from_target: AtomicU64,
    /// Those that have not ended, and some that have.
    tunnels: Mutex<Vec<Weak<client::Session>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sessions: Family::default(),
            reconnects: Family::default(),
            connect_failures: Family::default(),
            target_failures: Family::default(),
            targets_not_allowed: Family::default(),
            target_connect: Histogram::new(SECONDS),
            handshake: Histogram::new(SECONDS),
            bytes_to_target: AtomicU64::new(0),
            bytes_from_target: AtomicU64::new(0),
            tunnels: Mutex::default(),
        }
    }
}

impl Metrics {
    /// A session ended; checks of the gateway are not counted.
    pub(crate) fn ended(&self, session: &Session, outcome: Outcome) {
        if session.is_check() {
            return;
        }
        let label = [("outcome", outcome.as_str())];
        self.sessions.get_or_create(&label).inc();
        let (to, from) = session.bytes();
        self.bytes_to_target.fetch_add(to, Ordering::Relaxed);
        self.bytes_from_target.fetch_add(from, Ordering::Relaxed);
    }

    /// Shows the memory of `tunnel` too, for as long as it is there.
    pub(crate) fn follow(&self, tunnel: &Arc<client::Session>) {
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.retain(|tunnel| tunnel.strong_count() > 0);
        tunnels.push(Arc::downgrade(tunnel));
    }

    /// Memory that the tunnels hold, in bytes.
    fn buffered(&self) -> usize {
        let tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        let live = tunnels.iter().filter_map(Weak::upgrade);
        live.map(|tunnel| tunnel.buffered())
            .fold(0, usize::saturating_add)
    }

    /// A tunnel was lost or left for `reason`.
    pub(crate) fn reconnects(&self, reason: &'static str) {
        self.reconnects.get_or_create(&[("reason", reason)]).inc();
    }

    /// An attempt to make a tunnel failed for `reason`.
    pub(crate) fn connect_failed(&self, reason: &'static str) {
        let label = [("reason", reason)];
        self.connect_failures.get_or_create(&label).inc();
    }

    /// A target could not be reached for `reason`.
    pub(crate) fn target_failed(&self, reason: &'static str) {
        let label = [("reason", reason)];
        self.target_failures.get_or_create(&label).inc();
    }

    /// The policy for targets refused one, as the verdict `reason` says.
    pub(crate) fn target_not_allowed(&self, reason: &'static str) {
        let label = [("reason", reason)];
        self.targets_not_allowed.get_or_create(&label).inc();
    }

    /// A target was reached after so long.
    pub(crate) fn target_reached(&self, after: Duration) {
        self.target_connect.observe(after.as_secs_f64());
    }

    /// TLS with a client took so long.
    pub(crate) fn handshake(&self, took: Duration) {
        self.handshake.observe(took.as_secs_f64());
    }

    /// Bytes to targets and from them, of sessions that have ended.
    pub(crate) fn bytes_of_ended(&self) -> (u64, u64) {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        (load(&self.bytes_to_target), load(&self.bytes_from_target))
    }

    /// Adds them to `registry`, with the bytes of the sessions that `audit` lists.
    pub fn register(&self, audit: &Audit, registry: &mut Registry) {
        for (name, help, counters) in [
            (
                "sessions",
                "Sessions that have ended, by how",
                &self.sessions,
            ),
            (
                "reconnects",
                "Tunnels that were lost or left, by why",
                &self.reconnects,
            ),
            (
                "connect_failures",
                "Attempts to connect to a relay that failed, by why",
                &self.connect_failures,
            ),
            (
                "target_failures",
                "Targets that could not be reached, by why",
                &self.target_failures,
            ),
            (
                "targets_not_allowed",
                "Targets that the policy refused, and sessions that it ended, by why",
                &self.targets_not_allowed,
            ),
        ] {
            registry.register(name, help, counters.clone());
        }
        for (name, help, histogram) in [
            (
                "target_connect",
                "Time to connect to a target",
                &self.target_connect,
            ),
            (
                "handshake",
                "Time of the TLS handshake with a client",
                &self.handshake,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        let help = "Memory that tunnels hold";
        let buffered = ConstGauge::new(self.buffered());
        registry.register_with_unit("buffered", help, Unit::Bytes, buffered);
        let (to, from) = audit.bytes();
        for (name, help, bytes) in [
            ("sent_to_targets", "Bytes from clients to targets", to),
            (
                "received_from_targets",
                "Bytes from targets to clients",
                from,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, ConstCounter::new(bytes));
        }
    }
}
