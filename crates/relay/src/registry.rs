//! Which session is a gateway's: gateway id → live session, and who wins on a second connection.
//!
//! The newest proven connection of an identity takes over at once and never waits for the one
//! before it, which may be long dead without this side knowing. The replaced session is handed out;
//! the caller probes it, closes it either way, and reports with [`Registry::probed`] what the probe
//! showed. Two live programs that share one identity push each other out forever: when the same two
//! addresses alternate, both alive, [`Conflict`] names them.
//!
//! Pure: no I/O, no clock (time is an argument), generic over the session's handle.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::GatewayId;

/// Two take-overs of a live session in opposite directions within this time are a conflict. A
/// gateway that reconnects once, whatever its reason, is none.
pub(crate) const FLIP_FLOP: Duration = Duration::from_secs(60);
/// A conflict that goes on is named again after this long.
pub(crate) const WARN_AGAIN: Duration = Duration::from_secs(600);

/// The live sessions. There is at most one per gateway id.
#[derive(Debug)]
pub(crate) struct Registry<S> {
    live: HashMap<GatewayId, Entry<S>>,
    /// Number of the next registration; never given twice.
    next: u64,
    /// Gateways that may be connected.
    limit: usize,
}

#[derive(Debug)]
struct Entry<S> {
    session: S,
    peer: SocketAddr,
    serial: u64,
    /// The last take-over of a session that proved alive.
    flip: Option<Flip>,
    /// When a conflict was last named.
    warned: Option<Instant>,
}

/// A take-over of a live session.
#[derive(Debug, Clone, Copy)]
struct Flip {
    from: IpAddr,
    to: IpAddr,
    at: Instant,
}

/// Proof of a registration, to end it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    id: GatewayId,
    serial: u64,
}

/// The outcome of [`Registry::register`].
#[derive(Debug)]
pub(crate) struct Registered<S> {
    /// Ends this registration.
    pub(crate) ticket: Ticket,
    /// The session that had to go.
    pub(crate) replaced: Option<Replaced<S>>,
}

/// A session that another one of the same identity replaced.
#[derive(Debug)]
pub(crate) struct Replaced<S> {
    /// The session; no one finds it any more.
    pub(crate) session: S,
    /// Where it came from.
    pub(crate) peer: SocketAddr,
    /// When and by whom it was replaced.
    pub(crate) takeover: Takeover,
}

/// A take-over whose probe is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Takeover {
    id: GatewayId,
    from: SocketAddr,
    to: SocketAddr,
    at: Instant,
}

/// Two live programs use one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The one pushed out just now.
    pub(crate) replaced: SocketAddr,
    /// The one that is connected now.
    pub(crate) connected: SocketAddr,
}

