//! Rotation of all CAs: what the next step is, and whom it waits for. Pure.
//!
//! A new generation of CAs signs nothing until every gateway and relay with valid credentials holds
//! its anchors; the old one is kept as an anchor until nothing that it has signed is in use. So no
//! peer meets a certificate that it cannot verify.

use std::time::SystemTime;

use crate::authority::{self, Authority, KeyAlgorithm, Organization, SERVER_LIFETIME};
use crate::store::{Generation, Holder};

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// One generation signs, and no other is kept.
    Settled,
    /// A new generation is an anchor, and signs nothing yet.
    Distribute,
    /// The new generation signs, and the old one is an anchor still.
    Retire,
}

impl Phase {
    /// The name in the API and on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Distribute => "distribute",
            Self::Retire => "retire",
        }
    }
}

/// A rotation at one moment.
#[derive(Debug)]
pub(crate) struct Rotation<'a> {
    pub(crate) phase: Phase,
    /// The newest generation.
    pub(crate) newest: i64,
    /// Who must get new credentials, or lose the old ones, before the next step.
    pub(crate) waits_for: Vec<&'a Holder>,
    /// The next step comes no sooner.
    pub(crate) not_before: Option<SystemTime>,
}

/// The generation that signs: the newest that ever has.
pub(crate) fn signing(generations: &[Generation]) -> Option<&Generation> {
    let mut newest_first = generations.iter().rev();
    newest_first.find(|generation| generation.signs_since.is_some())
}

/// The CAs of all `generations`: one signs, and the others are anchors.
///
/// # Errors
/// None signs, or a CA is missing or unreadable.
pub(crate) fn load(
    algorithm: KeyAlgorithm,
    organization: Organization,
    generations: &[Generation],
) -> Result<Authority, authority::Error> {
    let signing = signing(generations).ok_or(authority::Error::Missing("signing"))?;
    let mut authority = Authority::load(algorithm, organization, signing.number, &signing.cas)?;
    for other in generations {
        if other.number != signing.number {
            authority = authority.trusting(other.number, &other.cas)?;
        }
    }
    Ok(authority)
}

impl<'a> Rotation<'a> {
    /// How far it is at `now`; `generations` are in their order. `None` without any.
    pub(crate) fn at(
        generations: &[Generation],
        holders: &'a [Holder],
        now: SystemTime,
    ) -> Option<Self> {
        let newest = generations.last()?;
        let number = newest.number;
        let phase = match newest.signs_since {
            None => Phase::Distribute,
            Some(_) if generations.len() > 1 => Phase::Retire,
            Some(_) => Phase::Settled,
        };
        let is_behind = |holder: &&Holder| match phase {
            Phase::Settled => false,
            Phase::Distribute => holder.anchors < number,
            Phase::Retire => holder.signed_by < number,
        };
        let valid = holders.iter().filter(|holder| holder.expires_at > now);
        // Certificates that were signed just before the switch live so long, and those of clients
        // less.
        let not_before = newest.signs_since.filter(|_| phase == Phase::Retire);
        Some(Self {
            phase,
            newest: number,
            waits_for: valid.filter(is_behind).collect(),
            not_before: not_before.and_then(|since| since.checked_add(SERVER_LIFETIME)),
        })
    }

    /// Whether the next step, if there is one, can be taken without cutting anyone off.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        self.waits_for.is_empty() && self.not_before.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Phase, Rotation, signing};
    use crate::authority::SERVER_LIFETIME;
    use crate::store::{Generation, Holder};

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn generation(number: i64, signs_since: Option<SystemTime>) -> Generation {
        Generation {
            number,
            created_at: begin(),
            signs_since,
            cas: Vec::new(),
        }
    }

    fn holder(name: &str, anchors: i64, signed_by: i64) -> Holder {
        Holder {
            kind: "gateway",
            id: name.to_owned(),
            name: name.to_owned(),
            anchors,
            signed_by,
            expires_at: begin() + SERVER_LIFETIME,
        }
    }

    fn at(
        generations: &[Generation],
        holders: &[Holder],
        now: SystemTime,
    ) -> (Phase, Vec<String>, bool) {
        let rotation = Rotation::at(generations, holders, now).expect("there is a generation");
        let waits_for = rotation.waits_for.iter();
        let waits_for = waits_for.map(|holder| holder.name.clone()).collect();
        (rotation.phase, waits_for, rotation.is_due(now))
    }

    #[test]
    fn switch_waits_for_every_valid_holder() {
        let old = generation(1, Some(begin()));
        let one = [old.clone()];
        assert_eq!(
            at(&one, &[holder("a", 1, 1)], begin()),
            (Phase::Settled, vec![], true)
        );
        let both = [old, generation(2, None)];
        assert_eq!(signing(&both).expect("one signs").number, 1);
        let holders = [holder("a", 2, 1), holder("b", 1, 1)];
        let waiting = (Phase::Distribute, vec!["b".to_owned()], false);
        assert_eq!(at(&both, &holders, begin()), waiting);
        // Its certificates have expired: it must ask for new ones before anything else.
        let expired = begin() + SERVER_LIFETIME;
        assert_eq!(
            at(&both, &holders, expired),
            (Phase::Distribute, vec![], true)
        );
        let holders = [holder("a", 2, 1), holder("b", 2, 1)];
        assert_eq!(
            at(&both, &holders, begin()),
            (Phase::Distribute, vec![], true)
        );
    }

    #[test]
    fn old_generation_outlives_what_it_signed() {
        let switched = begin() + Duration::from_secs(60);
        let both = [generation(1, Some(begin())), generation(2, Some(switched))];
        assert_eq!(signing(&both).expect("one signs").number, 2);
        let over = switched + SERVER_LIFETIME;
        let late = Holder {
            expires_at: over + SERVER_LIFETIME,
            ..holder("b", 2, 1)
        };
        let holders = [holder("a", 2, 2), late];
        let waiting = (Phase::Retire, vec!["b".to_owned()], false);
        assert_eq!(at(&both, &holders, switched), waiting);
        assert_eq!(at(&both, &holders, over), waiting);
        let holders = [holder("a", 2, 2), holder("b", 2, 2)];
        let early = over - Duration::from_secs(1);
        assert_eq!(at(&both, &holders, early), (Phase::Retire, vec![], false));
        assert_eq!(at(&both, &holders, over), (Phase::Retire, vec![], true));
        assert!(Rotation::at(&[], &holders, over).is_none());
    }
}
