//! The record of grants: who asked for which session, and what became of it.
//!
//! Entries are only added, each before its caller has the answer, and numbered without a gap. The
//! oldest go when there are more than [`MAX_ENTRIES`], or after [`MAX_AGE`].

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{Error, Store, identities, millis, time};

/// Entries that are kept: some 60 MB.
const MAX_ENTRIES: i64 = 250_000;
/// How long an entry is kept.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

/// What [`entry`] reads, in its order.
const COLUMNS: &str = "number, at, actor_kind, actor_id, actor_name, gateway_id, gateway_name, \
    target, refusal_class, refusal_reason, left_out";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditEntry {
    pub(crate) number: i64,
    pub(crate) at: SystemTime,
    pub(crate) actor: AuditActor,
    /// The gateway's id, if there is one of that name.
    pub(crate) gateway_id: Option<String>,
    pub(crate) gateway_name: String,
    /// Host and port.
    pub(crate) target: String,
    /// Why nothing was issued.
    pub(crate) refusal: Option<Refusal>,
    /// Refusals since the entry before that are not on record, because there were too many.
    pub(crate) left_out: u64,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditActor {
    /// `administrator` for the token of that name; `identity`, `gateway` or `relay`.
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    /// The name that it had then.
    pub(crate) name: Option<String>,
}

/// Why the platform issued no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The kind of the API's error, such as `NotFound`.
    pub(crate) class: String,
    /// Its sentence.
    pub(crate) reason: String,
}

/// What is to be recorded; the store adds names, number and time.
#[derive(Debug)]
pub(crate) struct NewAuditEntry {
    pub(crate) actor_kind: &'static str,
    pub(crate) actor_id: Option<String>,
    pub(crate) gateway_name: String,
    pub(crate) target: String,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) left_out: u64,
}

impl Store {
    /// Writes an entry, and returns it.
    pub(crate) async fn record(
        &self,
        new: NewAuditEntry,
        now: SystemTime,
    ) -> Result<AuditEntry, Error> {
        self.call(move |tx| {
            let number = insert(tx, &new, now)?;
            forget(tx, number, now)?;
            let select = format!("SELECT {COLUMNS} FROM audit WHERE number = ?1");
            Ok(tx.query_row(&select, [number], entry)?)
        })
        .await
    }

