//! New settings while the gateway runs: from the next request on, the platform is asked as they
//! say.
//!
//! Nothing is cut for that but sessions whose target the new policy refuses ([`crate::targets`]).
//! `renew` asks for new credentials at once; if those are for another relay, the link makes a tunnel
//! to it, and the old one carries its sessions to their end. Settings that cannot be used leave
//! everything as it is. The same settings again are a wish to try now: a wait before the next attempt
//! ends. The root certificates are read again in either case.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::credential_client::CredentialClient;
use super::{Error, open_auth};
use crate::agent::reload::{apply_newest, log_refused};
use crate::agent::status::Reporter;
use crate::config::settings::GatewaySettings;
use crate::config::targets::TargetPolicy;
use crate::scope::Scope;
use crate::trust;

/// What became of settings.
pub(super) enum Made {
    /// Who asks the platform as they say, and they themselves.
    CredentialClient(Box<(CredentialClient, GatewaySettings)>),
    /// Nothing: newer ones came first.
    Newer,
    /// Nothing: the gateway stops.
    Stopped,
}

/// Makes the newest of `settings` usable; an enrollment token among them is spent, and `retrying`
/// hears of each failed attempt. Newer ones that come meanwhile are seen by the next call.
pub(super) async fn make(
    settings: &mut watch::Receiver<GatewaySettings>,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Made, Error> {
    let applied = apply_newest(settings, scope, |wanted, attempt| async move {
        let credential_client = build(&wanted, retrying, &attempt).await?;
        Ok::<_, Error>(
            credential_client.map(|credential_client| Box::new((credential_client, wanted))),
        )
    });
    Ok(match applied.await? {
        Some(made) => Made::CredentialClient(made),
        None if scope.is_cancelled() => Made::Stopped,
        None => Made::Newer,
    })
}

async fn build(
    settings: &GatewaySettings,
    retrying: impl FnMut(String, Duration),
    scope: &Scope,
) -> Result<Option<CredentialClient>, Error> {
    let client = super::client(settings)?;
    let auth = open_auth(settings, &client, retrying, scope).await?;
    let (name, relay) = (settings.name.clone(), settings.relay.clone());
    Ok(auth.map(|auth| CredentialClient::new(client, auth, name, relay)))
}

/// Follows `settings` forever, or until `scope` is cancelled; `used` are in use.
pub(crate) async fn run(
    mut settings: watch::Receiver<GatewaySettings>,
    mut used: GatewaySettings,
    (credential_clients, policy): (
        watch::Sender<Arc<CredentialClient>>,
        watch::Sender<Arc<TargetPolicy>>,
    ),
    reporter: Reporter,
    scope: Scope,
) {
    while scope.changed(&mut settings).await {
        trust::reload().await;
        if *settings.borrow_and_update() == used {
            credential_clients.send_modify(|_| ());
            continue;
        }
        // Whether the tunnel is up is another matter.
        let retrying = |error, _| reporter.configuration(Some(error));
        match make(&mut settings, retrying, &scope).await {
            Ok(Made::Stopped) => return,
            Ok(Made::Newer) => {}
            Ok(Made::CredentialClient(made)) => {
                let (credential_client, wanted) = *made;
                let before = Arc::clone(&credential_clients.borrow());
                let credential_client = credential_client.succeeding(&before);
                reporter.token(credential_client.auth().source().expiry());
                credential_clients.send_replace(Arc::new(credential_client));
                reporter.configuration(None);
                super::report_rules(&reporter, &wanted);
                policy.send_replace(Arc::clone(&wanted.targets));
                used = wanted;
            }
            Err(error) => reporter.configuration(Some(log_refused(&error))),
        }
    }
}
