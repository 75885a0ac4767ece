//! The service of the role: its unit, and the process that serves its status.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::super::status::Found;
use super::super::{instances, service};
use super::layer::{Check, Fault, RELOAD, RUNNING, UNIT};
use crate::agent::status::condition::NOT_RELOADED;
use crate::agent::status::document::Document;
use crate::host::systemd::{self, State, Systemd};
use crate::install::place::{Place, Role};

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What systemd says of the role's unit.
pub(super) enum Unit {
    /// There is none, or no systemd; and why.
    Absent(String),
    /// It cannot be asked.
    Unknown(String),
    /// It is installed.
    Installed {
        service: String,
        short: String,
        state: State,
        is_enabled: bool,
    },
}

impl Unit {
    /// Asks for the unit of `name`, or of the only one.
    pub(super) async fn find(role: Role, name: Option<&str>) -> Self {
        match timeout(ANSWER, ask(role, name)).await {
            Ok(Ok(unit)) => unit,
            Ok(Err(error)) => Self::Unknown(crate::error::chain(&error).to_string()),
            Err(_) => Self::Unknown(format!("systemd gave no answer in {} s", ANSWER.as_secs())),
        }
    }

    /// Judges it; `is_running` tells that a process of the role was found without it.
    pub(super) fn check(&self, role: Role, is_running: bool) -> Check {
        match self {
            Self::Absent(why) | Self::Unknown(why) => Check::skipped(&UNIT, why),
            Self::Installed {
                service,
                short,
                state,
                is_enabled,
            } => {
                let fault = |detail: String, cause: String, fix: String| {
                    Check::failed(&UNIT, Fault::new(detail, cause, fix))
                };
                let seen = format!("{service} is {} ({})", state.active, state.sub);
                if state.has_failed() {
                    let cause = format!("The {role} ended, with result {}.", state.result);
                    let fix = format!("Read why: journalctl -u {short} -n 20");
                    return fault(seen, cause, fix);
                }
                if is_running && !state.is_in_use() && !is_enabled {
                    let why = format!("{service} is neither started nor enabled");
                    return Check::skipped(&UNIT, why);
                }
                if !state.is_up() && !is_running {
                    let cause = format!("The service of the {role} is not started.");
                    return fault(
                        seen,
                        cause,
                        format!("Start it: sudo systemctl start {short}"),
                    );
                }
                if state.stale {
                    let cause = "The unit's file was changed, and systemd has not read it again.";
                    let fix = format!(
                        "Read it again: sudo systemctl daemon-reload && sudo systemctl restart {short}"
                    );
                    return fault(seen, cause.to_owned(), fix);
                }
                if !is_enabled {
                    let cause = format!("The {role} does not start when the machine boots.");
                    return fault(
                        seen,
                        cause,
                        format!("Enable it: sudo systemctl enable {short}"),
                    );
                }
                Check::good(&UNIT, format!("{seen}, enabled"))
            }
        }
    }

    /// True if it ended, and not because it was told to.
    pub(super) fn has_failed(&self) -> bool {
        match self {
            Self::Installed { state, .. } => state.has_failed(),
            Self::Absent(_) | Self::Unknown(_) => false,
        }
    }

    /// How it is started or restarted.
    fn command(&self, verb: &str, role: Role) -> String {
        match self {
            Self::Installed { short, .. } => format!("sudo systemctl {verb} {short}"),
            Self::Absent(_) | Self::Unknown(_) => format!("infisical {role} start"),
        }
    }
}

async fn ask(role: Role, name: Option<&str>) -> Result<Unit, systemd::Error> {
    let systemd = match Systemd::find().await {
        Ok(systemd) => systemd,
        Err(error @ systemd::Error::NotRunning) => return Ok(Unit::Absent(error.to_string())),
        Err(error) => return Err(error),
    };
    let Ok(place) = Place::try_new(role, name) else {
        return Ok(Unit::Absent("no unit has such a name".to_owned()));
    };
    let mut names = vec![place.service()];
    names.extend(place.instance());
    let known = systemd.known(&names).await?;
    let Some(known) = known.first() else {
        let service = place.service();
        return Ok(Unit::Absent(format!("{service} is not installed")));
    };
    let service = match instances::current(&systemd, &place).await {
        Ok(service) => service,
        Err(_) => known.name.clone(),
    };
    let state = systemd.show(&service).await?;
    Ok(Unit::Installed {
        is_enabled: service::is_enabled(&service),
        short: place.short(),
        service,
        state,
    })
}

