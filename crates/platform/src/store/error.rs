//! Why the store did not do what it was asked: because it cannot, or because it must not.

use std::path::PathBuf;

use crate::authority::{self, KeyAlgorithm};
use crate::files;
use crate::names::{GatewayName, RelayHost, RelayName, ServiceName};

/// See the module.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("another platform is using {}", .0.display())]
    InUse(PathBuf),
    #[error(
        "{} has tables of version {found}, newer than this program knows ({known})",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("this platform was created with {kept} keys; {asked} needs a new state directory")]
    OtherAlgorithm {
        kept: KeyAlgorithm,
        asked: KeyAlgorithm,
    },
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the database call was interrupted")]
    Interrupted,
    #[error("cannot create the certification authorities")]
    Authority(#[source] authority::Error),
    #[error("the name {0:?} is already taken")]
    NameTaken(String),
    #[error(
        "the host {host} belongs to the relay {relay:?}; give this relay another host, or let an \
         administrator remove the other one: infisical platform relay remove {relay}"
    )]
    HostTaken { host: RelayHost, relay: RelayName },
    #[error("the name {0:?} looks like a gateway id")]
    NameLooksLikeId(String),
    #[error("the relay name {0:?} is not valid: use 1 to 32 lower-case letters, digits or hyphens")]
    NotASlug(String),
    #[error(
        "the relay host {0:?} is neither a DNS name nor an IP address; an IPv4 address has four numbers from 0 to 255"
    )]
    NumericHost(String),
    #[error("there is no relay {0:?}")]
    UnknownRelay(String),
    #[error("there is no gateway {0:?}")]
    UnknownGateway(String),
    #[error("the gateway was deleted")]
    GatewayDeleted,
    #[error("the relay was deleted")]
    RelayDeleted,
    #[error("this identity has no gateway: it never registered one, or the gateway was deleted")]
    NoGateway,
    #[error("there is no identity {0:?}")]
    UnknownIdentity(String),
    #[error("several identities are called {0:?}; give the id, which the list of identities shows")]
    AmbiguousIdentity(String),
    #[error("there is no access rule {0}")]
    UnknownRule(i64),
    #[error("there are {0} access rules already; remove some, or give groups rules in their place")]
    TooManyRules(i64),
    #[error("gateway {gateway} has a service {name} already; remove that one first")]
    ServiceTaken {
        gateway: GatewayName,
        name: ServiceName,
    },
    #[error("gateway {gateway} has no service {name}")]
    UnknownService {
        gateway: GatewayName,
        name: ServiceName,
    },
    #[error("there are {0} services already; remove some")]
    TooManyServices(i64),
    #[error("the relay {0:?} belongs to another identity")]
    NotOwner(String),
    #[error("no relay is available: none has sent a heartbeat within the last hour")]
    NoRelay,
    #[error("the enrollment token is not valid: it was used, has expired, or never existed")]
    Enrollment,
    #[error(
        "no enrollment token for the {kind} {name:?} is left: it was used, has expired, or never existed"
    )]
    UnknownEnrollment { kind: &'static str, name: String },
    #[error(
        "a rotation of the certification authorities is under way; infisical platform ca status shows \
         what it waits for"
    )]
    RotationUnderWay,
    #[error("the client id or client secret is wrong")]
    Credentials,
    #[error("another identity is for {0} already")]
    PersonTaken(String),
    #[error(
        "no identity is for this person; an administrator creates one: infisical platform identity create \
         NAME --role client --oidc {0}"
    )]
    UnknownPerson(String),
    #[error("this token is not that of a session")]
    NoSession,
    #[error("the access token is invalid, expired or revoked")]
    Token,
}
