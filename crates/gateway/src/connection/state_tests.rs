use std::time::Duration;

use tokio::time::Instant;

use super::{
    Connection, Failure, HEARTBEATS_TO_RECONNECT, HEARTBEATS_TO_RENEW, Health, History,
    MAX_DIAL_WAIT, MAX_REGISTER_WAIT, MAX_TURNED_AWAY_WAIT, MAX_WAIT, MIN_TAKEN_OVER_WAIT, Moment,
    REFUSALS_BELIEVED, REFUSED_RETRY_INTERVAL, ReconnectTrigger, SAME_ADDRESS, TunnelAction,
    TunnelEvent, USEFUL_AFTER, YOUNG_OUTAGE,
};
use crate::error::{Class, Reason};

#[path = "state_transition_tests.rs"]
mod transitions;

const LONG: Duration = Duration::from_secs(3600);

/// Everything that can happen, in whichever state.
#[derive(Debug, Clone, Copy)]
enum Event {
    Registered,
    RegistrationFailed {
        class: Class,
        usable: bool,
    },
    Connected,
    ConnectionFailed(Failure),
    Tunnel(TunnelEvent),
    Lost(Failure),
    Reselected,
    Elapsed {
        usable: bool,
    },
    Retry {
        trigger: ReconnectTrigger,
        usable: bool,
    },
}

/// What the new state, or the tunnel's state, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Register,
    Connect,
    Serve,
    Tunnel(TunnelAction),
    Wait(Duration),
    Stop,
}

/// A state without what it holds, as the diagram has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Registering,
    Connecting,
    Up,
    Unverified,
    Backoff,
    Stopped,
}

/// A connection and a clock.
struct Run {
    connection: Option<Connection<(), ()>>,
    now: Instant,
    random: u64,
}

/// What `event` makes of `connection`; `None` if the types do not have that event in that state.
fn step(
    connection: Connection<(), ()>,
    event: Event,
    at: Moment,
) -> Option<(Connection<(), ()>, Action)> {
    let next = match (connection, event) {
        (Connection::Registering(state), Event::Registered) => {
            Connection::Connecting(state.registered(at))
        }
        (Connection::Registering(state), Event::RegistrationFailed { class, usable }) => {
            state.failed((), class, usable, at)
        }
        (Connection::Connecting(state), Event::Connected) => {
            Connection::Up(state.connected((), at.now))
        }
        (Connection::Connecting(state), Event::ConnectionFailed(failure)) => {
            state.failed((), failure, at)
        }
        (Connection::Up(mut state), Event::Tunnel(event)) => {
            let action = Action::Tunnel(state.handle(event, at.now));
            return Some((Connection::Up(state), action));
        }
        (Connection::Up(state), Event::Lost(failure)) => state.lost((), failure, at),
        (Connection::Up(state), Event::Reselected) => Connection::Connecting(state.reselected().0),
        (Connection::Backoff(state), Event::Elapsed { usable }) => state.elapsed(usable, at.now),
        (Connection::Backoff(state), Event::Retry { trigger, usable }) => {
            state.retry(trigger, usable, at.now)
        }
        _ => return None,
    };
    let action = match &next {
        Connection::Registering(_) => Action::Register,
        Connection::Connecting(_) => Action::Connect,
        Connection::Up(_) => Action::Serve,
        Connection::Backoff(state) => Action::Wait(state.remaining(at.now)),
        Connection::Stopped(()) => Action::Stop,
    };
    Some((next, action))
}

impl Run {
    fn new(pinned: bool, was_up: bool) -> Self {
        Self {
            connection: Some(Connection::new(pinned, was_up)),
            now: Instant::now(),
            random: u64::MAX,
        }
    }

    fn state(&self) -> State {
        match self.connection.as_ref().expect("a state") {
            Connection::Registering(_) => State::Registering,
            Connection::Connecting(_) => State::Connecting,
            Connection::Up(state) if state.health == Health::Reachable => State::Up,
            Connection::Up(_) => State::Unverified,
            Connection::Backoff(_) => State::Backoff,
            Connection::Stopped(()) => State::Stopped,
        }
    }

