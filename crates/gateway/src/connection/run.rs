//! Runs the connection: one loop that does what the present state stands for, which is to register,
//! connect, serve a tunnel or wait, until the next state is known.
//!
//! What the [`Driver`] knows outlives a panic: it is run again, and finds the credentials and what
//! it has logged already. Tunnels that it held are dropped then, and serve on as retired ones.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::active_tunnel::{ActiveTunnel, End};
use super::handover::{PredecessorLink, Succession, Successions};
use super::policy::{
    CONNECT, DRAIN, MIN_ATTEMPT_AGE, RELAY_PROBE_DELAY, RELAY_PROBE_DELAYS_DOUBLED, RETIRED_IDLE,
};
use super::reconnect_trigger::ReconnectTrigger;
use super::session;
use super::state::{self, Backoff, Connecting, Failure, Moment, Registering, Up};
use super::tunnel::{Tunnel, Tunnels};
use crate::agent::last_known_good::LastKnownGood;
use crate::agent::status::Reporter;
use crate::agent::status::condition::NO_TUNNEL;
use crate::backoff;
use crate::credential_client::{self, CredentialClient};
use crate::error::{Class, chain};
use crate::heartbeat::Heartbeat;
use crate::identity::Identity;
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;
use crate::names::{GatewayName, SSH_PORT};
use crate::net::dial;
use crate::{Error, STOP};
use crate::{event, events};

type Connection = state::Connection<Tunnel, Error>;

/// What the connection is made from.
pub(crate) struct Driver {
    /// The newest; the other end is `reload`.
    pub(crate) credential_client: watch::Receiver<Arc<CredentialClient>>,
    /// Shared with `renew`; tunnels take their TLS configuration from it.
    pub(crate) current: watch::Sender<Option<Arc<Identity>>>,
    /// Read by `heartbeat` and `relay_reselection`.
    pub(crate) tunnel_up: watch::Sender<bool>,
    /// The other end is `heartbeat`.
    pub(crate) heartbeat_rx: mpsc::Receiver<Heartbeat>,
    /// The other ends are signal handlers and `reconnect_trigger`.
    pub(crate) trigger_rx: mpsc::Receiver<ReconnectTrigger>,
    /// Notified by sessions.
    pub(crate) session_ok: Arc<Notify>,
    /// Notifies `renew`.
    pub(crate) renew: Arc<Notify>,
    /// Notifies `relay_reselection`.
    pub(crate) reselect: Arc<Notify>,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tunnels: Tunnels,
    /// Those that were left for another one. The last one is in full use until the other one is up.
    pub(crate) retired: Vec<Tunnel>,
    pub(crate) last_known_good: LastKnownGood,
    /// For lines that repeat while there is no tunnel.
    pub(crate) log_throttle: LogThrottle,
    /// The status says that the way to another relay fails.
    pub(crate) is_reselection_failing: bool,
    /// This process had a tunnel already.
    pub(crate) started: bool,
    /// How many times the relay answered before the platform, since there was a tunnel.
    pub(crate) relay_answered_first: u32,
    /// A person asked for an attempt during another one: should that fail, the next has no wait.
    pub(crate) user_request: bool,
    /// What becomes of the process that takes over from this one.
    pub(crate) successions: Successions,
    /// Leads to the process that this one takes over from.
    pub(crate) predecessor: Option<PredecessorLink>,
}

impl Driver {
    /// Does what the state machine decides until it gives up, the error is why, or until a successor
    /// serves.
    pub(crate) async fn run(&mut self) -> Option<Error> {
        let credential_client = Arc::clone(&self.credential_client.borrow());
        // A gateway whose settings have worked keeps retrying after a refusal, also at a start.
        let was_up = self.started || self.last_known_good.has(&credential_client.fingerprint());
        self.retired.clear();
        let mut connection = Connection::new(credential_client.is_pinned(), was_up);
        let succession = self.successions.succession.clone();
        loop {
            if let Connection::Stopped(error) = connection {
                return Some(error);
            }
            connection = tokio::select! {
                // A tunnel that is dropped in the middle of a step retires.
                () = reaches(succession.clone(), Succession::Complete) => {
                    self.tunnel_up.send_replace(false);
                    return None;
                }
                next = self.step(connection) => next,
            };
        }
    }

