//! The gateway's status in one line: written by its tasks, read by those who show it.
//!
//! All tasks of the gateway share the [`Reporter`]; a [`Monitor`] reads. A report is a short lock
//! and no queue, so it costs nothing if no task reads it.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::humanize::{Count, RoundedUp};
use crate::names::{GatewayName, RelayName};

/// What the gateway does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// The first attempt is under way.
    #[default]
    Starting,
    /// A tunnel is up.
    Connected(RelayName),
    /// The last attempt failed; the next one follows.
    Retrying {
        /// What failed.
        error: String,
        /// The wait before the next attempt.
        after: Duration,
    },
    /// Sessions finish before the end.
    Draining,
}

/// The gateway's status. `Display` is the line for `systemctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What it does.
    pub phase: Phase,
    /// Sessions that are open.
    pub sessions: usize,
    /// What the platform calls it.
    pub name: Option<GatewayName>,
    /// When its certificates are to be renewed.
    pub renew_at: Option<Instant>,
    /// What is wrong beyond the tunnel, if the last heartbeat failed.
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

/// A reporter and its monitor.
#[must_use]
pub fn monitor() -> (Reporter, Monitor) {
    let (sender, receiver) = watch::channel(Report::default());
    (Reporter(sender), Monitor(receiver))
}

impl Reporter {
    /// There is a tunnel to `relay`; `warning` is what is wrong beyond it.
    pub(crate) fn connected(&self, relay: &RelayName, warning: Option<String>) {
        self.set_phase(Phase::Connected(relay.clone()), warning);
    }

    /// There is no tunnel because of `error`, and the next attempt follows after a wait of `after`.
    /// Holds until that attempt has ended.
    pub(crate) fn not_connected(&self, error: String, after: Duration) {
        self.set_phase(Phase::Retrying { error, after }, None);
    }

    fn set_phase(&self, phase: Phase, warning: Option<String>) {
        self.0.send_if_modified(|report| {
            let is_changed = report.phase != phase || report.warning != warning;
            (report.phase, report.warning) = (phase, warning);
            is_changed
        });
    }

    /// The gateway stops: sessions finish.
    pub(crate) fn draining(&self) {
        self.0.send_modify(|report| report.phase = Phase::Draining);
    }

    /// Sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.0.borrow().sessions
    }

    pub(crate) fn renew_at(&self, at: Instant) {
        self.0.send_modify(|report| report.renew_at = Some(at));
    }

    /// What the platform calls the gateway.
    pub(crate) fn known_as(&self, name: Option<&GatewayName>) {
        self.0.send_if_modified(|report| {
            let is_new = name.is_some() && report.name.as_ref() != name;
            if is_new {
                report.name = name.cloned();
            }
            is_new
        });
    }

    /// Why the configuration could not be reloaded, or that it was.
    pub fn configuration(&self, refused: Option<String>) {
        self.0.send_modify(|report| report.refused = refused);
    }

    /// Counts a session until what is returned is dropped.
    pub(crate) fn session(&self) -> OpenSession {
        self.0.send_modify(|report| report.sessions += 1);
        OpenSession(self.clone())
    }

    /// Returns at once unless the report's lock is lost.
    pub(crate) fn check(&self) {
        drop(self.0.borrow());
    }
}

/// A session that is counted.
#[derive(Debug)]
pub(crate) struct OpenSession(Reporter);

