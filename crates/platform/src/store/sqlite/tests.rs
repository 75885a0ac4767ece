//! The file: who may read it, what is never in it, and what an earlier program's becomes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::{FILE, Sqlite, millis};
use crate::store::relays::RelayStore as _;
use crate::store::tests::{HOUR, administrator, fresh, host, open_in, relay, store};
use crate::store::{AccessRights, Credential, Error, Owner, Principal, Reachability, Role};

/// The same as [`store`], with its tables at hand.
fn sqlite() -> (tempfile::TempDir, Sqlite, SystemTime) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Sqlite::open(directory.path(), HOUR).expect("opened");
    (directory, store, SystemTime::now())
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_private_and_hold_no_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let store = open_in(&state).expect("opened");
    let now = SystemTime::now();
    let (token, hash) = fresh();
    let credential = Credential::UniversalAuth {
        client_id: "id".to_owned(),
        client_secret: hash,
    };
    let created = store.create_identity(
        administrator(),
        "one".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    created.await.expect("created");
    let (access, access_hash) = fresh();
    let login = store.login(administrator(), "id".to_owned(), hash, access_hash, now);
    login.await.expect("logged in");

    assert_eq!(mode(&state), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&state).expect("listed") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).expect("read");
        for secret in [&token, &access] {
            let text = secret.expose().as_bytes();
            let found = bytes.windows(text.len()).any(|window| window == text);
            assert!(!found, "a secret is in {}", path.display());
        }
        files += 1;
    }
    assert!(files > 0);
}

#[tokio::test]
async fn file_readable_by_others_is_refused() {
    let (directory, store, _) = store();
    drop(store);
    let file = directory.path().join(FILE);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("opened up");
    let error = open_in(directory.path()).expect_err("exposed");
    assert!(error.to_string().contains("0600"), "{error}");
}

#[tokio::test]
async fn tables_of_newer_program_are_untouched() {
    let (directory, store, _) = sqlite();
    store
        .call(|tx| Ok(tx.pragma_update(None, "user_version", 99)?))
        .await
        .expect("written");
    drop(store);
    let error = open_in(directory.path()).expect_err("newer");
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error:?}");
}

/// Takes back what version 9 has added to a new database.
pub(super) const BEFORE_VERSION_9: &str = "
    DROP TABLE credentials_holder; DROP TABLE ca; DROP TABLE ca_generation;
    CREATE TABLE ca (name TEXT PRIMARY KEY, private_key TEXT NOT NULL,
        certificate TEXT NOT NULL) STRICT;";

#[tokio::test]
async fn cas_of_version_8_are_generation_1() {
    let (directory, store, now) = store();
    let made = store.register_relay(Owner::Instance, relay("eu-1"), host("a"), now);
    let id = made.await.expect("registered").id;
    drop(store);
    let old = rusqlite::Connection::open(directory.path().join(FILE)).expect("opened");
    old.execute_batch(BEFORE_VERSION_9).expect("taken back");
    old.execute_batch(
        "INSERT INTO organization VALUES ('o', 'acme', 'ed25519', 5);
         INSERT INTO ca VALUES ('ssh-user', 'key', 'certificate');
         PRAGMA user_version = 8",
    )
    .expect("older");
    drop(old);
    let store = open_in(directory.path()).expect("migrated");
    let generations = store.generations().await.expect("read");
    assert_eq!((generations.len(), generations[0].number), (1, 1));
    assert!(generations[0].signs_since.is_some());
    assert_eq!(generations[0].cas[0].name, "ssh-user");
    // It may have got its credentials a moment ago.
    let holders = store.holders().await.expect("read");
    assert_eq!((holders.len(), holders[0].id.as_str()), (1, id.as_str()));
    assert!(holders[0].expires_at > now);
    let added = store.add_generation(administrator(), Vec::new(), now).await;
    assert_eq!(added.expect("added"), 2);
    let again = store.add_generation(administrator(), Vec::new(), now).await;
    assert!(matches!(again, Err(Error::RotationUnderWay)), "{again:?}");
}

