//! Names to addresses, asked anew each time. The system's resolver repeats a question that got lost only after
//! seconds, so when it is slow the question is asked again beside the first one, and the first addresses win: a
//! network that came back is used at once.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long the resolver may be silent before it is asked again. Its own rhythm is five seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(1500);
/// Lookups of one name at once.
const AT_ONCE: usize = 3;
/// Lookups at once. Each blocks a thread of the runtime's pool until the resolver gives up, which may be after a minute or never,
/// whether or not anybody still waits for it. The pool has 512, and others need some of them.
#[derive(Debug)]
struct Places {
    /// For first questions.
    first: Semaphore,
    /// For those beside a first one.
    beside: Semaphore,
}

impl Places {
    const fn new(first: usize, beside: usize) -> Self {
        Self {
            first: Semaphore::const_new(first),
            beside: Semaphore::const_new(beside),
        }
    }
}

static OURS: Places = Places::new(128, 32);
static TARGETS: Places = Places::new(192, 32);

/// Of the places of first questions for targets those that one name may have: a name that nobody answers for must not keep sessions
/// from all the others.
const EACH: usize = 24;

/// Names of targets that are asked for now, and what is left of their places.
static NAMES: Mutex<BTreeMap<String, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());

/// The places of one name. They are forgotten with the last one who needs them.
fn places_of(name: &str) -> Arc<Semaphore> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(places) = names.get(name).and_then(Weak::upgrade) {
        return places;
    }
    names.retain(|_, places| places.strong_count() > 0);
    let places = Arc::new(Semaphore::new(EACH));
    names.insert(name.to_owned(), Arc::downgrade(&places));
    places
}

/// Who needs a connection. However many sessions wait for targets whose names or machines do not answer, this program still
/// finds its platform and its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This program itself.
    Ours,
    /// A session, which somebody else began.
    Target,
}

fn places(whose: Whose) -> &'static Places {
    match whose {
        Whose::Ours => &OURS,
        Whose::Target => &TARGETS,
    }
}

/// The addresses of `host` (a name or an address), each with `port`, in the resolver's order.
///
/// Waits for as long as the resolver does: the caller sets the deadline.
///
/// # Errors
/// What the resolver said, once no lookup is left that could still succeed.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    lookup_for(Whose::Ours, host, port).await
}

/// The same, among the lookups of others or our own.
pub(super) async fn lookup_for(whose: Whose, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut place_of_name = match whose {
        Whose::Ours => None,
        Whose::Target => {
            let place = places_of(host).acquire_owned().await;
            Some(place.map_err(io::Error::other)?)
        }
    };
    let host: Arc<str> = Arc::from(host);
    hedged(places(whose), |place| {
        let host = Arc::clone(&host);
        let place = (place, place_of_name.take());
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

/// Asks with `ask`, and again beside it when there is no answer for a while. Every question needs one of `places`, which is its
/// own for as long as it keeps it; the first one is waited for.
async fn hedged<F>(
    places: &'static Places,
    mut ask: impl FnMut(SemaphorePermit<'static>) -> F,
) -> io::Result<Vec<SocketAddr>>
where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let mut asked = FuturesUnordered::new();
    let first = places.first.acquire().await.map_err(io::Error::other)?;
    asked.push(ask(first));
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
                if let Ok(place) = places.beside.try_acquire() {
                    asked.push(ask(place));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AT_ONCE, EACH, PATIENCE, Places, Whose, hedged, lookup, lookup_for, places, places_of,
    };
    use std::cell::Cell;
    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    static PLENTY: Places = Places::new(100, 100);
    static NO_SPARE: Places = Places::new(100, 0);
    static ONE: Places = Places::new(1, 0);

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
        let answer = hedged(&NO_SPARE, |_| {
            questions.set(questions.get() + 1);
            async {
                sleep(Duration::from_secs(5)).await;
                Ok(found())
            }
        });
        assert_eq!(answer.await.expect("an answer"), found());
        assert_eq!(questions.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_waits_for_keeps_its_place_until_the_resolver_is_done() {
        let threads = Cell::new(Vec::new());
        let limit = Duration::from_secs(10);
        let given_up = hedged(&ONE, |place| {
            threads.set(vec![place]);
            std::future::pending()
        });
        assert!(tokio::time::timeout(limit, given_up).await.is_err());
        let questions = Cell::new(0);
        let next = hedged(&ONE, |_| {
            questions.set(questions.get() + 1);
            async { Ok(found()) }
        });
        tokio::pin!(next);
        assert!(tokio::time::timeout(limit, &mut next).await.is_err());
        assert_eq!(questions.get(), 0, "no thread is left");
        threads.take().clear();
        assert_eq!(next.await.expect("an answer"), found());
    }

    #[tokio::test]
    async fn a_name_that_nobody_answers_for_leaves_other_names_their_places() {
        // To the resolver the same name, so that each would be answered.
        let (dead, other) = ("LOCALHOST", "localhost");
        let mut hanging = Vec::new();
        while let Ok(place) = places_of(dead).try_acquire_owned() {
            hanging.push(place);
        }
        assert_eq!(hanging.len(), EACH);
        let one_more = lookup_for(Whose::Target, dead, 7);
        tokio::pin!(one_more);
        let others = async {
            for _ in 0..100 {
                let found = lookup_for(Whose::Target, other, 7).await;
                found.expect("known everywhere");
            }
        };
        tokio::select! {
            biased;
            _ = &mut one_more => panic!("its place was taken"),
            () = others => {}
        }
        hanging.clear();
        one_more.await.expect("known everywhere");
        // Its thread may still hold its place for a moment.
        while places_of(dead).available_permits() < EACH {
            tokio::task::yield_now().await;
        }
        let _another = places_of("another.test");
        let names = super::NAMES.lock().expect("no panic");
        assert!(!names.contains_key(dead), "forgotten");
    }

    #[test]
    fn sessions_that_wait_for_the_resolver_leave_us_our_places_and_others_some_threads() {
        let (ours, targets) = (places(Whose::Ours), places(Whose::Target));
        assert!(!std::ptr::eq(ours, targets));
        // Tests beside this one may hold some.
        let most = [ours, targets]
            .map(|places| places.first.available_permits() + places.beside.available_permits());
        assert!(most.iter().sum::<usize>() <= 400, "of 512");
    }
}
