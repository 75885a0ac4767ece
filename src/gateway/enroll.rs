//! The first start with a one-time enrollment token: it buys the gateway's own access token, which is
//! saved before anything else can fail. The file is proved writable before the token is spent.

use std::path::Path;

use crate::api::types::GatewayLogin;
use crate::config::settings::ApiBase;
use crate::config::{env, file};
use crate::secret::Secret;

/// Writes what is known before the token is spent, and so proves that `store` can be written.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn prepare(store: &Path, domain: &ApiBase) -> Result<(), file::Error> {
    let domain = Secret::new(domain.as_url().as_str());
    file::update(store, &[(&env::GATEWAY_DOMAIN, &domain)])
}

/// Saves what the token bought. The spent token is kept beside it, so that the same command run again
/// starts the gateway instead of enrolling it again.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn save(store: &Path, spent: &Secret, login: &GatewayLogin) -> Result<(), file::Error> {
    file::update(
        store,
        &[
            (&env::GATEWAY_ACCESS_TOKEN, &login.access_token),
            (&env::GATEWAY_ENROLLMENT_TOKEN, spent),
        ],
    )
}
