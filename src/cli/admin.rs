//! `infisical platform identity|enrollment-token|gateway|relay`: the requests of the embedded
//! platform's administrators.
//!
//! Secrets that are created go to standard output and nowhere else, or to a private file, so that
//! they can be passed on without being seen.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::exit::{Code, Failure};
use super::global::{ADMIN_TOKEN, Global, LOCAL_DOMAIN, Purpose};
use super::platform_access as access;
use super::platform_audit as audit;
use super::platform_ca as ca;
use super::platform_lists::{Format, ListedEnrollment, ListedGateway, ListedRelay};
use super::platform_services as services;
use super::platform_sessions as sessions;
use super::print::print;
use super::progress;
use crate::api::access::{GROUP_PREFIX, SetGroups};
use crate::api::types::{Gateway, Identity, Message};
use crate::api::{self, Client};
use crate::config::env::{AUTH_METHOD, CLIENT_ID, CLIENT_SECRET};
use crate::config::relay_host;
use crate::error::{Class, Reason};
use crate::names::{GatewayName, RelayHost, RelayName};
use crate::platform;
use crate::secret::Secret;

/// What an administrator may ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Machine identities, as which gateways and relays register
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// One-time tokens, with which gateways and relays enroll
    #[command(subcommand)]
    EnrollmentToken(TokenCommand),
    /// The gateways that the platform knows
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// The relays that the platform knows
    #[command(subcommand)]
    Relay(RelayCommand),
    #[command(subcommand)]
    #[command(name = "access")]
    AccessRules(access::Command),
    #[command(subcommand, name = "service")]
    Services(services::Command),
    Audit(audit::Args),
    #[command(subcommand)]
    Ca(ca::Command),
    Sessions(sessions::Args),
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Identity(command) => identity(command, global).await,
            Self::EnrollmentToken(command) => enrollment_token(command, global).await,
            Self::Gateway(command) => gateway(command, global).await,
            Self::Relay(command) => relay(command, global).await,
            Self::AccessRules(command) => command.run(global).await,
            Self::Services(command) => command.run(global).await,
            Self::Audit(args) => args.run(global).await,
            Self::Ca(command) => command.run(global).await,
            Self::Sessions(args) => args.run(global).await,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Create an identity and print its access token
    Create {
        /// What people call it
        name: String,
        /// What it may do; several are separated by commas
        #[arg(
            long = "role",
            value_name = "ROLE",
            value_enum,
            value_delimiter = ',',
            default_value = "gateway"
        )]
        roles: Vec<Role>,
        /// Group whose access rules are for it as well; several are separated by commas
        #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
        groups: Vec<String>,
        /// Print a client id and secret to log in with instead, as lines of a configuration file
        #[arg(long)]
        universal_auth: bool,
        /// For a person, who logs in at the OpenID provider (infisical login): their address, which
        /// the provider must have verified, or subject:ID
        #[arg(long, value_name = "EMAIL|subject:ID", conflicts_with_all = ["universal_auth", "output"])]
        oidc: Option<String>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// List the identities
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Make these the groups of an identity, in place of those that it has
    SetGroups {
        /// Its name or id
        #[arg(value_parser = identity_called)]
        identity: String,
        /// Names of the groups; none takes it out of all
        #[arg(value_name = "GROUP")]
        groups: Vec<String>,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Delete an identity, its tokens, its access rules, and the gateways and relays that it registered
    Remove {
        /// Its id, which create has printed and list shows
        #[arg(value_parser = identity_id)]
        id: uuid::Uuid,
        #[command(flatten)]
        administrator: Administrator,
    },
}

/// Name or id of an identity, and not of a group.
pub(super) fn identity_called(text: &str) -> Result<String, &'static str> {
    if text.starts_with(GROUP_PREFIX) {
        return Err("this is for one identity, not for a group");
    }
    Ok(text.to_owned())
}

