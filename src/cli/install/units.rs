//! The unit of an installation and its drop-ins: what becomes of each file, which earlier unit
//! gives way, and why a unit of this name cannot be.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::exit::Failure;
use super::super::service::say;
use super::super::{instances, legacy};
use super::Install;
use crate::config::warning::Problem;
use crate::error::chain;
use crate::host::systemd::{KnownUnit, Systemd};
use crate::host::unit::{self, PACKAGED, Program, Version};
use crate::install::conflict::{self, Conflict};
use crate::install::existing::{self, Existing};
use crate::install::place::{PACKAGED_UNITS, Place, UNITS};
use crate::install::plan::Change;
use crate::install::program;
use crate::install::rotation;
use crate::install::sandbox::Sandbox;
use crate::install::unit_templates::{self, LogDirectory, OWN_DROP_INS, USER_DROP_IN};

/// What the service manager says before anything is decided.
#[derive(Default)]
pub(super) struct Found {
    /// Units that have the name, of any type.
    named: Vec<KnownUnit>,
    /// The instance of the template that is the same gateway.
    instance: Option<String>,
    /// The template that an earlier installer wrote, if nothing else needs it.
    template: Option<Change>,
}

/// What the unit must allow beyond what it says.
pub(super) struct Opened {
    pub(super) logs: Option<LogDirectory>,
    /// The ports to listen on beside those of the unit; there may be none beside a socket.
    pub(super) ports: Option<Vec<u16>>,
    /// What the program can be made to hold in MiB, if its limits are not the usual ones.
    pub(super) memory: Option<usize>,
}

/// An instance of the template that gives way to a unit of its own.
pub(super) struct Retired {
    /// To be stopped and disabled.
    pub(super) unit: Option<String>,
    /// Its drop-ins and perhaps the template, to be removed.
    pub(super) removals: Vec<Change>,
}

/// The unit and what belongs to it.
pub(super) struct Units {
    pub(super) program: Program,
    pub(super) files: Vec<Change>,
    pub(super) retired: Retired,
    pub(super) own_user: bool,
    pub(super) sandbox: Sandbox,
}

impl Found {
    /// Asks the service manager about everything that has the name of `place`.
    pub(super) async fn look(systemd: Option<&Systemd>, place: &Place) -> anyhow::Result<Self> {
        let Some(systemd) = systemd.filter(|_| place.name().is_some()) else {
            return Ok(Self::default());
        };
        let template = instances::template(systemd, place).await?;
        Ok(Self {
            named: systemd.known(&conflict::units(place)).await?,
            instance: instances::installed(systemd, place).await?,
            template: template
                .filter(|(_, others)| others.is_empty())
                .map(|(removal, _)| removal),
        })
    }

    /// Units of the name that are not the file of `place`.
    fn conflicts(&self, place: &Place) -> Vec<Conflict> {
        let service = place.service();
        let path = Path::new(UNITS).join(&service);
        // Another one in its place was judged when it was read.
        let is_own = |unit: &KnownUnit| {
            unit.name == service && unit.id == service && path.symlink_metadata().is_ok()
        };
        let others = self.named.iter().filter(|unit| !is_own(unit));
        let conflict = |unit: &KnownUnit| Conflict::Unit {
            name: unit.name.clone(),
            id: unit.id.clone(),
        };
        others.map(conflict).collect()
    }
}

