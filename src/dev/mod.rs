//! `infisical dev`: platform, relay, gateway and two sample services on this machine, to try things
//! out.
//!
//! The roles are processes of this program, exactly as they would run elsewhere; only the sample
//! services live in this process. Everything is on loopback, and everything ends with this process.
//! Nothing here knows how the roles work: it knows their command lines, their ready files and the
//! lines they log.

mod address;
mod check;
pub(crate) mod console;
pub(crate) mod directory;
pub(crate) mod process;
pub(crate) mod sample;
mod stack;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use console::Console;
use directory::Directory;
use sample::Sample;
use stack::{ClientAccess, GATEWAY, Stack};

use crate::api;
use crate::config::file;
use crate::config::settings::InvalidApiBase;
use crate::error::Reason;
use crate::install::place::shell_word;
use crate::names::{SSH_PORT, TLS_PORT};
use crate::scope::Scope;

/// Time for the sample services to end.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// The local port of the commands to try, where it is free.
const SUGGESTED_PORT: u16 = 8000;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Make the round trip and end, instead of running until stopped.
    pub(crate) check: bool,
    /// Where state, secrets and logs are kept; a temporary directory where absent.
    pub(crate) directory: Option<PathBuf>,
    /// How the person calls this program, for the commands to try.
    pub(crate) program: String,
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Directory(#[from] directory::Error),
    #[error(transparent)]
    Config(file::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error(transparent)]
    Sample(#[from] sample::Error),
    #[error(transparent)]
    Api(#[from] api::Error),
    #[error("the platform told no usable address")]
    Domain(#[source] InvalidApiBase),
    #[error("cannot read the administrator's token")]
    AdminToken(#[source] std::io::Error),
    #[error("no loopback address has both port {SSH_PORT} and port {TLS_PORT} free for the relay")]
    NoAddress,
    #[error("the page did not come through the gateway")]
    Page(#[source] reqwest::Error),
    #[error("the echo broke off")]
    Echo(#[source] std::io::Error),
    #[error("the echo came back changed: sent SHA-256 {sent}, received {received}")]
    Differs { sent: String, received: String },
    #[error("the {what} took longer than {} s", .after.as_secs())]
    Slow { what: &'static str, after: Duration },
    #[error("stopped before the check was done")]
    Stopped,
}

impl Error {
    /// What the exit code should say of it.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Directory(_) | Self::Config(_) => Reason::Configuration,
            Self::Domain(_) | Self::AdminToken(_) | Self::Differs { .. } => Reason::Software,
            Self::Process(_)
            | Self::Sample(_)
            | Self::Api(_)
            | Self::NoAddress
            | Self::Page(_)
            | Self::Echo(_)
            | Self::Slow { .. }
            | Self::Stopped => Reason::Unavailable,
        }
    }
}

/// Starts everything, says what runs (or makes the check), and stops everything when `scope` is
/// cancelled.
pub(crate) async fn run(
    settings: Settings,
    mut console: Console,
    scope: Scope,
) -> Result<(), Error> {
    let directory = match &settings.directory {
        Some(path) => Directory::kept(path)?,
        None => Directory::temporary()?,
    };
    let services = scope.child("sample services");
    let mut stack = Stack::new(directory);
    let work = work(&settings, &mut stack, &services, &mut console, &scope);
    let result = match scope.run(work).await {
        Some(result) => result,
        None if settings.check => Err(Error::Stopped),
        None => Ok(()),
    };
    // A child that died is the cause of what failed after it.
    let result = result.map_err(|error| stack.all_alive().err().unwrap_or(error));
    if result.is_err() {
        // The caller says why, in its last line.
        console.failed("something failed; stopping everything");
    }
    let since = Instant::now();
    stack.stop().await;
    services.cancel();
    services.finish(STOP_DEADLINE).await;
    console.done("stopped", "everything", since);
    result
}

async fn work(
    settings: &Settings,
    stack: &mut Stack,
    services: &Scope,
    console: &mut Console,
    scope: &Scope,
) -> Result<(), Error> {
    let since = Instant::now();
    let sample = sample::start(services)?;
    let Sample { page, echo } = sample;
    console.done(
        "services",
        format_args!("page on {page}, echo on {echo}"),
        since,
    );
    let access = stack.start(console).await?;
    if settings.check {
        return Box::pin(check::run(stack, &access, sample, console)).await;
    }
    explain(settings, stack, &access, sample, console);
    tokio::select! {
        error = stack.died() => Err(error),
        () = scope.cancelled() => Ok(()),
    }
}

fn explain(
    settings: &Settings,
    stack: &Stack,
    access: &ClientAccess,
    sample: Sample,
    console: &mut Console,
) {
    let local = suggested_address();
    let program = shell_word(&settings.program);
    let session = format!(
        "--domain {} --token-file {}",
        access.domain,
        shell_word(&access.token_file.display().to_string())
    );
    let connect = format!("{program} connect {GATEWAY}");
    let Sample { page, echo } = sample;
    console.heading("In another terminal, the page through relay and gateway:");
    console.command(format_args!(
        "{connect} --to {page} --listen {local} {session} &"
    ));
    console.command(format_args!("curl http://{local}/"));
    console.heading("And the echo on standard input and output, as for ssh -o ProxyCommand:");
    console.command(format_args!(
        "echo hello | {connect} --to {echo} --stdio {session}"
    ));
    console.heading("Logs:");
    for child in stack.children() {
        console.command(child.log().display());
    }
    let directory = stack.directory();
    let fate = if directory.is_temporary() {
        "removed"
    } else {
        "kept"
    };
    console.heading(format_args!(
        "Ctrl-C stops everything; {} is {fate} then.",
        directory.path().display()
    ));
}

/// A local address for the command to try.
fn suggested_address() -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], SUGGESTED_PORT));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    TcpListener::bind(address)
        .or_else(|_| TcpListener::bind(any))
        .and_then(|listener| listener.local_addr())
        .unwrap_or(address)
}

/// How the person called this program: the first word of the command line, or the program's own
/// file.
pub(crate) fn program_as_called() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.or_else(|| std::env::current_exe().ok());
    called.map_or_else(|| "infisical".to_owned(), |path| path.display().to_string())
}
