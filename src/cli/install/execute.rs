//! What was decided, done in a safe order and accounted for, or, in a dry run, only shown.

use std::time::Duration;

use super::super::exit::Failure;
use super::super::service::{self, say};
use super::Install;
use super::decide::{Decided, Settings};
use crate::config::file;
use crate::error::Reason;
use crate::host::systemd::Systemd;
use crate::install::plan::Change;
use crate::install::program;
use crate::install::wanted::{self, Proof};

/// How long the platform may be away while an enrollment token is to be exchanged: a person is watching.
const PATIENCE: Duration = Duration::from_secs(60);

impl Install<'_> {
    /// A dry run's account.
    pub(super) fn show(&self, decided: &Decided) {
        say("Nothing is written. This would be:");
        let path = self.place.configuration();
        say(&format!("\n# {} (mode 0600)", path.display()));
        for line in wanted::differences(&[], &wanted::changed(&decided.before, &decided.changes)) {
            say(&line.text);
        }
        if decided.settings.proof() == Proof::Enrollment {
            say("# and the access token that the enrollment buys, or bought");
        }
        for change in &decided.files {
            say(&format!("\n{change}"));
            if let Some(text) = change.text().filter(|_| change.is_due()) {
                say(text);
            }
        }
        if !nix::unistd::geteuid().is_root() {
            say("\nWithout root, an existing configuration may not have been looked at.");
        }
    }

    pub(super) async fn execute(&self, decided: Decided, systemd: &Systemd) -> anyhow::Result<()> {
        let path = self.place.configuration();
        service::private_directories(&path)?;
        let is_new = !path.exists();
        if let Err(error) = self.exchange(&decided.settings).await {
            if is_new {
                // It holds no more than the proof that it could be written.
                let _ = std::fs::remove_file(&path);
            }
            return Err(error);
        }
        let changes: Vec<_> = decided
            .changes
            .iter()
            .map(|(key, value)| (*key, value))
            .collect();
        if !changes.is_empty() {
            file::update(&path, &changes).map_err(Failure::unavailable)?;
        }
        let after = file::load(&path).map_err(Failure::configuration)?;
        let differences = wanted::differences(&decided.before, &after);
        let sign = match (decided.before.is_empty(), differences.is_empty()) {
            (_, true) => '=',
            (true, false) => '+',
            (false, false) => '~',
        };
        say(&format!("{sign} {}", path.display()));
        for line in &differences {
            say(&format!("    {} {}", line.sign, line.text));
        }
        if let Some(unit) = &decided.deployed {
            systemd.act("stop", unit).await?;
            systemd.act("disable", unit).await?;
        }
        for change in &decided.files {
            change.make()?;
            say(&change.to_string());
        }
        let service = self.place.service();
        // Whether these files changed or a package's: it costs nothing.
        let units_changed = decided.files.iter().any(Change::is_due);
        let state = systemd.show(&service).await?;
        systemd.reload_units().await?;
        if !self.unit.no_enable {
            let sign = if service::is_enabled(&service) {
                '='
            } else {
                '+'
            };
            systemd.act("enable", &service).await?;
            say(&format!("{sign} {service} starts at boot"));
        }
        if self.unit.no_start {
            let short = self.place.short();
            say(&if state.is_up() {
                format!("It runs as it did before; to restart it: systemctl restart {short}")
            } else {
                format!("Not started; to start it: systemctl start {short}")
            });
            return Ok(());
        }
        let is_older = program::is_other(state.main_pid, decided.program.path());
        let changed = units_changed || state.stale || is_older || !differences.is_empty();
        service::start(systemd, &self.place, changed, self.scope).await
    }

    /// Spends a one-time token, if there is one, within bounds.
    async fn exchange(&self, settings: &Settings) -> anyhow::Result<()> {
        let scope = self.scope.child("enrollment");
        let limit = scope.clone();
        scope.spawn("patience", async move {
            if limit.run(tokio::time::sleep(PATIENCE)).await.is_some() {
                limit.cancel();
            }
        });
        let done = match settings {
            Settings::Gateway(settings) => {
                let ended = crate::gateway::enroll::exchange(settings, |_, _| {}, &scope).await;
                ended.map_err(|error| Failure::new(error.reason(), error))?
            }
            Settings::Relay(settings) => {
                let ended = crate::relay::register::exchange(settings, &scope).await;
                ended.map_err(|error| Failure::new(error.reason(), error))?
            }
        };
        scope.cancel();
        if done {
            return Ok(());
        }
        let text = "the platform could not be reached, so the enrollment token was not exchanged and nothing was installed; \
                    run the same command again";
        Err(Failure::new(Reason::Unavailable, anyhow::Error::msg(text)).into())
    }
}
