//! What was said lately. While an outage is young the same failure comes every second; it is told when it is news, and again now and
//! then, so that whoever looks at the end of a log sees that it goes on.

use std::time::Duration;

use tokio::time::Instant;

/// After this long the same failure is told again.
const AGAIN: Duration = Duration::from_secs(60);
/// Failures that are kept in mind: a relay's and a platform's may alternate.
const KEPT: usize = 4;

/// The failures that were told last, and when.
#[derive(Debug, Default)]
pub(crate) struct Said(Vec<(String, Instant)>);

impl Said {
    /// True if `failure` is to be told now. The platform's id of the request, which is always another one, does not make it another
    /// failure.
    pub(crate) fn is_news(&mut self, failure: &str, now: Instant) -> bool {
        let failure = failure.split(" (request ").next().unwrap_or(failure);
        let recent = |at: Instant| now.saturating_duration_since(at) < AGAIN;
        if self
            .0
            .iter()
            .any(|(said, at)| said == failure && recent(*at))
        {
            return false;
        }
        self.0.retain(|(said, at)| said != failure && recent(*at));
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push((failure.to_owned(), now));
        true
    }

    /// It is over: whatever comes next is news.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{AGAIN, KEPT, Said};

    #[test]
    fn the_same_failure_is_told_once_a_minute_and_another_one_at_once() {
        let mut said = Said::default();
        let begin = Instant::now();
        assert!(said.is_news("relay", begin));
        assert!(said.is_news("platform", begin));
        assert!(!said.is_news("relay", begin + AGAIN / 2));
        assert!(!said.is_news("platform", begin + AGAIN / 2));
        assert!(said.is_news("relay", begin + AGAIN));
        said.clear();
        assert!(said.is_news("no (request 1)", begin + AGAIN));
        assert!(!said.is_news("no (request 2)", begin + AGAIN));
    }

    #[test]
    fn failures_that_are_never_the_same_are_not_kept_for_ever() {
        let mut said = Said::default();
        let now = Instant::now();
        assert!((0..100).all(|n| said.is_news(&n.to_string(), now)));
        assert_eq!(said.0.len(), KEPT);
    }
}
