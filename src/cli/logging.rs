//! Logs: to standard error, as text for people or as JSON for collectors.
//!
//! The level is that of this program; libraries are heard only when they warn, and the SSH library, which calls
//! ordinary ends of connections errors, only when asked for everything.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use tracing::Level as TracingLevel;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::chain;

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// A person must act.
    Error,
    /// Degraded, heals by itself.
    Warn,
    /// Changes of state.
    Info,
    /// Every connection.
    Debug,
    /// Every step.
    Trace,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// What is logged.
    pub level: Level,
    /// How it looks.
    pub format: Format,
    /// Colours, if standard error is a terminal.
    pub colour: bool,
}

impl Logging {
    /// Begins to log; call it once.
    pub fn start(self) {
        let registry = tracing_subscriber::registry().with(self.targets());
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        match self.format {
            Format::Text => {
                let colour = self.colour && io::stderr().is_terminal();
                registry
                    .with(layer.with_ansi(colour).with_target(self.level.is_verbose()))
                    .init();
            }
            Format::Json => registry
                .with(layer.json().flatten_event(true).with_ansi(false))
                .init(),
        }
    }

    /// Reports the error that ends the program, where logs go and as they look.
    pub fn report(self, error: &anyhow::Error) {
        match self.format {
            // The text may be gone: there is nowhere left to say so.
            Format::Text => drop(writeln!(io::stderr(), "{}", describe(error))),
            Format::Json => tracing::error!(error = %chain(error.as_ref()), "infisical failed"),
        }
    }

    fn targets(self) -> Targets {
        let ours = match self.level {
            Level::Error => TracingLevel::ERROR,
            Level::Warn => TracingLevel::WARN,
            Level::Info => TracingLevel::INFO,
            Level::Debug => TracingLevel::DEBUG,
            Level::Trace => TracingLevel::TRACE,
        };
        // Its own trace lines hold what it decrypts.
        let ssh = match self.level {
            Level::Trace => LevelFilter::DEBUG,
            Level::Error | Level::Warn | Level::Info | Level::Debug => LevelFilter::ERROR,
        };
        Targets::new()
            .with_default(TracingLevel::WARN.min(ours))
            .with_target("infisical", ours)
            .with_target("russh", ssh)
    }
}

impl Level {
    fn is_verbose(self) -> bool {
        match self {
            Self::Error | Self::Warn | Self::Info => false,
            Self::Debug | Self::Trace => true,
        }
    }
}

/// The error and its causes, as the last words of the program.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    format!("infisical: {}", chain(error.as_ref()))
}

#[cfg(test)]
mod tests {
    use tracing::Level as TracingLevel;

    use super::{Format, Level, Logging};

    #[test]
    fn the_level_is_ours_and_libraries_are_heard_when_they_warn() {
        let (error, warn, info, debug, trace) = (
            TracingLevel::ERROR,
            TracingLevel::WARN,
            TracingLevel::INFO,
            TracingLevel::DEBUG,
            TracingLevel::TRACE,
        );
        for (level, target, loudest) in [
            (Level::Info, "infisical::gateway", info),
            (Level::Info, "hyper::client", warn),
            (Level::Info, "russh::server", error),
            (Level::Debug, "infisical", debug),
            (Level::Debug, "russh", error),
            (Level::Trace, "infisical", trace),
            (Level::Trace, "russh::client", debug),
            (Level::Trace, "rustls", warn),
            (Level::Error, "infisical", error),
            (Level::Error, "hyper", error),
        ] {
            let targets = Logging {
                level,
                format: Format::Text,
                colour: false,
            }
            .targets();
            for candidate in [error, warn, info, debug, trace] {
                assert_eq!(
                    targets.would_enable(target, &candidate),
                    candidate <= loudest,
                    "{level:?} {target} {candidate}"
                );
            }
        }
    }
}
