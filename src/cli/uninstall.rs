//! `systemd uninstall`: an installed service is stopped, disabled and removed, and with `--purge` all that it had.

use std::path::Path;

use clap::Args;

use super::exit::Failure;
use super::install::refusal;
use super::service::{self, say};
use crate::config::remark::Problems;
use crate::host::systemd::Systemd;
use crate::install::existing::{self, Existing};
use crate::install::place::{CONFIGURATION, PACKAGED_UNITS, Place, Role, UNITS};
use crate::install::plan::{self, Change};
use crate::install::private;
use crate::install::shipped::{LOG_DROP_IN, PORT_DROP_IN, USER_DROP_IN};
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

/// `… systemd uninstall`.
pub(crate) async fn run(role: Role, args: &UninstallArgs, scope: &Scope) -> anyhow::Result<()> {
    let place = service::place(role, args.name.as_deref())?;
    let systemd = service::administrator(&place.command("uninstall")).await?;
    let _lock = service::alone(scope).await?;
    let service = place.service();
    let units = Path::new(UNITS);
    let mut services = vec![service.clone()];
    let mut files = Vec::new();
    if let Some(name) = place.deployed_unit_file() {
        let path = units.join(&name);
        let there = existing::load(&path, &place).map_err(Failure::unavailable)?;
        if there.text().is_some() {
            files.push(Change::of(path, None)?);
            services.push(name);
        }
    }
    for name in [USER_DROP_IN, LOG_DROP_IN, PORT_DROP_IN] {
        files.push(Change::of(place.drop_ins().join(name), None)?);
    }
    let others = others(&systemd, &place).await?;
    if others.is_empty() {
        let path = units.join(place.unit_file());
        let there = existing::load(&path, &place).map_err(Failure::unavailable)?;
        if matches!(there, Existing::Foreign | Existing::Masked) {
            let problem = refusal(&there, &place, &path);
            return Err(Failure::configuration(Problems(
                problem.into_iter().collect(),
            )));
        }
        if there.text().is_some() {
            files.push(Change::of(path, None)?);
        }
    } else {
        say(&format!(
            "{} stays, for {}",
            place.unit_file(),
            others.join(", ")
        ));
    }
    let state = systemd.show(&service).await?;
    let enabled = service::is_enabled(&service);
    let runs = state.is_up() || state.active == "activating" || state.has_failed();
    if !runs && !enabled && !files.iter().any(Change::is_due) && services.len() == 1 {
        say(&format!("{service} is not installed."));
    } else {
        for service in &services {
            // A unit whose file is gone already cannot be disabled, and need not be.
            let _ = systemd.act("stop", service).await;
            let _ = systemd.act("disable", service).await;
        }
        for change in files.iter().filter(|change| change.is_due()) {
            change.make()?;
            say(&change.to_string());
        }
        systemd.reload_units().await?;
        for service in &services {
            // Nothing to reset is no failure.
            let _ = systemd.act("reset-failed", service).await;
        }
        let kept = PACKAGED_UNITS
            .iter()
            .map(|folder| Path::new(folder).join(place.unit_file()))
            .find(|path| path.is_file());
        match kept {
            Some(path) => say(&format!(
                "{service} is stopped and disabled; {} is a package's.",
                path.display()
            )),
            None => say(&format!("{service} is stopped and removed.")),
        }
    }
    configuration(&place, args.purge)
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
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        removed.map_err(|e| Failure::unavailable(plan::Error::new("remove", &path, e)))?;
        say(&format!("- {}", path.display()));
    }
    let file = place.configuration();
    for directory in file
        .ancestors()
        .skip(1)
        .filter(|d| d.starts_with(CONFIGURATION))
    {
        // Whoever has something in it keeps it.
        let _ = std::fs::remove_dir(directory);
    }
    Ok(())
}

/// Other services of the same template: loaded, enabled, or with files of their own.
async fn others(systemd: &Systemd, place: &Place) -> anyhow::Result<Vec<String>> {
    if place.instance().is_none() {
        return Ok(Vec::new());
    }
    let mut others = systemd.loaded(&place.pattern()).await?;
    let template = place.unit_file();
    let (prefix, suffix) = template.split_once('@').unwrap_or((&template, ""));
    for name in names_in(&service::wants()) {
        if name.starts_with(&format!("{prefix}@")) && name.ends_with(suffix) {
            others.push(name);
        }
    }
    // Neither loaded nor enabled is a service that is started by hand.
    let configuration = place.configuration();
    let configurations = configuration.parent().map(names_in).unwrap_or_default();
    let drop_ins = names_in(Path::new(UNITS));
    let drop_ins = drop_ins.iter().filter(|name| name.ends_with(".d"));
    let files = configurations.iter().chain(drop_ins);
    others.extend(files.filter_map(|name| place.instance_of(name)));
    others.sort();
    others.dedup();
    others.retain(|name| *name != place.service());
    Ok(others)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(name).collect()
}
