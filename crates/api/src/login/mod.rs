//! Access tokens: given, or obtained by logging in, renewed before they expire, replaced when
//! refused.
//!
//! There is a file for each way to log in, which makes what the deployed programs send (protocol.md
//! §1 and §6). What a login needs of this machine or its cloud is fetched again each time, so that
//! whatever was rotated meanwhile counts. A refusal loses only the token that was refused: the
//! credential that obtained it is kept, whatever the platform says.

mod aws;
mod azure;
mod error;
mod fetch;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzzing;
mod gcp_iam;
mod gcp_id_token;
mod jwt;
mod kubernetes;
mod token_lifetime;
mod universal_auth;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use error::Error;
pub(crate) use fetch::provider;
use serde::Serialize;
use tokio::sync::Mutex;

use super::types::{GatewayJwtLogin, JwtLogin, Login, RoleToken};
use super::{Client, Error as ApiError};
use crate::config::credential::{
    IdentityCredential, IdentityLogin, LoginFile, LoginFileKind, LoginMethod, MachineEnrollment,
    MachineProof, ResourceId,
};
use crate::config::settings::ApiBase;
use crate::secret::Secret;
use infisical_runtime::error::{Class, chain};
pub use token_lifetime::TokenExpiry;
use token_lifetime::{IssuedToken, Stage, Token, expiry, since_boot};

/// What is done, in errors.
const ACTION: &str = "logging in";

/// Where the clouds' services are that no variable of theirs moves. Others than the default are for
/// tests.
#[derive(Debug, Clone)]
pub struct CloudEndpoints {
    /// The metadata service of Azure machines.
    pub azure: String,
    /// The API that signs for GCP's service accounts.
    pub gcp_iam: String,
}

impl Default for CloudEndpoints {
    fn default() -> Self {
        Self {
            azure: "http://169.254.169.254".to_owned(),
            gcp_iam: "https://iamcredentials.googleapis.com".to_owned(),
        }
    }
}

/// Where an access token comes from. Cheap to clone; all clones share the token.
#[derive(Debug, Clone)]
pub struct TokenSource {
    way: Arc<Way>,
    /// Held during a login, so that concurrent callers share one.
    current: Arc<Mutex<Option<Token>>>,
    expiry: TokenExpiry,
}

/// How there comes to be a token.
#[derive(Debug)]
enum Way {
    /// It was given, as what `kind` says, and there is no other.
    Given { kind: &'static str, token: Secret },
    /// A machine identity logs in.
    Identity {
        client: Client,
        login: IdentityLogin,
        endpoints: CloudEndpoints,
    },
    /// An enrolled gateway or relay logs in with what its machine is.
    Machine {
        client: Client,
        enrollment: MachineEnrollment,
        endpoints: CloudEndpoints,
        /// Where the id and the domain are stored after the first accepted login.
        id_store: Option<IdStore>,
    },
}

/// Stores the id of an enrolled gateway or relay with the domain of the platform that accepted it.
#[derive(Debug)]
struct IdStore {
    path: PathBuf,
    domain: ApiBase,
    is_done: AtomicBool,
}

impl IdStore {
    /// Stores them, once. A file that cannot be written costs only the convenience.
    async fn keep(&self, enrollment: &MachineEnrollment) {
        if self.is_done.swap(true, Ordering::Relaxed) {
            return;
        }
        let (path, domain) = (self.path.clone(), self.domain.clone());
        let enrollment = enrollment.clone();
        // The disk may be slow, and must not hold up the runtime.
        let write = move || enrollment.keep(&domain, &path);
        let error = match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error).to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            error,
            store = %self.path.display(),
            "the id from the enrollment is not stored; the next start needs it again"
        );
    }
}

impl TokenSource {
    fn of(way: Way) -> Self {
        let expires = match &way {
            Way::Given { token, .. } => expiry(token.expose()),
            Way::Identity { .. } | Way::Machine { .. } => None,
        };
        Self {
            way: Arc::new(way),
            current: Arc::default(),
            expiry: TokenExpiry::new(expires),
        }
    }

    /// Tokens for a machine identity; nothing is asked of anyone yet.
    #[must_use]
    pub fn new(client: Client, credential: IdentityCredential) -> Self {
        Self::at(client, credential, CloudEndpoints::default())
    }