fn identity_id(text: &str) -> Result<uuid::Uuid, &'static str> {
    text.parse()
        .map_err(|_| "it is not an id; `infisical platform identity list` shows the ids")
}

/// What an identity may do.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Everything that the administrator's token may do
    Admin,
    /// Enroll, list and remove gateways and relays
    Operator,
    /// Register one gateway, and list the relays
    Gateway,
    /// Register relays
    Relay,
    /// Open sessions through gateways, and list the gateways
    Client,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token that enrolls one gateway or relay, once, within an hour, and print it
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Create {
        /// Name of the gateway to enroll
        #[arg(long, value_name = "NAME", group = "what")]
        gateway: Option<GatewayName>,
        /// Name of the relay to enroll
        #[arg(long, value_name = "NAME", group = "what", requires = "host")]
        relay: Option<RelayName>,
        /// DNS name or IP address at which gateways and clients reach the relay
        #[arg(long, value_name = "HOST", value_parser = relay_host::parse,
            conflicts_with = "gateway")]
        host: Option<RelayHost>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// List the tokens that were not used yet, without the tokens themselves
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Revoke the tokens that enroll a gateway or relay; one that has enrolled stays
    #[command(group = clap::ArgGroup::new("whose").required(true))]
    Revoke {
        /// Name of the gateway
        #[arg(long, value_name = "NAME", group = "whose")]
        gateway: Option<GatewayName>,
        /// Name of the relay
        #[arg(long, value_name = "NAME", group = "whose")]
        relay: Option<RelayName>,
        #[command(flatten)]
        administrator: Administrator,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// List the gateways, whether each can be reached, and since when not
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Delete a gateway: its access token opens nothing any more
    Remove {
        /// Its name
        name: GatewayName,
        #[command(flatten)]
        administrator: Administrator,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// List the relays, whether each can be reached, and since when not
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Delete a relay: its access token opens nothing any more, and its host may be given to
    /// another
    Remove {
        /// Its name
        name: RelayName,
        #[command(flatten)]
        administrator: Administrator,
    },
}

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct Administrator {
    /// File with the administrator's token [env: INFISICAL_TOKEN] [default: that of a platform on
    /// this machine, or else of infisical login]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Where a secret goes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// File to write it to, readable by its owner alone, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: Secret,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedIdentity {
    identity_id: String,
    access_token: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
}

/// The administrators' connection to a platform.
pub(super) struct Admin {
    client: Client,
    token: Secret,
    /// Where the token comes from.
    token_source: String,
}

impl Admin {
    /// See [`refused`]; where the token is refused, its source is named.
    fn refused(&self, error: api::Error) -> anyhow::Error {
        let error = refused(error);
        match Code::of(&error) {
            Code::Permission => {
                error.context(format!("the token from {} was refused", self.token_source))
            }
            _ => error,
        }
    }
}

impl Admin {
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
    ) -> anyhow::Result<T> {
        let answer = wait(self.client.get(action, path, &self.token)).await;
        answer.map_err(|error| self.refused(error))
    }

    /// Says that a gateway called `name` is not there, and what that means: it may come.
    pub(super) async fn warn_unless_gateway(&self, name: &str, then: &str) -> anyhow::Result<()> {
        let path = "/v1/embedded/gateways";
        let gateways: Vec<Gateway> = self.get("listing the gateways", path).await?;
        if !gateways.iter().any(|gateway| gateway.name.as_str() == name) {
            let _ = writeln!(io::stderr(), "There is no gateway {name} yet; {then}.");
        }
        Ok(())
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        request: &serde_json::Value,
    ) -> anyhow::Result<T> {
        let token = Some(&self.token);
        let answer = wait(self.client.post(action, path, token, request)).await;
        answer.map_err(|error| self.refused(error))
    }

    pub(super) async fn delete(&self, action: &'static str, path: &str) -> anyhow::Result<()> {
        let answer = wait(self.client.delete(action, path, &self.token)).await;
        answer.map(drop).map_err(|error| self.refused(error))
    }
}

