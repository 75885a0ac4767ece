//! Exit codes, those of sysexits(3), and errors that know theirs.
//!
//! A role's error says why it is fatal ([`Reason`]); wrapped as a [`Failure`] it keeps that through
//! `anyhow`. An error that no module wrapped comes from the world outside, and counts as something
//! unavailable.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::warning::{Problem, Problems};
use crate::error::Reason;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Everything went well.
    Success = 0,
    /// What was asked about serves, and something is wrong with it; a check of `doctor` failed; a
    /// policy refuses.
    Degraded = 1,
    /// What was asked about does not serve.
    Down = 2,
    /// What was asked about does not run.
    NotRunning = 3,
    /// The command line is wrong.
    Usage = 64,
    /// Something that is needed is missing, in use or unreachable.
    Unavailable = 69,
    /// A defect in this program.
    Software = 70,
    /// The identity may not do this.
    Permission = 77,
    /// The configuration is wrong.
    Configuration = 78,
    /// The reader of standard output has gone: what a shell reports of a program that SIGPIPE
    /// killed.
    ClosedPipe = 141,
}

impl Code {
    /// The code for an error that ends the program.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<Failure>() {
            Some(failure) => failure.code,
            None if is_denied(error) => Self::Permission,
            None => Self::Unavailable,
        }
    }

    /// True if a person is to read why the program ends.
    #[must_use]
    pub fn is_reported(self) -> bool {
        !matches!(
            self,
            Self::ClosedPipe | Self::Degraded | Self::Down | Self::NotRunning
        )
    }
}

impl From<Reason> for Code {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Configuration => Self::Configuration,
            Reason::Permission => Self::Permission,
            Reason::Unavailable => Self::Unavailable,
            Reason::Software => Self::Software,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// True if the system denied a file, a directory or a port.
fn is_denied(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// An error with its exit code. It adds no level of its own to the chain of causes.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    error: anyhow::Error,
}

impl Failure {
    /// `error`, which is fatal for `reason`; what the system denies is a matter of permission.
    pub fn new(reason: Reason, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let code = match reason {
            Reason::Unavailable | Reason::Configuration if is_denied(&error) => Code::Permission,
            Reason::Unavailable | Reason::Configuration | Reason::Permission | Reason::Software => {
                reason.into()
            }
        };
        Self { code, error }
    }

    /// `error`, with its exit code.
    #[must_use]
    pub fn of(code: Code, error: anyhow::Error) -> Self {
        Self { code, error }
    }

    /// The command line asks for something that is not offered.
    #[must_use]
    pub fn usage(text: &'static str) -> Self {
        Self::of(Code::Usage, anyhow::Error::msg(text))
    }

    /// The machine does not give what is needed.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Self::new(Reason::Unavailable, error).into()
    }

    /// Everything that is wrong with a configuration.
    #[must_use]
    pub fn problems(problems: Vec<Problem>) -> anyhow::Error {
        let is_denied = !problems.is_empty() && problems.iter().all(Problem::is_denied);
        let code = match is_denied {
            true => Code::Permission,
            false => Code::Configuration,
        };
        Self::of(code, anyhow::Error::new(Problems(problems))).into()
    }

    /// The configuration is wrong.
    pub fn configuration(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Self::new(Reason::Configuration, error).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::{Code, Failure};
    use crate::error::{Reason, chain};

    #[test]
    fn a_reason_gives_the_code_of_sysexits() {
        for (reason, code) in [
            (Reason::Configuration, 78),
            (Reason::Permission, 77),
            (Reason::Unavailable, 69),
            (Reason::Software, 70),
        ] {
            let error = anyhow::Error::from(Failure::new(reason, std::io::Error::other("x")));
            assert_eq!(Code::of(&error) as u8, code);
        }
        let usage = anyhow::Error::from(Failure::usage("no such thing"));
        assert_eq!(Code::of(&usage) as u8, 64);
        assert_eq!(Code::of(&anyhow::anyhow!("x")) as u8, 69);
    }

    #[test]
    fn denied_access_is_a_permission_failure() {
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let plain = anyhow::Error::new(denied()).context("cannot write the key");
        assert_eq!(Code::of(&plain), Code::Permission);
        for reason in [Reason::Unavailable, Reason::Configuration] {
            let inner = anyhow::Error::new(denied()).context("cannot listen");
            let failure = anyhow::Error::from(Failure::new(reason, inner));
            assert_eq!(Code::of(&failure), Code::Permission);
        }
        let software = Failure::new(Reason::Software, denied());
        assert_eq!(Code::of(&software.into()), Code::Software);
    }

    #[test]
    fn context_keeps_the_exit_code() {
        let cause = std::io::Error::other("no such file");
        let inner = anyhow::Error::from(cause).context("cannot read the key");
        let failure = anyhow::Error::from(Failure::new(Reason::Permission, inner));
        assert_eq!(
            chain(failure.as_ref()).to_string(),
            "cannot read the key: no such file"
        );
        let outer = Err::<(), _>(failure)
            .context("cannot start")
            .expect_err("an error");
        assert_eq!(Code::of(&outer), Code::Permission);
    }
}
