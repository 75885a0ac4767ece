//! New settings while the gateway runs: from the next request on, the platform is asked as they say.
//!
//! Nothing is cut for that. `renew` asks for new credentials at once; if those are for another relay, the link makes a
//! tunnel to it, and the old one carries its sessions to their end. Settings that cannot be used leave everything as
//! it is. The same settings again are a wish to try now: a wait before the next attempt ends. The root certificates are
//! read again in either case.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::connection::status::Reporter;
use super::issue::Issuer;
use super::{Error, open_access};
use crate::api::Client;
use crate::config::settings::GatewaySettings;
use crate::error::chain;
use crate::events;
use crate::scope::Scope;
use crate::trust;

/// What became of settings.
pub(super) enum Made {
    /// Who asks the platform as they say, and they themselves.
    Issuer(Box<(Issuer, GatewaySettings)>),
    /// Nothing: newer ones came first.
    Newer,
    /// Nothing: the gateway stops.
    Stopped,
}

/// Makes the newest of `settings` usable; an enrollment token among them is spent, and `retrying` hears of each failed attempt.
/// Newer ones that come meanwhile are seen by the next call.
pub(super) async fn make(
    settings: &mut watch::Receiver<GatewaySettings>,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Made, Error> {
    let wanted = settings.borrow_and_update().clone();
    let attempt = scope.child("settings");
    let making = issuer(&wanted, retrying, &attempt);
    tokio::pin!(making);
    let made = tokio::select! {
        made = &mut making => made?,
        // These are given up, but not in the middle of a call, which may be spending a token.
        Ok(()) = settings.changed() => {
            settings.mark_changed();
            attempt.cancel();
            making.await?
        }
    };
    Ok(match made {
        Some(issuer) => Made::Issuer(Box::new((issuer, wanted.clone()))),
        None if scope.is_cancelled() => Made::Stopped,
        None => Made::Newer,
    })
}

async fn issuer(
    settings: &GatewaySettings,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<Issuer>, Error> {
    let roots = trust::roots().use_ca_file(settings.ca_file.as_ref());
    roots.map_err(|error| Error::Client(error.into()))?;
    let client = Client::try_new(&settings.domain, &settings.headers, &settings.proxies)
        .map_err(Error::Client)?;
    let access = open_access(settings, &client, retrying, scope).await?;
    let (name, relay) = (settings.name.clone(), settings.relay.clone());
    Ok(access.map(|access| Issuer::new(client, access, name, relay)))
}

/// Follows `settings` forever, or until `scope` is cancelled; `used` are in use.
pub(crate) async fn run(
    mut settings: watch::Receiver<GatewaySettings>,
    mut used: GatewaySettings,
    issuers: watch::Sender<Arc<Issuer>>,
    reporter: Reporter,
    scope: Scope,
) {
    while scope.changed(&mut settings).await {
        trust::reload().await;
        if *settings.borrow_and_update() == used {
            issuers.send_modify(|_| ());
            continue;
        }
        // Whether the tunnel is up is another matter.
        let retrying = |error, _| reporter.configuration(Some(error));
        match make(&mut settings, retrying, &scope).await {
            Ok(Made::Stopped) => return,
            Ok(Made::Newer) => {}
            Ok(Made::Issuer(made)) => {
                let (issuer, wanted) = *made;
                let before = Arc::clone(&issuers.borrow());
                let issuer = issuer.succeeding(&before);
                issuers.send_replace(Arc::new(issuer));
                reporter.configuration(None);
                used = wanted;
            }
            Err(error) => {
                let error = chain(&error).to_string();
                tracing::error!(
                    message_id = events::RELOAD_REFUSED.id,
                    error,
                    "{}",
                    events::RELOAD_REFUSED
                );
                reporter.configuration(Some(error));
            }
        }
    }
}
