//! What a person does with an installed service: start it and see what becomes of it, remove it, wait for it.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::exit::Failure;
use crate::error::Reason;
use crate::host::systemd::{State, Systemd};
use crate::install::existing;
use crate::install::online;
use crate::install::place::{CONFIGURATION, PACKAGED_UNITS, Place, Role, UNITS};
use crate::install::plan::{self, Change};
use crate::install::shipped::{LOG_DROP_IN, PORT_DROP_IN, USER_DROP_IN};
use crate::scope::Scope;

/// How long a start is watched. The unit's own limit is longer; a person who waits has seen enough by then.
const WATCH: Duration = Duration::from_secs(60);
/// How often the service manager is asked meanwhile.
const LOOK: Duration = Duration::from_millis(300);
/// Lines of the journal that are shown.
const LINES: usize = 5;

/// Stop it, remove the unit, and keep the configuration
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// The one of several; without it the only one
    name: Option<String>,
    /// Remove its configuration too, with the access token, and its state
    #[arg(long)]
    purge: bool,
}

/// Wait until the tunnel of an installed gateway is up
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The one of several; without it the only one
    name: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

/// Tells the person at the terminal. If that is gone, there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Where a role of this name is.
pub(crate) fn place(role: Role, name: Option<&str>) -> anyhow::Result<Place> {
    Place::try_new(role, name).map_err(Failure::configuration)
}

/// The service manager, for an administrator.
pub(crate) async fn administrator(command: &str) -> anyhow::Result<Systemd> {
    if !nix::unistd::geteuid().is_root() {
        let text = format!("only root may do this; run: sudo {command} …");
        return Err(Failure::new(Reason::Permission, anyhow::Error::msg(text)).into());
    }
    Systemd::find().await.map_err(Failure::unavailable)
}

/// The directories of the configuration file, which nobody but root may look into.
pub(crate) fn private_directories(file: &Path) -> anyhow::Result<()> {
    let mut above: Vec<&Path> = file.ancestors().skip(1).collect();
    above.reverse();
    for directory in above
        .into_iter()
        .filter(|path| path.starts_with(CONFIGURATION))
    {
        let made = match std::fs::metadata(directory) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => continue,
            Ok(_) => {
                say(&format!("~ {} (mode 0700)", directory.display()));
                std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700))
            }
            Err(_) => std::fs::DirBuilder::new().mode(0o700).create(directory),
        };
        made.map_err(|e| Failure::unavailable(plan::Error::new("prepare", directory, e)))?;
    }
    Ok(())
}

/// Starts the service, or restarts it if what it uses has changed, and tells what became of it.
pub(crate) async fn start(
    systemd: &Systemd,
    place: &Place,
    changed: bool,
    scope: &Scope,
) -> anyhow::Result<()> {
    let service = place.service();
    let before = systemd.show(&service).await?;
    let verb = match (changed, before.is_up()) {
        (true, true) => "restart",
        (true, false) | (false, false) => "start",
        (false, true) => {
            say(&format!("{service} runs already, and nothing has changed."));
            report(systemd, place, &before).await;
            return Ok(());
        }
    };
    // One that fails again and again must not wait for its next turn.
    let verb = if before.has_failed() { "restart" } else { verb };
    say(&format!(
        "{} {service}",
        if verb == "start" {
            "Starting"
        } else {
            "Restarting"
        }
    ));
    systemd.begin(verb, &service).await?;
    let watched = scope.run(watch(systemd, &service, &before)).await;
    let Some(state) = watched.transpose()? else {
        return Ok(());
    };
    report(systemd, place, &state).await;
    if state.is_up() {
        return Ok(());
    }
    let (reason, text) = failure(&state, place);
    Err(Failure::new(reason, anyhow::Error::msg(text)).into())
}

