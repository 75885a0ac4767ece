//! `oidc-auth` and `jwt-auth`: a JSON web token that somebody else issues. One in a file may be replaced at any time, so the
//! file is read at each login.

use super::{Error, error, fetch};
use crate::config::credential::Jwt;
use crate::config::value::Shape;
use crate::secret::Secret;

pub(super) async fn token(jwt: &Jwt) -> Result<Secret, Error> {
    match jwt {
        Jwt::Given(token) => Ok(token.clone()),
        Jwt::File(path) => fetch::token_file(path, error::JWT, Shape::Jwt).await,
    }
}
