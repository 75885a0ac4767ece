//! SIGHUP: the role's configuration is read again, whole, and used if there is nothing wrong with
//! it.

use std::path::Path;

use tokio::sync::watch;

use crate::config::env::Environment;
use crate::error::chain;
use crate::host::notify;
use crate::host::signals::Hangups;
use crate::{event, events};

/// Logged when a reload finds the copy of the configuration that it had already.
const HANDED_OVER: &str = "reloaded with the configuration that systemd handed over at the start; \
    after a change of the file, restart the service";

/// True if the service manager hands the configuration over, at a start only.
pub(crate) fn is_handed_over(config: Option<&Path>, environment: &Environment) -> bool {
    let directory = environment.credentials_directory.as_deref();
    matches!((config, directory), (Some(config), Some(directory)) if config.starts_with(directory))
}

/// For each of `hangups`, until the process ends: assembles the settings again, and passes them on
/// to the role that `settings` leads to; if they are wrong, `refused` is called with the reason,
/// and the old ones stay. A configuration that `is_handed_over` and has not changed is not called
/// reloaded, for the file may have changed.
pub(crate) async fn follow<S: PartialEq>(
    mut hangups: Hangups,
    is_handed_over: bool,
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
                if is_handed_over && !changed {
                    tracing::info!("{HANDED_OVER}");
                } else {
                    event!(events::RELOADED, changed);
                }
                refused(None);
                // Even the same ones again: it is a wish to try now.
                settings.send_replace(wanted);
            }
            Err(error) => {
                let error = chain(error.as_ref()).to_string();
                event!(events::RELOAD_REFUSED, error);
                refused(Some(error));
            }
        }
        notify::ready();
    }
}
