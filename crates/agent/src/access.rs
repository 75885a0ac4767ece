//! Calls to the platform with a role's access token.

use crate::api::login::TokenSource;
use crate::api::{self, Client};
use crate::config::settings::CommonSettings;
use crate::error::Class;
use crate::secret::Secret;
use crate::trust;

/// Makes a client of the platform, after reading the root certificates.
///
/// # Errors
/// The root certificates or the proxy cannot be used.
pub fn client(settings: &CommonSettings) -> Result<Client, api::Error> {
    trust::roots()
        .use_ca_file(settings.roots.ca_file.as_ref())
        .map_err(api::Error::Roots)?;
    Client::try_new(&settings.domain, &settings.headers, &settings.proxies)
}

/// Makes one call with a token of `source`. A refused token is replaced before the next call, where
/// the login can.
///
/// # Errors
/// With the class that decides what to do about it.
pub async fn call<T, F>(
    source: &TokenSource,
    call: impl FnOnce(Secret) -> F,
) -> Result<T, (api::Error, Class)>
where
    F: Future<Output = Result<T, api::Error>>,
{
    let token = match source.token().await {
        Ok(token) => token,
        Err(error) => {
            let class = source.class(&error, None).await;
            return Err((error, class));
        }
    };
    match call(token.clone()).await {
        Ok(value) => Ok(value),
        Err(error) => {
            let class = source.class(&error, Some(&token)).await;
            Err((error, class))
        }
    }
}
