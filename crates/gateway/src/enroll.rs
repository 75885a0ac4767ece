//! The first start with a one-time enrollment token.

use std::time::Duration;

use super::Error;
use crate::agent::enroll::Store;
use crate::api::Client;
use crate::api::types::GatewayLogin;
use crate::config::credential::Credential;
use crate::config::role::GATEWAY;
use crate::config::settings::GatewaySettings;
use crate::names::{GatewayId, GatewayName};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::{event, events};

/// How an exchange ended that did not fail.
#[derive(Debug)]
pub enum Exchange {
    /// Nothing is to be exchanged.
    NotNeeded,
    /// The access token is saved; with the gateway's name, from platforms that tell it.
    Done(Option<GatewayName>),
    /// The scope was cancelled before the platform answered.
    Cancelled,
}

/// Spends the enrollment token of `settings`, if that is their credential, and starts nothing;
/// `retrying` hears of each failed attempt.
///
/// # Errors
/// What only a person can cure.
pub async fn exchange(
    settings: &GatewaySettings,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Exchange, Error> {
    let Credential::Enroll { token } = &settings.credential else {
        return Ok(Exchange::NotNeeded);
    };
    let client = super::client(settings)?;
    let login = spend(token, settings, &client, retrying, scope).await?;
    Ok(login.map_or(Exchange::Cancelled, |login| Exchange::Done(login.name)))
}

/// Exchanges the enrollment token for an access token, and saves that.
pub(crate) async fn spend(
    token: &Secret,
    settings: &GatewaySettings,
    client: &Client,
    mut retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<GatewayLogin>, Error> {
    let store = Store {
        role: &GATEWAY,
        file: &settings.common.store,
        domain: &settings.common.domain,
    };
    let login = || client.enroll_gateway(token);
    let login = store.exchange(client.base(), login, &mut retrying, scope);
    let Some(login) = login.await? else {
        return Ok(None);
    };
    let kept = store.keep(&login.access_token, token, &mut retrying, scope);
    kept.await?;
    event!(
        events::ENROLLED,
        gateway.id = login.gateway_id.as_ref().map(GatewayId::as_str),
        gateway.name = login.name.as_ref().map(GatewayName::as_str),
        store = %settings.common.store.display()
    );
    Ok(Some(login))
}
