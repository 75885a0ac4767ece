//! The successor's side of a hand-over.

use tokio::sync::{mpsc, oneshot};

use super::units;
use crate::cli::exit::Failure;
use crate::config::env::Environment;
use crate::gateway::connection::handover::{PredecessorLink, SuccessorEvent, predecessor};
use crate::host::handover::{Answer, Predecessor, Report};
use crate::host::notify;
use crate::{event, events};

/// How this process gets its service: at its start, or from the process before.
pub(crate) enum InitialCharge {
    /// It has the service.
    Own,
    /// It is a successor, which must not tell the service manager anything yet.
    Successor {
        predecessor: Predecessor,
        /// The other end is the gateway.
        events: mpsc::Receiver<SuccessorEvent>,
    },
}

impl InitialCharge {
    /// As the environment says; with the gateway's end. Must be called inside the runtime.
    pub(crate) fn of(environment: &Environment) -> anyhow::Result<(Self, Option<PredecessorLink>)> {
        if environment.successor.is_none() {
            return Ok((Self::Own, None));
        }
        notify::mute(true);
        let predecessor_end = Predecessor::connect().map_err(Failure::unavailable)?;
        let (link, events) = predecessor();
        let charge = Self::Successor {
            predecessor: predecessor_end,
            events,
        };
        Ok((charge, Some(link)))
    }

    /// Waits until this process has the service.
    ///
    /// # Errors
    /// The process before ended, or gave this one up.
    pub(crate) async fn wait(self) -> anyhow::Result<()> {
        let Self::Successor {
            mut predecessor,
            mut events,
        } = self
        else {
            return Ok(());
        };
        let started = Report::Started {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            units: units(),
        };
        let lost = Failure::unavailable;
        predecessor.report(&started).await.map_err(lost)?;
        let mut released: Option<oneshot::Sender<()>> = None;
        loop {
            tokio::select! {
                answer = predecessor.answer() => match answer.map_err(lost)? {
                    Answer::Released => {
                        if let Some(released) = released.take() {
                            // The gateway may have ended.
                            let _ = released.send(());
                        }
                    }
                    Answer::TakeOver => {
                        notify::mute(false);
                        event!(events::TOOK_OVER_SERVICE);
                        return Ok(());
                    }
                },
                Some(event) = events.recv() => {
                    let report = match event {
                        SuccessorEvent::Serving => Report::Serving,
                        SuccessorEvent::TurnedAway(answer) => {
                            released = Some(answer);
                            Report::TurnedAway
                        }
                    };
                    predecessor.report(&report).await.map_err(lost)?;
                }
            }
        }
    }
}
