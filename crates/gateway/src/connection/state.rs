//! The connection's state machine, pure: the time and a random number are arguments, the next state
//! is the answer.
//!
//! Each state is a type that holds only what is valid in it, and has a method for each event that
//! can happen in it: an event that cannot happen there does not compile. Only [`Up`] has a tunnel,
//! and only it takes [`TunnelEvent`]s. Decisions look at nothing but the class of an error. The
//! transitions (a test compares them with the code; *Unverified* is an [`Up`] whose last heartbeat
//! failed):
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Registering
//!     Registering --> Registering: RegistrationFailed
//!     Registering --> Connecting: Registered, RegistrationFailed
//!     Registering --> Backoff: RegistrationFailed
//!     Registering --> Stopped: RegistrationFailed
//!     Connecting --> Up: Connected
//!     Connecting --> Backoff: ConnectionFailed
//!     Connecting --> Stopped: ConnectionFailed
//!     Up --> Connecting: Reselected
//!     Up --> Up: CheckRequested
//!     Up --> Unverified: HeartbeatFailed
//!     Up --> Backoff: Lost
//!     Up --> Stopped: Lost
//!     Unverified --> Connecting: Reselected
//!     Unverified --> Up: HeartbeatReached
//!     Unverified --> Unverified: CheckRequested, HeartbeatFailed
//!     Unverified --> Backoff: Lost
//!     Unverified --> Stopped: Lost
//!     Backoff --> Registering: Elapsed, Retry
//!     Backoff --> Connecting: Elapsed, Retry
//!     Backoff --> Backoff: Elapsed, Retry
//! ```
//!
//! What it knows about networks:
//! - A wait is a uniform choice between zero and a bound (full jitter), the first one too: gateways
//!   that lost the same relay spread. While an outage is young, the bound is about a second and
//!   does not grow, so that all come back evenly. Later it is [`MAX_WAIT`].
//! - A tunnel or a platform that answered and was of no use is tried again less and less often.
//! - The relay is dialled more often than the platform is asked: a failed dial is cheap, new
//!   credentials cost signatures.
//! - The same patience holds at start and later. Only a refusal by the platform is final at once
//!   while the gateway has never been up with its credential, because then a person is watching.
//!   Later it never is: the gateway asks again, rarely after ten refusals, and dials meanwhile with
//!   credentials that are still valid.
//! - A tunnel that answers proves only that it answers. While the platform reports that it does not
//!   get through it ([`TunnelEvent::HeartbeatFailed`]), the tunnel is checked, then announced to
//!   the platform again, then replaced.
//!
//! When new settings, or a nearer relay, send the gateway elsewhere, it goes from Up to Connecting;
//! the tunnel that it leaves is not the state machine's concern any more.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{
    EARLY_RETRY_INTERVAL, FIRST_WAIT, FLAPS_FORGIVEN, FLAPS_TO_REGISTER, HEARTBEATS_TO_RECONNECT,
    HEARTBEATS_TO_RENEW, LONGEST, MAX_DIAL_WAIT, MAX_EARLY_RETRIES, MAX_REGISTER_WAIT,
    MAX_TURNED_AWAY_WAIT, MAX_WAIT, MIN_TAKEN_OVER_WAIT, RECONNECTS_DOUBLED, REREGISTER_WAIT,
    SAME_ADDRESS, USEFUL_AFTER, YOUNG_OUTAGE,
};
use super::reconnect_trigger::ReconnectTrigger;
use crate::agent::refusals::{REFUSALS_BELIEVED, REFUSED_RETRY_INTERVAL};
use crate::backoff;
use crate::error::Class;

/// Where the connection is. `T` is a tunnel, `E` the error of an attempt.
#[derive(Debug)]
pub(crate) enum Connection<T, E> {
    /// The platform is asked for credentials.
    Registering(Registering),
    /// The relay is dialled.
    Connecting(Connecting),
    /// There is a tunnel.
    Up(Up<T>),
    /// The next attempt is waited for.
    Backoff(Backoff<E>),
    /// Given up because of this; a person must act.
    Stopped(E),
}

