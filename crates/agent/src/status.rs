//! The status of a role: written by its tasks, read by those who show it.
//!
//! All tasks of a role share the [`Reporter`]; a [`Monitor`] reads. A report is a short lock and no
//! queue, so it costs nothing if no task reads it.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::humanize::{Count, RoundedUp};
use crate::names::RelayName;
use crate::renew::Lifetime;

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

/// The status of a role. `Display` is the line for `systemctl status`.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it does.
    pub phase: Phase,
    /// What it serves.
    pub load: Load,
    /// What the platform calls a gateway.
    pub name: Option<String>,
    /// How long the credentials in use are valid.
    pub credentials: Option<Lifetime>,
    /// What is wrong although it serves: the last heartbeat failed.
    pub warning: Option<String>,
    /// Why the configuration was not reloaded, if the last reload failed.
    pub refused: Option<String>,
}

/// Writes the status. Clones write the same one.
#[derive(Debug, Clone)]
pub struct Reporter(watch::Sender<Report>);

/// Reads the status.
#[derive(Debug, Clone)]
pub struct Monitor(watch::Receiver<Report>);

/// A reporter and its monitor, of a role that serves nothing but `load` yet.
#[must_use]
pub fn monitor(load: Load) -> (Reporter, Monitor) {
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
    /// The role serves, a gateway through `relay`; `warning` is what is wrong beyond it.
    pub fn up(&self, relay: Option<&RelayName>, warning: Option<String>) {
        self.set_phase(Phase::Up(relay.cloned()), warning);
    }

    /// The role cannot serve because of `error`, and the next attempt follows after a wait of
    /// `after`. Holds until that attempt has ended.
    pub fn retrying(&self, error: String, after: Duration) {
        self.set_phase(Phase::Retrying { error, after }, None);
    }

    fn set_phase(&self, phase: Phase, warning: Option<String>) {
        self.0.send_if_modified(|report| {
            let is_changed = report.phase != phase || report.warning != warning;
            (report.phase, report.warning) = (phase, warning);
            is_changed
        });
    }

    /// What is wrong although the role serves, as far as the last heartbeat showed.
    pub fn warning(&self, warning: Option<String>) {
        self.0.send_if_modified(|report| {
            let is_changed = report.warning != warning;
            report.warning = warning;
            is_changed
        });
    }

    /// The role stops: what is open finishes.
    pub fn draining(&self) {
        self.0.send_modify(|report| report.phase = Phase::Draining);
    }

    /// What the role serves now.
    pub fn load(&self, load: Load) {
        self.0.send_if_modified(|report| {
            let is_changed = report.load != load;
            report.load = load;
            is_changed
        });
    }

    /// The credentials in use; `name` is what the platform calls the role, where it tells.
    pub fn credentials(&self, lifetime: Lifetime, name: Option<&str>) {
        self.0.send_modify(|report| {
            report.credentials = Some(lifetime);
            if let Some(name) = name {
                report.name = Some(name.to_owned());
            }
        });
    }

    /// Why the configuration could not be reloaded, or that it was.
    pub fn configuration(&self, refused: Option<String>) {
        self.0.send_modify(|report| report.refused = refused);
    }

    /// A gateway's sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.borrow().sessions()
    }

    /// Counts a session of a gateway until what is returned is dropped.
    #[must_use]
    pub fn session(&self) -> OpenSession {
        self.count(|sessions| sessions.saturating_add(1));
        OpenSession(self.clone())
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.0.send_modify(|report| {
            let sessions = change(report.sessions());
            report.load = Load::Gateway { sessions };
        });
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
        self.0.count(|sessions| sessions.saturating_sub(1));
    }
}

impl Monitor {
    /// The status now; changes until now are seen.
    pub fn report(&mut self) -> Report {
        self.0.borrow_and_update().clone()
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
            name: None,
            credentials: None,
            warning: None,
            refused: None,
        }
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
        if let (Phase::Up(_), Some(warning)) = (&self.phase, &self.warning) {
            write!(f, "; but {warning}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " (gateway {name})")?;
        }
        match &self.refused {
            Some(why) => write!(f, "; configuration not reloaded: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

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
                    warning: Some("Infisical does not reach it: 502".to_owned()),
                    refused: Some("line 1".to_owned()),
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
                    warning: Some("Infisical does not reach it: 502".to_owned()),
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
        reporter.retrying("refused".to_owned(), Duration::from_secs(2));
        assert_eq!(monitor.report().to_string(), not_connected);
        reporter.up(Some(&relay), None);
        assert_eq!(monitor.report().to_string(), connected);
        reporter.up(Some(&relay), Some("no route".to_owned()));
        let with_warning = format!("{connected}; but no route");
        assert_eq!(monitor.report().to_string(), with_warning);
        reporter.retrying("refused".to_owned(), Duration::from_secs(2));
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

    #[tokio::test]
    async fn the_same_load_is_no_change() {
        let (reporter, mut monitor) = relay();
        let load = monitor.report().load;
        reporter.load(load);
        reporter.warning(None);
        drop(reporter);
        assert!(!monitor.changed().await);
    }
}
