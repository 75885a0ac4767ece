//! What a gateway or a relay proves itself with: settings, validated, and nothing that was bought with them.

use std::path::PathBuf;

use super::cloud::Cloud;
use crate::names::{GatewayId, RelayId};
use crate::secret::Secret;

/// Where a pod finds the token of its service account.
pub const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How a machine identity proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityCredential {
    /// An access token made elsewhere; it cannot be renewed by logging in again.
    Token(Secret),
    /// Exchanged for access tokens as often as needed.
    Login(IdentityLogin),
}

/// A login of a machine identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityLogin {
    /// With what.
    pub method: LoginMethod,
    /// The slug of the sub-organization that the token is to be for; without it, that of the identity.
    pub organization: Option<String>,
}

/// What a login shows to the platform (protocol.md §1 and §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginMethod {
    /// A client id and a client secret.
    UniversalAuth {
        /// Public half.
        client_id: String,
        /// Secret half.
        client_secret: Secret,
    },
    /// The token of a pod's service account.
    Kubernetes {
        /// The machine identity.
        identity_id: String,
        /// The file of the token.
        token_path: PathBuf,
    },
    /// A token of the managed identity of an Azure machine.
    Azure {
        /// The machine identity.
        identity_id: String,
    },
    /// An id token of a GCP machine's service account.
    GcpIdToken {
        /// The machine identity.
        identity_id: String,
        /// Where the machine's metadata is.
        cloud: Cloud,
    },
    /// A token that GCP signs for a service account.
    GcpIam {
        /// The machine identity.
        identity_id: String,
        /// The file of the service account's key.
        key_path: PathBuf,
    },
    /// A request to AWS, signed as the role of the machine.
    AwsIam {
        /// The machine identity.
        identity_id: String,
        /// Where the role's credentials are.
        cloud: Cloud,
    },
    /// A JSON web token of an OpenID Connect provider.
    OidcAuth {
        /// The machine identity.
        identity_id: String,
        /// The token.
        jwt: Jwt,
    },
    /// A JSON web token of any issuer that the platform trusts.
    JwtAuth {
        /// The machine identity.
        identity_id: String,
        /// The token.
        jwt: Jwt,
    },
}

/// A JSON web token that somebody else issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwt {
    /// This one, for as long as it is valid.
    Given(Secret),
    /// Whatever this file holds at each login.
    File(PathBuf),
}

/// A gateway or relay whose AWS role is its enrollment: a login, each time a token is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsEnrollment {
    /// What the platform knows it by.
    pub id: ResourceId,
    /// Where the role's credentials are.
    pub cloud: Cloud,
    /// The id is not in the configuration file yet; once it is, a start needs no flag for it.
    pub is_new: bool,
}

/// The id of a gateway or a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceId {
    /// Of a gateway.
    Gateway(GatewayId),
    /// Of a relay.
    Relay(RelayId),
}

impl ResourceId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Gateway(id) => id.as_str(),
            Self::Relay(id) => id.as_str(),
        }
    }
}

impl LoginMethod {
    /// Its name on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::UniversalAuth { .. } => "universal-auth",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Azure { .. } => "azure",
            Self::GcpIdToken { .. } => "gcp-id-token",
            Self::GcpIam { .. } => "gcp-iam",
            Self::AwsIam { .. } => "aws-iam",
            Self::OidcAuth { .. } => "oidc-auth",
            Self::JwtAuth { .. } => "jwt-auth",
        }
    }
}
