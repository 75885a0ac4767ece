//! Reasons to act at once instead of when it is due: a person asks, the network changed, the
//! machine slept.

use tokio::sync::mpsc;

use super::policy::MAX_TRIGGERS;
use crate::host::system_events::Watcher;

/// A reason to act at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectTrigger {
    /// A person asks for it, or changed the settings: no wait is kept, and a nearer relay is looked
    /// for.
    UserRequest,
    /// Something happened to this machine's network or clock: the tunnel may be gone without
    /// notice.
    SystemEvent,
}

/// Both ends of the queue of reasons.
#[derive(Debug)]
pub struct ReconnectTriggers {
    /// Cloned for each source of reasons.
    sender: mpsc::Sender<ReconnectTrigger>,
    pub(crate) receiver: mpsc::Receiver<ReconnectTrigger>,
}

impl Default for ReconnectTriggers {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_TRIGGERS);
        Self { sender, receiver }
    }
}

impl ReconnectTriggers {
    /// Sends reasons to the gateway. A full queue can be ignored: the gateway is about to act
    /// already.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<ReconnectTrigger> {
        self.sender.clone()
    }
}

/// Reports whatever happens to this machine's network or clock, until it is cancelled.
pub(crate) async fn run(triggers: mpsc::Sender<ReconnectTrigger>) {
    let mut watcher = Watcher::new();
    loop {
        let system_event = watcher.next().await;
        tracing::debug!(%system_event, "looking at the tunnel");
        let _ = triggers.try_send(ReconnectTrigger::SystemEvent);
    }
}