impl<S> Registry<S> {
    /// A registry of up to `limit` gateways.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            live: HashMap::new(),
            next: 0,
            limit,
        }
    }

    /// Makes `session` the gateway's one, at once. `None` if it would be one gateway too many; one
    /// that is connected already may always connect again.
    pub(crate) fn register(
        &mut self,
        id: GatewayId,
        peer: SocketAddr,
        session: S,
        now: Instant,
    ) -> Option<Registered<S>> {
        if self.live.len() >= self.limit && !self.live.contains_key(&id) {
            return None;
        }
        let old = self.live.remove(&id);
        let serial = self.next;
        self.next = self.next.wrapping_add(1);
        let ticket = Ticket {
            id: id.clone(),
            serial,
        };
        let entry = Entry {
            session,
            peer,
            serial,
            flip: old.as_ref().and_then(|old| old.flip),
            warned: old.as_ref().and_then(|old| old.warned),
        };
        self.live.insert(id.clone(), entry);
        let replaced = old.map(|old| Replaced {
            session: old.session,
            peer: old.peer,
            takeover: Takeover {
                id,
                from: old.peer,
                to: peer,
                at: now,
            },
        });
        Some(Registered { ticket, replaced })
    }

    /// Ends the registration of `ticket`, and no other: false if another session took over before.
    pub(crate) fn deregister(&mut self, ticket: &Ticket) -> bool {
        let is_its_own = self
            .live
            .get(&ticket.id)
            .is_some_and(|entry| entry.serial == ticket.serial);
        if is_its_own {
            self.live.remove(&ticket.id);
        }
        is_its_own
    }

    /// The gateway's session.
    pub(crate) fn find(&self, id: &GatewayId) -> Option<&S> {
        self.live.get(id).map(|entry| &entry.session)
    }

    /// All live sessions.
    pub(crate) fn sessions(&self) -> Vec<S>
    where
        S: Clone,
    {
        let entries = self.live.values();
        entries.map(|entry| entry.session.clone()).collect()
    }

    /// The same, each with its gateway.
    pub(crate) fn gateways(&self) -> Vec<(GatewayId, S)>
    where
        S: Clone,
    {
        let entries = self.live.iter();
        entries
            .map(|(id, entry)| (id.clone(), entry.session.clone()))
            .collect()
    }

    /// How many gateways are connected.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// The probe of a replaced session is over; `alive` is what it showed. Gives the conflict to
    /// warn of, if there is one and it was not named lately.
    pub(crate) fn probed(
        &mut self,
        takeover: &Takeover,
        alive: bool,
        now: Instant,
    ) -> Option<Conflict> {
        if !alive {
            return None;
        }
        let entry = self.live.get_mut(&takeover.id)?;
        let flip = Flip {
            from: takeover.from.ip(),
            to: takeover.to.ip(),
            at: takeover.at,
        };
        let before = entry.flip.replace(flip)?;
        let is_back = before.from == flip.to && before.to == flip.from;
        let is_soon = flip.at.saturating_duration_since(before.at) <= FLIP_FLOP;
        let should_log = entry
            .warned
            .is_none_or(|at| now.saturating_duration_since(at) >= WARN_AGAIN);
        if !(is_back && is_soon && should_log) {
            return None;
        }
        entry.warned = Some(now);
        Some(Conflict {
            replaced: takeover.from,
            connected: takeover.to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Conflict, FLIP_FLOP, Registered, Registry, WARN_AGAIN};
    use crate::names::GatewayId;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::time::Instant;

    fn id(text: &str) -> GatewayId {
        GatewayId::try_new(text).expect("an id")
    }

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    /// More gateways than any test has.
    const MANY: usize = 10;

    fn register<S>(
        registry: &mut Registry<S>,
        id: GatewayId,
        peer: SocketAddr,
        session: S,
        now: Instant,
    ) -> Registered<S> {
        registry
            .register(id, peer, session, now)
            .expect("there is room")
    }

    /// A registry, its clock, and the port of the next connection.
    struct Case {
        registry: Registry<u32>,
        now: Instant,
        port: u16,
    }

    impl Case {
        fn new() -> Self {
            Self {
                registry: Registry::new(MANY),
                now: Instant::now(),
                port: 1000,
            }
        }

        /// Registers from `host` after `wait`; the session before it, if any, proves `alive`.
        fn connect(&mut self, host: u8, wait: Duration, alive: bool) -> Option<Conflict> {
            self.now += wait;
            self.port += 1;
            let peer = peer(host, self.port);
            let session = u32::from(self.port);
            let registered = register(&mut self.registry, id("g"), peer, session, self.now);
            registered
                .replaced
                .and_then(|r| self.registry.probed(&r.takeover, alive, self.now))
        }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn first_connection_replaces_nothing() {
        let mut registry = Registry::new(MANY);
        assert_eq!(registry.find(&id("g")), None);
        let first = register(&mut registry, id("g"), peer(1, 1), 'a', Instant::now());
        assert!(first.replaced.is_none());
        assert_eq!(registry.find(&id("g")), Some(&'a'));
        assert_eq!(registry.find(&id("h")), None);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn second_connection_takes_over_at_once() {
        let mut registry = Registry::new(MANY);
        register(&mut registry, id("g"), peer(1, 1), 'a', Instant::now());
        let second = register(&mut registry, id("g"), peer(2, 2), 'b', Instant::now());
        let replaced = second.replaced.expect("the first");
        assert_eq!((replaced.session, replaced.peer), ('a', peer(1, 1)));
        assert_eq!(registry.find(&id("g")), Some(&'b'));
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn excess_gateway_is_refused_known_one_reconnects() {
        let mut registry = Registry::new(2);
        let now = Instant::now();
        let first = register(&mut registry, id("g"), peer(1, 1), 'a', now);
        register(&mut registry, id("h"), peer(1, 2), 'b', now);
        let third = registry.register(id("i"), peer(1, 3), 'c', now);
        assert!(third.is_none());
        assert_eq!((registry.len(), registry.find(&id("i"))), (2, None));
        let again = register(&mut registry, id("g"), peer(1, 4), 'd', now);
        assert_eq!(again.replaced.expect("the first").session, 'a');
        assert!(!registry.deregister(&first.ticket));
        assert!(registry.deregister(&again.ticket));
        register(&mut registry, id("i"), peer(1, 5), 'c', now);
    }

    #[test]
    fn gateways_do_not_disturb_each_other() {
        let mut registry = Registry::new(MANY);
        register(&mut registry, id("g"), peer(1, 1), 'a', Instant::now());
        let other = register(&mut registry, id("h"), peer(1, 2), 'b', Instant::now());
        assert!(other.replaced.is_none());
        assert!(registry.deregister(&other.ticket));
        assert_eq!(registry.find(&id("g")), Some(&'a'));
    }

    #[test]
    fn session_ends_only_its_own_registration() {
        let mut registry = Registry::new(MANY);
        let first = register(&mut registry, id("g"), peer(1, 1), 'a', Instant::now());
        let second = register(&mut registry, id("g"), peer(1, 2), 'b', Instant::now());
        assert!(!registry.deregister(&first.ticket));
        assert_eq!(registry.find(&id("g")), Some(&'b'));
        assert!(registry.deregister(&second.ticket));
        assert!(!registry.deregister(&second.ticket));
        assert_eq!(registry.find(&id("g")), None);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn alternating_programs_are_named_with_addresses() {
        let mut case = Case::new();
        assert_eq!(case.connect(1, SOON, true), None);
        assert_eq!(case.connect(2, SOON, true), None);
        let conflict = case.connect(1, SOON, true).expect("a conflict");
        assert_eq!(conflict.connected.ip(), peer(1, 0).ip());
        assert_eq!(conflict.replaced.ip(), peer(2, 0).ip());
    }

    #[test]
    fn conflict_behind_one_address_is_found() {
        let mut case = Case::new();
        assert_eq!(case.connect(1, SOON, true), None);
        assert_eq!(case.connect(1, SOON, true), None);
        assert!(case.connect(1, SOON, true).is_some());
    }

    #[test]
    fn lasting_conflict_is_named_rarely() {
        let mut case = Case::new();
        case.connect(1, SOON, true);
        case.connect(2, SOON, true);
        assert!(case.connect(1, SOON, true).is_some());
        let mut quiet = Duration::ZERO;
        let mut host = 2;
        while quiet + SOON < WARN_AGAIN {
            assert_eq!(case.connect(host, SOON, true), None, "{quiet:?}");
            quiet += SOON;
            host = 3 - host;
        }
        assert!(case.connect(host, SOON, true).is_some());
    }

    #[test]
    fn replaced_dead_session_is_no_conflict() {
        let mut case = Case::new();
        for host in [1, 2, 1, 2, 1] {
            assert_eq!(case.connect(host, SOON, false), None);
        }
        // One live take-over alone is none either.
        assert_eq!(case.connect(2, SOON, true), None);
        assert_eq!(case.connect(1, SOON, false), None);
    }

    #[test]
    fn slow_alternation_is_no_conflict() {
        let mut case = Case::new();
        case.connect(1, SOON, true);
        case.connect(2, SOON, true);
        assert_eq!(
            case.connect(1, FLIP_FLOP + Duration::from_secs(1), true),
            None
        );
        assert!(case.connect(2, FLIP_FLOP, true).is_some());
    }

    #[test]
    fn move_over_three_addresses_is_no_conflict() {
        let mut case = Case::new();
        for host in [1, 2, 3, 1, 2, 3] {
            assert_eq!(case.connect(host, SOON, true), None);
        }
    }

    #[test]
    fn late_probe_result_is_ignored() {
        let mut registry = Registry::new(MANY);
        let now = Instant::now();
        register(&mut registry, id("g"), peer(1, 1), 'a', now);
        let second = register(&mut registry, id("g"), peer(2, 2), 'b', now);
        let takeover = second.replaced.expect("the first").takeover;
        assert!(registry.deregister(&second.ticket));
        assert_eq!(registry.probed(&takeover, true, now), None);
    }
}
