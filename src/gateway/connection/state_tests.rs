use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{
    ASK_AT_MOST, Action, DIAL_AT_MOST, DOUBTS_TO_REDIAL, DOUBTS_TO_RENEW, Event, Failure, LATER,
    Link, Moment, REFUSALS_BELIEVED, SAME_ADDRESS, SELDOM, State, TAKEN_OVER_AT_LEAST,
    TURNED_AWAY_AT_MOST, USEFUL_AFTER, YOUNG,
};
use crate::error::{Class, Reason};

const LONG: Duration = Duration::from_secs(3600);

/// A link and a clock.
struct Run {
    link: Link,
    now: Instant,
    random: u64,
}

impl Run {
    fn new(pinned: bool, ever_up: bool) -> Self {
        Self {
            link: Link::new(pinned, ever_up),
            now: Instant::now(),
            random: u64::MAX,
        }
    }

    /// With a tunnel that has proved useful, long ago.
    fn up(pinned: bool) -> Self {
        let mut run = Self::new(pinned, false);
        assert_eq!(run.on(Event::Registered), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        assert_eq!(run.on(Event::Proved), Action::Continue);
        run.now += LONG;
        run
    }

    /// Lost it, and waited.
    fn lost(pinned: bool, failure: Failure) -> Self {
        let mut run = Self::up(pinned);
        let action = run.on(Event::Lost(failure));
        run.wait(action);
        run
    }

    fn on(&mut self, event: Event) -> Action {
        let (now, random) = (self.now, self.random);
        self.link.handle(event, Moment { now, random })
    }

    /// Lets the wait pass.
    fn wait(&mut self, action: Action) -> Duration {
        let Action::Wait(delay) = action else {
            panic!("{action:?} is no wait")
        };
        self.now += delay;
        delay
    }
}

fn refused(class: Class, usable: bool) -> Event {
    Event::RegistrationFailed { class, usable }
}

const USABLE: Event = Event::Elapsed { usable: true };
const STALE: Event = Event::Elapsed { usable: false };
const UNREACHABLE: Event = Event::ConnectionFailed(Failure::Unreachable);

/// Just short of it: the largest random number is not quite one.
fn about(bound: Duration) -> std::ops::RangeInclusive<Duration> {
    bound.saturating_sub(Duration::from_millis(1))..=bound
}

#[test]
fn the_straight_way_leads_up() {
    assert_eq!(Run::up(true).link.state(), State::Up);
}

#[test]
fn every_class_of_a_failed_registration_has_its_action_at_the_first_start() {
    for (class, expected) in [
        (Class::Retry, None),
        (Class::RetryAfter(Duration::from_secs(7)), None),
        (Class::Reauthenticate, Some(Action::Register)),
        (Class::Reenroll, Some(Action::Stop(Reason::Permission))),
        (
            Class::Fatal(Reason::Configuration),
            Some(Action::Stop(Reason::Configuration)),
        ),
    ] {
        let mut run = Run::new(true, false);
        let action = run.on(refused(class, false));
        match expected {
            Some(expected) => assert_eq!(action, expected, "{class:?}"),
            None => {
                let least = if class == Class::Retry { 0 } else { 7 };
                assert!(run.wait(action).as_secs() >= least, "{class:?}");
                assert_eq!(run.on(STALE), Action::Register);
            }
        }
    }
}

#[test]
fn a_second_refusal_at_the_first_start_is_final() {
    let mut run = Run::new(true, false);
    let event = refused(Class::Reauthenticate, false);
    assert_eq!(run.on(event), Action::Register);
    assert_eq!(run.on(event), Action::Stop(Reason::Permission));
    assert_eq!(run.link.state(), State::Stopped);
}

#[test]
fn a_gateway_that_was_up_asks_on_after_refusals_and_seldom_after_many() {
    let mut run = Run::lost(true, Failure::Unreachable);
    for n in 1..=REFUSALS_BELIEVED + 5 {
        assert_eq!(run.on(STALE), Action::Register, "refusal {n}");
        let action = run.on(refused(Class::Reenroll, false));
        let delay = run.wait(action);
        let least = if n < REFUSALS_BELIEVED { LATER } else { SELDOM };
        assert!(
            delay >= least && delay <= least + LATER,
            "refusal {n}: {delay:?}"
        );
        assert_eq!(run.link.is_refused(), n >= REFUSALS_BELIEVED);
    }
    assert_eq!(run.on(STALE), Action::Register);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    assert!(!run.link.is_refused());
}

#[test]
fn a_lost_tunnel_is_dialled_again_with_the_same_credentials() {
    for pinned in [true, false] {
        let mut run = Run::lost(pinned, Failure::Unreachable);
        assert_eq!(run.on(USABLE), Action::Connect, "{pinned}");
        assert_eq!(
            Run::lost(pinned, Failure::Unreachable).on(STALE),
            Action::Register
        );
    }
}

#[test]
fn a_relay_that_is_away_is_dialled_often_while_the_outage_is_young() {
    let mut run = Run::lost(true, Failure::Unreachable);
    let begin = run.now;
    // The wait after the loss was part of the outage.
    while run.now < begin + YOUNG - DIAL_AT_MOST {
        match run.on(USABLE) {
            Action::Connect => {
                let action = run.on(UNREACHABLE);
                let delay = run.wait(action);
                assert!(delay <= DIAL_AT_MOST, "{delay:?}");
            }
            // Its address may have changed, which the platform is asked about seldom.
            Action::Register => {
                assert!(run.now >= begin + SAME_ADDRESS / 2);
                assert_eq!(run.on(refused(Class::Retry, true)), Action::Connect);
                let action = run.on(UNREACHABLE);
                run.wait(action);
            }
            other => panic!("{other:?}"),
        }
    }
    run.now += DIAL_AT_MOST;
    assert_eq!(run.on(USABLE), Action::Register);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let action = run.on(UNREACHABLE);
    assert!(about(LATER).contains(&run.wait(action)));
}

#[test]
fn the_address_of_a_relay_never_reached_is_asked_for_again() {
    let mut run = Run::new(true, false);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let begin = run.now;
    let mut action = run.on(UNREACHABLE);
    while action != Action::Register {
        assert!(run.now < begin + SAME_ADDRESS + LATER, "not asked");
        action = match action {
            Action::Wait(_) => {
                run.wait(action);
                run.on(USABLE)
            }
            Action::Connect => run.on(UNREACHABLE),
            other => panic!("{other:?}"),
        };
    }
    assert!(run.now >= begin + SAME_ADDRESS);
    run.now = begin + YOUNG;
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let action = run.on(UNREACHABLE);
    assert!(about(LATER).contains(&run.wait(action)));
}

#[test]
fn a_relay_that_was_chosen_is_given_up_after_one_dial_and_asks_get_fewer() {
    let mut run = Run::lost(false, Failure::Unreachable);
    assert_eq!(run.on(USABLE), Action::Connect);
    let action = run.on(UNREACHABLE);
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
    // None of what the platform gives is any good: it is not asked as often as is dialled.
    let (begin, mut asked, mut dialled) = (run.now, 0, 0);
    let mut action = Action::Register;
    while run.now < begin + YOUNG / 2 {
        action = match action {
            Action::Register => {
                asked += 1;
                run.on(Event::Registered)
            }
            Action::Connect => {
                dialled += 1;
                run.on(UNREACHABLE)
            }
            Action::Wait(_) => {
                run.wait(action);
                run.on(USABLE)
            }
            other => panic!("{other:?}"),
        };
    }
    assert!((3..=8).contains(&asked), "asked {asked} times");
    assert!(dialled >= 190, "dialled {dialled} times");
}

#[test]
fn a_relay_that_does_not_believe_us_makes_the_platform_be_asked() {
    let mut run = Run::lost(true, Failure::Unreachable);
    assert_eq!(run.on(USABLE), Action::Connect);
    let action = run.on(Event::ConnectionFailed(Failure::Refused));
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
}

#[test]
fn after_a_goodbye_another_relay_is_chosen_at_once_if_there_may_be_one() {
    for (pinned, expected) in [(false, Action::Register), (true, Action::Connect)] {
        let mut run = Run::up(pinned);
        let action = run.on(Event::Lost(Failure::Goodbye));
        assert!(run.wait(action) <= Duration::from_millis(250));
        assert_eq!(run.on(USABLE), expected);
    }
}

#[test]
fn a_relay_that_holds_an_older_connection_is_asked_every_few_seconds_for_ever() {
    let mut run = Run::lost(true, Failure::Unreachable);
    let end = run.now + 2 * YOUNG;
    let mut action = run.on(USABLE);
    while run.now < end {
        action = match action {
            Action::Connect => run.on(Event::ConnectionFailed(Failure::TurnedAway)),
            Action::Register => run.on(Event::Registered),
            Action::Wait(delay) => {
                assert!(delay <= TURNED_AWAY_AT_MOST, "{delay:?}");
                run.wait(action);
                run.on(USABLE)
            }
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn two_programs_with_one_identity_do_not_push_each_other_out_as_fast_as_they_can() {
    let mut run = Run::up(true);
    run.random = 0;
    for _ in 0..5 {
        let action = run.on(Event::Lost(Failure::TakenOver));
        assert!(run.wait(action) >= TAKEN_OVER_AT_LEAST);
        assert_eq!(run.on(USABLE), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        run.on(Event::Proved);
    }
}

#[test]
fn a_platform_that_is_away_does_not_keep_a_good_tunnel_down() {
    let mut run = Run::lost(false, Failure::Goodbye);
    assert_eq!(run.on(USABLE), Action::Register);
    let wait = Duration::from_secs(77);
    let away = refused(Class::RetryAfter(wait), true);
    assert_eq!(run.on(away), Action::Connect);
    // And it is not asked again before it wants to be.
    let asked = run.now;
    let mut action = run.on(UNREACHABLE);
    loop {
        action = match action {
            Action::Wait(_) => {
                run.wait(action);
                run.on(USABLE)
            }
            Action::Connect => run.on(UNREACHABLE),
            Action::Register => break,
            other => panic!("{other:?}"),
        };
    }
    assert!(run.now >= asked + wait);
}

#[test]
fn without_credentials_a_wait_that_the_platform_asked_for_is_kept() {
    let mut run = Run::lost(true, Failure::Unreachable);
    assert_eq!(run.on(STALE), Action::Register);
    let wait = Duration::from_secs(77);
    let action = run.on(refused(Class::RetryAfter(wait), false));
    let delay = run.wait(action);
    assert!(delay >= wait && delay <= wait + ASK_AT_MOST, "{delay:?}");
    assert_eq!(run.on(STALE), Action::Register);
}

#[test]
fn a_refusal_does_not_keep_a_good_tunnel_down_either() {
    for class in [
        Class::Fatal(Reason::Configuration),
        Class::Fatal(Reason::Permission),
        Class::Reenroll,
    ] {
        let mut run = Run::lost(false, Failure::Goodbye);
        assert_eq!(run.on(USABLE), Action::Register);
        assert_eq!(run.on(refused(class, true)), Action::Connect, "{class:?}");
        let action = run.on(UNREACHABLE);
        run.wait(action);
        // And the platform is not asked again at once.
        assert_eq!(run.on(USABLE), Action::Connect, "{class:?}");
    }
}

#[test]
fn only_a_useful_tunnel_makes_waits_short_again() {
    let mut run = Run::up(true);
    let flap = |run: &mut Run| {
        let action = run.on(Event::Lost(Failure::Unreachable));
        let delay = run.wait(action);
        assert_eq!(run.on(USABLE), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        delay.as_millis()
    };
    let delays = [flap(&mut run), flap(&mut run), flap(&mut run)];
    assert_eq!(delays, [249, 499, 999]);
    // A heartbeat is enough of a use for a few tunnels that do not live, and not for any number of them.
    for expected in [249, 249, 249, 499, 999] {
        assert_eq!(run.on(Event::Proved), Action::Continue);
        assert_eq!(flap(&mut run), expected);
    }
    run.now += USEFUL_AFTER;
    assert_eq!(run.on(Event::Proved), Action::Continue);
    assert_eq!(flap(&mut run), 249);
    assert_eq!(flap(&mut run), 499);
    // A session is.
    assert_eq!(run.on(Event::Lived), Action::Continue);
    assert_eq!(flap(&mut run), 249);
}

#[test]
fn a_relay_that_drops_each_tunnel_after_a_heartbeat_is_dialled_less_and_less() {
    let mut run = Run::up(true);
    let begin = run.now;
    let mut tunnels = 0;
    while run.now < begin + LONG {
        run.now += Duration::from_secs(2);
        let action = run.on(Event::Lost(Failure::Unreachable));
        run.wait(action);
        assert_eq!(run.on(USABLE), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        run.on(Event::Proved);
        tunnels += 1;
    }
    assert!(tunnels < 130, "{tunnels} tunnels in an hour");
}

#[test]
fn a_relay_that_drops_each_tunnel_is_left_for_another_one_if_there_may_be_one() {
    for (pinned, expected) in [(false, Action::Register), (true, Action::Connect)] {
        let mut run = Run::up(pinned);
        let mut last = Action::Serve;
        for _ in 0..12 {
            run.now += Duration::from_secs(2);
            let action = run.on(Event::Lost(Failure::Unreachable));
            run.wait(action);
            last = run.on(USABLE);
            if last == Action::Register {
                break;
            }
            assert_eq!(run.on(Event::Connected), Action::Serve);
            run.on(Event::Proved);
        }
        assert_eq!(last, expected);
        assert!(run.link.flaps >= 3);
    }
}

#[test]
fn what_waits_is_woken_and_a_person_is_not_made_to_wait() {
    for (wanted, class, expected) in [
        (false, Class::Retry, Action::Register),
        // The platform said how long, or no.
        (false, Class::RetryAfter(LATER), Action::Wait(LATER)),
        (false, Class::Reenroll, Action::Wait(LATER)),
        (true, Class::RetryAfter(LATER), Action::Register),
        (true, Class::Reenroll, Action::Register),
    ] {
        let mut run = Run::lost(true, Failure::Unreachable);
        assert_eq!(run.on(STALE), Action::Register);
        run.random = 0;
        run.on(refused(class, false));
        let usable = false;
        assert_eq!(
            run.on(Event::Retry { usable, wanted }),
            expected,
            "{class:?}"
        );
    }
    let mut run = Run::up(true);
    run.on(Event::Lost(Failure::Unreachable));
    let nudged = Event::Retry {
        usable: true,
        wanted: false,
    };
    assert_eq!(run.on(nudged), Action::Connect);
}

#[test]
fn a_network_that_never_comes_to_rest_makes_nobody_be_asked_for_ever() {
    for (failure, usable) in [
        (Failure::TakenOver, true),
        (Failure::Goodbye, true),
        (Failure::Unreachable, false),
    ] {
        let mut run = Run::lost(true, failure);
        let begin = run.now;
        let mut attempts = 0;
        let mut action = run.on(Event::Elapsed { usable });
        while run.now < begin + LONG {
            action = match action {
                Action::Connect => {
                    attempts += 1;
                    run.on(Event::Connected);
                    run.on(Event::Lost(failure))
                }
                Action::Register => {
                    attempts += 1;
                    run.on(refused(Class::Retry, usable))
                }
                Action::Wait(left) => {
                    // The network changes every 250 ms.
                    let change = Duration::from_millis(250);
                    run.now += left.min(change);
                    run.on(if left <= change {
                        Event::Elapsed { usable }
                    } else {
                        let wanted = false;
                        Event::Retry { usable, wanted }
                    })
                }
                other => panic!("{other:?}"),
            };
        }
        // Without any change there are waits of 30 s in the end, after ten minutes with shorter ones.
        assert!(attempts < 800, "{failure:?}: {attempts} in an hour");
        // One change does end a wait.
        run.now += LONG;
        run.on(Event::Elapsed { usable: true });
        run.on(Event::Registered);
        run.on(Event::Connected);
        run.on(Event::Lost(failure));
        let nudged = Event::Retry {
            usable: true,
            wanted: false,
        };
        assert!(!matches!(run.on(nudged), Action::Wait(_)), "{failure:?}");
    }
}

#[test]
fn a_platform_that_never_gets_through_does_not_keep_the_tunnel_from_clients() {
    let mut run = Run::up(true);
    let mut beats = Vec::new();
    for _ in 0..6 {
        let mut count = 1;
        while run.on(Event::Unproved) != Action::Redial {
            count += 1;
        }
        beats.push(count);
        let action = run.on(Event::Lost(Failure::Goodbye));
        run.wait(action);
        run.on(USABLE);
        run.on(Event::Connected);
    }
    assert_eq!(beats, [4, 8, 16, 32, 32, 32]);
    run.on(Event::Proved);
    assert_eq!(run.on(Event::Unproved), Action::Check);
}

#[test]
fn doubts_are_followed_by_more_and_more_until_one_heartbeat_comes_through() {
    let mut run = Run::up(true);
    let mut actions = Vec::new();
    for _ in 0..24 {
        actions.push(run.on(Event::Unproved));
        assert_eq!(run.link.state(), State::Doubted);
        // That it lives proves nothing here.
        run.on(Event::Lived);
        assert_eq!(run.link.state(), State::Doubted);
    }
    let at = |wanted: Action| {
        let found = actions.iter().zip(1_u32..);
        found
            .filter(|(action, _)| **action == wanted)
            .map(|(_, n)| n)
            .collect::<Vec<_>>()
    };
    assert_eq!(at(Action::Renew), [DOUBTS_TO_RENEW]);
    // Twice as many from when it was announced, each time.
    assert_eq!(at(Action::Redial), [DOUBTS_TO_REDIAL, 10, 24]);
    assert_eq!(at(Action::Check).len(), 20);
    run.on(Event::Proved);
    assert_eq!(run.link.state(), State::Up);
    assert_eq!(run.on(Event::Unproved), Action::Check);
    assert_eq!(run.on(Event::Disturbed), Action::Check);
}

#[test]
fn settings_that_name_another_relay_lead_to_it_without_a_wait() {
    let mut run = Run::up(true);
    assert_eq!(run.on(Event::Moved), Action::Connect);
    assert_eq!(run.on(Event::Connected), Action::Serve);
    run.on(Event::Proved);
    run.link.set_pinned(false);
    let action = run.on(Event::Lost(Failure::Goodbye));
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
}

/// Every event there is, with what it can carry.
fn events() -> Vec<Event> {
    let failures = [
        Failure::Unreachable,
        Failure::Refused,
        Failure::TurnedAway,
        Failure::TakenOver,
        Failure::Goodbye,
        Failure::Fatal(Reason::Software),
    ];
    let mut events = vec![
        Event::Registered,
        Event::Connected,
        Event::Proved,
        Event::Lived,
        Event::Unproved,
        Event::Disturbed,
        Event::Moved,
    ];
    events.extend(failures.map(Event::ConnectionFailed));
    events.extend(failures.map(Event::Lost));
    for usable in [true, false] {
        events.push(Event::Elapsed { usable });
        events.extend([true, false].map(|wanted| Event::Retry { usable, wanted }));
        events.extend(
            [
                Class::Retry,
                Class::RetryAfter(LATER),
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
        Event::Proved => "Proved",
        Event::Lived => "Lived",
        Event::Unproved => "Unproved",
        Event::Disturbed => "Disturbed",
        Event::Lost(_) => "Lost",
        Event::Moved => "Moved",
        Event::Elapsed { .. } => "Elapsed",
        Event::Retry { .. } => "Retry",
    }
}

const STATES: [State; 6] = [
    State::Registering,
    State::Connecting,
    State::Up,
    State::Doubted,
    State::Waiting,
    State::Stopped,
];

/// Links in `state` with every history that makes a difference.
fn histories(state: State) -> Vec<Run> {
    let mut runs = Vec::new();
    for pinned in [true, false] {
        for ever_up in [true, false] {
            for (refusals, failed_connects, due) in [
                (0, 0, None),
                (1, 0, None),
                (0, 3, None),
                (0, 3, Some(LONG)),
                (1, 3, Some(LONG)),
            ] {
                let mut run = Run::new(pinned, ever_up);
                run.link.state = state;
                run.link.refusals = refusals;
                run.link.failed_connects = failed_connects;
                run.link.ask_due = due.map(|due| run.now + due);
                run.link.is_ask_due_kept = refusals > 0;
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
                let action = run.on(event);
                if action == Action::Continue && run.link.state() == state {
                    continue;
                }
                all.entry((state, run.link.state()))
                    .or_default()
                    .insert(name(event));
            }
        }
    }
    all
}

#[test]
fn an_event_that_does_not_fit_the_state_changes_nothing() {
    let fits = |state, event: Event| match event {
        Event::Registered | Event::RegistrationFailed { .. } => state == State::Registering,
        Event::Connected | Event::ConnectionFailed(_) => state == State::Connecting,
        Event::Proved
        | Event::Lived
        | Event::Unproved
        | Event::Disturbed
        | Event::Lost(_)
        | Event::Moved => matches!(state, State::Up | State::Doubted),
        Event::Elapsed { .. } | Event::Retry { .. } => state == State::Waiting,
    };
    let mut late = 0;
    for state in STATES {
        for event in events() {
            for mut run in histories(state) {
                let before = format!("{:?}", run.link);
                let action = run.on(event);
                if fits(state, event) {
                    continue;
                }
                assert_eq!(action, Action::Continue, "{state:?} {event:?}");
                assert_eq!(format!("{:?}", run.link), before, "{state:?} {event:?}");
                late += 1;
            }
        }
    }
    assert!(late > 1000, "{late}");
}

#[test]
fn every_action_is_that_of_its_state() {
    for state in STATES {
        for event in events() {
            for mut run in histories(state) {
                let action = run.on(event);
                let expected = match action {
                    Action::Register => State::Registering,
                    Action::Connect => State::Connecting,
                    Action::Serve => State::Up,
                    Action::Wait(_) => State::Waiting,
                    Action::Stop(_) => State::Stopped,
                    Action::Check | Action::Renew | Action::Redial => {
                        assert!(matches!(run.link.state(), State::Up | State::Doubted));
                        continue;
                    }
                    Action::Continue => continue,
                };
                assert_eq!(run.link.state(), expected, "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn the_diagram_in_architecture_md_is_that_of_the_code() {
    let mut lines = vec!["    [*] --> Registering".to_owned()];
    for ((from, to), events) in transitions() {
        let events: Vec<&str> = events.into_iter().collect();
        lines.push(format!("    {from:?} --> {to:?}: {}", events.join(", ")));
    }
    let diagram = format!("```mermaid\nstateDiagram-v2\n{}\n```", lines.join("\n"));
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md"));
    let document = document.expect("ARCHITECTURE.md");
    assert!(
        document.contains(&diagram),
        "ARCHITECTURE.md must have this diagram:\n{diagram}"
    );
}

/// A thousand gateways whose relay is away for `outage`, as virtual time would have it; gives when each came back, in milliseconds
/// after the relay listened again, and how often the platform was asked by then.
fn crowd(outage: Duration, failure: Failure, pinned: bool) -> (Vec<u128>, u32) {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        // xorshift64*: any spread will do.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let (mut back, mut asked) = (Vec::new(), 0);
    for _ in 0..1000 {
        let mut run = Run::up(pinned);
        let listens = run.now + outage;
        run.random = random();
        let mut action = run.on(Event::Lost(failure));
        loop {
            run.random = random();
            action = match action {
                Action::Wait(_) => {
                    run.wait(action);
                    run.on(USABLE)
                }
                Action::Register => {
                    asked += 1;
                    run.now += Duration::from_millis(20);
                    run.on(Event::Registered)
                }
                Action::Connect if run.now < listens => run.on(UNREACHABLE),
                Action::Connect => break,
                other => panic!("{other:?}"),
            };
        }
        back.push(run.now.duration_since(listens).as_millis());
    }
    (back, asked)
}

#[test]
fn a_thousand_gateways_do_not_return_to_a_relay_all_at_once() {
    for outage_ms in [0, 300, 1_000, 5_000, 20_000, 300_000, 2_000_000] {
        for failure in [Failure::Unreachable, Failure::Goodbye] {
            for pinned in [true, false] {
                let outage = Duration::from_millis(outage_ms);
                let (back, asked) = crowd(outage, failure, pinned);
                let last = back.iter().max().copied().expect("gateways");
                let young = outage < YOUNG;
                assert!(
                    !young || last <= 1_800,
                    "{outage:?}: the last one after {last} ms"
                );
                // Twenty equal parts of the time until all are back.
                let mut parts = [0_u32; 20];
                for ms in &back {
                    let part = ms * 20 / (last + 1);
                    parts[usize::try_from(part).expect("small")] += 1;
                }
                let peak = parts.iter().max().copied().expect("parts");
                let mean = 1000 / 20;
                assert!(
                    peak <= 3 * mean,
                    "{outage:?} {failure:?}: {peak} against {mean}: {parts:?}"
                );
                // A minute of outage costs the platform a few questions of each gateway.
                let minutes = u32::try_from(outage_ms / 60_000).expect("few") + 1;
                assert!(
                    asked <= 1000 * (3 + 3 * minutes),
                    "{outage:?}: asked {asked} times"
                );
            }
        }
    }
}