/// Looks at the service until it is up, has failed, or a person has waited long enough.
async fn watch(systemd: &Systemd, service: &str, before: &State) -> anyhow::Result<State> {
    let end = Instant::now() + WATCH;
    let mut told = String::new();
    loop {
        let state = systemd.show(service).await?;
        let is_new = state.invocation != before.invocation;
        if (is_new && (state.is_up() || state.has_failed())) || Instant::now() >= end {
            return Ok(state);
        }
        if is_new && !state.status.is_empty() && state.status != told {
            told.clone_from(&state.status);
            say(&format!("  {told}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn report(systemd: &Systemd, place: &Place, state: &State) {
    let service = place.service();
    let status = if state.status.is_empty() {
        String::new()
    } else {
        format!(": {}", state.status)
    };
    say(&format!(
        "\n{service} is {} ({}){status}",
        state.active, state.sub
    ));
    for line in systemd.last_lines(&service, state, LINES).await {
        say(&format!("  {line}"));
    }
    let short = place.short();
    say(&format!(
        "\nMore of this: systemctl status {short}\n              journalctl -u {short}"
    ));
}

/// What to say of a service that is not up.
fn failure(state: &State, place: &Place) -> (Reason, String) {
    let service = place.service();
    if !state.has_failed() {
        let text = format!(
            "{service} is still {} after {} s; it goes on by itself",
            state.active,
            WATCH.as_secs()
        );
        return (Reason::Unavailable, text);
    }
    let configuration = place.configuration();
    let configuration = configuration.display();
    let (reason, advice) = match state.exit_status {
        64 | 78 => (
            Reason::Configuration,
            format!("correct {configuration}, or run the same command with other values"),
        ),
        77 => (
            Reason::Permission,
            "the platform refuses its identity: give it a new token".to_owned(),
        ),
        // systemd.exec(5), "Process exit codes": what happens before the program begins.
        203 => (
            Reason::Unavailable,
            "the program could not be executed inside the sandbox".to_owned(),
        ),
        226 => (
            Reason::Unavailable,
            "the sandbox could not be made; is this a container that forbids mounts?".to_owned(),
        ),
        243 => (
            Reason::Unavailable,
            format!("{configuration} could not be handed over"),
        ),
        _ => (
            Reason::Unavailable,
            "the lines above say why; it is started again by itself".to_owned(),
        ),
    };
    let text = format!(
        "{service} failed ({}, {}): {advice}",
        state.result, state.exit_status
    );
    (reason, text)
}

/// `… systemd uninstall`.
pub(crate) async fn uninstall(role: Role, args: &UninstallArgs) -> anyhow::Result<()> {
    let place = place(role, args.name.as_deref())?;
    let systemd = administrator(&place.command("uninstall")).await?;
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
    let enabled = is_enabled(&service);
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
    for path in [path].into_iter().chain(place.state()) {
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

/// Other services of the same template, loaded or enabled.
async fn others(systemd: &Systemd, place: &Place) -> anyhow::Result<Vec<String>> {
    if place.instance().is_none() {
        return Ok(Vec::new());
    }
    let mut others = systemd.loaded(&place.pattern()).await?;
    let template = place.unit_file();
    let (prefix, suffix) = template.split_once('@').unwrap_or((&template, ""));
    for entry in std::fs::read_dir(wants()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{prefix}@")) && name.ends_with(suffix) {
            others.push(name);
        }
    }
    others.sort();
    others.dedup();
    others.retain(|name| *name != place.service());
    Ok(others)
}

fn wants() -> std::path::PathBuf {
    Path::new(UNITS).join("multi-user.target.wants")
}

/// True if the service starts at boot.
pub(crate) fn is_enabled(service: &str) -> bool {
    std::fs::symlink_metadata(wants().join(service)).is_ok()
}

/// `infisical gateway wait-online`.
pub(crate) async fn wait_online(args: &WaitArgs, scope: &Scope) -> anyhow::Result<()> {
    let place = place(Role::Gateway, args.name.as_deref())?;
    let limit = Duration::from_secs(args.timeout);
    match scope.run(online::wait(&place.online_file(), limit)).await {
        Some(true) => return Ok(()),
        Some(false) => {}
        None => return Err(Failure::unavailable(anyhow::Error::msg("interrupted"))),
    }
    let service = place.service();
    let told = match Systemd::find().await {
        Ok(systemd) => systemd.show(&service).await.ok(),
        Err(_) => None,
    };
    let state = told.map_or_else(String::new, |state| {
        let status = Some(state.status).filter(|status| !status.is_empty());
        let status = status.map_or_else(String::new, |status| format!(": {status}"));
        format!("; {service} is {} ({}){status}", state.active, state.sub)
    });
    let text = format!("the tunnel is not up after {} s{state}", args.timeout);
    Err(Failure::unavailable(anyhow::Error::msg(text)))
}
