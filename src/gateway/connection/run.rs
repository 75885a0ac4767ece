//! Acts as the link decides: registers, dials, stays with a tunnel, waits. It lives for as long as the gateway, and gives
//! the gateway's heart a turn wherever it waits.
//!
//! What it knows outlives a panic: it is driven again, and finds the credentials, the tunnels that retired and what it
//! has said already. The tunnel in use is dropped then: it serves on as a retired one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::active_tunnel::{Left, Stay};
use super::policy::{CONNECT, DRAIN, FRESH, HEAD_START, HEAD_STARTS_DOUBLED};
use super::reconnect_trigger::Nudge;
use super::session;
use super::state::{Action, Event, Failure, Link, Moment};
use super::status::{News, Reporter};
use super::tunnel::{Tunnel, Tunnels};
use crate::backoff;
use crate::error::{Class, chain};
use crate::events;
use crate::gateway::heartbeat::Beat;
use crate::gateway::identity::Identity;
use crate::gateway::issue::{self, Issuer};
use crate::gateway::{Error, STOP};
use crate::health::Heart;
use crate::host::known::Known;
use crate::log_throttle::{LogThrottle, Permission};
use crate::names::{GatewayName, SSH_PORT};
use crate::net::dial;
use crate::scope::Scope;

/// The link and what it acts on.
pub(crate) struct Supervisor {
    /// The newest; the other end is `reload`.
    pub(crate) issuer: watch::Receiver<Arc<Issuer>>,
    /// Shared with `renew`; tunnels take their TLS configuration from it.
    pub(crate) current: watch::Sender<Option<Arc<Identity>>>,
    /// Heard by `heartbeat` and `remeasure`.
    pub(crate) up: watch::Sender<bool>,
    /// Said by `heartbeat`.
    pub(crate) beats: mpsc::Receiver<Beat>,
    /// Said by signals and by `disturbances`.
    pub(crate) nudges: mpsc::Receiver<Nudge>,
    /// Said by sessions.
    pub(crate) carried: Arc<Notify>,
    /// Heard by `renew`.
    pub(crate) renew: Arc<Notify>,
    /// Heard by `remeasure`.
    pub(crate) remeasure: Arc<Notify>,
    pub(crate) reporter: Reporter,
    pub(crate) tunnels: Tunnels,
    /// Given a turn wherever the link waits.
    pub(crate) heart: Heart,
    pub(crate) known: Known,
    /// For lines that repeat while there is no tunnel.
    pub(crate) log_throttle: LogThrottle,
    /// It was told that the way to another relay fails.
    pub(crate) moving: bool,
    /// There was a tunnel already, in the life of this process.
    pub(crate) started: bool,
    /// The relay spoke before the platform answered, so often since there was a tunnel.
    pub(crate) overtaken: u32,
    /// A person wanted an attempt while a relay was dialled: should that fail, nothing is waited for.
    pub(crate) wanted: bool,
}

