//! SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process at once.
//! SIGHUP: the role reads its configuration again. SIGUSR1: files were moved away, open them again.
//! SIGUSR2: look at the connection now. SIGURG: hand over to a successor.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGURG, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::time::Instant;

use crate::scope::Scope;
use crate::{event, events};

/// Signals that follow the first one within this time count as one with it: timeout(1) signals the
/// process and its group, and a service manager may do so at the same moment as a person.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Signals could not be caught.
#[derive(Debug, thiserror::Error)]
#[error("cannot catch signals")]
pub struct Error(#[source] std::io::Error);

/// Cancels `scope` at the first SIGTERM or SIGINT and ends the process at the second, with the exit
/// status a shell gives a killed process (128 + signal), after `last_lines`. Must be called inside
/// the runtime.
///
/// # Errors
/// The operating system refuses the handlers.
pub fn stop_on_signal(scope: &Scope, last_lines: impl Fn() + Send + 'static) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Error)?;
    let stop = scope.clone();
    // Not tracked by the scope it cancels: it must go on after the cancellation, for the second
    // signal.
    Scope::new("signals").spawn("signals", async move {
        let mut first = None;
        while let Some(signal) = signals.next().await {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
            let now = Instant::now();
            if is_repetition(first, now) {
                tracing::debug!(signal = name, "signal repeated at once; still stopping");
                continue;
            }
            first.get_or_insert(now);
            if stop.is_cancelled() {
                tracing::warn!(signal = name, "second signal; ending now");
                last_lines();
                end_now(signal);
            }
            event!(events::STOPPING, signal = name);
            stop.cancel();
        }
    });
    Ok(())
}

/// True if a signal at `now` counts as one with the first one.
fn is_repetition(first: Option<Instant>, now: Instant) -> bool {
    first.is_some_and(|first| now.duration_since(first) < SAME_SIGNAL)
}

/// Takes SIGHUP for a wish to stop, like SIGTERM, instead of ending at once: for work that must not
/// be cut in the middle, when the terminal that it was begun at is gone. Must be called inside the
/// runtime.
///
/// # Errors
/// The operating system refuses the handler.
pub fn stop_on_hangup(scope: &Scope) -> Result<(), Error> {
    let mut signals = Signals::new([SIGHUP]).map_err(Error)?;
    let stop = scope.clone();
    Scope::new("signals").spawn("hangup", async move {
        while signals.next().await.is_some() {
            stop.cancel();
        }
    });
    Ok(())
}

/// SIGHUPs of this process. From when this exists they no longer end it, unless it runs at a
/// terminal: there the signal says that the terminal is gone, and the one who closed it wants the
/// program gone too.
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
        // Only a closed handle ends the signals, and no one closes it.
        if let Some(signals) = &mut self.0
            && signals.next().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Keeps SIGUSR1 and SIGUSR2 from ending the process before [`on_reopen`] and [`on_reconnect`] are
/// called: logrotate does not know that a service has just been started. What they ask for in that
/// moment is done by the start itself.
///
/// # Errors
/// The operating system refuses a handler.
pub fn survive_user_signals() -> Result<(), Error> {
    for signal in [SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default()).map_err(Error)?;
    }
    Ok(())
}

/// Calls `reopen` at every SIGUSR1. Must be called inside the runtime.
///
/// # Errors
/// The operating system refuses the handler.
pub fn on_reopen(reopen: impl Fn() + Send + 'static) -> Result<(), Error> {
    on_each(SIGUSR1, "reopen", reopen)
}

/// Calls `reconnect` at every SIGUSR2. Must be called inside the runtime.
///
/// # Errors
/// The operating system refuses the handler.
pub fn on_reconnect(reconnect: impl Fn() + Send + 'static) -> Result<(), Error> {
    on_each(SIGUSR2, "reconnect", reconnect)
}

/// SIGURGs of this process, each of which asks to hand over to a successor. A program that does not
/// know the request ignores the signal, and nothing else sends it.
pub struct HandOverRequests(Signals);

impl std::fmt::Debug for HandOverRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandOverRequests")
    }
}

impl HandOverRequests {
    /// The name of the signal.
    pub const SIGNAL: &str = "SIGURG";

    /// Begins to catch them. Must be called inside the runtime.
    ///
    /// # Errors
    /// The operating system refuses the handler.
    pub fn catch() -> Result<Self, Error> {
        Signals::new([SIGURG]).map(Self).map_err(Error)
    }

    /// Waits for the next one; several that came meanwhile are one. Cancel-safe.
    pub async fn next(&mut self) {
        // Only a closed handle ends the signals, and no one closes it.
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// True if process `pid` catches the signal of [`HandOverRequests`], by what /proc says of it.
#[must_use]
pub fn hands_over(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    catches(&status, SIGURG)
}

fn catches(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn on_each(signal: i32, task: &'static str, act: impl Fn() + Send + 'static) -> Result<(), Error> {
    let mut signals = Signals::new([signal]).map_err(Error)?;
    // In a scope of its own: files are moved away while a role drains too.
    Scope::new("signals").spawn(task, async move {
        while signals.next().await.is_some() {
            act();
        }
    });
    Ok(())
}

#[expect(clippy::exit, reason = "a second signal asks for exactly this")]
fn end_now(signal: i32) -> ! {
    std::process::exit(128_i32.saturating_add(signal))
}

#[cfg(test)]
mod tests {
    use super::{SAME_SIGNAL, SIGURG, catches, is_repetition};
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    #[test]
    fn caught_signals_are_read_from_proc() {
        let urg = "Name:\tx\nSigIgn:\tffffffffffffffff\nSigCgt:\t0000000000400000\n";
        assert!(catches(urg, SIGURG) && !catches(urg, SIGURG + 1));
        for other in ["", "SigCgt:\t0000000000200000\n", "SigCgt:\tx\n"] {
            assert!(!catches(other, SIGURG), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn signals_within_a_moment_count_as_one() {
        let first = Some(Instant::now());
        assert!(!is_repetition(None, Instant::now()), "it is the first");
        assert!(is_repetition(first, Instant::now()));
        advance(SAME_SIGNAL.saturating_sub(Duration::from_millis(1))).await;
        assert!(is_repetition(first, Instant::now()));
        advance(Duration::from_millis(1)).await;
        assert!(!is_repetition(first, Instant::now()), "it is the second");
    }
}
