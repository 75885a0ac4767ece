//! What a gateway or a relay proves itself with: settings, validated, and nothing that was obtained
//! with them. Of the role that enrolls a machine, its id is kept.

use std::path::{Path, PathBuf};

use strum::{IntoStaticStr, VariantNames};

use super::cloud::Cloud;
use super::env::{self, Variable};
use super::file;
use super::role;
use super::settings::ApiBase;
use crate::names::{GatewayId, RelayId};
use crate::secret::Secret;

/// Where a pod finds the token of its service account.
pub const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How a gateway or a relay proves itself to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// As a machine identity.
    Identity(IdentityCredential),
    /// As an enrolled role, with the access token that enrollment obtained.
    AccessToken(Secret),
    /// As an enrolled role that logs in with what the machine or the pod is.
    Machine(MachineEnrollment),
    /// Not yet: exchange this one-time token for an access token, and keep both in the role's file.
    Enroll {
        /// The one-time enrollment token.
        token: Secret,
    },
}

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
    /// The slug of the sub-organization that the token is to be for; without it, that of the
    /// identity.
    pub organization: Option<String>,
}

/// What a login shows to the platform (protocol.md §1 and §6).
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
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

/// A JSON web token that someone else issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwt {
    /// This one, for as long as it is valid.
    Given(Secret),
    /// Whatever this file holds at each login.
    File(PathBuf),
}

/// A file that is read at each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// The setting that names it; `None` for the default.
    pub setting: Option<String>,
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub kind: LoginFileKind,
}

/// What a [`LoginFile`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFileKind {
    /// A JSON web token of another issuer.
    Jwt,
    /// The token of a pod's service account.
    PodToken,
    /// The key of a GCP service account.
    GcpKey,
}

/// A gateway or relay that is enrolled as what its machine or pod is: a login, each time a token is
/// needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineEnrollment {
    /// What the platform knows it by.
    pub id: ResourceId,
    /// What it logs in with.
    pub proof: MachineProof,
}

/// What a machine or a pod can show to the platform (protocol-addendum.md §1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineProof {
    /// A request that is signed as its AWS role.
    Aws {
        /// Where the role's credentials are.
        cloud: Cloud,
    },
    /// The token of the pod's service account; gateways only.
    Kubernetes {
        /// The file of the token.
        token_path: PathBuf,
    },
    /// An id token of the GCP machine's service account; gateways only.
    GcpGce {
        /// Where the machine's metadata is.
        cloud: Cloud,
    },
    /// A token that GCP signs for a service account; gateways only.
    GcpIam {
        /// The file of the service account's key; `None` for the account of the machine.
        key_path: Option<PathBuf>,
        /// Where the machine's metadata is.
        cloud: Cloud,
    },
}

impl MachineProof {
    /// The enroll method on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Kubernetes { .. } => "kubernetes",
            Self::GcpGce { .. } | Self::GcpIam { .. } => "gcp",
        }
    }
}

impl MachineEnrollment {
    /// Keeps the id in the file at `store`, with the domain of the platform that knows it, so that
    /// a later start needs no flag for either. No token is kept: the next login gives another. A
    /// file that has both is left alone.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, domain: &ApiBase, store: &Path) -> Result<(), file::Error> {
        let keys = match &self.id {
            ResourceId::Gateway(_) => &role::GATEWAY,
            ResourceId::Relay(_) => &role::RELAY,
        };
        let wanted = [
            (keys.domain, Secret::new(domain.as_url().as_str())),
            (keys.id, Secret::new(self.id.as_str())),
        ];
        let entries = file::load(store).unwrap_or_default();
        let has = |key: &Variable, value: &Secret| {
            let mut same = entries.iter().filter(|entry| entry.key == key);
            same.any(|entry| entry.value == *value)
        };
        // An installer writes the domain as a setting of its own, and the service may not write at
        // all.
        let is_configured = entries.iter().any(|entry| entry.key == &env::API_URL);
        let missing = |(key, value): &&(&'static Variable, Secret)| {
            !has(key, value) && (*key != keys.domain || !is_configured)
        };
        let changes = wanted.iter().filter(missing);
        let changes: Vec<_> = changes.map(|(key, value)| (*key, value)).collect();
        match changes.is_empty() {
            true => Ok(()),
            false => file::update(store, &changes),
        }
    }
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
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{MachineEnrollment, MachineProof, ResourceId};
    use crate::cloud::Cloud;
    use crate::settings::ApiBase;

    #[test]
    fn id_is_stored_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("edge.conf");
        let enrollment = |id: &str| MachineEnrollment {
            id: ResourceId::Gateway(id.parse().expect("an id")),
            proof: MachineProof::Aws {
                cloud: Cloud::default(),
            },
        };
        let domain = ApiBase::parse("https://host").expect("a URL");
        let kept = || std::fs::read_to_string(&store).expect("the file");
        enrollment("g-1").keep(&domain, &store).expect("written");
        let first = "INFISICAL_GATEWAY_DOMAIN=https://host/api\nINFISICAL_GATEWAY_ID=g-1\n";
        assert_eq!(kept(), first);
        let before = std::fs::metadata(&store).expect("there");
        enrollment("g-1")
            .keep(&domain, &store)
            .expect("nothing to do");
        let after = std::fs::metadata(&store).expect("there");
        let inode = std::os::unix::fs::MetadataExt::ino;
        assert_eq!(inode(&before), inode(&after), "it was written again");
        enrollment("g-2").keep(&domain, &store).expect("written");
        assert_eq!(kept(), first.replace("g-1", "g-2"));
        // What an installer wrote is enough.
        let installed = "INFISICAL_API_URL=https://host\nINFISICAL_GATEWAY_ID=g-2\n";
        std::fs::write(&store, installed).expect("written");
        enrollment("g-2")
            .keep(&domain, &store)
            .expect("nothing to do");
        assert_eq!(kept(), installed);
    }
}
