//! The service of the role: its unit, and the process that serves its status.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::super::install::only;
use super::super::status::Found;
use super::super::{instances, service};
use super::hardening;
use super::layer::{CREDENTIALS, Check, Fault, HARDENED, RELOAD, RUNNING, UNIT};
use crate::agent::status::condition::NOT_RELOADED;
use crate::agent::status::document::Document;
use crate::config::file::{self, Entry};
use crate::host::systemd::{self, State, Systemd};
use crate::host::unit::Version;
use crate::humanize::Utc;
use crate::install::handed_over;
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
        place: Place,
        service: String,
        short: String,
        state: Box<State>,
        is_enabled: bool,
        version: Version,
        /// Its files, as `systemctl cat` shows them.
        text: String,
    },
}

impl Unit {
    /// Asks for the unit of `name`, which may be the only one of its role, or of the only one, which
    /// may be called `running`.
    pub(super) async fn find(role: Role, name: Option<&str>, running: Option<&str>) -> Self {
        match timeout(ANSWER, ask(role, name, running)).await {
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
                ..
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

    /// Judges its sandbox.
    pub(super) fn hardened(&self) -> Check {
        match self {
            Self::Absent(why) | Self::Unknown(why) => Check::skipped(&HARDENED, why),
            Self::Installed {
                place,
                version,
                text,
                ..
            } => {
                let files = hardening::File::split(text, Path::is_file);
                hardening::examine(place, &files, *version)
            }
        }
    }

    /// What to do so that a process of `pid` reads its configuration, at a start or by a reload.
    fn read_again(&self, verb: &str, pid: u32) -> String {
        match self {
            Self::Installed { short, state, .. } if state.main_pid == pid => {
                format!("Run: sudo systemctl {verb} {short}")
            }
            _ if verb == "reload" => format!("Reload it: kill -HUP {pid}"),
            _ => format!("Restart the process {pid}."),
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

async fn ask(
    role: Role,
    name: Option<&str>,
    running: Option<&str>,
) -> Result<Unit, systemd::Error> {
    let systemd = match Systemd::find().await {
        Ok(systemd) => systemd,
        Err(error @ systemd::Error::NotRunning) => return Ok(Unit::Absent(error.to_string())),
        Err(error) => return Err(error),
    };
    let Ok(wanted) = Place::try_new(role, name) else {
        return Ok(Unit::Absent("no unit has such a name".to_owned()));
    };
    let other = match (name, running) {
        (Some(_), _) => only::with_name_of(&wanted),
        (None, Some(_)) => Place::try_new(role, running).ok(),
        (None, None) => None,
    };
    let mut found = None;
    for place in [Some(wanted.clone()), other].into_iter().flatten() {
        let mut names = vec![place.service()];
        names.extend(place.instance());
        let known = systemd.known(&names).await?;
        if let Some(known) = known.first() {
            found = Some((place, known.clone()));
            break;
        }
    }
    let Some((place, known)) = found else {
        let service = wanted.service();
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
        version: systemd.version(),
        text: systemd.cat(&service).await.unwrap_or_default(),
        place,
        service,
        state: Box::new(state),
    })
}

/// Judges what was found of the running role, which is `wanted`. A role that does not run because of
/// one of `causes` is not one more failure.
pub(super) fn running<'a>(
    role: Role,
    found: &'a [Found],
    wanted: Option<&'a Document>,
    unit: &Unit,
    causes: &[&Check],
) -> (Check, Option<&'a Document>) {
    if let Some(document) = wanted {
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

/// Judges whether the running role uses the newest configuration, which is in `file`.
pub(super) fn reload(
    document: &Document,
    configuration: &Check,
    file: Option<&Path>,
    unit: &Unit,
) -> Check {
    let mut conditions = document.conditions.iter();
    if let Some(condition) = conditions.find(|condition| condition.id == NOT_RELOADED.id) {
        return super::status::failed(&RELOAD, condition).unless_caused_by(&[configuration]);
    }
    let own = document.origin.configuration.as_ref();
    let own = own.filter(|own| !own.is_copy && Some(own.file.as_path()) == file);
    let changed = own.and_then(|own| fs::metadata(&own.file).ok()?.modified().ok());
    match (
        own,
        changed,
        document.configuration_read.map(SystemTime::from),
    ) {
        (Some(own), Some(changed), Some(read)) if changed > read => {
            let role = &document.origin.role;
            let (changed, read) = (Utc(changed), Utc(read));
            let file = own.file.display();
            let detail = format!("{file} was changed on {changed}, and was read on {read}");
            let cause = format!("The running {role} uses the settings from before the change.");
            let fix = unit.read_again("reload", document.origin.pid);
            Check::failed(&RELOAD, Fault::new(detail, cause, fix))
        }
        _ => Check::good(&RELOAD, "in use"),
    }
}

/// Judges whether the copy of the configuration that the running service has is what `file` holds:
/// the service manager makes it at a start only.
pub(super) fn copy(document: &Document, file: Option<&Path>, unit: &Unit) -> Check {
    let (Some(own), Some(file)) = (&document.origin.configuration, file) else {
        return Check::skipped(&CREDENTIALS, "it is not known which file the process has");
    };
    if !own.is_copy {
        let file = own.file.display();
        return Check::good(
            &CREDENTIALS,
            format!("none: {file} is read by the process itself"),
        );
    }
    let copy = seen_by(document.origin.pid, &own.file);
    match handed_over::is_current(file, &copy) {
        Ok(true) => Check::good(&CREDENTIALS, format!("as {}", file.display())),
        Err(error) => Check::skipped(&CREDENTIALS, crate::error::chain(&error).to_string()),
        Ok(false) => {
            let names = different(file, &copy);
            let named = match names.is_empty() {
                true => String::new(),
                false => format!(": it has another {}", names.join(", ")),
            };
            let file = file.display();
            let detail = format!("{file} is not what the service got when it started{named}");
            let cause = "The file was changed after the start, and the running service has the old content.";
            let fix = unit.read_again("restart", document.origin.pid);
            Check::failed(&CREDENTIALS, Fault::new(detail, cause, fix))
        }
    }
}

/// `path`, as the process `pid` sees it.
pub(super) fn seen_by(pid: u32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The settings that two files have differently, by their names.
fn different(file: &Path, copy: &Path) -> Vec<String> {
    let [file, copy] = [file, copy].map(|path| file::load_credential(path).unwrap_or_default());
    let lacks = |entries: &[Entry], wanted: &Entry| {
        let is_same = |entry: &Entry| entry.name == wanted.name && entry.value == wanted.value;
        !entries.iter().any(is_same)
    };
    let mut names: Vec<String> = Vec::new();
    for (some, others) in [(&file, &copy), (&copy, &file)] {
        let missing = some.iter().filter(|entry| lacks(others, entry));
        names.extend(missing.map(|entry| entry.name.clone()));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::layer::CONFIGURATION;
    use super::{Check, Fault, Place, RUNNING, Role, Unit, Version, running};
    use crate::host::systemd::State;

    fn installed(active: &str, sub: &str, is_enabled: bool) -> Unit {
        let state = State {
            active: active.to_owned(),
            sub: sub.to_owned(),
            ..State::default()
        };
        Unit::Installed {
            place: Place::try_new(Role::Gateway, Some("edge")).expect("a place"),
            service: "edge.service".to_owned(),
            short: "edge".to_owned(),
            state: Box::new(state),
            is_enabled,
            version: Version::NEWEST,
            text: String::new(),
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
        let (check, _) = running(Role::Gateway, &[], None, &unit, &[&bad, &unit_check]);
        assert_eq!(check.root(), Some(&CONFIGURATION));
        let good = Check::good(&CONFIGURATION, "");
        let (check, _) = running(Role::Gateway, &[], None, &unit, &[&good, &unit_check]);
        assert_eq!(check.root(), Some(&RUNNING));
    }
}
