//! What a person sees while something takes longer than a second: a spinner on a terminal, a line
//! elsewhere. On standard error only, so that it is never part of what a command prints.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{interval, timeout};

/// What takes less is not worth a word.
const DELAY: Duration = Duration::from_secs(1);
/// Between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// The pictures, and the one after the end. Every locale has them.
const PICTURES: &str = "-\\|/ ";
/// The longer text is cut, so that the spinner keeps to its line.
const TEMPLATE: &str = "{spinner} {wide_msg}";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    Spinner,
    Line,
    Hidden,
}

/// What decides how progress is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preferences {
    /// `--quiet`.
    pub(super) is_quiet: bool,
    /// Standard error has lines of JSON.
    pub(super) is_json: bool,
    /// Nothing forbids to move the cursor.
    pub(super) may_draw: bool,
}

impl Preferences {
    /// For this process's standard error.
    pub(super) fn display(self) -> Display {
        self.display_on(io::stderr().is_terminal())
    }

    fn display_on(self, is_terminal: bool) -> Display {
        if self.is_quiet || self.is_json {
            Display::Hidden
        } else if is_terminal && self.may_draw {
            Display::Spinner
        } else {
            Display::Line
        }
    }
}

/// How this process shows progress: not at all before it is known.
static DISPLAY: OnceLock<Display> = OnceLock::new();
/// The spinner that is drawn.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Progress is shown as `display` says. Only the first call counts.
pub(super) fn configure(display: Display) {
    let _ = DISPLAY.set(display);
}

/// Does `work`, and shows `text` if that takes long.
pub(crate) async fn show<T>(text: &str, work: impl Future<Output = T>) -> T {
    let display = DISPLAY.get().copied().unwrap_or(Display::Hidden);
    show_as(display, text, work, |text| {
        // Without standard error there is no way to tell.
        let _ = writeln!(io::stderr(), "{text}");
    })
    .await
}

async fn show_as<T>(
    display: Display,
    text: &str,
    work: impl Future<Output = T>,
    line: impl FnOnce(&str),
) -> T {
    tokio::pin!(work);
    if let Ok(done) = timeout(DELAY, &mut work).await {
        return done;
    }
    let spinner = match display {
        Display::Hidden => return work.await,
        Display::Line => {
            line(&format!("{text} ..."));
            return work.await;
        }
        Display::Spinner => Spinner::draw(text),
    };
    let mut ticks = interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => spinner.0.tick(),
        }
    }
}

/// Writes something else to the terminal, without a spinner in the way.
pub(super) fn suspended<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A spinner on standard error; dropped, its line is empty again.
struct Spinner(ProgressBar);

impl Spinner {
    fn draw(text: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.tick_chars(PICTURES));
        }
        bar.set_message(text.to_owned());
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        *drawn = Some(bar.clone());
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DELAY, Display, Preferences, show_as};

    #[test]
    fn spinner_needs_a_willing_terminal() {
        let preferences = Preferences {
            is_quiet: false,
            is_json: false,
            may_draw: true,
        };
        let quiet = Preferences {
            is_quiet: true,
            ..preferences
        };
        let json = Preferences {
            is_json: true,
            ..preferences
        };
        let plain = Preferences {
            may_draw: false,
            ..preferences
        };
        for (preferences, is_terminal, display) in [
            (preferences, true, Display::Spinner),
            (preferences, false, Display::Line),
            (plain, true, Display::Line),
            (quiet, true, Display::Hidden),
            (quiet, false, Display::Hidden),
            (json, true, Display::Hidden),
        ] {
            assert_eq!(
                preferences.display_on(is_terminal),
                display,
                "{preferences:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn short_work_shows_nothing() {
        for (takes, display, expected) in [
            (Duration::ZERO, Display::Line, None),
            (DELAY / 2, Display::Line, None),
            (DELAY * 2, Display::Line, Some("Asking ...")),
            (DELAY * 2, Display::Hidden, None),
        ] {
            let mut shown = None;
            let work = async {
                tokio::time::sleep(takes).await;
                7
            };
            let done = show_as(display, "Asking", work, |text| {
                shown = Some(text.to_owned());
            });
            assert_eq!(done.await, 7);
            assert_eq!(shown.as_deref(), expected, "{takes:?} {display:?}");
        }
    }
}
