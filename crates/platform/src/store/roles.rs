//! Roles of machine identities: which they are, and which an identity has.

use rusqlite::Transaction;

use super::Error;

/// What an identity may do. It can have several roles, and without any it may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything that the administrator's token may do.
    Admin,
    /// Enroll, list and remove gateways and relays.
    Operator,
    /// Register one gateway.
    Gateway,
    /// Register relays.
    Relay,
    /// Open sessions through gateways.
    Client,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::Gateway,
        Self::Relay,
        Self::Client,
    ];

    /// The name in the API, on the command line and in the tables.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            Self::Client => "client",
        }
    }

    /// The role of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// Gives `identity` these roles.
pub(super) fn insert(tx: &Transaction<'_>, identity: &str, roles: &[Role]) -> Result<(), Error> {
    for role in roles {
        tx.execute(
            "INSERT OR IGNORE INTO identity_role VALUES (?1, ?2)",
            (identity, role.as_str()),
        )?;
    }
    Ok(())
}

/// The roles of `identity`. A name that this program does not know grants nothing.
pub(super) fn of(tx: &Transaction<'_>, identity: &str) -> Result<Vec<Role>, Error> {
    let mut rows = tx.prepare("SELECT role FROM identity_role WHERE identity_id = ?1")?;
    let names = rows.query_map([identity], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| Role::parse(name)).collect())
}
