//! What is logged, how lines look and where they go, in the words of the deployed programs.

use std::path::PathBuf;
use std::str::FromStr;

use super::table::Kind;
use super::value::{InvalidValue, clean};

/// Makes an enumeration of the words of a setting, in small or capital letters: for each its usual
/// word, and others with the same meaning.
macro_rules! keywords {
    (
        $(#[$attribute:meta])* $name:ident, $error:ident $message:literal:
        $($(#[$of_variant:meta])* $variant:ident = $word:literal $(| $other:literal)*,)*
    ) => {
        $(#[$attribute])*
        pub enum $name {
            $($(#[$of_variant])* $variant,)*
        }

        #[doc = concat!("No [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl $name {
            /// Its usual word.
            #[must_use]
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The usual word for what `text` means.
            pub(super) fn keyword(text: &str) -> Result<&'static str, String> {
                let parsed: Result<Self, $error> = text.parse();
                parsed.map(Self::as_str).map_err(|error| error.to_string())
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                match text.to_ascii_lowercase().as_str() {
                    $($word $(| $other)* => Ok(Self::$variant),)*
                    _ => Err($error),
                }
            }
        }
    };
}

keywords! {
    /// The least important lines that are logged.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    LogLevel, UnknownLogLevel "must be error, warn, info, debug or trace":
    /// A person must act.
    Error = "error" | "err" | "fatal",
    /// Degraded, heals by itself.
    Warn = "warn" | "warning",
    /// Changes of state.
    Info = "info",
    /// Every connection.
    Debug = "debug",
    /// Every step.
    Trace = "trace",
}

keywords! {
    /// How log lines look.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    LogFormat, UnknownLogFormat "must be console, plain or json":
    /// For people, in colour on a terminal.
    #[default]
    Console = "console" | "text",
    /// The same without colour.
    Plain = "plain",
    /// One JSON object a line.
    Json = "json",
}

keywords! {
    /// Where log lines go without a log file.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    LogDestination, UnknownLogDestination "must be stderr or stdout":
    /// Standard error.
    #[default]
    Stderr = "stderr",
    /// Standard output.
    Stdout = "stdout",
}

/// What is logged, where to, and how it looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// The level; `None` is the command's own.
    pub level: Option<LogLevel>,
    /// The file; `None` is the stream of `destination`, or the journal behind it.
    pub file: Option<PathBuf>,
    /// How the lines look.
    pub format: Option<LogFormat>,
    /// The stream without a file.
    pub destination: Option<LogDestination>,
}

/// Why a text does not name a log file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidLogFile {
    #[error(transparent)]
    Value(#[from] InvalidValue),
    #[error("it is empty; leave it out to log to standard error")]
    Empty,
    #[error("'-' is not a file; leave the log file out to log to standard error")]
    Dash,
}

impl LogSettings {
    /// Reads the path of a log file.
    ///
    /// # Errors
    /// [`InvalidLogFile`] says what is wrong.
    pub fn parse_file(text: &str) -> Result<PathBuf, InvalidLogFile> {
        match clean(text) {
            "" => Err(InvalidLogFile::Empty),
            "-" => Err(InvalidLogFile::Dash),
            path => {
                Kind::Path.check(path)?;
                Ok(PathBuf::from(path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LogDestination, LogFormat};

    #[test]
    fn names_are_read_in_any_case() {
        for format in [LogFormat::Console, LogFormat::Plain, LogFormat::Json] {
            assert_eq!(format.as_str().to_uppercase().parse(), Ok(format));
        }
        assert_eq!("text".parse(), Ok(LogFormat::Console));
        assert!("pretty".parse::<LogFormat>().is_err());
        for destination in [LogDestination::Stderr, LogDestination::Stdout] {
            assert_eq!(destination.as_str().to_uppercase().parse(), Ok(destination));
        }
        assert!("syslog".parse::<LogDestination>().is_err());
    }
}
