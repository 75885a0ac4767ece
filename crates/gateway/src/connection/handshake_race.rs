//! One tunnel out of several attempts that overlap, for a relay that leaves some connections without an answer and not others: it hung
//! and was mended, or something between here and there lost what it knew of a connection.
//!
//! An attempt dials the relay, greets it (keys are exchanged, the relay is judged), then proves who the gateway is. While none has come
//! through, another is begun beside the older ones. Greetings run beside each other; dials do not, since each is a race of its
//! own (`net::dial`); and proofs do not, since a relay that believes two of one gateway lets one take the other's place. A
//! proof that has no answer is given up only for the sake of a younger attempt whose greeting was answered meanwhile: a
//! relay that is slow with everybody is waited for.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::policy::{HANDSHAKES, KEY_EXCHANGE, PARALLEL_ATTEMPT, STUCK, STUCK_TIMES};

/// The first tunnel that `dial`, then `greet`, then `prove` make; or the last error, `None` if there was not even that
/// within [`HANDSHAKES`]. Dropping what they return cuts the connection.
pub(crate) async fn race<C, G, S, E, FD, FG, FP>(
    dial: impl Fn() -> FD,
    greet: impl Fn(C) -> FG,
    prove: impl Fn(G) -> FP,
) -> Result<S, Option<E>>
where
    FD: Future<Output = Result<C, E>>,
    FG: Future<Output = Result<G, E>>,
    FP: Future<Output = Result<S, E>>,
{
    let end = Instant::now() + HANDSHAKES;
    let mut dialling = Some(Box::pin(dial()));
    let mut greetings = FuturesUnordered::new();
    // The youngest one that was greeted and has not had its turn, and how long its greeting took.
    let mut greeted: Option<(G, Duration)> = None;
    let mut proof = None;
    let mut proving_since = end;
    let mut next = end;
    let mut error = None;
    loop {
        if proof.is_none()
            && let Some((one, _)) = greeted.take()
        {
            proof = Some(Box::pin(prove(one)));
            proving_since = Instant::now();
        }
        let stuck = greeted.as_ref().filter(|_| proof.is_some());
        let stuck = stuck.map(|(_, took)| proving_since + STUCK.max(*took * STUCK_TIMES));
        if dialling.is_none() && greetings.is_empty() && proof.is_none() {
            // Whoever waits before the next attempt knows best for how long.
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep_until(end) => return Err(error),
            dialled = pending_or(&mut dialling) => {
                dialling = None;
                next = Instant::now() + PARALLEL_ATTEMPT;
                match dialled {
                    Ok(connection) => {
                        greetings.push(timed(greet(connection)));
                    }
                    Err(why) => error = Some(why),
                }
            }
            Some((result, took)) = greetings.next() => match result {
                Some(Ok(one)) => greeted = Some((one, took)),
                Some(Err(why)) => error = Some(why),
                // It had no answer, which is no reason to give.
                None => {}
            },
            proved = pending_or(&mut proof) => match proved {
                Ok(tunnel) => return Ok(tunnel),
                Err(why) => {
                    proof = None;
                    error = Some(why);
                }
            },
            () = tokio::time::sleep_until(stuck.unwrap_or(end)), if stuck.is_some() => proof = None,
            () = tokio::time::sleep_until(next), if dialling.is_none() => dialling = Some(Box::pin(dial())),
        }
    }
}