impl Supervisor {
    /// Does what the link says until `scope` is cancelled or the link gives up.
    pub(crate) async fn drive(&mut self, scope: &Scope) -> Result<(), Error> {
        let issuer = Arc::clone(&self.issuer.borrow());
        // A gateway that has worked as it is asks on after a refusal, at a start too.
        let ever_up = self.started || self.known.has(&issuer.fingerprint());
        let mut link = Link::new(issuer.is_pinned(), ever_up);
        let mut action = Action::Register;
        // Those that were left for another one. The last one is in full use until the other one is up.
        let mut left: Vec<Tunnel> = Vec::new();
        let mut failure: Option<Error> = None;
        loop {
            let event = match action {
                Action::Register => {
                    match scope.run(self.register(&mut link, failure.as_ref())).await {
                        None => return Ok(()),
                        Some(Ok(())) => Event::Registered,
                        Some(Err((error, class))) => {
                            failure = Some(Error::Credentials(error));
                            let usable = self.usable();
                            Event::RegistrationFailed { class, usable }
                        }
                    }
                }
                Action::Connect => {
                    match scope.run(self.connect(link.attempts(), &mut left)).await {
                        None => return Ok(()),
                        Some(Err(error)) => {
                            let why = error.failure();
                            failure = Some(Error::Tunnel(error));
                            Event::ConnectionFailed(why)
                        }
                        Some(Ok(mut tunnel)) => {
                            link.handle(Event::Connected, moment());
                            match self.serve(&mut tunnel, &mut left, &mut link, scope).await {
                                Left::Stopped => return Ok(()),
                                Left::Moved => {
                                    left.push(tunnel);
                                    Event::Moved
                                }
                                Left::Lost(error) => {
                                    let why = error.failure();
                                    self.blame(&tunnel.identity, why);
                                    failure = Some(Error::Tunnel(error));
                                    Event::Lost(why)
                                }
                            }
                        }
                    }
                }
                Action::Wait(delay) => {
                    self.report_wait(failure.as_ref(), delay, &link, &mut left);
                    match scope.run(self.wait(delay, &mut link)).await {
                        None => return Ok(()),
                        Some(event) => event,
                    }
                }
                Action::Stop(_) => return failure.map_or(Ok(()), Err),
                // Answers to what shows while a tunnel is up, when only `serve` tells the link anything.
                Action::Serve
                | Action::Continue
                | Action::Check
                | Action::Renew
                | Action::Redial => return Err(Error::Casualty("link")),
            };
            action = link.handle(event, moment());
        }
    }

    /// Others are better than the relay of `identity` for a while, unless it is not to blame.
    fn blame(&self, identity: &Identity, failure: Failure) {
        if failure != Failure::TakenOver {
            self.issuer.borrow().failed(&identity.relay_name);
        }
    }

    /// Runs `attempt` to its end, or begins it anew when there is reason to believe that things have changed.
    async fn insist<F: Future>(&mut self, attempt: impl FnMut() -> F) -> F::Output {
        let reporter = &self.reporter;
        let insisting = insist(&mut self.nudges, &mut self.wanted, attempt);
        self.heart.during(|| reporter.check(), insisting).await
    }

    /// Asks for credentials as the newest settings say; settings that come meanwhile begin it anew. `failure` is why the
    /// gateway has none, or no tunnel.
    async fn register(
        &mut self,
        link: &mut Link,
        failure: Option<&Error>,
    ) -> Result<(), (issue::Error, Class)> {
        let unreachable = matches!(failure, Some(Error::Tunnel(error)) if error.failure() == Failure::Unreachable);
        let before = self.current.borrow().clone();
        let before = before.filter(|before| unreachable && before.is_usable());
        let identity = loop {
            let issuer = Arc::clone(&self.issuer.borrow_and_update());
            link.set_pinned(issuer.is_pinned());
            let changes = self.issuer.clone();
            let head_start = head_start(self.overtaken);
            let asking = self.insist(|| {
                let mut changes = changes.clone();
                let (issuer, before) = (&issuer, &before);
                async move {
                    tokio::select! {
                        issued = issuer.issue() => Some(issued),
                        () = is_back(before.as_deref(), head_start) => Some(Err((issue::Error::Overtaken, Class::Retry))),
                        Ok(()) = changes.changed() => None,
                    }
                }
            });
            let issued = asking.await;
            // Asked is what a person wants.
            self.wanted = false;
            if let Some(issued) = issued {
                if matches!(issued, Err((issue::Error::Overtaken, _))) {
                    self.overtaken = self.overtaken.saturating_add(1);
                }
                break issued?;
            }
        };
        // The same again and again, while no tunnel comes of it, is logged now and then only.
        let what = format!("{} {}", identity.gateway_id, identity.relay_host);
        let event = events::GATEWAY_REGISTERED;
        if let Some(permission) = self.log_throttle.should_log(event.text, &what) {
            tracing::info!(
                message_id = event.id,
                gateway.id = %identity.gateway_id,
                gateway.name = identity.gateway_name.as_ref().map(GatewayName::as_str),
                relay.host = %identity.relay_host,
                suppressed = permission.suppressed(),
                "{event}"
            );
        } else {
            tracing::debug!(relay.host = %identity.relay_host, "registered again");
        }
        self.reporter.renew_at(identity.renew_at);
        self.reporter.known_as(identity.gateway_name.as_ref());
        self.current.send_replace(Some(Arc::new(identity)));
        Ok(())
    }

