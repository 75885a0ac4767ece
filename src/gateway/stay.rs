//! Stays with one tunnel until it ends, is left for another one, or proves useless, and tells the link what shows meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::heartbeat::Beat;
use super::identity::Identity;
use super::issue::Issuer;
use super::link::{self, Action, Event, Link, Moment};
use super::monitor::{News, Reporter};
use super::nudge::Nudge;
use super::path::View;
use super::session;
use super::tunnel::{Tunnel, Tunnels};
use crate::backoff;
use crate::scope::Scope;

/// How often it is looked whether one of too many tunnels has ended.
const ROOM: Duration = Duration::from_secs(10);

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
        let useful_at = Instant::now() + link::USEFUL_AFTER;
        let mut lived = false;
        let mut crowded = false;
        let mut looking: Option<Looking> = None;
        self.tell();
        loop {
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
                        tracing::warn!(
                            "too many older tunnels still carry sessions; moving when one has ended"
                        );
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
                Some(beat) = self.beats.recv() => self.hear(beat),
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
                view = seen(&mut looking) => {
                    looking = None;
                    if view == Some(View::Dead) {
                        return self.abandon(session::Error::Unanswered { host: self.host() });
                    }
                    if view.is_some() && self.view != view {
                        let view = view.as_ref().map(View::to_string);
                        tracing::warn!(view, "looked for what is broken");
                    }
                    self.view = view;
                    self.tell();
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
                    looking = Some(self.look());
                }
                // Sessions that go on prove more than the platform's doubt.
                Action::Redial if self.reporter.sessions() == 0 => {
                    return self.abandon(session::Error::Useless { host: self.host() });
                }
                Action::Check | Action::Redial => looking = Some(self.look()),
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

    fn look(&self) -> Looking {
        let path = self.tunnel.path();
        let doubted = self.doubt.is_some();
        Box::pin(async move {
            if doubted {
                return Some(path.look().await);
            }
            (!path.is_alive().await).then_some(View::Dead)
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

/// Waits for what is looked at; for ever if nothing is.
async fn seen(looking: &mut Option<Looking>) -> Option<View> {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}
