//! What is kept, what a chain shows, and what an earlier program's record becomes.

use std::time::{Duration, SystemTime};

use rusqlite::Transaction;

use super::{WARNING_INTERVAL, is_warned_of};
use crate::store::audit::chain::{ORIGIN, Verified, hash};
use crate::store::audit::{AuditStore as _, MAX_ENTRIES};
use crate::store::identities::IdentityStore as _;
use crate::store::sqlite::identities::{MAX_TOKENS, insert_session};
use crate::store::sqlite::tests::BEFORE_VERSION_9;
use crate::store::sqlite::{FILE, Sqlite};
use crate::store::{
    Action, AuditEntry, Credential, Error, NewAuditEntry, Requester, Role, Subject, millis,
};
use crate::token::{TokenHash, generate};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a store keeps entries where no one says otherwise.
const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

fn begin() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn requester(kind: &'static str, id: Option<&str>) -> Requester {
    Requester {
        kind,
        id: id.map(str::to_owned),
        name: None,
        source: Some("192.0.2.7".parse().expect("an address")),
    }
}

fn asked(identity: Option<&str>) -> NewAuditEntry {
    let kind = identity.map_or("administrator", |_| "identity");
    NewAuditEntry {
        action: Action::OpenSession,
        requester: requester(kind, identity),
        subject: Some(Subject::named("gateway", Some("edge"))),
        details: Some("db:5432".to_owned()),
        refusal: None,
        left_out: 0,
    }
}

fn store() -> (tempfile::TempDir, Sqlite) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Sqlite::open(directory.path(), RETENTION).expect("opened");
    (directory, store)
}

async fn create(store: &Sqlite, name: &str) -> Result<String, Error> {
    let token = TokenHash::of(&generate().expect("a token"));
    let administrator = requester("administrator", None);
    let (roles, groups) = (vec![Role::Client], vec!["dba".to_owned()]);
    let token = Credential::Token(token);
    let created = store.create_identity(
        administrator,
        name.to_owned(),
        roles,
        groups,
        token,
        begin(),
    );
    created.await
}

/// Changes the tables behind the platform's back.
async fn tamper(store: &Sqlite, sql: &'static str) {
    let work = move |tx: &Transaction<'_>| Ok(tx.execute_batch(sql)?);
    store.call(work).await.expect("changed");
}

async fn verify(store: &Sqlite) -> Verified {
    store.verify_audit(0).await.expect("walked")
}

/// A refused session, of which the entry has every field.
async fn record_many(store: &Sqlite, count: u64) {
    let id = create(store, "ci").await.expect("created");
    for _ in 0..count {
        let mut entry = asked(Some(&id));
        entry.subject = Some(Subject::with_id("gateway", "an id", Some("edge")));
        entry.refusal = Some(("NotFound".to_owned(), "there is no gateway".to_owned()));
        let recorded = store.record(entry, SystemTime::now()).await;
        recorded.expect("recorded");
    }
}

#[tokio::test]
async fn entries_keep_names_of_deleted_identities() {
    let (_directory, store) = store();
    let now = SystemTime::now();
    let id = create(&store, "ci").await.expect("created");
    let entry = store.record(asked(Some(&id)), now).await;
    let entry = entry.expect("recorded").expect("an entry");
    assert_eq!(entry.actor_name.as_deref(), Some("ci"));
    let itself = requester("identity", Some(&id));
    let deleted = store.delete_identity(itself, id.clone()).await;
    deleted.expect("deleted");
    let mut refused = asked(None);
    refused.refusal = Some(("NotFound".to_owned(), "there is no gateway".to_owned()));
    refused.left_out = 7;
    store.record(refused, now).await.expect("recorded");
    let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 10).await;
    let entries = entries.expect("read");
    let [created, first, deleted, last] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(created.action, "create-identity");
    assert_eq!(created.subject_id.as_ref(), Some(&id));
    assert_eq!(created.details.as_deref(), Some("roles client; groups dba"));
    assert_eq!(created.source.as_deref(), Some("192.0.2.7"));
    assert_eq!(first, &entry);
    // It has deleted itself.
    assert_eq!(deleted.actor_name.as_deref(), Some("ci"));
    assert_eq!(deleted.subject_name.as_deref(), Some("ci"));
    assert_eq!((last.number, last.left_out), (4, 7));
    assert_eq!(last.refusal_class.as_deref(), Some("NotFound"));
    let limited = store.audit(SystemTime::UNIX_EPOCH, 1, 1).await;
    assert_eq!(limited.expect("read"), [entry]);
    let later = store.audit(SystemTime::now() + DAY, 0, 10).await;
    assert!(later.expect("read").is_empty());
}

