//! `azure`: a token of the machine's managed identity, from Azure's instance metadata service.

use serde::Deserialize;

use super::Error;
use super::fetch::{self, Service};
use crate::secret::Secret;

/// For Azure's management API, as the deployed program asks for; the platform expects this audience
/// by default.
const PATH: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01\
                    &resource=https%3A%2F%2Fmanagement.azure.com/";

const SERVICE: Service = Service {
    name: "the Azure metadata service",
    absent: "; is this an Azure machine?",
    refused: "; does the machine have a managed identity?",
};

#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
}

pub(super) async fn token(at: &str) -> Result<Secret, Error> {
    let request = fetch::on_link()?
        .get(format!("{at}{PATH}"))
        .header("Metadata", "true")
        .header("Accept", "application/json");
    let text = SERVICE.ask(at, request).await?;
    let answer: Result<Answer, _> = serde_json::from_str(&text);
    match answer {
        Ok(answer) if !answer.access_token.is_empty() => Ok(answer.access_token),
        Ok(_) | Err(_) => Err(SERVICE.nonsense(at, "it holds no access_token")),
    }
}
