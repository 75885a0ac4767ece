//! New settings while a role runs: used from the next call on, and refused as a whole.

use std::error::Error;
use std::future::Future;

use tokio::sync::watch;

use crate::error::chain;
use crate::scope::Scope;
use crate::{event, events};

/// Applies the newest of `settings` with `apply`, which gets a scope that is cancelled when newer
/// ones come. It is not cut in the middle of a call, which may be spending an enrollment token.
///
/// # Errors
/// Those of `apply`.
pub async fn apply_newest<S, T, E, F>(
    settings: &mut watch::Receiver<S>,
    scope: &Scope,
    apply: impl FnOnce(S, Scope) -> F,
) -> Result<Option<T>, E>
where
    S: Clone,
    F: Future<Output = Result<Option<T>, E>>,
{
    let newest = settings.borrow_and_update().clone();
    let attempt = scope.child("settings");
    let applying = apply(newest, attempt.clone());
    tokio::pin!(applying);
    tokio::select! {
        applied = &mut applying => applied,
        Ok(()) = settings.changed() => {
            settings.mark_changed();
            attempt.cancel();
            applying.await
        }
    }
}

/// Logs that settings were refused, and returns why.
pub fn log_refused(error: &(dyn Error + 'static)) -> String {
    let (event, error) = (events::RELOAD_REFUSED, chain(error).to_string());
    event!(event, error);
    error
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::watch;

    use super::apply_newest;
    use crate::scope::Scope;

    #[tokio::test]
    async fn newer_settings_stop_the_attempt_between_calls() {
        let (sender, mut settings) = watch::channel(1);
        let scope = Scope::new("test");
        let applied = apply_newest(&mut settings, &scope, |first, attempt| async move {
            sender.send_replace(2);
            attempt.cancelled().await;
            assert_eq!(first, 1);
            Ok::<Option<()>, Infallible>(None)
        });
        assert!(matches!(applied.await, Ok(None)));
        assert!(!scope.is_cancelled());
    }
}
