//! Memory for the buffers of a whole server: bounded, and shared by those whose connections it
//! serves.
//!
//! A [`Lease`] counts what one session holds or has promised to hold beyond the least that each of
//! its connections needs to go on, slowly. All leases of an owner belong to its [`Account`], and
//! all accounts to one [`Pool`]. An owner may have seven times as much as is free: alone, seven
//! eighths of the pool, so that some is left for the next one. The least is not counted, or many
//! connections of one owner would use up what is left for the others. So what a server holds is
//! below the pool's limit and the least of each connection.
//!
//! No lock is held while counting: sessions do it for each packet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::handshakes::TIMES_WHAT_IS_FREE;

/// All that a server's buffers may have.
#[derive(Debug)]
pub struct Pool {
    limit: usize,
    used: AtomicUsize,
    /// Of owners that have a session; others are removed when their account is dropped.
    accounts: Mutex<HashMap<String, Weak<Account>>>,
}

impl Pool {
    /// A pool of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            accounts: Mutex::default(),
        })
    }

    /// The account of `owner`: one for all of its sessions.
    #[must_use]
    pub fn account(self: &Arc<Self>, owner: &str) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(owner).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            pool: Arc::clone(self),
            owner: owner.to_owned(),
            used: AtomicUsize::new(0),
            was_short: AtomicBool::new(false),
        });
        accounts.insert(owner.to_owned(), Arc::downgrade(&account));
        account
    }

    /// Bytes that are held or promised now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Owners that did not get all that they wanted since this was last asked, each with what it
    /// has.
    #[must_use]
    pub fn take_short(&self) -> Vec<(String, usize)> {
        let accounts: Vec<Arc<Account>> = {
            let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.values().filter_map(Weak::upgrade).collect()
        };
        // Dropped without the lock, which the drop of an account takes.
        let short = |account: &&Arc<Account>| account.was_short.swap(false, Ordering::Relaxed);
        let short = accounts.iter().filter(short);
        short
            .map(|account| (account.owner.clone(), account.used()))
            .collect()
    }
}

/// What one owner has of a pool.
#[derive(Debug)]
pub struct Account {
    pool: Arc<Pool>,
    owner: String,
    used: AtomicUsize,
    /// It wanted more than its share.
    was_short: AtomicBool,
}

impl Account {
    /// Bytes that its leases have.
    #[must_use]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// As much of `wanted` as the share allows.
    fn take(&self, wanted: usize) -> usize {
        let pool = &self.pool.used;
        let mut total = pool.load(Ordering::Relaxed);
        loop {
            let free = self.pool.limit.saturating_sub(total);
            // The most for which own + most ≤ times × (free - most) holds.
            let most = free
                .saturating_mul(TIMES_WHAT_IS_FREE)
                .saturating_sub(self.used())
                / TIMES_WHAT_IS_FREE.saturating_add(1);
            let taken = wanted.min(most);
            if taken < wanted {
                self.was_short.store(true, Ordering::Relaxed);
            }
            if taken == 0 {
                return 0;
            }
            let after = total.saturating_add(taken);
            match pool.compare_exchange_weak(total, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.used.fetch_add(taken, Ordering::Relaxed);
                    return taken;
                }
                Err(now) => total = now,
            }
        }
    }

    /// What was taken already, whatever the share.
    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.pool.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let accounts = &self.pool.accounts;
        let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Not that of a session that came meanwhile.
        let is_gone = |account: &Weak<Self>| account.strong_count() == 0;
        if accounts.get(&self.owner).is_some_and(is_gone) {
            accounts.remove(&self.owner);
        }
    }
}

/// What one session has of its owner's account; given back when it is dropped. Without an account
/// it only counts.
#[derive(Debug, Default)]
pub struct Lease {
    account: Option<Arc<Account>>,
    bytes: usize,
}

impl Lease {
    /// From now on, and with what it has already, it belongs to `account`. The first one stays.
    pub fn charge_to(&mut self, account: Arc<Account>) {
        if self.account.is_none() {
            account.add(self.bytes);
            self.account = Some(account);
        }
    }

    /// As much of `wanted` as there is.
    pub fn take(&mut self, wanted: usize) -> usize {
        let taken = match &self.account {
            Some(account) => account.take(wanted),
            None => wanted,
        };
        self.bytes = self.bytes.saturating_add(taken);
        taken
    }

    /// Gives back `bytes` that were taken.
    pub fn give(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(account) = &self.account {
            account.give(bytes);
        }
    }

    /// What it has, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lease, Pool};
    use std::sync::Arc;

    fn lease(pool: &Arc<Pool>, owner: &str) -> Lease {
        let mut lease = Lease::default();
        lease.charge_to(pool.account(owner));
        lease
    }

    #[test]
    fn one_owner_leaves_some_for_the_next() {
        let pool = Pool::new(800);
        let (mut first, mut second) = (lease(&pool, "a"), lease(&pool, "a"));
        assert_eq!(first.take(500), 500);
        assert_eq!(second.take(500), 200, "seven eighths for both together");
        assert_eq!(second.take(1), 0);
        let mut other = lease(&pool, "b");
        assert_eq!(other.take(500), 87, "the same share of what was left");
        assert_eq!(pool.take_short().len(), 2);
        assert_eq!(pool.take_short(), []);
        drop((first, second));
        assert_eq!((pool.used(), other.take(500)), (87, 500));
    }

    #[test]
    fn everything_returns_and_owners_are_forgotten() {
        let pool = Pool::new(80);
        let mut early = Lease::default();
        assert_eq!(early.take(40), 40, "no account yet");
        early.charge_to(pool.account("a"));
        early.charge_to(pool.account("b"));
        assert_eq!((pool.used(), pool.account("a").used()), (40, 40));
        assert_eq!(pool.account("b").used(), 0);
        early.give(1000);
        assert_eq!(pool.used(), 0);
        assert_eq!(early.take(10), 10);
        drop(early);
        assert_eq!(pool.used(), 0);
        let accounts = pool.accounts.lock().expect("no panic");
        assert!(accounts.is_empty(), "{accounts:?}");
    }

    #[test]
    fn threads_together_do_not_exceed_the_limit() {
        let pool = Pool::new(1000);
        std::thread::scope(|scope| {
            for owner in ["a", "b", "c", "d"] {
                let pool = &pool;
                scope.spawn(move || {
                    let mut lease = lease(pool, owner);
                    for round in 0..10_000 {
                        lease.take(round % 300);
                        assert!(pool.used() <= 1000);
                        lease.give(round % 200);
                    }
                });
            }
        });
        assert_eq!(pool.used(), 0);
    }
}
