//! What a hand-over from one process to another means for the connection: on the side of the
//! process before, and on that of its successor. The processes talk elsewhere; here are the ends of
//! channels.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::policy::{RELEASE, SUCCESSOR_FORGOTTEN};

/// What becomes of this process's successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// There is none; it failed at the given time, if there was one.
    None(Option<Instant>),
    /// It connects: the relay may end this process's tunnel in favour of its own.
    Connecting,
    /// It connects as soon as this process's tunnel is closed.
    Release,
    /// It serves.
    Complete,
}

impl Succession {
    /// True while the end of the tunnel may be the successor's work.
    pub(crate) fn is_under_way(self) -> bool {
        match self {
            Self::None(_) => false,
            Self::Connecting | Self::Release | Self::Complete => true,
        }
    }

    /// True if a relay may still report that the tunnel was taken over by a successor that is gone.
    pub(crate) fn has_failed_lately(self) -> bool {
        matches!(self, Self::None(Some(at)) if at.elapsed() < SUCCESSOR_FORGOTTEN)
    }
}

/// Tells a gateway what becomes of its successor.
#[derive(Debug)]
pub struct SuccessionControl {
    succession: watch::Sender<Succession>,
    /// The other end is the gateway: there is no tunnel.
    released: mpsc::Receiver<()>,
}

/// The gateway's end of a [`SuccessionControl`].
#[derive(Debug)]
pub struct Successions {
    pub(crate) succession: watch::Receiver<Succession>,
    pub(crate) released: mpsc::Sender<()>,
}

/// Both ends.
#[must_use]
pub fn succession() -> (SuccessionControl, Successions) {
    let (sender, receiver) = watch::channel(Succession::None(None));
    let (released, when_released) = mpsc::channel(1);
    let control = SuccessionControl {
        succession: sender,
        released: when_released,
    };
    let successions = Successions {
        succession: receiver,
        released,
    };
    (control, successions)
}

impl SuccessionControl {
    /// A successor was started.
    pub fn started(&self) {
        self.succession.send_replace(Succession::Connecting);
    }

    /// The successor's relay admits no second connection: closes the tunnel, and waits for that.
    pub async fn release(&mut self) {
        while self.released.try_recv().is_ok() {}
        self.succession.send_replace(Succession::Release);
        // A gateway without a tunnel does not answer.
        let _ = timeout(RELEASE, self.released.recv()).await;
    }

    /// The successor is gone: the gateway makes a tunnel again if it has lost its own.
    pub fn failed(&self) {
        let now = Some(Instant::now());
        self.succession.send_replace(Succession::None(now));
    }

    /// The successor serves: the gateway lets its sessions finish, and ends.
    pub fn complete(&self) {
        self.succession.send_replace(Succession::Complete);
    }
}

/// What a successor needs of the process before.
#[derive(Debug)]
pub enum SuccessorEvent {
    /// The tunnel is up.
    Serving,
    /// The relay holds the tunnel of the process before, and admits no other; the answer is that it
    /// is closed.
    TurnedAway(oneshot::Sender<()>),
}

/// The successor's end towards the process before.
#[derive(Debug)]
pub struct PredecessorLink {
    events: mpsc::Sender<SuccessorEvent>,
    was_asked: bool,
}

/// A link, and what comes of it.
#[must_use]
pub fn predecessor() -> (PredecessorLink, mpsc::Receiver<SuccessorEvent>) {
    let (events, receiver) = mpsc::channel(2);
    let link = PredecessorLink {
        events,
        was_asked: false,
    };
    (link, receiver)
}

impl PredecessorLink {
    /// The tunnel is up.
    pub(crate) fn serving(&self) {
        // There is room for both events; without a receiver no one wants to know.
        let _ = self.events.try_send(SuccessorEvent::Serving);
    }

    /// Has the process before close its tunnel; false if that was asked for already, or cannot be
    /// asked.
    pub(crate) async fn release(&mut self) -> bool {
        if std::mem::replace(&mut self.was_asked, true) {
            return false;
        }
        let (answer, released) = oneshot::channel();
        let asked = self.events.try_send(SuccessorEvent::TurnedAway(answer));
        // Bounded by the process before, which gives a successor up that is not up in time.
        asked.is_ok() && released.await.is_ok()
    }
}

/// How long a hand-over may take, from its request on. A successor that is not up by then is given
/// up.
pub const LIMIT: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::{Succession, SuccessorEvent, predecessor, succession};
    use crate::connection::policy::SUCCESSOR_FORGOTTEN;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn failed_successor_is_forgotten() {
        let (control, successions) = succession();
        let now = || *successions.succession.borrow();
        assert!(!now().is_under_way() && !now().has_failed_lately());
        control.started();
        assert!(now().is_under_way());
        control.failed();
        assert!(!now().is_under_way() && now().has_failed_lately());
        tokio::time::advance(SUCCESSOR_FORGOTTEN).await;
        assert!(!now().has_failed_lately());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn release_without_a_tunnel_is_bounded() {
        let (mut control, successions) = succession();
        control.release().await;
        assert_eq!(*successions.succession.borrow(), Succession::Release);
    }

    #[tokio::test]
    async fn tunnel_is_released_once() {
        let (mut link, mut events) = predecessor();
        let answering = async {
            let Some(SuccessorEvent::TurnedAway(answer)) = events.recv().await else {
                panic!("another event");
            };
            answer.send(()).expect("awaited");
        };
        let (released, ()) = tokio::join!(link.release(), answering);
        assert!(released);
        assert!(!link.release().await);
    }
}
