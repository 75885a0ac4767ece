//! Which relay to dial when none is pinned (protocol.md §1): healthy, the organization's own before the
//! instance's, then the fastest. Pure but for [`choose`], which is given the way to probe.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::types::Relay;

/// A relay whose last heartbeat is older is not counted on (protocol.md §1).
const HEALTHY_FOR: time::Duration = time::Duration::hours(1);
/// Limit for one probe (protocol.md §1).
pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// The relay to dial; `None` if none is healthy. `probe` gives the TCP connect time to a relay's host, or
/// `None` where it does not answer in time; all healthy relays are probed at once.
pub(crate) async fn choose<'a, P, F>(
    relays: &'a [Relay],
    now: OffsetDateTime,
    probe: P,
) -> Option<&'a Relay>
where
    P: Fn(&'a Relay) -> F,
    F: Future<Output = Option<Duration>>,
{
    let healthy: Vec<&Relay> = relays
        .iter()
        .filter(|relay| is_healthy(relay, now))
        .collect();
    let times = join_all(healthy.iter().map(|relay| probe(relay))).await;
    let measured = healthy.into_iter().zip(times);
    // None answering at all still leaves a choice: an unanswered probe sorts last, not out.
    measured
        .min_by_key(|(relay, time)| rank(relay, *time))
        .map(|(relay, _)| relay)
}

/// What sorts first is dialled: those that answer, of these the organization's own, of these the fastest.
fn rank(relay: &Relay, time: Option<Duration>) -> (bool, bool, Duration) {
    (
        time.is_none(),
        relay.org_id.is_none(),
        time.unwrap_or(Duration::MAX),
    )
}

fn is_healthy(relay: &Relay, now: OffsetDateTime) -> bool {
    let heartbeat = relay.heartbeat.as_deref();
    let heartbeat = heartbeat.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    // A heartbeat in the future is a clock's fault, not the relay's.
    heartbeat.is_some_and(|at| now - at < HEALTHY_FOR)
}

#[cfg(test)]
mod tests {
    use super::choose;
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

    const FRESH: Option<&str> = Some("2026-11-24T09:30:00.123Z");

    async fn chosen(relays: &[Relay], times: &[(&str, Option<u64>)]) -> Option<String> {
        let now = datetime!(2026-11-24 10:00 UTC);
        let times: std::collections::HashMap<_, _> = times.iter().copied().collect();
        choose(relays, now, |relay| {
            let time = times.get(relay.name.as_str()).copied().flatten();
            std::future::ready(time.map(Duration::from_millis))
        })
        .await
        .map(|relay| relay.name.to_string())
    }

    #[tokio::test]
    async fn the_fastest_of_the_own_relays_is_chosen() {
        let relays = [
            relay("instance", false, FRESH),
            relay("slow", true, FRESH),
            relay("fast", true, FRESH),
        ];
        let times = [
            ("instance", Some(1)),
            ("slow", Some(80)),
            ("fast", Some(20)),
        ];
        assert_eq!(chosen(&relays, &times).await.as_deref(), Some("fast"));
    }

    #[tokio::test]
    async fn a_relay_that_answers_is_chosen_before_an_own_one_that_does_not() {
        let relays = [relay("own", true, FRESH), relay("instance", false, FRESH)];
        let times = [("own", None), ("instance", Some(9))];
        assert_eq!(chosen(&relays, &times).await.as_deref(), Some("instance"));
    }

    #[tokio::test]
    async fn if_none_answers_any_healthy_one_is_chosen() {
        let relays = [
            relay("old", true, Some("2026-11-24T08:59:00Z")),
            relay("new", true, FRESH),
        ];
        assert_eq!(chosen(&relays, &[]).await.as_deref(), Some("new"));
    }

    #[tokio::test]
    async fn without_a_recent_heartbeat_a_relay_is_not_chosen() {
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
}
