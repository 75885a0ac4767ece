//! One tunnel out of several attempts that overlap, for a relay that leaves some connections
//! without an answer and not others: it hung and was repaired, or something on the way lost its
//! state of a connection.
//!
//! An attempt dials the relay, exchanges keys with it (which judges the relay), then authenticates.
//! While none has succeeded, another is begun beside the older ones. Key exchanges run beside each
//! other. Dials do not, since each is a race of its own (`net::dial`). Authentications do not,
//! since a relay that accepts two of one gateway lets one take the other's place. An authentication
//! that has no answer is given up only for a younger attempt whose key exchange was answered
//! meanwhile: a relay that is slow with every gateway is waited for.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::policy::{HANDSHAKES, KEY_EXCHANGE, PARALLEL_ATTEMPT, STUCK, STUCK_TIMES};

/// The first tunnel that `dial`, then `exchange_keys`, then `authenticate` make; or the last error,
/// `None` if there was not even that within [`HANDSHAKES`]. Dropping what they return cuts the
/// connection.
pub(crate) async fn race<C, G, S, E, FD, FG, FP>(
    dial: impl Fn() -> FD,
    exchange_keys: impl Fn(C) -> FG,
    authenticate: impl Fn(G) -> FP,
) -> Result<S, Option<E>>
where
    FD: Future<Output = Result<C, E>>,
    FG: Future<Output = Result<G, E>>,
    FP: Future<Output = Result<S, E>>,
{
    let end = Instant::now() + HANDSHAKES;
    let mut dialling = Some(Box::pin(dial()));
    let mut exchanges = FuturesUnordered::new();
    // The youngest one that has its keys and is not authenticated, and how long its exchange took.
    let mut exchanged: Option<(G, Duration)> = None;
    let mut authentication = None;
    let mut authenticating_since = end;
    let mut next = end;
    let mut error = None;
    loop {
        if authentication.is_none()
            && let Some((one, _)) = exchanged.take()
        {
            authentication = Some(Box::pin(authenticate(one)));
            authenticating_since = Instant::now();
        }
        let stuck = exchanged.as_ref().filter(|_| authentication.is_some());
        let stuck = stuck.map(|(_, took)| authenticating_since + STUCK.max(*took * STUCK_TIMES));
        if dialling.is_none() && exchanges.is_empty() && authentication.is_none() {
            // The state machine decides how long to wait before the next attempt.
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep_until(end) => return Err(error),
            dialled = pending_or(&mut dialling) => {
                dialling = None;
                next = Instant::now() + PARALLEL_ATTEMPT;
                match dialled {
                    Ok(connection) => {
                        exchanges.push(timed(exchange_keys(connection)));
                    }
                    Err(why) => error = Some(why),
                }
            }
            Some((result, took)) = exchanges.next() => match result {
                Some(Ok(one)) => exchanged = Some((one, took)),
                Some(Err(why)) => error = Some(why),
                // It had no answer, which is no reason to give.
                None => {}
            },
            authenticated = pending_or(&mut authentication) => match authenticated {
                Ok(tunnel) => return Ok(tunnel),
                Err(why) => {
                    authentication = None;
                    error = Some(why);
                }
            },
            () = tokio::time::sleep_until(stuck.unwrap_or(end)), if stuck.is_some() => authentication = None,
            () = tokio::time::sleep_until(next), if dialling.is_none() => dialling = Some(Box::pin(dial())),
        }
    }
}

/// The outcome of a key exchange, `None` if it has none within its limit; and how long it took.
async fn timed<F: Future>(exchange: F) -> (Option<F::Output>, Duration) {
    let begin = Instant::now();
    let outcome = tokio::time::timeout(KEY_EXCHANGE, exchange).await.ok();
    (outcome, begin.elapsed())
}