impl Install<'_> {
    /// The unit and its drop-ins with what becomes of them, and an earlier unit.
    pub(super) fn units(
        &self,
        opened: &Opened,
        found: Found,
        version: Version,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<Units> {
        let place = &self.place;
        let path = Path::new(UNITS).join(place.service());
        let there = existing::load(&path, place).map_err(Failure::unavailable)?;
        problems.extend(refusal(&there, place, &path));
        self.refuse_conflicts(&there, &found, problems);
        // A package has no unit that is called after a gateway, only the template of it.
        let packaged = PACKAGED_UNITS
            .iter()
            .filter(|_| place.name().is_none())
            .map(|folder| Path::new(folder).join(place.service()))
            .find(|path| path.is_file());
        let program = self.program(packaged.as_deref(), problems)?;
        let earlier = found
            .instance
            .as_ref()
            .map_or_else(Vec::new, |_| place.instance_drop_ins());
        let has_user = |folder: &Path| folder.join(USER_DROP_IN).exists();
        let drop_ins = place.drop_ins();
        // Once without root, it goes back only by a person's hand: a forgotten flag must not.
        let own_user =
            self.unit.user || has_user(&drop_ins) || earlier.iter().any(|folder| has_user(folder));
        if own_user && version < Version::CREDENTIALS {
            let text = "--user needs systemd 247 or newer, which hands over credentials";
            problems.push(Problem::new(text));
        }
        let mut files = Vec::new();
        files.extend(stale_rotation(&there, place)?);
        let unit = match &packaged {
            Some(packaged) => {
                say(&format!(
                    "{} is a package's: it is used as it is.",
                    packaged.display()
                ));
                // What was installed before the package would hide its unit.
                if there.text().is_some() {
                    files.push(Change::of(path, None)?);
                }
                std::fs::read_to_string(packaged).map_err(Failure::unavailable)?
            }
            None => {
                let unit = unit_templates::unit_for(place, &program, version);
                files.push(Change::of(path, Some(unit.clone()))?);
                unit
            }
        };
        files.extend(self.drop_ins(opened, &program, own_user, version)?);
        files.extend(moved(&earlier, &drop_ins)?);
        let sandbox = sandbox(&unit, &drop_ins, &files);
        let retired = retired(found)?;
        Ok(Units {
            sandbox,
            program,
            files,
            retired,
            own_user,
        })
    }

    /// The drop-ins of the installer.
    fn drop_ins(
        &self,
        opened: &Opened,
        program: &Program,
        own_user: bool,
        version: Version,
    ) -> anyhow::Result<Vec<Change>> {
        let place = &self.place;
        let logs = opened.logs.as_ref();
        let ports = opened.ports.as_ref();
        let texts = [
            own_user.then(|| unit_templates::user_for(place, program, version)),
            logs.map(|logs| unit_templates::logs_for(place, logs, own_user, version)),
            ports.map(|ports| unit_templates::ports_for(place, ports)),
            opened
                .memory
                .map(|mib| unit_templates::memory_for(place, mib)),
        ];
        let mut changes = Vec::new();
        for (name, text) in OWN_DROP_INS.into_iter().zip(texts) {
            let path = place.drop_ins().join(name);
            if text.is_some() || path.exists() {
                changes.push(Change::of(path, text)?);
            }
        }
        Ok(changes)
    }

    /// A unit of this name must not take the place of something else.
    fn refuse_conflicts(&self, there: &Existing, found: &Found, problems: &mut Vec<Problem>) {
        let place = &self.place;
        let Some(name) = place.name() else {
            return;
        };
        let is_ours =
            there.text().is_some() || found.instance.is_some() || place.configuration().exists();
        let mut conflicts = conflict::find(Path::new("/"), place, is_ours);
        // What has a file was found by it.
        if conflicts.is_empty() {
            conflicts = found.conflicts(place);
        }
        if conflicts.is_empty() {
            return;
        }
        let reasons: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
        let role = place.role();
        problems.push(Problem::new(format!(
            "no {role} can be installed as {}: {}; install it as the only {role} of this machine \
             (--name {name}, without NAME), or give it another name",
            place.service(),
            reasons.join(", ")
        )));
    }

    /// The program that the unit starts: the package's, or this one.
    fn program(
        &self,
        packaged: Option<&Path>,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<Program> {
        if let Some(unit) = packaged {
            let text = std::fs::read_to_string(unit).map_err(Failure::unavailable)?;
            let path = unit::values(&text, "ExecStart").next().unwrap_or(PACKAGED);
            let program = Program::try_new(Path::new(path)).map_err(Failure::configuration)?;
            if let Err(error) = program::check(program.path(), &text) {
                self.say_or_refuse(&error, problems);
            }
            return Ok(program);
        }
        match program::find(unit_templates::unit(&self.place)) {
            Ok(program) => Ok(program),
            Err(error) => {
                self.say_or_refuse(&error, problems);
                Program::try_new(program::recommended()).map_err(Failure::configuration)
            }
        }
    }

    /// The program cannot run where it lies; a dry run goes on all the same.
    fn say_or_refuse(&self, error: &program::Error, problems: &mut Vec<Problem>) {
        let text = chain(error).to_string();
        if self.unit.steps.dry_run {
            say(&format!("It could not be installed from here: {text}"));
        } else {
            problems.push(Problem::new(text));
        }
    }
}

/// What the service will see: by its `unit`, and by the drop-ins in the folder `drop_ins` once
/// `changes` are made.
fn sandbox(unit: &str, drop_ins: &Path, changes: &[Change]) -> Sandbox {
    let mut texts = existing::drop_ins(drop_ins);
    let changed = changes
        .iter()
        .filter(|change| change.path().parent() == Some(drop_ins));
    for change in changed {
        let name = change.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        match change.text() {
            Some(text) => texts.insert(name, text.to_owned()),
            None => texts.remove(&name),
        };
    }
    let texts = texts.values().map(String::as_str);
    Sandbox::of(std::iter::once(unit).chain(texts))
}

/// The administrator's drop-ins for an instance, which its successor needs too; those that `to` has
/// already stay.
fn moved(from: &[std::path::PathBuf], to: &Path) -> anyhow::Result<Vec<Change>> {
    let mut texts = BTreeMap::new();
    for folder in from {
        texts.extend(existing::drop_ins(folder));
    }
    let mut changes = Vec::new();
    for (name, text) in texts {
        let path = to.join(&name);
        if !OWN_DROP_INS.contains(&name.as_str()) && !path.exists() {
            let text = unit_templates::with_specifier(&text, "%N");
            changes.push(Change::of(path, Some(text))?);
        }
    }
    Ok(changes)
}

/// The removal of the rule for logrotate that belongs to a unit of the deployed program.
pub(crate) fn stale_rotation(there: &Existing, place: &Place) -> anyhow::Result<Option<Change>> {
    let Existing::Deployed(unit) = there else {
        return Ok(None);
    };
    let Some(rule) = rotation::deployed(Path::new("/"), place, unit) else {
        return Ok(None);
    };
    say(&format!(
        "{} is for {}, to which only the deployed program's unit logs: the rule is removed, and \
         the log stays.",
        rule.path.display(),
        rule.log
    ));
    Ok(Some(Change::of(rule.path, None)?))
}

/// What becomes of the instance, and of the template.
fn retired(found: Found) -> anyhow::Result<Retired> {
    let mut removals = Vec::new();
    if let Some(instance) = &found.instance {
        let folder = Path::new(UNITS).join(format!("{instance}.d"));
        for name in existing::drop_ins(&folder).into_keys() {
            removals.push(Change::of(folder.join(name), None)?);
        }
    }
    removals.extend(found.template);
    Ok(Retired {
        unit: found.instance,
        removals,
    })
}

/// Why the unit that is there is not replaced.
pub(crate) fn refusal(there: &Existing, place: &Place, path: &Path) -> Option<Problem> {
    let path = path.display();
    let text = match there {
        Existing::Absent | Existing::Ours(_) | Existing::Deployed(_) => return None,
        Existing::First(_) => legacy::first_unit(&path.to_string()),
        Existing::OtherRole(role) => format!(
            "{path} is that of a {role} with the same name: uninstall that one, or give this one \
             another name"
        ),
        Existing::Masked => format!("{path} is masked; run: systemctl unmask {}", place.short()),
        Existing::Foreign if place.name().is_none() => {
            format!(
                "{path} was not written by this installer: move it away, or install under a NAME"
            )
        }
        Existing::Foreign => format!(
            "{path} was not written by this installer: move it away, or give this {} another name",
            place.role()
        ),
    };
    Some(Problem::new(text))
}
