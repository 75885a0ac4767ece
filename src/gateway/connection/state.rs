//! The connection's state machine, pure: events, the time and a random number in, the next action out.
//!
//! It alone decides what is tried next and after which wait, and it looks at nothing but the class of an
//! error. What others are told of the gateway is derived from its [`State`]. ARCHITECTURE.md has its diagram, which
//! a test compares with the code.
//!
//! What it knows about networks:
//! - A wait is a uniform choice between nothing and a bound (full jitter), the first one too: a crowd that lost the
//!   same relay spreads. While an outage is young, whoever repairs it looks on: the bound is about a second, and does not
//!   grow, so that those who came too early and those who did not come back evenly. Later it is [`LATER`].
//! - What did come up, or did answer, and was of no use, is tried again less and less often.
//! - The relay is dialled oftener than the platform is asked: a dial that fails costs nobody anything, new
//!   credentials cost the platform signatures.
//! - The same patience holds at start and later; only a refusal by the platform is taken as final at once
//!   while the gateway has never been up with its credential, because then a person is watching. Later it never is: the
//!   link asks again, seldom after ten refusals, and a tunnel that needs no new credentials is dialled meanwhile.
//! - A tunnel that answers proves only that it answers. While the platform says that it does not get through it
//!   ([`Event::Unproved`]), the tunnel is checked, then announced to the platform anew, then made anew.
//!
//! When new settings, or a nearer relay, send the gateway elsewhere, it goes from Up to Connecting; the tunnel that it
//! leaves is not the link's concern any more.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{
    ASK_AGAIN, ASK_AT_MOST, BASE, DIAL_AT_MOST, DOUBTS_TO_REDIAL, DOUBTS_TO_RENEW, FLAPS_FORGIVEN,
    FLAPS_TO_ASK, HURRIES, HURRY_AGAIN, LATER, REDIALS_DOUBLED, REFUSALS_BELIEVED, SAME_ADDRESS,
    SELDOM, TAKEN_OVER_AT_LEAST, TURNED_AWAY_AT_MOST, USEFUL_AFTER, YOUNG,
};
use crate::backoff::{self, Backoff};
use crate::error::{Class, Reason};

/// Where the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Asking the platform for credentials.
    Registering,
    /// Dialling the relay.
    Connecting,
    /// The tunnel is up.
    Up,
    /// The tunnel answers, but the platform says that it does not get through it.
    Doubted,
    /// Waiting for the next attempt.
    Waiting,
    /// Given up; a person must act.
    Stopped,
}

/// Why there is no tunnel, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The relay cannot be reached, or broke off.
    Unreachable,
    /// The relay does not believe our certificate, or we not its: other credentials may help.
    Refused,
    /// The relay closed the tunnel as soon as it was made: it holds an older one.
    TurnedAway,
    /// Another connection of this gateway took the tunnel's place: it was moved, or two programs use one identity, which must not
    /// push each other out as fast as they can.
    TakenOver,
    /// The relay said goodbye, or nothing gets through it: another one is better than this one.
    Goodbye,
    /// Nothing that a repetition can cure.
    Fatal(Reason),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The platform gave credentials.
    Registered,
    /// The platform gave none.
    RegistrationFailed {
        /// What to do about it.
        class: Class,
        /// Whether credentials from before are still valid.
        usable: bool,
    },
    /// The tunnel is up.
    Connected,
    /// There is no tunnel.
    ConnectionFailed(Failure),
    /// A heartbeat came through the tunnel.
    Proved,
    /// The tunnel has carried a session, or has lived for [`USEFUL_AFTER`].
    Lived,
    /// The platform answered a heartbeat, but did not get through the tunnel.
    Unproved,
    /// The network changed, the machine slept, or a person wants to know: is the tunnel still there?
    Disturbed,
    /// The tunnel ended.
    Lost(Failure),
    /// The newest credentials are for another tunnel than the one that is up.
    Moved,
    /// The wait is over.
    Elapsed {
        /// Whether the credentials are still valid.
        usable: bool,
    },
    /// The wait is cut short, for there is reason to believe that things have changed.
    Retry {
        /// Whether the credentials are still valid.
        usable: bool,
        /// A person asked for it, or changed the settings: whatever is waited for, ask anew.
        wanted: bool,
    },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the platform for credentials.
    Register,
    /// Dial the relay.
    Connect,
    /// Serve the tunnel until it ends.
    Serve,
    /// Nothing new: go on.
    Continue,
    /// Ask the relay for a sign of life, and go on if it gives one.
    Check,
    /// Ask for credentials for the tunnel that is up, which tells the platform where the gateway is; go on meanwhile.
    Renew,
    /// End the tunnel, unless it carries sessions, and make it anew.
    Redial,
    /// Wait, then report [`Event::Elapsed`].
    Wait(Duration),
    /// Give up.
    Stop(Reason),
}

