//! `gcp-id-token`: an id token of the machine's service account, from GCP's metadata server. Its
//! audience is the machine identity that logs in.

use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::Error;
use super::fetch::{self, Service};
use crate::config::cloud::Cloud;
use crate::secret::Secret;

const HOST: &str = "metadata.google.internal";
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";

const SERVICE: Service = Service {
    name: "the GCP metadata service",
    absent: "; is this a GCP machine?",
    refused: "; does the machine have a service account?",
};

pub(super) async fn token(identity_id: &str, cloud: &Cloud) -> Result<Secret, Error> {
    let query = [("audience", identity_id), ("format", "full")];
    let text = account(cloud, "identity", &query).await?;
    fetch::one_word(&text).ok_or_else(|| SERVICE.nonsense(host(cloud), "it is no token"))
}

/// The address of the machine's service account.
pub(super) async fn email(cloud: &Cloud) -> Result<String, Error> {
    let text = account(cloud, "email", &[]).await?;
    Ok(text.trim().to_owned())
}

/// A token with which the machine's service account may call Google's APIs.
pub(super) async fn access_token(cloud: &Cloud) -> Result<Secret, Error> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Secret,
    }
    let text = account(cloud, "token", &[]).await?;
    let answer: Result<Answer, _> = serde_json::from_str(&text);
    let answer = answer.map_err(|_| SERVICE.nonsense(host(cloud), "it holds no access_token"))?;
    Ok(answer.access_token)
}

fn host(cloud: &Cloud) -> &str {
    cloud.value(&["GCE_METADATA_HOST"]).unwrap_or(HOST)
}

/// What the metadata server tells of the machine's service account.
async fn account(
    cloud: &Cloud,
    what: &str,
    query: &[(&str, &str)],
) -> Result<Zeroizing<String>, Error> {
    let host = host(cloud);
    let url = format!("http://{host}{ACCOUNT}/{what}");
    let mut url = Url::parse(&url).map_err(|_| Error::Variable {
        name: "GCE_METADATA_HOST",
        reason: "it must be a host, with or without a port",
    })?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let request = fetch::on_link()?
        .get(url)
        .header("Metadata-Flavor", "Google");
    SERVICE.ask(host, request).await
}
