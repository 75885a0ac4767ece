//! The connection's state machine, pure: events and a random number in, the next action out.
//!
//! It alone decides what is tried next and after which wait, and it looks at nothing but the class of an
//! error. The same patience holds at start and later; only a refusal by the platform is taken as final at once
//! while the gateway has never been up with its credential, because then a person is watching. Later it never is: the link
//! asks again, seldom after ten refusals, and a tunnel that needs no new credentials is dialled meanwhile.
//!
//! ```text
//!             ┌────────────── Elapsed (credentials stale, or relay to be chosen anew) ────────┐
//!             ▼                                                                               │
//!  start ─▶ Registering ──Registered──▶ Connecting ──Connected──▶ Up ──Lost──▶ Waiting ───────┤
//!             │  ▲ Failed(Reauthenticate)    ▲  │ Failed                        ▲             │
//!             │  └── once, at once           │  └───────────────────────────────┤             │
//!             ├── Failed, usable credentials ┘                                  │             │
//!             ├── Failed ───────────────────────────────────────────────────────┘             │
//!             └── Failed(Fatal) ──▶ Stopped           Elapsed (credentials good) ─▶ Connecting ┘
//! ```
//!
//! When new settings send the gateway to another relay, it goes from Up to Connecting; the tunnel that it leaves is not the
//! link's concern any more.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Class, Reason};

/// Bounds of the delay between attempts (issue of users: everyone redials in the same second).
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);
/// A tunnel that lives this long has proved useful even without a heartbeat.
pub(crate) const USEFUL_AFTER: Duration = Duration::from_secs(60);
/// Refusals in a row, after the gateway was up once, before they are believed: with [`CAP`] between them some
/// five minutes, since a platform that is being redeployed refuses as well.
const REFUSALS_BELIEVED: u32 = 10;
/// Time between attempts once refusals are believed. It still asks: nobody may be there to start it again, and what
/// answered may not have been the platform at all, but a proxy before it.
const SELDOM: Duration = Duration::from_secs(300);
/// Failed connections with the same credentials before new ones are asked for.
const CONNECTS_PER_CREDENTIALS: u32 = 2;

