//! What is on record of sessions, in simulated time.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Audit, End, LONG, Outcome};
use crate::api::session_reports::MAX_REPORTED;
use crate::events;
use crate::names::GatewayId;
use crate::pki::extensions::{Actor, Route};

fn gateway() -> GatewayId {
    "5f0c7f3e-0000-4000-8000-000000000001"
        .parse()
        .expect("an id")
}

fn unreachable() -> End {
    End {
        outcome: Outcome::Unreachable,
        error: Some("connection refused".to_owned()),
        kind: "refused".to_owned(),
    }
}

fn claim(record: &super::Record, id: &str) {
    let route = Route {
        target_host: "db".to_owned(),
        target_port: 5432,
        target_addresses: Vec::new(),
    };
    let actor = Actor {
        kind: "user".to_owned(),
        id: Some(id.to_owned()),
        name: Some("Jane Doe".to_owned()),
    };
    let service = "infisical-tcp-proxy";
    record
        .session()
        .claims(service, false, Some(&route), Some(&actor));
}

#[tokio::test(start_paused = true)]
async fn open_sessions_are_listed_until_dropped() {
    let audit = Audit::default();
    let record = audit.begin(&gateway());
    claim(&record, "u-1");
    record.session().reached("192.0.2.1:5432".parse().ok());
    record.session().traffic().set(7, 9);
    tokio::time::advance(Duration::from_secs(3)).await;
    let live = audit.live();
    let [session] = &live[..] else {
        panic!("{live:?}");
    };
    assert_eq!(session.actor_name.as_deref(), Some("Jane Doe"));
    assert_eq!(session.target.as_deref(), Some("db:5432"));
    assert_eq!((session.bytes_to_target, session.bytes_from_target), (7, 9));
    assert_eq!(session.idle_seconds, 3);
    serde_json::to_value(session).expect("JSON");
    drop(record);
    assert!(audit.live().is_empty());
}

#[tokio::test(start_paused = true)]
async fn long_session_is_announced_once() {
    let audit = Audit::default();
    let (long, check) = (audit.begin(&gateway()), audit.begin(&gateway()));
    long.session().reached("192.0.2.1:5432".parse().ok());
    assert!(audit.newly_long().is_empty());
    tokio::time::advance(LONG).await;
    let announced = audit.newly_long();
    assert_eq!(announced.len(), 1, "nothing was reached by the other");
    assert_eq!(announced[0].event, events::SESSION_OPEN);
    assert_eq!(announced[0].session.id, long.session().id);
    assert!(audit.newly_long().is_empty());
    drop(check);
}

#[tokio::test(start_paused = true)]
async fn unreached_sessions_alike_are_counted() {
    let audit = Audit::default();
    let end = |id: &str| {
        let mut record = audit.begin(&gateway());
        claim(&record, id);
        record.end(unreachable()).event.level
    };
    let info = tracing::Level::INFO;
    let shown: Vec<_> = (0..10).map(|_| end("u-1") == info).collect();
    assert_eq!(shown.iter().filter(|shown| **shown).count(), 1, "{shown:?}");
    assert_eq!(end("u-2"), info, "another actor has an event of its own");
    let mut summaries = super::lock(&audit.0.summaries);
    assert!(summaries.due(tokio::time::Instant::now()).is_empty());
    let later = tokio::time::Instant::now() + super::summaries::PERIOD;
    let due = summaries.due(later);
    let [summary] = &due[..] else {
        panic!("{due:?}");
    };
    assert_eq!((summary.count, summary.outcome), (9, Outcome::Unreachable));
    assert_eq!(summary.actor_id.as_deref(), Some("u-1"));
    assert!(summaries.due(later + super::summaries::PERIOD).is_empty());
    assert!(summaries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn established_sessions_are_never_counted_together() {
    let audit = Audit::default();
    for _ in 0..10 {
        let mut record = audit.begin(&gateway());
        claim(&record, "u-1");
        record.session().reached("192.0.2.1:5432".parse().ok());
        let end = End {
            outcome: Outcome::Cut,
            ..unreachable()
        };
        assert_eq!(record.end(end).event, events::SESSION_ENDED);
    }
    assert!(super::lock(&audit.0.summaries).drain().is_empty());
}

#[tokio::test]
async fn checks_of_the_gateway_are_details() {
    let audit = Audit::default();
    let mut record = audit.begin(&gateway());
    record.session().claims("infisical-ping", true, None, None);
    let entry = record.end(End::COMPLETED);
    assert_eq!(entry.event.level, tracing::Level::DEBUG);
}

#[tokio::test]
async fn requests_that_all_failed_decide_the_outcome() {
    let audit = Audit::default();
    let record = audit.begin(&gateway());
    let session = record.session();
    assert_eq!(session.orderly_end().outcome, Outcome::Completed);
    session.request_failed(Outcome::Unreachable, "refused".to_owned());
    assert_eq!(session.orderly_end().outcome, Outcome::Unreachable);
    session.served();
    assert_eq!(session.orderly_end().outcome, Outcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn reports_have_the_newest_open_sessions() {
    let audit = Audit::default();
    let pending = || audit.changed().now_or_never().is_some();
    // One that is shaking hands, and a check of the gateway.
    let unknown = audit.begin(&gateway());
    let check = audit.begin(&gateway());
    check.session().claims("infisical-ping", true, None, None);
    assert!(!pending() && audit.report().sessions.is_empty());
    drop((unknown, check));
    assert!(!pending(), "nothing of them was reported");

    let begin = |id: &str| {
        let record = audit.begin(&gateway());
        claim(&record, id);
        record
    };
    let mut records: Vec<_> = (0..MAX_REPORTED + 5).map(|_| begin("u-1")).collect();
    assert!(pending() && !pending());
    let report = audit.report();
    assert_eq!(report.open, records.len() as u64);
    assert_eq!(report.sessions.len(), MAX_REPORTED);
    let newest = records.last().expect("many").session().id();
    assert_eq!(report.sessions[0].id, newest);
    let text = serde_json::to_vec(&report).expect("JSON");
    assert!(text.len() < 64 * 1024, "{}", text.len());
    records.truncate(1);
    assert!(pending());
    assert_eq!(audit.report().open, 1);
}

/// Whatever the texts of clients are, the platform takes the report.
#[tokio::test(start_paused = true)]
async fn long_texts_shorten_the_report() {
    let audit = Audit::default();
    let records: Vec<_> = (0..MAX_REPORTED).map(|_| audit.begin(&gateway())).collect();
    for record in &records {
        claim(record, &"\"".repeat(400));
    }
    let report = audit.report();
    assert_eq!(report.open, MAX_REPORTED as u64);
    assert!((1..MAX_REPORTED).contains(&report.sessions.len()));
    let text = serde_json::to_vec(&report).expect("JSON");
    assert!(text.len() < 64 * 1024, "{}", text.len());
}