#[tokio::test]
async fn failed_change_leaves_no_entry() {
    let (_directory, store) = store();
    for _ in 0..2 {
        let administrator = requester("administrator", None);
        let deleted = store.delete_identity(administrator, "unknown".to_owned());
        let deleted = deleted.await;
        assert!(matches!(deleted, Err(Error::UnknownIdentity(_))));
    }
    let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 10).await;
    assert!(entries.expect("read").is_empty());
}

/// And an entry that cannot be written undoes its change.
#[tokio::test]
async fn change_without_entry_is_not_made() {
    let (_directory, store) = store();
    tamper(&store, "DROP TABLE audit").await;
    create(&store, "ci").await.expect_err("no record");
    assert!(store.identities().await.expect("read").is_empty());
}

#[tokio::test]
async fn oldest_entries_go_first() {
    let (_directory, store) = store();
    for seconds in 0..3 {
        let at = begin() + Duration::from_secs(seconds);
        store.record(asked(None), at).await.expect("recorded");
    }
    let numbers = async || {
        let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 10).await;
        let entries = entries.expect("read").into_iter();
        entries.map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [1, 2, 3]);
    let at = begin() + RETENTION + Duration::from_secs(1);
    store.record(asked(None), at).await.expect("recorded");
    assert_eq!(numbers().await, [2, 3, 4]);
    let many = move |tx: &Transaction<'_>| {
        let sql = "UPDATE audit_chain SET newest_number = ?1";
        tx.execute(sql, [MAX_ENTRIES + 2])?;
        Ok(())
    };
    store.call(many).await.expect("many entries later");
    store.record(asked(None), at).await.expect("recorded");
    assert_eq!(numbers().await, [4, MAX_ENTRIES + 3]);
}

#[test]
fn full_record_warns_now_and_then() {
    let interval = WARNING_INTERVAL;
    assert!(is_warned_of(interval, interval));
    assert!(!is_warned_of(interval, interval + 1), "too old anyway");
    let warned = (1..=3 * interval).filter(|&number| is_warned_of(number, 1));
    assert_eq!(warned.count(), 3);
}

#[tokio::test]
async fn chain_holds_after_retention() {
    let (directory, store) = store();
    let empty = verify(&store).await;
    assert_eq!((empty.removed, empty.entries, empty.number), (0, 0, 0));
    assert_eq!((empty.broken, empty.hash.as_slice()), (None, &ORIGIN[..]));
    for days in 0..4 {
        let at = begin() + DAY * days;
        store.record(asked(None), at).await.expect("recorded");
    }
    let all = store.verify_audit(2).await.expect("walked");
    assert_eq!((all.removed, all.entries, all.number), (0, 4, 4));
    let second = all.asked.expect("the hash of the second");

    let now = begin() + DAY * 3;
    drop(store);
    let store = Sqlite::open(directory.path(), DAY).expect("opened");
    store.forget_old_entries(now).await.expect("removed");
    let found = store.verify_audit(2).await.expect("walked");
    assert_eq!((found.removed, found.entries, found.broken), (2, 2, None));
    assert_eq!(found.hash, all.hash);
    // Of the last removed one the hash is still known.
    assert_eq!(found.asked, Some(second));
    assert_eq!(store.verify_audit(1).await.expect("walked").asked, None);

    let later = now + DAY * 30;
    store.forget_old_entries(later).await.expect("removed");
    let found = verify(&store).await;
    assert_eq!((found.removed, found.entries, found.number), (4, 0, 4));
    assert_eq!((found.broken, found.hash), (None, all.hash));
    store.record(asked(None), now).await.expect("recorded");
    let found = verify(&store).await;
    assert_eq!((found.number, found.broken), (5, None));
}

