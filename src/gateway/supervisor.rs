//! Acts as the link decides: registers, dials, stays with a tunnel, waits. It lives for as long as the gateway, and gives
//! the gateway's heart a turn wherever it waits.
//!
//! What it knows outlives a panic: it is driven again, and finds the credentials, the tunnels that retired and what it
//! has said already. The tunnel in use is dropped then: it serves on as a retired one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::identity::Identity;
use super::issue::{self, Issuer};
use super::link::{self, Action, Event, Link};
use super::monitor::{Phase, Reporter};
use super::tunnel::{Tunnel, Tunnels};
use super::{Error, STOP, session};
use crate::backoff;
use crate::error::{Class, chain};
use crate::events;
use crate::health::Heart;
use crate::host::known::Known;
use crate::scope::Scope;

/// How often it is looked whether one of too many tunnels has ended.
const ROOM: Duration = Duration::from_secs(10);

/// The link and what it acts on.
pub(crate) struct Supervisor {
    /// The newest; the other end is `reload`.
    pub(super) issuer: watch::Receiver<Arc<Issuer>>,
    /// Shared with `renew`; tunnels take their TLS configuration from it.
    pub(super) current: watch::Sender<Option<Arc<Identity>>>,
    /// Heard by `heartbeat`.
    pub(super) up: watch::Sender<bool>,
    /// Said by `heartbeat`.
    pub(super) proofs: mpsc::Receiver<()>,
    pub(super) reporter: Reporter,
    pub(super) tunnels: Tunnels,
    /// Given a turn wherever the link waits.
    pub(super) heart: Heart,
    pub(super) known: Known,
    /// It was told that the way to another relay fails.
    pub(super) moving: bool,
    /// There was a tunnel already, in the life of this process.
    pub(super) started: bool,
}

/// Why a tunnel is not stayed with any longer.
enum Stay {
    /// The gateway stops.
    Stopped,
    /// The tunnel ended.
    Lost(session::Error),
    /// The newest credentials are for another one.
    Moved,
}

/// How the use of a tunnel ended.
enum Served {
    /// The gateway stops; the tunnel drains.
    Stopped,
    /// The tunnel ended.
    Lost(session::Error),
    /// The newest credentials are for another tunnel than this one, which is still up.
    Moved(Tunnel),
}

impl Supervisor {
    /// Does what the link says until `scope` is cancelled or the link gives up.
    pub(super) async fn drive(&mut self, scope: &Scope) -> Result<(), Error> {
        let issuer = Arc::clone(&self.issuer.borrow());
        // A gateway that has worked as it is asks on after a refusal, at a start too.
        let ever_up = self.started || self.known.has(&issuer.fingerprint());
        let mut link = Link::new(issuer.is_pinned(), ever_up);
        let mut action = Action::Register;
        let mut tunnel: Option<Tunnel> = None;
        // Those that were left for another one. The last one is in full use until the other one is up.
        let mut left: Vec<Tunnel> = Vec::new();
        let mut failure: Option<Error> = None;
        loop {
            let event = match action {
                Action::Register => match scope.run(self.register(&mut link)).await {
                    None => return Ok(()),
                    Some(Ok(())) => Event::Registered,
                    Some(Err((error, class))) => {
                        failure = Some(Error::Credentials(error));
                        let usable = self.usable();
                        Event::RegistrationFailed { class, usable }
                    }
                },
                Action::Connect => match scope.run(self.connect(&mut left)).await {
                    None => return Ok(()),
                    Some(Ok(connected)) => {
                        tunnel = connected;
                        // Without credentials there was nothing to connect with; the link asks for them.
                        match tunnel {
                            Some(_) => Event::Connected,
                            None => Event::ConnectionFailed(Class::Retry),
                        }
                    }
                    Some(Err(error)) => {
                        let class = error.class();
                        failure = Some(Error::Tunnel(error));
                        Event::ConnectionFailed(class)
                    }
                },
                Action::Serve => match tunnel.take() {
                    // Only ever after a connection that succeeded.
                    None => return Err(Error::Casualty("link")),
                    Some(tunnel) => match self.serve(tunnel, &mut left, &mut link, scope).await {
                        Served::Stopped => return Ok(()),
                        Served::Moved(tunnel) => {
                            left.push(tunnel);
                            Event::Moved
                        }
                        Served::Lost(error) => {
                            let class = error.class();
                            failure = Some(Error::Tunnel(error));
                            Event::Lost(class)
                        }
                    },
                },
                Action::Wait(delay) => {
                    self.report_wait(failure.as_ref(), delay, &link, &mut left);
                    match scope.run(self.wait(delay, &mut link)).await {
                        None => return Ok(()),
                        Some(event) => event,
                    }
                }
                Action::Stop(_) => return failure.map_or(Ok(()), Err),
                // Only ever the answer to `Proved`, which `serve` gives itself.
                Action::Continue => return Err(Error::Casualty("link")),
            };
            action = link.handle(event, backoff::random());
        }
    }

