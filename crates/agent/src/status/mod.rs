//! The status of a role: written by its tasks, read by those who show it.
//!
//! All tasks of a role share the [`Reporter`]; a [`Monitor`] reads. A report is a short lock and no
//! queue, so it costs nothing if no task reads it.

pub mod condition;
pub mod document;
pub mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use ssh_key::PublicKey;
use tokio::sync::watch;

use crate::api::login::TokenExpiry;
use crate::humanize::{Count, RoundedUp};
use crate::names::{RelayHost, RelayName};
use crate::renew::Lifetime;
use condition::{
    Active, Condition, HEARTBEAT_UNANSWERED, NOT_REACHED, NOT_RELOADED, NOT_UPGRADED,
    RESTART_NEEDED,
};

/// What a connection that is up settles.
const CONNECTION: [&Condition; 4] = [
    &condition::NO_TUNNEL,
    &condition::NOT_REGISTERED,
    &NOT_REACHED,
    &HEARTBEAT_UNANSWERED,
];
/// Failures that are kept.
const FAILURES: usize = 3;

/// What a role does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// The first attempt is under way.
    #[default]
    Starting,
    /// It serves: a gateway through its tunnel to the relay of this name, a relay on its ports.
    Up(Option<RelayName>),
    /// The last attempt failed; the next one follows.
    Retrying {
        /// What failed.
        error: String,
        /// The wait before the next attempt.
        after: Duration,
    },
    /// What is open finishes before the end.
    Draining,
}

/// What a role serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// A gateway's open sessions.
    Gateway {
        /// How many.
        sessions: usize,
    },
    /// What is connected to a relay.
    Relay {
        /// Gateways with a tunnel.
        gateways: usize,
        /// Clients that authenticated.
        clients: usize,
        /// Bytes that tunnels hold now.
        buffered: usize,
        /// The most that they may hold.
        buffer_limit: usize,
    },
}

/// A heartbeat and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// When.
    pub at: SystemTime,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, the last time.
    pub at: SystemTime,
    /// How often in a row.
    pub count: u64,
    /// Why.
    pub error: String,
}

/// Where a relay is, and how it proves that it is that relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAddress {
    /// Its host.
    pub host: RelayHost,
    /// The CA of its host certificate, as a line of OpenSSH; a public key.
    pub host_ca: Option<String>,
}

impl RelayAddress {
    /// The relay at `host`, whose certificate the CA `key` signed.
    #[must_use]
    pub fn new(host: &RelayHost, key: &PublicKey) -> Self {
        Self {
            host: host.clone(),
            host_ca: key.to_openssh().ok(),
        }
    }
}

/// The status of a role. `Display` is the line for `systemctl status`.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it does.
    pub phase: Phase,
    /// What it serves.
    pub load: Load,
    /// When that began.
    pub since: SystemTime,
    /// Sessions of a gateway since its start.
    pub sessions_total: u64,
    /// What the platform calls a gateway.
    pub name: Option<String>,
    /// The platform's id of a gateway.
    pub id: Option<String>,
    /// The relay that a gateway was sent to last, or a relay's own address.
    pub address: Option<RelayAddress>,
    /// How long the credentials in use are valid.
    pub credentials: Option<Lifetime>,
    /// When the access token in use expires.
    pub token: TokenExpiry,
    /// How many rules a gateway has for its targets: that allow some, and that refuse some.
    pub target_rules: (usize, usize),
    /// The last heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// What is wrong, the oldest first.
    pub conditions: Vec<Active>,
    /// What failed last, the newest first.
    pub failures: VecDeque<Failure>,
    /// When the configuration in use was read; the role itself may change it until it has its first
    /// credentials, to keep a token there.
    pub configured: SystemTime,
}

/// Writes the status. Clones write the same one.
#[derive(Debug, Clone)]
pub struct Reporter(watch::Sender<Report>);

/// Reads the status.
#[derive(Debug, Clone)]
pub struct Monitor(watch::Receiver<Report>);

/// A reporter and its monitor, of a role that serves nothing but `load` yet.
fn monitor(load: Load) -> (Reporter, Monitor) {
    let (sender, receiver) = watch::channel(Report::new(load));
    (Reporter(sender), Monitor(receiver))
}

/// Of a gateway that starts.
#[must_use]
pub fn gateway() -> (Reporter, Monitor) {
    monitor(Load::Gateway { sessions: 0 })
}

