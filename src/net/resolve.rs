//! Names to addresses, asked anew each time. The system's resolver repeats a question that got lost only after
//! seconds, so when it is slow the question is asked again beside the first one, and the first addresses win: a
//! network that came back is used at once.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long the resolver may be silent before it is asked again. Its own rhythm is five seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(1500);
/// Lookups of one name at once.
const AT_ONCE: usize = 3;
/// Lookups of all names that may run beside a first one. Each blocks a thread of the runtime's pool until the
/// resolver gives up, whether or not anybody still waits for it; the pool has 512.
const BESIDE: usize = 32;

static SPARE: Semaphore = Semaphore::const_new(BESIDE);

/// The addresses of `host` (a name or an address), each with `port`, in the resolver's order.
///
/// Waits for as long as the resolver does: the caller sets the deadline.
///
/// # Errors
/// What the resolver said, once no lookup is left that could still succeed.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host: Arc<str> = Arc::from(host);
    hedged(&SPARE, |place| {
        let host = Arc::clone(&host);
        async move {
            let ask = move || {
                let _until_the_thread_is_free = place;
                (&*host, port).to_socket_addrs().map(Iterator::collect)
            };
            tokio::task::spawn_blocking(ask)
                .await
                .map_err(io::Error::other)?
        }
    })
    .await
}

/// Asks with `ask`, and again beside it when there is no answer for a while. Every question but the first needs a place
/// in `spare`, which is its own for as long as it keeps it.
async fn hedged<F>(
    spare: &'static Semaphore,
    mut ask: impl FnMut(Option<SemaphorePermit<'static>>) -> F,
) -> io::Result<Vec<SocketAddr>>
where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let mut asked = FuturesUnordered::new();
    asked.push(ask(None));
    let mut again = Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            biased;
            Some(answer) = asked.next() => match answer {
                Ok(addresses) => return Ok(addresses),
                Err(error) if asked.is_empty() => return Err(error),
                // It may have asked while there was no network; a younger question may still be answered.
                Err(_) => {}
            },
            () = tokio::time::sleep_until(again), if asked.len() < AT_ONCE => {
                again = Instant::now() + PATIENCE;
                if let Ok(place) = spare.try_acquire() {
                    asked.push(ask(Some(place)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, PATIENCE, hedged, lookup};
    use std::cell::Cell;
    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::sync::Semaphore;
    use tokio::time::{Instant, sleep};

    static PLENTY: Semaphore = Semaphore::const_new(100);
    static NONE: Semaphore = Semaphore::const_new(0);

    fn found() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, 1], 7))]
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let addresses = lookup("2001:db8::1", 7).await.expect("an address");
        assert_eq!(addresses, ["[2001:db8::1]:7".parse().expect("an address")]);
    }

    #[tokio::test]
    async fn the_systems_resolver_is_asked() {
        let addresses = lookup("localhost", 7).await.expect("known everywhere");
        assert!(!addresses.is_empty());
        assert!(
            addresses
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 7)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_question_is_repeated_before_the_resolver_does() {
        let questions = Cell::new(0);
        let begin = Instant::now();
        let answer = hedged(&PLENTY, |_| {
            questions.set(questions.get() + 1);
            let lost = questions.get() == 1;
            async move {
                sleep(Duration::from_millis(if lost { 5000 } else { 20 })).await;
                Ok(found())
            }
        });
        assert_eq!(answer.await.expect("an answer"), found());
        assert_eq!(questions.get(), 2);
        assert_eq!(begin.elapsed(), PATIENCE + Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_does_not_win_over_a_question_that_is_still_open() {
        let questions = Cell::new(0);
        let answer = hedged(&PLENTY, |_| {
            questions.set(questions.get() + 1);
            let first = questions.get() == 1;
            async move {
                sleep(Duration::from_secs(2)).await;
                if first {
                    return Err(io::Error::other("no network when I was asked"));
                }
                Ok(found())
            }
        });
        assert_eq!(answer.await.expect("an answer"), found());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_at_once_when_nothing_else_is_open() {
        let begin = Instant::now();
        let answer = hedged(&PLENTY, |_| async { Err(io::Error::other("unknown")) });
        assert_eq!(answer.await.expect_err("a failure").to_string(), "unknown");
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_three_questions_are_open() {
        let (open, most, all) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let asking = hedged(&PLENTY, |_| {
            all.set(all.get() + 1);
            open.set(open.get() + 1);
            most.set(most.get().max(open.get()));
            let open = &open;
            let wait = Duration::from_millis(10_000 + 100 * all.get());
            async move {
                sleep(wait).await;
                open.set(open.get() - 1);
                Err(io::Error::other("timed out"))
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), asking).await;
        assert_eq!(most.get(), AT_ONCE);
        assert!(all.get() > 6, "it goes on asking: {}", all.get());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_spare_thread_only_the_first_question_is_asked() {
        let questions = Cell::new(0);
        let answer = hedged(&NONE, |_| {
            questions.set(questions.get() + 1);
            async {
                sleep(Duration::from_secs(5)).await;
                Ok(found())
            }
        });
        assert_eq!(answer.await.expect("an answer"), found());
        assert_eq!(questions.get(), 1);
    }
}