    /// Does what `connection` stands for.
    async fn step(&mut self, connection: Connection) -> Connection {
        match connection {
            Connection::Registering(state) => self.register(state).await,
            Connection::Connecting(state) => self.connect(state).await,
            Connection::Up(state) => self.serve(state).await,
            Connection::Backoff(state) => self.wait(state).await,
            stopped @ Connection::Stopped(_) => stopped,
        }
    }

    fn succession(&self) -> Succession {
        *self.successions.succession.borrow()
    }

    /// True if a successor serves.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.succession() == Succession::Complete
    }

    /// Waits until no successor is under way that could serve.
    async fn successor_failed(&mut self) {
        let mut succession = self.successions.succession.clone();
        let ended = succession.wait_for(|now| !now.is_under_way());
        // Without the other end there is no successor.
        let _ = ended.await;
    }

    /// Asks for credentials.
    async fn register(&mut self, mut state: Registering) -> Connection {
        let identity = match self.issue(&mut state).await {
            Ok(identity) => identity,
            Err((error, class)) => {
                let usable = self.has_usable_credentials();
                return state.failed(Error::Credentials(error), class, usable, moment());
            }
        };
        // The same repeatedly, while no tunnel comes of it, is logged now and then only.
        let what = format!("{} {}", identity.gateway_id, identity.relay_host);
        let event = events::GATEWAY_REGISTERED;
        if let Some(permission) = self.log_throttle.should_log(event.text, &what) {
            event!(
                event,
                gateway.id = %identity.gateway_id,
                gateway.name = identity.gateway_name.as_ref().map(GatewayName::as_str),
                relay.host = %identity.relay_host,
                suppressed = permission.suppressed()
            );
        } else {
            tracing::debug!(relay.host = %identity.relay_host, "registered again");
        }
        identity.report(&self.reporter);
        self.current.send_replace(Some(Arc::new(identity)));
        Connection::Connecting(state.registered(moment()))
    }

    /// New credentials, as the newest settings say; settings that come meanwhile restart it. A
    /// relay that was unreachable and answers before the platform does ends it too.
    async fn issue(
        &mut self,
        state: &mut Registering,
    ) -> Result<Identity, (credential_client::Error, Class)> {
        let before = self.current.borrow().clone();
        let before =
            before.filter(|before| state.is_relay_unreachable() && before.lifetime.is_usable());
        loop {
            let credential_client = Arc::clone(&self.credential_client.borrow_and_update());
            state.history.set_pinned(credential_client.is_pinned());
            let changes = self.credential_client.clone();
            let delay = relay_probe_delay(self.relay_answered_first);
            let attempt = || {
                let mut changes = changes.clone();
                let (credential_client, before) = (&credential_client, before.as_deref());
                async move {
                    tokio::select! {
                        issued = credential_client.obtain() => Some(issued),
                        () = relay_answers(before, delay) => {
                            Some(Err((credential_client::Error::RelayAnsweredFirst, Class::Retry)))
                        }
                        Ok(()) = changes.changed() => None,
                    }
                }
            };
            let issued =
                restart_on_trigger(&mut self.trigger_rx, &mut self.user_request, attempt).await;
            self.user_request = false;
            if let Some(issued) = issued {
                if matches!(
                    issued,
                    Err((credential_client::Error::RelayAnsweredFirst, _))
                ) {
                    self.relay_answered_first = self.relay_answered_first.saturating_add(1);
                }
                return issued;
            }
        }
    }

    /// Makes a tunnel with the newest credentials.
    async fn connect(&mut self, state: Connecting) -> Connection {
        // A tunnel that is made now would take the place of the successor's.
        self.successor_failed().await;
        match self.make_tunnel(state.history.attempts()).await {
            Ok(tunnel) => Connection::Up(state.connected(tunnel, Instant::now())),
            Err(error) => {
                let failure = error.failure();
                if failure == Failure::TurnedAway
                    && let Some(predecessor) = &mut self.predecessor
                    && predecessor.release().await
                {
                    return Connection::Connecting(state);
                }
                self.metrics.connect_failed(failure.as_str());
                state.failed(Error::Tunnel(error), failure, moment())
            }
        }
    }

    /// Dials. If the credentials are for a tunnel that was left, and is still up, that one is taken
    /// up again: its relay would close it for another one. `failed` attempts were made since there
    /// was a tunnel.
    async fn make_tunnel(&mut self, failed: u32) -> Result<Tunnel, session::Error> {
        let Some(identity) = self.current.borrow().clone() else {
            return Err(session::Error::NoCredentials);
        };
        self.retired.retain_mut(Tunnel::is_up);
        let same = |old: &Tunnel| old.identity.shares_tunnel_with(&identity);
        if let Some(at) = self.retired.iter().position(same) {
            let again = self.retired.swap_remove(at);
            again.retire(false);
            return Ok(again);
        }
        let (name, host) = (&identity.relay_name, &identity.relay_host);
        let event = events::GATEWAY_CONNECTING;
        let relay = format!("{name} on {host}:{SSH_PORT}");
        // Once for each time that there is no tunnel.
        if self.log_throttle.should_log(event.text, &relay).is_some() {
            let attempt = attempt(failed, self.credential_client.borrow().is_pinned());
            event!(event; " {relay}... ({attempt})");
        }
        let attempt = || session::connect(&identity);
        match restart_on_trigger(&mut self.trigger_rx, &mut self.user_request, attempt).await {
            Ok(session) => Ok(self.tunnels.serve(session, identity)),
            Err(error) => {
                self.avoid_relay(&identity, error.failure());
                Err(error)
            }
        }
    }

    /// Serves a tunnel until it ends or is left for another one.
    async fn serve(&mut self, mut state: Up<Tunnel>) -> Connection {
        self.begin_to_serve(&state.tunnel);
        match ActiveTunnel::new(self, &mut state).run().await {
            End::Reselected => {
                self.metrics.reconnects("reselected");
                let (state, tunnel) = state.reselected();
                self.retired.push(tunnel);
                Connection::Connecting(state)
            }
            End::Lost(error) => {
                self.tunnel_up.send_replace(false);
                let failure = error.failure();
                self.metrics.reconnects(failure.as_str());
                if self.succession().is_under_way() {
                    // Full: the one who waits for it knows already.
                    let _ = self.successions.released.try_send(());
                    self.successor_failed().await;
                }
                let failure = if self.succession().has_failed_lately() {
                    // There is no other connection of this gateway, whatever the relay says.
                    Failure::Unreachable
                } else {
                    self.avoid_relay(&state.tunnel.identity, failure);
                    failure
                };
                state.lost(Error::Tunnel(error), failure, moment())
            }
        }
    }

    /// Logs that `tunnel` is up, and retires those that were left for it.
    fn begin_to_serve(&mut self, tunnel: &Tunnel) {
        let credential_client = Arc::clone(&self.credential_client.borrow());
        self.last_known_good.note(&credential_client.fingerprint());
        let relay = &tunnel.identity.relay_name;
        let event = if self.started {
            events::TUNNEL_UP_AGAIN
        } else {
            events::GATEWAY_STARTED
        };
        for event in [events::GATEWAY_TUNNEL_UP, event] {
            event!(
                event,
                gateway.name = tunnel.identity.gateway_name.as_ref().map(GatewayName::as_str),
                relay.name = %relay,
                relay.host = %tunnel.identity.relay_host
            );
        }
        self.started = true;
        if let Some(predecessor) = &self.predecessor {
            predecessor.serving();
        }
        (self.relay_answered_first, self.user_request) = (0, false);
        self.log_throttle.clear();
        credential_client.stay_at(relay);
        if credential_client.is_asked_elsewhere(relay) {
            // The platform would send clients to the relay that it was asked for last.
            self.renew.notify_one();
        }
        if std::mem::take(&mut self.is_reselection_failing) {
            self.reporter.configuration(None);
        }
        for old in &self.retired {
            if old.retire(true) {
                tracing::info!(
                    relay.host = %old.identity.relay_host,
                    "the sessions of the tunnel before go on, and it closes after them"
                );
            }
        }
        // Reports about the tunnel before prove nothing about this one.
        while self.heartbeat_rx.try_recv().is_ok() {}
        let _ = self.session_ok.notified().now_or_never();
        self.tunnel_up.send_replace(true);
    }

    /// True if there may be one more tunnel beside those that are up, for `identity`.
    pub(super) fn has_room_for(&self, identity: &Identity) -> bool {
        // One that is taken up again needs no room.
        let again = |old: &Tunnel| old.identity.shares_tunnel_with(identity);
        self.tunnels.has_room() || self.retired.iter().any(again)
    }

    /// Waits before the next attempt. New settings, or a reason to believe that things have
    /// changed, end the wait.
    async fn wait(&mut self, mut state: Backoff<Error>) -> Connection {
        let delay = state.remaining(Instant::now());
        self.report_wait(&state, delay);
        let trigger = if std::mem::take(&mut self.user_request) {
            Some(ReconnectTrigger::UserRequest)
        } else {
            tokio::select! {
                () = tokio::time::sleep(delay) => None,
                Ok(()) = self.credential_client.changed() => Some(ReconnectTrigger::UserRequest),
                Some(trigger) = self.trigger_rx.recv() => Some(trigger),
            }
        };
        state
            .history
            .set_pinned(self.credential_client.borrow().is_pinned());
        let (usable, now) = (self.has_usable_credentials(), Instant::now());
        match trigger {
            None => state.elapsed(usable, now),
            Some(trigger) => state.retry(trigger, usable, now),
        }
    }

    fn report_wait(&mut self, state: &Backoff<Error>, delay: Duration) {
        let error = chain(&state.error).to_string();
        let (attempt, delay_ms) = (state.history.attempts(), delay.as_millis());
        // That refusals are believed now is another event, with the same error.
        let event = if state.history.is_refused() {
            events::REFUSED
        } else {
            events::NOT_CONNECTED
        };
        let kind = state.error.kind();
        if let Some(permission) = self.log_throttle.should_log(event.text, &kind) {
            let suppressed = permission.suppressed();
            event!(event, error, attempt, delay_ms, suppressed);
        } else {
            tracing::debug!(error, attempt, delay_ms, "not connected");
        }
        if self.retired.iter_mut().any(Tunnel::is_in_use) {
            // Only the way to another relay fails.
            self.is_reselection_failing = true;
            let why = format!("the other relay cannot be used yet: {error}");
            self.reporter.configuration(Some(why));
            return;
        }
        self.tunnel_up.send_replace(false);
        self.reporter.retrying(&NO_TUNNEL, error, delay);
    }

    /// Serves for a moment what a relay or a client sends on its way here still, after a hand-over.
    pub(crate) async fn linger(&mut self) {
        // All retire.
        self.retired.clear();
        self.tunnels.finish(RETIRED_IDLE).await;
    }

    /// Lets every tunnel drain; its sessions have a limit of their own.
    pub(crate) async fn drain(&mut self) {
        self.reporter.draining();
        self.tunnels.cancel();
        self.tunnels.finish(DRAIN * 2 + STOP).await;
    }

    /// Prefers other relays to the one of `identity` for a while, unless it is not the cause.
    fn avoid_relay(&self, identity: &Identity, failure: Failure) {
        if failure != Failure::TakenOver {
            self.credential_client.borrow().failed(&identity.relay_name);
        }
    }

    fn has_usable_credentials(&self) -> bool {
        let current = self.current.borrow();
        current
            .as_ref()
            .is_some_and(|identity| identity.lifetime.is_usable())
    }
}