/// Judges what was found of the running role. A role that does not run because of one of `causes`
/// is not one more failure.
pub(super) fn running<'a>(
    role: Role,
    found: &'a [Found],
    unit: &Unit,
    causes: &[&Check],
) -> (Check, Option<&'a Document>) {
    let document = found.iter().find_map(|found| found.as_ref().ok());
    if let Some(document) = document {
        let origin = &document.origin;
        let detail = format!(
            "process {}, {} (version {})",
            origin.pid, origin.name, origin.program_version
        );
        return (Check::good(&RUNNING, detail), Some(document));
    }
    let fault = match found.first() {
        Some(Err((path, error))) => {
            let detail = format!("{}: {error}", path.display());
            if error.kind() == io::ErrorKind::PermissionDenied {
                let cause = "Only its user and root may ask how it is.";
                Fault::new(detail, cause, format!("Run: sudo infisical {role} doctor"))
            } else {
                let cause = format!("The {role} runs and does not answer.");
                Fault::new(
                    detail,
                    cause,
                    format!("Restart it: {}", unit.command("restart", role)),
                )
            }
        }
        Some(Ok(_)) | None => Fault::new(
            format!("no {role} serves its status here"),
            format!("The {role} does not run."),
            format!("Start it: {}", unit.command("start", role)),
        ),
    };
    let check = Check::failed(&RUNNING, fault).unless_caused_by(causes);
    (check, None)
}

/// Judges whether the running role uses the newest configuration.
pub(super) fn reload(document: &Document, configuration: &Check) -> Check {
    let mut conditions = document.conditions.iter();
    match conditions.find(|condition| condition.id == NOT_RELOADED.id) {
        None => Check::good(&RELOAD, "in use"),
        Some(condition) => {
            super::status::failed(&RELOAD, condition).unless_caused_by(&[configuration])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer::CONFIGURATION;
    use super::{Check, Fault, RUNNING, Role, Unit, running};
    use crate::host::systemd::State;

    fn installed(active: &str, sub: &str, is_enabled: bool) -> Unit {
        let state = State {
            active: active.to_owned(),
            sub: sub.to_owned(),
            ..State::default()
        };
        Unit::Installed {
            service: "edge.service".to_owned(),
            short: "edge".to_owned(),
            state,
            is_enabled,
        }
    }

    #[test]
    fn units_are_active_and_enabled() {
        for (unit, fix) in [
            (installed("active", "running", true), None),
            (
                installed("inactive", "dead", true),
                Some("systemctl start edge"),
            ),
            (
                installed("failed", "failed", true),
                Some("journalctl -u edge"),
            ),
            (
                installed("active", "running", false),
                Some("systemctl enable edge"),
            ),
        ] {
            let json = unit.check(Role::Gateway, false).json();
            match fix {
                None => assert_eq!(json["status"], "ok", "{json}"),
                Some(fix) => assert!(json["fix"].to_string().contains(fix), "{json}"),
            }
        }
    }

    #[test]
    fn stopped_role_is_blamed_on_its_configuration() {
        let unit = Unit::Absent("no systemd".to_owned());
        let unit_check = unit.check(Role::Gateway, false);
        let bad = Check::failed(&CONFIGURATION, Fault::new("d", "c", "f"));
        let (check, _) = running(Role::Gateway, &[], &unit, &[&bad, &unit_check]);
        assert_eq!(check.root(), Some(&CONFIGURATION));
        let good = Check::good(&CONFIGURATION, "");
        let (check, _) = running(Role::Gateway, &[], &unit, &[&good, &unit_check]);
        assert_eq!(check.root(), Some(&RUNNING));
    }
}
