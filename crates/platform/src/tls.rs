//! The certificate that the platform serves HTTPS with: two files, read again when they change.
//!
//! Invariants: a pair that cannot be used never takes the place of one that can; a connection goes
//! on with the certificate of its handshake; the key is held as long as it serves, and no error has
//! any of it. Reading blocks.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::error::{chain, printable};
use crate::event;
use crate::events;
use crate::host::signals::Hangups;
use crate::humanize::{Rounded, Utc};
use crate::metrics::Metrics;
use crate::pki;
use crate::secret::Secret;
use crate::token::TokenHash;

/// Between two looks at the files: not every client of ACME tells that it has replaced them.
const LOOK: Duration = Duration::from_secs(60);
/// Largest file, in bytes: far more than any chain.
const MAX_FILE: u64 = 1 << 20;
/// How long before the end a renewal is overdue, and when it is urgent; of a certificate that lives
/// for weeks only, a third and a tenth of its life.
const OVERDUE: Duration = Duration::from_secs(14 * 24 * 3600);
const URGENT: Duration = Duration::from_secs(3 * 24 * 3600);

/// How far the clock of who made a certificate may be ahead of ours.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error(transparent)]
    Content(#[from] pki::Error),
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[source] rustls::Error),
    #[error("the certificate expired on {}", Utc(*.0))]
    Expired(SystemTime),
    #[error("the certificate is not valid before {}", Utc(*.0))]
    NotYetValid(SystemTime),
}

/// Files of the platform's own HTTPS certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the certificate first, its chain behind.
    pub certificate: PathBuf,
    /// PEM. It may be the same file.
    pub key: PathBuf,
}

/// What was in the files at some moment.
struct Content {
    certificate: Zeroizing<String>,
    key: Secret,
    /// Of both.
    hash: TokenHash,
}

/// A certificate with its key, which fit.
#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    begins: SystemTime,
    expires: SystemTime,
}

impl Pair {
    /// Whether clients whose clock is right will take it.
    fn check(&self, now: SystemTime) -> Result<(), TlsError> {
        if now >= self.expires {
            return Err(TlsError::Expired(self.expires));
        }
        if self
            .begins
            .duration_since(now)
            .is_ok_and(|ahead| ahead > CLOCK_TOLERANCE)
        {
            return Err(TlsError::NotYetValid(self.begins));
        }
        Ok(())
    }
}

impl TlsFiles {
    /// A text with the certificate and the key, which fit; it takes the place of both files.
    /// `now` is when the certificate must be valid, if that matters. Blocks.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn joined(&self, now: Option<SystemTime>) -> Result<Zeroizing<String>, TlsError> {
        let content = self.read()?;
        let pair = content.parse()?;
        if let Some(now) = now {
            pair.check(now)?;
        }
        Ok(Zeroizing::new(format!(
            "{}\n{}\n",
            content.certificate.as_str(),
            content.key.expose()
        )))
    }

    fn read(&self) -> Result<Content, TlsError> {
        let certificate = read(&self.certificate)?;
        let key = read(&self.key)?;
        // A file holds no zero byte that a parser of PEM would pass over in silence.
        let both = Zeroizing::new(format!("{}\0{}", certificate.as_str(), key.as_str()));
        let hash = TokenHash::of(&Secret::new(both.as_str()));
        Ok(Content {
            certificate,
            key: Secret::new(key.as_str()),
            hash,
        })
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let mut text = Zeroizing::new(String::new());
    let file = OpenOptions::new()
        .read(true)
        // A FIFO would block the open forever.
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    file.take(MAX_FILE.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(text)
    } else {
        Err(TlsError::TooLarge(path.to_owned()))
    }
}

impl Content {
    fn parse(&self) -> Result<Pair, TlsError> {
        let chain = pki::parse_certificates("--tls-cert", &self.certificate)?;
        let key = pki::parse_private_key("--tls-key", &self.key)?;
        let validity = pki::validity("--tls-cert", &self.certificate)?;
        let key = CertifiedKey::from_der(chain, key, &pki::tls::provider());
        Ok(Pair {
            key: Arc::new(key.map_err(TlsError::Unusable)?),
            begins: *validity.start(),
            expires: *validity.end(),
        })
    }
}

