//! What is counted of a platform: requests and how they were answered, and the certificates that it
//! issued. No label holds a text of a caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Counters for each value of one label, which has few values.
type ByLabel = Family<[(&'static str, &'static str); 1], Counter>;
/// Those of requests: the kind of the route, and the status.
type Requests = Family<[(&'static str, String); 2], Counter>;

/// For whom certificates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IssuedTo {
    /// A gateway, for its tunnel and its sessions.
    Gateway,
    /// A relay.
    Relay,
    /// A client, for a session.
    Session,
}

/// The counters of a platform since its start. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    is_serving: AtomicBool,
    requests: Requests,
    errors: ByLabel,
    issued: ByLabel,
    /// Seconds since 1970; 0 without HTTPS.
    certificate_expires: AtomicU64,
}

impl Metrics {
    /// True once the platform serves, until it stops.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.0.is_serving.load(Ordering::Relaxed)
    }

    pub(crate) fn serving(&self, is_serving: bool) {
        self.0.is_serving.store(is_serving, Ordering::Relaxed);
    }

    /// A request for `path` was answered with `status`.
    pub(crate) fn answered(&self, path: &str, status: u16) {
        let labels = [
            ("route", route(path).to_owned()),
            ("status", status.to_string()),
        ];
        self.0.requests.get_or_create(&labels).inc();
    }

    /// The answer was an error of this kind, one of few.
    pub(crate) fn failed(&self, kind: &'static str) {
        self.0.errors.get_or_create(&[("kind", kind)]).inc();
    }

    /// Certificates were issued.
    pub(crate) fn issued(&self, to: IssuedTo) {
        let to = match to {
            IssuedTo::Gateway => "gateway",
            IssuedTo::Relay => "relay",
            IssuedTo::Session => "session",
        };
        self.0.issued.get_or_create(&[("to", to)]).inc();
    }

    /// When the certificate of HTTPS expires.
    pub(crate) fn certificate_expires(&self, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0
            .certificate_expires
            .store(since.as_secs(), Ordering::Relaxed);
    }

    /// Adds them to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests that were answered, by kind of route and status";
        registry.register("requests", help, self.0.requests.clone());
        let help = "Answers that were errors, by kind";
        registry.register("errors", help, self.0.errors.clone());
        let help = "Sets of certificates that were issued, by whom for";
        registry.register("issued", help, self.0.issued.clone());
        let expires = Duration::from_secs(self.0.certificate_expires.load(Ordering::Relaxed));
        if !expires.is_zero() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let left = expires.saturating_sub(now.unwrap_or_default());
            let help = "Time until the certificate of HTTPS expires, and 0 after that";
            let gauge = ConstGauge::new(left.as_secs_f64());
            registry.register_with_unit("certificate_left", help, Unit::Seconds, gauge);
        }
    }
}

/// The kind of a request, of which there may be any number.
fn route(path: &str) -> &'static str {
    let mut words = path.split('/').skip(1);
    match (words.next(), words.next(), words.next()) {
        (Some("api"), Some("v1"), Some("embedded")) if path.ends_with("/sessions") => "sessions",
        (Some("api"), Some("v1"), Some("embedded")) => "administration",
        (Some("api"), Some("v1"), Some("auth")) => "login",
        (Some("api"), Some(_), Some("gateways")) => "gateways",
        (Some("api"), Some(_), Some("relays")) => "relays",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::route;

    #[test]
    fn any_path_is_one_of_few_routes() {
        for (path, kind) in [
            ("/api/v1/embedded/gateways/edge/sessions", "sessions"),
            ("/api/v1/embedded/identities", "administration"),
            ("/api/v1/auth/universal-auth/login", "login"),
            ("/api/v2/gateways/heartbeat", "gateways"),
            ("/api/v1/relays", "relays"),
            ("/api/v1/gatewayss", "other"),
            ("/", "other"),
            ("", "other"),
        ] {
            assert_eq!(route(path), kind, "{path}");
        }
    }
}