/// Of a relay that starts.
#[must_use]
pub fn relay() -> (Reporter, Monitor) {
    monitor(Load::Relay {
        gateways: 0,
        clients: 0,
        buffered: 0,
        buffer_limit: 0,
    })
}

impl Reporter {
    /// The role serves, a gateway through `relay`; what the heartbeats of its tunnel show is
    /// `doubt`.
    pub fn up(&self, relay: Option<&RelayName>, doubt: Option<(&'static Condition, &str)>) {
        self.0.send_if_modified(|report| {
            let mut is_changed = report.enter(Phase::Up(relay.cloned()));
            for condition in CONNECTION {
                is_changed |= match doubt {
                    Some((wrong, detail)) if wrong == condition => report.raise(wrong, detail),
                    Some(_) | None => report.clear(condition),
                };
            }
            is_changed
        });
    }

    /// The role cannot serve because of `error`, which is `condition`, and the next attempt follows
    /// after a wait of `after`. Holds until that attempt has ended.
    pub fn retrying(&self, condition: &'static Condition, error: String, after: Duration) {
        self.0.send_modify(|report| {
            report.failed(&error);
            report.clear(&NOT_REACHED);
            report.clear(&HEARTBEAT_UNANSWERED);
            report.raise(condition, &error);
            report.enter(Phase::Retrying { error, after });
        });
    }

    /// `condition` holds because of `detail`.
    pub fn raise(&self, condition: &'static Condition, detail: &str) {
        self.0
            .send_if_modified(|report| report.raise(condition, detail));
    }

    /// `condition` holds because `error` happened.
    pub fn failed(&self, condition: &'static Condition, error: &str) {
        self.0.send_modify(|report| {
            report.raise(condition, error);
            report.failed(error);
        });
    }

    /// `condition` does not hold.
    pub fn clear(&self, condition: &'static Condition) {
        self.0.send_if_modified(|report| report.clear(condition));
    }

    /// A heartbeat ended now; `error` is why it failed.
    pub fn heartbeat(&self, error: Option<String>) {
        self.0.send_modify(|report| {
            if let Some(error) = &error {
                report.failed(error);
            }
            let at = SystemTime::now();
            report.heartbeat = Some(Heartbeat { at, error });
        });
    }

    /// The role stops: what is open finishes.
    pub fn draining(&self) {
        self.0.send_modify(|report| {
            report.enter(Phase::Draining);
        });
    }

    /// What the role serves now.
    pub fn load(&self, load: Load) {
        self.0.send_if_modified(|report| {
            let is_changed = report.load != load;
            report.load = load;
            is_changed
        });
    }

    /// The credentials in use; `name` and `id` are what the platform calls the role, where it tells.
    pub fn credentials(&self, lifetime: Lifetime, name: Option<&str>, id: Option<&str>) {
        self.0.send_modify(|report| {
            if report.credentials.is_none() {
                report.configured = SystemTime::now();
            }
            report.credentials = Some(lifetime);
            report.clear(&condition::NOT_RENEWED);
            for (kept, new) in [(&mut report.name, name), (&mut report.id, id)] {
                if let Some(new) = new {
                    *kept = Some(new.to_owned());
                }
            }
        });
    }

    /// So many rules for targets are in use.
    pub fn target_rules(&self, allow: usize, deny: usize) {
        self.0
            .send_modify(|report| report.target_rules = (allow, deny));
    }

    /// When the access tokens expire with which the platform is asked from now on.
    pub fn token(&self, expiry: TokenExpiry) {
        self.0.send_modify(|report| report.token = expiry);
    }

    /// The relay that the credentials are for.
    pub fn address(&self, address: RelayAddress) {
        self.0.send_modify(|report| report.address = Some(address));
    }

    /// Why the configuration could not be reloaded, or that it was.
    pub fn configuration(&self, refused: Option<String>) {
        match refused {
            Some(why) => self.failed(&NOT_RELOADED, &why),
            None => {
                self.clear(&NOT_RELOADED);
                self.0
                    .send_modify(|report| report.configured = SystemTime::now());
            }
        }
    }

    /// A gateway's sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.borrow().sessions()
    }

    /// Counts a session of a gateway until what is returned is dropped.
    #[must_use]
    pub fn session(&self) -> OpenSession {
        self.0.send_modify(|report| {
            let sessions = report.sessions().saturating_add(1);
            report.load = Load::Gateway { sessions };
            report.sessions_total = report.sessions_total.saturating_add(1);
        });
        OpenSession(self.clone())
    }

