//! SIGHUP: the role's configuration is read again, whole, and used if there is nothing wrong with it.

use tokio::sync::watch;

use crate::error::chain;
use crate::events;
use crate::host::notify;
use crate::host::signals::Hangups;

/// For each of `hangups`, forever: assembles the settings anew, and passes them on to the role that `settings` leads
/// to; if they are wrong, `refused` hears why, and the old ones stay.
pub(crate) async fn follow<S: PartialEq>(
    mut hangups: Hangups,
    assemble: impl Fn() -> anyhow::Result<S>,
    settings: watch::Sender<S>,
    refused: impl Fn(Option<String>),
) {
    loop {
        hangups.next().await;
        notify::reloading();
        match assemble() {
            Ok(wanted) => {
                let changed = *settings.borrow() != wanted;
                tracing::info!(
                    message_id = events::RELOADED.id,
                    changed,
                    "{}",
                    events::RELOADED
                );
                refused(None);
                // Even the same ones again: it is a wish to try now.
                settings.send_replace(wanted);
            }
            Err(error) => {
                let error = chain(error.as_ref()).to_string();
                tracing::error!(
                    message_id = events::RELOAD_REFUSED.id,
                    error,
                    "{}",
                    events::RELOAD_REFUSED
                );
                refused(Some(error));
            }
        }
        notify::ready();
    }
}