    /// The same, with the clouds' services at `endpoints`.
    #[must_use]
    pub fn at(client: Client, credential: IdentityCredential, endpoints: CloudEndpoints) -> Self {
        match credential {
            IdentityCredential::Token(token) => Self::given("token", token),
            IdentityCredential::Login(login) => Self::of(Way::Identity {
                client,
                login,
                endpoints,
            }),
        }
    }

    /// Tokens for an enrolled gateway or relay that logs in with what its machine is. After the
    /// first accepted login its id and `domain` are stored in the file `store`; a login that failed
    /// stores nothing, because a stored domain wins over a configured one.
    #[must_use]
    pub fn machine(
        client: Client,
        enrollment: MachineEnrollment,
        domain: &ApiBase,
        store: &Path,
    ) -> Self {
        Self::of(Way::Machine {
            client,
            enrollment,
            endpoints: CloudEndpoints::default(),
            id_store: Some(IdStore {
                path: store.to_owned(),
                domain: domain.clone(),
                is_done: AtomicBool::new(false),
            }),
        })
    }

    /// The same, with the clouds' services at `endpoints`; nothing is stored.
    #[must_use]
    pub fn machine_at(
        client: Client,
        enrollment: MachineEnrollment,
        endpoints: CloudEndpoints,
    ) -> Self {
        Self::of(Way::Machine {
            client,
            enrollment,
            endpoints,
            id_store: None,
        })
    }

    /// Always `token`, which is what `kind` says.
    #[must_use]
    pub fn given(kind: &'static str, token: Secret) -> Self {
        Self::of(Way::Given { kind, token })
    }

    /// When the token in use expires, now and later.
    #[must_use]
    pub fn expiry(&self) -> TokenExpiry {
        self.expiry.clone()
    }

    /// A token to use now. Logs in when there is none, and renews or replaces the one there is when
    /// its end is near; if that fails, it is good for as long as it lasts.
    ///
    /// # Errors
    /// The login was refused, what it needs cannot be had, or the platform cannot be reached.
    pub async fn token(&self) -> Result<Secret, ApiError> {
        let client = match &*self.way {
            Way::Given { token, .. } => return Ok(token.clone()),
            Way::Identity { client, .. } | Way::Machine { client, .. } => client,
        };
        let mut current = self.current.lock().await;
        if let Some(held) = current.as_mut() {
            match held.stage(since_boot()) {
                Stage::Fresh => return Ok(held.text.clone()),
                // A renewal is cheaper than a login, and there are limits to both; a failure is no
                // loss.
                Stage::Renewable => match client.renew_token(&held.text).await {
                    Ok(login) => {
                        held.renew(IssuedToken::renewable(login), since_boot());
                        self.expiry.set(held.expires(since_boot()));
                        return Ok(held.text.clone());
                    }
                    Err(error) => {
                        tracing::debug!(error = %chain(&error), "access token not renewed; logging in");
                    }
                },
                Stage::Replaceable | Stage::Expired => {}
            }
        }
        match self.log_in().await {
            Ok(issued) => {
                tracing::debug!(expires_in_s = issued.expires_in, "logged in");
                let token = current.insert(Token::new(issued, since_boot()));
                self.expiry.set(token.expires(since_boot()));
                Ok(token.text.clone())
            }
            Err(error) => match current.as_mut() {
                Some(held) if held.stage(since_boot()) != Stage::Expired => {
                    tracing::warn!(
                        error = %chain(&error),
                        "the access token cannot be replaced yet; the old one is still valid"
                    );
                    held.postpone(since_boot());
                    Ok(held.text.clone())
                }
                Some(_) | None => Err(error),
            },
        }
    }

    async fn log_in(&self) -> Result<IssuedToken, ApiError> {
        match &*self.way {
            Way::Given { kind: _, token } => Ok(IssuedToken::lasting(token.clone())),
            Way::Machine {
                client,
                enrollment,
                endpoints,
                id_store,
            } => {
                let issued = machine(client, enrollment, endpoints).await?;
                if let Some(id_store) = id_store {
                    id_store.keep(enrollment).await;
                }
                Ok(issued)
            }
            Way::Identity {
                client,
                login,
                endpoints,
            } => {
                let issued = identity(client, login, endpoints).await?;
                Ok(IssuedToken::renewable(issued))
            }
        }
    }

