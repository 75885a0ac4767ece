//! The client of an OpenID provider's HTTP endpoints, for the embedded platform: requests within
//! bounds of time and size, by the roots, names and proxies of this machine.
//!
//! It knows forms and bytes; what they mean is its caller's affair. A redirect is not followed: it
//! would carry a code or a client secret to another host.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use zeroize::Zeroizing;

use crate::config::proxy::Proxies;
use crate::login::{Error, provider};
use crate::secret::Secret;

/// Largest answer, in bytes: sets of keys are some KiB.
const MAX_ANSWER: usize = 512 << 10;

/// An answer, whatever its status is.
#[derive(Debug)]
pub struct ProviderAnswer {
    /// 200 to 299.
    pub is_success: bool,
    /// As it was sent, for errors.
    pub status: u16,
    /// It may hold tokens.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum ProviderError {
    #[error("requests to the OpenID provider cannot be prepared")]
    Local(#[source] Error),
    #[error("the OpenID provider does not answer at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the answer of the OpenID provider at {url} is longer than {MAX_ANSWER} bytes")]
    TooLong { url: String },
    #[error("the client id or the client secret for the OpenID provider cannot be sent")]
    Credentials,
}

/// Reads `url`.
///
/// # Errors
/// See [`ProviderError`].
pub async fn get(url: &str, proxies: &Proxies) -> Result<ProviderAnswer, ProviderError> {
    let client = provider(url, proxies).map_err(ProviderError::Local)?;
    let request = client.get(url).header(ACCEPT, "application/json");
    answer(url, request).await
}

/// Sends `form` to `url`. A client with a secret authenticates by it (RFC 6749 §2.3.1).
///
/// # Errors
/// See [`ProviderError`].
pub async fn post_form(
    url: &str,
    proxies: &Proxies,
    form: &[(&str, &str)],
    credentials: Option<(&str, &Secret)>,
) -> Result<ProviderAnswer, ProviderError> {
    let client = provider(url, proxies).map_err(ProviderError::Local)?;
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let mut request = client
        .post(url)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body);
    if let Some((id, secret)) = credentials {
        let basic = Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
        let basic = Zeroizing::new(format!(
            "Basic {}",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, basic.as_bytes())
        ));
        let mut value =
            HeaderValue::try_from(basic.as_str()).map_err(|_| ProviderError::Credentials)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    answer(url, request).await
}

/// As RFC 6749 §2.3.1 has it.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn answer(
    url: &str,
    request: reqwest::RequestBuilder,
) -> Result<ProviderAnswer, ProviderError> {
    let unreachable = |source: reqwest::Error| ProviderError::Unreachable {
        url: url.to_owned(),
        source: source.without_url(),
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(ProviderError::TooLong {
                url: url.to_owned(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ProviderAnswer {
        is_success: status.is_success(),
        status: status.as_u16(),
        body,
    })
}
