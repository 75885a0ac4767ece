//! Stays with one tunnel until it ends, is left for another one, or proves useless, and tells the link what shows meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::path::View;
use super::policy::{ROOM, USEFUL_AFTER};
use super::reconnect_trigger::Nudge;
use super::session;
use super::state::{Action, Event, Link, Moment};
use super::status::{News, Reporter};
use super::tunnel::{Tunnel, Tunnels};
use crate::backoff;
use crate::gateway::heartbeat::Beat;
use crate::gateway::identity::Identity;
use crate::gateway::issue::Issuer;
use crate::log_throttle::LogThrottle;
use crate::scope::Scope;

/// Why a tunnel is not stayed with any longer.
pub(super) enum Left {
    /// The gateway stops.
    Stopped,
    /// The tunnel ended, or was ended.
    Lost(session::Error),
    /// The newest credentials are for another one.
    Moved,
}

/// Asks a tunnel for a sign of life, or more.
type Looking = Pin<Box<dyn Future<Output = Option<View>> + Send>>;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// Whether the tunnel answers.
    Tunnel,
    /// The relay's port for clients too.
    All,
}

/// Looks, one after another. One under way comes to its end, whatever is a reason for another one meanwhile: if each reason began it
/// anew, a tunnel on a host whose network changes for ever would never be found dead.
#[derive(Default)]
struct Looks {
    running: Option<Looking>,
    /// What is looked at after that.
    next: Option<Extent>,
}

impl Looks {
    /// Wants a look that begins now or later.
    fn want(&mut self, extent: Extent, look: impl FnOnce(Extent) -> Looking) {
        if self.running.is_some() {
            self.next = self.next.max(Some(extent));
        } else {
            self.running = Some(look(extent));
        }
    }

    /// Waits for the end of the look; for ever if there is none. Cancel-safe.
    async fn seen(&mut self) -> Option<View> {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let view = running.await;
        self.running = None;
        view
    }
}

/// What there is to hear and to act on while a tunnel is up.
pub(super) struct Stay<'a> {
    pub(super) tunnel: &'a mut Tunnel,
    pub(super) tunnels: &'a Tunnels,
    /// Whether there may be one more tunnel beside this one, for the newest credentials.
    pub(super) may_move: &'a (dyn Fn(&Identity) -> bool + Sync),
    /// Said by `heartbeat`.
    pub(super) beats: &'a mut mpsc::Receiver<Beat>,
    pub(super) nudges: &'a mut mpsc::Receiver<Nudge>,
    /// The newest; the other end is `reload`.
    pub(super) issuer: &'a mut watch::Receiver<Arc<Issuer>>,
    pub(super) current: &'a watch::Sender<Option<Arc<Identity>>>,
    /// Said by sessions.
    pub(super) carried: &'a Notify,
    /// Heard by `renew`.
    pub(super) renew: &'a Notify,
    /// Heard by `remeasure`.
    pub(super) remeasure: &'a Notify,
    pub(super) reporter: &'a Reporter,
    pub(super) link: &'a mut Link,
    /// What is wrong beyond the tunnel, as the last heartbeat showed it.
    pub(super) doubt: Option<String>,
    /// What was seen from here since.
    pub(super) view: Option<View>,
}

