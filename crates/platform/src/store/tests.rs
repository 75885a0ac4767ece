//! What survives a restart, who wins a race, and what is never written down.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::audit::{AuditedStore, Requester};
use super::{AccessRights, Credential, Error, Owner, Principal, Reachability, Role, Store};
use crate::authority::{CaRecord, KeyAlgorithm};
use crate::config::settings::RelayKind;
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::secret::Secret;
use crate::token::{self, TokenHash};

const HOUR: Duration = Duration::from_secs(3600);

fn gateway(text: &str) -> GatewayName {
    GatewayName::try_new(text).expect("a name")
}

fn relay(text: &str) -> RelayName {
    RelayName::try_new(text).expect("a name")
}

fn host(text: &str) -> RelayHost {
    RelayHost::try_new(text).expect("a host")
}

fn fresh() -> (Secret, TokenHash) {
    let token = token::generate().expect("a token");
    let hash = TokenHash::of(&token);
    (token, hash)
}

/// A store in a directory that vanishes with it, and the time at which it began.
fn store() -> (tempfile::TempDir, Store, SystemTime) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("opened");
    (directory, store, SystemTime::now())
}

/// The store for changes of the administrator.
fn audited(store: &Store) -> AuditedStore {
    store.audited(Requester {
        kind: "administrator",
        id: None,
        name: None,
        source: None,
    })
}

