//! Names to addresses, by the system's resolver. Nothing is cached.
//!
//! A lookup blocks a thread until the resolver gives up, which may be after minutes, whether or not
//! a caller still waits. So lookups have threads of their own, a bounded number
//! ([`crate::threads`]), and a part of them is reserved for the program's own peers: sessions to
//! targets whose names do not resolve never delay the way to the platform or a relay.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::thread;

use super::lookups::{Ask, LookupPermits, Lookups, Question};
use crate::threads::{MAX_OWN_LOOKUPS, MAX_TARGET_LOOKUPS};

/// Lookups of one of our own names at once: a fresh one every 1.5 s, until the first of them gives
/// up (after 10 s with one DNS server, resolv.conf(5)) and frees its thread.
const MAX_PER_OWN_NAME: usize = 5;
/// Lookups of one target's name at once.
const MAX_PER_NAME: usize = 4;
/// For a lookup. The C library and its plugins use some 10 KiB, rarely up to 64 KiB.
const STACK: usize = 256 << 10;

static OWN: Lookups = Lookups::new(
    LookupPermits::new(MAX_OWN_LOOKUPS, MAX_PER_OWN_NAME),
    &SystemResolver,
);
static TARGETS: Lookups = Lookups::new(
    LookupPermits::new(MAX_TARGET_LOOKUPS, MAX_PER_NAME),
    &SystemResolver,
);

/// Who needs the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupClass {
    /// This program, for its platform and its relays.
    Own,
    /// A session, for its target.
    Target,
}

/// The addresses of `host` (a name or an address), each with `port`, in the resolver's order.
///
/// Waits for as long as the resolver does: the caller sets the deadline.
///
/// # Errors
/// Those of the resolver, once no lookup of this name is left that could still succeed.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    lookup_for(LookupClass::Own, host, port).await
}

/// The same, with the threads of this class.
pub(super) async fn lookup_for(
    class: LookupClass,
    host: &str,
    port: u16,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut addresses = lookups(class).lookup(host).await?;
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(addresses)
}

fn lookups(class: LookupClass) -> &'static Lookups {
    match class {
        LookupClass::Own => &OWN,
        LookupClass::Target => &TARGETS,
    }
}

/// The system's resolver, getaddrinfo(3).
#[derive(Debug)]
struct SystemResolver;

impl Ask for SystemResolver {
    fn ask(&self, question: Question) {
        let thread = thread::Builder::new().name("lookup".to_owned());
        // If there is no thread, the closure is dropped, and with it the question fails.
        let _ = thread.stack_size(STACK).spawn(move || {
            let found = (question.name(), 0).to_socket_addrs();
            question.answer(found.map(Iterator::collect));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{LookupClass, lookup, lookup_for, lookups};

    #[tokio::test]
    async fn an_address_needs_no_lookup() {
        let addresses = lookup("2001:db8::1", 7).await.expect("an address");
        assert_eq!(addresses, ["[2001:db8::1]:7".parse().expect("an address")]);
    }

    #[tokio::test]
    async fn the_systems_resolver_is_asked() {
        for class in [LookupClass::Own, LookupClass::Target] {
            let addresses = lookup_for(class, "localhost", 7).await.expect("known");
            assert!(!addresses.is_empty());
            let expected = |a: &std::net::SocketAddr| a.ip().is_loopback() && a.port() == 7;
            assert!(addresses.iter().all(expected));
        }
    }

    #[test]
    fn targets_and_own_names_share_no_threads() {
        let (own, targets) = (lookups(LookupClass::Own), lookups(LookupClass::Target));
        assert!(!std::ptr::eq(own, targets));
    }
}
