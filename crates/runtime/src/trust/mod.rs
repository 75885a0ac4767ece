//! The root certificates for HTTPS: those of this machine, and the one of a platform with a private
//! CA.
//!
//! The machine's roots are found as OpenSSL and Go find them: a file and directories, each of which
//! a variable replaces (`SSL_CERT_FILE`, `SSL_CERT_DIR`). A private CA (`--ca-file`) comes in
//! addition, for the platform and the logins to it; targets are judged by the machine's roots
//! alone.
//!
//! Nothing is read before the first HTTPS connection needs it, so plain HTTP works on a machine
//! without any roots. [`Roots::reload`] reads again; connections that are open stay as they are.

mod presented;
mod read;
mod verifier;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

pub use presented::{Certificate, Presented, accepting_config};
use read::Defaults;
pub use read::Error;
pub(crate) use verifier::Untrusted;
use verifier::{Anchors, Judged, Verifier};

/// Roots are read again after a certificate was refused, but not more often than this.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// A file or a directory with certificates, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The setting, for errors: a flag, a variable, a key.
    pub setting: String,
    /// The file or the directory.
    pub path: PathBuf,
}

/// Where the roots are. An empty value is no value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Instead of the system's file: `SSL_CERT_FILE`.
    pub cert_file: Option<NamedFile>,
    /// Instead of the system's directories: `SSL_CERT_DIR`.
    pub cert_dirs: Option<Vec<NamedFile>>,
    /// In addition, for the platform: `--ca-file`.
    pub ca_file: Option<NamedFile>,
}

/// The roots for connections to the platform. They are read once and kept until they are reloaded.
#[derive(Debug, Default)]
pub struct Roots {
    state: Mutex<State>,
    defaults: Defaults,
}

#[derive(Debug, Default)]
struct State {
    source: Source,
    anchors: Option<Arc<Anchors>>,
    read_at: Option<Instant>,
}

/// The roots of this process. The machine and the command line decide on them, so there is one
/// instance for all connections.
#[must_use]
pub fn roots() -> &'static Arc<Roots> {
    static ROOTS: LazyLock<Arc<Roots>> = LazyLock::new(Arc::default);
    &ROOTS
}

impl Roots {
    /// Finds out whether what `source` names can be used, and whether there are roots at all.
    /// Blocks.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub fn check(&self, source: &Source) -> Result<(), Error> {
        self.defaults.platform(source).map(drop)
    }

    /// Takes the roots from `source` from now on.
    pub fn set_source(&self, source: Source) {
        let mut state = self.lock();
        if state.source != source {
            *state = State {
                source,
                ..State::default()
            };
        }
    }

    /// Adds the CA in `file`, or none, to the machine's roots from now on. Roots that are in use
    /// stay as they are where that fails. Blocks.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn use_ca_file(&self, file: Option<&NamedFile>) -> Result<(), Error> {
        let mut state = self.lock();
        if state.source.ca_file.as_ref() == file {
            return Ok(());
        }
        let source = Source {
            ca_file: file.cloned(),
            ..state.source.clone()
        };
        if state.anchors.is_some() {
            let read = Anchors::new(self.defaults.platform(&source)?, Judged::Platform)?;
            state.anchors = Some(Arc::new(read));
            state.read_at = Some(Instant::now());
        }
        state.source = source;
        Ok(())
    }

    /// Reads the roots, if that has not happened yet. Blocks.
    ///
    /// # Errors
    /// A file that a setting names cannot be used, or there are no roots at all.
    pub fn load(&self) -> Result<(), Error> {
        self.anchors().map(drop)
    }

    /// The TLS configuration of a client of the platform. It follows later changes of the roots,
    /// and reads them when they are first needed.
    ///
    /// # Errors
    /// [`Error::Tls`].
    pub fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config =
            client_config(Arc::new(Verifier::following(Arc::clone(self), provider())))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads the roots again. True if they changed. Those in use stay where that fails. Blocks.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub(crate) fn reload(&self) -> Result<bool, Error> {
        let (source, before) = {
            let state = self.lock();
            // Nothing uses them yet: they will be read when something does.
            let Some(before) = state.anchors.clone() else {
                return Ok(false);
            };
            (state.source.clone(), before)
        };
        let read = Anchors::new(self.defaults.platform(&source)?, Judged::Platform)?;
        let mut state = self.lock();
        state.read_at = Some(Instant::now());
        if state.source != source || before.is_same(&read) {
            return Ok(false);
        }
        state.anchors = Some(Arc::new(read));
        Ok(true)
    }

    /// Reads the roots again because a certificate was refused: perhaps its CA was added meanwhile.
    /// True if they changed. Does nothing if they were read a moment ago. Blocks.
    pub fn reload_after_refusal(&self) -> bool {
        let read_at = self.lock().read_at;
        if read_at.is_some_and(|at| at.elapsed() < RELOAD_INTERVAL) {
            return false;
        }
        self.reload_or_warn()
    }

    /// Reads the roots again, and logs what became of it. True if they changed. Blocks.
    pub fn reload_or_warn(&self) -> bool {
        match self.reload() {
            Ok(false) => false,
            Ok(true) => {
                tracing::info!("root certificates reloaded");
                true
            }
            Err(error) => {
                let error = crate::error::chain(&error).to_string();
                tracing::warn!(
                    error,
                    "cannot reload the root certificates; the old ones stay"
                );
                false
            }
        }
    }

    /// The TLS configuration of a client of anything but the platform: the machine's roots, read
    /// now. Blocks.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub fn target_config(&self) -> Result<ClientConfig, Error> {
        let source = self.lock().source.clone();
        let anchors = Anchors::new(self.defaults.machine(&source)?, Judged::Target)?;
        client_config(Arc::new(Verifier::fixed(Arc::new(anchors), provider())))
    }

    fn anchors(&self) -> Result<Arc<Anchors>, Error> {
        let mut state = self.lock();
        if let Some(anchors) = &state.anchors {
            return Ok(Arc::clone(anchors));
        }
        let read = Anchors::new(self.defaults.platform(&state.source)?, Judged::Platform)?;
        let anchors = Arc::new(read);
        state.anchors = Some(Arc::clone(&anchors));
        state.read_at = Some(Instant::now());
        Ok(anchors)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Reads the roots of this process again, because a person asked for it.
pub async fn reload() {
    // It logs its own failure, and the threads outlive every task.
    let _ = tokio::task::spawn_blocking(|| roots().reload_or_warn()).await;
}

/// The TLS configuration of a client that believes in `certificates` alone, as a target's settings
/// name them.
///
/// # Errors
/// None of them can be used.
pub fn given_config(certificates: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let anchors = Anchors::new(certificates, Judged::Given)?;
    client_config(Arc::new(Verifier::fixed(Arc::new(anchors), provider())))
}

/// Session resumption is off, because a resumed session skips the check of the certificate.
fn client_config(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
mod tests;
