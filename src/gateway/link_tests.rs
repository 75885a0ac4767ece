use std::time::Duration;

use super::{Action, CAP, Event, Link, REFUSALS_BELIEVED, SELDOM, State};
use crate::error::{Class, Reason};

const HALF: u64 = u64::MAX / 2;

fn failed(class: Class) -> Event {
    Event::RegistrationFailed {
        class,
        usable: false,
    }
}

fn up(pinned: bool) -> Link {
    let mut link = Link::new(pinned, false);
    assert_eq!(link.handle(Event::Registered, 0), Action::Connect);
    assert_eq!(link.handle(Event::Connected, 0), Action::Serve);
    link
}

#[test]
fn the_straight_way_leads_up() {
    assert_eq!(up(true).state, State::Up);
}

#[test]
fn every_class_of_a_failed_registration_has_its_action() {
    let wait = |ms| Action::Wait(Duration::from_millis(ms));
    for (class, expected) in [
        (Class::Retry, wait(249)),
        (Class::RetryAfter(Duration::from_secs(7)), wait(7249)),
        (Class::Reauthenticate, Action::Register),
        (Class::Reenroll, Action::Stop(Reason::Permission)),
        (
            Class::Fatal(Reason::Configuration),
            Action::Stop(Reason::Configuration),
        ),
    ] {
        let action = match Link::new(true, false).handle(failed(class), HALF) {
            Action::Wait(d) => wait(u64::try_from(d.as_millis()).expect("short")),
            other => other,
        };
        assert_eq!(action, expected, "{class:?}");
    }
}

#[test]
fn a_second_refusal_at_start_is_final() {
    let mut link = Link::new(true, false);
    assert_eq!(
        link.handle(failed(Class::Reauthenticate), 0),
        Action::Register
    );
    assert_eq!(
        link.handle(failed(Class::Reauthenticate), 0),
        Action::Stop(Reason::Permission)
    );
    assert_eq!(link.state, State::Stopped);
}

#[test]
fn a_gateway_that_was_up_asks_on_after_refusals_and_seldom_after_many() {
    let mut link = up(true);
    link.handle(Event::Lost(Class::Retry), 0);
    for n in 1..=REFUSALS_BELIEVED + 5 {
        assert_eq!(
            link.handle(Event::Elapsed { usable: false }, 0),
            Action::Register
        );
        let action = link.handle(failed(Class::Reenroll), 0);
        if n < REFUSALS_BELIEVED {
            assert_eq!(action, Action::Wait(CAP), "refusal {n}");
        } else {
            assert_eq!(action, Action::Wait(SELDOM), "refusal {n}");
        }
        assert_eq!(link.is_refused(), n >= REFUSALS_BELIEVED);
    }
    link.handle(Event::Elapsed { usable: false }, 0);
    assert_eq!(link.handle(Event::Registered, 0), Action::Connect);
    assert!(!link.is_refused());
}

#[test]
fn a_lost_tunnel_is_dialled_again_with_the_same_credentials() {
    let mut link = up(true);
    assert!(matches!(
        link.handle(Event::Lost(Class::Retry), HALF),
        Action::Wait(_)
    ));
    assert_eq!(
        link.handle(Event::Elapsed { usable: true }, 0),
        Action::Connect
    );
}

#[test]
fn stale_credentials_repeated_failures_and_a_free_choice_ask_the_platform() {
    let mut stale = up(true);
    stale.handle(Event::Lost(Class::Retry), 0);
    assert_eq!(
        stale.handle(Event::Elapsed { usable: false }, 0),
        Action::Register
    );

    let mut tired = up(true);
    tired.handle(Event::Lost(Class::Retry), 0);
    assert_eq!(
        tired.handle(Event::Elapsed { usable: true }, 0),
        Action::Connect
    );
    tired.handle(Event::ConnectionFailed(Class::Retry), 0);
    assert_eq!(
        tired.handle(Event::Elapsed { usable: true }, 0),
        Action::Connect
    );
    tired.handle(Event::ConnectionFailed(Class::Retry), 0);
    assert_eq!(
        tired.handle(Event::Elapsed { usable: true }, 0),
        Action::Register
    );

    let mut free = up(false);
    free.handle(Event::Lost(Class::Retry), 0);
    assert_eq!(
        free.handle(Event::Elapsed { usable: true }, 0),
        Action::Register
    );
}

