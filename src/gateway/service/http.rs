//! `infisical-http-proxy`. Stands in until the folder `http/` lands: delete this file then.

use crate::pki::extensions::{Actor, Route};
use crate::scope::Scope;

/// The cluster that the gateway runs in.
#[derive(Debug, Default)]
pub struct Cluster {}

/// What a client's certificate says.
#[derive(Debug)]
pub struct Request<'a> {
    /// The target.
    pub route: &'a Route,
    /// On whose behalf.
    pub actor: Option<&'a Actor>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP service is not there yet")]
pub struct Error;

#[expect(clippy::unused_async, reason = "stands in")]
#[expect(missing_docs, reason = "stands in")]
pub async fn serve<S>(
    _stream: S,
    request: Request<'_>,
    _cluster: &Cluster,
    _scope: &Scope,
) -> Result<(), Error> {
    let _ = (request.route, request.actor);
    Err(Error)
}
