//! Logins that have begun: in memory, bounded, for ten minutes, and each good for one end.
//!
//! One is found by the hash of the secret which only the program that began it has. Pure: time is an
//! argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::secret::Secret;
use crate::token::TokenHash;

/// How long a person may take.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// Logins at once.
const MAX_PENDING: usize = 1000;
/// Those of one source: a person tries again, an office shares an address.
const MAX_OF_SOURCE: usize = 50;

/// There are too many; some have ended after this time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) Duration);

/// What is kept of each login, until it ends.
#[derive(Debug)]
pub(super) struct Pending<T> {
    logins: HashMap<Vec<u8>, Login<T>>,
}

#[derive(Debug)]
struct Login<T> {
    source: IpAddr,
    ends_at: Instant,
    kept: T,
}

impl<T> Pending<T> {
    pub(super) fn new() -> Self {
        Self {
            logins: HashMap::new(),
        }
    }

    /// Keeps a login of `source` that `secret` finds.
    pub(super) fn add(
        &mut self,
        secret: &Secret,
        source: IpAddr,
        kept: T,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.logins.retain(|_, login| login.ends_at > now);
        let of_source = self.logins.values().filter(|login| login.source == source);
        let is_full = self.logins.len() >= MAX_PENDING;
        if is_full || of_source.count() >= MAX_OF_SOURCE {
            let ends = self
                .logins
                .values()
                .filter_map(|login| (is_full || login.source == source).then_some(login.ends_at));
            let first = ends.min().unwrap_or(now);
            return Err(TooMany(first.saturating_duration_since(now)));
        }
        let login = Login {
            source,
            ends_at: now + LIFETIME,
            kept,
        };
        self.logins.insert(key(secret), login);
        Ok(())
    }

    /// The login that `secret` finds, which is gone then.
    pub(super) fn take(&mut self, secret: &Secret, now: Instant) -> Option<T> {
        let login = self.logins.remove(&key(secret))?;
        (login.ends_at > now).then_some(login.kept)
    }

    /// The login that `secret` finds, which stays.
    pub(super) fn find(&mut self, secret: &Secret, now: Instant) -> Option<&mut T> {
        let login = self.logins.get_mut(&key(secret))?;
        (login.ends_at > now).then_some(&mut login.kept)
    }
}

fn key(secret: &Secret) -> Vec<u8> {
    TokenHash::of(secret).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{LIFETIME, MAX_OF_SOURCE, MAX_PENDING, Pending, TooMany};
    use crate::secret::Secret;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn secret(number: usize) -> Secret {
        Secret::new(format!("secret-{number}"))
    }

    #[test]
    fn login_is_taken_once_and_in_time() {
        let (mut pending, now) = (Pending::new(), Instant::now());
        pending.add(&secret(1), SOURCE, 1, now).expect("room");
        pending.add(&secret(2), SOURCE, 2, now).expect("room");
        assert_eq!(pending.take(&secret(3), now), None);
        assert_eq!(pending.find(&secret(1), now), Some(&mut 1));
        assert_eq!(pending.take(&secret(1), now), Some(1));
        assert_eq!(pending.take(&secret(1), now), None);
        assert_eq!(pending.take(&secret(2), now + LIFETIME), None);
    }

    #[test]
    fn pending_logins_are_bounded() {
        let (mut pending, now) = (Pending::new(), Instant::now());
        for number in 0..MAX_OF_SOURCE {
            pending.add(&secret(number), SOURCE, (), now).expect("room");
        }
        let soon = now + Duration::from_secs(1);
        let refused = pending.add(&secret(0), SOURCE, (), soon);
        assert_eq!(refused, Err(TooMany(LIFETIME - Duration::from_secs(1))));
        for number in MAX_OF_SOURCE..MAX_PENDING {
            let bits = u32::try_from(number).expect("small");
            let source = IpAddr::V4(Ipv4Addr::from_bits(bits));
            pending.add(&secret(number), source, (), now).expect("room");
        }
        let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        pending
            .add(&secret(MAX_PENDING), other, (), now)
            .expect_err("full");
        let later = now + LIFETIME;
        pending
            .add(&secret(0), SOURCE, (), later)
            .expect("room again");
        assert_eq!(pending.logins.len(), 1);
    }
}