/// Tables of version 1, of which a test needs these.
const VERSION_1: &str = "
CREATE TABLE organization (id TEXT PRIMARY KEY, name TEXT NOT NULL, key_algorithm TEXT NOT NULL,
    created_at INTEGER NOT NULL) STRICT;
CREATE TABLE ca (name TEXT PRIMARY KEY, private_key TEXT NOT NULL,
    certificate TEXT NOT NULL) STRICT;
CREATE TABLE identity (id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
    client_id TEXT UNIQUE, client_secret_hash BLOB, created_at INTEGER NOT NULL) STRICT;
CREATE TABLE relay (id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('org', 'instance')), name TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL, identity_id TEXT REFERENCES identity ON DELETE CASCADE,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, heartbeat_at INTEGER) STRICT;
CREATE TABLE gateway (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    identity_id TEXT UNIQUE REFERENCES identity ON DELETE CASCADE,
    relay_id TEXT REFERENCES relay ON DELETE SET NULL, created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, heartbeat_at INTEGER, heartbeat_ttl_seconds INTEGER) STRICT;
CREATE TABLE access_token (hash BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('identity', 'gateway', 'relay')), subject TEXT NOT NULL,
    expires_at INTEGER, last_expiry INTEGER) STRICT;
CREATE INDEX access_token_subject ON access_token (kind, subject);
CREATE TABLE enrollment_token (hash BLOB PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('gateway', 'relay')), name TEXT NOT NULL, host TEXT,
    expires_at INTEGER NOT NULL) STRICT;
INSERT INTO identity VALUES ('gateway', 'g', 'member', NULL, NULL, 1);
INSERT INTO identity VALUES ('relay', 'r', 'member', NULL, NULL, 1);
INSERT INTO identity VALUES ('both', 'b', 'member', 'client', x'00', 1);
INSERT INTO identity VALUES ('unused', 'u', 'member', NULL, NULL, 1);
INSERT INTO identity VALUES ('outsider', 'o', 'no-access', NULL, NULL, 1);
INSERT INTO relay VALUES ('1', 'org', 'late', 'Relay.example', 'both', 20, ?1, ?1);
INSERT INTO relay VALUES ('2', 'org', 'early', 'relay.example', 'relay', 10, ?1, ?1);
INSERT INTO gateway VALUES
    ('5b0e3e0e-0000-4000-8000-000000000001', 'one', 'gateway', '2', 1, 1, NULL, NULL);
INSERT INTO gateway VALUES
    ('5b0e3e0e-0000-4000-8000-000000000002', 'two', 'both', '1', 1, 1, NULL, NULL);
PRAGMA user_version = 1;
";

#[tokio::test]
async fn identities_of_version_1_are_kept() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(FILE);
    let mut private = std::fs::OpenOptions::new();
    private.write(true).create_new(true).mode(0o600);
    private.open(&file).expect("made");
    let now = SystemTime::now();
    let mut tokens = Vec::new();
    {
        let old = rusqlite::Connection::open(&file).expect("opened");
        let tables = VERSION_1.replace("?1", &millis(now).to_string());
        old.execute_batch(&tables).expect("tables");
        for id in ["gateway", "relay", "both", "unused", "outsider"] {
            let (_, hash) = fresh();
            let row = (hash.as_bytes(), id);
            let insert = "INSERT INTO access_token VALUES (?1, 'identity', ?2, NULL, NULL)";
            old.execute(insert, row).expect("a token");
            tokens.push((id, hash));
        }
    }
    // Again, what is migrated already stays as it is.
    for _ in 0..2 {
        let store = open_in(directory.path()).expect("migrated");
        for (id, token) in &tokens {
            let principal = store.principal(*token, now).await.expect("read");
            let Some(Principal::Identity(identity)) = principal else {
                panic!("{id}: {principal:?}");
            };
            let expected: &[Role] = match *id {
                "gateway" => &[Role::Gateway],
                "relay" => &[Role::Relay],
                "both" | "unused" => &[Role::Gateway, Role::Relay],
                _ => &[],
            };
            assert_eq!(identity.roles, expected, "{id}");
        }
        // The host stays with the relay that had it first.
        let owner = |id: &str| Owner::Identity(id.to_owned());
        let early =
            store.register_relay(owner("relay"), relay("early"), host("relay.example"), now);
        early.await.expect("its own host");
        for late in [
            store.relay_of(owner("both"), relay("late"), now).await,
            store
                .register_relay(owner("both"), relay("late"), host("relay.example"), now)
                .await,
        ] {
            assert!(matches!(late, Err(Error::HostTaken { .. })), "{late:?}");
        }
        assert_eq!(store.gateways().await.expect("read").len(), 2);
    }
}

