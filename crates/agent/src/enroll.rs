//! The first start with a one-time enrollment token, which is exchanged for an access token.
//!
//! The token is spent at most once: the file that will keep the access token is proved writable
//! before, and the access token is on the disk before anything else is done with it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use crate::api;
use crate::backoff::{self, Backoff};
use crate::config::file;
use crate::config::role::RoleKeys;
use crate::config::settings::ApiBase;
use crate::error::{Class, Reason, chain, kind};
use crate::log_throttle::LogThrottle;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::{event, events};

/// Delays between attempts.
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);

/// What container engines leave in their containers.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Why a role is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The platform refused the enrollment token.
    #[error("the enrollment token cannot be used; create a new one and start again")]
    Refused(#[source] api::Error),
    /// The platform did not judge the enrollment token.
    #[error("the enrollment token was not exchanged")]
    NotExchanged(#[source] api::Error),
    /// The access token cannot be kept.
    #[error(
        "the {role}'s access token cannot be kept; name another file with --config, or set HOME \
         to a directory that this user can write"
    )]
    Store {
        /// The role in one word.
        role: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Why an access token cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be changed.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The write did not come to an end.
    #[error("the write was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Error {
    /// Decides the exit code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(error) | Self::NotExchanged(error) => match error.class() {
                Class::Fatal(reason) => reason,
                Class::Reauthenticate | Class::Reenroll => Reason::Permission,
                Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
            },
            Self::Store { source, .. } => match source {
                StoreError::File(error) => error.reason_unwritable(),
                StoreError::Interrupted(_) => Reason::Unavailable,
            },
        }
    }

    /// The error without what changes from one time to the next, to throttle the log.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Refused(error) | Self::NotExchanged(error) => error.kind(),
            Self::Store { .. } => kind(self),
        }
    }
}

/// Where an enrolled role keeps its access token.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    /// The role's names of settings.
    pub role: &'static RoleKeys,
    /// The file.
    pub file: &'a Path,
    /// The platform, which is stored with the token.
    pub domain: &'a ApiBase,
}

impl Store<'_> {
    fn failed(&self, source: StoreError) -> Error {
        let role = self.role.word;
        Error::Store { role, source }
    }

    /// Exchanges an enrollment token with `login`, which is repeated while that may help;
    /// `retrying` hears of each failed attempt. The file is proved writable first. Only the waits
    /// heed `scope`: an answer under way may hold the only copy of what the token was exchanged
    /// for, and the call has a deadline of its own. `None` if `scope` was cancelled. [`Self::keep`]
    /// must follow at once.
    ///
    /// # Errors
    /// What only a person can fix.
    pub async fn exchange<L, F>(
        &self,
        platform: &str,
        mut login: impl FnMut() -> F,
        retrying: &mut impl FnMut(String, Duration),
        scope: &Scope,
    ) -> Result<Option<L>, Error>
    where
        F: Future<Output = Result<L, api::Error>>,
    {
        // The domain is only written with the token: a token that is stored already must not be
        // sent to the new platform.
        let proved = prove_writable(self.file.to_owned()).await;
        proved.map_err(|error| self.failed(error))?;
        tracing::info!(platform, "sending the enrollment token to the platform");
        let mut backoff = Backoff::new(BASE, CAP);
        let throttle = LogThrottle::for_retries();
        while !scope.is_cancelled() {
            let error = match login().await {
                Ok(login) => return Ok(Some(login)),
                Err(error) => error,
            };
            let at_least = match error.class() {
                Class::Retry => Duration::ZERO,
                Class::RetryAfter(wait) => wait,
                // Only the platform's own refusal tells that the token is spent.
                Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                    return Err(if error.is_verdict() {
                        Error::Refused(error)
                    } else {
                        Error::NotExchanged(error)
                    });
                }
            };
            let attempt = backoff.attempts().saturating_add(1);
            let delay = at_least.saturating_add(backoff.next_delay(backoff::random()));
            let (text, delay_ms) = (chain(&error).to_string(), delay.as_millis());
            let event = events::NOT_ENROLLED;
            if let Some(permission) = throttle.should_log(event.text, &error.kind()) {
                event!(
                    event,
                    error = text,
                    attempt,
                    delay_ms,
                    suppressed = permission.suppressed()
                );
            } else {
                tracing::debug!(error = text, attempt, delay_ms, "{event}");
            }
            retrying(text, delay);
            scope.run(tokio::time::sleep(delay)).await;
        }
        Ok(None)
    }

    /// A container that keeps the token in itself enrolls once and never again.
    fn warn_if_temporary(&self) {
        let is_marked = CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists());
        let is_container = is_marked || std::process::id() == 1;
        let kind = statfs(self.file).map(|found| found.filesystem_type());
        let temporary = [OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC];
        if is_container && kind.is_ok_and(|kind| temporary.contains(&kind)) {
            tracing::warn!(
                file = %self.file.display(),
                "the access token is kept inside of the container and is gone with it, and the \
                 enrollment token is spent; mount a volume on the file's directory"
            );
        }
    }

    /// Saves the access token, however long that takes: there is no other copy of it, and the token
    /// it was exchanged for is spent.
    ///
    /// # Errors
    /// The file cannot be written, and `scope` was cancelled.
    pub async fn keep(
        &self,
        access: &Secret,
        spent: &Secret,
        retrying: &mut impl FnMut(String, Duration),
        scope: &Scope,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::new(BASE, CAP);
        let throttle = LogThrottle::for_retries();
        loop {
            let Err(error) = self.save(access, spent).await else {
                self.warn_if_temporary();
                return Ok(());
            };
            let attempt = backoff.attempts().saturating_add(1);
            let delay = backoff.next_delay(backoff::random());
            let text = chain(&error).to_string();
            let event = events::TOKEN_NOT_SAVED;
            if let Some(permission) = throttle.should_log(event.text, &kind(&error)) {
                event!(
                    event,
                    error = text,
                    attempt,
                    delay_ms = delay.as_millis(),
                    suppressed = permission.suppressed()
                );
            }
            retrying(format!("{event}: {text}"), delay);
            if scope.run(tokio::time::sleep(delay)).await.is_none() {
                return Err(self.failed(error));
            }
        }
    }

    /// The spent token is kept beside the access token, so that the same command run again starts
    /// the role instead of enrolling it again.
    async fn save(&self, access: &Secret, spent: &Secret) -> Result<(), StoreError> {
        let changes = self
            .role
            .exchanged(self.domain, access.clone(), spent.clone());
        let file = self.file.to_owned();
        write(move || file::update(&file, &changes.each_ref().map(|(key, value)| (*key, value))))
            .await
    }
}

async fn prove_writable(file: PathBuf) -> Result<(), StoreError> {
    write(move || file::prove_writable(&file)).await
}

/// The disk may be slow, and must not block the runtime.
async fn write(
    write: impl FnOnce() -> Result<(), file::Error> + Send + 'static,
) -> Result<(), StoreError> {
    let written = tokio::task::spawn_blocking(write).await;
    Ok(written.map_err(StoreError::Interrupted)??)
}