    /// Dials with the newest credentials. If they are for a tunnel that was left, and is still up, that one is taken up
    /// again: its relay would close it for another one. `failed` attempts were made since there was a tunnel.
    async fn connect(
        &mut self,
        failed: u32,
        left: &mut Vec<Tunnel>,
    ) -> Result<Tunnel, session::Error> {
        let Some(identity) = self.current.borrow().clone() else {
            return Err(session::Error::NoCredentials);
        };
        left.retain_mut(Tunnel::is_up);
        let same = |old: &Tunnel| old.identity.shares_tunnel_with(&identity);
        if let Some(at) = left.iter().position(same) {
            let again = left.swap_remove(at);
            again.retire(false);
            return Ok(again);
        }
        let (name, host) = (&identity.relay_name, &identity.relay_host);
        let event = events::GATEWAY_CONNECTING;
        let relay = format!("{name} on {host}:{SSH_PORT}");
        // Once for each time that there is no tunnel.
        if self.log_throttle.should_log(event.text, &relay).is_some() {
            let attempt = attempt(failed, self.issuer.borrow().is_pinned());
            tracing::info!(message_id = event.id, "{event} {relay}... ({attempt})");
        }
        let connected = self.insist(|| session::connect(&identity)).await;
        match connected {
            Ok(session) => Ok(self.tunnels.serve(session, identity)),
            Err(error) => {
                self.blame(&identity, error.failure());
                Err(error)
            }
        }
    }