/// Why there is no tunnel, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The relay cannot be reached, or broke off.
    Unreachable,
    /// The relay does not accept our certificate, or we not its: other credentials may help.
    Refused,
    /// The relay closed the tunnel as soon as it was made: it holds an older one.
    TurnedAway,
    /// Another connection of this gateway took the tunnel's place: it was moved, or two programs
    /// use one identity, which must not replace each other as fast as they can.
    TakenOver,
    /// The relay disconnected, or nothing gets through it: another one is better than this one.
    Disconnected,
    /// Nothing that a repetition can cure.
    Fatal,
}

impl Failure {
    /// The word in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::TurnedAway => "turned_away",
            Self::TakenOver => "taken_over",
            Self::Disconnected => "disconnected",
            Self::Fatal => "fatal",
        }
    }
}

/// What happens while there is a tunnel, and it stays in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEvent {
    /// A heartbeat came through the tunnel.
    HeartbeatReached,
    /// The platform answered a heartbeat, but did not get through the tunnel.
    HeartbeatFailed,
    /// The tunnel has carried a session, or has been up for [`USEFUL_AFTER`].
    Stable,
    /// The network changed, the machine slept, or a person wants to know: does the relay answer?
    CheckRequested,
}

/// What to do with the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelAction {
    /// Nothing new.
    Continue,
    /// Check that the relay answers.
    Check,
    /// Check it, and ask for credentials for this tunnel, which tells the platform where the
    /// gateway is.
    Renew,
    /// End the tunnel, unless it carries sessions, and make another one.
    Reconnect,
}

/// When something happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The time.
    pub(crate) now: Instant,
    /// Uniform over `u64`.
    pub(crate) random: u64,
}

/// The platform is asked for credentials.
#[derive(Debug)]
pub(crate) struct Registering {
    /// Why there is no tunnel, if one was tried.
    cause: Option<Failure>,
    pub(crate) history: History,
}

/// The relay is dialled.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub(crate) history: History,
}

/// There is a tunnel.
#[derive(Debug)]
pub(crate) struct Up<T> {
    pub(crate) tunnel: T,
    since: Instant,
    /// [`TunnelEvent::Stable`] was reported.
    stable: bool,
    health: Health,
    pub(crate) history: History,
}

/// What the platform reports of a tunnel that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nothing against it.
    Reachable,
    /// The platform does not get through it.
    Unverified {
        /// Heartbeats in a row that failed.
        heartbeats: u32,
    },
}

/// The next attempt is waited for.
#[derive(Debug)]
pub(crate) struct Backoff<E> {
    until: Instant,
    /// Why there is no tunnel, if one was tried.
    cause: Option<Failure>,
    /// What the last attempt ended with.
    pub(crate) error: E,
    pub(crate) history: History,
}

/// What earlier attempts and tunnels mean for the next ones.
#[derive(Debug)]
pub(crate) struct History {
    /// A pinned relay is dialled again; otherwise a failed connection chooses again.
    pinned: bool,
    was_up: bool,
    /// Waits since a tunnel last proved useful.
    waits: u32,
    /// Waits before a dial of a relay that answers.
    dials: backoff::Backoff,
    /// Waits before the platform is asked again that did not answer.
    registrations: backoff::Backoff,
    /// Waits before it is asked again that did.
    reregistrations: backoff::Backoff,
    /// The platform is not asked before.
    registration_due: Option<RegistrationDue>,
    /// Since when there is no tunnel that has proved useful.
    down_since: Option<Instant>,
    /// Connections that failed in a row.
    failed_connects: u32,
    /// Refusals of credentials in a row.
    refusals: u32,
    /// Tunnels that were replaced because no heartbeat came through, since one last did.
    reconnects: u32,
    /// Tunnels in a row that were lost before they were stable.
    flaps: u32,
    /// When all [`MAX_EARLY_RETRIES`] are available again.
    early_retries_used_until: Option<Instant>,
}

/// When the platform may be asked again.
#[derive(Debug, Clone, Copy)]
struct RegistrationDue {
    at: Instant,
    /// Only a person may shorten it: the platform answered.
    is_binding: bool,
}

