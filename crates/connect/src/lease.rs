//! Something that is valid for a while, is asked for when needed, and is shared by everyone who
//! needs it.
//!
//! Invariants: at most one request runs at a time, and the one who waited for it shares its
//! outcome, success or failure; nothing is handed out after its end; once less than a third of the
//! validity is left a new one is asked for, and should that fail, the old one serves until its end.
//! What is leased, and how it is asked for, is the caller's affair.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failed renewal the old value serves this long before another is tried.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// The current value, if any, and the one request for the next.
#[derive(Debug)]
pub(super) struct Leases<T, E> {
    state: Mutex<State<T, E>>,
    /// Requests that have ended. Read without the lock by those about to wait for it, so that they
    /// can tell a request they waited for from an older one.
    ended: AtomicU64,
}

#[derive(Debug)]
struct State<T, E> {
    current: Option<Held<T>>,
    /// The outcome of the last request, if it failed.
    failure: Option<Arc<E>>,
    generation: u64,
}

#[derive(Debug)]
struct Held<T> {
    value: Arc<T>,
    generation: u64,
    renew_at: Instant,
    ends_at: Instant,
}

/// A share of the current value.
#[derive(Debug)]
pub(super) struct Lease<T> {
    /// What was leased.
    pub(super) value: Arc<T>,
    /// True if it was asked for just now: then asking again would not give a better one.
    pub(super) fresh: bool,
    /// Which value it is, for [`Leases::discard`].
    pub(super) generation: u64,
}

impl<T, E> Leases<T, E> {
    /// Nothing is held and nothing asked for yet.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                current: None,
                failure: None,
                generation: 0,
            }),
            ended: AtomicU64::new(0),
        }
    }

    /// The current value, or a new one from `ask`, which also says for how long it is valid from
    /// now. Cancel-safe: an abandoned request is started again by the next who needs it.
    ///
    /// # Errors
    /// The error of `ask`, shared by all who waited for the same request.
    pub(super) async fn current<F, Fut>(&self, ask: F) -> Result<Lease<T>, Arc<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(T, Duration), E>>,
    {
        let ended_before = self.ended.load(Ordering::Acquire);
        // Held while asking: that is what makes it a single request.
        let mut state = self.state.lock().await;
        let waited = self.ended.load(Ordering::Acquire) != ended_before;
        let now = Instant::now();
        if let Some(held) = &state.current
            && now < held.renew_at
        {
            return Ok(held.lease(waited));
        }
        if waited && let Some(failure) = &state.failure {
            return Err(Arc::clone(failure));
        }
        let outcome = ask().await;
        let now = Instant::now();
        let result = match outcome {
            Ok((value, validity)) => {
                state.generation = state.generation.wrapping_add(1);
                state.failure = None;
                let held = Held {
                    value: Arc::new(value),
                    generation: state.generation,
                    renew_at: now + validity * 2 / 3,
                    ends_at: now + validity,
                };
                let lease = held.lease(true);
                state.current = Some(held);
                Ok(lease)
            }
            Err(error) => {
                let error = Arc::new(error);
                match &mut state.current {
                    Some(held) if now < held.ends_at => {
                        held.renew_at = (now + RENEWAL_PAUSE).min(held.ends_at);
                        Ok(held.lease(false))
                    }
                    current => {
                        *current = None;
                        state.failure = Some(Arc::clone(&error));
                        Err(error)
                    }
                }
            }
        };
        self.ended.fetch_add(1, Ordering::Release);
        result
    }

    /// Forgets the value of `generation`, if it is still the current one: it proved useless.
    pub(super) async fn discard(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state
            .current
            .as_ref()
            .is_some_and(|held| held.generation == generation)
        {
            state.current = None;
        }
    }
}

impl<T> Held<T> {
    fn lease(&self, fresh: bool) -> Lease<T> {
        Lease {
            value: Arc::clone(&self.value),
            fresh,
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leases, RENEWAL_PAUSE};
    use std::cell::Cell;
    use std::time::Duration;

    const VALIDITY: Duration = Duration::from_secs(300);

    /// A platform that counts, takes a second, and fails where told.
    #[derive(Default)]
    struct FakePlatform {
        asked: Cell<u32>,
        fails: Cell<bool>,
    }

    impl FakePlatform {
        async fn ask(&self) -> Result<(u32, Duration), &'static str> {
            self.asked.set(self.asked.get() + 1);
            let number = self.asked.get();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.fails.get() {
                Err("down")
            } else {
                Ok((number, VALIDITY))
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_needs_share_one_request() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        let all = (0..100).map(|_| leases.current(|| platform.ask()));
        for lease in futures_util::future::join_all(all).await {
            assert_eq!(*lease.expect("issued").value, 1);
        }
        assert_eq!(platform.asked.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_needs_share_one_failure() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        platform.fails.set(true);
        let all = (0..100).map(|_| leases.current(|| platform.ask()));
        for lease in futures_util::future::join_all(all).await {
            assert_eq!(*lease.expect_err("refused"), "down");
        }
        assert_eq!(platform.asked.get(), 1);
        platform.fails.set(false);
        let lease = leases.current(|| platform.ask()).await.expect("issued");
        assert_eq!(*lease.value, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn value_is_renewed_in_its_last_third() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        let first = leases.current(|| platform.ask()).await.expect("issued");
        assert!(first.fresh);
        tokio::time::advance(VALIDITY * 2 / 3 - Duration::from_millis(1)).await;
        let again = leases.current(|| platform.ask()).await.expect("held");
        assert_eq!((*again.value, again.fresh), (1, false));
        tokio::time::advance(Duration::from_millis(1)).await;
        let second = leases.current(|| platform.ask()).await.expect("renewed");
        assert_eq!((*second.value, second.fresh), (2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_renewal_keeps_the_old_value() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        leases.current(|| platform.ask()).await.expect("issued");
        platform.fails.set(true);
        tokio::time::advance(VALIDITY * 2 / 3).await;
        for _ in 0..3 {
            let lease = leases
                .current(|| platform.ask())
                .await
                .expect("the old one");
            assert_eq!((*lease.value, lease.fresh), (1, false));
        }
        assert_eq!(platform.asked.get(), 2, "one renewal, then a pause");
        tokio::time::advance(RENEWAL_PAUSE).await;
        leases
            .current(|| platform.ask())
            .await
            .expect("the old one");
        assert_eq!(platform.asked.get(), 3);
        tokio::time::advance(VALIDITY / 3).await;
        leases
            .current(|| platform.ask())
            .await
            .expect_err("expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_discarded_value_is_replaced_once() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        let first = leases.current(|| platform.ask()).await.expect("issued");
        leases.discard(first.generation).await;
        let second = leases.current(|| platform.ask()).await.expect("issued");
        assert_eq!(*second.value, 2);
        leases.discard(first.generation).await;
        let still = leases.current(|| platform.ask()).await.expect("held");
        assert_eq!(*still.value, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_request_does_not_block_the_next() {
        let (leases, platform) = (Leases::new(), FakePlatform::default());
        let half = Duration::from_millis(500);
        tokio::time::timeout(half, leases.current(|| platform.ask()))
            .await
            .expect_err("given up");
        let lease = leases.current(|| platform.ask()).await.expect("issued");
        assert_eq!(*lease.value, 2);
    }
}
