//! Reasons to look at once instead of when it is due: a person asks, the network changed, the machine slept.

use tokio::sync::mpsc;

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

/// A way to nudge a gateway, and the gateway's end of it.
#[must_use]
pub fn nudges() -> (mpsc::Sender<Nudge>, mpsc::Receiver<Nudge>) {
    mpsc::channel(WAITING)
}
