//! The side of the process that serves: starts a successor on request, and hands over to it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::units;
use crate::agent::status::Reporter;
use crate::agent::status::condition::{NOT_UPGRADED, RESTART_NEEDED};
use crate::cli::exit::Failure;
use crate::cli::front::Front;
use crate::error::chain;
use crate::gateway::connection::handover::{LIMIT, SuccessionControl};
use crate::host::handover::{self, Answer, Report, Successor};
use crate::host::notify;
use crate::host::signals::HandOverRequests;
use crate::{event, events};

/// How long sessions may go on before a tunnel is closed because its relay admits no second one;
/// new ones begin meanwhile.
const SESSIONS: Duration = Duration::from_secs(10);
/// How often their number is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Why there was no hand-over.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "this process is the first of its container or machine, which ends with it; start another container"
    )]
    FirstProcess,
    #[error(
        "no service manager could be notified of the new main process; start the program again"
    )]
    NoManager,
    #[error("this process ends with the one that started it")]
    HasParent,
    #[error("the new program cannot be executed from here; restart the service")]
    NotExecutable(#[source] handover::Error),
    #[error("the new version comes with other settings of its unit, which a restart applies")]
    OtherUnits,
    #[error(transparent)]
    Successor(#[from] handover::Error),
    #[error("the new process failed: {0}")]
    Failed(String),
    #[error("the new process had no tunnel after {} s", LIMIT.as_secs())]
    Late,
}

impl Error {
    /// True if another attempt would end in the same way.
    fn needs_restart(&self) -> bool {
        match self {
            Self::FirstProcess
            | Self::NoManager
            | Self::HasParent
            | Self::NotExecutable(_)
            | Self::OtherUnits => true,
            Self::Successor(_) | Self::Failed(_) | Self::Late => false,
        }
    }
}

/// Everything that handing over takes.
pub(crate) struct Handing {
    requests: HandOverRequests,
    /// Where the program lies.
    program: PathBuf,
    /// The other end is the gateway.
    control: SuccessionControl,
    ends_with_parent: bool,
}

impl Handing {
    /// Catches requests from now on. Must be called inside the runtime.
    pub(crate) fn new(control: SuccessionControl, ends_with_parent: bool) -> anyhow::Result<Self> {
        Ok(Self {
            requests: HandOverRequests::catch().map_err(Failure::unavailable)?,
            program: handover::program().map_err(Failure::unavailable)?,
            control,
            ends_with_parent,
        })
    }

    /// Hands over at the first request at which that succeeds; then the gateway ends by itself.
    pub(crate) async fn run(mut self, reporter: &Reporter, front: &Front) {
        loop {
            self.requests.next().await;
            for condition in [&NOT_UPGRADED, &RESTART_NEEDED] {
                reporter.clear(condition);
            }
            event!(events::HAND_OVER_STARTED);
            let error = match Box::pin(self.hand_over(reporter, front)).await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.control.failed();
            let (needs_restart, error) = (error.needs_restart(), chain(&error).to_string());
            let condition = if needs_restart {
                &RESTART_NEEDED
            } else {
                &NOT_UPGRADED
            };
            reporter.failed(condition, &error);
            event!(events::NOT_HANDED_OVER, error);
        }
    }

    async fn hand_over(&mut self, reporter: &Reporter, front: &Front) -> Result<(), Error> {
        if std::process::id() == 1 {
            return Err(Error::FirstProcess);
        }
        if self.ends_with_parent {
            return Err(Error::HasParent);
        }
        if !notify::has_manager() {
            return Err(Error::NoManager);
        }
        let started = Successor::start(self.program.clone()).await;
        let mut successor = started.map_err(|error| match error {
            handover::Error::Execute { .. } | handover::Error::Start { .. } => {
                Error::NotExecutable(error)
            }
            other => Error::Successor(other),
        })?;
        let connecting = timeout(LIMIT, self.connected(&mut successor, reporter));
        let (pid, version) = connecting.await.map_err(|_| Error::Late)??;
        // From here on there is no way back: the relay has the successor's tunnel.
        front.leave().await;
        notify::main_pid(pid);
        notify::mute(true);
        let told = successor.tell(Answer::TakeOver).await;
        self.control.complete();
        event!(
            events::HANDED_OVER,
            successor_pid = pid,
            successor_version = version
        );
        if let Err(error) = told {
            // The manager knows that it is the main process, and starts the service again.
            tracing::error!(error = %chain(&error), "the successor ended after it was up");
        }
        Ok(())
    }

    /// Waits until the successor serves; gives its process and its version.
    async fn connected(
        &mut self,
        successor: &mut Successor,
        reporter: &Reporter,
    ) -> Result<(u32, String), Error> {
        let mut process = None;
        loop {
            match successor.report().await? {
                Report::Started {
                    pid,
                    version,
                    units: theirs,
                } => {
                    if theirs != units() {
                        return Err(Error::OtherUnits);
                    }
                    self.control.started();
                    process = Some((pid, version));
                }
                Report::TurnedAway => {
                    tracing::info!(
                        "the relay admits no second connection; closing this one for the successor"
                    );
                    // Not longer than sessions may take at a stop.
                    let _ = timeout(SESSIONS, idle(reporter)).await;
                    self.control.release().await;
                    successor.tell(Answer::Released).await?;
                }
                Report::Failed(why) => return Err(Error::Failed(why)),
                Report::Serving => {
                    if let Some(process) = process.take() {
                        return Ok(process);
                    }
                }
            }
        }
    }
}

/// Waits until no session is open.
async fn idle(reporter: &Reporter) {
    while reporter.sessions() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}
