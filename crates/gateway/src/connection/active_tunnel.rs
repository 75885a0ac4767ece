//! What happens while a tunnel is up: heartbeats, checks, new credentials, its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::handover::Succession;
use super::path::View;
use super::policy::{ROOM_CHECK, USEFUL_AFTER};
use super::reconnect_trigger::ReconnectTrigger;
use super::run::{Driver, reaches};
use super::session;
use super::state::{TunnelAction, TunnelEvent, Up};
use super::tunnel::Tunnel;
use crate::agent::status::condition::{Condition, HEARTBEAT_UNANSWERED, NOT_REACHED};
use crate::heartbeat::Heartbeat;
use crate::identity::Identity;
use crate::log_throttle::LogThrottle;

/// Sent to the relay of a tunnel that is replaced, if it still receives that.
const ABANDONED: &str = "nothing gets through this connection; making another one";
/// Sent to a relay that admits one connection of a gateway only.
const HANDED_OVER: &str = "another process of this gateway connects";

/// Why a tunnel is not in use any longer.
pub(super) enum End {
    /// It ended, or was ended.
    Lost(session::Error),
    /// The newest credentials are for another one.
    Reselected,
}

/// A check of the tunnel, or of more.
type Check = Pin<Box<dyn Future<Output = Option<View>> + Send>>;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// Whether the tunnel answers.
    Tunnel,
    /// The relay's port for clients too.
    All,
}

/// Checks, one after another. A running one comes to its end, whatever is a reason for another one
/// meanwhile: if each reason restarted it, a tunnel on a host whose network keeps changing would
/// never be found dead.
#[derive(Default)]
struct Checks {
    running: Option<Check>,
    /// What is checked after that.
    next: Option<Extent>,
}

impl Checks {
    /// Begins a check now, or after the running one.
    fn request(&mut self, extent: Extent, check: impl FnOnce(Extent) -> Check) {
        if self.running.is_some() {
            self.next = self.next.max(Some(extent));
        } else {
            self.running = Some(check(extent));
        }
    }

    /// Waits for the end of the check; never ends if there is none. Cancel-safe.
    async fn finished(&mut self) -> Option<View> {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let view = running.await;
        self.running = None;
        view
    }
}

/// A tunnel that is up, and what happens to it.
pub(super) struct ActiveTunnel<'a> {
    driver: &'a mut Driver,
    state: &'a mut Up<Tunnel>,
    /// What is wrong beyond the tunnel, as the last heartbeat showed it.
    doubt: Option<(&'static Condition, String)>,
    /// What was seen from here since.
    view: Option<View>,
}

impl<'a> ActiveTunnel<'a> {
    pub(super) fn new(driver: &'a mut Driver, state: &'a mut Up<Tunnel>) -> Self {
        Self {
            driver,
            state,
            doubt: None,
            view: None,
        }
    }

    /// Runs until the tunnel ends, is left for another one, or proves useless.
    pub(super) async fn run(mut self) -> End {
        let mut newest = self.driver.current.subscribe();
        newest.mark_changed();
        let stable_at = Instant::now() + USEFUL_AFTER;
        let mut is_stable = false;
        let mut is_crowded = false;
        let mut checks = Checks::default();
        let throttle = LogThrottle::for_retries();
        let released = reaches(
            self.driver.successions.succession.clone(),
            Succession::Release,
        );
        tokio::pin!(released);
        let mut is_released = false;
        self.report();
        loop {
            let mut extent = Extent::Tunnel;
            let event = tokio::select! {
                // The end of the tunnel makes all else void.
                biased;
                error = self.state.tunnel.ended() => return End::Lost(error),
                () = &mut released, if !is_released => {
                    is_released = true;
                    self.driver.tunnels.abandon(&self.state.tunnel, HANDED_OVER);
                    continue;
                }
                Ok(()) = newest.changed() => {
                    let identity = newest.borrow_and_update().clone();
                    let own = &self.state.tunnel.identity;
                    let elsewhere = identity.filter(|newest| !newest.shares_tunnel_with(own));
                    if elsewhere.as_ref().is_some_and(|other| self.driver.has_room_for(other)) {
                        return End::Reselected;
                    }
                    if elsewhere.is_some() && !is_crowded {
                        const CROWDED: &str = "too many older tunnels still carry sessions; \
                                               moving when one has ended";
                        if let Some(permission) = throttle.should_log(CROWDED, "") {
                            tracing::warn!(suppressed = permission.suppressed(), "{CROWDED}");
                        }
                    }
                    is_crowded = elsewhere.is_some();
                    continue;
                }
                () = tokio::time::sleep(ROOM_CHECK), if is_crowded => {
                    newest.mark_changed();
                    continue;
                }
                Ok(()) = self.driver.credential_client.changed() => {
                    let is_pinned = self.driver.credential_client.borrow_and_update().is_pinned();
                    self.state.history.set_pinned(is_pinned);
                    continue;
                }
                Some(heartbeat) = self.driver.heartbeat_rx.recv() => {
                    let event = self.heartbeat(heartbeat);
                    if self.doubt.is_some() {
                        extent = Extent::All;
                    }
                    event
                }
                Some(trigger) = self.driver.trigger_rx.recv() => {
                    match trigger {
                        ReconnectTrigger::UserRequest => self.driver.reselect.notify_one(),
                        ReconnectTrigger::SystemEvent => {}
                    }
                    TunnelEvent::CheckRequested
                }
                () = stable(stable_at, &self.driver.session_ok), if !is_stable => {
                    is_stable = true;
                    TunnelEvent::Stable
                }
                view = checks.finished() => {
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
                    self.report();
                    if let Some(extent) = checks.next.take() {
                        checks.request(extent, |extent| self.check(extent));
                    }
                    continue;
                }
            };
            let action = self.state.handle(event, Instant::now());
            self.report();
            match action {
                TunnelAction::Continue => {}
                TunnelAction::Check => checks.request(extent, |extent| self.check(extent)),
                TunnelAction::Renew => {
                    self.driver.renew.notify_one();
                    checks.request(extent, |extent| self.check(extent));
                }
                // Sessions that go on prove more than the platform's report.
                TunnelAction::Reconnect if self.driver.reporter.sessions() > 0 => {
                    checks.request(extent, |extent| self.check(extent));
                }
                TunnelAction::Reconnect => {
                    return self.abandon(session::Error::Useless { host: self.host() });
                }
            }
        }
    }