    /// The class of `error`, which a call with `token` gave; without one it is this source's own. A
    /// refused token is replaced before the next call where a login can do that; a refused login,
    /// or a refused token that is the only one, asks for a person, and is kept for another try all
    /// the same.
    pub async fn class(&self, error: &ApiError, token: Option<&Secret>) -> Class {
        match (error.class(), token) {
            (Class::Reauthenticate, Some(token)) if self.can_log_in() => {
                self.refused(token).await;
                Class::Reauthenticate
            }
            (Class::Reauthenticate, Some(_) | None) => Class::Reenroll,
            (class, _) => class,
        }
    }

    /// The platform refused `token`: the next call of [`Self::token`] logs in again.
    async fn refused(&self, token: &Secret) {
        let mut current = self.current.lock().await;
        // Another caller may have replaced it meanwhile.
        if current.as_ref().is_some_and(|held| held.text == *token) {
            *current = None;
            self.expiry.set(None);
        }
    }

    /// What tells the credential from others, secrets included.
    #[must_use]
    pub fn parts(&self) -> [&str; 3] {
        match &*self.way {
            Way::Given { kind, token } => [kind, token.expose(), ""],
            Way::Machine { enrollment, .. } => {
                let method = enrollment.proof.name();
                match &enrollment.id {
                    ResourceId::Gateway(id) => ["gateway", id.as_str(), method],
                    ResourceId::Relay(id) => ["relay", id.as_str(), method],
                }
            }
            Way::Identity { login, .. } => match &login.method {
                LoginMethod::UniversalAuth {
                    client_id,
                    client_secret,
                } => ["universal", client_id, client_secret.expose()],
                method @ (LoginMethod::Kubernetes { identity_id, .. }
                | LoginMethod::Azure { identity_id }
                | LoginMethod::GcpIdToken { identity_id, .. }
                | LoginMethod::GcpIam { identity_id, .. }
                | LoginMethod::AwsIam { identity_id, .. }
                | LoginMethod::OidcAuth { identity_id, .. }
                | LoginMethod::JwtAuth { identity_id, .. }) => [method.name(), identity_id, ""],
            },
        }
    }

    /// True if logging in may give another token.
    fn can_log_in(&self) -> bool {
        match &*self.way {
            Way::Given { .. } => false,
            Way::Identity { .. } | Way::Machine { .. } => true,
        }
    }
}

/// Finds out whether a login could use `file` as it is now.
///
/// # Errors
/// It cannot be read, or holds something else.
pub async fn check_file(file: &LoginFile) -> Result<(), Error> {
    match file.kind {
        LoginFileKind::Jwt => jwt::read(&file.path).await.map(drop),
        LoginFileKind::PodToken => kubernetes::token(&file.path).await.map(drop),
        LoginFileKind::GcpKey => gcp_iam::read_key(&file.path).await.map(drop),
    }
}

/// Logs an enrolled gateway or relay in.
async fn machine(
    client: &Client,
    enrollment: &MachineEnrollment,
    endpoints: &CloudEndpoints,
) -> Result<IssuedToken, ApiError> {
    let id = enrollment.id.as_str();
    let jwt = match &enrollment.proof {
        MachineProof::Aws { cloud } => return aws::enrolled(client, &enrollment.id, cloud).await,
        MachineProof::Kubernetes { token_path } => kubernetes::token(token_path).await?,
        MachineProof::GcpGce { cloud } => gcp_id_token::token(id, cloud).await?,
        MachineProof::GcpIam { key_path, cloud } => {
            let (at, proxies) = (&endpoints.gcp_iam, client.proxies());
            match key_path {
                Some(path) => gcp_iam::token(id, path, at, proxies).await?,
                None => gcp_iam::machine_token(id, cloud, at, proxies).await?,
            }
        }
    };
    let request = GatewayJwtLogin {
        method: enrollment.proof.name(),
        gateway_id: id.to_owned(),
        jwt,
    };
    let answer: RoleToken = ask(client, "/v3/gateways/login", &request).await?;
    Ok(IssuedToken::lasting(answer.access_token))
}

