//! `infisical gateway status`, `sessions` and `healthcheck`, and the same of relays: what the roles
//! that run here serve on their status sockets.

mod sockets;
mod text;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::exit::{Code, Failure};
use super::global::Global;
use super::print;
use crate::agent::status::document::{Document, Health};
use crate::agent::status::socket;
use crate::install::place::Role;
use crate::scope::Scope;
pub(super) use text::Colours;
use text::render;

pub(crate) use sockets::of_this_process;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);
/// To the first line of a terminal.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line of a terminal, and the lines below it.
const CLEAR: [&str; 2] = ["\x1b[K", "\x1b[J"];

/// The arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 healthy, 1 degraded (it serves, and something is wrong), 2 down, 3 not running; of several, the worst.

Examples:
  sudo infisical gateway status
  sudo infisical gateway status edge-1 --json
  sudo infisical relay status --watch")]
pub(crate) struct StatusArgs {
    /// The one of several; without it all that run here
    name: Option<String>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
    /// Show it again each second until interrupted
    #[arg(long)]
    watch: bool,
}

/// The arguments of `healthcheck`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 healthy, 1 degraded (it serves, and something is wrong), 2 down, 3 not running.")]
pub(crate) struct HealthcheckArgs {
    /// The one of several; without it all that run here
    name: Option<String>,
}

/// The arguments of `sessions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0, or 2 if a gateway does not answer, or 3 if none runs.

Examples:
  sudo infisical gateway sessions
  sudo infisical gateway sessions edge-1 --json")]
pub(crate) struct SessionsArgs {
    /// The gateway of several; without it all that run here
    name: Option<String>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
}

/// A role that runs here, or why it cannot be asked.
pub(super) type Found = Result<Document, (PathBuf, io::Error)>;

/// `infisical gateway status`, and of a relay.
pub(super) async fn status(
    role: Role,
    args: &StatusArgs,
    global: &Global,
    scope: &Scope,
) -> anyhow::Result<()> {
    let redraws = io::stdout().is_terminal() && global.environment.can_draw();
    let colours = Colours::of_output(&global.environment);
    loop {
        let found = find(role, args.name.as_deref(), global).await;
        let code = code(&found);
        let shown = if args.json {
            as_json(role, &found)
        } else {
            as_text("status", role, args.name.as_deref(), &found, colours)
        };
        if args.watch && redraws && !args.json {
            print::print(&redrawn(&shown))?;
        } else {
            print::print(&shown)?;
        }
        if !args.watch {
            return end(code);
        }
        if scope.run(tokio::time::sleep(LOOK)).await.is_none() {
            return Ok(());
        }
    }
}

/// `text` in the place of what a terminal shows, in one write: it does not flicker.
fn redrawn(text: &str) -> String {
    let [line, below] = CLEAR;
    format!("{HOME}{}{below}", text.replace('\n', &format!("{line}\n")))
}

/// `infisical gateway healthcheck`, and of a relay: nothing but the exit code.
pub(super) async fn healthcheck(
    role: Role,
    args: &HealthcheckArgs,
    global: &Global,
) -> anyhow::Result<()> {
    end(code(&find(role, args.name.as_deref(), global).await))
}

/// `infisical gateway sessions`.
pub(super) async fn sessions(args: &SessionsArgs, global: &Global) -> anyhow::Result<()> {
    let found = find(Role::Gateway, args.name.as_deref(), global).await;
    let open = found.iter().flatten().flat_map(|document| {
        let gateway = &document.origin.name;
        document.sessions.iter().map(move |open| (gateway, open))
    });
    if args.json {
        let open = open.map(|(gateway, open)| {
            let mut value = json!(open);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("gateway".to_owned(), json!(gateway));
            }
            value
        });
        let open: Vec<_> = open.collect();
        print::print(&print::json_object([("sessions", open.into())]))?;
    } else if found.iter().any(Result::is_ok) {
        let now = SystemTime::now();
        let rows = open.map(|(gateway, open)| (gateway, text::session_row(open, now)));
        // One gateway need not be named in every line.
        let is_one = found.len() == 1;
        let table = if is_one {
            print::table(text::SESSION_HEAD, rows.map(|(_, row)| row))
        } else {
            let [actor, target, address, age, sent, received, idle] = text::SESSION_HEAD;
            let head = ["GATEWAY", actor, target, address, age, sent, received, idle];
            let rows = rows.map(|(gateway, row)| {
                let [actor, target, address, age, sent, received, idle] = row;
                let gateway = gateway.clone();
                [gateway, actor, target, address, age, sent, received, idle]
            });
            print::table(head, rows)
        };
        print::print(&table)?;
    } else {
        let name = args.name.as_deref();
        let text = as_text("sessions", Role::Gateway, name, &found, Colours(false));
        print::print(&text)?;
    }
    // How the gateways are is another question.
    end(match found.as_slice() {
        [] => Code::NotRunning,
        found if found.iter().all(Result::is_ok) => Code::Success,
        _ => Code::Down,
    })
}

