//! Sessions that end before they reach a target, which a client can cause in any number: of those
//! that end in the same way the first has an entry of its own, the others are counted, and each
//! period ends with their number.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{End, Outcome, Summary};
use crate::agent::status::document::LiveSession;

/// From the first of a kind to the count of the others, and from one count to the next.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// Kinds that are told apart; beyond it the outcome alone counts.
const MAX_KINDS: usize = 256;

/// What makes two sessions the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    outcome: Outcome,
    error: String,
    actor_id: Option<String>,
    target: Option<String>,
}

#[derive(Debug)]
struct Counted {
    until: Instant,
    count: u64,
    /// Of the last one.
    error: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Summaries(HashMap<Kind, Counted>);

impl Summaries {
    /// True for the first of its kind; another one is counted.
    pub(super) fn is_first(&mut self, session: &LiveSession, end: &End, now: Instant) -> bool {
        let mut kind = Kind {
            outcome: end.outcome,
            error: end.kind.clone(),
            actor_id: session.actor_id.clone(),
            target: session.target.clone(),
        };
        if !self.0.contains_key(&kind) && self.0.len() >= MAX_KINDS {
            kind = Kind {
                outcome: end.outcome,
                error: String::new(),
                actor_id: None,
                target: None,
            };
        }
        let mut is_first = false;
        let counted = self.0.entry(kind).or_insert_with(|| {
            is_first = true;
            Counted {
                until: now + PERIOD,
                count: 0,
                error: None,
            }
        });
        if !is_first {
            counted.count = counted.count.saturating_add(1);
            counted.error.clone_from(&end.error);
        }
        is_first
    }

    /// The counts of the periods that have ended. What goes on is counted from zero; what does not
    /// is forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Summary> {
        let mut due = Vec::new();
        self.0.retain(|kind, counted| {
            if now < counted.until {
                return true;
            }
            let summary = summary(kind, counted);
            let goes_on = summary.is_some();
            due.extend(summary);
            (counted.until, counted.count) = (now + PERIOD, 0);
            goes_on
        });
        due
    }

    /// All counts, now.
    pub(super) fn drain(&mut self) -> Vec<Summary> {
        let all = self.0.drain();
        all.filter_map(|(kind, counted)| summary(&kind, &counted))
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn summary(kind: &Kind, counted: &Counted) -> Option<Summary> {
    (counted.count > 0).then(|| Summary {
        outcome: kind.outcome,
        actor_id: kind.actor_id.clone(),
        target: kind.target.clone(),
        error: counted.error.clone(),
        count: counted.count,
    })
}
