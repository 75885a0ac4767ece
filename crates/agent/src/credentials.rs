//! Credentials that the platform issued, read and checked; an error names the field of the API.

use std::time::SystemTime;

use ssh_key::certificate::CertType;
use ssh_key::{Certificate, PublicKey};

use crate::api::types::ServerPki;
use crate::pki;
use crate::secret::Secret;
use crate::ssh::cert;
use crate::ssh::keys::{self, CertifiedKey};

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of the SSH material.
    #[error("the platform's {field} cannot be used")]
    Ssh {
        /// The field of the API.
        field: &'static str,
        /// Why.
        #[source]
        source: keys::Error,
    },
    /// A certificate of the other kind.
    #[error("the platform's {field} is not a {} certificate", if *.kind == CertType::Host { "host" } else { "user" })]
    WrongKind {
        /// The field of the API.
        field: &'static str,
        /// The kind it must be.
        kind: CertType,
    },
    /// A part of the X.509 material.
    #[error("the platform's credentials for TLS cannot be used")]
    Pki(#[from] pki::Error),
}

/// A field of the API and what it holds.
pub type Field<'a, T> = (&'static str, &'a T);

/// The SSH material of a role.
#[derive(Debug)]
pub struct Ssh {
    /// The role's certificate.
    pub certificate: Certificate,
    /// The certificate with its private key, ready to sign.
    pub key: CertifiedKey,
    /// The CA of the peers' certificates.
    pub ca: PublicKey,
}

impl Ssh {
    /// Reads the three parts; the certificate must be of `kind`.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub fn try_new(
        kind: CertType,
        certificate: Field<'_, String>,
        key: Field<'_, Secret>,
        ca: Field<'_, String>,
    ) -> Result<Self, Error> {
        let error = |field| move |source| Error::Ssh { field, source };
        let parsed = keys::parse_certificate(certificate.1).map_err(error(certificate.0))?;
        if parsed.cert_type() != kind {
            let field = certificate.0;
            return Err(Error::WrongKind { field, kind });
        }
        let private = keys::parse_private_key(key.1).map_err(error(key.0))?;
        let ca = keys::parse_public_key(ca.1).map_err(error(ca.0))?;
        let key = CertifiedKey::try_new(&private, parsed.clone()).map_err(error(key.0))?;
        Ok(Self {
            certificate: parsed,
            key,
            ca,
        })
    }

    /// When the first of the role's certificates expires, by the platform's time.
    ///
    /// # Errors
    /// The certificate for TLS cannot be read.
    pub fn first_expiry(&self, pki: &ServerPki) -> Result<SystemTime, Error> {
        let tls = pki::expires("pki.serverCertificate", &pki.server_certificate)?;
        Ok(cert::expires(&self.certificate).map_or(tls, |ssh| ssh.min(tls)))
    }
}
