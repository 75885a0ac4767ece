//! `kubernetes`: the token of the pod's service account. Kubernetes replaces the file before the
//! token in it expires, so it is read at each login.

use std::path::Path;

use super::{Error, error, fetch};
use crate::config::env::Kind;
use crate::secret::Secret;

pub(super) async fn token(path: &Path) -> Result<Secret, Error> {
    fetch::token_file(path, error::POD_TOKEN, Kind::Jwt).await
}
