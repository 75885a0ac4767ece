//! What a platform is made of from its first start: the organization and its CAs.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{Error, Storage};
use crate::authority::{CaRecord, KeyAlgorithm, Organization};

/// Name of an organization that no one named.
const UNNAMED: &str = "default";

/// What a platform is made of, besides what it learns later.
#[derive(Debug, Clone)]
pub(crate) struct Foundation {
    pub(crate) organization: Organization,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) cas: Vec<CaRecord>,
}

/// See the module.
#[async_trait]
pub(crate) trait FoundationStore {
    /// What was kept, unless this platform is new.
    async fn kept_foundation(&self) -> Result<Option<Foundation>, Error>;

    /// Keeps the foundation of a new platform.
    async fn keep_foundation(&self, made: Foundation, now: SystemTime) -> Result<(), Error>;

    /// Gives the organization another name.
    async fn name_organization(&self, name: String) -> Result<(), Error>;
}

/// The organization and its CAs; made by `create` when this platform is new. A given `algorithm`
/// must be the one it was created with; a given `name` replaces the organization's.
pub(crate) async fn foundation(
    store: &dyn Storage,
    algorithm: Option<KeyAlgorithm>,
    name: Option<&str>,
    create: impl AsyncFnOnce(KeyAlgorithm, &Organization) -> Result<Vec<CaRecord>, Error>,
    now: SystemTime,
) -> Result<Foundation, Error> {
    let Some(mut kept) = store.kept_foundation().await? else {
        let algorithm = algorithm.unwrap_or_default();
        let organization = Organization {
            id: uuid::Uuid::new_v4().to_string(),
            name: name.unwrap_or(UNNAMED).to_owned(),
        };
        let made = Foundation {
            cas: create(algorithm, &organization).await?,
            organization,
            algorithm,
        };
        store.keep_foundation(made.clone(), now).await?;
        return Ok(made);
    };
    if let Some(asked) = algorithm.filter(|asked| *asked != kept.algorithm) {
        return Err(Error::OtherAlgorithm {
            kept: kept.algorithm,
            asked,
        });
    }
    if let Some(name) = name {
        store.name_organization(name.to_owned()).await?;
        name.clone_into(&mut kept.organization.name);
    }
    Ok(kept)
}
