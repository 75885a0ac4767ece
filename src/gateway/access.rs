//! The token a gateway speaks to the platform with: a machine identity's, or its own from an enrollment.

use crate::api;
use crate::api::login::TokenSource;
use crate::error::Class;
use crate::host::known::Fingerprint;
use crate::secret::Secret;

/// Where the token comes from.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// A machine identity registers the gateway under its name.
    Identity(TokenSource),
    /// The gateway was enrolled and has a token of its own.
    Gateway(Secret),
}

impl Access {
    /// What the platform at `base` knows the gateway by.
    pub(crate) fn fingerprint(&self, base: &str) -> Fingerprint {
        let [kind, id, secret] = match self {
            Self::Gateway(token) => ["gateway", token.expose(), ""],
            Self::Identity(source) => source.parts(),
        };
        Fingerprint::of(&[base, kind, id, secret])
    }

    /// A token to use now.
    pub(crate) async fn token(&self) -> Result<Secret, api::Error> {
        match self {
            Self::Identity(source) => source.token().await,
            Self::Gateway(token) => Ok(token.clone()),
        }
    }

    /// The class of `error`, which a call with `token` gave: a refused token that no login can replace
    /// asks for a new enrollment.
    pub(crate) async fn class(&self, error: &api::Error, token: Option<&Secret>) -> Class {
        match (error.class(), self) {
            (Class::Reauthenticate, Self::Identity(source)) if source.can_log_in_again() => {
                if let Some(token) = token {
                    source.rejected(token).await;
                    Class::Reauthenticate
                } else {
                    // The login itself was refused.
                    Class::Reenroll
                }
            }
            (Class::Reauthenticate, _) => Class::Reenroll,
            (class, _) => class,
        }
    }
}
