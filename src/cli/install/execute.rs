//! What was decided, done in a safe order and accounted for, or, in a dry run, only shown.

use std::path::Path;
use std::time::Duration;

use super::super::exit::Failure;
use super::super::progress;
use super::super::service::{self, say};
use super::Install;
use super::decide::{Decided, Settings, say_name_of_host};
use super::units::Retired;
use crate::config::credential::Credential;
use crate::config::env::GATEWAY_NAME;
use crate::config::file;
use crate::config::role::is_access_token;
use crate::config::settings::ApiBase;
use crate::error::Reason;
use crate::gateway::enroll::Exchange;
use crate::host::systemd::Systemd;
use crate::install::config_changes::{self, Proof};
use crate::install::place::CONFIGURATION;
use crate::install::plan::{self, Change};
use crate::install::{foreign, private, program};
use crate::names::GatewayName;
use crate::secret::Secret;
use crate::trust;
use zeroize::Zeroizing;

/// How long the platform may be away while an enrollment token is to be exchanged: a person is
/// watching.
const PATIENCE: Duration = Duration::from_secs(60);

/// The user id.
const ROOT: u32 = 0;
/// Permissions of a configuration file.
const PRIVATE: u32 = 0o600;
/// What a person should know who installed without `--user`.
const ROOT_ADVICE: &str = "It runs as root without capabilities, which can still read files of root's, other gateways' tokens \
    among them, and have the service manager signal other processes. The same command with --user takes that away.";

/// True if an access token is in the file at `path`, or may be.
fn holds_token(path: &Path) -> bool {
    match file::load(path) {
        Ok(entries) => entries
            .iter()
            .any(|entry| is_access_token(entry.key) && !entry.value.is_empty()),
        Err(error) => !error.is_absent(),
    }
}