/// What the handshakes use.
struct Current(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Whole at any time.
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// HTTPS with the newest pair of the files that can be used.
pub(super) struct Tls {
    files: TlsFiles,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    /// Of the files that the current pair is from.
    hash: TokenHash,
    begins: SystemTime,
    expires: SystemTime,
    /// How near its end the current certificate was when that was last logged.
    logged: Nearness,
    refused: Option<Refused>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

/// A change of the files that could not be taken.
struct Refused {
    error: String,
    is_logged: bool,
}

/// How near its end a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Far,
    Overdue,
    Urgent,
    Past,
}

impl Nearness {
    fn of(begins: SystemTime, expires: SystemTime, now: SystemTime) -> Self {
        let life = expires.duration_since(begins).unwrap_or_default();
        match expires.duration_since(now) {
            Err(_) | Ok(Duration::ZERO) => Self::Past,
            Ok(left) if left <= URGENT.min(life / 10) => Self::Urgent,
            Ok(left) if left <= OVERDUE.min(life / 3) => Self::Overdue,
            Ok(_) => Self::Far,
        }
    }
}

impl Tls {
    /// Reads the files for the first time. A certificate that has expired is served all the same:
    /// there is no other one. Blocks.
    pub(super) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let content = files.read()?;
        let pair = content.parse()?;
        let current = Arc::new(Current(RwLock::new(pair.key)));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = ServerConfig::builder_with_provider(pki::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files: files.clone(),
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            hash: content.hash,
            begins: pair.begins,
            expires: pair.expires,
            logged: Nearness::Far,
            refused: None,
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Follows the files, and tells of the end of the certificate in time; at once after each of
    /// `hangups`. Ends when it is dropped: it may be cut anywhere.
    pub(super) async fn follow(mut self, mut hangups: Option<Hangups>, metrics: Metrics) {
        metrics.certificate_expires(self.expires);
        self.log_nearness(SystemTime::now());
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => hangups.next().await,
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                () = hangup => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let looked = tokio::task::spawn_blocking(move || {
                self.look(is_asked, SystemTime::now());
                self
            });
            match looked.await {
                Ok(tls) => self = tls,
                // Only the end of the program cancels it.
                Err(_) => return,
            }
            metrics.certificate_expires(self.expires);
        }
    }

    /// Looks at the files once. `is_asked`: someone waits for the result. Blocks.
    fn look(&mut self, is_asked: bool, now: SystemTime) {
        match self.take(now) {
            Ok(true) => {
                self.refused = None;
                self.logged = Nearness::Far;
                event!(events::TLS_REPLACED, expires = %Utc(self.expires));
            }
            Ok(false) => {
                self.refused = None;
                if is_asked {
                    tracing::info!(expires = %Utc(self.expires), "the HTTPS certificate is unchanged");
                }
            }
            Err(error) => self.keep(&error, is_asked),
        }
        self.log_nearness(now);
    }

    /// Takes what is in the files; true if it is something else than before.
    fn take(&mut self, now: SystemTime) -> Result<bool, TlsError> {
        let content = self.files.read()?;
        if content.hash.matches(self.hash.as_bytes()) {
            return Ok(false);
        }
        let pair = content.parse()?;
        pair.check(now)?;
        *self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = pair.key;
        self.hash = content.hash;
        (self.begins, self.expires) = (pair.begins, pair.expires);
        Ok(true)
    }

    /// Logs `error` once. The two files are replaced one after the other, so what no one asked for
    /// is an error only when the next look finds it again.
    fn keep(&mut self, error: &TlsError, is_asked: bool) {
        let error = printable(&chain(error).to_string());
        let before = self.refused.take();
        let before = before.filter(|before| before.error == error);
        let is_due = is_asked || before.as_ref().is_some_and(|before| !before.is_logged);
        if is_due {
            event!(events::TLS_KEPT, error, expires = %Utc(self.expires));
        }
        let is_logged = is_due || before.is_some_and(|before| before.is_logged);
        self.refused = Some(Refused { error, is_logged });
    }

    fn log_nearness(&mut self, now: SystemTime) {
        let nearness = Nearness::of(self.begins, self.expires, now);
        if nearness <= self.logged {
            return;
        }
        self.logged = nearness;
        let left = self.expires.duration_since(now).unwrap_or_default();
        let expires = Utc(self.expires);
        match nearness {
            Nearness::Far => {}
            Nearness::Overdue | Nearness::Urgent => {
                event!(events::TLS_EXPIRES, %expires, left = %Rounded(left));
            }
            Nearness::Past => event!(events::TLS_EXPIRED, %expires),
        }
    }
}

#[cfg(test)]
mod tests;