    /// Asks for credentials as the newest settings say; settings that come meanwhile begin it anew.
    async fn register(&mut self, link: &mut Link) -> Result<(), (issue::Error, Class)> {
        let identity = loop {
            let issuer = Arc::clone(&self.issuer.borrow_and_update());
            link.set_pinned(issuer.is_pinned());
            let reporter = &self.reporter;
            let changes = &mut self.issuer;
            let asking = async {
                tokio::select! {
                    issued = issuer.issue() => Some(issued),
                    Ok(()) = changes.changed() => None,
                }
            };
            if let Some(issued) = self.heart.during(|| reporter.check(), asking).await {
                break issued?;
            }
        };
        tracing::info!(
            message_id = events::GATEWAY_REGISTERED.id,
            gateway.id = %identity.gateway_id,
            relay.host = %identity.relay_host,
            "{}",
            events::GATEWAY_REGISTERED
        );
        self.reporter.renew_at(identity.renew_at);
        self.current.send_replace(Some(Arc::new(identity)));
        Ok(())
    }

    /// Dials with the newest credentials; `None` if there are none. If they are for a tunnel that
    /// was left, and is still up, that one is taken up again: its relay would close it for another one.
    async fn connect(&mut self, left: &mut Vec<Tunnel>) -> Result<Option<Tunnel>, session::Error> {
        let Some(identity) = self.current.borrow().clone() else {
            return Ok(None);
        };
        left.retain_mut(Tunnel::is_up);
        let same = |old: &Tunnel| old.identity.shares_tunnel_with(&identity);
        if let Some(at) = left.iter().position(same) {
            let again = left.swap_remove(at);
            again.retire(false);
            return Ok(Some(again));
        }
        let connecting = session::connect(&identity);
        let session = self
            .heart
            .during(|| self.reporter.check(), connecting)
            .await?;
        Ok(Some(self.tunnels.serve(session, identity)))
    }

