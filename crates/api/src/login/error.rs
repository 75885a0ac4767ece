//! Why there is nothing to log in with. What the platform says to a login is [`crate::Error`]'s.

use std::io;
use std::path::PathBuf;

use reqwest::StatusCode;

use crate::config::env::{self, Variable};
use crate::config::value::InvalidValue;
use infisical_runtime::error::{Class, Reason};

/// The pod's token, in errors.
pub(super) const POD_TOKEN: &str = "the pod's service account token";
/// A token from elsewhere, in errors.
pub(super) const JWT: &str = "the JSON web token";
/// The key of a service account of GCP, in errors.
pub(super) const GCP_KEY: &str = "the key of a GCP service account";
/// The flag and the variable that name the file of each.
const SETTINGS: [(&str, &str, &Variable); 3] = [
    (
        POD_TOKEN,
        "--service-account-token-path",
        &env::KUBERNETES_TOKEN_PATH,
    ),
    (JWT, "--jwt-file", &env::JWT_FILE),
    (
        GCP_KEY,
        "--service-account-key-file-path",
        &env::GCP_KEY_PATH,
    ),
];

/// What a login shows to the platform cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("{service} at {at}{proxy} does not answer{hint}")]
    Unreachable {
        service: &'static str,
        at: String,
        /// The proxy that was used; empty, or begins with a space.
        proxy: String,
        hint: &'static str,
        #[source]
        source: reqwest::Error,
    },
    #[error("{service} at {at} answered {status}{}{message}{hint}", if message.is_empty() { "" } else { ": " })]
    Refused {
        service: &'static str,
        at: String,
        status: StatusCode,
        message: String,
        is_page: bool,
        hint: &'static str,
    },
    #[error("the answer of {service} at {at} cannot be used: {reason}")]
    Nonsense {
        service: &'static str,
        at: String,
        /// Why; never contains the answer, which may hold secrets.
        reason: &'static str,
    },
    #[error("cannot read {what} from {}{}", path.display(), setting(what))]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} does not hold {what}: {reason}", path.display())]
    Content {
        what: &'static str,
        path: PathBuf,
        /// Why; never contains what it holds.
        reason: &'static str,
    },
    #[error("{} does not hold {what} and nothing else", path.display())]
    NotAToken {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: InvalidValue,
    },
    #[error(
        "the AWS profile {profile} uses {key}, which is not supported here; give it a key, or run with a role of the \
         machine"
    )]
    Profile { profile: String, key: &'static str },
    #[error("environment variable {name}: {reason}")]
    Variable {
        name: &'static str,
        reason: &'static str,
    },
    #[error(
        "there are no AWS credentials: no key in the environment, no profile, and AWS_EC2_METADATA_DISABLED forbids to \
         ask the machine"
    )]
    NoAwsCredentials,
    #[error(transparent)]
    Roots(#[from] crate::trust::Error),
    #[error("cannot prepare HTTP requests")]
    Local(#[source] reqwest::Error),
}

/// Where the file that should hold `what` is set.
fn setting(what: &str) -> String {
    let Some((flag, variable)) = SETTINGS
        .iter()
        .find_map(|(of, flag, key)| (*of == what).then_some((flag, key.name)))
    else {
        return String::new();
    };
    format!(" (set by {flag} or {variable})")
}

impl Error {
    /// The same, of a request that took `proxy`.
    pub(super) fn through(mut self, through: Option<&str>) -> Self {
        if let (Self::Unreachable { proxy, .. }, Some(through)) = (&mut self, through) {
            *proxy = format!(" through the proxy {through}");
        }
        self
    }

    /// True if a file is not there, which may change.
    #[must_use]
    pub fn is_absent_file(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What to do about it. A file or a role may come, as a network does; what is written down
    /// wrong stays wrong.
    #[must_use]
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Nonsense { .. } => Class::Retry,
            // Of a proxy or a captive portal, whatever its status is.
            Self::Refused { is_page: true, .. } => Class::Retry,
            Self::Refused { status, .. } => match status.as_u16() {
                400 | 401 | 403 => Class::Fatal(Reason::Permission),
                // 404 and 410 too: a role that is not attached yet, a service that is being
                // updated.
                _ => Class::Retry,
            },
            Self::File { .. } => Class::Fatal(Reason::Unavailable),
            Self::Content { .. }
            | Self::NotAToken { .. }
            | Self::Profile { .. }
            | Self::Variable { .. }
            | Self::NoAwsCredentials => Class::Fatal(Reason::Configuration),
            Self::Roots(_) | Self::Local(_) => Class::Fatal(Reason::Software),
        }
    }
}
