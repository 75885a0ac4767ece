//! Every event in every state: what the types allow, and where it leads.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Backoff, Connecting, Registering, RegistrationDue, Up};
use super::*;

/// Every event there is, with what it can carry.
fn events() -> Vec<Event> {
    let failures = [
        Failure::Unreachable,
        Failure::Refused,
        Failure::TurnedAway,
        Failure::TakenOver,
        Failure::Disconnected,
        Failure::Fatal,
    ];
    let mut events = vec![
        Event::Registered,
        Event::Connected,
        REACHED,
        STABLE,
        NOT_REACHED,
        CHECK_REQUESTED,
        Event::Reselected,
    ];
    events.extend(failures.map(Event::ConnectionFailed));
    events.extend(failures.map(Event::Lost));
    for usable in [true, false] {
        events.push(Event::Elapsed { usable });
        let triggers = [ReconnectTrigger::UserRequest, ReconnectTrigger::SystemEvent];
        events.extend(triggers.map(|trigger| Event::Retry { trigger, usable }));
        events.extend(
            [
                Class::Retry,
                Class::RetryAfter(MAX_WAIT),
                Class::Reauthenticate,
                Class::Reenroll,
                Class::Fatal(Reason::Permission),
            ]
            .map(|class| refused(class, usable)),
        );
    }
    events
}

/// The event without what it carries.
fn name(event: Event) -> &'static str {
    match event {
        Event::Registered => "Registered",
        Event::RegistrationFailed { .. } => "RegistrationFailed",
        Event::Connected => "Connected",
        Event::ConnectionFailed(_) => "ConnectionFailed",
        Event::Tunnel(TunnelEvent::HeartbeatReached) => "HeartbeatReached",
        Event::Tunnel(TunnelEvent::HeartbeatFailed) => "HeartbeatFailed",
        Event::Tunnel(TunnelEvent::Stable) => "Stable",
        Event::Tunnel(TunnelEvent::CheckRequested) => "CheckRequested",
        Event::Lost(_) => "Lost",
        Event::Reselected => "Reselected",
        Event::Elapsed { .. } => "Elapsed",
        Event::Retry { .. } => "Retry",
    }
}

const STATES: [State; 6] = [
    State::Registering,
    State::Connecting,
    State::Up,
    State::Unverified,
    State::Backoff,
    State::Stopped,
];

/// Connections in `state` with every history that makes a difference.
fn histories(state: State) -> Vec<Run> {
    let mut runs = Vec::new();
    for pinned in [true, false] {
        for was_up in [true, false] {
            for (refusals, failed_connects, due) in [
                (0, 0, None),
                (1, 0, None),
                (0, 3, None),
                (0, 3, Some(LONG)),
                (1, 3, Some(LONG)),
            ] {
                let mut run = Run::new(pinned, was_up);
                let (now, is_binding) = (run.now, refusals > 0);
                let Some(Connection::Registering(Registering { cause, mut history })) =
                    run.connection.take()
                else {
                    panic!("begins with a registration")
                };
                history.refusals = refusals;
                history.failed_connects = failed_connects;
                history.registration_due = due.map(|due| RegistrationDue {
                    at: now + due,
                    is_binding,
                });
                let up = |history, health| Up {
                    tunnel: (),
                    since: now,
                    stable: false,
                    health,
                    history,
                };
                run.connection = Some(match state {
                    State::Registering => Connection::Registering(Registering { cause, history }),
                    State::Connecting => Connection::Connecting(Connecting { history }),
                    State::Up => Connection::Up(up(history, Health::Reachable)),
                    State::Unverified => {
                        let health = Health::Unverified { heartbeats: 1 };
                        Connection::Up(up(history, health))
                    }
                    State::Backoff => Connection::Backoff(Backoff {
                        until: now,
                        cause,
                        error: (),
                        history,
                    }),
                    State::Stopped => Connection::Stopped(()),
                });
                runs.push(run);
            }
        }
    }
    runs
}

/// Which states an event leads to from which, from trying all of them.
fn transitions() -> BTreeMap<(State, State), BTreeSet<&'static str>> {
    let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for state in STATES {
        for event in events() {
            for mut run in histories(state) {
                let Some(action) = run.try_on(event) else {
                    continue;
                };
                if action == CONTINUE && run.state() == state {
                    continue;
                }
                all.entry((state, run.state()))
                    .or_default()
                    .insert(name(event));
            }
        }
    }
    all
}

/// What holds in `state`: an event that the types do not have there is not in the diagram either.
fn fits(state: State, event: Event) -> bool {
    match event {
        Event::Registered | Event::RegistrationFailed { .. } => state == State::Registering,
        Event::Connected | Event::ConnectionFailed(_) => state == State::Connecting,
        Event::Tunnel(_) | Event::Lost(_) | Event::Reselected => {
            matches!(state, State::Up | State::Unverified)
        }
        Event::Elapsed { .. } | Event::Retry { .. } => state == State::Backoff,
    }
}

#[test]
fn every_event_has_its_states() {
    let mut steps = 0;
    for state in STATES {
        for event in events() {
            for mut run in histories(state) {
                let is_taken = run.try_on(event).is_some();
                assert_eq!(is_taken, fits(state, event), "{state:?} {event:?}");
                steps += 1;
            }
        }
    }
    assert!(steps > 1000, "{steps}");
}

#[test]
fn every_action_is_that_of_its_state() {
    for state in STATES {
        for event in events() {
            for mut run in histories(state) {
                let Some(action) = run.try_on(event) else {
                    continue;
                };
                let expected: &[State] = match action {
                    Action::Register => &[State::Registering],
                    Action::Connect => &[State::Connecting],
                    Action::Serve => &[State::Up],
                    Action::Wait(_) => &[State::Backoff],
                    Action::Stop => &[State::Stopped],
                    Action::Tunnel(_) => &[State::Up, State::Unverified],
                };
                assert!(expected.contains(&run.state()), "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn diagram_is_that_of_the_code() {
    let mut lines = vec!["//!     [*] --> Registering".to_owned()];
    for ((from, to), events) in transitions() {
        let events: Vec<&str> = events.into_iter().collect();
        lines.push(format!(
            "//!     {from:?} --> {to:?}: {}",
            events.join(", ")
        ));
    }
    let lines = lines.join("\n");
    let diagram = format!("//! ```mermaid\n//! stateDiagram-v2\n{lines}\n//! ```\n");
    assert!(
        include_str!("state.rs").contains(&diagram),
        "the module's documentation must have this diagram:\n{diagram}"
    );
}