    /// At most `limit` entries after the one with the number `after` that are not older than
    /// `since`, the oldest first.
    pub(crate) async fn audit(
        &self,
        since: SystemTime,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, Error> {
        self.call(move |tx| {
            let mut rows = tx.prepare(&format!(
                "SELECT {COLUMNS} FROM audit
                 WHERE number > ?1 AND at >= ?2 ORDER BY number LIMIT ?3"
            ))?;
            let entries = rows.query_map((after, millis(since), limit), entry)?;
            Ok(entries.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn insert(tx: &Transaction<'_>, new: &NewAuditEntry, now: SystemTime) -> Result<i64, Error> {
    let actor_name: Option<String> = match (new.actor_kind, &new.actor_id) {
        ("identity", Some(id)) => identities::name_of(tx, id)?,
        ("gateway", Some(id)) => name_of(tx, "SELECT name FROM gateway WHERE id = ?1", id)?,
        ("relay", Some(id)) => name_of(tx, "SELECT name FROM relay WHERE id = ?1", id)?,
        _ => None,
    };
    let select = "SELECT id FROM gateway WHERE name = ?1";
    let gateway_id = name_of(tx, select, &new.gateway_name)?;
    tx.execute(
        "INSERT INTO audit (at, actor_kind, actor_id, actor_name, gateway_id, gateway_name,
             target, refusal_class, refusal_reason, left_out)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        (
            millis(now),
            new.actor_kind,
            &new.actor_id,
            actor_name,
            gateway_id,
            &new.gateway_name,
            &new.target,
            new.refusal.as_ref().map(|refusal| &refusal.class),
            new.refusal.as_ref().map(|refusal| &refusal.reason),
            i64::try_from(new.left_out).unwrap_or(i64::MAX),
        ),
    )?;
    Ok(tx.last_insert_rowid())
}

fn name_of(tx: &Transaction<'_>, select: &str, key: &str) -> Result<Option<String>, Error> {
    let found = tx.query_row(select, [key], |row| row.get(0));
    Ok(found.optional()?)
}

/// Deletes the entries that are too many or too old. Numbers follow time, so both are at the
/// front: looking there is cheap.
fn forget(tx: &Transaction<'_>, newest: i64, now: SystemTime) -> Result<(), Error> {
    let oldest_time = millis(now.checked_sub(MAX_AGE).unwrap_or(now));
    tx.execute(
        "DELETE FROM audit WHERE number <= ?1",
        [newest.saturating_sub(MAX_ENTRIES)],
    )?;
    tx.execute(
        "DELETE FROM audit WHERE number < coalesce(
             (SELECT number FROM audit WHERE at >= ?1 ORDER BY number LIMIT 1), 0)",
        [oldest_time],
    )?;
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let class: Option<String> = row.get(8)?;
    let reason: Option<String> = row.get(9)?;
    Ok(AuditEntry {
        number: row.get(0)?,
        at: time(row.get(1)?),
        actor: AuditActor {
            kind: row.get(2)?,
            id: row.get(3)?,
            name: row.get(4)?,
        },
        gateway_id: row.get(5)?,
        gateway_name: row.get(6)?,
        target: row.get(7)?,
        refusal: class.map(|class| Refusal {
            class,
            reason: reason.unwrap_or_default(),
        }),
        left_out: u64::try_from(row.get::<_, i64>(10)?).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{MAX_AGE, MAX_ENTRIES, NewAuditEntry, Refusal};
    use crate::store::{Credential, Role, Store};
    use crate::token::{TokenHash, generate};

    fn asked(actor: Option<&str>) -> NewAuditEntry {
        NewAuditEntry {
            actor_kind: actor.map_or("administrator", |_| "identity"),
            actor_id: actor.map(str::to_owned),
            gateway_name: "edge".to_owned(),
            target: "db:5432".to_owned(),
            refusal: None,
            left_out: 0,
        }
    }

    #[tokio::test]
    async fn entries_keep_names_of_deleted_identities() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opened");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let token = TokenHash::of(&generate().expect("a token"));
        let token = Credential::Token(token);
        let made =
            store.create_identity("ci".to_owned(), vec![Role::Client], Vec::new(), token, now);
        let id = made.await.expect("created");
        let entry = store.record(asked(Some(&id)), now).await.expect("recorded");
        assert_eq!(entry.actor.name.as_deref(), Some("ci"));
        store.delete_identity(id.clone()).await.expect("deleted");
        let mut refused = asked(None);
        refused.refusal = Some(Refusal {
            class: "NotFound".to_owned(),
            reason: "there is no gateway".to_owned(),
        });
        refused.left_out = 7;
        store.record(refused, now).await.expect("recorded");
        let entries = store.audit(now, 0, 10).await.expect("read");
        let [first, second] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!(first.actor.id.as_ref(), Some(&id));
        assert_eq!(first.actor.name.as_deref(), Some("ci"));
        assert_eq!(first.refusal, None);
        assert_eq!(second.actor.kind, "administrator");
        assert_eq!(second.left_out, 7);
        let class = second.refusal.as_ref().map(|refusal| &*refusal.class);
        assert_eq!(class, Some("NotFound"));
        let later = store.audit(now, 1, 10).await.expect("read");
        assert_eq!(later.as_slice(), std::slice::from_ref(second));
        let limited = store.audit(now, 0, 1).await.expect("read");
        assert_eq!(limited.as_slice(), std::slice::from_ref(first));
        let none = store.audit(now + Duration::from_secs(1), 0, 10).await;
        assert!(none.expect("read").is_empty());
    }

    #[tokio::test]
    async fn oldest_entries_go_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opened");
        let begin = SystemTime::UNIX_EPOCH + MAX_AGE;
        for seconds in 0..3 {
            let at = begin + Duration::from_secs(seconds);
            store.record(asked(None), at).await.expect("recorded");
        }
        let numbers = async || {
            let entries = store.audit(SystemTime::UNIX_EPOCH, 0, 10).await;
            let entries = entries.expect("read").into_iter();
            entries.map(|entry| entry.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers().await, [1, 2, 3]);
        let at = begin + MAX_AGE + Duration::from_secs(1);
        store.record(asked(None), at).await.expect("recorded");
        assert_eq!(numbers().await, [2, 3, 4]);
        let many = move |tx: &rusqlite::Transaction<'_>| {
            let sql = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'audit'";
            tx.execute(sql, [MAX_ENTRIES + 2])?;
            Ok(())
        };
        store.call(many).await.expect("many entries later");
        store.record(asked(None), at).await.expect("recorded");
        assert_eq!(numbers().await, [4, MAX_ENTRIES + 3]);
    }
}
