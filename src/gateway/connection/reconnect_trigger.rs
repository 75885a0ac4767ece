//! Reasons to look at once instead of when it is due: a person asks, the network changed, the machine slept.

use tokio::sync::mpsc;

use crate::host::disturbance::Watcher;

/// A reason to look at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// A person asks for it: whatever is waited for is tried now, and a nearer relay is looked for.
    Wanted,
    /// Something happened to this machine's network or clock: the tunnel may be gone without anybody having said so.
    Disturbed,
}

/// Nudges that may wait for the link; a further one says nothing new.
const WAITING: usize = 4;

/// A gateway's end of its nudges.
#[derive(Debug)]
pub struct Nudges {
    /// For whoever has reasons.
    sender: mpsc::Sender<Nudge>,
    pub(crate) receiver: mpsc::Receiver<Nudge>,
}

impl Default for Nudges {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver }
    }
}

impl Nudges {
    /// A way to nudge the gateway. A full queue may be left alone: the gateway is about to look already.
    #[must_use]
    pub fn nudger(&self) -> mpsc::Sender<Nudge> {
        self.sender.clone()
    }
}

/// Nudges for ever whenever something happens to this machine's network or clock.
pub(crate) async fn run(nudger: mpsc::Sender<Nudge>) {
    let mut watcher = Watcher::new();
    loop {
        let disturbance = watcher.next().await;
        tracing::debug!(%disturbance, "looking at the tunnel");
        let _ = nudger.try_send(Nudge::Disturbed);
    }
}
