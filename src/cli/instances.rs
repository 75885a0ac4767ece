//! Instances of the templates from which named gateways and relays ran before each had a unit of
//! its own, and which packages still ship for use by hand.

use std::path::Path;

use super::exit::Failure;
use super::service;
use crate::host::systemd::Systemd;
use crate::install::existing::{self, Existing};
use crate::install::place::{Place, UNITS};
use crate::install::plan::Change;

/// The instance with the name of `place`, if it runs, starts at boot, or has drop-ins.
pub(super) async fn installed(systemd: &Systemd, place: &Place) -> anyhow::Result<Option<String>> {
    let Some(instance) = place.instance() else {
        return Ok(None);
    };
    let state = systemd.show(&instance).await?;
    let has_drop_ins = Path::new(UNITS).join(format!("{instance}.d")).is_dir();
    let is_installed = state.is_in_use() || has_drop_ins || service::is_enabled(&instance);
    Ok(is_installed.then_some(instance))
}

/// The unit that is `place` at present: the instance as long as that runs and the service does not.
pub(super) async fn current(systemd: &Systemd, place: &Place) -> anyhow::Result<String> {
    let service = place.service();
    let Some(instance) = place.instance() else {
        return Ok(service);
    };
    let runs = |pid: u32| pid != 0;
    let is_instance = !runs(systemd.show(&service).await?.main_pid)
        && runs(systemd.show(&instance).await?.main_pid);
    Ok(if is_instance { instance } else { service })
}

/// The removal of the template that an earlier installer wrote, and the services for which it must
/// stay.
pub(super) async fn template(
    systemd: &Systemd,
    place: &Place,
) -> anyhow::Result<Option<(Change, Vec<String>)>> {
    let Some(template) = place.template() else {
        return Ok(None);
    };
    let path = Path::new(UNITS).join(template);
    let there = existing::load(&path, place).map_err(Failure::unavailable)?;
    if !matches!(there, Existing::Ours(_)) {
        return Ok(None);
    }
    let removal = Change::of(path, None)?;
    Ok(Some((removal, others(systemd, place).await?)))
}

/// Other instances: running, enabled, or with files of their own.
async fn others(systemd: &Systemd, place: &Place) -> anyhow::Result<Vec<String>> {
    let mut others = systemd.running(&place.instances()).await?;
    let prefix = format!("infisical-{}@", place.role());
    let enabled = names_in(&service::wants());
    others.extend(enabled.into_iter().filter(|name| {
        name.strip_prefix(&prefix)
            .is_some_and(|rest| rest.ends_with(".service"))
    }));
    let configuration = place.configuration();
    let configurations = configuration.parent().map(names_in).unwrap_or_default();
    for (instance, service) in configurations
        .iter()
        .filter_map(|name| place.instance_of(name))
    {
        // With a unit of its own, it needs no template.
        if !Path::new(UNITS).join(service).exists() {
            others.push(instance);
        }
    }
    let drop_ins = names_in(Path::new(UNITS));
    let drop_ins = drop_ins.iter().filter(|name| name.ends_with(".d"));
    let drop_ins = drop_ins.filter_map(|name| place.instance_of(name));
    others.extend(drop_ins.map(|(instance, _)| instance));
    others.sort();
    others.dedup();
    others.retain(|name| Some(name) != place.instance().as_ref());
    Ok(others)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(name).collect()
}
