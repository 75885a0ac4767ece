//! The roles that an identity has.

use rusqlite::Transaction;

use crate::store::{Error, Role};

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