/// Waits for the answer to a request.
async fn wait<T>(request: impl Future<Output = T>) -> T {
    progress::show("Waiting for the platform", request).await
}

impl Administrator {
    pub(super) fn connect(&self, global: &Global) -> anyhow::Result<Admin> {
        let domain = global.domain(LOCAL_DOMAIN)?;
        let client =
            Client::try_new(&domain, &global.headers()?, &global.proxies()?).map_err(refused)?;
        let (token, token_source) =
            global.client_token(self.token_file.as_deref(), &domain, Purpose::Administer)?;
        Ok(Admin {
            client,
            token,
            token_source,
        })
    }
}

impl Administrator {
    /// The same, for the platform that keeps its state in `state_dir`: on this machine with the token
    /// that is there.
    pub(super) fn connect_at(&self, state_dir: &Path, global: &Global) -> anyhow::Result<Admin> {
        let domain = global.domain(LOCAL_DOMAIN)?;
        let own = domain.is_loopback().then(|| state_dir.join(ADMIN_TOKEN));
        let token_file = self.token_file.clone().or(own);
        Self { token_file }.connect(global)
    }
}

async fn identity(command: IdentityCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        IdentityCommand::Create {
            name,
            roles,
            groups,
            universal_auth,
            oidc,
            output,
            administrator,
        } => {
            output.prove_writable()?;
            let admin = administrator.connect(global)?;
            let is_client = roles.iter().any(|role| matches!(role, Role::Client));
            let method = match (&oidc, universal_auth) {
                (Some(_), _) => "oidc",
                (None, true) => "universal-auth",
                (None, false) => "token",
            };
            let mut request =
                json!({"name": name, "method": method, "roles": roles, "groups": groups});
            if let (Some(person), Some(fields)) = (&oidc, request.as_object_mut()) {
                fields.insert("person".to_owned(), json!(person));
            }
            let path = "/v1/embedded/identities";
            let created: CreatedIdentity =
                admin.post("creating the identity", path, &request).await?;
            let secret = match oidc {
                Some(_) => None,
                None => Some(created.secret()?),
            };
            let id = created.identity_id;
            if is_client {
                let _ = writeln!(
                    io::stderr(),
                    "It reaches what access rules allow: infisical platform access allow --who {id} \
                     --gateway NAME --target HOST:PORT"
                );
            }
            // Beside the secret, which stands alone on standard output.
            let _ = writeln!(
                io::stderr(),
                "Created identity {id}; to remove it: infisical platform identity remove {id}"
            );
            secret.map_or(Ok(()), |secret| output.write(&secret))
        }
        IdentityCommand::List {
            format,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let path = "/v1/embedded/identities";
            let identities: Vec<Identity> = admin.get("listing the identities", path).await?;
            format.identities(&identities)
        }
        IdentityCommand::SetGroups {
            identity,
            groups,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let request = json!(SetGroups { identity, groups });
            let path = "/v1/embedded/identity-groups";
            let done: Message = admin.post("setting the groups", path, &request).await?;
            print(&format!("{}\n", done.message))
        }
        IdentityCommand::Remove { id, administrator } => {
            let admin = administrator.connect(global)?;
            let path = format!("/v1/embedded/identities/{id}");
            admin.delete("deleting the identity", &path).await
        }
    }
}

impl CreatedIdentity {
    /// What its owner needs: a token, or the lines of a configuration file.
    fn secret(&self) -> anyhow::Result<Secret> {
        match (&self.access_token, &self.client_id, &self.client_secret) {
            (Some(token), ..) => Ok(token.clone()),
            (None, Some(id), Some(secret)) => Ok(Secret::new(format!(
                "{}=universal-auth\n{}={id}\n{}={}",
                AUTH_METHOD.name,
                CLIENT_ID.name,
                CLIENT_SECRET.name,
                secret.expose()
            ))),
            _ => Err(Failure::unavailable(anyhow::Error::msg(
                "the platform answered without a secret",
            ))),
        }
    }
}