#[test]
fn settings_that_name_another_relay_lead_to_it_without_a_wait() {
    let mut link = up(true);
    assert_eq!(link.handle(Event::Moved, 0), Action::Connect);
    assert_eq!(link.handle(Event::Connected, 0), Action::Serve);
    link.set_pinned(false);
    link.handle(Event::Lost(Class::Retry), 0);
    let elapsed = Event::Elapsed { usable: true };
    assert_eq!(link.handle(elapsed, 0), Action::Register);
}

#[test]
fn a_platform_that_is_away_does_not_keep_a_good_tunnel_down() {
    let mut link = up(false);
    link.handle(Event::Lost(Class::Retry), 0);
    link.handle(Event::Elapsed { usable: true }, 0);
    let away = Event::RegistrationFailed {
        class: Class::Retry,
        usable: true,
    };
    assert_eq!(link.handle(away, 0), Action::Connect);
}

#[test]
fn a_refusal_does_not_keep_a_good_tunnel_down_either() {
    for class in [
        Class::Fatal(Reason::Configuration),
        Class::Fatal(Reason::Permission),
        Class::Reenroll,
    ] {
        let mut link = up(false);
        link.handle(Event::Lost(Class::Retry), 0);
        link.handle(Event::Elapsed { usable: true }, 0);
        let refused = Event::RegistrationFailed {
            class,
            usable: true,
        };
        assert_eq!(link.handle(refused, 0), Action::Connect, "{class:?}");
        // And the platform is not asked again at once.
        let failed = Event::ConnectionFailed(Class::Retry);
        assert_eq!(link.handle(failed, 0), Action::Wait(CAP), "{class:?}");
    }
}

#[test]
fn a_wait_that_the_platform_asked_for_is_kept_across_a_dial() {
    let wait = Duration::from_secs(77);
    let mut link = up(false);
    link.handle(Event::Lost(Class::Retry), 0);
    link.handle(Event::Elapsed { usable: true }, 0);
    let away = Event::RegistrationFailed {
        class: Class::RetryAfter(wait),
        usable: true,
    };
    assert_eq!(link.handle(away, 0), Action::Connect);
    assert_eq!(
        link.handle(Event::ConnectionFailed(Class::Retry), 0),
        Action::Wait(wait)
    );
}

#[test]
fn only_a_proved_tunnel_resets_the_backoff() {
    let mut link = up(true);
    let flap = |link: &mut Link| {
        let Action::Wait(delay) = link.handle(Event::Lost(Class::Retry), u64::MAX) else {
            panic!("no wait")
        };
        link.handle(Event::Elapsed { usable: true }, 0);
        link.handle(Event::Connected, 0);
        delay.as_millis()
    };
    let delays = [flap(&mut link), flap(&mut link), flap(&mut link)];
    assert_eq!(delays, [499, 999, 1999]);
    assert_eq!(link.handle(Event::Proved, 0), Action::Continue);
    assert_eq!(flap(&mut link), 499);
}

#[test]
fn late_news_changes_nothing() {
    let events = [
        Event::Registered,
        failed(Class::Fatal(Reason::Software)),
        Event::Connected,
        Event::ConnectionFailed(Class::Retry),
        Event::Proved,
        Event::Lost(Class::Retry),
        Event::Moved,
        Event::Elapsed { usable: true },
    ];
    let fits = |state, event: &Event| {
        matches!(
            (state, event),
            (
                State::Registering,
                Event::Registered | Event::RegistrationFailed { .. }
            ) | (
                State::Connecting,
                Event::Connected | Event::ConnectionFailed(_)
            ) | (State::Up, Event::Proved | Event::Lost(_) | Event::Moved)
                | (State::Waiting, Event::Elapsed { .. })
        )
    };
    let mut tried = 0;
    for state in [
        State::Registering,
        State::Connecting,
        State::Up,
        State::Waiting,
        State::Stopped,
    ] {
        for event in &events {
            if fits(state, event) {
                continue;
            }
            let mut link = Link::new(true, false);
            link.state = state;
            assert_eq!(
                link.handle(*event, 0),
                Action::Continue,
                "{state:?} {event:?}"
            );
            assert_eq!(link.state, state);
            tried += 1;
        }
    }
    assert_eq!(tried, 5 * 8 - 8);
}
