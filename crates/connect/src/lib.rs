//! The client's side: from a local port, or from standard input and output, to a service behind a
//! gateway.
//!
//! The platform grants a session: two certificates that live for minutes and name gateway and
//! target (protocol.md §4). With them each connection dials the relay (TLS 1) and, through it, the
//! gateway (TLS 2, service `infisical-tcp-proxy`), and bytes are copied both ways with half-close.
//! The target's name is resolved by the gateway. Nothing is decided here about who may do what:
//! that is the platform's affair.
//!
//! - [`Forwarder`] serves a local port.
//! - [`Proxy`] serves local ports at which programs choose their targets.
//! - [`Connection`] is one connection, for standard input and output.

use infisical_api as api;
use infisical_config as config;
use infisical_pki as pki;
use infisical_runtime::{humanize, log_throttle, names, net, scope, secret};

mod ending;
pub mod error;
mod forward;
mod lease;
mod proxy;
mod route;
mod stdio;
pub mod target;

use tokio::io::{AsyncRead, AsyncWrite};

pub use error::{Error, Part};
pub use forward::Forwarder;
pub use proxy::{Protocol, Proxy};
pub use target::Target;

use crate::config::proxy::Proxies;
use crate::config::settings::{ApiBase, CustomHeaders};
use crate::names::GatewayName;
use crate::scope::Scope;
use crate::secret::Secret;
use route::{Remote, Route};

/// Through which gateway to connect, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The embedded platform.
    pub domain: ApiBase,
    /// Extra headers of every request to it.
    pub headers: CustomHeaders,
    /// Proxies on the way to it.
    pub proxies: Proxies,
    /// The token that permits sessions.
    pub token: Secret,
    /// The gateway.
    pub gateway: GatewayName,
}

impl Settings {
    /// Prepares requests to the platform.
    fn platform(&self) -> Result<api::Client, Error> {
        api::Client::try_new(&self.domain, &self.headers, &self.proxies).map_err(Error::Client)
    }
}

/// One connection to the target.
#[derive(Debug)]
pub struct Connection {
    route: Route,
    remote: Remote,
}

impl Connection {
    /// Connects to `target`, unless `scope` is cancelled before.
    ///
    /// # Errors
    /// The connection could not be made.
    pub async fn open(settings: Settings, target: Target, scope: &Scope) -> Result<Self, Error> {
        let platform = settings.platform()?;
        let route = Route::new(settings, target, platform);
        let opened = scope.run(Box::pin(route.open())).await;
        let remote = opened.ok_or(Error::Stopped)??;
        Ok(Self { route, remote })
    }

    /// Copies between `input`, `output` and the target until the target's side has ended or `scope`
    /// is cancelled. The end of `input` is passed on as a half-close.
    ///
    /// # Errors
    /// The connection did not come to its end, whatever became of `input`.
    pub async fn copy<I, O>(mut self, input: I, output: O, scope: &Scope) -> Result<(), Error>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
    {
        let ending = {
            let copying = stdio::copy(input, output, &mut self.remote.stream);
            let copied = scope.run(copying).await;
            copied.unwrap_or(ending::Ending::Stopped)
        };
        if !ending.is_orderly() {
            self.remote.stream.abort().await;
        }
        ending.judge(&self.route, &self.remote)
    }
}