/// When an event is taken in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The time.
    pub(crate) now: Instant,
    /// Uniform over `u64`.
    pub(crate) random: u64,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Link {
    state: State,
    /// A pinned relay is dialled again; otherwise a failed connection chooses anew.
    pinned: bool,
    ever_up: bool,
    /// Waits since the link last proved useful.
    waits: u32,
    /// Waits before a dial of a relay that answers.
    dials: Backoff,
    /// Waits before the platform is asked again that did not answer.
    asks: Backoff,
    /// Waits before it is asked again that did.
    asks_again: Backoff,
    /// The platform is not asked before.
    ask_due: Option<Instant>,
    /// Only a person may shorten that: the platform answered.
    is_ask_due_kept: bool,
    /// Since when there is no tunnel that has proved useful.
    down_since: Option<Instant>,
    /// Why the last attempt, or the tunnel, failed.
    failure: Option<Failure>,
    /// Connections failed so often in a row.
    failed_connects: u32,
    /// Credentials were refused so often in a row.
    refusals: u32,
    /// Heartbeats did not get through so often in a row.
    doubts: u32,
    /// Tunnels were made anew for that so often since one last did.
    redials: u32,
    /// When the wait is over.
    wait_until: Option<Instant>,
    /// When all hurries are there again.
    hurried: Option<Instant>,
    /// Tunnels so many in a row were lost before they had lived.
    flaps: u32,
    /// When the tunnel that is up, or was the last one, came up; `None` once it has lived.
    up_since: Option<Instant>,
}