impl Decided {
    /// Compares the gateway's name with what the platform has `told`, whose name counts. Where no
    /// name was given, that one is kept in the configuration at `path`.
    fn name_as_told(&mut self, told: Option<&GatewayName>, path: &Path) -> anyhow::Result<()> {
        let Settings::Gateway(settings) = &self.settings else {
            return Ok(());
        };
        if !matches!(settings.credential, Credential::Enroll { .. }) {
            return Ok(());
        }
        let given = &settings.name;
        match told {
            Some(told) if self.is_named_after_host => {
                say(&format!("The platform calls this gateway {told}."));
                let told = Secret::new(told.as_str());
                // At once: the token was spent, and the next run is not told again.
                let update = [(&GATEWAY_NAME, &told)];
                file::update(path, &update).map_err(Failure::unavailable)?;
                self.changes.retain(|(key, _)| *key != &GATEWAY_NAME);
            }
            Some(told) if told != given => say(&format!(
                "Warning: the enrollment token is of gateway {told}, and the name given is \
                 {given}. The platform's name counts: clients reach it as {told}."
            )),
            None if self.is_named_after_host => say_name_of_host(given.as_str()),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// The last word of an installation as root.
    fn advise(&self) {
        if !self.own_user {
            say(&format!("\n{ROOT_ADVICE}"));
        }
    }
}

impl Install<'_> {
    /// A dry run's account.
    pub(super) fn show(&self, decided: &Decided) -> anyhow::Result<()> {
        say("Nothing is written. This would be:");
        let path = self.place.configuration();
        say(&format!("\n# {} (mode 0600)", path.display()));
        let text = self
            .configuration_after(decided)
            .map_err(Failure::configuration)?;
        file::masked(&text).iter().for_each(|line| say(line));
        show(decided.files.iter().chain(&decided.retired.removals));
        if !nix::unistd::geteuid().is_root() {
            say("\nWithout root, an existing configuration may not have been looked at.");
        }
        Ok(())
    }

    /// The text of the configuration as [`Self::execute`] would leave it, with words in place of
    /// what only the platform can tell.
    fn configuration_after(&self, decided: &Decided) -> Result<Zeroizing<String>, file::Error> {
        let path = self.place.configuration();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut text = Zeroizing::new(text);
        let mut changes = decided.changes.clone();
        let mut first = Vec::new();
        if decided.settings.is_to_enroll() {
            let domain = &decided.settings.common().domain;
            first.extend(config_changes::exchanged(self.place.role(), domain));
        }
        if decided.settings.is_gateway_to_enroll() && decided.is_named_after_host {
            changes.retain(|(key, _)| *key != &GATEWAY_NAME);
            first.push((&GATEWAY_NAME, Secret::new("<as the platform tells it>")));
        }
        for changes in [first, changes] {
            let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, value)).collect();
            text = file::updated(&path, &text, &changes)?;
        }
        Ok(Zeroizing::new(foreign::added(&text, &decided.foreign)))
    }

    pub(super) async fn execute(
        &self,
        mut decided: Decided,
        systemd: &Systemd,
    ) -> anyhow::Result<()> {
        let path = self.place.configuration();
        let secured = private::secure(&path, Path::new(CONFIGURATION), ROOT);
        for line in secured.map_err(Failure::unavailable)? {
            say(&line);
        }
        for left in private::leftovers(&path, false) {
            let removed = std::fs::remove_file(&left);
            removed.map_err(|e| Failure::unavailable(plan::Error::new("remove", &left, e)))?;
            say(&format!("- {} (left by a crash)", left.display()));
        }
        let is_new = !path.exists();
        let text = format!(
            "Waiting for the platform {}",
            decided.settings.common().domain
        );
        let exchanged = progress::show(&text, self.exchange(&decided.settings)).await;
        match exchanged {
            Ok(told) => decided.name_as_told(told.as_ref(), &path)?,
            Err(error) => {
                if is_new && !holds_token(&path) {
                    // It holds no more than the proof that it could be written.
                    let _ = std::fs::remove_file(&path);
                }
                return Err(error);
            }
        }
        self.heed(&match decided.settings.proof() {
            Proof::Enrollment => format!(
                "the access token is saved in {}; run the same command again to go on",
                path.display()
            ),
            Proof::Token | Proof::Login | Proof::Shared | Proof::Role => {
                "nothing was installed".to_owned()
            }
        })?;
        let changes: Vec<_> = decided
            .changes
            .iter()
            .map(|(key, value)| (*key, value))
            .collect();
        if !changes.is_empty() {
            file::update(&path, &changes).map_err(Failure::unavailable)?;
        }
        keep(&path, &decided.foreign)?;
        let after = file::load(&path).map_err(Failure::configuration)?;
        let differences = config_changes::differences(&decided.before, &after);
        let sign = match (decided.before.is_empty(), differences.is_empty()) {
            (_, true) => '=',
            (true, false) => '+',
            (false, false) => '~',
        };
        say(&format!("{sign} {}", path.display()));
        for line in &differences {
            say(&format!("    {} {}", line.sign, line.text));
        }
        service::make(&decided.files)?;
        let service = self.place.service();
        let units_changed = decided.files.iter().any(Change::is_due);
        let state = systemd.show(&service).await?;
        // Whether these files changed or a package's: it costs nothing.
        systemd.reload_units().await?;
        if !self.unit.steps.no_enable {
            let sign = if service::is_enabled(&service) {
                '='
            } else {
                '+'
            };
            systemd.act("enable", &service).await?;
            say(&format!("{sign} {service} starts at boot"));
        }
        let short = self.place.short();
        if self.unit.steps.no_start {
            if let Some(unit) = &decided.retired.unit {
                // Both at a boot would be one gateway twice.
                if !self.unit.steps.no_enable {
                    systemd.act("disable", unit).await?;
                }
                say(&format!(
                    "{unit} is kept until the same command starts {short} in its place"
                ));
            }
            say(&if state.is_up() {
                format!("It runs as it did before; to restart it: systemctl restart {short}")
            } else {
                format!("Not started; to start it: systemctl start {short}")
            });
            decided.advise();
            return Ok(());
        }
        self.heed("all is written, and nothing was started; run the same command again to go on")?;
        retire(systemd, &decided.retired).await?;
        let is_older = program::is_other(state.main_pid, decided.program.path());
        // An earlier run may have been held back, or ended, between writing and starting.
        let read = self.place.read_at_start();
        let is_outdated = state.is_up()
            && (state.started).is_some_and(|start| private::changed_after(&read, start));
        let changed =
            units_changed || state.stale || is_older || is_outdated || !differences.is_empty();
        service::start(systemd, &self.place, changed, self.scope).await?;
        decided.advise();
        Ok(())
    }

    /// Ends here if the person has interrupted; `state` says how things are.
    fn heed(&self, state: &str) -> anyhow::Result<()> {
        if self.scope.is_cancelled() {
            return Err(service::interrupted(state));
        }
        Ok(())
    }

    /// Spends a one-time token, if there is one, within bounds. Gives the gateway's name, if the
    /// platform told it.
    async fn exchange(&self, settings: &Settings) -> anyhow::Result<Option<GatewayName>> {
        let scope = self.scope.child("enrollment");
        let limit = scope.clone();
        scope.spawn("patience", async move {
            if limit.run(tokio::time::sleep(PATIENCE)).await.is_some() {
                limit.cancel();
            }
        });
        // Those that the service will use, lines of its file included.
        trust::roots().set_source(settings.common().roots.clone());
        let exchanged = match settings {
            Settings::Gateway(settings) => {
                let ended = crate::gateway::enroll::exchange(settings, |_, _| {}, &scope).await;
                ended.map_err(|error| Failure::new(error.reason(), error))?
            }
            Settings::Relay(settings) => {
                let ended = crate::relay::register::exchange(settings, &scope).await;
                if ended.map_err(|error| Failure::new(error.reason(), error))? {
                    Exchange::Done(None)
                } else {
                    Exchange::Cancelled
                }
            }
        };
        scope.cancel();
        match exchanged {
            Exchange::NotNeeded => return Ok(None),
            Exchange::Done(name) => return Ok(name),
            Exchange::Cancelled => {}
        }
        self.heed("the enrollment token was not exchanged, and nothing was installed")?;
        let text = not_exchanged(&settings.common().domain);
        Err(Failure::new(Reason::Unavailable, anyhow::Error::msg(text)).into())
    }
}