/// Where the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Asking the platform for credentials.
    Registering,
    /// Dialling the relay.
    Connecting,
    /// The tunnel is up.
    Up,
    /// Waiting for the next attempt.
    Waiting,
    /// Given up; a person must act.
    Stopped,
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
    /// The relay could not be reached, or refused.
    ConnectionFailed(Class),
    /// The tunnel carried something: a heartbeat came through, or it lived long enough.
    Proved,
    /// The tunnel ended.
    Lost(Class),
    /// The newest credentials are for another tunnel than the one that is up.
    Moved,
    /// The wait is over.
    Elapsed {
        /// Whether the credentials are still valid.
        usable: bool,
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
    /// Nothing new: go on. Only ever the answer to [`Event::Proved`] and to late news.
    Continue,
    /// Wait, then report [`Event::Elapsed`].
    Wait(Duration),
    /// Give up.
    Stop(Reason),
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Link {
    state: State,
    backoff: Backoff,
    /// A pinned relay is dialled again; otherwise each failed connection chooses anew.
    pinned: bool,
    ever_up: bool,
    /// Credentials were refused so often in a row.
    refusals: u32,
    /// Connections failed so often in a row.
    failed_connects: u32,
    /// The next wait is at least this long.
    owed: Duration,
}

impl Link {
    /// A link that begins with [`Action::Register`].
    ///
    /// `ever_up`: the gateway had a tunnel before, in the life of another link or of another process.
    pub(crate) fn new(pinned: bool, ever_up: bool) -> Self {
        Self {
            state: State::Registering,
            backoff: Backoff::new(BASE, CAP),
            pinned,
            ever_up,
            refusals: 0,
            failed_connects: 0,
            owed: Duration::ZERO,
        }
    }

    /// New settings name the relay, or name it no more.
    pub(crate) fn set_pinned(&mut self, pinned: bool) {
        self.pinned = pinned;
    }

    /// True once the platform has refused so often that a person must act; the link goes on all the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusals >= REFUSALS_BELIEVED
    }

    /// How many waits there were since the link last proved useful.
    pub(crate) fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// Takes an event in. `random` is uniform over `u64`. An event that does not fit the state changes
    /// nothing: it is late news of a task that has ended.
    pub(crate) fn handle(&mut self, event: Event, random: u64) -> Action {
        match (self.state, event) {
            (State::Registering, Event::Registered) => {
                self.refusals = 0;
                self.enter(State::Connecting, Action::Connect)
            }
            (State::Registering, Event::RegistrationFailed { class, usable }) => {
                self.registration_failed(class, usable, random)
            }
            (State::Connecting, Event::Connected) => {
                self.ever_up = true;
                self.enter(State::Up, Action::Serve)
            }
            (State::Connecting, Event::ConnectionFailed(class)) => {
                self.failed_connects = self.failed_connects.saturating_add(1);
                self.retry(class, random)
            }
            (State::Up, Event::Proved) => {
                self.backoff.reset();
                self.failed_connects = 0;
                self.owed = Duration::ZERO;
                Action::Continue
            }
            (State::Up, Event::Lost(class)) => self.retry(class, random),
            (State::Up, Event::Moved) => self.enter(State::Connecting, Action::Connect),
            (State::Waiting, Event::Elapsed { usable }) => {
                let tired = self.failed_connects >= CONNECTS_PER_CREDENTIALS;
                if usable && self.pinned && !tired {
                    self.enter(State::Connecting, Action::Connect)
                } else {
                    self.failed_connects = 0;
                    self.enter(State::Registering, Action::Register)
                }
            }
            _ => Action::Continue,
        }
    }

    fn registration_failed(&mut self, class: Class, usable: bool, random: u64) -> Action {
        match class {
            Class::Retry | Class::RetryAfter(_) if usable => {
                // The platform is away but the tunnel needs only the relay.
                self.owe(class);
                self.enter(State::Connecting, Action::Connect)
            }
            Class::Retry | Class::RetryAfter(_) => self.retry(class, random),
            Class::Reauthenticate | Class::Reenroll | Class::Fatal(_) => {
                self.refused(class, usable, random)
            }
        }
    }

    fn refused(&mut self, class: Class, usable: bool, random: u64) -> Action {
        self.refusals = self.refusals.saturating_add(1);
        // An expired token is cured by a login, at once; a refusal right after one is not.
        if class == Class::Reauthenticate && self.refusals == 1 {
            return self.enter(State::Registering, Action::Register);
        }
        if !self.ever_up {
            let reason = match class {
                Class::Fatal(reason) => reason,
                Class::Retry | Class::RetryAfter(_) | Class::Reauthenticate | Class::Reenroll => {
                    Reason::Permission
                }
            };
            return self.enter(State::Stopped, Action::Stop(reason));
        }
        let at_least = if self.is_refused() { SELDOM } else { CAP };
        if usable {
            self.owed = at_least;
            return self.enter(State::Connecting, Action::Connect);
        }
        self.wait(at_least, random)
    }

    /// Remembers a wait that the platform asked for, until there is one.
    fn owe(&mut self, class: Class) {
        if let Class::RetryAfter(wait) = class {
            self.owed = wait;
        }
    }

    fn retry(&mut self, class: Class, random: u64) -> Action {
        match class {
            Class::Retry | Class::Reauthenticate | Class::Reenroll => {
                self.wait(Duration::ZERO, random)
            }
            Class::RetryAfter(at_least) => self.wait(at_least, random),
            Class::Fatal(reason) => self.enter(State::Stopped, Action::Stop(reason)),
        }
    }

    fn wait(&mut self, at_least: Duration, random: u64) -> Action {
        // What the peer asked for comes first; the jitter on top spreads those it told the same.
        let at_least = at_least.max(std::mem::take(&mut self.owed));
        let delay = at_least.saturating_add(self.backoff.next_delay(random));
        self.enter(State::Waiting, Action::Wait(delay))
    }

    fn enter(&mut self, state: State, action: Action) -> Action {
        self.state = state;
        action
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
