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
use crate::agent::reload::{apply_newest, log_refused};
use crate::config::settings::GatewaySettings;
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
    let applied = apply_newest(settings, scope, |wanted, attempt| async move {
        let issuer = issuer(&wanted, retrying, &attempt).await?;
        Ok::<_, Error>(issuer.map(|issuer| Box::new((issuer, wanted))))
    });
    Ok(match applied.await? {
        Some(made) => Made::Issuer(made),
        None if scope.is_cancelled() => Made::Stopped,
        None => Made::Newer,
    })
}

async fn issuer(
    settings: &GatewaySettings,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<Issuer>, Error> {
    let client = super::client(settings)?;
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
            Err(error) => reporter.configuration(Some(log_refused(&error))),
        }
    }
}