impl Link {
    /// A link that begins with [`Action::Register`].
    ///
    /// `ever_up`: the gateway had a tunnel before, in the life of another link or of another process.
    pub(crate) fn new(pinned: bool, ever_up: bool) -> Self {
        Self {
            state: State::Registering,
            pinned,
            ever_up,
            waits: 0,
            dials: Backoff::new(BASE, LATER),
            asks: Backoff::new(BASE, LATER),
            asks_again: Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1),
            ask_due: None,
            is_ask_due_kept: false,
            down_since: None,
            failure: None,
            failed_connects: 0,
            refusals: 0,
            doubts: 0,
            redials: 0,
            wait_until: None,
            hurried: None,
            flaps: 0,
            up_since: None,
        }
    }

    /// New settings name the relay, or name it no more.
    pub(crate) fn set_pinned(&mut self, pinned: bool) {
        self.pinned = pinned;
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// True once the platform has refused so often that a person must act; the link goes on all the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusals >= REFUSALS_BELIEVED
    }

    /// How many waits there were since the link last proved useful.
    pub(crate) fn attempts(&self) -> u32 {
        self.waits
    }

    /// Takes an event in. An event that does not fit the state changes nothing: it is late news of a task that has ended.
    pub(crate) fn handle(&mut self, event: Event, at: Moment) -> Action {
        match (self.state, event) {
            (State::Registering, Event::Registered) => {
                self.refusals = 0;
                self.asks.reset();
                let wait = self.asks_again.next_delay(at.random);
                self.ask_due = at.now.checked_add(wait);
                self.is_ask_due_kept = true;
                self.enter(State::Connecting, Action::Connect)
            }
            (State::Registering, Event::RegistrationFailed { class, usable }) => {
                self.down_since.get_or_insert(at.now);
                self.registration_failed(class, usable, at)
            }
            (State::Connecting, Event::Connected) => {
                self.ever_up = true;
                self.doubts = 0;
                self.up_since = Some(at.now);
                self.enter(State::Up, Action::Serve)
            }
            (State::Connecting, Event::ConnectionFailed(failure)) => {
                self.failed_connects = self.failed_connects.saturating_add(1);
                if failure == Failure::Unreachable {
                    self.note(failure, at.now);
                    let bound = self.at_most(DIAL_AT_MOST, at.now);
                    return self.wait(backoff::jitter(bound, at.random), at.now);
                }
                self.failed(failure, at)
            }
            (State::Up | State::Doubted, Event::Proved) => {
                if self.has_lived(at.now) {
                    self.flaps = 0;
                }
                self.forget_failures();
                // A relay that drops each tunnel after its first heartbeat is not dialled for ever as fast as it can do that, nor is
                // the platform asked.
                self.dials.skip(self.flaps.saturating_sub(FLAPS_FORGIVEN));
                if self.flaps < FLAPS_TO_ASK {
                    self.may_ask_at_once();
                }
                (self.doubts, self.redials) = (0, 0);
                self.enter(State::Up, Action::Continue)
            }
            (State::Up | State::Doubted, Event::Lived) => {
                self.forget_failures();
                self.may_ask_at_once();
                (self.flaps, self.up_since) = (0, None);
                self.enter(self.state, Action::Continue)
            }
            (State::Up | State::Doubted, Event::Unproved) => {
                self.doubts = self.doubts.saturating_add(1);
                let to_redial = DOUBTS_TO_REDIAL << self.redials.min(REDIALS_DOUBLED);
                let action = if self.doubts >= to_redial {
                    self.doubts = DOUBTS_TO_RENEW;
                    self.redials = self.redials.saturating_add(1);
                    Action::Redial
                } else if self.doubts == DOUBTS_TO_RENEW {
                    Action::Renew
                } else {
                    Action::Check
                };
                self.enter(State::Doubted, action)
            }
            (State::Up | State::Doubted, Event::Disturbed) => Action::Check,
            (State::Up | State::Doubted, Event::Lost(failure)) => {
                self.flaps = if self.has_lived(at.now) {
                    0
                } else {
                    self.flaps.saturating_add(1)
                };
                self.failed(failure, at)
            }
            (State::Up | State::Doubted, Event::Moved) => {
                self.enter(State::Connecting, Action::Connect)
            }
            (State::Waiting, Event::Elapsed { usable }) => self.next(usable, at),
            (State::Waiting, Event::Retry { usable, wanted }) => {
                if wanted {
                    self.ask_due = None;
                    return self.enter(State::Registering, Action::Register);
                }
                if !self.may_hurry(at.now) {
                    let until = self.wait_until.unwrap_or(at.now);
                    return Action::Wait(until.saturating_duration_since(at.now));
                }
                if !self.is_ask_due_kept {
                    self.ask_due = None;
                }
                self.next(usable, at)
            }
            _ => Action::Continue,
        }
    }

    /// After a wait: the relay, if the credentials may be good for it, else the platform, else another wait.
    fn next(&mut self, usable: bool, at: Moment) -> Action {
        let may_ask = self.ask_due.is_none_or(|due| due <= at.now);
        if usable && !(may_ask && self.wants_to_ask(at.now)) {
            return self.enter(State::Connecting, Action::Connect);
        }
        match self.ask_due {
            Some(due) if !may_ask => {
                let left = due.saturating_duration_since(at.now);
                self.wait(left, at.now)
            }
            _ => self.enter(State::Registering, Action::Register),
        }
    }

    /// True if the platform may have something better than the credentials that are still valid.
    fn wants_to_ask(&self, now: Instant) -> bool {
        match self.failure {
            Some(Failure::Refused) => true,
            Some(Failure::Goodbye) if !self.pinned => true,
            _ if self.failed_connects == 0 => !self.pinned && self.flaps >= FLAPS_TO_ASK,
            _ if !self.pinned => true,
            _ => {
                let since = self.down_since.unwrap_or(now);
                now.saturating_duration_since(since) >= SAME_ADDRESS
            }
        }
    }

    fn registration_failed(&mut self, class: Class, usable: bool, at: Moment) -> Action {
        let at_least = match class {
            Class::Retry => Duration::ZERO,
            Class::RetryAfter(at_least) => at_least,
            Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                self.refusals = self.refusals.saturating_add(1);
                // An expired token is cured by a login, at once; a refusal right after one is not.
                if class == Class::Reauthenticate && self.refusals == 1 {
                    return self.enter(State::Registering, Action::Register);
                }
                if !self.ever_up {
                    return self.stop(class);
                }
                if self.is_refused() { SELDOM } else { LATER }
            }
        };
        // What the platform asked for comes first; the jitter on top spreads those it told the same.
        let bound = self.at_most(ASK_AT_MOST, at.now);
        let delay = self.asks.next_delay_within(bound, at.random);
        let delay = at_least.saturating_add(delay);
        self.ask_due = at.now.checked_add(delay);
        self.is_ask_due_kept = !at_least.is_zero();
        if usable {
            // The platform is away, or unwell, but the tunnel needs only the relay.
            return self.enter(State::Connecting, Action::Connect);
        }
        self.wait(delay, at.now)
    }

    fn stop(&mut self, class: Class) -> Action {
        let reason = match class {
            Class::Fatal(reason) => reason,
            Class::Retry | Class::RetryAfter(_) | Class::Reauthenticate | Class::Reenroll => {
                Reason::Permission
            }
        };
        self.enter(State::Stopped, Action::Stop(reason))
    }

    /// Why there is no tunnel, and that there is an outage: also where there was never a tunnel.
    fn note(&mut self, failure: Failure, now: Instant) {
        self.failure = Some(failure);
        self.down_since.get_or_insert(now);
    }

    /// There is no tunnel any more, or it came to nothing.
    fn failed(&mut self, failure: Failure, at: Moment) -> Action {
        self.note(failure, at.now);
        let (at_least, bound) = match failure {
            Failure::Fatal(reason) => {
                return self.enter(State::Stopped, Action::Stop(reason));
            }
            Failure::TurnedAway => (Duration::ZERO, TURNED_AWAY_AT_MOST),
            Failure::TakenOver => (TAKEN_OVER_AT_LEAST, LATER),
            Failure::Unreachable | Failure::Refused | Failure::Goodbye => (Duration::ZERO, LATER),
        };
        let delay = self.dials.next_delay_within(bound, at.random);
        self.wait(at_least.saturating_add(delay), at.now)
    }

    fn wait(&mut self, delay: Duration, now: Instant) -> Action {
        self.waits = self.waits.saturating_add(1);
        self.wait_until = now.checked_add(delay);
        self.enter(State::Waiting, Action::Wait(delay))
    }

    /// True if a wait may be ended because things have changed; that is counted.
    fn may_hurry(&mut self, now: Instant) -> bool {
        let used_up = self.hurried.map_or(now, |at| at.max(now));
        let next = used_up + HURRY_AGAIN;
        let may = next <= now + HURRIES * HURRY_AGAIN;
        if may {
            self.hurried = Some(next);
        }
        may
    }

    /// True if the tunnel that is up, or was, carried a session or lived for long.
    fn has_lived(&self, now: Instant) -> bool {
        self.up_since
            .is_none_or(|since| now.saturating_duration_since(since) >= USEFUL_AFTER)
    }

    /// The bound of a wait that is `young` while the outage is.
    fn at_most(&self, young: Duration, now: Instant) -> Duration {
        let is_young = self
            .down_since
            .is_none_or(|since| now.saturating_duration_since(since) < YOUNG);
        if is_young { young } else { LATER }
    }

    /// The next outage begins from nothing.
    fn forget_failures(&mut self) {
        self.waits = 0;
        self.dials.reset();
        self.asks.reset();
        self.down_since = None;
        self.failure = None;
        self.failed_connects = 0;
    }

    /// Whatever the platform gave last has been of use.
    fn may_ask_at_once(&mut self) {
        self.asks_again.reset();
        self.ask_due = None;
    }

    fn enter(&mut self, state: State, action: Action) -> Action {
        self.state = state;
        action
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