impl Stay<'_> {
    pub(super) async fn run(mut self, scope: &Scope) -> Left {
        let mut newest = self.current.subscribe();
        newest.mark_changed();
        let useful_at = Instant::now() + USEFUL_AFTER;
        let mut lived = false;
        let mut crowded = false;
        let mut looks = Looks::default();
        let throttle = LogThrottle::for_retries();
        self.tell();
        loop {
            let mut extent = Extent::Tunnel;
            let event = tokio::select! {
                // A tunnel that ends because the gateway stops is not lost.
                biased;
                () = scope.cancelled() => return Left::Stopped,
                error = self.tunnel.ended() => return Left::Lost(error),
                Ok(()) = newest.changed() => {
                    let newest = newest.borrow_and_update().clone();
                    let elsewhere =
                        newest.filter(|newest| !newest.shares_tunnel_with(&self.tunnel.identity));
                    if elsewhere.as_ref().is_some_and(|newest| (self.may_move)(newest)) {
                        return Left::Moved;
                    }
                    if elsewhere.is_some() && !crowded {
                        const CROWDED: &str =
                            "too many older tunnels still carry sessions; moving when one has ended";
                        if let Some(permission) = throttle.should_log(CROWDED, "") {
                            tracing::warn!(suppressed = permission.suppressed(), "{CROWDED}");
                        }
                    }
                    crowded = elsewhere.is_some();
                    continue;
                }
                () = tokio::time::sleep(ROOM), if crowded => {
                    newest.mark_changed();
                    continue;
                }
                Ok(()) = self.issuer.changed() => {
                    self.link.set_pinned(self.issuer.borrow_and_update().is_pinned());
                    continue;
                }
                Some(beat) = self.beats.recv() => {
                    let event = self.hear(beat);
                    if self.doubt.is_some() {
                        extent = Extent::All;
                    }
                    event
                }
                Some(nudge) = self.nudges.recv() => {
                    if nudge == Nudge::Wanted {
                        self.remeasure.notify_one();
                    }
                    Event::Disturbed
                }
                () = useful(useful_at, self.carried), if !lived => {
                    lived = true;
                    Event::Lived
                }
                view = looks.seen() => {
                    if view == Some(View::Dead) {
                        return self.abandon(session::Error::Unanswered { host: self.host() });
                    }
                    if let Some(view) = view.as_ref().filter(|_| self.view != view) {
                        const LOOKED: &str = "looked for what is broken";
                        if let Some(permission) = throttle.should_log(LOOKED, view.kind()) {
                            let suppressed = permission.suppressed();
                            tracing::warn!(%view, suppressed, "{LOOKED}");
                        }
                    }
                    self.view = view.or_else(|| self.view.take());
                    self.tell();
                    if let Some(extent) = looks.next.take() {
                        looks.want(extent, |extent| self.look(extent));
                    }
                    continue;
                }
            };
            let now = Instant::now();
            let random = backoff::random();
            let action = self.link.handle(event, Moment { now, random });
            self.tell();
            match action {
                Action::Renew => {
                    self.renew.notify_one();
                    looks.want(extent, |extent| self.look(extent));
                }
                // Sessions that go on prove more than the platform's doubt.
                Action::Redial if self.reporter.sessions() == 0 => {
                    return self.abandon(session::Error::Useless { host: self.host() });
                }
                Action::Check | Action::Redial => looks.want(extent, |extent| self.look(extent)),
                Action::Continue
                | Action::Register
                | Action::Connect
                | Action::Serve
                | Action::Wait(_)
                | Action::Stop(_) => {}
            }
        }
    }

    /// What a heartbeat means. One that the platform did not answer says nothing of the path, but is a reason to look.
    fn hear(&mut self, beat: Beat) -> Event {
        // A platform that answers may also give certificates, for which `renew` may be waiting to ask.
        let is_due = |identity: &Arc<Identity>| identity.is_due();
        let due = self.current.borrow().as_ref().is_some_and(is_due);
        if due && !matches!(beat, Beat::Unanswered(_)) {
            self.renew.notify_one();
        }
        match beat {
            Beat::Through => {
                (self.doubt, self.view) = (None, None);
                Event::Proved
            }
            Beat::NotThrough(why) => {
                self.doubt = Some(format!("Infisical does not reach it: {why}"));
                Event::Unproved
            }
            Beat::Unanswered(why) => {
                self.doubt = Some(format!("Infisical does not say that it reaches it: {why}"));
                Event::Disturbed
            }
        }
    }

    fn look(&self, extent: Extent) -> Looking {
        let path = self.tunnel.path();
        Box::pin(async move {
            match extent {
                Extent::All => Some(path.look().await),
                Extent::Tunnel => (!path.is_alive().await).then_some(View::Dead),
            }
        })
    }

    fn abandon(&self, why: session::Error) -> Left {
        self.tunnels.abandon(self.tunnel);
        Left::Lost(why)
    }

    fn tell(&self) {
        let doubt = self.doubt.as_ref().map(|doubt| match &self.view {
            Some(view) => format!("{doubt} ({view})"),
            None => doubt.clone(),
        });
        let relay = &self.tunnel.identity.relay_name;
        self.reporter
            .link(self.link.state(), News::Tunnel { relay, doubt });
    }

    fn host(&self) -> String {
        self.tunnel.identity.relay_host.to_string()
    }
}

/// Waits until the tunnel has carried a session, or has lived for long.
async fn useful(at: Instant, carried: &Notify) {
    tokio::select! {
        () = tokio::time::sleep_until(at) => {}
        () = carried.notified() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Extent, Looking, Looks};
    use crate::gateway::connection::path::View;

    const ANSWER: Duration = Duration::from_secs(5);

    fn dead(_: Extent) -> Looking {
        Box::pin(async {
            sleep(ANSWER).await;
            Some(View::Dead)
        })
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_dead_tunnel_is_found_though_there_are_reasons_to_look_for_ever() {
        let begin = Instant::now();
        let mut looks = Looks::default();
        let view = loop {
            looks.want(Extent::Tunnel, dead);
            tokio::select! {
                view = looks.seen() => break view,
                () = sleep(ANSWER / 20) => {}
            }
            assert!(begin.elapsed() <= ANSWER, "still looking");
        };
        assert_eq!(view, Some(View::Dead));
        // What came meanwhile is looked at after that, once.
        assert_eq!(looks.next.take(), Some(Extent::Tunnel));
        looks.want(Extent::Tunnel, dead);
        looks.want(Extent::All, dead);
        looks.want(Extent::Tunnel, dead);
        assert_eq!(looks.seen().await, Some(View::Dead));
        assert_eq!(looks.next, Some(Extent::All));
    }
}
