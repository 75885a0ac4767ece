//! The token a gateway speaks to the platform with: a machine identity's, or its own from an
//! enrollment.

use crate::agent::last_known_good::Fingerprint;
use crate::api;
use crate::api::login::TokenSource;
use crate::error::Class;
use crate::secret::Secret;

/// Where the token comes from.
#[derive(Debug, Clone)]
pub(crate) enum PlatformAuth {
    /// A machine identity registers the gateway under its name.
    Identity(TokenSource),
    /// The gateway was enrolled and has a token of its own.
    Gateway(TokenSource),
}

impl PlatformAuth {
    /// For a gateway whose enrollment obtained `token`.
    pub(crate) fn enrolled(token: Secret) -> Self {
        Self::Gateway(TokenSource::given("gateway", token))
    }

    pub(crate) fn source(&self) -> &TokenSource {
        match self {
            Self::Identity(source) | Self::Gateway(source) => source,
        }
    }

    /// What the platform at `base` knows the gateway by.
    pub(crate) fn fingerprint(&self, base: &str) -> Fingerprint {
        let [kind, id, secret] = self.source().parts();
        Fingerprint::of(&[base, kind, id, secret])
    }

    /// A token to use now.
    pub(crate) async fn token(&self) -> Result<Secret, api::Error> {
        self.source().token().await
    }

    /// The class of `error`, which a call with `token` gave, or which kept one from being had.
    pub(crate) async fn class(&self, error: &api::Error, token: Option<&Secret>) -> Class {
        self.source().class(error, token).await
    }
}