async fn identity(store: &Store, now: SystemTime) -> (String, TokenHash) {
    let (_, hash) = fresh();
    let credential = Credential::Token(hash);
    let created = audited(store).create_identity(
        "someone".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    (created.await.expect("created"), hash)
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("new/state");
    let now = SystemTime::now();
    let store = Store::open(&state).expect("opened");
    let create = |_, _: &_| {
        Ok(vec![CaRecord {
            name: "ssh-user".to_owned(),
            private_key: Secret::new("the key"),
            certificate: "the certificate".to_owned(),
        }])
    };
    let algorithm = Some(KeyAlgorithm::Ed25519);
    let first = store
        .foundation(algorithm, Some("acme"), create, now)
        .expect("made");
    let (id, token) = identity(&store, now).await;
    let owner = Owner::Identity(id.clone());
    let registered = store.register_relay(owner.clone(), relay("eu"), host("192.0.2.1"), now);
    let registered = registered.await.expect("registered");
    let (known, _) = store
        .register_gateway(id, gateway("office"), relay("eu"), now)
        .await
        .expect("registered");
    let (_, enrollment) = fresh();
    audited(&store)
        .allow_gateway(enrollment, gateway("barn"), now)
        .await
        .expect("allowed");
    let ttl = Duration::from_secs(60);
    store
        .gateway_probed(
            known.id.clone(),
            Some(ttl),
            Some("1.2.3".to_owned()),
            false,
            now,
        )
        .await
        .expect("noted");
    store
        .relay_probed(registered.id.clone(), true, None, now)
        .await
        .expect("noted");
    drop(store);

    let store = Store::open(&state).expect("opened again");
    let never = |_, _: &_| panic!("there are CAs already");
    let second = store.foundation(None, None, never, now).expect("kept");
    assert_eq!(second.organization, first.organization);
    assert_eq!(second.organization.name, "acme");
    assert_eq!(second.algorithm, KeyAlgorithm::Ed25519);
    assert_eq!(second.cas.len(), 1);
    assert_eq!(second.cas[0].private_key, Secret::new("the key"));
    let gateways = store.gateways().await.expect("read");
    assert_eq!(gateways.len(), 1);
    assert_eq!(gateways[0].id, known.id);
    assert_eq!(gateways[0].heartbeat_ttl, Some(ttl));
    let through = gateways[0].relay.as_ref().expect("its relay");
    assert_eq!(
        (&through.id, through.kind),
        (&registered.id, RelayKind::Org)
    );
    assert!(through.heartbeats.succeeded_at.is_some());
    let principal = store.principal(token, now).await.expect("read");
    assert!(matches!(principal, Some(Principal::Identity(_))));
    let (_, access) = fresh();
    audited(&store)
        .enroll_gateway(enrollment, access, now)
        .await
        .expect("the enrollment token still works");
    store
        .relay_of(owner, relay("eu"), now)
        .await
        .expect("it still owns it");
}

#[tokio::test]
async fn platform_keys_are_chosen_once() {
    let (_directory, store, now) = store();
    let none = |_, _: &_| Ok(Vec::new());
    let made = store.foundation(None, None, none, now).expect("made");
    assert_eq!(made.algorithm, KeyAlgorithm::Ed25519);
    let renamed = store
        .foundation(None, Some("acme"), none, now)
        .expect("kept");
    assert_eq!(renamed.organization.id, made.organization.id);
    assert_eq!(renamed.organization.name, "acme");
    let error = store
        .foundation(Some(KeyAlgorithm::Rsa2048), None, none, now)
        .expect_err("other keys");
    assert!(matches!(error, Error::OtherAlgorithm { .. }), "{error:?}");
}

#[tokio::test]
async fn files_are_private_and_hold_no_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let store = Store::open(&state).expect("opened");
    let now = SystemTime::now();
    let (token, hash) = fresh();
    let credential = Credential::UniversalAuth {
        client_id: "id".to_owned(),
        client_secret: hash,
    };
    let created = audited(&store).create_identity(
        "one".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    created.await.expect("created");
    let (access, access_hash) = fresh();
    let login = audited(&store).login("id".to_owned(), hash, access_hash, now);
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
    let file = directory.path().join(super::FILE);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("opened up");
    let error = Store::open(directory.path()).expect_err("exposed");
    assert!(error.to_string().contains("0600"), "{error}");
}

#[tokio::test]
async fn tables_of_newer_program_are_untouched() {
    let (directory, store, _) = store();
    store
        .call(|tx| Ok(tx.pragma_update(None, "user_version", 99)?))
        .await
        .expect("written");
    drop(store);
    let error = Store::open(directory.path()).expect_err("newer");
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_token_race_has_one_winner() {
    let (_directory, store, now) = store();
    let (_, token) = fresh();
    audited(&store)
        .allow_gateway(token, gateway("office"), now)
        .await
        .expect("allowed");
    let racers: Vec<_> = (0..16).map(|_| fresh().1).collect();
    let attempts = racers
        .iter()
        .map(|access| audited(&store).enroll_gateway(token, *access, now));
    let results = futures_util::future::join_all(attempts).await;
    let mut winners = 0;
    for (result, access) in results.into_iter().zip(racers) {
        let principal = store.principal(access, now).await.expect("read");
        match result {
            Ok((id, name)) => {
                winners += 1;
                assert_eq!(name, gateway("office"));
                assert!(matches!(principal, Some(Principal::Gateway(own)) if own == id));
            }
            Err(error) => {
                assert!(matches!(error, Error::Enrollment), "{error:?}");
                assert!(principal.is_none());
            }
        }
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn enrollment_token_has_lifetime_and_kind() {
    let (_directory, store, now) = store();
    let (_, token) = fresh();
    let (_, access) = fresh();
    let allowed = audited(&store).allow_relay(token, relay("eu"), host("relay.example"), now);
    allowed.await.expect("allowed");
    let refused = audited(&store).enroll_gateway(token, access, now).await;
    assert!(matches!(refused, Err(Error::Enrollment)), "{refused:?}");
    let refused = audited(&store)
        .enroll_relay(token, access, now + HOUR)
        .await;
    assert!(matches!(refused, Err(Error::Enrollment)), "{refused:?}");
    let just = now + HOUR - Duration::from_secs(1);
    let enrolled = audited(&store)
        .enroll_relay(token, access, just)
        .await
        .expect("enrolled");
    assert_eq!(enrolled.host, host("relay.example"));
    assert_eq!(enrolled.kind, RelayKind::Org);
}

#[tokio::test]
async fn enrolling_again_replaces_the_token() {
    let (_directory, store, now) = store();
    let mut enrolled = Vec::new();
    for _ in 0..2 {
        let ((_, token), (_, access)) = (fresh(), fresh());
        let allowed = audited(&store).allow_gateway(token, gateway("office"), now);
        allowed.await.expect("allowed");
        let id = audited(&store).enroll_gateway(token, access, now).await;
        enrolled.push((id.expect("enrolled"), access));
    }
    assert_eq!(enrolled[0].0, enrolled[1].0);
    assert!(
        store
            .principal(enrolled[0].1, now)
            .await
            .expect("read")
            .is_none()
    );
    assert!(
        store
            .principal(enrolled[1].1, now)
            .await
            .expect("read")
            .is_some()
    );
}

#[tokio::test]
async fn a_gateways_name_has_one_owner() {
    let (_directory, store, now) = store();
    let (one, _) = identity(&store, now).await;
    let (two, _) = identity(&store, now).await;
    let owner = Owner::Identity(one.clone());
    let made = store.register_relay(owner, relay("eu"), host("192.0.2.1"), now);
    made.await.expect("registered");
    let register = |id: &str, name: &str, through: &str| {
        store.register_gateway(id.to_owned(), gateway(name), relay(through), now)
    };
    let (first, _) = register(&one, "office", "eu").await.expect("registered");
    let (again, _) = register(&one, "office", "eu").await.expect("again");
    assert_eq!(first.id, again.id);
    let taken = register(&two, "office", "eu").await;
    assert!(matches!(taken, Err(Error::NameTaken(_))), "{taken:?}");
    let (_, token) = fresh();
    let taken = audited(&store)
        .allow_gateway(token, gateway("office"), now)
        .await;
    assert!(matches!(taken, Err(Error::NameTaken(_))), "{taken:?}");
    let unknown = register(&two, "barn", "us").await;
    assert!(
        matches!(unknown, Err(Error::UnknownRelay(_))),
        "{unknown:?}"
    );
    // An identity has one gateway; another name is a new name for it.
    let (renamed, _) = register(&one, "attic", "eu").await.expect("renamed");
    assert_eq!(renamed.id, first.id);
    register(&two, "office", "eu")
        .await
        .expect("the name is free");
    let id = register(&one, first.id.as_str(), "eu").await;
    assert!(matches!(id, Err(Error::NameLooksLikeId(_))), "{id:?}");
}

#[tokio::test]
async fn relay_may_move_but_not_change_hands() {
    let (_directory, store, now) = store();
    let (one, _) = identity(&store, now).await;
    let (two, _) = identity(&store, now).await;
    let register = |owner: Owner, at: &str| store.register_relay(owner, relay("eu"), host(at), now);
    let owner = Owner::Identity(one);
    let first = register(owner.clone(), "192.0.2.1").await.expect("new");
    let moved = register(owner, "192.0.2.2").await.expect("moved");
    assert_eq!((moved.id, moved.host), (first.id, host("192.0.2.2")));
    for other in [Owner::Identity(two), Owner::Instance, Owner::Enrolled] {
        let taken = register(other.clone(), "192.0.2.3").await;
        assert!(matches!(taken, Err(Error::NameTaken(_))), "{taken:?}");
        let foreign = store.relay_of(other, relay("eu"), now).await;
        assert!(matches!(foreign, Err(Error::NotOwner(_))), "{foreign:?}");
    }
}

#[tokio::test]
async fn deleted_gateways_token_opens_nothing() {
    let (_directory, store, now) = store();
    let ((_, token), (_, access)) = (fresh(), fresh());
    let allowed = audited(&store).allow_gateway(token, gateway("office"), now);
    allowed.await.expect("allowed");
    let (id, _) = audited(&store)
        .enroll_gateway(token, access, now)
        .await
        .expect("enrolled");
    audited(&store)
        .delete_gateway(gateway("office"))
        .await
        .expect("deleted");
    let principal = store.principal(access, now).await.expect("read");
    assert!(matches!(principal, Some(Principal::Gateway(_))));
    let gone = store.connect_gateway(id, None, now).await;
    assert!(matches!(gone, Err(Error::GatewayDeleted)), "{gone:?}");
    let twice = audited(&store).delete_gateway(gateway("office")).await;
    assert!(matches!(twice, Err(Error::UnknownGateway(_))), "{twice:?}");
}

#[tokio::test]
async fn deleting_an_identity_takes_everything_it_had() {
    let (_directory, store, now) = store();
    let (id, token) = identity(&store, now).await;
    let owner = Owner::Identity(id.clone());
    let made = store.register_relay(owner, relay("eu"), host("192.0.2.1"), now);
    made.await.expect("registered");
    let registered = store.register_gateway(id.clone(), gateway("office"), relay("eu"), now);
    registered.await.expect("registered");
    audited(&store)
        .delete_identity(id.clone())
        .await
        .expect("deleted");
    assert!(store.principal(token, now).await.expect("read").is_none());
    assert!(store.gateways().await.expect("read").is_empty());
    assert!(store.relays().await.expect("read").is_empty());
    let twice = audited(&store).delete_identity(id).await;
    assert!(matches!(twice, Err(Error::UnknownIdentity(_))), "{twice:?}");
}

#[tokio::test]
async fn login_is_renewable_to_its_maximum_age() {
    let (_directory, store, now) = store();
    let (_, secret) = fresh();
    let (_, token) = fresh();
    let credential = Credential::UniversalAuth {
        client_id: "id".to_owned(),
        client_secret: secret,
    };
    let created = audited(&store).create_identity(
        "one".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    created.await.expect("created");
    for (client, secret) in [("id", token), ("other", secret)] {
        let refused = audited(&store)
            .login(client.to_owned(), secret, token, now)
            .await;
        assert!(matches!(refused, Err(Error::Credentials)), "{refused:?}");
    }
    let lifetime = audited(&store)
        .login("id".to_owned(), secret, token, now)
        .await;
    let lifetime = lifetime.expect("logged in");
    let half = lifetime.expires_in / 2;
    let mut at = now;
    while at + half < now + lifetime.max_ttl {
        at += half;
        store.renew(token, at).await.expect("renewed");
    }
    let last = store.renew(token, at).await.expect("renewed").expires_in;
    assert!(last <= half, "{last:?}");
    assert!(store.principal(token, at).await.expect("read").is_some());
    let end = now + lifetime.max_ttl;
    assert!(store.principal(token, end).await.expect("read").is_none());
    let over = store.renew(token, end).await;
    assert!(matches!(over, Err(Error::Token)), "{over:?}");
}

#[tokio::test]
async fn healthy_relay_of_own_organization_is_preferred() {
    let (_directory, store, now) = store();
    let ((_, token), (_, access)) = (fresh(), fresh());
    let allowed = audited(&store).allow_gateway(token, gateway("office"), now);
    allowed.await.expect("allowed");
    let (id, _) = audited(&store)
        .enroll_gateway(token, access, now)
        .await
        .expect("enrolled");
    let choose = |at| store.connect_gateway(id.clone(), None, at);
    let none = choose(now).await;
    assert!(matches!(none, Err(Error::NoRelay)), "{none:?}");

    let mut ids = Vec::new();
    for (owner, name, at) in [
        (Owner::Instance, "shared", "192.0.2.1"),
        (Owner::Enrolled, "own", "192.0.2.2"),
    ] {
        let made = store.register_relay(owner, relay(name), host(at), now);
        ids.push(made.await.expect("registered").id);
    }
    let stale = choose(now + HOUR).await;
    assert!(matches!(stale, Err(Error::NoRelay)), "{stale:?}");
    let later = now + HOUR;
    store
        .relay_probed(ids[0].clone(), true, None, later)
        .await
        .expect("noted");
    let (_, chosen) = choose(later).await.expect("the only healthy one");
    assert_eq!(chosen.name, relay("shared"));
    store
        .relay_probed(ids[1].clone(), true, None, later)
        .await
        .expect("noted");
    let (_, kept) = choose(later).await.expect("both are healthy");
    assert_eq!(kept.name, relay("shared"), "it stays with a healthy relay");
    let much_later = later + HOUR;
    for id in ids {
        store
            .relay_probed(id, true, None, much_later)
            .await
            .expect("noted");
    }
    let named = store.connect_gateway(id.clone(), Some(relay("own")), much_later);
    let (_, named) = named.await.expect("named");
    assert_eq!(named.name, relay("own"));
}

#[test]
fn own_organizations_relay_is_best() {
    let now = SystemTime::now();
    let make = |kind, name, heartbeat: Option<Duration>| super::Relay {
        id: String::new(),
        kind,
        name: relay(name),
        host: host("192.0.2.1"),
        identity_id: None,
        created_at: now,
        updated_at: now - Duration::from_secs(60),
        heartbeats: super::Heartbeats {
            succeeded_at: heartbeat.map(|age| now - age),
            ..super::Heartbeats::default()
        },
    };
    let second = Duration::from_secs(1);
    let shared = || make(RelayKind::Instance, "shared", Some(second));
    let own = || make(RelayKind::Org, "own", Some(60 * second));
    let silent = || make(RelayKind::Org, "silent", None);
    let choose = |relays| super::relays::choose(relays, now).map(|relay| relay.name.to_string());
    assert_eq!(
        choose(vec![shared(), own(), silent()]).as_deref(),
        Some("own")
    );
    assert_eq!(choose(vec![silent(), shared()]).as_deref(), Some("shared"));
    assert_eq!(choose(vec![silent()]).as_deref(), Some("silent"));
    assert_eq!(choose(Vec::new()), None);
}

/// Tables of version 1, of which a test needs these.
const VERSION_1: &str = "
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
    let file = directory.path().join(super::FILE);
    let mut private = std::fs::OpenOptions::new();
    private.write(true).create_new(true).mode(0o600);
    private.open(&file).expect("made");
    let now = SystemTime::now();
    let mut tokens = Vec::new();
    {
        let old = rusqlite::Connection::open(&file).expect("opened");
        let tables = VERSION_1.replace("?1", &super::millis(now).to_string());
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
        let store = Store::open(directory.path()).expect("migrated");
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
    let old = rusqlite::Connection::open(directory.path().join(super::FILE)).expect("opened");
    for table in ["gateway", "relay"] {
        for column in ["heartbeat_failed_at", "program_version"] {
            let drop = format!("ALTER TABLE {table} DROP COLUMN {column}");
            old.execute_batch(&drop).expect("dropped");
        }
    }
    old.execute_batch(
        "DROP TABLE audit; DROP TABLE audit_chain; DROP TABLE access_rule; DROP TABLE identity_group;
         ALTER TABLE gateway DROP COLUMN judges_addresses;
         INSERT INTO identity VALUES ('c', 'client', NULL, NULL, 1);
         INSERT INTO identity_role VALUES ('c', 'client');
         PRAGMA user_version = 2",
    )
    .expect("older");
    drop(old);
    let store = Store::open(directory.path()).expect("migrated");
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

/// What was created is listed without secrets, and a revoked token enrolls no one.
#[tokio::test]
async fn revoked_enrollment_token_is_refused() {
    let (_directory, store, now) = store();
    let (_, first) = fresh();
    audited(&store)
        .allow_gateway(first, gateway("edge"), now)
        .await
        .expect("allowed");
    let listed = store.enrollments(now).await.expect("read");
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "edge"));
    let gateways = super::EnrollmentKind::Gateway;
    let revoke = || audited(&store).revoke_enrollments(gateways, "edge".to_owned(), now);
    revoke().await.expect("revoked");
    let again = revoke().await;
    assert!(
        matches!(again, Err(Error::UnknownEnrollment { .. })),
        "{again:?}"
    );
    let enrolled = audited(&store).enroll_gateway(first, fresh().1, now).await;
    assert!(matches!(enrolled, Err(Error::Enrollment)), "{enrolled:?}");
    assert!(store.enrollments(now).await.expect("read").is_empty());
}

/// The platform's slugs; relays that exist under another name keep working.
#[tokio::test]
async fn new_relays_have_reachable_hosts() {
    let (_directory, store, now) = store();
    for bad in ["Eu", "eu_1", "eu.1"] {
        let made = store.register_relay(Owner::Instance, relay(bad), host("192.0.2.1"), now);
        let error = made.await.expect_err(bad);
        assert!(matches!(error, Error::NotASlug(_)), "{bad}: {error:?}");
        let allowed = audited(&store).allow_relay(fresh().1, relay(bad), host("a"), now);
        assert!(matches!(allowed.await, Err(Error::NotASlug(_))), "{bad}");
    }
    for bad in ["256.1.1.1", "1.2.3", "0"] {
        let made = store.register_relay(Owner::Instance, relay("eu-1"), host(bad), now);
        assert!(matches!(made.await, Err(Error::NumericHost(_))), "{bad}");
    }
    let row =
        "INSERT INTO relay VALUES ('1', 'instance', 'Eu_1', 'a', NULL, 0, 0, NULL, NULL, NULL)";
    let added = store.call(move |tx| Ok(tx.execute(row, [])?)).await;
    added.expect("an earlier one");
    let moved = store.register_relay(Owner::Instance, relay("Eu_1"), host("b"), now);
    assert_eq!(moved.await.expect("moved").host, host("b"));
}