/// Logs a machine identity in.
async fn identity(
    client: &Client,
    login: &IdentityLogin,
    endpoints: &CloudEndpoints,
) -> Result<Login, ApiError> {
    let organization = login.organization.as_deref();
    let (path, identity_id, jwt) = match &login.method {
        LoginMethod::UniversalAuth {
            client_id,
            client_secret,
        } => return universal_auth::log_in(client, client_id, client_secret, organization).await,
        LoginMethod::AwsIam { identity_id, cloud } => {
            return aws::log_in(client, identity_id, cloud, organization).await;
        }
        LoginMethod::Kubernetes {
            identity_id,
            token_path,
        } => {
            let jwt = kubernetes::token(token_path).await?;
            ("/v1/auth/kubernetes-auth/login", identity_id, jwt)
        }
        LoginMethod::Azure { identity_id } => {
            let jwt = azure::token(&endpoints.azure).await?;
            ("/v1/auth/azure-auth/login", identity_id, jwt)
        }
        LoginMethod::GcpIdToken { identity_id, cloud } => {
            let jwt = gcp_id_token::token(identity_id, cloud).await?;
            ("/v1/auth/gcp-auth/login", identity_id, jwt)
        }
        LoginMethod::GcpIam {
            identity_id,
            key_path,
        } => {
            let jwt =
                gcp_iam::token(identity_id, key_path, &endpoints.gcp_iam, client.proxies()).await?;
            ("/v1/auth/gcp-auth/login", identity_id, jwt)
        }
        LoginMethod::OidcAuth { identity_id, jwt } => {
            let jwt = jwt::token(jwt).await?;
            ("/v1/auth/oidc-auth/login", identity_id, jwt)
        }
        LoginMethod::JwtAuth { identity_id, jwt } => {
            let jwt = jwt::token(jwt).await?;
            ("/v1/auth/jwt-auth/login", identity_id, jwt)
        }
    };
    let request = JwtLogin {
        identity_id: identity_id.clone(),
        jwt,
        organization_slug: organization.map(str::to_owned),
    };
    ask(client, path, &request).await
}

/// Sends a login, which carries no token.
async fn ask<Q, A>(client: &Client, path: &str, request: &Q) -> Result<A, ApiError>
where
    Q: Serialize + Sync,
    A: serde::de::DeserializeOwned,
{
    client.post(ACTION, path, None, request).await
}

#[cfg(test)]
mod tests {
    use super::{Class, Client, IdentityCredential, IssuedToken, Token, TokenSource, since_boot};
    use crate::config::credential::{IdentityLogin, LoginMethod};
    use crate::config::proxy::Proxies;
    use crate::config::settings::{ApiBase, CustomHeaders};
    use crate::secret::Secret;
    use crate::types::Login;
    use std::time::Duration;

    /// A source whose platform is nowhere, and which holds `token`.
    async fn source(token: Token) -> TokenSource {
        let base = ApiBase::parse("http://127.0.0.1:1").expect("a URL");
        let client = Client::try_new(&base, &CustomHeaders::default(), &Proxies::default())
            .expect("a client");
        let method = LoginMethod::UniversalAuth {
            client_id: "id".to_owned(),
            client_secret: Secret::new("secret"),
        };
        let organization = None;
        let login = IdentityCredential::Login(IdentityLogin {
            method,
            organization,
        });
        let source = TokenSource::new(client, login);
        *source.current.lock().await = Some(token);
        source
    }

    #[tokio::test]
    async fn irreplaceable_token_is_used_until_it_expires() {
        let due = source(Token::due("old", since_boot())).await;
        let token = due.token().await.expect("the old one");
        assert_eq!(token, Secret::new("old"));
        let issued = IssuedToken::renewable(Login {
            access_token: Secret::new("old"),
            expires_in: 1,
            access_token_max_ttl: 0,
            token_type: "Bearer".to_owned(),
        });
        // The machine has been up for more than a second.
        let expired = source(Token::new(issued, Duration::ZERO)).await;
        let error = expired.token().await.expect_err("it has expired");
        assert_eq!(expired.class(&error, None).await, Class::Retry);
    }
}
