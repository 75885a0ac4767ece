//! `systemd uninstall`: an installed service is stopped, disabled and removed, and with `--purge`
//! all that it had.

use std::path::Path;

use clap::Args;

use super::exit::Failure;
use super::install::{refusal, stale_rotation, with_name_of};
use super::instances;
use super::service::{self, say};
use crate::config::warning::Problems;
use crate::host::systemd::Systemd;
use crate::install::existing::{self, Existing};
use crate::install::place::{CONFIGURATION, PACKAGED_UNITS, Place, Role, UNITS};
use crate::install::plan::Change;
use crate::install::private;
use crate::install::unit_templates::{MARK, OWN_DROP_INS};
use crate::scope::Scope;

/// Stop it, remove the unit, and keep the configuration
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// The one of several; without it the only one
    name: Option<String>,
    /// Remove its configuration too, with the access token, and its state
    #[arg(long)]
    purge: bool,
}

/// What of a service is on this machine.
#[derive(Default)]
struct Installed {
    /// Services to stop and disable.
    services: Vec<String>,
    files: Vec<Change>,
}

/// `… systemd uninstall`.
pub(crate) async fn run(role: Role, args: &UninstallArgs, scope: &Scope) -> anyhow::Result<()> {
    let place = service::place(role, args.name.as_deref())?;
    let systemd = service::administrator(&place.command("uninstall")).await?;
    let _lock = service::alone(scope).await?;
    let installed = find(&systemd, &place).await?;
    let service = place.service();
    if installed.services.is_empty() && !installed.files.iter().any(Change::is_due) {
        say(&format!("{service} is not installed."));
        if let Some(only) = with_name_of(&place) {
            let (role, short) = (place.role(), only.short());
            say(&format!(
                "The {role} of this name is installed as {short}; run the same command without NAME."
            ));
        }
    } else {
        service::remove(&systemd, &installed.services, &installed.files).await?;
        let kept = PACKAGED_UNITS
            .iter()
            .map(|folder| Path::new(folder).join(&service))
            .find(|path| path.is_file());
        match kept {
            Some(path) => say(&format!(
                "{service} is stopped and disabled; {} is a package's.",
                path.display()
            )),
            None => {
                let removed = installed.services.first().unwrap_or(&service);
                say(&format!("{removed} is stopped and removed."));
            }
        }
        let drop_ins = existing::drop_ins(&place.drop_ins());
        for name in drop_ins.keys() {
            let path = place.drop_ins().join(name);
            say(&format!(
                "{} stays; it was not written by this installer.",
                path.display()
            ));
        }
    }
    configuration(&place, args.purge)
}

/// The unit and its drop-ins, and those of an instance of the template.
async fn find(systemd: &Systemd, place: &Place) -> anyhow::Result<Installed> {
    let mut installed = Installed::default();
    let service = place.service();
    let path = Path::new(UNITS).join(&service);
    let there = existing::load(&path, place).map_err(Failure::unavailable)?;
    let instance = instances::installed(systemd, place).await?;
    let is_other = match &there {
        Existing::Foreign | Existing::Masked | Existing::OtherRole(_) => true,
        // A package's, of which only that of the only one can be this service.
        Existing::Absent => place.name().is_some(),
        Existing::Ours(_) | Existing::Deployed(_) | Existing::First(_) => false,
    };
    if !is_other {
        let state = systemd.show(&service).await?;
        if state.is_in_use() || service::is_enabled(&service) || there.text().is_some() {
            installed.services.push(service);
        }
        installed.files.extend(stale_rotation(&there, place)?);
        if there.text().is_some() {
            installed.files.push(Change::of(path, None)?);
        }
    } else if instance.is_none()
        && let Some(problem) = refusal(&there, place, &path)
    {
        return Err(Failure::configuration(Problems(vec![problem])));
    }
    installed
        .files
        .extend(own_drop_ins(&place.drop_ins(), is_other)?);
    if let Some(unit) = &instance {
        let folder = Path::new(UNITS).join(format!("{unit}.d"));
        installed.files.extend(own_drop_ins(&folder, false)?);
    }
    installed.services.extend(instance);
    match instances::template(systemd, place).await? {
        Some((removal, others)) if others.is_empty() => installed.files.push(removal),
        Some((removal, others)) => say(&format!(
            "{} stays, for {}",
            removal.path().display(),
            others.join(", ")
        )),
        None => {}
    }
    Ok(installed)
}

/// The removal of the drop-ins in `folder` that the installer writes; with `of_other`, of those
/// that say so.
fn own_drop_ins(folder: &Path, of_other: bool) -> anyhow::Result<Vec<Change>> {
    let found = existing::drop_ins(folder);
    let mut changes = Vec::new();
    for name in OWN_DROP_INS {
        let text = found.get(name);
        if text.is_some_and(|text| !of_other || text.starts_with(MARK)) {
            changes.push(Change::of(folder.join(name), None)?);
        }
    }
    Ok(changes)
}

/// Keeps the configuration, or removes it and what the service kept.
fn configuration(place: &Place, purge: bool) -> anyhow::Result<()> {
    let path = place.configuration();
    if !purge {
        if path.exists() {
            say(&format!(
                "Its configuration stays: {} (--purge removes it)",
                path.display()
            ));
        }
        return Ok(());
    }
    let mut paths = private::leftovers(&path, true);
    if let Some(environment) = place.deployed_environment() {
        paths.extend(private::leftovers(&environment, true));
        paths.push(environment);
    }
    paths.push(path);
    paths.extend(place.state());
    for path in paths {
        if let Some(unit) = existing::other_reader(Path::new("/"), &place.service(), &path) {
            say(&format!("{} stays; {unit} reads it.", path.display()));
            continue;
        }
        service::purge(&path)?;
    }
    let file = place.configuration();
    for directory in file
        .ancestors()
        .skip(1)
        .filter(|d| d.starts_with(CONFIGURATION))
    {
        // The one who has something in it keeps it.
        let _ = std::fs::remove_dir(directory);
    }
    Ok(())
}
