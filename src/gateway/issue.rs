//! Asks the platform for credentials: which relay, then the certificates for it (protocol.md §1).

use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::access::Access;
use super::identity::{self, Identity};
use super::relay_choice::{self, PROBE_DEADLINE};
use crate::api::types::{ConnectGateway, RegisterGateway, Relay};
use crate::api::{self, Client};
use crate::error::{Class, Reason};
use crate::host::known::Fingerprint;
use crate::names::{GatewayName, RelayName, TLS_PORT};
use crate::net::dial;

/// Limit for one attempt. Each of its calls and probes has a limit of its own; this one bounds their sum, whatever they
/// become, so that the link never waits for ever.
const ATTEMPT: Duration = Duration::from_secs(120);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The platform gave none.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// What it gave cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The platform and the relays that were tried took too long.
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    TimedOut,
    /// No relay to dial.
    #[error("none of the {0} relays that the platform lists has reported within the last hour")]
    NoHealthyRelay(usize),
}

/// Asks for credentials, for one gateway.
#[derive(Debug)]
pub(crate) struct Issuer {
    client: Client,
    access: Access,
    name: GatewayName,
    /// The relay that the configuration names; never exchanged for another.
    pinned: Option<RelayName>,
    /// The relay chosen last; renewals stay with it.
    chosen: Mutex<Option<RelayName>>,
}

impl Issuer {
    pub(crate) fn new(
        client: Client,
        access: Access,
        name: GatewayName,
        pinned: Option<RelayName>,
    ) -> Self {
        Self {
            client,
            access,
            name,
            pinned,
            chosen: Mutex::default(),
        }
    }

    /// Asks as other settings say from now on, but stays with the relay that is in use if it may.
    pub(crate) async fn succeeding(self, before: &Self) -> Self {
        let same_platform = self.client.base() == before.client.base();
        if same_platform {
            let chosen = before.chosen.lock().await.clone();
            *self.chosen.lock().await = chosen;
        }
        self
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// What the platform knows the gateway by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.access.fingerprint(self.client.base())
    }

    /// True if the configuration names the relay.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// New credentials for a relay chosen now.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn issue(&self) -> Result<Identity, (Error, Class)> {
        self.issue_for(false).await
    }

    /// New credentials for the relay that is in use.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn renew(&self) -> Result<Identity, (Error, Class)> {
        self.issue_for(true).await
    }

    async fn issue_for(&self, keep_relay: bool) -> Result<Identity, (Error, Class)> {
        tokio::time::timeout(ATTEMPT, self.attempt(keep_relay))
            .await
            .unwrap_or(Err((Error::TimedOut, Class::Retry)))
    }

    async fn attempt(&self, keep_relay: bool) -> Result<Identity, (Error, Class)> {
        let token = match self.access.token().await {
            Ok(token) => token,
            Err(error) => {
                let class = self.access.class(&error, None).await;
                return Err((error.into(), class));
            }
        };
        match self.ask(&token, keep_relay).await {
            Ok(identity) => Ok(identity),
            Err(Error::Api(error)) => {
                let mut class = self.access.class(&error, Some(&token)).await;
                // A relay that was chosen from a list may be gone by now; a pinned one is an order.
                let relay_may_be_gone = error.status() == Some(404)
                    && self.pinned.is_none()
                    && matches!(self.access, Access::Identity(_));
                if relay_may_be_gone {
                    class = Class::Retry;
                }
                Err((error.into(), class))
            }
            Err(error @ (Error::NoHealthyRelay(_) | Error::TimedOut)) => Err((error, Class::Retry)),
            // Another answer may be better, but not soon.
            Err(error @ Error::Identity(_)) => {
                Err((error, Class::RetryAfter(Duration::from_secs(10))))
            }
        }
    }

    async fn ask(
        &self,
        token: &crate::secret::Secret,
        keep_relay: bool,
    ) -> Result<Identity, Error> {
        let relay_name = match &self.pinned {
            Some(pinned) => pinned.clone(),
            None => self.choose(token, keep_relay).await?,
        };
        let credentials = match &self.access {
            Access::Identity(_) => {
                let request = RegisterGateway {
                    relay_name: relay_name.clone(),
                    name: self.name.clone(),
                };
                self.client.register_gateway(token, &request).await?
            }
            Access::Gateway(_) => {
                let request = ConnectGateway {
                    relay_name: Some(relay_name.clone()),
                };
                self.client.connect_gateway(token, &request).await?
            }
        };
        let identity = Identity::try_new(relay_name.clone(), &credentials, self.client.clock())?;
        tracing::debug!(
            gateway.id = %identity.gateway_id,
            relay.name = %relay_name,
            relay.host = %identity.relay_host,
            "credentials received"
        );
        *self.chosen.lock().await = Some(relay_name);
        Ok(identity)
    }

    async fn choose(
        &self,
        token: &crate::secret::Secret,
        keep_relay: bool,
    ) -> Result<RelayName, Error> {
        if keep_relay && let Some(chosen) = self.chosen.lock().await.clone() {
            return Ok(chosen);
        }
        let relays = self.client.relays(token).await?;
        let chosen = relay_choice::choose(
            &relays,
            OffsetDateTime::from(self.client.clock().now()),
            probe,
        )
        .await;
        chosen
            .map(|relay| relay.name.clone())
            .ok_or(Error::NoHealthyRelay(relays.len()))
    }
}

/// The TCP connect time to the relay's TLS port.
async fn probe(relay: &Relay) -> Option<Duration> {
    let begin = Instant::now();
    let connected = dial::connect(relay.host.as_str(), TLS_PORT, PROBE_DEADLINE).await;
    connected.ok().map(|_| begin.elapsed())
}

impl Error {
    /// Whose fault it is when it is final.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Api(error) => match error.class() {
                Class::Fatal(reason) => reason,
                Class::Reauthenticate | Class::Reenroll => Reason::Permission,
                Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
            },
            Self::Identity(_) | Self::NoHealthyRelay(_) => Reason::Configuration,
            Self::TimedOut => Reason::Unavailable,
        }
    }
}