impl Drop for OpenSession {
    fn drop(&mut self) {
        let Reporter(sender) = &self.0;
        sender.send_modify(|report| report.sessions = report.sessions.saturating_sub(1));
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phase_line(f)?;
        if let Some(name) = &self.name {
            write!(f, " (gateway {name})")?;
        }
        match &self.refused {
            Some(why) => write!(f, "; configuration not reloaded: {why}"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn phase_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = Count(self.sessions, "session");
        match &self.phase {
            Phase::Starting => f.write_str("starting, not connected yet"),
            Phase::Connected(relay) => {
                write!(f, "connected to {relay}, {sessions}")?;
                if let Some(at) = self.renew_at {
                    let left = at.saturating_duration_since(Instant::now());
                    write!(f, ", certificate renews in {}", RoundedUp(left))?;
                }
                match &self.warning {
                    Some(warning) => write!(f, "; but {warning}"),
                    None => Ok(()),
                }
            }
            Phase::Retrying { error, after } => {
                if self.sessions > 0 {
                    write!(f, "{sessions} on an older tunnel; ")?;
                }
                let after = RoundedUp(*after);
                write!(f, "not connected, next attempt in {after}: {error}")
            }
            Phase::Draining if self.sessions == 0 => f.write_str("stopping"),
            Phase::Draining => write!(f, "stopping, waiting for {sessions}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Phase, Report, monitor};
    use crate::names::RelayName;

    #[test]
    fn each_phase_has_its_line() {
        let relay = RelayName::try_new("eu-1").expect("a name");
        let connected = Report {
            phase: Phase::Connected(relay),
            sessions: 3,
            renew_at: Some(Instant::now() + Duration::from_secs(15 * 3600)),
            ..Report::default()
        };
        let retrying = Phase::Retrying {
            error: "no route to host".to_owned(),
            after: Duration::from_secs(7),
        };
        let cases = [
            (Report::default(), "starting, not connected yet"),
            (
                connected.clone(),
                "connected to eu-1, 3 sessions, certificate renews in 15 h",
            ),
            (
                Report {
                    sessions: 1,
                    renew_at: None,
                    warning: Some("Infisical does not reach it: 502".to_owned()),
                    refused: Some("line 1".to_owned()),
                    ..connected
                },
                "connected to eu-1, 1 session; but Infisical does not reach it: 502; \
                 configuration not reloaded: line 1",
            ),
            (
                Report {
                    phase: retrying.clone(),
                    ..Report::default()
                },
                "not connected, next attempt in 7 s: no route to host",
            ),
            (
                Report {
                    phase: retrying,
                    sessions: 1,
                    ..Report::default()
                },
                "1 session on an older tunnel; not connected, next attempt in 7 s: no route to host",
            ),
            (
                Report {
                    phase: Phase::Draining,
                    sessions: 2,
                    ..Report::default()
                },
                "stopping, waiting for 2 sessions",
            ),
        ];
        for (report, line) in cases {
            assert_eq!(report.to_string(), line);
        }
    }

    #[test]
    fn status_follows_the_connection() {
        let relay = RelayName::try_new("eu-1").expect("a name");
        let (reporter, mut monitor) = monitor();
        let connected = "connected to eu-1, 0 sessions";
        let not_connected = "not connected, next attempt in 2 s: refused";
        reporter.not_connected("refused".to_owned(), Duration::from_secs(2));
        assert_eq!(monitor.report().to_string(), not_connected);
        reporter.connected(&relay, None);
        assert_eq!(monitor.report().to_string(), connected);
        reporter.connected(&relay, Some("no route".to_owned()));
        let with_warning = format!("{connected}; but no route");
        assert_eq!(monitor.report().to_string(), with_warning);
        reporter.not_connected("refused".to_owned(), Duration::from_secs(2));
        assert_eq!(monitor.report().to_string(), not_connected);
        // What was wrong with another tunnel does not outlive it.
        reporter.connected(&relay, None);
        assert_eq!(monitor.report().to_string(), connected);
        reporter.draining();
        assert_eq!(monitor.report().to_string(), "stopping");
    }

    #[test]
    fn sessions_are_counted_until_they_end() {
        let (reporter, mut monitor) = monitor();
        let first = reporter.session();
        let second = reporter.session();
        assert_eq!(monitor.report().sessions, 2);
        drop((first, second));
        assert_eq!(monitor.report().sessions, 0);
    }
}