/// The output of what there is; never, if there is nothing.
async fn pending_or<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{HANDSHAKES, race};

    const MOMENT: Duration = Duration::from_millis(50);

    /// What a relay does with each connection of it, in milliseconds; the last one is repeated.
    /// `None` is no answer at all.
    #[derive(Clone, Copy)]
    struct Behaviour {
        dial: Result<u64, &'static str>,
        exchange_keys: Option<u64>,
        authenticate: Option<Result<u64, &'static str>>,
    }

    const GOOD: Behaviour = Behaviour {
        dial: Ok(50),
        exchange_keys: Some(50),
        authenticate: Some(Ok(50)),
    };
    const SILENT: Behaviour = Behaviour {
        exchange_keys: None,
        ..GOOD
    };
    const STUCK_IN_AUTHENTICATION: Behaviour = Behaviour {
        authenticate: None,
        ..GOOD
    };

    /// Counts those that are alive.
    struct Alive<'a>(&'a Cell<usize>);

    impl<'a> Alive<'a> {
        fn new(count: &'a Cell<usize>, most: &Cell<usize>) -> Self {
            count.set(count.get() + 1);
            most.set(most.get().max(count.get()));
            Self(count)
        }
    }

    impl Drop for Alive<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    struct Outcome {
        result: Result<usize, Option<&'static str>>,
        took: Duration,
        begun: usize,
        most_exchanges: usize,
        most_authentications: usize,
    }

    async fn answer(after: Option<u64>) {
        match after {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    }

    /// A race against a relay that treats each connection by the behaviour of when it was dialled.
    async fn against(behaviour: impl Fn(Duration) -> Behaviour) -> Outcome {
        let begin = Instant::now();
        let begun = RefCell::new(0);
        let (exchanges, most_exchanges) = (Cell::new(0), Cell::new(0));
        let (authentications, most_authentications) = (Cell::new(0), Cell::new(0));
        let result = race(
            || async {
                let behaviour = behaviour(begin.elapsed());
                sleep(Duration::from_millis(behaviour.dial?)).await;
                *begun.borrow_mut() += 1;
                Ok((*begun.borrow(), behaviour))
            },
            |(number, behaviour)| {
                let alive = Alive::new(&exchanges, &most_exchanges);
                async move {
                    let _alive = alive;
                    answer(behaviour.exchange_keys).await;
                    Ok((number, behaviour))
                }
            },
            |(number, behaviour)| {
                let alive = Alive::new(&authentications, &most_authentications);
                async move {
                    let _alive = alive;
                    match behaviour.authenticate {
                        Some(Err(why)) => Err(why),
                        Some(Ok(ms)) => {
                            answer(Some(ms)).await;
                            Ok(number)
                        }
                        None => std::future::pending().await,
                    }
                }
            },
        )
        .await;
        let begun = *begun.borrow();
        assert_eq!(
            exchanges.get() + authentications.get(),
            0,
            "connections are cut in the end"
        );
        Outcome {
            result,
            took: begin.elapsed(),
            begun,
            most_exchanges: most_exchanges.get(),
            most_authentications: most_authentications.get(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn good_relay_sees_one_connection() {
        let outcome = against(|_| GOOD).await;
        assert_eq!((outcome.result, outcome.begun), (Ok(1), 1));
        assert!(outcome.took <= 4 * MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn repaired_relay_is_found_despite_dead_connections() {
        for bad in [SILENT, STUCK_IN_AUTHENTICATION] {
            for cure in (100..17_000).step_by(333) {
                let cure = Duration::from_millis(cure);
                let outcome = against(|now| if now < cure { bad } else { GOOD }).await;
                assert!(outcome.result.is_ok());
                let late = outcome.took.saturating_sub(cure);
                assert!(
                    late < Duration::from_millis(2_600),
                    "{cure:?}: {late:?} later"
                );
                assert_eq!(outcome.most_authentications, 1);
                assert!(outcome.most_exchanges <= 8);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_relay_is_waited_for() {
        // A satellite's round trips, and a relay that a thousand gateways ask at once.
        for (exchange_keys, authenticate) in [(2_400, 2_400), (4_000, 1_900), (7_000, 7_000)] {
            let slow = Behaviour {
                exchange_keys: Some(exchange_keys),
                authenticate: Some(Ok(authenticate)),
                ..GOOD
            };
            let outcome = against(|_| slow).await;
            assert_eq!(outcome.result, Ok(1), "{exchange_keys} {authenticate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_relay_is_given_up_in_time() {
        for bad in [SILENT, STUCK_IN_AUTHENTICATION] {
            let outcome = against(|_| bad).await;
            assert_eq!((outcome.result, outcome.took), (Err(None), HANDSHAKES));
            assert!(outcome.most_exchanges <= 8);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn error_waits_for_running_attempts_only() {
        let away = Behaviour {
            dial: Err("refused"),
            ..GOOD
        };
        let outcome = against(|_| away).await;
        assert_eq!(
            (outcome.result, outcome.took),
            (Err(Some("refused")), Duration::ZERO)
        );
        let unwelcome = Behaviour {
            authenticate: Some(Err("not you")),
            ..GOOD
        };
        let outcome = against(|_| unwelcome).await;
        assert_eq!((outcome.result, outcome.begun), (Err(Some("not you")), 1));
        // The first one has no answer yet when the second one is sent away.
        let slow = Behaviour {
            exchange_keys: Some(3_000),
            ..GOOD
        };
        let outcome = against(|now| if now.is_zero() { slow } else { unwelcome }).await;
        assert_eq!(outcome.result, Ok(1));
    }
}