/// The outcome of a greeting, `None` if it has none within its limit; and how long it took.
async fn timed<F: Future>(greeting: F) -> (Option<F::Output>, Duration) {
    let begin = Instant::now();
    let outcome = tokio::time::timeout(KEY_EXCHANGE, greeting).await.ok();
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

    /// What a relay does with each connection of it, in milliseconds; the last one is repeated. `None` is no answer at all.
    #[derive(Clone, Copy)]
    struct Manner {
        dial: Result<u64, &'static str>,
        greet: Option<u64>,
        prove: Option<Result<u64, &'static str>>,
    }

    const GOOD: Manner = Manner {
        dial: Ok(50),
        greet: Some(50),
        prove: Some(Ok(50)),
    };
    const MUTE: Manner = Manner {
        greet: None,
        ..GOOD
    };
    const UNBELIEVING: Manner = Manner {
        prove: None,
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
        most_greetings: usize,
        most_proofs: usize,
    }

    async fn answer(after: Option<u64>) {
        match after {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    }

    /// A race against a relay that treats each connection by the manner of when it was dialled.
    async fn against(manner: impl Fn(Duration) -> Manner) -> Outcome {
        let begin = Instant::now();
        let begun = RefCell::new(0);
        let (greetings, most_greetings) = (Cell::new(0), Cell::new(0));
        let (proofs, most_proofs) = (Cell::new(0), Cell::new(0));
        let result = race(
            || async {
                let manner = manner(begin.elapsed());
                sleep(Duration::from_millis(manner.dial?)).await;
                *begun.borrow_mut() += 1;
                Ok((*begun.borrow(), manner))
            },
            |(number, manner)| {
                let alive = Alive::new(&greetings, &most_greetings);
                async move {
                    let _alive = alive;
                    answer(manner.greet).await;
                    Ok((number, manner))
                }
            },
            |(number, manner)| {
                let alive = Alive::new(&proofs, &most_proofs);
                async move {
                    let _alive = alive;
                    match manner.prove {
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
            greetings.get() + proofs.get(),
            0,
            "connections are cut in the end"
        );
        Outcome {
            result,
            took: begin.elapsed(),
            begun,
            most_greetings: most_greetings.get(),
            most_proofs: most_proofs.get(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_relay_sees_one_connection() {
        let outcome = against(|_| GOOD).await;
        assert_eq!((outcome.result, outcome.begun), (Ok(1), 1));
        assert!(outcome.took <= 4 * MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_mended_is_found_at_once_though_older_connections_stay_dead() {
        for bad in [MUTE, UNBELIEVING] {
            for cure in (100..17_000).step_by(333) {
                let cure = Duration::from_millis(cure);
                let outcome = against(|now| if now < cure { bad } else { GOOD }).await;
                assert!(outcome.result.is_ok());
                let late = outcome.took.saturating_sub(cure);
                assert!(
                    late < Duration::from_millis(2_600),
                    "{cure:?}: {late:?} later"
                );
                assert_eq!(outcome.most_proofs, 1);
                assert!(outcome.most_greetings <= 8);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_slow_with_everybody_is_waited_for() {
        // A satellite's round trips, and a relay that a thousand gateways ask at once.
        for (greet, prove) in [(2_400, 2_400), (4_000, 1_900), (7_000, 7_000)] {
            let slow = Manner {
                greet: Some(greet),
                prove: Some(Ok(prove)),
                ..GOOD
            };
            let outcome = against(|_| slow).await;
            assert_eq!(outcome.result, Ok(1), "{greet} {prove}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_never_answers_is_given_up_within_the_limit() {
        for bad in [MUTE, UNBELIEVING] {
            let outcome = against(|_| bad).await;
            assert_eq!((outcome.result, outcome.took), (Err(None), HANDSHAKES));
            assert!(outcome.most_greetings <= 8);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_at_once_unless_another_attempt_may_do_better() {
        let away = Manner {
            dial: Err("refused"),
            ..GOOD
        };
        let outcome = against(|_| away).await;
        assert_eq!(
            (outcome.result, outcome.took),
            (Err(Some("refused")), Duration::ZERO)
        );
        let unwelcome = Manner {
            prove: Some(Err("not you")),
            ..GOOD
        };
        let outcome = against(|_| unwelcome).await;
        assert_eq!((outcome.result, outcome.begun), (Err(Some("not you")), 1));
        // The first one has no answer yet when the second one is sent away.
        let slow = Manner {
            greet: Some(3_000),
            ..GOOD
        };
        let outcome = against(|now| if now.is_zero() { slow } else { unwelcome }).await;
        assert_eq!(outcome.result, Ok(1));
    }
}
