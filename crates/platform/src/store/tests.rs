//! What survives a restart, who wins a race, and what is never written down.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Credential, Error, Owner, Principal, Requester, Role, Store, foundation, open};
use crate::authority::{CaRecord, KeyAlgorithm, Organization};
use crate::config::settings::RelayKind;
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::secret::Secret;
use crate::token::{self, TokenHash};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How long a store keeps entries of the record.
const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

pub(super) fn gateway(text: &str) -> GatewayName {
    GatewayName::try_new(text).expect("a name")
}

pub(super) fn relay(text: &str) -> RelayName {
    RelayName::try_new(text).expect("a name")
}

pub(super) fn host(text: &str) -> RelayHost {
    RelayHost::try_new(text).expect("a host")
}

pub(super) fn fresh() -> (Secret, TokenHash) {
    let token = token::generate().expect("a token");
    let hash = TokenHash::of(&token);
    (token, hash)
}

/// Opens what is kept in `directory`: here another implementation takes the place of the first one.
pub(super) fn open_in(directory: &Path) -> Result<Store, Error> {
    open(directory, RETENTION)
}

/// A store in a directory that vanishes with it, and the time at which it began.
pub(super) fn store() -> (tempfile::TempDir, Store, SystemTime) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_in(directory.path()).expect("opened");
    (directory, store, SystemTime::now())
}

/// Who makes the changes.
pub(super) fn administrator() -> Requester {
    Requester {
        kind: "administrator",
        id: None,
        name: None,
        source: None,
    }
}

