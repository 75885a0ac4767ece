//! `gcp-id-token`: an id token of the machine's service account, from GCP's metadata server. Its audience is the machine
//! identity that logs in.

use url::Url;

use super::Error;
use super::fetch::{self, Service};
use crate::config::cloud::Cloud;
use crate::secret::Secret;

const HOST: &str = "metadata.google.internal";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";

const SERVICE: Service = Service {
    name: "the GCP metadata service",
    absent: "; is this a GCP machine?",
    refused: "; does the machine have a service account?",
};

pub(super) async fn token(identity_id: &str, cloud: &Cloud) -> Result<Secret, Error> {
    let host = cloud.value(&["GCE_METADATA_HOST"]).unwrap_or(HOST);
    let mut url = Url::parse(&format!("http://{host}{PATH}")).map_err(|_| Error::Variable {
        name: "GCE_METADATA_HOST",
        reason: "it must be a host, with or without a port",
    })?;
    url.query_pairs_mut()
        .append_pair("audience", identity_id)
        .append_pair("format", "full");
    let request = fetch::on_link()?
        .get(url)
        .header("Metadata-Flavor", "Google");
    let text = SERVICE.ask(host, request).await?;
    fetch::one_word(&text).ok_or_else(|| SERVICE.nonsense(host, "it is no token"))
}
