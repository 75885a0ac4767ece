//! Why the store did not do what it was asked: because it cannot, or because it must not.

use std::path::PathBuf;

use super::schema;
use crate::authority::{self, KeyAlgorithm};
use crate::files;
use crate::names::{RelayHost, RelayName};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its directory.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Another process holds the file.
    #[error("another platform is using {}", .0.display())]
    InUse(PathBuf),
    /// The file was written by a newer program.
    #[error(
        "{} has tables of version {found}, newer than this program knows ({})",
        path.display(),
        schema::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// The platform was created with other keys.
    #[error("this platform was created with {kept} keys; {asked} needs a new state directory")]
    OtherAlgorithm {
        /// What it has.
        kept: KeyAlgorithm,
        /// What the caller wants.
        asked: KeyAlgorithm,
    },
    /// SQLite.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// A defect: the call did not end.
    #[error("the database call was interrupted")]
    Interrupted,
    /// The CAs of a new platform.
    #[error("cannot create the certification authorities")]
    Authority(#[source] authority::Error),
    /// The name has another owner.
    #[error("the name {0:?} is already taken")]
    NameTaken(String),
    /// The host has another relay.
    #[error(
        "the host {host} belongs to the relay {relay:?}; give this relay another host, or let an \
         administrator remove the other one: infisical platform relay remove {relay}"
    )]
    HostTaken {
        /// The host.
        host: RelayHost,
        /// Whose it is.
        relay: RelayName,
    },
    /// The name could be mistaken for an id.
    #[error("the name {0:?} looks like a gateway id")]
    NameLooksLikeId(String),
    /// Not a name for a new relay.
    #[error("the relay name {0:?} is not valid: use 1 to 32 lower-case letters, digits or hyphens")]
    NotASlug(String),
    /// A host that nothing can be reached at.
    #[error(
        "the relay host {0:?} is neither a DNS name nor an IP address; an IPv4 address has four numbers from 0 to 255"
    )]
    NumericHost(String),
    /// No relay of that name.
    #[error("there is no relay {0:?}")]
    UnknownRelay(String),
    /// No gateway of that name.
    #[error("there is no gateway {0:?}")]
    UnknownGateway(String),
    /// The gateway's token is right, but the gateway is gone.
    #[error("the gateway was deleted")]
    GatewayDeleted,
    /// The relay's token is right, but the relay is gone.
    #[error("the relay was deleted")]
    RelayDeleted,
    /// The identity has no gateway.
    #[error("this identity has no gateway: it never registered one, or the gateway was deleted")]
    NoGateway,
    /// No identity of that id.
    #[error("there is no identity {0:?}")]
    UnknownIdentity(String),
    /// The relay is someone else's.
    #[error("the relay {0:?} belongs to another identity")]
    NotOwner(String),
    /// No relay can be chosen.
    #[error("no relay is available: none has sent a heartbeat within the last hour")]
    NoRelay,
    /// Wrong, used or too old.
    #[error("the enrollment token is not valid: it was used, has expired, or never existed")]
    Enrollment,
    /// Wrong client id or secret.
    #[error("the client id or client secret is wrong")]
    Credentials,
    /// Wrong, expired or revoked.
    #[error("the access token is invalid, expired or revoked")]
    Token,
}
