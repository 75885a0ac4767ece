//! SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process at once. SIGHUP: the role
//! reads its configuration again.

use std::io::IsTerminal as _;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use crate::scope::Scope;

/// Signals could not be caught.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
pub struct Error(#[source] std::io::Error);

/// Cancels `scope` at the first SIGTERM or SIGINT and ends the process at the second, with the exit
/// status a shell gives a killed process (128 + signal). Must be called inside the runtime.
///
/// # Errors
/// The operating system refuses the handlers.
pub fn stop_on_signal(scope: &Scope) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Error)?;
    let stop = scope.clone();
    // Not tracked by the scope it cancels: it must go on after the cancellation, for the second signal.
    Scope::new("signals").spawn("signals", async move {
        while let Some(signal) = signals.next().await {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
            if stop.is_cancelled() {
                tracing::warn!(signal = name, "second signal; ending now");
                end_now(signal);
            }
            tracing::info!(signal = name, "stopping");
            stop.cancel();
        }
    });
    Ok(())
}

/// SIGHUPs of this process. From when this exists they no longer end it, unless it runs at a terminal: there the signal
/// says that the terminal is gone, and whoever closed it wants the program gone too.
pub struct Hangups(Option<Signals>);

impl std::fmt::Debug for Hangups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hangups")
    }
}

impl Hangups {
    /// Begins to catch them. Must be called inside the runtime.
    ///
    /// # Errors
    /// The operating system refuses the handler.
    pub fn catch() -> Result<Self, Error> {
        if std::io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let signals = Signals::new([SIGHUP]).map_err(Error)?;
        Ok(Self(Some(signals)))
    }

    /// Waits for the next one; several that came meanwhile are one. Cancel-safe.
    pub async fn next(&mut self) {
        // Only a closed handle ends the signals, and nobody closes it.
        if let Some(signals) = &mut self.0
            && signals.next().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[expect(clippy::exit, reason = "a second signal asks for exactly this")]
fn end_now(signal: i32) -> ! {
    std::process::exit(128_i32.saturating_add(signal))
}