    /// Waits before the next attempt. New settings, or just the wish for them, end the wait.
    async fn wait(&mut self, delay: Duration, link: &mut Link) -> Event {
        let reporter = &self.reporter;
        let changes = &mut self.issuer;
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(delay) => false,
                Ok(()) = changes.changed() => true,
            }
        };
        let nudged = self.heart.during(|| reporter.check(), waiting).await;
        link.set_pinned(self.issuer.borrow().is_pinned());
        Event::Elapsed {
            usable: !nudged && self.usable(),
        }
    }

    /// Stays with one tunnel until its end or its retirement, and tells the link when it has proved useful.
    /// Those that were left for it retire now.
    async fn serve(
        &mut self,
        mut tunnel: Tunnel,
        left: &mut [Tunnel],
        link: &mut Link,
        scope: &Scope,
    ) -> Served {
        let fingerprint = self.issuer.borrow().fingerprint();
        self.known.note(&fingerprint);
        let relay = tunnel.identity.relay_name.clone();
        let event = if self.started {
            events::TUNNEL_UP_AGAIN
        } else {
            events::GATEWAY_STARTED
        };
        tracing::info!(
            message_id = event.id,
            relay.name = %relay,
            relay.host = %tunnel.identity.relay_host,
            "{event}"
        );
        self.started = true;
        self.reporter.phase(Phase::Connected(relay));
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
        while self.proofs.try_recv().is_ok() {}
        self.up.send_replace(true);
        let reporter = &self.reporter;
        // One that is taken up again needs no room.
        let tunnels = &self.tunnels;
        let may_move = |newest: &Identity| {
            let again = |old: &Tunnel| old.identity.shares_tunnel_with(newest);
            tunnels.has_room() || left.iter().any(again)
        };
        let staying = Self::stay(
            &mut tunnel,
            &may_move,
            &mut self.proofs,
            &mut self.issuer,
            &self.current,
            link,
            scope,
        );
        let served = match self.heart.during(|| reporter.check(), staying).await {
            Stay::Stopped => Served::Stopped,
            Stay::Lost(error) => Served::Lost(error),
            // Still up, and so is the gateway.
            Stay::Moved => return Served::Moved(tunnel),
        };
        self.up.send_replace(false);
        served
    }

    async fn stay(
        tunnel: &mut Tunnel,
        may_move: &(dyn Fn(&Identity) -> bool + Sync),
        proofs: &mut mpsc::Receiver<()>,
        issuer: &mut watch::Receiver<Arc<Issuer>>,
        current: &watch::Sender<Option<Arc<Identity>>>,
        link: &mut Link,
        scope: &Scope,
    ) -> Stay {
        let mut newest = current.subscribe();
        newest.mark_changed();
        let useful_at = Instant::now() + link::USEFUL_AFTER;
        let mut lived = false;
        let mut crowded = false;
        loop {
            tokio::select! {
                // A tunnel that ends because the gateway stops is not lost.
                biased;
                () = scope.cancelled() => return Stay::Stopped,
                error = tunnel.ended() => return Stay::Lost(error),
                Ok(()) = newest.changed() => {
                    let newest = newest.borrow_and_update().clone();
                    let elsewhere =
                        newest.filter(|newest| !newest.shares_tunnel_with(&tunnel.identity));
                    if elsewhere.as_ref().is_some_and(|newest| may_move(newest)) {
                        return Stay::Moved;
                    }
                    if elsewhere.is_some() && !crowded {
                        tracing::warn!(
                            "too many older tunnels still carry sessions; moving when one has ended"
                        );
                    }
                    crowded = elsewhere.is_some();
                }
                () = tokio::time::sleep(ROOM), if crowded => newest.mark_changed(),
                Ok(()) = issuer.changed() => {
                    link.set_pinned(issuer.borrow_and_update().is_pinned());
                }
                Some(()) = proofs.recv() => {
                    link.handle(Event::Proved, 0);
                }
                () = tokio::time::sleep_until(useful_at), if !lived => {
                    lived = true;
                    link.handle(Event::Proved, 0);
                }
            }
        }
    }

    /// Lets every tunnel drain; its sessions have a limit of their own.
    pub(super) async fn drain(&mut self) {
        self.reporter.phase(Phase::Draining);
        self.tunnels.cancel();
        let draining = self.tunnels.finish(session::DRAIN * 2 + STOP);
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
        if link.is_refused() {
            tracing::error!(
                message_id = events::REFUSED.id,
                error,
                attempt,
                delay_ms,
                "{}",
                events::REFUSED
            );
        } else {
            tracing::warn!(
                message_id = events::NOT_CONNECTED.id,
                error,
                attempt,
                delay_ms,
                "{}",
                events::NOT_CONNECTED
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
        self.reporter.phase(Phase::Retrying {
            error,
            after: delay,
        });
    }
}
