//! New settings while the gateway runs: from the next request on, the platform is asked as they say.
//!
//! Nothing is cut for that. `renew` asks for new credentials at once; if those are for another relay, the link makes a
//! tunnel to it, and the old one carries its sessions to their end. Settings that cannot be used leave everything as
//! it is. The same settings again are a wish to try now: a wait before the next attempt ends.

use std::sync::Arc;

use tokio::sync::watch;

use super::issue::Issuer;
use super::monitor::Reporter;
use super::{Error, open_access};
use crate::api::Client;
use crate::config::settings::GatewaySettings;
use crate::error::chain;
use crate::events;
use crate::scope::Scope;

/// Follows `settings` for ever, or until `scope` is cancelled.
pub(crate) async fn run(
    mut settings: watch::Receiver<GatewaySettings>,
    issuers: watch::Sender<Arc<Issuer>>,
    reporter: Reporter,
    scope: Scope,
) {
    let mut used = settings.borrow().clone();
    loop {
        match scope.run(settings.changed()).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(_)) => {
                // Nobody will change them any more.
                scope.cancelled().await;
                return;
            }
        }
        let wanted = settings.borrow_and_update().clone();
        if wanted == used {
            issuers.send_modify(|_| ());
            continue;
        }
        match issuer(&wanted, &reporter, &scope).await {
            Ok(None) => return,
            Ok(Some(issuer)) => {
                let before = Arc::clone(&issuers.borrow());
                let issuer = issuer.succeeding(&before).await;
                issuers.send_replace(Arc::new(issuer));
                used = wanted;
            }
            Err(error) => tracing::error!(
                message_id = events::RELOAD_REFUSED.id,
                error = %chain(&error),
                "{}",
                events::RELOAD_REFUSED
            ),
        }
    }
}

/// Who asks the platform as `settings` say; an enrollment token among them is spent. `None` if `scope` was cancelled
/// before.
pub(super) async fn issuer(
    settings: &GatewaySettings,
    reporter: &Reporter,
    scope: &Scope,
) -> Result<Option<Issuer>, Error> {
    let client = Client::try_new(&settings.domain, &settings.headers).map_err(Error::Client)?;
    let access = open_access(settings, &client, reporter, scope).await?;
    let (name, relay) = (settings.name.clone(), settings.relay.clone());
    Ok(access.map(|access| Issuer::new(client, access, name, relay)))
}