    /// Another reader.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(self.0.subscribe())
    }

    /// Returns at once unless the report's lock is lost.
    pub fn check(&self) {
        drop(self.0.borrow());
    }
}

/// A session that is counted.
#[derive(Debug)]
pub struct OpenSession(Reporter);

impl Drop for OpenSession {
    fn drop(&mut self) {
        let Self(Reporter(sender)) = self;
        sender.send_modify(|report| {
            let sessions = report.sessions().saturating_sub(1);
            report.load = Load::Gateway { sessions };
        });
    }
}

impl Monitor {
    /// The status now; changes until now are seen.
    pub fn report(&mut self) -> Report {
        self.0.borrow_and_update().clone()
    }

    /// The status now.
    #[must_use]
    pub fn now(&self) -> Report {
        self.0.borrow().clone()
    }

    /// Waits until the phase is another than `phase`, or there can be no change any more.
    /// Cancel-safe.
    pub async fn other_phase(&mut self, phase: &Phase) {
        let _ = self.0.wait_for(|report| report.phase != *phase).await;
    }

    /// Waits for a change after the last [`Self::report`]; false if there can be none any more.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Report {
    fn new(load: Load) -> Self {
        Self {
            phase: Phase::default(),
            load,
            since: SystemTime::now(),
            sessions_total: 0,
            name: None,
            id: None,
            address: None,
            credentials: None,
            token: TokenExpiry::default(),
            target_rules: (0, 0),
            heartbeat: None,
            conditions: Vec::new(),
            failures: VecDeque::new(),
            configured: SystemTime::now(),
        }
    }

    /// Begins `phase`; false if it is the present one.
    fn enter(&mut self, phase: Phase) -> bool {
        if self.phase == phase {
            return false;
        }
        let is_another = mem::discriminant(&self.phase) != mem::discriminant(&phase);
        if is_another || matches!(phase, Phase::Up(_)) {
            self.since = SystemTime::now();
        }
        self.phase = phase;
        true
    }

    /// Notes that `condition` holds; false if that is known.
    fn raise(&mut self, condition: &'static Condition, detail: &str) -> bool {
        let mut active = self.conditions.iter_mut();
        match active.find(|active| active.condition == condition) {
            Some(active) if active.detail == detail => return false,
            Some(active) => detail.clone_into(&mut active.detail),
            None => self.conditions.push(Active {
                condition,
                since: SystemTime::now(),
                detail: detail.to_owned(),
            }),
        }
        true
    }

    /// Notes that `condition` does not hold; false if that is known.
    fn clear(&mut self, condition: &'static Condition) -> bool {
        let before = self.conditions.len();
        self.conditions
            .retain(|active| active.condition != condition);
        self.conditions.len() != before
    }

    fn failed(&mut self, error: &str) {
        let at = SystemTime::now();
        let mut failures = self.failures.iter_mut();
        if let Some(known) = failures.find(|known| known.error == error) {
            (known.at, known.count) = (at, known.count.saturating_add(1));
            return;
        }
        self.failures.push_front(Failure {
            at,
            count: 1,
            error: error.to_owned(),
        });
        self.failures.truncate(FAILURES);
    }

    /// What is wrong, with what follows from the present time; what follows from another condition
    /// is left out.
    #[must_use]
    pub fn visible_conditions(&self) -> Vec<Active> {
        let mut all = self.conditions.clone();
        if let Some(credentials) = &self.credentials {
            let now = SystemTime::now();
            let mut add = |condition, since, detail| {
                all.push(Active {
                    condition,
                    since,
                    detail,
                });
            };
            if !credentials.is_usable() {
                add(&condition::EXPIRED, credentials.expires(), String::new());
            }
            if let Some(skew) = credentials.skew() {
                add(&condition::CLOCK_SKEW, now, skew.to_string());
            }
        }
        let follows = |active: &Active| active.condition.follows_from(&all);
        all.iter()
            .filter(|active| !follows(active))
            .cloned()
            .collect()
    }

    fn sessions(&self) -> usize {
        match self.load {
            Load::Gateway { sessions } => sessions,
            Load::Relay { .. } => 0,
        }
    }

