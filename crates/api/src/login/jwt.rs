//! `oidc-auth` and `jwt-auth`: a JSON web token that someone else issues. One in a file may be
//! replaced at any time, so the file is read at each login.

use std::path::Path;

use super::{Error, error, fetch};
use crate::config::credential::Jwt;
use crate::config::env::Kind;
use crate::secret::Secret;

pub(super) async fn token(jwt: &Jwt) -> Result<Secret, Error> {
    match jwt {
        Jwt::Given(token) => Ok(token.clone()),
        Jwt::File(path) => read(path).await,
    }
}

/// Reads the token from the file at `path`.
pub(super) async fn read(path: &Path) -> Result<Secret, Error> {
    fetch::token_file(path, error::JWT, Kind::Jwt).await
}
