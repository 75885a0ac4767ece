//! Reads root certificates from where the machine and the settings have them.

use std::io;
use std::path::{Path, PathBuf};

use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths};
use rustls_pki_types::CertificateDer;

use super::{NamedFile, Source};
use crate::error::pem_error;

/// Why there are no root certificates.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error("{setting}: cannot read {}", path.display())]
    Read {
        setting: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{setting}: {} holds no usable certificate: {reason}", path.display())]
    Content {
        setting: String,
        path: PathBuf,
        reason: String,
    },
    #[error(
        "this machine has no root certificates, which HTTPS needs; install the package \
         ca-certificates, or name a file with SSL_CERT_FILE or --ca-file"
    )]
    NoRoots,
    #[error("none of the given certificates can be used as a root")]
    NoneUsable,
    #[error("TLS cannot be used")]
    Tls(#[source] rustls::Error),
}

impl Error {
    /// True if a setting is wrong; otherwise the machine lacks something.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Content { .. } | Self::NoneUsable => true,
            Self::NoRoots | Self::Tls(_) => false,
        }
    }
}

/// Where the system keeps its roots.
#[derive(Debug, Default)]
pub(super) enum Defaults {
    /// In one of the places that distributions use, looked for each time.
    #[default]
    Probed,
    /// There.
    #[cfg(test)]
    Fixed {
        file: Option<PathBuf>,
        dirs: Vec<PathBuf>,
    },
}

impl Defaults {
    /// The machine's roots, and a private CA's.
    pub(super) fn platform(&self, source: &Source) -> Result<Vec<CertificateDer<'static>>, Error> {
        let Some(file) = &source.ca_file else {
            return self.machine(source);
        };
        let mut certificates = named_file(file)?;
        match self.machine(source) {
            Ok(more) => certificates.extend(more),
            // A private CA is enough for a platform that has one.
            Err(Error::NoRoots) => {}
            Err(error) => return Err(error),
        }
        Ok(certificates)
    }

    /// The machine's roots.
    pub(super) fn machine(&self, source: &Source) -> Result<Vec<CertificateDer<'static>>, Error> {
        let (file, dirs) = self.locations();
        let mut certificates = match &source.cert_file {
            Some(file) => named_file(file)?,
            // What is odd in the system's own files is not this program's affair.
            None => load_certs_from_paths(file.as_deref(), None).certs,
        };
        match &source.cert_dirs {
            Some(named) => {
                for NamedFile { setting, path } in named {
                    std::fs::read_dir(path).map_err(|source| Error::Read {
                        setting: setting.clone(),
                        path: path.clone(),
                        source,
                    })?;
                    certificates.extend(load_certs_from_paths(None, Some(path)).certs);
                }
            }
            None => {
                for dir in dirs {
                    certificates.extend(load_certs_from_paths(None, Some(&dir)).certs);
                }
            }
        }
        if certificates.is_empty() {
            return Err(Error::NoRoots);
        }
        Ok(certificates)
    }

    fn locations(&self) -> (Option<PathBuf>, Vec<PathBuf>) {
        match self {
            Self::Probed => {
                let found = openssl_probe::probe();
                (found.cert_file, found.cert_dir)
            }
            #[cfg(test)]
            Self::Fixed { file, dirs } => (file.clone(), dirs.clone()),
        }
    }
}

/// Reads a file that a setting names; at least one certificate.
fn named_file(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, Error> {
    let CertificateResult { certs, errors, .. } = load_certs_from_paths(Some(&file.path), None);
    if !certs.is_empty() {
        return Ok(certs);
    }
    let reason = match errors.into_iter().next().map(|error| error.kind) {
        Some(ErrorKind::Io { inner, .. }) => {
            return Err(Error::Read {
                setting: file.setting.clone(),
                path: file.path.clone(),
                source: inner,
            });
        }
        Some(ErrorKind::Pem(error)) => pem_error(&error),
        _ => without_certificates(&file.path),
    };
    Err(Error::Content {
        setting: file.setting.clone(),
        path: file.path.clone(),
        reason,
    })
}

/// What is in a file that can be read and has no PEM certificate.
fn without_certificates(path: &Path) -> String {
    let content = std::fs::read(path).unwrap_or_default();
    let has = |text: &str| content.windows(text.len()).any(|at| at == text.as_bytes());
    let reason = if content.is_empty() {
        "it is empty"
    } else if content.starts_with(&[0x30]) {
        "it is in DER form; convert it with `openssl x509 -inform der`"
    } else if has("-----BEGIN") {
        "there is something else in it, such as a key"
    } else {
        "there is no -----BEGIN CERTIFICATE----- in it"
    };
    reason.to_owned()
}
