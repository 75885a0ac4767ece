//! Identity access tokens: given, or bought by logging in, and renewed before they expire.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::types::Login;
use super::{Client, Error};
use crate::config::settings::IdentityCredential;
use crate::error::chain;
use crate::secret::Secret;

/// Part of a token's life after which it is replaced, in percent.
const RENEW_AT_PERCENT: u32 = 60;

/// Where a machine identity's access token comes from. Cheap to clone; all clones share the token.
#[derive(Debug, Clone)]
pub struct TokenSource {
    client: Client,
    credential: IdentityCredential,
    /// Held during a login, so that concurrent callers share one.
    current: Arc<Mutex<Option<Token>>>,
}

#[derive(Debug)]
struct Token {
    text: Secret,
    renew_at: Instant,
}

impl TokenSource {
    /// Tokens for `credential`; nothing is asked of the platform yet.
    #[must_use]
    pub fn new(client: Client, credential: IdentityCredential) -> Self {
        Self {
            client,
            credential,
            current: Arc::default(),
        }
    }

    /// A token to use now. Logs in when there is none, renews the one there is when its end is near.
    ///
    /// # Errors
    /// The login was refused, or the platform cannot be reached.
    pub async fn token(&self) -> Result<Secret, Error> {
        let (client_id, client_secret) = match &self.credential {
            IdentityCredential::Token(token) => return Ok(token.clone()),
            IdentityCredential::UniversalAuth {
                client_id,
                client_secret,
            } => (client_id, client_secret),
        };
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref() {
            if Instant::now() < token.renew_at {
                return Ok(token.text.clone());
            }
            // A renewal is cheaper than a login, and there are limits to both; a failure is no loss.
            match self.client.renew_token(&token.text).await {
                Ok(login) => return Ok(current.insert(Token::bought(login)).text.clone()),
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "access token not renewed; logging in");
                }
            }
        }
        let login = self
            .client
            .universal_auth_login(client_id, client_secret)
            .await?;
        tracing::debug!(expires_in_s = login.expires_in, "logged in");
        Ok(current.insert(Token::bought(login)).text.clone())
    }

    /// The platform refused `token` with 401: the next call of [`Self::token`] logs in anew.
    pub async fn rejected(&self, token: &Secret) {
        let mut current = self.current.lock().await;
        // Another caller may have replaced it meanwhile.
        if current.as_ref().is_some_and(|held| held.text == *token) {
            *current = None;
        }
    }

    /// What tells the identity's credential from others, secrets included.
    #[must_use]
    pub fn parts(&self) -> [&str; 3] {
        match &self.credential {
            IdentityCredential::Token(token) => ["token", token.expose(), ""],
            IdentityCredential::UniversalAuth {
                client_id,
                client_secret,
            } => ["universal", client_id, client_secret.expose()],
        }
    }

    /// True if logging in again may give another token.
    #[must_use]
    pub fn can_log_in_again(&self) -> bool {
        match self.credential {
            IdentityCredential::Token(_) => false,
            IdentityCredential::UniversalAuth { .. } => true,
        }
    }
}

impl Token {
    fn bought(login: Login) -> Self {
        let life = Duration::from_secs(login.expires_in);
        let renew_at = Instant::now() + life.saturating_mul(RENEW_AT_PERCENT) / 100;
        Self {
            text: login.access_token,
            renew_at,
        }
    }
}
