//! `infisical gateway upgrade`: has the main process of a service hand over to the program as its
//! file is now, and says what became of it.

use std::time::{Duration, SystemTime};

use clap::Args;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::exit::{Code, Failure};
use super::global::Global;
use super::service::{self, administrator, say};
use super::{instances, progress, status};
use crate::agent::status::condition::{NOT_UPGRADED, RESTART_NEEDED};
use crate::agent::status::document::{Document, State as RoleState, utc};
use crate::gateway::connection::handover::LIMIT;
use crate::host::signals::{self, HandOverRequests};
use crate::host::systemd::{State, Systemd};
use crate::install::place::Role;
use crate::scope::Scope;

/// How often the service is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// How much longer than the process itself the command waits.
const MARGIN: Duration = Duration::from_secs(10);

/// Have an installed gateway hand over to the program as it is on disk now
#[derive(Debug, Args)]
#[command(after_help = "\
A process of the new program makes a tunnel of its own while the one that runs serves on, and takes its place when it \
serves; sessions that are open have ten seconds to end. A deployed relay admits it only when the other one has closed \
its tunnel. If it does not come up, the one that runs serves on. Where that \
is not possible the service is restarted: the program cannot be executed inside the unit's sandbox, the new version \
comes with other settings of its unit, the version that runs is too old, or it has no tunnel.

Exit codes: 0 the new program serves, or the service does not run; 1 only with --no-restart, a restart is needed; 69 \
the new program did not come up.")]
pub(crate) struct UpgradeArgs {
    /// The one of several; without it the only one
    name: Option<String>,
    /// The service by the name of its unit
    #[arg(long, value_name = "UNIT", conflicts_with = "name")]
    unit: Option<String>,
    /// Do not restart the service where it cannot hand over
    #[arg(long)]
    no_restart: bool,
}

/// What became of a request.
enum Outcome {
    HandedOver { pid: u32 },
    RestartNeeded(String),
    Failed(String),
}

/// See the module.
pub(crate) async fn upgrade(
    args: &UpgradeArgs,
    global: &Global,
    scope: &Scope,
) -> anyhow::Result<()> {
    let systemd = administrator("infisical gateway upgrade").await?;
    let unit = match &args.unit {
        Some(unit) => unit.clone(),
        None => {
            let place = service::place(Role::Gateway, args.name.as_deref())?;
            instances::current(&systemd, &place).await?
        }
    };
    let before = systemd.show(&unit).await?;
    if before.main_pid == 0 {
        say(&format!(
            "{unit} does not run; its next start is of the program as it is now"
        ));
        return Ok(());
    }
    let asking = scope.run(hand_over(&systemd, &unit, &before, global));
    let text = format!("Waiting until {unit} is handed over");
    let Some(outcome) = Box::pin(progress::show(&text, asking)).await else {
        return Err(service::interrupted(&format!("{unit} goes on by itself")));
    };
    match outcome? {
        Outcome::HandedOver { pid } => {
            let old = before.main_pid;
            say(&format!(
                "{unit} was handed over from process {old} to process {pid}; open sessions of process {old} have ten \
                 seconds to end"
            ));
            Ok(())
        }
        Outcome::RestartNeeded(why) if args.no_restart => {
            say(&format!("{unit} must be restarted: {why}"));
            Err(Failure::of(Code::Degraded, anyhow::Error::msg(why)).into())
        }
        Outcome::RestartNeeded(why) => {
            say(&format!("{unit} cannot be handed over: {why}"));
            restart(&systemd, &unit, &before, scope).await
        }
        Outcome::Failed(why) => {
            let text = format!("{unit} was not handed over and serves on as before: {why}");
            Err(Failure::unavailable(anyhow::Error::msg(text)))
        }
    }
}

/// Asks the main process, and waits for what becomes of it.
async fn hand_over(
    systemd: &Systemd,
    unit: &str,
    before: &State,
    global: &Global,
) -> anyhow::Result<Outcome> {
    let pid = before.main_pid;
    if !signals::hands_over(pid) {
        let why = "its process is of a version that cannot hand over, or is no gateway";
        return Ok(Outcome::RestartNeeded(why.to_owned()));
    }
    if let Some(document) = document(pid, global).await
        && document.state != RoleState::Up
    {
        let why = "it has no tunnel, so a restart cuts no session";
        return Ok(Outcome::RestartNeeded(why.to_owned()));
    }
    // Times in the status are to the second.
    let asked = utc(SystemTime::now());
    systemd.signal(HandOverRequests::SIGNAL, unit).await?;
    let end = Instant::now() + LIMIT + MARGIN;
    while Instant::now() < end {
        // The process forgets the last refusal meanwhile.
        tokio::time::sleep(LOOK).await;
        let now = systemd.show(unit).await?;
        if now.main_pid != pid {
            // Another invocation is a start of its own: the process ended.
            return Ok(
                if now.invocation == before.invocation && now.main_pid != 0 {
                    Outcome::HandedOver { pid: now.main_pid }
                } else {
                    Outcome::Failed("its process ended meanwhile; its log says why".to_owned())
                },
            );
        }
        if let Some(document) = document(pid, global).await
            && let Some(outcome) = refusal(&document, asked)
        {
            return Ok(outcome);
        }
    }
    let why = format!("nothing came of it within {} s", (LIMIT + MARGIN).as_secs());
    Ok(Outcome::Failed(why))
}

/// What process `pid` says of itself.
async fn document(pid: u32, global: &Global) -> Option<Document> {
    let found = status::find(Role::Gateway, None, global).await;
    let mut documents = found.into_iter().filter_map(Result::ok);
    documents.find(|document| document.origin.pid == pid)
}

/// Why there was no hand-over since `asked`.
fn refusal(document: &Document, asked: OffsetDateTime) -> Option<Outcome> {
    let newest = |id: &str| {
        let mut conditions = document.conditions.iter();
        conditions.find(|condition| condition.id == id && condition.since >= asked)
    };
    let detail = |id| newest(id).map(|condition| condition.detail.clone());
    let restart = detail(RESTART_NEEDED.id).map(Outcome::RestartNeeded);
    restart.or_else(|| detail(NOT_UPGRADED.id).map(Outcome::Failed))
}

async fn restart(
    systemd: &Systemd,
    unit: &str,
    before: &State,
    scope: &Scope,
) -> anyhow::Result<()> {
    if before.stale {
        systemd.reload_units().await?;
    }
    say(&format!("Restarting {unit}"));
    let Some(state) = service::launch(systemd, unit, before, scope).await? else {
        return Err(service::interrupted(&format!("{unit} goes on by itself")));
    };
    if state.is_up() {
        say(&format!("{unit} was restarted"));
        return Ok(());
    }
    let text = format!(
        "{unit} is {} ({}) after its restart; to see why: journalctl -u '{unit}'",
        state.active, state.sub
    );
    Err(Failure::unavailable(anyhow::Error::msg(text)))
}