    fn history(&mut self) -> &mut History {
        match self.connection.as_mut().expect("a state") {
            Connection::Registering(state) => &mut state.history,
            Connection::Connecting(state) => &mut state.history,
            Connection::Up(state) => &mut state.history,
            Connection::Backoff(state) => &mut state.history,
            Connection::Stopped(()) => panic!("stopped"),
        }
    }

    /// With a tunnel that has proved useful, long ago.
    fn up(pinned: bool) -> Self {
        let mut run = Self::new(pinned, false);
        assert_eq!(run.on(Event::Registered), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        assert_eq!(run.on(REACHED), CONTINUE);
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
        self.try_on(event)
            .unwrap_or_else(|| panic!("{event:?} cannot happen here"))
    }

    fn try_on(&mut self, event: Event) -> Option<Action> {
        let (now, random) = (self.now, self.random);
        let connection = self.connection.take().expect("a state");
        let (next, action) = step(connection, event, Moment { now, random })?;
        self.connection = Some(next);
        Some(action)
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
const REACHED: Event = Event::Tunnel(TunnelEvent::HeartbeatReached);
const NOT_REACHED: Event = Event::Tunnel(TunnelEvent::HeartbeatFailed);
const STABLE: Event = Event::Tunnel(TunnelEvent::Stable);
/// The network changed during a wait.
const NETWORK_CHANGED: Event = Event::Retry {
    trigger: ReconnectTrigger::SystemEvent,
    usable: true,
};
const CHECK_REQUESTED: Event = Event::Tunnel(TunnelEvent::CheckRequested);
const CONTINUE: Action = Action::Tunnel(TunnelAction::Continue);
const CHECK: Action = Action::Tunnel(TunnelAction::Check);
const RENEW: Action = Action::Tunnel(TunnelAction::Renew);
const RECONNECT: Action = Action::Tunnel(TunnelAction::Reconnect);
const UNREACHABLE: Event = Event::ConnectionFailed(Failure::Unreachable);

/// Just short of it: the largest random number is not quite one.
fn about(bound: Duration) -> std::ops::RangeInclusive<Duration> {
    bound.saturating_sub(Duration::from_millis(1))..=bound
}

#[test]
fn first_attempt_leads_up() {
    assert_eq!(Run::up(true).state(), State::Up);
}

#[test]
fn class_decides_at_the_first_start() {
    for (class, expected) in [
        (Class::Retry, None),
        (Class::RetryAfter(Duration::from_secs(7)), None),
        (Class::Reauthenticate, Some(Action::Register)),
        (Class::Reenroll, Some(Action::Stop)),
        (Class::Fatal(Reason::Configuration), Some(Action::Stop)),
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
fn second_refusal_at_first_start_is_final() {
    let mut run = Run::new(true, false);
    let event = refused(Class::Reauthenticate, false);
    assert_eq!(run.on(event), Action::Register);
    assert_eq!(run.on(event), Action::Stop);
    assert_eq!(run.state(), State::Stopped);
}

#[test]
fn refusals_after_success_are_retried_rarely() {
    let mut run = Run::lost(true, Failure::Unreachable);
    for n in 1..=REFUSALS_BELIEVED + 5 {
        assert_eq!(run.on(STALE), Action::Register, "refusal {n}");
        let action = run.on(refused(Class::Reenroll, false));
        let delay = run.wait(action);
        let least = if n < REFUSALS_BELIEVED {
            MAX_WAIT
        } else {
            REFUSED_RETRY_INTERVAL
        };
        assert!(
            delay >= least && delay <= least + MAX_WAIT,
            "refusal {n}: {delay:?}"
        );
        assert_eq!(run.history().is_refused(), n >= REFUSALS_BELIEVED);
    }
    assert_eq!(run.on(STALE), Action::Register);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    assert!(!run.history().is_refused());
}

#[test]
fn lost_tunnel_is_redialled_with_same_credentials() {
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
fn young_outage_is_dialled_often() {
    let mut run = Run::lost(true, Failure::Unreachable);
    let begin = run.now;
    // The wait after the loss was part of the outage.
    while run.now < begin + YOUNG_OUTAGE - MAX_DIAL_WAIT {
        match run.on(USABLE) {
            Action::Connect => {
                let action = run.on(UNREACHABLE);
                let delay = run.wait(action);
                assert!(delay <= MAX_DIAL_WAIT, "{delay:?}");
            }
            // Its address may have changed, which the platform is rarely asked about.
            Action::Register => {
                assert!(run.now >= begin + SAME_ADDRESS / 2);
                assert_eq!(run.on(refused(Class::Retry, true)), Action::Connect);
                let action = run.on(UNREACHABLE);
                run.wait(action);
            }
            other => panic!("{other:?}"),
        }
    }
    run.now += MAX_DIAL_WAIT;
    assert_eq!(run.on(USABLE), Action::Register);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let action = run.on(UNREACHABLE);
    assert!(about(MAX_WAIT).contains(&run.wait(action)));
}

#[test]
fn unreached_relays_address_is_asked_again() {
    let mut run = Run::new(true, false);
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let begin = run.now;
    let mut action = run.on(UNREACHABLE);
    while action != Action::Register {
        assert!(run.now < begin + SAME_ADDRESS + MAX_WAIT, "not asked");
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
    run.now = begin + YOUNG_OUTAGE;
    assert_eq!(run.on(Event::Registered), Action::Connect);
    let action = run.on(UNREACHABLE);
    assert!(about(MAX_WAIT).contains(&run.wait(action)));
}

#[test]
fn chosen_relay_is_replaced_after_one_dial() {
    let mut run = Run::lost(false, Failure::Unreachable);
    assert_eq!(run.on(USABLE), Action::Connect);
    let action = run.on(UNREACHABLE);
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
    // None of what the platform gives is any good: it is not asked as often as is dialled.
    let (begin, mut asked, mut dialled) = (run.now, 0, 0);
    let mut action = Action::Register;
    while run.now < begin + YOUNG_OUTAGE / 2 {
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
fn refusal_by_relay_leads_to_registration() {
    let mut run = Run::lost(true, Failure::Unreachable);
    assert_eq!(run.on(USABLE), Action::Connect);
    let action = run.on(Event::ConnectionFailed(Failure::Refused));
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
}

#[test]
fn disconnect_leads_to_another_relay_at_once() {
    for (pinned, expected) in [(false, Action::Register), (true, Action::Connect)] {
        let mut run = Run::up(pinned);
        let action = run.on(Event::Lost(Failure::Disconnected));
        assert!(run.wait(action) <= Duration::from_millis(250));
        assert_eq!(run.on(USABLE), expected);
    }
}

#[test]
fn turned_away_gateway_retries_every_few_seconds() {
    let mut run = Run::lost(true, Failure::Unreachable);
    let end = run.now + 2 * YOUNG_OUTAGE;
    let mut action = run.on(USABLE);
    while run.now < end {
        action = match action {
            Action::Connect => run.on(Event::ConnectionFailed(Failure::TurnedAway)),
            Action::Register => run.on(Event::Registered),
            Action::Wait(delay) => {
                assert!(delay <= MAX_TURNED_AWAY_WAIT, "{delay:?}");
                run.wait(action);
                run.on(USABLE)
            }
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn two_programs_with_one_identity_alternate_slowly() {
    let mut run = Run::up(true);
    run.random = 0;
    for _ in 0..5 {
        let action = run.on(Event::Lost(Failure::TakenOver));
        assert!(run.wait(action) >= MIN_TAKEN_OVER_WAIT);
        assert_eq!(run.on(USABLE), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        run.on(REACHED);
    }
}

#[test]
fn absent_platform_does_not_block_the_tunnel() {
    let mut run = Run::lost(false, Failure::Disconnected);
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
fn retry_after_is_kept_without_credentials() {
    let mut run = Run::lost(true, Failure::Unreachable);
    assert_eq!(run.on(STALE), Action::Register);
    let wait = Duration::from_secs(77);
    let action = run.on(refused(Class::RetryAfter(wait), false));
    let delay = run.wait(action);
    assert!(
        delay >= wait && delay <= wait + MAX_REGISTER_WAIT,
        "{delay:?}"
    );
    assert_eq!(run.on(STALE), Action::Register);
}

#[test]
fn refusal_does_not_block_the_tunnel() {
    for class in [
        Class::Fatal(Reason::Configuration),
        Class::Fatal(Reason::Permission),
        Class::Reenroll,
    ] {
        let mut run = Run::lost(false, Failure::Disconnected);
        assert_eq!(run.on(USABLE), Action::Register);
        assert_eq!(run.on(refused(class, true)), Action::Connect, "{class:?}");
        let action = run.on(UNREACHABLE);
        run.wait(action);
        // And the platform is not asked again at once.
        assert_eq!(run.on(USABLE), Action::Connect, "{class:?}");
    }
}

#[test]
fn only_useful_tunnel_resets_the_backoff() {
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
    // A heartbeat is enough of a use for a few tunnels that do not live, not for any number.
    for expected in [249, 249, 249, 499, 999] {
        assert_eq!(run.on(REACHED), CONTINUE);
        assert_eq!(flap(&mut run), expected);
    }
    run.now += USEFUL_AFTER;
    assert_eq!(run.on(REACHED), CONTINUE);
    assert_eq!(flap(&mut run), 249);
    assert_eq!(flap(&mut run), 499);
    // A session is.
    assert_eq!(run.on(STABLE), CONTINUE);
    assert_eq!(flap(&mut run), 249);
}

#[test]
fn flapping_relay_is_dialled_less_often() {
    let mut run = Run::up(true);
    let begin = run.now;
    let mut tunnels = 0;
    while run.now < begin + LONG {
        run.now += Duration::from_secs(2);
        let action = run.on(Event::Lost(Failure::Unreachable));
        run.wait(action);
        assert_eq!(run.on(USABLE), Action::Connect);
        assert_eq!(run.on(Event::Connected), Action::Serve);
        run.on(REACHED);
        tunnels += 1;
    }
    assert!(tunnels < 130, "{tunnels} tunnels in an hour");
}

#[test]
fn flapping_relay_is_left_for_another() {
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
            run.on(REACHED);
        }
        assert_eq!(last, expected);
        assert!(run.history().flaps >= 3);
    }
}

#[test]
fn triggers_end_a_wait() {
    use ReconnectTrigger::{SystemEvent, UserRequest};
    for (trigger, class, expected) in [
        (SystemEvent, Class::Retry, Action::Register),
        // The platform said how long, or no.
        (
            SystemEvent,
            Class::RetryAfter(MAX_WAIT),
            Action::Wait(MAX_WAIT),
        ),
        (SystemEvent, Class::Reenroll, Action::Wait(MAX_WAIT)),
        (UserRequest, Class::RetryAfter(MAX_WAIT), Action::Register),
        (UserRequest, Class::Reenroll, Action::Register),
    ] {
        let mut run = Run::lost(true, Failure::Unreachable);
        assert_eq!(run.on(STALE), Action::Register);
        run.random = 0;
        run.on(refused(class, false));
        let usable = false;
        let retry = Event::Retry { trigger, usable };
        assert_eq!(run.on(retry), expected, "{class:?}");
    }
    let mut run = Run::up(true);
    run.on(Event::Lost(Failure::Unreachable));
    assert_eq!(run.on(NETWORK_CHANGED), Action::Connect);
}

#[test]
fn restless_network_does_not_multiply_attempts() {
    for (failure, usable) in [
        (Failure::TakenOver, true),
        (Failure::Disconnected, true),
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
                        let trigger = ReconnectTrigger::SystemEvent;
                        Event::Retry { trigger, usable }
                    })
                }
                other => panic!("{other:?}"),
            };
        }
        // Without any change there are waits of 30 s in the end, after ten minutes of shorter ones.
        assert!(attempts < 800, "{failure:?}: {attempts} in an hour");
        // One change does end a wait.
        run.now += LONG;
        while action != Action::Serve {
            action = match action {
                Action::Connect => run.on(Event::Connected),
                Action::Register => run.on(Event::Registered),
                Action::Wait(_) => run.on(USABLE),
                other => panic!("{other:?}"),
            };
        }
        run.on(Event::Lost(failure));
        let action = run.on(NETWORK_CHANGED);
        assert!(!matches!(action, Action::Wait(_)), "{failure:?}");
    }
}

#[test]
fn failed_heartbeats_replace_the_tunnel_rarely() {
    let mut run = Run::up(true);
    let mut beats = Vec::new();
    for _ in 0..6 {
        let mut count = 1;
        while run.on(NOT_REACHED) != RECONNECT {
            count += 1;
        }
        beats.push(count);
        let action = run.on(Event::Lost(Failure::Disconnected));
        run.wait(action);
        run.on(USABLE);
        run.on(Event::Connected);
    }
    assert_eq!(beats, [4, 8, 16, 32, 32, 32]);
    run.on(REACHED);
    assert_eq!(run.on(NOT_REACHED), CHECK);
}

#[test]
fn failed_heartbeats_escalate_until_one_succeeds() {
    let mut run = Run::up(true);
    let mut actions = Vec::new();
    for _ in 0..24 {
        actions.push(run.on(NOT_REACHED));
        assert_eq!(run.state(), State::Unverified);
        // That it lives proves nothing here.
        run.on(STABLE);
        assert_eq!(run.state(), State::Unverified);
    }
    let at = |wanted: Action| {
        let found = actions.iter().zip(1_u32..);
        found
            .filter(|(action, _)| **action == wanted)
            .map(|(_, n)| n)
            .collect::<Vec<_>>()
    };
    assert_eq!(at(RENEW), [HEARTBEATS_TO_RENEW]);
    // Twice as many from when it was announced, each time.
    assert_eq!(at(RECONNECT), [HEARTBEATS_TO_RECONNECT, 10, 24]);
    assert_eq!(at(CHECK).len(), 20);
    run.on(REACHED);
    assert_eq!(run.state(), State::Up);
    assert_eq!(run.on(NOT_REACHED), CHECK);
    assert_eq!(run.on(CHECK_REQUESTED), CHECK);
}

#[test]
fn reselected_relay_is_dialled_without_wait() {
    let mut run = Run::up(true);
    assert_eq!(run.on(Event::Reselected), Action::Connect);
    assert_eq!(run.on(Event::Connected), Action::Serve);
    run.on(REACHED);
    run.history().set_pinned(false);
    let action = run.on(Event::Lost(Failure::Disconnected));
    run.wait(action);
    assert_eq!(run.on(USABLE), Action::Register);
}

/// A thousand gateways whose relay is away for `outage`, in virtual time; gives when each came
/// back, in milliseconds after the relay listened again, and how often the platform was asked.
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
fn thousand_gateways_return_spread_out() {
    for outage_ms in [0, 300, 1_000, 5_000, 20_000, 300_000, 2_000_000] {
        for failure in [Failure::Unreachable, Failure::Disconnected] {
            for pinned in [true, false] {
                let outage = Duration::from_millis(outage_ms);
                let (back, asked) = crowd(outage, failure, pinned);
                let last = back.iter().max().copied().expect("gateways");
                let young = outage < YOUNG_OUTAGE;
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
