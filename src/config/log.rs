//! How log lines look and where they go without a log file, as the deployed programs call it.

use std::str::FromStr;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Console,
    /// The same without colour.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Not a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be console, plain or json")]
pub struct UnknownLogFormat;

impl LogFormat {
    /// Its name as people give it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Plain => "plain",
            Self::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        match text.to_ascii_lowercase().as_str() {
            "console" | "text" => Ok(Self::Console),
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

/// Where log lines go without a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogDestination {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
}

/// Not a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be stderr or stdout")]
pub struct UnknownLogDestination;

impl LogDestination {
    /// Its name as people give it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        }
    }
}

impl FromStr for LogDestination {
    type Err = UnknownLogDestination;

    fn from_str(text: &str) -> Result<Self, UnknownLogDestination> {
        match text.to_ascii_lowercase().as_str() {
            "stderr" => Ok(Self::Stderr),
            "stdout" => Ok(Self::Stdout),
            _ => Err(UnknownLogDestination),
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
