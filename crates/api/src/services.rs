//! Named services of the embedded platform (`/v1/embedded/services`), as they are sent; not part of
//! the deployed API.
//!
//! A service gives a target behind a gateway a name and a local port. It grants nothing: access
//! rules alone do.

use serde::{Deserialize, Serialize};

use crate::names::{GatewayName, ServiceName};

/// Where operators define services, and see all of them.
pub const SERVICES: &str = "/v1/embedded/services";
/// Where a client sees those that it may reach.
pub const REACHABLE_SERVICES: &str = "/v1/embedded/services/reachable";

/// A target behind a gateway, with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// No other service of its gateway has it.
    pub name: ServiceName,
    /// The gateway's name; the gateway may not exist yet.
    pub gateway: GatewayName,
    /// As the gateway resolves it; an IPv6 address has no brackets.
    pub target_host: String,
    /// Never 0.
    pub target_port: u16,
    /// Where clients listen for it by default; the target's port if it is not given.
    #[serde(default)]
    pub local_port: Option<u16>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

impl Service {
    /// `HOST:PORT`, an IPv6 address in brackets.
    #[must_use]
    pub fn target(&self) -> String {
        let (host, port) = (&self.target_host, self.target_port);
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Where clients listen by default.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.local_port.unwrap_or(self.target_port)
    }
}