/// Waits until the succession is `wanted`.
pub(super) async fn reaches(mut succession: watch::Receiver<Succession>, wanted: Succession) {
    if succession.wait_for(|now| *now == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs `attempt` to its end, and restarts it when there is reason to believe that things have
/// changed; `user_request` becomes true if a person asked for that.
async fn restart_on_trigger<F: Future>(
    trigger_rx: &mut mpsc::Receiver<ReconnectTrigger>,
    user_request: &mut bool,
    mut attempt: impl FnMut() -> F,
) -> F::Output {
    let mut min_age = MIN_ATTEMPT_AGE;
    loop {
        let begin = Instant::now();
        let attempt = attempt();
        let mut attempt = std::pin::pin!(attempt);
        loop {
            tokio::select! {
                output = &mut attempt => return output,
                Some(trigger) = trigger_rx.recv() => {
                    *user_request |= trigger == ReconnectTrigger::UserRequest;
                    if begin.elapsed() >= min_age {
                        break;
                    }
                }
            }
        }
        min_age = min_age.saturating_mul(2);
    }
}

/// The present, and a random number.
fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        random: backoff::random(),
    }
}

/// How long the platform has to answer before the relay is probed, which has answered first
/// `answered_first` times. A relay that answers and is of no use, another program at its old
/// address for instance, must not keep a slow platform from reporting where to go instead.
fn relay_probe_delay(answered_first: u32) -> Duration {
    RELAY_PROBE_DELAY * (1 << answered_first.min(RELAY_PROBE_DELAYS_DOUBLED))
}

