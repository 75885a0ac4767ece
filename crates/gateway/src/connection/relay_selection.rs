//! Which relay to dial when none is pinned (protocol.md §1): healthy, the organization's own before
//! the instance's, then the fastest; and when a relay is so much better than the one in use that
//! moving is worth it. Pure but for [`rank`], which is given the way to probe.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::policy::{CLEAR_GAIN, CLEAR_GAIN_PERCENT, GRACE, HEALTHY_FOR};
use crate::api::types::Relay;
use crate::backoff;

/// What was measured of a healthy relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) relay: &'a Relay,
    /// TCP connect time; `None` if it did not answer in time.
    pub(crate) time: Option<Duration>,
}

/// The healthy relays, best first, and of those that do not answer any in random order. `probe`
/// gives the TCP connect time to a relay's host, or `None` where it does not answer in time; all
/// healthy relays are probed at once.
pub(crate) async fn rank<'a, P, F>(
    relays: &'a [Relay],
    now: OffsetDateTime,
    probe: P,
) -> Vec<Measured<'a>>
where
    P: Fn(&'a Relay) -> F,
    F: Future<Output = Option<Duration>>,
{
    // Until it has answered, a relay counts as one that does not: it sorts last, not out.
    let mut all: Vec<Measured<'a>> = healthy(relays, now)
        .map(|relay| Measured { relay, time: None })
        .collect();
    let is_any_own = all.iter().any(|measured| is_own(measured.relay));
    let mut probes: FuturesUnordered<_> = all
        .iter()
        .map(|measured| {
            let relay = measured.relay;
            let probing = probe(relay);
            async move { (relay, probing.await) }
        })
        .collect();
    let mut end: Option<Instant> = None;
    loop {
        let next = probes.next();
        let answered = match end {
            None => next.await,
            Some(end) => tokio::time::timeout_at(end, next).await.ok().flatten(),
        };
        let Some((relay, time)) = answered else { break };
        if let Some(measured) = all.iter_mut().find(|m| std::ptr::eq(m.relay, relay)) {
            measured.time = time;
        }
        if time.is_some() && (is_own(relay) || !is_any_own) && end.is_none() {
            end = Instant::now().checked_add(GRACE);
        }
    }
    drop(probes);
    // Nothing is known of those that do not answer, so not all gateways should choose the same one.
    all.sort_by_cached_key(|measured| {
        let tie_break = measured.time.map_or_else(backoff::random, |_| 0);
        (measured.rank(), tie_break)
    });
    all
}

/// The relays with a recent heartbeat.
pub(crate) fn healthy(relays: &[Relay], now: OffsetDateTime) -> impl Iterator<Item = &Relay> {
    relays.iter().filter(move |relay| is_healthy(relay, now))
}

impl Measured<'_> {
    /// What sorts first is dialled: those that answer, of these the organization's own, of these
    /// the fastest.
    fn rank(&self) -> (bool, bool, Duration) {
        let time = self.time;
        (
            time.is_none(),
            !is_own(self.relay),
            time.unwrap_or(Duration::MAX),
        )
    }

    /// True if moving here from `used`, which is up, is worth the move. A relay that is missing
    /// among the healthy ones, or does not answer, may be left for any that does; otherwise a small
    /// difference is chance.
    pub(crate) fn is_clear_gain_over(&self, used: Option<&Self>) -> bool {
        let Some(time) = self.time else { return false };
        let Some((used, used_time)) = used.and_then(|used| used.time.map(|time| (used, time)))
        else {
            return true;
        };
        if is_own(self.relay) != is_own(used.relay) {
            return is_own(self.relay);
        }
        let saved = used_time.saturating_sub(time);
        saved >= CLEAR_GAIN
            && saved.saturating_mul(100) >= used_time.saturating_mul(CLEAR_GAIN_PERCENT)
    }
}

fn is_own(relay: &Relay) -> bool {
    relay.org_id.is_some()
}

fn is_healthy(relay: &Relay, now: OffsetDateTime) -> bool {
    let heartbeat = relay.heartbeat.as_deref();
    let heartbeat = heartbeat.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    // A heartbeat in the future is a clock's fault, not the relay's.
    heartbeat.is_some_and(|at| now - at < HEALTHY_FOR)
}

#[cfg(test)]
mod tests {
    use super::{GRACE, Measured, rank};
    use crate::api::types::Relay;
    use crate::names::{RelayHost, RelayName};
    use std::time::Duration;
    use time::macros::datetime;

    fn relay(name: &str, own: bool, heartbeat: Option<&str>) -> Relay {
        Relay {
            id: name.to_owned(),
            created_at: String::new(),
            updated_at: String::new(),
            org_id: own.then(|| "org".to_owned()),
            identity_id: None,
            name: RelayName::try_new(name).expect("a name"),
            host: RelayHost::try_new("127.0.0.1").expect("a host"),
            heartbeat: heartbeat.map(str::to_owned),
        }
    }

    const MIN_ATTEMPT_AGE: Option<&str> = Some("2026-11-24T09:30:00.123Z");