async fn enrollment_token(command: TokenCommand, global: &Global) -> anyhow::Result<()> {
    let path = "/v1/embedded/enrollment-tokens";
    match command {
        TokenCommand::Create {
            gateway,
            relay,
            host,
            output,
            administrator,
        } => {
            let request = match (gateway, relay, host) {
                (Some(name), ..) => json!({"kind": "gateway", "name": name}),
                (None, Some(name), Some(host)) => {
                    json!({"kind": "relay", "name": name, "host": host})
                }
                (None, ..) => {
                    return Err(Failure::usage("give --gateway, or --relay and --host").into());
                }
            };
            output.prove_writable()?;
            let admin = administrator.connect(global)?;
            let action = "creating the enrollment token";
            let created: Token = admin.post(action, path, &request).await?;
            output.write(&created.token)
        }
        TokenCommand::List {
            format,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let action = "listing the enrollment tokens";
            let enrollments: Vec<ListedEnrollment> = admin.get(action, path).await?;
            format.enrollments(&enrollments)
        }
        TokenCommand::Revoke {
            gateway,
            relay,
            administrator,
        } => {
            let path = match (gateway, relay) {
                (Some(name), _) => format!("{path}/gateway/{}", name.url_segment()),
                (None, Some(name)) => format!("{path}/relay/{name}"),
                (None, None) => return Err(Failure::usage("give --gateway or --relay").into()),
            };
            let admin = administrator.connect(global)?;
            admin.delete("revoking the enrollment tokens", &path).await
        }
    }
}

async fn gateway(command: GatewayCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        GatewayCommand::List {
            format,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let path = "/v1/embedded/gateways";
            let gateways: Vec<ListedGateway> = admin.get("listing the gateways", path).await?;
            format.gateways(&gateways)
        }
        GatewayCommand::Remove {
            name,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let path = format!("/v1/embedded/gateways/{}", name.url_segment());
            admin.delete("deleting the gateway", &path).await
        }
    }
}

async fn relay(command: RelayCommand, global: &Global) -> anyhow::Result<()> {
    match command {
        RelayCommand::List {
            format,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let path = "/v1/embedded/relays";
            let relays: Vec<ListedRelay> = admin.get("listing the relays", path).await?;
            format.relays(&relays)
        }
        RelayCommand::Remove {
            name,
            administrator,
        } => {
            let admin = administrator.connect(global)?;
            let path = format!("/v1/embedded/relays/{name}");
            admin.delete("deleting the relay", &path).await
        }
    }
}

impl Output {
    /// A secret that can be written nowhere must not be created: its identity would stay, and no
    /// one could use it.
    fn prove_writable(&self) -> anyhow::Result<()> {
        match &self.output {
            Some(path) => platform::prove_replaceable(path).map_err(Failure::unavailable),
            None => Ok(()),
        }
    }

    fn write(&self, secret: &Secret) -> anyhow::Result<()> {
        match &self.output {
            Some(path) => write_file(path, secret),
            None => print(&format!("{}\n", secret.expose())),
        }
    }
}

fn write_file(path: &Path, secret: &Secret) -> anyhow::Result<()> {
    let text = zeroize::Zeroizing::new(format!("{}\n", secret.expose()));
    platform::write_private(path, &text).map_err(Failure::unavailable)
}

/// A request that did not succeed; its class says why, and there is no one here to try again.
pub(super) fn refused(error: api::Error) -> anyhow::Error {
    let reason = match error.class() {
        Class::Fatal(reason) => reason,
        Class::Reauthenticate | Class::Reenroll => Reason::Permission,
        Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
    };
    Failure::new(reason, error).into()
}
