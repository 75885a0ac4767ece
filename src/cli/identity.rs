//! The arguments by which a gateway or a relay proves who it is, the same for both.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::config::env::{
    AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, GCP_KEY_PATH, JWT, JWT_FILE, KUBERNETES_TOKEN_PATH,
    MACHINE_IDENTITY_ID, ORGANIZATION_SLUG, TOKEN,
};
use crate::config::raw::Flags;
use crate::config::remark::Problem;
use crate::config::{AUTH_METHODS, ENROLL_METHODS, token};
use crate::error::chain;

const HEADING: &str = "Credentials";

/// How to prove who this is.
#[derive(Debug, Default, Args)]
pub(crate) struct IdentityArgs {
    /// Access token of a machine identity, or with --enroll-method=token the one-time enrollment token; `-` reads it
    /// from standard input. Other users of this machine can see arguments: rather use --token-file or the
    /// environment [env: INFISICAL_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = HEADING)]
    token: Option<String>,
    /// File with the token, on one line
    #[arg(long, value_name = "FILE", conflicts_with = "token", help_heading = HEADING)]
    token_file: Option<PathBuf>,
    /// Enroll: with `token` a one-time token buys an access token, which is kept in the configuration file, and the same
    /// command starts with that from then on; with `aws` the machine's AWS role logs in at each start
    #[arg(long, value_name = "METHOD", value_parser = ENROLL_METHODS, hide_possible_values = true,
        conflicts_with = "auth_method", help_heading = HEADING)]
    pub(crate) enroll_method: Option<String>,
    /// Log in as a machine identity: universal-auth, kubernetes, azure, gcp-id-token, gcp-iam, aws-iam, oidc-auth or
    /// jwt-auth [env: INFISICAL_AUTH_METHOD]
    #[arg(long, value_name = "METHOD", value_parser = AUTH_METHODS, hide_possible_values = true,
        conflicts_with_all = ["token", "token_file"], help_heading = HEADING)]
    auth_method: Option<String>,
    /// Client id for universal-auth [env: INFISICAL_UNIVERSAL_AUTH_CLIENT_ID]
    #[arg(long, value_name = "ID", help_heading = HEADING)]
    client_id: Option<String>,
    /// Client secret for universal-auth; rather give it by the environment or the file [env:
    /// INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = HEADING)]
    client_secret: Option<String>,
    /// Machine identity, for every other method [env: INFISICAL_MACHINE_IDENTITY_ID]
    #[arg(long, value_name = "ID", help_heading = HEADING)]
    machine_identity_id: Option<String>,
    /// File of the pod's service account token for kubernetes, by default where Kubernetes puts it [env:
    /// INFISICAL_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    service_account_token_path: Option<String>,
    /// File of the service account's key for gcp-iam [env: INFISICAL_GCP_IAM_SERVICE_ACCOUNT_KEY_FILE_PATH]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    service_account_key_file_path: Option<String>,
    /// JSON web token for oidc-auth and jwt-auth; rather give its file, or give it by the environment [env: INFISICAL_JWT]
    #[arg(long, value_name = "TOKEN", help_heading = HEADING)]
    jwt: Option<String>,
    /// File of that token, read at each login [env: INFISICAL_JWT_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "jwt", help_heading = HEADING)]
    jwt_file: Option<String>,
    /// Sub-organization that the login is for, by default the identity's own organization [env:
    /// INFISICAL_AUTH_ORGANIZATION_SLUG]
    #[arg(long, value_name = "SLUG", help_heading = HEADING)]
    organization_slug: Option<String>,
}

impl IdentityArgs {
    /// Adds these arguments to `flags`; a token that is to be read is read, from `input` for `-`.
    pub(crate) fn add_to(&self, flags: &mut Flags, input: impl io::Read) {
        let read = match (self.token.as_deref(), &self.token_file) {
            (Some("-"), _) => Some(("--token -", token::read(input, "standard input".to_owned()))),
            (Some(_), _) | (None, None) => None,
            (None, Some(file)) => Some(("--token-file", token::load(file))),
        };
        match read {
            Some((flag, Ok(token))) => flags.add_read(&TOKEN, flag, token),
            Some((flag, Err(error))) => flags
                .problems
                .push(Problem::new(format!("{flag}: {}", chain(&error)))),
            None => flags.add(&TOKEN, "--token", self.token.as_deref()),
        }
        for (variable, flag, value) in [
            (&AUTH_METHOD, "--auth-method", &self.auth_method),
            (&CLIENT_ID, "--client-id", &self.client_id),
            (&CLIENT_SECRET, "--client-secret", &self.client_secret),
            (
                &MACHINE_IDENTITY_ID,
                "--machine-identity-id",
                &self.machine_identity_id,
            ),
            (
                &KUBERNETES_TOKEN_PATH,
                "--service-account-token-path",
                &self.service_account_token_path,
            ),
            (
                &GCP_KEY_PATH,
                "--service-account-key-file-path",
                &self.service_account_key_file_path,
            ),
            (&JWT, "--jwt", &self.jwt),
            (&JWT_FILE, "--jwt-file", &self.jwt_file),
            (
                &ORGANIZATION_SLUG,
                "--organization-slug",
                &self.organization_slug,
            ),
        ] {
            flags.add(variable, flag, value.as_deref());
        }
    }
}