#[tokio::test]
async fn every_changed_column_breaks_the_chain() {
    let (_directory, store) = store();
    record_many(&store, 3).await;
    assert_eq!(verify(&store).await.broken, None);
    for sql in [
        "UPDATE audit SET at = at + 1 WHERE number = 3",
        "UPDATE audit SET kind = 'login' WHERE number = 3",
        "UPDATE audit SET action = 'log-in' WHERE number = 3",
        "UPDATE audit SET actor_kind = 'administrator' WHERE number = 3",
        "UPDATE audit SET actor_id = NULL WHERE number = 3",
        "UPDATE audit SET actor_name = 'cd' WHERE number = 3",
        "UPDATE audit SET source = '192.0.2.8' WHERE number = 3",
        "UPDATE audit SET subject_kind = NULL WHERE number = 3",
        "UPDATE audit SET subject_id = 'other' WHERE number = 3",
        // The same bytes in other fields.
        "UPDATE audit SET subject_name = 'edg', details = 'edb:5432' WHERE number = 3",
        "UPDATE audit SET details = '' WHERE number = 3",
        "UPDATE audit SET refusal_class = NULL WHERE number = 3",
        "UPDATE audit SET refusal_reason = NULL WHERE number = 3",
        "UPDATE audit SET left_out = -1 WHERE number = 3",
        "UPDATE audit SET hash = zeroblob(32) WHERE number = 3",
        "UPDATE audit SET actor_id = CAST(x'ff' AS TEXT) WHERE number = 3",
        "DELETE FROM audit WHERE number = 3",
        "UPDATE audit SET number = 30 WHERE number = 3",
    ] {
        let work = move |tx: &Transaction<'_>| {
            tx.execute_batch("CREATE TABLE kept AS SELECT * FROM audit")?;
            tx.execute_batch(sql)?;
            Ok(())
        };
        store.call(work).await.expect("changed");
        let found = verify(&store).await;
        let broken = found.broken.expect(sql);
        assert_eq!((broken.number, found.entries), (3, 2), "{sql}");
        let back = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DROP TABLE kept";
        tamper(&store, back).await;
        assert_eq!(verify(&store).await.broken, None, "{sql}");
    }
    for sql in [
        "DELETE FROM audit WHERE number = 4",
        "UPDATE audit_chain SET newest_number = 3",
        "UPDATE audit_chain SET newest_hash = zeroblob(32)",
    ] {
        tamper(&store, sql).await;
        assert!(verify(&store).await.broken.is_some(), "{sql}");
    }
}

/// More entries than one page has.
#[tokio::test]
async fn pages_of_the_walk_join() {
    let (_directory, store) = store();
    let work = |tx: &Transaction<'_>| {
        for _ in 0..4001 {
            super::insert(tx, asked(None), begin(), RETENTION)?;
        }
        Ok(())
    };
    store.call(work).await.expect("recorded");
    let found = store.verify_audit(2500).await.expect("walked");
    assert_eq!((found.entries, found.number), (4001, 4001));
    assert_eq!(found.broken, None);
    let kept = store.audit(SystemTime::UNIX_EPOCH, 2499, 1).await;
    assert_eq!(found.asked.as_ref(), Some(&kept.expect("read")[0].hash));
    tamper(&store, "UPDATE audit SET details = 'x' WHERE number = 3500").await;
    let broken = verify(&store).await.broken.expect("it was changed");
    assert_eq!(broken.number, 3500);
}

/// The encoding that docs/platform.md describes, byte by byte.
#[tokio::test]
async fn hash_is_over_the_documented_bytes() {
    let (_directory, store) = store();
    let entry = store.record(asked(None), begin()).await;
    let mut entry = entry.expect("recorded").expect("an entry");
    let mut bytes = Vec::new();
    let mut add = |field: Option<&[u8]>| match field {
        None => bytes.push(0),
        Some(field) => {
            bytes.push(1);
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field);
        }
    };
    add(Some(&[0; 32]));
    add(Some(&1_i64.to_be_bytes()));
    add(Some(&1_800_000_000_000_i64.to_be_bytes()));
    for text in ["session", "open-session", "administrator"] {
        add(Some(text.as_bytes()));
    }
    add(None);
    add(None);
    add(Some(b"192.0.2.7"));
    add(Some(b"gateway"));
    add(None);
    for text in ["edge", "db:5432"] {
        add(Some(text.as_bytes()));
    }
    add(None);
    add(None);
    add(Some(&0_i64.to_be_bytes()));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    assert_eq!(entry.hash, digest.as_ref());
    let before = entry.hash.clone();
    entry.left_out = 1;
    assert_ne!(hash(&[0; 32], &entry), before);
}

#[tokio::test]
async fn record_of_version_5_is_chained() {
    const VERSION_5: &str = "
        DROP TABLE identity_person; DROP TABLE service; DROP TABLE audit; DROP TABLE audit_chain;
        CREATE TABLE audit (number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
            actor_kind TEXT NOT NULL, actor_id TEXT, actor_name TEXT, gateway_id TEXT,
            gateway_name TEXT NOT NULL, target TEXT NOT NULL, refusal_class TEXT,
            refusal_reason TEXT, left_out INTEGER NOT NULL) STRICT;
        INSERT INTO audit VALUES
            (7, ?1, 'identity', 'i', 'ci', 'g', 'edge', 'db:1', NULL, NULL, 0),
            (8, ?1, 'administrator', NULL, NULL, NULL, 'x', 'db:2', 'NotFound', 'none', 3);
        PRAGMA user_version = 5;";
    for is_empty in [false, true] {
        let (directory, store) = store();
        drop(store);
        let file = directory.path().join(FILE);
        let old = rusqlite::Connection::open(file).expect("opened");
        let now = millis(SystemTime::now()).to_string();
        old.execute_batch(BEFORE_VERSION_9).expect("taken back");
        old.execute_batch(&VERSION_5.replace("?1", &now))
            .expect("older");
        if is_empty {
            old.execute_batch("DELETE FROM audit").expect("emptied");
        }
        drop(old);
        let store = Sqlite::open(directory.path(), RETENTION).expect("migrated");
        let found = verify(&store).await;
        assert_eq!(found.broken, None);
        if is_empty {
            // Numbers never come again.
            assert_eq!((found.removed, found.entries, found.number), (8, 0, 8));
            continue;
        }
        assert_eq!((found.removed, found.entries, found.number), (6, 2, 8));
        let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 10).await;
        let entries = entries.expect("read");
        assert_eq!(entries[0].kind, "session");
        assert_eq!(entries[0].subject_name.as_deref(), Some("edge"));
        assert_eq!(entries[0].details.as_deref(), Some("db:1"));
        assert_eq!(entries[1].refusal_class.as_deref(), Some("NotFound"));
        let next = store.record(asked(None), SystemTime::now()).await;
        assert_eq!(next.expect("recorded").map(|entry| entry.number), Some(9));
        assert_eq!(verify(&store).await.entries, 3);
    }
}