/// Why the enrollment token was not exchanged within [`PATIENCE`].
fn not_exchanged(domain: &ApiBase) -> String {
    format!(
        "the platform {domain} could not be reached within {} s, so the enrollment token was not \
         exchanged and nothing was installed; check the address (--domain) and the network, and \
         run the same command again",
        PATIENCE.as_secs()
    )
}

/// Adds `foreign` lines of the deployed relay's file to the configuration at `path`.
fn keep(path: &Path, foreign: &[String]) -> anyhow::Result<()> {
    if foreign.is_empty() {
        return Ok(());
    }
    let old = std::fs::read_to_string(path)
        .map_err(|e| Failure::unavailable(plan::Error::new("read", path, e)))?;
    let new = foreign::added(&old, foreign);
    if new != old {
        file::write_whole(path, new.as_bytes(), PRIVATE)
            .map_err(|e| Failure::unavailable(plan::Error::new("write", path, e)))?;
    }
    Ok(())
}

/// Says what changed files would hold.
pub(super) fn show<'a>(changes: impl IntoIterator<Item = &'a Change>) {
    for change in changes {
        say(&format!("\n{change}"));
        if let Some(text) = change.text().filter(|_| change.is_due()) {
            say(text);
        }
    }
}

/// Ends the earlier unit, which ran until everything was ready for the new one.
async fn retire(systemd: &Systemd, retired: &Retired) -> anyhow::Result<()> {
    if let Some(unit) = &retired.unit {
        say(&format!("{unit} gives way to a unit of its own"));
        systemd.act("stop", unit).await?;
        systemd.act("disable", unit).await?;
    }
    let due = |change: &&Change| change.is_due();
    service::make(retired.removals.iter().filter(due))?;
    if retired.unit.is_some() || retired.removals.iter().any(Change::is_due) {
        systemd.reload_units().await?;
    }
    if let Some(unit) = &retired.unit {
        // Nothing to reset is no failure.
        let _ = systemd.act("reset-failed", unit).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::not_exchanged;
    use crate::config::settings::ApiBase;

    #[test]
    fn unresponsive_platform_is_named() {
        let domain: ApiBase = ApiBase::parse("https://platform.example.com").expect("a domain");
        let text = not_exchanged(&domain);
        assert!(text.contains("https://platform.example.com"), "{text}");
        assert!(text.contains("--domain"), "{text}");
    }
}