    /// Waits before the next attempt. New settings, or a reason to believe that things have changed, end the wait.
    async fn wait(&mut self, delay: Duration, link: &mut Link) -> Event {
        if std::mem::take(&mut self.wanted) {
            let (usable, wanted) = (self.usable(), true);
            return Event::Retry { usable, wanted };
        }
        let reporter = &self.reporter;
        let (changes, nudges) = (&mut self.issuer, &mut self.nudges);
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(delay) => None,
                Ok(()) = changes.changed() => Some(true),
                Some(nudge) = nudges.recv() => Some(nudge == Nudge::Wanted),
            }
        };
        let cut_short = self.heart.during(|| reporter.check(), waiting).await;
        link.set_pinned(self.issuer.borrow().is_pinned());
        let usable = self.usable();
        match cut_short {
            None => Event::Elapsed { usable },
            Some(wanted) => Event::Retry { usable, wanted },
        }
    }

    /// Stays with one tunnel until its end or its retirement. Those that were left for it retire now.
    async fn serve(
        &mut self,
        tunnel: &mut Tunnel,
        left: &mut [Tunnel],
        link: &mut Link,
        scope: &Scope,
    ) -> Left {
        let issuer = Arc::clone(&self.issuer.borrow());
        self.known.note(&issuer.fingerprint());
        let relay = tunnel.identity.relay_name.clone();
        let event = if self.started {
            events::TUNNEL_UP_AGAIN
        } else {
            events::GATEWAY_STARTED
        };
        for event in [events::GATEWAY_TUNNEL_UP, event] {
            tracing::info!(
                message_id = event.id,
                gateway.name = tunnel.identity.gateway_name.as_ref().map(GatewayName::as_str),
                relay.name = %relay,
                relay.host = %tunnel.identity.relay_host,
                "{event}"
            );
        }
        self.started = true;
        (self.overtaken, self.wanted) = (0, false);
        self.log_throttle.clear();
        issuer.stay_at(&relay);
        if issuer.is_asked_elsewhere(&relay) {
            // The platform would send clients to the relay that it was asked for last.
            self.renew.notify_one();
        }
        if std::mem::take(&mut self.moving) {
            self.reporter.configuration(None);
        }
        for old in left.iter() {
            if old.retire(true) {
                tracing::info!(
                    relay.host = %old.identity.relay_host,
                    "the sessions of the tunnel before go on, and it closes after them"
                );
            }
        }
        // What is left of the tunnel before proves nothing about this one.
        while self.beats.try_recv().is_ok() {}
        let _ = self.carried.notified().now_or_never();
        self.up.send_replace(true);
        // One that is taken up again needs no room.
        let tunnels = &self.tunnels;
        let may_move = |newest: &Identity| {
            let again = |old: &Tunnel| old.identity.shares_tunnel_with(newest);
            tunnels.has_room() || left.iter().any(again)
        };
        let reporter = &self.reporter;
        let staying = Stay {
            tunnel,
            tunnels,
            may_move: &may_move,
            beats: &mut self.beats,
            nudges: &mut self.nudges,
            issuer: &mut self.issuer,
            current: &self.current,
            carried: &self.carried,
            renew: &self.renew,
            remeasure: &self.remeasure,
            reporter,
            link,
            doubt: None,
            view: None,
        }
        .run(scope);
        let ended = self.heart.during(|| reporter.check(), staying).await;
        if !matches!(ended, Left::Moved) {
            self.up.send_replace(false);
        }
        ended
    }

    /// Lets every tunnel drain; its sessions have a limit of their own.
    pub(crate) async fn drain(&mut self) {
        self.reporter.draining();
        self.tunnels.cancel();
        let draining = self.tunnels.finish(DRAIN * 2 + STOP);
        let reporter = &self.reporter;
        self.heart.during(|| reporter.check(), draining).await;
    }

    fn usable(&self) -> bool {
        self.current
            .borrow()
            .as_ref()
            .is_some_and(|identity| identity.is_usable())
    }

    fn report_wait(
        &mut self,
        failure: Option<&Error>,
        delay: Duration,
        link: &Link,
        left: &mut [Tunnel],
    ) {
        let error = failure.map_or_else(String::new, |error| chain(error).to_string());
        let (attempt, delay_ms) = (link.attempts(), delay.as_millis());
        // That refusals are believed now is another event, with the same error.
        let event = if link.is_refused() {
            events::REFUSED
        } else {
            events::NOT_CONNECTED
        };
        let class = failure.map_or_else(String::new, Error::kind);
        let permission = self.log_throttle.should_log(event.text, &class);
        let suppressed = permission.and_then(Permission::suppressed);
        if permission.is_none() {
            tracing::debug!(error, attempt, delay_ms, "not connected");
        } else if link.is_refused() {
            tracing::error!(
                message_id = event.id,
                error,
                attempt,
                delay_ms,
                suppressed,
                "{event}"
            );
        } else {
            tracing::warn!(
                message_id = event.id,
                error,
                attempt,
                delay_ms,
                suppressed,
                "{event}"
            );
        }
        if left.iter_mut().any(Tunnel::is_in_use) {
            // Only the way to another relay fails.
            self.moving = true;
            let why = format!("the other relay cannot be used yet: {error}");
            self.reporter.configuration(Some(why));
            return;
        }
        self.up.send_replace(false);
        let after = delay;
        self.reporter
            .link(link.state(), News::Wait { error, after });
    }
}