    async fn chosen(relays: &[Relay], times: &[(&str, Option<u64>)]) -> Option<String> {
        let now = datetime!(2026-11-24 10:00 UTC);
        let times: std::collections::HashMap<_, _> = times.iter().copied().collect();
        let ranked = rank(relays, now, |relay| {
            let time = times.get(relay.name.as_str()).copied().flatten();
            std::future::ready(time.map(Duration::from_millis))
        })
        .await;
        ranked.first().map(|best| best.relay.name.to_string())
    }

    #[tokio::test]
    async fn fastest_own_relay_is_chosen() {
        let relays = [
            relay("instance", false, MIN_ATTEMPT_AGE),
            relay("slow", true, MIN_ATTEMPT_AGE),
            relay("fast", true, MIN_ATTEMPT_AGE),
        ];
        let times = [
            ("instance", Some(1)),
            ("slow", Some(80)),
            ("fast", Some(20)),
        ];
        assert_eq!(chosen(&relays, &times).await.as_deref(), Some("fast"));
    }

    #[tokio::test]
    async fn answering_relay_precedes_silent_own_one() {
        let relays = [
            relay("own", true, MIN_ATTEMPT_AGE),
            relay("instance", false, MIN_ATTEMPT_AGE),
        ];
        let times = [("own", None), ("instance", Some(9))];
        assert_eq!(chosen(&relays, &times).await.as_deref(), Some("instance"));
    }

    #[tokio::test]
    async fn healthy_relay_is_chosen_without_answers() {
        let relays = [
            relay("old", true, Some("2026-11-24T08:59:00Z")),
            relay("new", true, MIN_ATTEMPT_AGE),
        ];
        assert_eq!(chosen(&relays, &[]).await.as_deref(), Some("new"));
    }

    #[tokio::test]
    async fn own_relay_is_chosen_without_answers() {
        let relays = [
            relay("instance", false, MIN_ATTEMPT_AGE),
            relay("one", true, MIN_ATTEMPT_AGE),
            relay("two", true, MIN_ATTEMPT_AGE),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.extend(chosen(&relays, &[]).await);
        }
        assert!(
            seen.iter().map(String::as_str).eq(["one", "two"]),
            "{seen:?}"
        );
    }

    #[tokio::test]
    async fn relay_without_recent_heartbeat_is_skipped() {
        let relays = [
            relay("never", true, None),
            relay("old", true, Some("2026-11-24T09:00:00Z")),
            relay("odd", true, Some("yesterday")),
        ];
        let times = [("never", Some(1)), ("old", Some(1)), ("odd", Some(1))];
        assert_eq!(chosen(&relays, &times).await, None);
        let future = [relay("future", true, Some("2026-11-24T11:00:00+00:00"))];
        assert_eq!(chosen(&future, &[]).await.as_deref(), Some("future"));
    }

    #[tokio::test(start_paused = true)]
    async fn useless_probes_are_not_waited_for() {
        let relays = [
            relay("mute", true, MIN_ATTEMPT_AGE),
            relay("own", true, MIN_ATTEMPT_AGE),
            relay("instance", false, MIN_ATTEMPT_AGE),
        ];
        let now = datetime!(2026-11-24 10:00 UTC);
        let begin = tokio::time::Instant::now();
        let ranked = rank(&relays, now, |relay| {
            let ms = match relay.name.as_str() {
                "own" => 80,
                "instance" => 5,
                _ => 3_600_000,
            };
            async move {
                let time = Duration::from_millis(ms);
                tokio::time::sleep(time).await;
                Some(time)
            }
        })
        .await;
        let names: Vec<&str> = ranked.iter().map(|m| m.relay.name.as_str()).collect();
        // The one that is still silent is the last choice, not none.
        assert_eq!(names, ["own", "instance", "mute"]);
        assert_eq!(begin.elapsed(), Duration::from_millis(80) + GRACE);
    }

    #[test]
    fn only_clear_gain_causes_reselection() {
        let (own, other) = (
            relay("own", true, MIN_ATTEMPT_AGE),
            relay("other", true, MIN_ATTEMPT_AGE),
        );
        let instance = relay("instance", false, MIN_ATTEMPT_AGE);
        let at = |relay, ms: Option<u64>| Measured {
            relay,
            time: ms.map(Duration::from_millis),
        };
        for (better, used, expected) in [
            (at(&other, Some(60)), at(&own, Some(100)), true),
            (at(&other, Some(80)), at(&own, Some(100)), false),
            (at(&other, Some(1)), at(&own, Some(9)), false),
            (at(&other, Some(100)), at(&own, Some(60)), false),
            (at(&own, Some(90)), at(&instance, Some(5)), true),
            (at(&instance, Some(5)), at(&own, Some(90)), false),
            (at(&instance, Some(5)), at(&own, None), true),
            (at(&other, None), at(&own, None), false),
        ] {
            assert_eq!(
                better.is_clear_gain_over(Some(&used)),
                expected,
                "{better:?} {used:?}"
            );
        }
        assert!(at(&other, Some(5)).is_clear_gain_over(None));
    }
}