    /// What a heartbeat means. One that the platform did not answer says nothing of the path, but
    /// is a reason to check it.
    fn heartbeat(&mut self, heartbeat: Heartbeat) -> TunnelEvent {
        // A platform that answers may also give certificates, for which `renew` may be waiting.
        let is_due = |identity: &Arc<Identity>| identity.lifetime.is_due();
        let due = self.driver.current.borrow().as_ref().is_some_and(is_due);
        if due && !matches!(heartbeat, Heartbeat::Unanswered(_)) {
            self.driver.renew.notify_one();
        }
        match heartbeat {
            Heartbeat::Reached => {
                (self.doubt, self.view) = (None, None);
                TunnelEvent::HeartbeatReached
            }
            Heartbeat::NotReached(why) => {
                self.doubt = Some((&NOT_REACHED, why));
                TunnelEvent::HeartbeatFailed
            }
            Heartbeat::Unanswered(why) => {
                self.doubt = Some((&HEARTBEAT_UNANSWERED, why));
                TunnelEvent::CheckRequested
            }
        }
    }

    fn check(&self, extent: Extent) -> Check {
        let path = self.state.tunnel.path();
        Box::pin(async move {
            match extent {
                Extent::All => Some(path.look().await),
                Extent::Tunnel => (!path.is_alive().await).then_some(View::Dead),
            }
        })
    }

    fn abandon(&self, error: session::Error) -> End {
        self.driver.tunnels.abandon(&self.state.tunnel, ABANDONED);
        End::Lost(error)
    }

    fn report(&self) {
        let doubt = self.doubt.as_ref().map(|(doubt, why)| match &self.view {
            Some(view) => (*doubt, format!("{why} ({view})")),
            None => (*doubt, why.clone()),
        });
        let relay = &self.state.tunnel.identity.relay_name;
        self.driver.reporter.up(
            Some(relay),
            doubt.as_ref().map(|(doubt, why)| (*doubt, why.as_str())),
        );
    }

    fn host(&self) -> String {
        self.state.tunnel.identity.relay_host.to_string()
    }
}

/// Waits until the tunnel has carried a session, or has been up until `at`.
async fn stable(at: Instant, session_ok: &Notify) {
    tokio::select! {
        () = tokio::time::sleep_until(at) => {}
        () = session_ok.notified() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Check, Checks, Extent};
    use crate::connection::path::View;

    const ANSWER: Duration = Duration::from_secs(5);

    fn dead(_: Extent) -> Check {
        Box::pin(async {
            sleep(ANSWER).await;
            Some(View::Dead)
        })
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn dead_tunnel_is_found_despite_many_triggers() {
        let begin = Instant::now();
        let mut checks = Checks::default();
        let view = loop {
            checks.request(Extent::Tunnel, dead);
            tokio::select! {
                view = checks.finished() => break view,
                () = sleep(ANSWER / 20) => {}
            }
            assert!(begin.elapsed() <= ANSWER, "still checking");
        };
        assert_eq!(view, Some(View::Dead));
        // A request that came meanwhile is checked after that, once.
        assert_eq!(checks.next.take(), Some(Extent::Tunnel));
        checks.request(Extent::Tunnel, dead);
        checks.request(Extent::All, dead);
        checks.request(Extent::Tunnel, dead);
        assert_eq!(checks.finished().await, Some(View::Dead));
        assert_eq!(checks.next, Some(Extent::All));
    }
}
