//! Logins that have begun: in memory, bounded, for ten minutes, and each good for one end.
//!
//! One is found by the hash of the secret which only the program that began it has. Pure: time is an
//! argument.
//!
//! Each source has a share. When all places are taken, the network with the most logins loses its
//! oldest one: many addresses in few networks cannot close logins for others.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::secret::Secret;
use crate::token::TokenHash;

/// How long a person may take.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// Logins at once.
const MAX_PENDING: usize = 1000;
/// Those of one source: a person tries again, an office shares an address.
pub(super) const MAX_OF_SOURCE: usize = 50;

/// The source has too many; one of them has ended after this time.
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

    /// Whether `source` may begin a login at `now`.
    pub(super) fn check(&mut self, source: IpAddr, now: Instant) -> Result<(), TooMany> {
        self.logins.retain(|_, login| login.ends_at > now);
        let of_source = self.logins.values().filter(|login| login.source == source);
        let ends: Vec<Instant> = of_source.map(|login| login.ends_at).collect();
        match ends.iter().min() {
            Some(first) if ends.len() >= MAX_OF_SOURCE => {
                Err(TooMany(first.saturating_duration_since(now)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Keeps a login of `source` that `secret` finds. If all places are taken, another login ends.
    pub(super) fn add(
        &mut self,
        secret: &Secret,
        source: IpAddr,
        kept: T,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.check(source, now)?;
        if self.logins.len() >= MAX_PENDING {
            self.remove_oldest_of_largest();
        }
        let login = Login {
            source,
            ends_at: now + LIFETIME,
            kept,
        };
        self.logins.insert(key(secret), login);
        Ok(())
    }

    /// Ends the oldest login of the source with the most, in the network with the most.
    fn remove_oldest_of_largest(&mut self) {
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let mut sources: HashMap<IpAddr, usize> = HashMap::new();
        for login in self.logins.values() {
            *networks.entry(network(login.source)).or_default() += 1;
            *sources.entry(login.source).or_default() += 1;
        }
        let share = |login: &Login<T>| {
            let of_network = networks.get(&network(login.source)).copied();
            let of_source = sources.get(&login.source).copied();
            (of_network, of_source, Reverse(login.ends_at))
        };
        let largest = self.logins.iter().max_by_key(|(_, login)| share(login));
        if let Some(key) = largest.map(|(key, _)| key.clone()) {
            self.logins.remove(&key);
        }
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

/// What one customer of a provider is given at most, as a rule: a /24 of IPv4, a /48 of IPv6.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8))),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)))
        }
    }
}

fn key(secret: &Secret) -> Vec<u8> {
    TokenHash::of(secret).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{LIFETIME, MAX_OF_SOURCE, MAX_PENDING, Pending, TooMany};
    use crate::secret::Secret;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    fn each_source_has_a_share() {
        let (mut pending, now) = (Pending::new(), Instant::now());
        for number in 0..MAX_OF_SOURCE {
            pending.add(&secret(number), SOURCE, (), now).expect("room");
        }
        let soon = now + Duration::from_secs(1);
        let wait = LIFETIME - Duration::from_secs(1);
        assert_eq!(pending.check(SOURCE, soon), Err(TooMany(wait)));
        let refused = pending.add(&secret(0), SOURCE, (), soon);
        assert_eq!(refused, Err(TooMany(wait)));
        let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(pending.check(other, soon), Ok(()));
        let later = now + LIFETIME;
        pending
            .add(&secret(0), SOURCE, (), later)
            .expect("room again");
        assert_eq!(pending.logins.len(), 1);
    }

    /// Twenty addresses take all places; someone else logs in all the same, and is not pushed out.
    #[test]
    fn few_sources_cannot_close_logins() {
        for flood in [
            |number: u16| {
                IpAddr::V4(Ipv4Addr::from([
                    10,
                    1,
                    2,
                    u8::try_from(number).unwrap_or(0),
                ]))
            },
            |number: u16| IpAddr::V6(Ipv6Addr::from([0x2001, 0xdb8, 1, number, 0, 0, 0, 0])),
        ] {
            let (mut pending, now) = (Pending::new(), Instant::now());
            let honest = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
            let mut numbers = 0..;
            let mut begin = |pending: &mut Pending<_>, source| {
                let secret = secret(numbers.next().expect("a number"));
                pending.add(&secret, source, (), now).map(|()| secret)
            };
            let early = begin(&mut pending, honest).expect("room");
            let mut fill = |pending: &mut Pending<_>| {
                for address in 0..u16::try_from(MAX_PENDING / MAX_OF_SOURCE).expect("few") {
                    for _ in 0..MAX_OF_SOURCE {
                        let _ = begin(pending, flood(address));
                    }
                }
            };
            fill(&mut pending);
            let late = secret(1_000_000);
            pending.add(&late, honest, (), now).expect("room");
            fill(&mut pending);
            assert!(pending.take(&early, now).is_some() && pending.take(&late, now).is_some());
            assert!(pending.logins.len() <= MAX_PENDING);
        }
    }

    /// One /48 has more blocks than there are places: it counts as one, however few each begins.
    #[test]
    fn one_network_gives_way_to_others() {
        let (mut pending, now) = (Pending::new(), Instant::now());
        let honest = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        pending.add(&secret(0), honest, (), now).expect("room");
        for number in 1..MAX_PENDING + 50 {
            let block = u16::try_from(number).expect("small");
            let source = IpAddr::V6(Ipv6Addr::from([0x2001, 0xdb8, 1, block, 0, 0, 0, 0]));
            pending.add(&secret(number), source, (), now).expect("room");
        }
        assert!(pending.take(&secret(0), now).is_some());
        assert_eq!(pending.logins.len(), MAX_PENDING - 1);
    }
}