/// Waits until the relay of `identity` answers again, probing after `delay`; never ends without
/// one.
async fn relay_answers(identity: Option<&Identity>, delay: Duration) {
    let Some(identity) = identity else {
        return std::future::pending().await;
    };
    tokio::time::sleep(delay).await;
    while dial::connect_speaking(identity.relay_host.as_str(), SSH_PORT, CONNECT)
        .await
        .is_err()
    {
        tokio::time::sleep(RELAY_PROBE_DELAY).await;
    }
}

/// The attempt after `failed` ones, as the deployed gateway counts them: six in a round to a relay
/// that was named, one to a relay that was chosen.
fn attempt(failed: u32, is_pinned: bool) -> String {
    let in_round = if is_pinned { 6 } else { 1 };
    format!("attempt {}/{in_round}", failed % in_round + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::{
        MIN_ATTEMPT_AGE, RELAY_PROBE_DELAY, attempt, relay_probe_delay, restart_on_trigger,
    };
    use crate::connection::reconnect_trigger::{ReconnectTrigger, ReconnectTriggers};

    /// Outlasts every attempt of the tests.
    const STORM: u32 = 2_000;

    #[test]
    fn useless_relay_leaves_the_platform_time() {
        let delays: Vec<_> = (0..100).map(relay_probe_delay).collect();
        assert_eq!(delays.first(), Some(&RELAY_PROBE_DELAY));
        assert!(delays.is_sorted());
        // Longer than a call to the platform may take.
        assert!(delays.last() > Some(&Duration::from_secs(60)));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn attempt_ends_while_the_network_keeps_changing() {
        let mut triggers = ReconnectTriggers::default();
        let sender = triggers.sender();
        let storm = async {
            for _ in 0..STORM {
                let _ = sender.try_send(ReconnectTrigger::SystemEvent);
                sleep(Duration::from_millis(250)).await;
            }
        };
        let begun = std::cell::Cell::new(0);
        let mut user_request = false;
        let slow = restart_on_trigger(&mut triggers.receiver, &mut user_request, || {
            begun.set(begun.get() + 1);
            sleep(MIN_ATTEMPT_AGE * 15)
        });
        tokio::select! {
            () = slow => {}
            () = storm => panic!("no attempt ended; {} were begun", begun.get()),
        }
        assert!((2..=5).contains(&begun.get()), "{}", begun.get());
        assert!(!user_request, "the network is not a person");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn user_request_during_an_attempt_is_kept() {
        let mut triggers = ReconnectTriggers::default();
        let sender = triggers.sender();
        sender
            .try_send(ReconnectTrigger::UserRequest)
            .expect("room");
        let mut user_request = false;
        restart_on_trigger(&mut triggers.receiver, &mut user_request, || {
            sleep(MIN_ATTEMPT_AGE / 2)
        })
        .await;
        assert!(user_request);
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
