//! What there is to say about a configuration: problems, which end the start, and warnings, which
//! do not.
//!
//! Both name the setting and where it comes from; neither shows the value of a secret.

use std::error::Error;
use std::fmt;

use super::env::{FOREIGN, Used, Variable};
use super::raw::Origin;
use crate::error::chain;

/// A mistake. One start reports all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    text: String,
    is_denied: bool,
}

impl Problem {
    /// Something is missing or does not go together; `text` says what to do.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_denied: false,
        }
    }

    /// The system denied it.
    #[must_use]
    pub(crate) fn denied(self) -> Self {
        Self {
            is_denied: true,
            ..self
        }
    }

    /// True if the system denied it, so that no change of a setting is needed.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.is_denied
    }

    /// The value from `origin` is wrong.
    #[must_use]
    pub(crate) fn at(origin: &Origin<'_>, text: impl fmt::Display) -> Self {
        Self::new(format!("{origin}: {text}"))
    }

    /// The value from `origin` is wrong as `error` says.
    #[must_use]
    pub fn of(origin: &Origin<'_>, error: &(dyn Error + 'static)) -> Self {
        Self::at(origin, chain(error))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Every problem of a configuration; one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "wrong configuration: {only}"),
            several => {
                write!(f, "wrong configuration, {} problems:", several.len())?;
                several
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl Error for Problems {}

/// Something that a person should know although the start goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Warning {
    #[error(
        "the enrollment token was spent by an earlier start; the access token that it obtained is used"
    )]
    AlreadyEnrolled,
    #[error(
        "{flag}: a secret among the arguments is visible to every user of this machine; use a file or \
         the environment"
    )]
    SecretInArguments { flag: &'static str },
    #[error("{domain} is reached without encryption; anyone on the path can read the tokens")]
    PlainHttp { domain: String },
    #[error("{name}: {expected}; the default is used")]
    NotUnderstood { name: String, expected: String },
    #[error("{domain} comes from the {place}; --domain overrides it")]
    DomainOfCli { domain: String, place: String },
    #[error("the {place} is ignored: {why}")]
    DomainIgnored { place: String, why: String },
    #[error("HOME is not set, so the configuration file is {file}; set HOME or give --config FILE")]
    NoHome { file: String },
    #[error("environment variable {name} is not known, did you mean {nearest}?")]
    Misspelled { name: String, nearest: &'static str },
    #[error("{place} has no effect: {}", idle(.key))]
    WithoutEffect {
        key: &'static Variable,
        place: String,
    },
}

impl Warning {
    /// Logs it.
    pub fn log(&self) {
        match self {
            Self::AlreadyEnrolled => tracing::info!("Enrollment token matches stored token"),
            Self::SecretInArguments { flag } => tracing::warn!(
                flag,
                "a secret among the arguments is visible to every user of this machine; \
                 use a file or the environment"
            ),
            Self::PlainHttp { domain } => tracing::warn!(
                domain,
                "the platform is reached without encryption; anyone on the path can read the tokens"
            ),
            Self::NotUnderstood { name, expected } => tracing::warn!(
                variable = name,
                expected,
                "a variable is not understood; the default is used"
            ),
            Self::DomainOfCli { domain, place } => tracing::info!(
                domain,
                place,
                "the platform's domain comes from a file of the infisical CLI"
            ),
            Self::DomainIgnored { place, why } => tracing::warn!(
                place,
                error = why,
                "a domain in a file of the infisical CLI is ignored"
            ),
            Self::NoHome { file } => tracing::warn!(
                file,
                "HOME is not set; this configuration file is used, set HOME or give --config"
            ),
            Self::Misspelled { name, nearest } => tracing::warn!(
                variable = name,
                "an environment variable is not known, did you mean {nearest}?"
            ),
            Self::WithoutEffect { key, place } => {
                tracing::warn!(setting = place, "a setting has no effect: {}", idle(key));
            }
        }
    }
}

/// Why a setting that stands in a role's file does nothing there.
fn idle(key: &Variable) -> &'static str {
    if key == &FOREIGN {
        return "it is no setting of this program; variables of other programs belong into a drop-in (systemctl edit)";
    }
    match key.used {
        Used::ByNone => "the service that it configures is not offered by this version",
        Used::ByGateways => "it is for gateways",
        Used::ByRelays => "it is for relays",
        Used::ByAll => "nothing needs it",
    }
}
