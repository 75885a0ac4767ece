//! Tells the service manager, and anyone who waits for the tunnel, how a role is.
//!
//! A gateway is *ready* (`READY=1`) when its tunnel is up, or when the first attempt has been made
//! and is being repeated: a relay, a platform or a network that is not there yet must not hold up
//! the start of the machine, nor fail it, since nothing that systemd could do would help. A relay
//! is ready when it serves. What hangs counts as ready after [`notify::READY_AT_LATEST`]. The
//! status line says which it is. Who needs the tunnel itself waits for the `online` file of the
//! runtime directory, which is there exactly while a tunnel is up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::chain;
use crate::host::{notify, ready_file};
use crate::status::{Load, Monitor, Phase, Report};

/// The file in the runtime directory that is there while a tunnel is up; it holds the relay's name.
pub const ONLINE: &str = "online";

/// Between two lines of the same phase; sessions may come by the thousand.
const PACE: Duration = Duration::from_secs(1);
/// How often the line is repeated when nothing happens, since it says how long something still
/// takes.
const REFRESH: Duration = Duration::from_secs(60);
/// How often the manager is asked for more time while sessions finish, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(15);

/// Tells until the role is gone. `runtime`: the runtime directory, if the service manager made one.
pub async fn announce(mut monitor: Monitor, runtime: Option<&Path>) {
    let started = Instant::now();
    let mut teller = Teller {
        online: runtime.map(|runtime| runtime.join(ONLINE)),
        ..Teller::default()
    };
    loop {
        let report = monitor.report();
        let late = started.elapsed() >= notify::READY_AT_LATEST;
        teller.tell(&report, late);
        let spoken = Instant::now();
        let again = match (&report.phase, teller.ready) {
            (Phase::Draining, _) => EXTEND_EVERY,
            (_, false) => notify::READY_AT_LATEST.saturating_sub(started.elapsed()),
            (Phase::Starting | Phase::Up(_) | Phase::Retrying { .. }, true) => REFRESH,
        };
        match tokio::time::timeout(again, monitor.changed()).await {
            Ok(false) => break,
            Ok(true) => {
                let other = monitor.other_phase(&report.phase);
                // Either there is another phase, which is reported at once, or it was long enough.
                let _ = tokio::time::timeout_at(spoken + PACE, other).await;
            }
            Err(_) => {}
        }
    }
    teller.offline();
}

/// What was told already.
#[derive(Debug, Default)]
struct Teller {
    online: Option<PathBuf>,
    /// What it says now, while it is there.
    online_by: Option<String>,
    line: String,
    ready: bool,
    stopping: bool,
}

impl Teller {
    fn tell(&mut self, report: &Report, late: bool) {
        let line = report.to_string();
        if line != self.line {
            notify::status(&line);
            self.line = line;
        }
        match &report.phase {
            Phase::Starting => {
                self.offline();
                if late {
                    self.ready();
                }
            }
            Phase::Up(relay) => {
                match relay {
                    Some(relay) => self.online(relay.as_str()),
                    None => self.offline(),
                }
                self.ready();
            }
            Phase::Retrying { .. } => {
                self.offline();
                if late || matches!(report.load, Load::Gateway { .. }) {
                    self.ready();
                }
            }
            Phase::Draining => {
                self.offline();
                if !self.stopping {
                    notify::stopping();
                    self.stopping = true;
                }
                notify::extend(EXTEND_BY);
            }
        }
    }

    fn ready(&mut self) {
        if !self.ready {
            notify::ready();
            self.ready = true;
        }
    }

    fn online(&mut self, relay: &str) {
        if self.online_by.as_deref() == Some(relay) {
            return;
        }
        let Some(path) = &self.online else {
            return;
        };
        match ready_file::write(path, relay) {
            Ok(()) => self.online_by = Some(relay.to_owned()),
            Err(error) => tracing::warn!(error = %chain(&error), "waiting units are not told"),
        }
    }

    fn offline(&mut self) {
        if self.online_by.take().is_some()
            && let Some(path) = &self.online
        {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ONLINE, Teller};
    use crate::names::RelayName;
    use crate::status::condition::{NO_TUNNEL, NOT_REGISTERED};
    use crate::status::{Monitor, Reporter, gateway, relay};

    const SOON: std::time::Duration = std::time::Duration::ZERO;

    /// Tells what `report` makes of the status.
    fn tell(
        teller: &mut Teller,
        (reporter, monitor): &mut (Reporter, Monitor),
        report: impl FnOnce(&Reporter),
    ) {
        report(reporter);
        teller.tell(&monitor.report(), false);
    }

    #[test]
    fn online_exactly_while_a_tunnel_is_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let online = directory.path().join(ONLINE);
        let mut teller = Teller {
            online: Some(online.clone()),
            ..Teller::default()
        };
        let up = |relay: &str| {
            let relay = RelayName::try_new(relay).expect("a name");
            move |reporter: &Reporter| reporter.up(Some(&relay), None)
        };
        let retrying =
            |reporter: &Reporter| reporter.retrying(&NO_TUNNEL, "no network".to_owned(), SOON);
        let mut role = gateway();
        tell(&mut teller, &mut role, |_| ());
        assert!(!teller.ready && !online.exists());
        tell(&mut teller, &mut role, retrying);
        assert!(teller.ready && !online.exists());
        tell(&mut teller, &mut role, up("eu-1"));
        assert_eq!(std::fs::read_to_string(&online).expect("online"), "eu-1\n");
        tell(&mut teller, &mut role, retrying);
        assert!(!online.exists());
        tell(&mut teller, &mut role, up("eu-1"));
        assert!(online.exists() && !teller.stopping);
        tell(&mut teller, &mut role, up("eu-2"));
        assert_eq!(std::fs::read_to_string(&online).expect("online"), "eu-2\n");
        tell(&mut teller, &mut role, Reporter::draining);
        assert!(teller.stopping && !online.exists());
    }

    #[test]
    fn hanging_first_attempt_is_ready_late() {
        for (reporter, mut monitor) in [gateway(), relay()] {
            let mut teller = Teller::default();
            teller.tell(&monitor.report(), false);
            assert!(!teller.ready);
            teller.tell(&monitor.report(), true);
            assert!(teller.ready);
            drop(reporter);
        }
    }

    #[test]
    fn relay_is_ready_when_it_serves() {
        let (mut teller, mut role) = (Teller::default(), relay());
        tell(&mut teller, &mut role, |role| {
            role.retrying(&NOT_REGISTERED, "away".to_owned(), SOON);
        });
        assert!(!teller.ready);
        tell(&mut teller, &mut role, |role| role.up(None, None));
        assert!(teller.ready);
    }
}
