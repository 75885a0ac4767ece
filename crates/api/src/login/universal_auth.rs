//! `universal-auth`: a client id and a client secret.

use super::{ApiError, Client, ask};
use crate::secret::Secret;
use crate::types::{Login, UniversalAuthLogin};

pub(super) async fn log_in(
    client: &Client,
    client_id: &str,
    client_secret: &Secret,
    organization: Option<&str>,
) -> Result<Login, ApiError> {
    let request = UniversalAuthLogin {
        client_id: client_id.to_owned(),
        client_secret: client_secret.clone(),
        organization_slug: organization.map(str::to_owned),
    };
    ask(client, "/v1/auth/universal-auth/login", &request).await
}