impl<T, E> Connection<T, E> {
    /// Begins with a registration.
    ///
    /// `was_up`: the gateway had a tunnel before, in this process or an earlier one.
    pub(crate) fn new(pinned: bool, was_up: bool) -> Self {
        Self::Registering(Registering {
            cause: None,
            history: History {
                pinned,
                was_up,
                waits: 0,
                dials: backoff::Backoff::new(FIRST_WAIT, MAX_WAIT),
                registrations: backoff::Backoff::new(FIRST_WAIT, MAX_WAIT),
                reregistrations: backoff::Backoff::new(REREGISTER_WAIT.0, REREGISTER_WAIT.1),
                registration_due: None,
                down_since: None,
                failed_connects: 0,
                refusals: 0,
                reconnects: 0,
                flaps: 0,
                early_retries_used_until: None,
            },
        })
    }
}

impl Registering {
    /// The platform gave credentials.
    pub(crate) fn registered(mut self, at: Moment) -> Connecting {
        self.history.refusals = 0;
        self.history.registrations.reset();
        let wait = self.history.reregistrations.next_delay(at.random);
        self.history.set_registration_due(wait, true, at.now);
        Connecting {
            history: self.history,
        }
    }

    /// The platform gave none because of `error`, and `class` says what to do about it; `usable` if
    /// older credentials are still valid.
    pub(crate) fn failed<T, E>(
        mut self,
        error: E,
        class: Class,
        usable: bool,
        at: Moment,
    ) -> Connection<T, E> {
        let history = &mut self.history;
        history.note_outage(at.now);
        let at_least = match class {
            Class::Retry => Duration::ZERO,
            Class::RetryAfter(at_least) => at_least,
            Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                history.refusals = history.refusals.saturating_add(1);
                // A login cures an expired token at once, but not a refusal right after it.
                if class == Class::Reauthenticate && history.refusals == 1 {
                    return Connection::Registering(self);
                }
                if !history.was_up {
                    return Connection::Stopped(error);
                }
                if history.is_refused() {
                    REFUSED_RETRY_INTERVAL
                } else {
                    MAX_WAIT
                }
            }
        };
        // The platform's own wait comes first; the jitter on top spreads those it told the same.
        let bound = history.max_wait(MAX_REGISTER_WAIT, at.now);
        let delay = history.registrations.next_delay_within(bound, at.random);
        let delay = at_least.saturating_add(delay);
        history.set_registration_due(delay, !at_least.is_zero(), at.now);
        if usable {
            // The platform is away, or unwell, but the tunnel needs only the relay.
            return Connection::Connecting(Connecting {
                history: self.history,
            });
        }
        Backoff::begin(self.cause, error, self.history, delay, at.now)
    }

    /// True if the last tunnel that was tried failed because its relay cannot be reached.
    pub(crate) fn is_relay_unreachable(&self) -> bool {
        self.cause == Some(Failure::Unreachable)
    }
}

impl Connecting {
    /// The tunnel is made.
    pub(crate) fn connected<T>(mut self, tunnel: T, now: Instant) -> Up<T> {
        self.history.was_up = true;
        Up {
            tunnel,
            since: now,
            stable: false,
            health: Health::Reachable,
            history: self.history,
        }
    }

    /// There is no tunnel because of `error`.
    pub(crate) fn failed<T, E>(
        mut self,
        error: E,
        failure: Failure,
        at: Moment,
    ) -> Connection<T, E> {
        let history = &mut self.history;
        history.failed_connects = history.failed_connects.saturating_add(1);
        history.note_outage(at.now);
        if failure != Failure::Unreachable {
            return after_failure(error, failure, self.history, at);
        }
        let delay = backoff::jitter(history.max_wait(MAX_DIAL_WAIT, at.now), at.random);
        Backoff::begin(Some(failure), error, self.history, delay, at.now)
    }
}

