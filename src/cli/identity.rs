//! The arguments by which a gateway or a relay proves who it is, the same for both.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::config::env::{AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, TOKEN};
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
    /// Enroll with a one-time token: the access token that it buys is kept in the configuration file, and the same
    /// command starts with that from then on
    #[arg(long, value_name = "METHOD", value_parser = ENROLL_METHODS, hide_possible_values = true,
        conflicts_with = "auth_method", help_heading = HEADING)]
    pub(crate) enroll_method: Option<String>,
    /// Log in as a machine identity: universal-auth [env: INFISICAL_AUTH_METHOD]
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
    #[command(flatten)]
    later: LaterArgs,
}

/// Arguments of the deployed programs that belong to methods which are not supported yet.
#[derive(Debug, Default, Args)]
struct LaterArgs {
    #[arg(long, hide = true)]
    gateway_id: Option<String>,
    #[arg(long, hide = true)]
    machine_identity_id: Option<String>,
    #[arg(long, hide = true)]
    service_account_token_path: Option<String>,
    #[arg(long, hide = true)]
    service_account_key_file_path: Option<String>,
    #[arg(long, hide = true)]
    jwt: Option<String>,
    #[arg(long, hide = true)]
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
        flags.add(&AUTH_METHOD, "--auth-method", self.auth_method.as_deref());
        flags.add(&CLIENT_ID, "--client-id", self.client_id.as_deref());
        flags.add(
            &CLIENT_SECRET,
            "--client-secret",
            self.client_secret.as_deref(),
        );
        let later = &self.later;
        for (flag, value) in [
            ("--gateway-id", &later.gateway_id),
            ("--machine-identity-id", &later.machine_identity_id),
            (
                "--service-account-token-path",
                &later.service_account_token_path,
            ),
            (
                "--service-account-key-file-path",
                &later.service_account_key_file_path,
            ),
            ("--jwt", &later.jwt),
            ("--organization-slug", &later.organization_slug),
        ] {
            if value.is_some() {
                let text = format!("{flag}: not supported yet in this version");
                flags.problems.push(Problem::new(text));
            }
        }
    }
}
