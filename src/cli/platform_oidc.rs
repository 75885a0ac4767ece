//! Settings of `platform start` for the logins of people.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use super::global::Global;
use crate::config::settings::ApiBase;
use crate::config::token;
use crate::platform::{DEFAULT_SESSION_HOURS, OidcSettings, SESSION_HOURS};
use crate::secret::Secret;

/// At which OpenID provider people log in.
#[derive(Debug, Clone, Args)]
pub(super) struct OidcArgs {
    /// OpenID provider at which people log in (infisical login): its issuer URL, exactly as the
    /// provider writes it
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer: Option<String>,
    /// The platform's client id at the provider
    #[arg(long, value_name = "ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// File with the client secret; a public client has none
    #[arg(long, value_name = "FILE", requires = "oidc_issuer")]
    oidc_client_secret_file: Option<PathBuf>,
    /// Claim with a person's groups; at each login they become the groups of the identity
    #[arg(long, value_name = "NAME", requires = "oidc_issuer")]
    oidc_groups_claim: Option<String>,
    /// Give each person whom the provider lets in an identity with the role client, which reaches
    /// nothing without access rules; otherwise an administrator creates it before
    #[arg(long, requires = "oidc_issuer")]
    oidc_create_identities: bool,
    /// Hours after which a person must log in again, 1 to 72
    #[arg(long, value_name = "HOURS", default_value_t = DEFAULT_SESSION_HOURS, value_parser = hours())]
    session_lifetime: u8,
}

fn hours() -> clap::builder::RangedI64ValueParser<u8> {
    let (least, most) = SESSION_HOURS.into_inner();
    clap::value_parser!(u8).range(i64::from(least)..=i64::from(most))
}

impl OidcArgs {
    pub(super) fn session_lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.session_lifetime) * 3600)
    }

    /// The file with the client secret.
    pub(super) fn secret_file(&self) -> Option<&PathBuf> {
        self.oidc_client_secret_file.as_ref()
    }

    /// What they add up to; reads the client secret.
    pub(super) fn settings(&self, global: &Global) -> anyhow::Result<Option<OidcSettings>> {
        let (Some(issuer), Some(client_id)) = (&self.oidc_issuer, &self.oidc_client_id) else {
            return Ok(None);
        };
        check_issuer(issuer)?;
        let load = |file: &PathBuf| token::load_private(file).map_err(Failure::configuration);
        let client_secret: Option<Secret> = self.secret_file().map(load).transpose()?;
        Ok(Some(OidcSettings {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            client_secret,
            groups_claim: self.oidc_groups_claim.clone(),
            create_identities: self.oidc_create_identities,
            proxies: global.proxies()?,
        }))
    }

    /// The same as arguments, without the file of the client secret.
    pub(super) fn words(&self) -> anyhow::Result<Vec<String>> {
        let mut words = Vec::new();
        if let Some(issuer) = &self.oidc_issuer {
            check_issuer(issuer)?;
        }
        for (name, value) in [
            ("oidc-issuer", &self.oidc_issuer),
            ("oidc-client-id", &self.oidc_client_id),
            ("oidc-groups-claim", &self.oidc_groups_claim),
        ] {
            words.extend(value.iter().map(|value| format!("--{name}={value}")));
        }
        if self.oidc_create_identities {
            words.push("--oidc-create-identities".to_owned());
        }
        if self.session_lifetime != DEFAULT_SESSION_HOURS {
            words.push(format!("--session-lifetime={}", self.session_lifetime));
        }
        Ok(words)
    }
}

/// Codes and tokens cross the connection.
fn check_issuer(issuer: &str) -> anyhow::Result<()> {
    let wrong = |text: &str| {
        let text = format!("--oidc-issuer: {text}");
        Err(Failure::configuration(anyhow::Error::msg(text)))
    };
    let Ok(url) = url::Url::parse(issuer) else {
        return wrong("it is not a URL");
    };
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return wrong("it must be a URL without a user name, a query or a fragment");
    }
    let is_local = ApiBase::parse(issuer).is_ok_and(|base| base.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        _ => wrong("it must be an https URL"),
    }
}