#[tokio::test]
async fn tables_of_version_2_are_kept() {
    let (directory, store, now) = store();
    let made = store.register_relay(Owner::Instance, relay("eu-1"), host("a"), now);
    made.await.expect("registered");
    drop(store);
    let old = rusqlite::Connection::open(directory.path().join(FILE)).expect("opened");
    for table in ["gateway", "relay"] {
        for column in ["heartbeat_failed_at", "program_version"] {
            let drop = format!("ALTER TABLE {table} DROP COLUMN {column}");
            old.execute_batch(&drop).expect("dropped");
        }
    }
    old.execute_batch(BEFORE_VERSION_9).expect("taken back");
    old.execute_batch(
        "DROP TABLE identity_person; DROP TABLE service;
         DROP TABLE audit; DROP TABLE audit_chain; DROP TABLE access_rule; DROP TABLE identity_group;
         ALTER TABLE gateway DROP COLUMN judges_addresses;
         INSERT INTO identity VALUES ('c', 'client', NULL, NULL, 1);
         INSERT INTO identity_role VALUES ('c', 'client');
         PRAGMA user_version = 2",
    )
    .expect("older");
    drop(old);
    let store = open_in(directory.path()).expect("migrated");
    // Its clients could reach everything.
    let access = store.access("c".to_owned(), "any".to_owned()).await;
    let Ok(AccessRights::Rules(rules)) = access else {
        panic!("{access:?}");
    };
    assert_eq!(
        (rules.len(), rules[0].target.to_string().as_str()),
        (1, "*")
    );
    let again = store.register_relay(Owner::Instance, relay("eu-1"), host("b"), now);
    let id = again.await.expect("it is known").id;
    let version = Some("1.2.3".to_owned());
    let note = |reached, later| store.relay_probed(id.clone(), reached, version.clone(), later);
    let reachability = async || {
        let relays = store.relays().await.expect("read");
        assert_eq!(relays[0].heartbeats.program_version, version);
        relays[0].reachability(now)
    };
    note(true, now).await.expect("noted");
    assert_eq!(reachability().await, Reachability::Reachable);
    let since = SystemTime::UNIX_EPOCH + HOUR;
    note(false, since).await.expect("noted");
    note(false, now).await.expect("noted");
    assert_eq!(reachability().await, Reachability::Unreachable { since });
    note(true, now).await.expect("noted");
    assert_eq!(reachability().await, Reachability::Reachable);
}

/// Relays that exist under a name that is no longer given keep working.
#[tokio::test]
async fn relays_of_earlier_programs_may_move() {
    let (_directory, store, now) = sqlite();
    let row =
        "INSERT INTO relay VALUES ('1', 'instance', 'Eu_1', 'a', NULL, 0, 0, NULL, NULL, NULL)";
    let added = store.call(move |tx| Ok(tx.execute(row, [])?)).await;
    added.expect("an earlier one");
    let moved = store.register_relay(Owner::Instance, relay("Eu_1"), host("b"), now);
    assert_eq!(moved.await.expect("moved").host, host("b"));
}
