//! What is counted of a relay, and what others may look at while it runs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::hub::Hub;

/// Gateways that have metrics of their own, those with the most clients first.
const MAX_GATEWAYS: usize = 100;
/// Stands for all the others. No gateway's id is so short.
const OTHERS: &str = "others";

/// What ended since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    connections: AtomicU64,
    bytes_to_gateways: AtomicU64,
    bytes_to_clients: AtomicU64,
    /// By gateway: the first [`MAX_GATEWAYS`] that had a client, and [`OTHERS`]. A counter must
    /// not fall, so none of them makes room for another.
    carried: Mutex<BTreeMap<String, Carried>>,
}

/// What ended of one gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Carried {
    connections: u64,
    to_gateway: u64,
    to_client: u64,
}

impl Counts {
    /// A connection of a client with `gateway` ended, which carried so many bytes.
    pub(crate) fn ended(&self, gateway: &str, to_gateway: u64, to_client: u64) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.bytes_to_gateways
            .fetch_add(to_gateway, Ordering::Relaxed);
        self.bytes_to_clients
            .fetch_add(to_client, Ordering::Relaxed);
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = carried.len() < MAX_GATEWAYS || carried.contains_key(gateway);
        let name = if has_place { gateway } else { OTHERS };
        let counts = carried.entry(name.to_owned()).or_default();
        counts.connections = counts.connections.saturating_add(1);
        counts.to_gateway = counts.to_gateway.saturating_add(to_gateway);
        counts.to_client = counts.to_client.saturating_add(to_client);
    }

    fn register_carried(&self, registry: &mut Registry) {
        let carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = carried.clone();
        let families = [
            CountByGateway::default(),
            CountByGateway::default(),
            CountByGateway::default(),
        ];
        for (id, counts) in carried {
            let label = [("gateway", id)];
            let values = [counts.connections, counts.to_gateway, counts.to_client];
            for (family, value) in families.iter().zip(values) {
                family.get_or_create(&label).inc_by(value);
            }
        }
        let [connections, to_gateway, to_client] = families;
        registry.register(
            "gateway_connections",
            "Connections of clients with a gateway that have ended",
            connections,
        );
        registry.register_with_unit(
            "gateway_received",
            "Bytes from clients to a gateway, of connections that have ended",
            Unit::Bytes,
            to_gateway,
        );
        registry.register_with_unit(
            "gateway_sent",
            "Bytes from a gateway to clients, of connections that have ended",
            Unit::Bytes,
            to_client,
        );
    }
}

type CountByGateway = Family<[(&'static str, String); 1], Counter>;

/// Shows what a relay does once it runs. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<OnceLock<Arc<Hub>>>);

impl Metrics {
    /// The relay runs.
    pub(crate) fn follow(&self, hub: &Arc<Hub>) {
        // A relay has one hub.
        let _ = self.0.set(Arc::clone(hub));
    }

    /// Adds them to `registry`; nothing before the relay runs.
    pub fn register(&self, registry: &mut Registry) {
        let Some(hub) = self.0.get() else {
            return;
        };
        // Not in the value below, where the registry would stay locked.
        let gateways = hub.registry().gateways();
        let load = |(id, tunnel): &(crate::names::GatewayId, Arc<crate::tunnel::Tunnel>)| {
            let id = id.as_str().to_owned();
            (id, tunnel.clients(), tunnel.session.buffered())
        };
        let (clients, buffered) = by_gateway(gateways.iter().map(load).collect());
        registry.register(
            "gateway_clients",
            "Clients on the way to a gateway or joined with it",
            clients,
        );
        registry.register_with_unit(
            "gateway_buffered",
            "Memory that the tunnel of a gateway holds",
            Unit::Bytes,
            buffered,
        );
        let counts = &hub.counts;
        counts.register_carried(registry);
        let load = |count: &AtomicU64| ConstCounter::new(count.load(Ordering::Relaxed));
        registry.register(
            "connections",
            "Connections of clients that have ended",
            load(&counts.connections),
        );
        for (name, help, bytes) in [
            (
                "sent_to_gateways",
                "Bytes from clients to gateways, of connections that have ended",
                &counts.bytes_to_gateways,
            ),
            (
                "sent_to_clients",
                "Bytes from gateways to clients, of connections that have ended",
                &counts.bytes_to_clients,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, load(bytes));
        }
    }
}

type ByGateway = Family<[(&'static str, String); 1], Gauge>;

/// The clients and the bytes of each gateway, of which there may be any number.
fn by_gateway(mut gateways: Vec<(String, usize, usize)>) -> (ByGateway, ByGateway) {
    gateways.sort_unstable_by(|(id, clients, _), (other, others, _)| {
        (Reverse(clients), id).cmp(&(Reverse(others), other))
    });
    let (clients, buffered) = (ByGateway::default(), ByGateway::default());
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (at, (id, of_clients, bytes)) in gateways.into_iter().enumerate() {
        let id = if at < MAX_GATEWAYS {
            id
        } else {
            OTHERS.to_owned()
        };
        let label = [("gateway", id)];
        clients.get_or_create(&label).inc_by(number(of_clients));
        buffered.get_or_create(&label).inc_by(number(bytes));
    }
    (clients, buffered)
}

#[cfg(test)]
mod tests {
    use super::{Counts, MAX_GATEWAYS, OTHERS, by_gateway};

    #[test]
    fn counters_by_gateway_are_bounded() {
        let counts = Counts::default();
        for round in 1..=2 {
            for number in 0..1000 {
                counts.ended(&format!("gateway-{number}"), round, 10);
            }
        }
        let carried = counts.carried.lock().expect("the counters").clone();
        assert_eq!(carried.len(), MAX_GATEWAYS + 1);
        let first = carried.get("gateway-0").expect("the first");
        assert_eq!(
            (first.connections, first.to_gateway, first.to_client),
            (2, 3, 20)
        );
        let total: u64 = carried.values().map(|counts| counts.connections).sum();
        assert_eq!(total, 2000);
        let others = carried.get(OTHERS).expect("the others");
        assert_eq!(others.to_client, 900 * 20);
    }

    #[test]
    fn busiest_gateways_are_named_others_summed() {
        let gateways = (0..1000).map(|number| (format!("gateway-{number}"), number, 2));
        let (clients, buffered) = by_gateway(gateways.collect());
        let of = |id: &str| [("gateway", id.to_owned())];
        for (id, shown) in [
            ("gateway-999", 999),
            ("gateway-900", 900),
            ("gateway-899", 0),
        ] {
            assert_eq!(clients.get_or_create(&of(id)).get(), shown, "{id}");
        }
        assert_eq!(clients.get_or_create(&of(OTHERS)).get(), 899 * 900 / 2);
        assert_eq!(buffered.get_or_create(&of(OTHERS)).get(), 1800);
    }
}