impl<T> Up<T> {
    /// Takes in what is observed of a tunnel that stays in use.
    pub(crate) fn handle(&mut self, event: TunnelEvent, now: Instant) -> TunnelAction {
        match event {
            TunnelEvent::HeartbeatReached => {
                if self.is_stable(now) {
                    self.history.flaps = 0;
                }
                self.history.forget_failures();
                // A relay that drops each tunnel after its first heartbeat must not be dialled as
                // fast as it can do that, and the platform must not be asked as often.
                let flaps = self.history.flaps;
                let skipped = flaps.saturating_sub(FLAPS_FORGIVEN);
                self.history.dials.skip(skipped);
                if flaps < FLAPS_TO_REGISTER {
                    self.history.may_register_at_once();
                }
                self.history.reconnects = 0;
                self.health = Health::Reachable;
                TunnelAction::Continue
            }
            TunnelEvent::Stable => {
                self.history.forget_failures();
                self.history.may_register_at_once();
                self.history.flaps = 0;
                self.stable = true;
                TunnelAction::Continue
            }
            TunnelEvent::HeartbeatFailed => self.heartbeat_failed(),
            TunnelEvent::CheckRequested => TunnelAction::Check,
        }
    }

    /// The tunnel ended with `error`.
    pub(crate) fn lost<E>(mut self, error: E, failure: Failure, at: Moment) -> Connection<T, E> {
        self.history.flaps = if self.is_stable(at.now) {
            0
        } else {
            self.history.flaps.saturating_add(1)
        };
        self.history.note_outage(at.now);
        after_failure(error, failure, self.history, at)
    }

    /// The newest credentials are for another tunnel; this one is handed back.
    pub(crate) fn reselected(self) -> (Connecting, T) {
        let history = self.history;
        (Connecting { history }, self.tunnel)
    }

    fn heartbeat_failed(&mut self) -> TunnelAction {
        let heartbeats = match self.health {
            Health::Reachable => 1,
            Health::Unverified { heartbeats } => heartbeats.saturating_add(1),
        };
        let reconnects = &mut self.history.reconnects;
        let to_reconnect = HEARTBEATS_TO_RECONNECT << (*reconnects).min(RECONNECTS_DOUBLED);
        let (heartbeats, action) = if heartbeats >= to_reconnect {
            *reconnects = reconnects.saturating_add(1);
            (HEARTBEATS_TO_RENEW, TunnelAction::Reconnect)
        } else if heartbeats == HEARTBEATS_TO_RENEW {
            (heartbeats, TunnelAction::Renew)
        } else {
            (heartbeats, TunnelAction::Check)
        };
        self.health = Health::Unverified { heartbeats };
        action
    }

    /// True if it carried a session or has been up for long.
    fn is_stable(&self, now: Instant) -> bool {
        self.stable || now.saturating_duration_since(self.since) >= USEFUL_AFTER
    }
}

impl<E> Backoff<E> {
    fn begin<T>(
        cause: Option<Failure>,
        error: E,
        mut history: History,
        delay: Duration,
        now: Instant,
    ) -> Connection<T, E> {
        history.waits = history.waits.saturating_add(1);
        Connection::Backoff(Self {
            until: now.checked_add(delay).unwrap_or_else(|| now + LONGEST),
            cause,
            error,
            history,
        })
    }

    /// How long it still takes at `now`.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    /// The wait is over; `usable` if the credentials are still valid. The relay is next, if they
    /// may be good for it, else the platform, else another wait.
    pub(crate) fn elapsed<T>(self, usable: bool, now: Instant) -> Connection<T, E> {
        let due = self.history.registration_due;
        let too_early = due.filter(|due| due.at > now);
        if usable && (too_early.is_some() || !self.may_registration_help(now)) {
            return Connection::Connecting(Connecting {
                history: self.history,
            });
        }
        match too_early {
            Some(due) => {
                let delay = due.at.saturating_duration_since(now);
                Self::begin(self.cause, self.error, self.history, delay, now)
            }
            None => self.register(),
        }
    }

