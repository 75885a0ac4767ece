//! Reports of the open sessions to an embedded platform that takes them; no other one gets any.
//!
//! A report follows each change, at most one in [`PAUSE`], and one comes now and then without any,
//! so that the platform can tell a quiet gateway from a lost one. Sessions never wait for a report:
//! it is made of copies, by a task of its own. One that fails is not repeated; the next has
//! everything again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::credential_client::CredentialClient;
use crate::agent::access::call;
use crate::api;
use crate::audit::Audit;
use crate::error::{Class, chain};

/// The least time between two reports.
const PAUSE: Duration = Duration::from_secs(2);
/// The least time after a report that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How often sessions that are open are reported without a change: their bytes change.
const REFRESH: Duration = Duration::from_secs(60);
/// The same without an open session: within the 150 s for which the platform believes a report.
const REFRESH_IDLE: Duration = Duration::from_secs(120);

/// Reports forever, each time as the newest of `credential_clients` may; at once when `tunnel_up`
/// becomes true, since a platform that has started again knows nothing.
pub(crate) async fn run(
    credential_clients: watch::Receiver<Arc<CredentialClient>>,
    mut tunnel_up: watch::Receiver<bool>,
    audit: Audit,
) {
    if tunnel_up.wait_for(|up| *up).await.is_err() {
        return;
    }
    loop {
        let credential_client = Arc::clone(&credential_clients.borrow());
        let mut next = Next::after_report(0);
        if credential_client.accepts_session_reports() {
            let report = audit.report();
            let sent = call(credential_client.auth().source(), |token| {
                let (client, report) = (credential_client.client(), &report);
                async move { client.report_sessions(&token, report).await }
            });
            next = match sent.await {
                Ok(()) => Next::after_report(report.open),
                Err((error, class)) => Next::after_failure(&error, class),
            };
        }
        tokio::time::sleep_until(next.not_before).await;
        tokio::select! {
            () = audit.changed() => {}
            Ok(()) = tunnel_up.changed() => {}
            () = tokio::time::sleep_until(next.due) => {}
        }
    }
}

/// When the next report follows.
struct Next {
    /// At the earliest.
    not_before: Instant,
    /// Without a change.
    due: Instant,
}

impl Next {
    fn after_report(open: u64) -> Self {
        let refresh = match open {
            0 => REFRESH_IDLE,
            _ => REFRESH,
        };
        let now = Instant::now();
        Self {
            not_before: now + PAUSE,
            due: now + refresh,
        }
    }

    fn after_failure(error: &api::Error, class: Class) -> Self {
        tracing::debug!(error = %chain(error), "the platform did not take the report of sessions");
        let pause = match class {
            Class::RetryAfter(pause) => pause.max(PAUSE_AFTER_FAILURE),
            Class::Retry | Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                PAUSE_AFTER_FAILURE
            }
        };
        let now = Instant::now();
        Self {
            not_before: now + pause,
            due: now + pause.max(REFRESH),
        }
    }
}