/// An identity that logs in without end pushes out no entry of others, and is counted.
#[tokio::test]
async fn flood_of_logins_is_counted() {
    let (_directory, store) = store();
    let secret = TokenHash::of(&generate().expect("a secret"));
    let credential = Credential::UniversalAuth {
        client_id: "id".to_owned(),
        client_secret: secret,
    };
    let administrator = requester("administrator", None);
    let created = store.create_identity(
        administrator,
        "ci".to_owned(),
        vec![Role::Client],
        Vec::new(),
        credential,
        begin(),
    );
    let id = created.await.expect("created");
    let log_in = async || {
        let unauthenticated = requester("unauthenticated", None);
        let token = TokenHash::of(&generate().expect("a token"));
        let now = SystemTime::now();
        let login = store.login(unauthenticated, "id".to_owned(), secret, token, now);
        login.await.expect("logged in");
    };
    for _ in 0..80 {
        log_in().await;
    }
    let mut refused = asked(Some(&id));
    refused.action = Action::LogIn;
    refused.refusal = Some(("Forbidden".to_owned(), "no".to_owned()));
    let recorded = store.record(refused, SystemTime::now()).await;
    assert!(recorded.expect("recorded").is_some());
    for _ in 0..2 {
        let counted = store.record_login_counts(SystemTime::now()).await;
        counted.expect("recorded");
    }
    let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 1000).await;
    let entries = entries.expect("read");
    let is_login = |entry: &&AuditEntry| entry.action == "log-in" && entry.refusal_class.is_none();
    let listed = entries.iter().filter(is_login).count();
    assert!(listed < 80, "{listed}");
    let last = entries.last().expect("an entry");
    assert_eq!(last.action, "count-logins");
    assert_eq!(last.left_out, 80 - i64::try_from(listed).expect("few"));
    assert_eq!(last.actor_name.as_deref(), Some("ci"));
    assert_eq!(last.subject_id.as_ref(), Some(&id));
    assert_eq!(entries.len(), 1 + listed + 2, "one summary");
}

/// Tokens of one identity take bounded room; the newest ones are valid.
#[tokio::test]
async fn tokens_of_an_identity_are_bounded() {
    let (_directory, store) = store();
    let id = create(&store, "ci").await.expect("created");
    let now = SystemTime::now();
    let owner = id.clone();
    let fill = move |tx: &Transaction<'_>| {
        tx.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT 20000)
             INSERT INTO access_token SELECT CAST(n AS BLOB), 'identity', ?1, ?2 + n, ?2 + n
             FROM number",
            (owner, millis(now + DAY)),
        )?;
        Ok(())
    };
    store.call(fill).await.expect("filled");
    let token = TokenHash::of(&generate().expect("a token"));
    let newest = id.clone();
    let log_in = move |tx: &Transaction<'_>| {
        insert_session(tx, token, &newest, now, now + 2 * DAY)?;
        let count = "SELECT COUNT(*) FROM access_token WHERE expires_at IS NOT NULL";
        Ok(tx.query_row(count, [], |row| row.get::<_, i64>(0))?)
    };
    let count = store.call(log_in).await.expect("logged in");
    assert_eq!(count, MAX_TOKENS);
    let lasting = "SELECT COUNT(*) FROM access_token WHERE expires_at IS NULL";
    let lasting = move |tx: &Transaction<'_>| Ok(tx.query_row(lasting, [], |row| row.get(0))?);
    let lasting: i64 = store.call(lasting).await.expect("counted");
    assert_eq!(lasting, 1, "the token that does not expire");
    assert!(store.principal(token, now).await.expect("read").is_some());
}