pub(super) async fn identity(store: &Store, now: SystemTime) -> (String, TokenHash) {
    let (_, hash) = fresh();
    let credential = Credential::Token(hash);
    let created = store.create_identity(
        administrator(),
        "someone".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    (created.await.expect("created"), hash)
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("new/state");
    let now = SystemTime::now();
    let store = open_in(&state).expect("opened");
    let create = async |_, _: &Organization| {
        Ok(vec![CaRecord {
            name: "ssh-user".to_owned(),
            private_key: Secret::new("the key"),
            certificate: "the certificate".to_owned(),
        }])
    };
    let algorithm = Some(KeyAlgorithm::Ed25519);
    let first = foundation(&*store, algorithm, Some("acme"), create, now)
        .await
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
    store
        .allow_gateway(administrator(), enrollment, gateway("barn"), now)
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

    let store = open_in(&state).expect("opened again");
    let never = async |_, _: &Organization| panic!("there are CAs already");
    let second = foundation(&*store, None, None, never, now).await;
    let second = second.expect("kept");
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
    store
        .enroll_gateway(administrator(), enrollment, access, now)
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
    let given = async |algorithm, name| {
        let none = async |_, _: &Organization| Ok(Vec::new());
        foundation(&*store, algorithm, name, none, now).await
    };
    let made = given(None, None).await.expect("made");
    assert_eq!(made.algorithm, KeyAlgorithm::Ed25519);
    let renamed = given(None, Some("acme")).await.expect("kept");
    assert_eq!(renamed.organization.id, made.organization.id);
    assert_eq!(renamed.organization.name, "acme");
    let other = given(Some(KeyAlgorithm::Rsa2048), None).await;
    let error = other.expect_err("other keys");
    assert!(matches!(error, Error::OtherAlgorithm { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_token_race_has_one_winner() {
    let (_directory, store, now) = store();
    let (_, token) = fresh();
    store
        .allow_gateway(administrator(), token, gateway("office"), now)
        .await
        .expect("allowed");
    let racers: Vec<_> = (0..16).map(|_| fresh().1).collect();
    let attempts = racers
        .iter()
        .map(|access| store.enroll_gateway(administrator(), token, *access, now));
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
    let allowed = store.allow_relay(
        administrator(),
        token,
        relay("eu"),
        host("relay.example"),
        now,
    );
    allowed.await.expect("allowed");
    let refused = store
        .enroll_gateway(administrator(), token, access, now)
        .await;
    assert!(matches!(refused, Err(Error::Enrollment)), "{refused:?}");
    let refused = store
        .enroll_relay(administrator(), token, access, now + HOUR)
        .await;
    assert!(matches!(refused, Err(Error::Enrollment)), "{refused:?}");
    let just = now + HOUR - Duration::from_secs(1);
    let enrolled = store
        .enroll_relay(administrator(), token, access, just)
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
        let allowed = store.allow_gateway(administrator(), token, gateway("office"), now);
        allowed.await.expect("allowed");
        let id = store
            .enroll_gateway(administrator(), token, access, now)
            .await;
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
    let taken = store
        .allow_gateway(administrator(), token, gateway("office"), now)
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
    let allowed = store.allow_gateway(administrator(), token, gateway("office"), now);
    allowed.await.expect("allowed");
    let (id, _) = store
        .enroll_gateway(administrator(), token, access, now)
        .await
        .expect("enrolled");
    store
        .delete_gateway(administrator(), gateway("office"))
        .await
        .expect("deleted");
    let principal = store.principal(access, now).await.expect("read");
    assert!(matches!(principal, Some(Principal::Gateway(_))));
    let gone = store.connect_gateway(id, None, now).await;
    assert!(matches!(gone, Err(Error::GatewayDeleted)), "{gone:?}");
    let twice = store
        .delete_gateway(administrator(), gateway("office"))
        .await;
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
    store
        .delete_identity(administrator(), id.clone())
        .await
        .expect("deleted");
    assert!(store.principal(token, now).await.expect("read").is_none());
    assert!(store.gateways().await.expect("read").is_empty());
    assert!(store.relays().await.expect("read").is_empty());
    let twice = store.delete_identity(administrator(), id).await;
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
    let created = store.create_identity(
        administrator(),
        "one".to_owned(),
        vec![Role::Gateway, Role::Relay],
        Vec::new(),
        credential,
        now,
    );
    created.await.expect("created");
    for (client, secret) in [("id", token), ("other", secret)] {
        let refused = store
            .login(administrator(), client.to_owned(), secret, token, now)
            .await;
        assert!(matches!(refused, Err(Error::Credentials)), "{refused:?}");
    }
    let lifetime = store
        .login(administrator(), "id".to_owned(), secret, token, now)
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
    let allowed = store.allow_gateway(administrator(), token, gateway("office"), now);
    allowed.await.expect("allowed");
    let (id, _) = store
        .enroll_gateway(administrator(), token, access, now)
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

/// What was created is listed without secrets, and a revoked token enrolls no one.
#[tokio::test]
async fn revoked_enrollment_token_is_refused() {
    let (_directory, store, now) = store();
    let (_, first) = fresh();
    store
        .allow_gateway(administrator(), first, gateway("edge"), now)
        .await
        .expect("allowed");
    let listed = store.enrollments(now).await.expect("read");
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "edge"));
    let gateways = super::EnrollmentKind::Gateway;
    let revoke = || store.revoke_enrollments(administrator(), gateways, "edge".to_owned(), now);
    revoke().await.expect("revoked");
    let again = revoke().await;
    assert!(
        matches!(again, Err(Error::UnknownEnrollment { .. })),
        "{again:?}"
    );
    let enrolled = store
        .enroll_gateway(administrator(), first, fresh().1, now)
        .await;
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
        let allowed = store.allow_relay(administrator(), fresh().1, relay(bad), host("a"), now);
        assert!(matches!(allowed.await, Err(Error::NotASlug(_))), "{bad}");
    }
    for bad in ["256.1.1.1", "1.2.3", "0"] {
        let made = store.register_relay(Owner::Instance, relay("eu-1"), host(bad), now);
        assert!(matches!(made.await, Err(Error::NumericHost(_))), "{bad}");
    }
}