    /// There is reason to believe that things have changed; `usable` as in [`Self::elapsed`].
    pub(crate) fn retry<T>(
        mut self,
        trigger: ReconnectTrigger,
        usable: bool,
        now: Instant,
    ) -> Connection<T, E> {
        match trigger {
            ReconnectTrigger::UserRequest => {
                self.history.registration_due = None;
                self.register()
            }
            ReconnectTrigger::SystemEvent if self.history.may_retry_early(now) => {
                let due = self.history.registration_due;
                self.history.registration_due = due.filter(|due| due.is_binding);
                self.elapsed(usable, now)
            }
            ReconnectTrigger::SystemEvent => Connection::Backoff(self),
        }
    }

    fn register<T>(self) -> Connection<T, E> {
        Connection::Registering(Registering {
            cause: self.cause,
            history: self.history,
        })
    }

    /// True if the platform may have something better than the credentials that are still valid.
    fn may_registration_help(&self, now: Instant) -> bool {
        let history = &self.history;
        match self.cause {
            Some(Failure::Refused) => return true,
            Some(Failure::Disconnected) if !history.pinned => return true,
            Some(
                Failure::Disconnected
                | Failure::Unreachable
                | Failure::TurnedAway
                | Failure::TakenOver
                | Failure::Fatal,
            )
            | None => {}
        }
        let has_failed = history.failed_connects > 0;
        if !history.pinned {
            return has_failed || history.flaps >= FLAPS_TO_REGISTER;
        }
        let down_for = |since| now.saturating_duration_since(since);
        has_failed && history.down_since.map(down_for) >= Some(SAME_ADDRESS)
    }
}

impl History {
    /// New settings name the relay, or name it no more.
    pub(crate) fn set_pinned(&mut self, pinned: bool) {
        self.pinned = pinned;
    }

    /// True once the platform has refused so many times that a person must act; attempts go on all
    /// the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusals >= REFUSALS_BELIEVED
    }

    /// How many waits there were since a tunnel last proved useful.
    pub(crate) fn attempts(&self) -> u32 {
        self.waits
    }

    /// There is an outage, also where there was never a tunnel.
    fn note_outage(&mut self, now: Instant) {
        self.down_since.get_or_insert(now);
    }

    fn set_registration_due(&mut self, after: Duration, is_binding: bool, now: Instant) {
        let at = now.checked_add(after);
        self.registration_due = at.map(|at| RegistrationDue { at, is_binding });
    }

    /// True if a wait may be ended because things have changed; that is counted.
    fn may_retry_early(&mut self, now: Instant) -> bool {
        let used_until = self.early_retries_used_until.map_or(now, |at| at.max(now));
        let next = used_until + EARLY_RETRY_INTERVAL;
        let may = next <= now + MAX_EARLY_RETRIES * EARLY_RETRY_INTERVAL;
        if may {
            self.early_retries_used_until = Some(next);
        }
        may
    }

    /// The bound of a wait that is `young` while the outage is.
    fn max_wait(&self, young: Duration, now: Instant) -> Duration {
        let is_young = self
            .down_since
            .is_none_or(|since| now.saturating_duration_since(since) < YOUNG_OUTAGE);
        if is_young { young } else { MAX_WAIT }
    }

    /// The next outage begins from nothing.
    fn forget_failures(&mut self) {
        self.waits = 0;
        self.dials.reset();
        self.registrations.reset();
        self.down_since = None;
        self.failed_connects = 0;
    }

    /// What the platform gave last has been of use.
    fn may_register_at_once(&mut self) {
        self.reregistrations.reset();
        self.registration_due = None;
    }
}

/// There is no tunnel any more, or it was of no use.
fn after_failure<T, E>(
    error: E,
    failure: Failure,
    mut history: History,
    at: Moment,
) -> Connection<T, E> {
    let (at_least, bound) = match failure {
        Failure::Fatal => return Connection::Stopped(error),
        Failure::TurnedAway => (Duration::ZERO, MAX_TURNED_AWAY_WAIT),
        Failure::TakenOver => (MIN_TAKEN_OVER_WAIT, MAX_WAIT),
        Failure::Unreachable | Failure::Refused | Failure::Disconnected => {
            (Duration::ZERO, MAX_WAIT)
        }
    };
    let delay = history.dials.next_delay_within(bound, at.random);
    let delay = at_least.saturating_add(delay);
    Backoff::begin(Some(failure), error, history, delay, at.now)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
