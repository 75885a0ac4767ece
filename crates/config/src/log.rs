//! What is logged, how lines look and where they go, in the words of the deployed programs.

use std::path::PathBuf;
use std::str::FromStr;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::table::Kind;
use super::value::{InvalidValue, clean};

/// A text is none of the words that a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {}", any_of(.0))]
pub struct UnknownWord(&'static [&'static str]);

impl UnknownWord {
    /// For a text that is no `T`.
    pub(super) fn of<T: VariantNames>(_: &str) -> Self {
        Self(T::VARIANTS)
    }
}

/// `a, b or c`.
fn any_of(words: &[&str]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        all => all.concat(),
    }
}

/// The usual word for the `T` that `text` means.
pub(super) fn keyword<T>(text: &str) -> Result<&'static str, String>
where
    T: FromStr<Err = UnknownWord> + Into<&'static str>,
{
    text.parse().map(T::into).map_err(|error| error.to_string())
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
#[strum(parse_err_ty = UnknownWord, parse_err_fn = UnknownWord::of::<Self>)]
pub enum LogLevel {
    /// A person must act.
    #[strum(to_string = "error", serialize = "err", serialize = "fatal")]
    Error,
    /// Degraded, heals by itself.
    #[strum(to_string = "warn", serialize = "warning")]
    Warn,
    /// Changes of state.
    Info,
    /// Every connection.
    Debug,
    /// Every step.
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantNames)]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
#[strum(parse_err_ty = UnknownWord, parse_err_fn = UnknownWord::of::<Self>)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    #[strum(to_string = "console", serialize = "text")]
    Console,
    /// The same without colour.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Where log lines go without a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantNames)]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
#[strum(parse_err_ty = UnknownWord, parse_err_fn = UnknownWord::of::<Self>)]
pub enum LogDestination {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
}

/// What is logged, where to, and how it looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// The level; `None` is the command's own.
    pub level: Option<LogLevel>,
    /// The file; `None` is the stream of `destination`, or the journal behind it.
    pub file: Option<PathBuf>,
    /// The file for the record of sessions, if there is one; only gateways have it.
    pub audit_file: Option<PathBuf>,
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
    use super::{LogDestination, LogFormat, LogLevel, keyword};

    #[test]
    fn names_are_read_in_any_case() {
        for format in [LogFormat::Console, LogFormat::Plain, LogFormat::Json] {
            let word: &str = format.into();
            assert_eq!(word.to_uppercase().parse(), Ok(format));
        }
        assert_eq!("text".parse(), Ok(LogFormat::Console));
        assert!("pretty".parse::<LogFormat>().is_err());
        for destination in [LogDestination::Stderr, LogDestination::Stdout] {
            let word: &str = destination.into();
            assert_eq!(word.to_uppercase().parse(), Ok(destination));
        }
        assert!("syslog".parse::<LogDestination>().is_err());
        assert_eq!(keyword::<LogLevel>("FATAL"), Ok("error"));
        let error = keyword::<LogLevel>("loud").expect_err("no level");
        assert_eq!(error, "must be error, warn, info, debug or trace");
    }
}
