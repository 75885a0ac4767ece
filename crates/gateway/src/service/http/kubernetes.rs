//! Acting as the pod this gateway runs in: its service account's token, and its cluster's API
//! server.
//!
//! A request asks for it with the header [`ACTION_HEADER`]. Only the platform may;
//! [`super::forward`] decides that. The files are read for each request, because the kubelet
//! replaces them while the gateway runs.

use std::io;
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::trust::Roots;
use crate::pki;
use crate::secret::Secret;

/// The header that asks for an action; no target ever sees it.
pub const ACTION_HEADER: &str = "x-infisical-action";

/// The pod's service account and its cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// File with the service account's token.
    pub token: PathBuf,
    /// File with the CA of the API server, PEM.
    pub ca: PathBuf,
    /// Host (IPv6 without brackets) and port of the API server; absent outside of a cluster.
    pub api: Option<(String, u16)>,
}

impl Cluster {
    /// The files where Kubernetes puts them in every pod.
    #[must_use]
    pub fn of_this_pod(api: Option<(String, u16)>) -> Self {
        let folder = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            token: folder.join("token"),
            ca: folder.join("ca.crt"),
            api,
        }
    }

    /// The value of `Authorization` that speaks for the pod.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, Error> {
        let token = |source| Error::Token {
            path: self.token.clone(),
            source,
        };
        let text = Secret::new(
            tokio::fs::read_to_string(&self.token)
                .await
                .map_err(token)?,
        );
        let trimmed = text.expose().trim();
        if trimmed.is_empty() {
            return Err(token(io::Error::other("the file is empty")));
        }
        let value = Zeroizing::new(format!("Bearer {trimmed}"));
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| token(io::Error::other("the file holds more than a token")))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The roots that vouch for the API server.
    pub(super) async fn roots(&self) -> Result<Roots, Error> {
        let pem = tokio::fs::read(&self.ca)
            .await
            .map_err(|source| Error::Ca {
                path: self.ca.clone(),
                source,
            })?;
        Roots::parse("ca.crt", &pem).map_err(Error::UnusableCa)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the request to its target with the pod's token.
    InjectToken,
    /// Send the request to the cluster's API server with the pod's token.
    UseServiceAccount,
}

impl Action {
    /// Unknown actions ask for nothing, as deployed.
    pub(super) fn parse(value: &HeaderValue) -> Option<Self> {
        match value.as_bytes() {
            b"inject-k8s-sa-auth-token" => Some(Self::InjectToken),
            b"use-k8s-sa" => Some(Self::UseServiceAccount),
            _ => None,
        }
    }
}

/// Why the pod's identity cannot be used. The texts are the platform's to read (protocol.md §5): it
/// looks for them in the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to read k8s sa auth token")]
    Token {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to read k8s sa ca cert")]
    Ca {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to parse k8s sa ca cert")]
    UnusableCa(#[source] pki::Error),
}
