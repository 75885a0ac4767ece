//! What a person does with an installed service: start it and see what becomes of it, wait for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::exit::Failure;
use super::instances;
use super::print;
use super::progress;
use crate::error::Reason;
use crate::host::systemd::{State, Systemd};
use crate::install::lock::{self, Lock};
use crate::install::online;
use crate::install::place::{Place, Role, UNITS};
use crate::install::plan::{self, Change};
use crate::scope::Scope;

/// How long a start is watched. The unit's own limit is longer; a person who waits has seen enough
/// by then.
pub(crate) const WATCH: Duration = Duration::from_secs(60);
/// How often the service manager is asked meanwhile.
const LOOK: Duration = Duration::from_millis(300);
/// Lines of the journal that are shown.
const LINES: usize = 5;
/// How long another installation is waited for: as long as one takes that finds neither platform
/// nor service.
const TURN: Duration = Duration::from_secs(150);

/// Wait until the tunnel of an installed gateway is up
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The one of several; without it the only one
    name: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

/// Have an installed gateway look at its tunnel at once, and try again at once if it has none
#[derive(Debug, Args)]
#[command(after_help = "\
A wait before the next attempt ends. A tunnel that is up is checked with a keepalive and replaced if it does not answer; its \
sessions are not touched otherwise. A gateway that chooses its relay looks for a better one. Without systemd, send the \
process SIGUSR2.")]
pub(crate) struct ReconnectArgs {
    /// The one of several; without it the only one
    name: Option<String>,
}

/// Tells the person at the terminal. Should that fail, the command goes on, and fails at its end.
pub(crate) fn say(text: &str) {
    print::line(text);
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

/// Waits until no one else installs or uninstalls here, and keeps others out until the lock is
/// dropped.
pub(crate) async fn alone(scope: &Scope) -> anyhow::Result<Lock> {
    let path = Path::new(lock::FILE);
    let end = Instant::now() + TURN;
    let mut told = false;
    loop {
        let taken = Lock::try_take(path);
        let taken = taken.map_err(|e| Failure::unavailable(plan::Error::new("lock", path, e)))?;
        if let Some(lock) = taken {
            return Ok(lock);
        }
        if !std::mem::replace(&mut told, true) {
            say("Another installation is under way; waiting for its end");
        }
        if Instant::now() >= end {
            let text = "another installation does not come to an end; nothing was changed";
            return Err(Failure::unavailable(anyhow::Error::msg(text)));
        }
        if scope.run(tokio::time::sleep(LOOK)).await.is_none() {
            return Err(interrupted("nothing was changed"));
        }
    }
}

/// The person has enough of it; `state` says how things are.
pub(crate) fn interrupted(state: &str) -> anyhow::Error {
    Failure::unavailable(anyhow::anyhow!("interrupted: {state}"))
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
    if before.is_up() && !changed {
        say(&format!("{service} runs already, and nothing has changed."));
        report(systemd, place, &before).await;
        return Ok(());
    }
    let told = match before.is_in_use() {
        true => "Restarting",
        false => "Starting",
    };
    say(&format!("{told} {service}"));
    let Some(state) = launch(systemd, &service, &before, scope).await? else {
        let short = place.short();
        let text = format!("{service} goes on by itself; to see how: systemctl status {short}");
        return Err(interrupted(&text));
    };
    report(systemd, place, &state).await;
    if state.is_up() {
        return Ok(());
    }
    let (reason, text) = failure(&state, place);
    Err(Failure::new(reason, anyhow::Error::msg(text)).into())
}

/// Starts the service, or restarts it if it is in use: what is on its way up was begun with what
/// was there before, and one that fails repeatedly must not wait for its next turn. Gives how it is
/// then; none if the person has interrupted.
pub(crate) async fn launch(
    systemd: &Systemd,
    service: &str,
    before: &State,
    scope: &Scope,
) -> anyhow::Result<Option<State>> {
    let verb = match before.is_in_use() {
        true => "restart",
        false => "start",
    };
    systemd.begin(verb, service).await?;
    let watching = scope.run(watch(systemd, service, before));
    let text = format!("Waiting until {service} is up");
    progress::show(&text, watching).await.transpose()
}

/// Stops and disables `services`, makes the changes that are due of `files`, and forgets failures.
pub(crate) async fn remove(
    systemd: &Systemd,
    services: &[String],
    files: &[Change],
) -> anyhow::Result<()> {
    for service in services {
        // A unit whose file is gone already cannot be disabled, and need not be.
        let text = format!("Waiting until {service} has stopped");
        let _ = progress::show(&text, systemd.act("stop", service)).await;
        let _ = systemd.act("disable", service).await;
    }
    make(files.iter().filter(|change| change.is_due()))?;
    systemd.reload_units().await?;
    for service in services {
        // Nothing to reset is no failure.
        let _ = systemd.act("reset-failed", service).await;
    }
    Ok(())
}

/// Makes `changes`, and says so.
pub(crate) fn make<'a>(changes: impl IntoIterator<Item = &'a Change>) -> anyhow::Result<()> {
    for change in changes {
        change.make()?;
        say(&change.to_string());
    }
    Ok(())
}

/// Removes what is at `path`, and says so.
pub(crate) fn purge(path: &Path) -> anyhow::Result<()> {
    if plan::purge(path).map_err(Failure::unavailable)? {
        say(&format!("- {}", path.display()));
    }
    Ok(())
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

/// Where the services that start at boot stand.
pub(crate) fn wants() -> PathBuf {
    Path::new(UNITS).join("multi-user.target.wants")
}

/// True if the service starts at boot.
pub(crate) fn is_enabled(service: &str) -> bool {
    std::fs::symlink_metadata(wants().join(service)).is_ok()
}

/// `infisical gateway reconnect`.
pub(crate) async fn reconnect(args: &ReconnectArgs) -> anyhow::Result<()> {
    let place = place(Role::Gateway, args.name.as_deref())?;
    let systemd = administrator("infisical gateway reconnect").await?;
    let service = instances::current(&systemd, &place).await?;
    let state = systemd.show(&service).await?;
    let short = place.short();
    if state.main_pid == 0 {
        let text = format!("{service} does not run; to start it: systemctl start {short}");
        return Err(Failure::unavailable(anyhow::Error::msg(text)));
    }
    systemd.signal("SIGUSR2", &service).await?;
    say(&format!(
        "{service} looks at its tunnel now; to see what comes of it: systemctl status '{service}'"
    ));
    Ok(())
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
    let told = match Systemd::find().await {
        Ok(systemd) => {
            let service = instances::current(&systemd, &place).await?;
            let state = systemd.show(&service).await.ok();
            state.map(|state| (service, state))
        }
        Err(_) => None,
    };
    let state = told.map_or_else(String::new, |(service, state)| {
        let status = Some(state.status).filter(|status| !status.is_empty());
        let status = status.map_or_else(String::new, |status| format!(": {status}"));
        format!("; {service} is {} ({}){status}", state.active, state.sub)
    });
    let text = format!("the tunnel is not up after {} s{state}", args.timeout);
    Err(Failure::unavailable(anyhow::Error::msg(text)))
}