    fn gateway_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = Count(self.sessions(), "session");
        match &self.phase {
            Phase::Starting => f.write_str("starting, not connected yet"),
            Phase::Up(relay) => {
                let relay = relay.as_ref().map_or("a relay", RelayName::as_str);
                write!(f, "connected to {relay}, {sessions}")?;
                if let Some(credentials) = &self.credentials {
                    let at = credentials.renew_at();
                    let left = at.saturating_duration_since(Instant::now());
                    write!(f, ", certificate renews in {}", RoundedUp(left))?;
                }
                Ok(())
            }
            Phase::Retrying { error, after } => {
                if self.sessions() > 0 {
                    write!(f, "{sessions} on an older tunnel; ")?;
                }
                let after = RoundedUp(*after);
                write!(f, "not connected, next attempt in {after}: {error}")
            }
            Phase::Draining if self.sessions() == 0 => f.write_str("stopping"),
            Phase::Draining => write!(f, "stopping, waiting for {sessions}"),
        }
    }

    fn relay_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load::Relay {
            gateways,
            clients,
            buffered,
            buffer_limit,
        } = self.load
        else {
            return Ok(());
        };
        let (gateways, clients) = (Count(gateways, "gateway"), Count(clients, "client"));
        match &self.phase {
            Phase::Starting => f.write_str("registering with the platform"),
            Phase::Up(_) => {
                let (buffered, limit) = (buffered >> 20, buffer_limit >> 20);
                write!(
                    f,
                    "serving {gateways} and {clients}, {buffered} of {limit} MiB buffered"
                )?;
                if let Some(credentials) = &self.credentials {
                    let left = RoundedUp(credentials.left());
                    write!(f, ", certificate valid for {left}")?;
                }
                Ok(())
            }
            Phase::Retrying { error, after } => {
                let after = RoundedUp(*after);
                write!(f, "not serving yet, next attempt in {after}: {error}")
            }
            Phase::Draining => write!(f, "stopping, waiting for {gateways} and {clients}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.load {
            Load::Gateway { .. } => self.gateway_line(f)?,
            Load::Relay { .. } => self.relay_line(f)?,
        }
        for active in &self.conditions {
            let Active {
                condition, detail, ..
            } = active;
            if [&NOT_REACHED, &HEARTBEAT_UNANSWERED].contains(condition) {
                write!(f, "; but {}: {detail}", condition.title)?;
            }
        }
        if let Some(name) = &self.name {
            write!(f, " (gateway {name})")?;
        }
        for active in &self.conditions {
            let Active {
                condition, detail, ..
            } = active;
            if [&NOT_RELOADED, &NOT_UPGRADED, &RESTART_NEEDED].contains(condition) {
                write!(f, "; {}: {detail}", condition.title)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::condition::{
        Active, Condition, HEARTBEAT_UNANSWERED, NO_TUNNEL, NOT_REACHED, NOT_RELOADED,
    };
    use super::{Load, Phase, Report, gateway, relay};
    use crate::clock::Clock;
    use crate::names::RelayName;
    use crate::renew::Lifetime;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Valid for ten years, renewed within 15 hours.
    fn credentials() -> Option<Lifetime> {
        let expires = SystemTime::now() + 87_600 * HOUR;
        Some(Lifetime::new(expires, 15 * HOUR, &Clock::new()))
    }

    fn active(condition: &'static Condition, detail: &str) -> Active {
        Active {
            condition,
            since: SystemTime::now(),
            detail: detail.to_owned(),
        }
    }

    fn retrying() -> Phase {
        Phase::Retrying {
            error: "no route to host".to_owned(),
            after: Duration::from_secs(7),
        }
    }

    #[test]
    fn each_gateway_phase_has_its_line() {
        let report = |phase, sessions| Report {
            phase,
            ..Report::new(Load::Gateway { sessions })
        };
        let relay = RelayName::try_new("eu-1").expect("a name");
        let connected = Phase::Up(Some(relay));
        let cases = [
            (report(Phase::Starting, 0), "starting, not connected yet"),
            (
                Report {
                    credentials: credentials(),
                    ..report(connected.clone(), 3)
                },
                "connected to eu-1, 3 sessions, certificate renews in 15 h",
            ),
            (
                Report {
                    conditions: vec![active(&NOT_REACHED, "502"), active(&NOT_RELOADED, "line 1")],
                    ..report(connected, 1)
                },
                "connected to eu-1, 1 session; but Infisical does not reach it: 502; \
                 configuration not reloaded: line 1",
            ),
            (
                report(retrying(), 0),
                "not connected, next attempt in 7 s: no route to host",
            ),
            (
                report(retrying(), 1),
                "1 session on an older tunnel; not connected, next attempt in 7 s: no route to host",
            ),
            (
                report(Phase::Draining, 2),
                "stopping, waiting for 2 sessions",
            ),
        ];
        for (report, line) in cases {
            assert_eq!(report.to_string(), line);
        }
    }

    #[test]
    fn each_relay_phase_has_its_line() {
        let report = |phase| Report {
            phase,
            ..Report::new(Load::Relay {
                gateways: 2,
                clients: 1,
                buffered: 3 << 20,
                buffer_limit: 1 << 30,
            })
        };
        let cases = [
            (report(Phase::Starting), "registering with the platform"),
            (
                Report {
                    conditions: vec![active(&NOT_REACHED, "502")],
                    ..report(Phase::Up(None))
                },
                "serving 2 gateways and 1 client, 3 of 1024 MiB buffered; \
                 but Infisical does not reach it: 502",
            ),
            (
                report(retrying()),
                "not serving yet, next attempt in 7 s: no route to host",
            ),
            (
                report(Phase::Draining),
                "stopping, waiting for 2 gateways and 1 client",
            ),
        ];
        for (report, line) in cases {
            assert_eq!(report.to_string(), line);
        }
    }

    #[test]
    fn status_follows_the_connection() {
        let relay = RelayName::try_new("eu-1").expect("a name");
        let (reporter, mut monitor) = gateway();
        let connected = "connected to eu-1, 0 sessions";
        let not_connected = "not connected, next attempt in 2 s: refused";
        let refused =
            || reporter.retrying(&NO_TUNNEL, "refused".to_owned(), Duration::from_secs(2));
        let doubt = || Some((&NOT_REACHED, "no route"));
        refused();
        assert_eq!(monitor.report().to_string(), not_connected);
        reporter.up(Some(&relay), None);
        assert_eq!(monitor.report().to_string(), connected);
        reporter.up(Some(&relay), doubt());
        let with_doubt = format!("{connected}; but Infisical does not reach it: no route");
        assert_eq!(monitor.report().to_string(), with_doubt);
        refused();
        assert_eq!(monitor.report().to_string(), not_connected);
        // What was wrong with another tunnel does not outlive it.
        reporter.up(Some(&relay), None);
        assert_eq!(monitor.report().to_string(), connected);
        reporter.draining();
        assert_eq!(monitor.report().to_string(), "stopping");
    }

    #[test]
    fn sessions_are_counted_until_they_end() {
        let (reporter, mut monitor) = gateway();
        let first = reporter.session();
        let second = reporter.session();
        assert_eq!(monitor.report().sessions(), 2);
        drop((first, second));
        assert_eq!(monitor.report().sessions(), 0);
    }

    #[test]
    fn three_distinct_failures_are_kept() {
        let (reporter, mut monitor) = gateway();
        for error in ["a", "b", "b", "c", "d"] {
            reporter.retrying(&NO_TUNNEL, error.to_owned(), Duration::ZERO);
        }
        let report = monitor.report();
        let kept = report.failures.iter();
        let kept: Vec<_> = kept.map(|kept| (kept.error.as_str(), kept.count)).collect();
        assert_eq!(kept, [("d", 1), ("c", 1), ("b", 2)]);
        let active = report.visible_conditions();
        assert_eq!(active.len(), 1, "{active:?}");
    }

    #[test]
    fn consequences_are_not_shown_beside_their_cause() {
        let (reporter, mut monitor) = gateway();
        reporter.raise(&HEARTBEAT_UNANSWERED, "no answer");
        let shown = |active: &[Active]| -> Vec<&str> {
            active.iter().map(|active| active.condition.id).collect()
        };
        let active = monitor.report().visible_conditions();
        assert_eq!(shown(&active), ["heartbeat-unanswered"]);
        reporter.raise(&NO_TUNNEL, "no route");
        let active = monitor.report().visible_conditions();
        assert_eq!(shown(&active), ["no-tunnel"]);
    }

    #[tokio::test]
    async fn the_same_load_is_no_change() {
        let (reporter, mut monitor) = relay();
        let load = monitor.report().load;
        reporter.load(load);
        reporter.clear(&HEARTBEAT_UNANSWERED);
        drop(reporter);
        assert!(!monitor.changed().await);
    }
}