/// Runs `attempt` to its end, and begins it anew when nudged; `wanted` becomes true if a person did that.
async fn insist<F: Future>(
    nudges: &mut mpsc::Receiver<Nudge>,
    wanted: &mut bool,
    mut attempt: impl FnMut() -> F,
) -> F::Output {
    let mut fresh = FRESH;
    loop {
        let begin = Instant::now();
        let attempt = attempt();
        let mut attempt = std::pin::pin!(attempt);
        loop {
            tokio::select! {
                output = &mut attempt => return output,
                Some(nudge) = nudges.recv() => {
                    *wanted |= nudge == Nudge::Wanted;
                    if begin.elapsed() >= fresh {
                        break;
                    }
                }
            }
        }
        fresh = fresh.saturating_mul(2);
    }
}

/// The present, and some chance.
fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        random: backoff::random(),
    }
}

/// How long the platform has to answer before the relay may overtake it again. One that speaks and is of no use, another program
/// at its old address for instance, must not keep a slow platform from ever saying where to go instead.
fn head_start(overtaken: u32) -> Duration {
    HEAD_START * (1 << overtaken.min(HEAD_STARTS_DOUBLED))
}

/// Waits until the relay of `identity` speaks again, and some more for the platform; for ever without one.
async fn is_back(identity: Option<&Identity>, head_start: Duration) {
    let Some(identity) = identity else {
        return std::future::pending().await;
    };
    tokio::time::sleep(head_start).await;
    while dial::connect_speaking(identity.relay_host.as_str(), SSH_PORT, CONNECT)
        .await
        .is_err()
    {
        tokio::time::sleep(HEAD_START).await;
    }
}

/// The attempt after `failed` ones, as the deployed gateway counts them: six in a round to a relay that was
/// named, one to a relay that was chosen.
fn attempt(failed: u32, is_pinned: bool) -> String {
    let in_round = if is_pinned { 6 } else { 1 };
    format!("attempt {}/{in_round}", failed % in_round + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::{FRESH, HEAD_START, attempt, head_start, insist};
    use crate::gateway::connection::reconnect_trigger::{Nudge, Nudges};

    /// Outlasts every attempt of the tests.
    const STORM: u32 = 2_000;

    #[test]
    fn a_relay_that_speaks_and_is_of_no_use_does_not_overtake_the_platform_for_ever() {
        let starts: Vec<_> = (0..100).map(head_start).collect();
        assert_eq!(starts.first(), Some(&HEAD_START));
        assert!(starts.is_sorted());
        // Longer than a call to the platform may take.
        assert!(starts.last() > Some(&Duration::from_secs(60)));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn an_attempt_comes_to_its_end_though_the_network_changes_for_ever() {
        let mut nudges = Nudges::default();
        let nudger = nudges.nudger();
        let storm = async {
            for _ in 0..STORM {
                let _ = nudger.try_send(Nudge::Disturbed);
                sleep(Duration::from_millis(250)).await;
            }
        };
        let begun = std::cell::Cell::new(0);
        let mut wanted = false;
        let slow = insist(&mut nudges.receiver, &mut wanted, || {
            begun.set(begun.get() + 1);
            sleep(FRESH * 15)
        });
        tokio::select! {
            () = slow => {}
            () = storm => panic!("no attempt ended; {} were begun", begun.get()),
        }
        assert!((2..=5).contains(&begun.get()), "{}", begun.get());
        assert!(!wanted, "the network is not a person");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_a_person_wants_while_a_relay_is_dialled_is_kept() {
        let mut nudges = Nudges::default();
        nudges.nudger().try_send(Nudge::Wanted).expect("room");
        let mut wanted = false;
        insist(&mut nudges.receiver, &mut wanted, || sleep(FRESH / 2)).await;
        assert!(wanted);
    }

    #[test]
    fn attempts_are_counted_in_rounds() {
        for (failed, is_pinned, expected) in [
            (0, true, "attempt 1/6"),
            (5, true, "attempt 6/6"),
            (6, true, "attempt 1/6"),
            (0, false, "attempt 1/1"),
            (9, false, "attempt 1/1"),
        ] {
            assert_eq!(attempt(failed, is_pinned), expected);
        }
    }
}