/// What runs here as `role`, under `name` if one is given.
pub(super) async fn find(role: Role, name: Option<&str>, global: &Global) -> Vec<Found> {
    let is_root = nix::unistd::geteuid().is_root();
    let mut found = Vec::new();
    for path in sockets::of_this_machine(role, is_root, &global.environment) {
        let document = socket::read(&path).await;
        match document {
            Ok(document) => {
                let is_wanted = name.is_none_or(|name| is_called(&document, &path, name));
                if is_wanted && document.origin.role == role.word() {
                    found.push(Ok(document));
                }
            }
            // One that has ended without removing its socket does not run.
            Err(error) if is_gone(&error) => {}
            Err(error) => found.push(Err((path, error))),
        }
    }
    // What may not be asked might be the one that is wanted, unless that was found.
    if name.is_some() && found.iter().any(Result::is_ok) {
        found.retain(Result::is_ok);
    }
    found
}

/// True if `name` is the name of the role, there or on the platform, or that of its service.
fn is_called(document: &Document, socket: &Path, name: &str) -> bool {
    let instance = socket.parent().and_then(Path::file_name);
    let instance = instance.and_then(|name| name.to_str()?.split_once('@'));
    document.origin.name == name
        || document.platform_name.as_deref() == Some(name)
        || instance.is_some_and(|(_, instance)| instance == name)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

/// The worst of what was found.
fn code(found: &[Found]) -> Code {
    let health = |found: &Found| match found {
        Ok(document) => document.health(),
        Err(_) => Health::Down,
    };
    match found.iter().map(health).max() {
        Some(Health::Healthy) => Code::Success,
        Some(Health::Degraded) => Code::Degraded,
        Some(Health::Down) => Code::Down,
        None => Code::NotRunning,
    }
}

/// Ends with `code`, whose meaning was printed.
fn end(code: Code) -> anyhow::Result<()> {
    match code {
        Code::Success => Ok(()),
        code => Err(Failure::of(code, anyhow::Error::msg("see above")).into()),
    }
}

pub(super) fn as_json(role: Role, found: &[Found]) -> String {
    let (key, documents) = (role.keys().folder, found.iter().flatten());
    let unreadable = found.iter().filter_map(|found| found.as_ref().err());
    let unreadable =
        unreadable.map(|(path, error)| json!({"socket": path, "error": error.to_string()}));
    print::json_object([
        (key, json!(documents.collect::<Vec<_>>())),
        ("unreadable", unreadable.collect::<Vec<_>>().into()),
    ])
}

/// What `command` shows of `found`.
fn as_text(
    command: &str,
    role: Role,
    name: Option<&str>,
    found: &[Found],
    colours: Colours,
) -> String {
    if found.is_empty() {
        let named = name.map_or_else(String::new, |name| format!(" called {name}"));
        return format!(
            "No {role}{named} runs here. Installed ones: systemctl list-units --all 'infisical-{role}*'\n"
        );
    }
    let shown = found.iter().map(|found| match found {
        Ok(document) => render(document, colours, print::width(), SystemTime::now()),
        Err((path, error)) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "The {role} of {} does not answer this user: only root and the user of the service may ask.\n\
             Run: sudo infisical {role} {command}\n",
            path.display()
        ),
        Err((path, error)) => format!("The {role} of {} does not answer: {error}\n", path.display()),
    });
    shown.collect::<Vec<_>>().join("\n")
}
