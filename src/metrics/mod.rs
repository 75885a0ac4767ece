//! Metrics of a gateway, a relay or a platform, and whether it is ready: collected at each request
//! from its status, its supervisor and its counters.

pub(crate) mod server;
mod text;

use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::agent::status::condition::{CATALOGUE, Severity};
use crate::agent::status::document::{Origin, Sessions};
use crate::agent::status::{Load, Monitor, Phase, Report};
use crate::gateway::audit::Audit;
use crate::health::LivenessProbe;
use crate::host::watchdog;
use crate::platform::metrics::Metrics as PlatformMetrics;
use crate::relay::metrics::Metrics as RelayMetrics;

/// How long the supervisor may take to answer. It has nothing long to do.
const ANSWER: Duration = Duration::from_secs(2);

/// What a role counts. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) enum Counted {
    /// A gateway's sessions.
    Gateway(Audit),
    /// A relay's gateways and clients.
    Relay(RelayMetrics),
    /// A platform's requests.
    Platform(PlatformMetrics),
}

impl Counted {
    /// A gateway's sessions.
    pub(crate) fn sessions(&self) -> Sessions {
        let Self::Gateway(audit) = self else {
            return Sessions::default();
        };
        let (bytes_to_targets, bytes_from_targets) = audit.bytes();
        Sessions {
            open: audit.live(),
            bytes_to_targets,
            bytes_from_targets,
        }
    }
}

/// Where the metrics of a role come from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) origin: Origin,
    /// Of a role that reports its status.
    pub(crate) monitor: Option<Monitor>,
    pub(crate) probe: LivenessProbe,
    pub(crate) counted: Counted,
}

impl Sources {
    /// True if the role's supervisor answers in time.
    async fn is_alive(&self) -> bool {
        let answer = tokio::time::timeout(ANSWER, self.probe.is_alive());
        answer.await.unwrap_or_default()
    }

    /// The status line; an error if the role does not serve.
    fn readiness(&self) -> Result<String, String> {
        let line = match &self.monitor {
            Some(monitor) => format!("{}\n", monitor.now()),
            None if self.is_up() => "serving\n".to_owned(),
            None => "not serving\n".to_owned(),
        };
        if self.is_up() { Ok(line) } else { Err(line) }
    }

    /// True if the role serves: the tunnel of a gateway is up, the ports of a relay or a platform
    /// are open.
    fn is_up(&self) -> bool {
        match (&self.counted, &self.monitor) {
            (Counted::Platform(metrics), _) => metrics.is_serving(),
            (Counted::Gateway(_) | Counted::Relay(_), Some(monitor)) => {
                matches!(monitor.now().phase, Phase::Up(_))
            }
            (Counted::Gateway(_) | Counted::Relay(_), None) => false,
        }
    }

    /// Every metric, in the format of OpenMetrics.
    async fn collect(&self) -> Result<String, fmt::Error> {
        let is_alive = self.is_alive().await;
        let mut registry = Registry::with_prefix("infisical");
        let build = [
            ("role", self.origin.role.clone()),
            ("name", self.origin.name.clone()),
            ("version", self.origin.program_version.clone()),
        ];
        registry.register("build", "The program", Info::new(build));
        for (name, help, value) in [
            (
                "up",
                "1 while the tunnel of a gateway is up, or a relay or a platform serves",
                self.is_up(),
            ),
            (
                "supervisor_alive",
                "1 if the supervisor answers, as the watchdog asks it to",
                is_alive,
            ),
        ] {
            registry.register(name, help, ConstGauge::new(u32::from(value)));
        }
        registry.register(
            "watchdog_pings",
            "Signs of life sent to the service manager, which ends a process that sends none",
            ConstCounter::new(watchdog::pings()),
        );
        let report = self.monitor.as_ref().map(Monitor::now);
        if let Some(report) = &report {
            register_status(report, &mut registry);
        }
        let of_role = registry.sub_registry_with_prefix(&self.origin.role);
        if let Some(report) = &report {
            register_load(&report.load, of_role);
        }
        match &self.counted {
            Counted::Gateway(audit) => audit.metrics().register(audit, of_role),
            Counted::Relay(metrics) => metrics.register(of_role),
            Counted::Platform(metrics) => metrics.register(of_role),
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// What gateways and relays have alike.
fn register_status(report: &Report, registry: &mut Registry) {
    let conditions = Family::<[(&'static str, &'static str); 2], Gauge>::default();
    let visible = report.visible_conditions();
    for condition in CATALOGUE {
        let severity = match condition.severity {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let holds = visible.iter().any(|active| active.condition == *condition);
        conditions
            .get_or_create(&[("id", condition.id), ("severity", severity)])
            .set(i64::from(holds));
    }
    registry.register("condition", "1 while the condition holds", conditions);
    if let Some(heartbeat) = &report.heartbeat {
        let is_ok = u32::from(heartbeat.error.is_none());
        let help = "1 if the last heartbeat showed that Infisical reaches it";
        registry.register("heartbeat_ok", help, ConstGauge::new(is_ok));
        let age = heartbeat.at.elapsed().unwrap_or_default();
        let help = "Time since the last heartbeat";
        register_seconds("heartbeat_age", help, age, registry);
    }
    if let Some(credentials) = &report.credentials {
        let help = "Time until the first of the certificates expires";
        register_seconds("certificate_left", help, credentials.left(), registry);
    }
    if let Some(expires) = report.token.at() {
        let left = expires.duration_since(SystemTime::now());
        let help = "Time until the access token expires, where it is known";
        register_seconds("token_left", help, left.unwrap_or_default(), registry);
    }
}

fn register_load(load: &Load, registry: &mut Registry) {
    match *load {
        Load::Gateway { sessions } => {
            let help = "Sessions that are open";
            registry.register("sessions_open", help, ConstGauge::new(sessions));
        }
        Load::Relay {
            gateways,
            clients,
            buffered,
            buffer_limit,
        } => {
            let help = "Gateways with a tunnel";
            registry.register("gateways", help, ConstGauge::new(gateways));
            let help = "Clients that authenticated";
            registry.register("clients", help, ConstGauge::new(clients));
            for (name, help, bytes) in [
                ("buffered", "Memory that tunnels hold", buffered),
                ("buffer_limit", "The most that they may hold", buffer_limit),
            ] {
                registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes));
            }
        }
    }
}

fn register_seconds(name: &str, help: &str, time: Duration, registry: &mut Registry) {
    let gauge = ConstGauge::new(time.as_secs_f64());
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}
