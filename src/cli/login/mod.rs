//! `infisical login` and `infisical logout`: the session of a person at the embedded platform.

mod browser;
mod device;
pub(super) mod sessions;

use std::io::{self, Write as _};

use serde_json::json;

use super::admin;
use super::exit::{Code, Failure};
use super::global::{Global, LOCAL_DOMAIN};
use super::platform_lists::minutes;
use super::print::{json_object, print};
use super::progress;
use crate::api::people::{LOGIN, LoggedIn, WhoAmI};
use crate::api::{self, Client};
use crate::config::settings::ApiBase;
use crate::error::Class;
use crate::scope::Scope;
use sessions::{Session, Sessions};

/// Log in at the embedded platform as a person, by its OpenID provider
///
/// The browser is opened; the session is kept for this user, and connect and platform use it until
/// it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infisical login --domain https://platform.example
  infisical login --domain https://platform.example --device
  infisical login --status

Without --domain it is the platform of the only session, or http://127.0.0.1:8080.")]
pub(crate) struct LoginArgs {
    /// For a machine without a browser: type a code in one on any other machine
    #[arg(long, conflicts_with_all = ["no_browser", "callback_port"])]
    device: bool,
    /// Print the address instead of opening it; the browser must be on this machine
    #[arg(long)]
    no_browser: bool,
    /// Port on 127.0.0.1 to which the browser comes back, for providers that want to know it before
    /// [default: any free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    callback_port: Option<u16>,
    /// Show who is logged in, with which roles, and until when
    #[arg(long, conflicts_with_all = ["device", "no_browser", "callback_port"])]
    status: bool,
    /// Show it as one JSON object
    #[arg(long, requires = "status")]
    json: bool,
}

/// End the session of infisical login
///
/// It is revoked at the platform and removed here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infisical logout
  infisical logout --all")]
pub(crate) struct LogoutArgs {
    /// End the sessions at all platforms
    #[arg(long)]
    all: bool,
}

/// Nothing can be kept without a home.
fn sessions(global: &Global) -> anyhow::Result<Sessions> {
    Sessions::of(&global.environment).ok_or_else(|| {
        let text = "there is no place for the session: neither HOME nor XDG_CONFIG_HOME is set";
        Failure::configuration(anyhow::Error::msg(text))
    })
}

fn client(global: &Global, domain: &ApiBase) -> anyhow::Result<Client> {
    Client::try_new(domain, &global.headers()?, &global.proxies()?).map_err(admin::refused)
}

pub(crate) async fn run(args: LoginArgs, global: &Global, scope: Scope) -> anyhow::Result<()> {
    let working = Box::pin(log_in(args, global));
    let interrupted = || Err(Failure::unavailable(anyhow::Error::msg("interrupted")));
    scope.run(working).await.unwrap_or_else(interrupted)
}

async fn log_in(args: LoginArgs, global: &Global) -> anyhow::Result<()> {
    let domain = global.client_domain(LOCAL_DOMAIN)?;
    let sessions = sessions(global)?;
    if args.status {
        return status(global, &domain, &sessions, args.json).await;
    }
    if domain.is_plain_http_beyond_loopback() {
        let text = format!(
            "{} is plain HTTP; a session crosses the network only by HTTPS",
            domain.domain()
        );
        return Err(Failure::configuration(anyhow::Error::msg(text)));
    }
    sessions.refuse_foreign_home()?;
    let client = client(global, &domain)?;
    let tell = |text: &str| {
        let _ = writeln!(io::stderr(), "{text}");
    };
    let session = if args.device {
        device::log_in(&client, tell).await?
    } else {
        let port = args.callback_port.unwrap_or(0);
        browser::log_in(&client, !args.no_browser, port, tell).await?
    };
    // A file that cannot be used is replaced.
    let earlier = sessions.load(&domain).unwrap_or_default();
    let text = logged_in(&domain, &session.who);
    if let Err(error) = sessions.save(&domain, session.clone()) {
        // No one could use it.
        let _ = revoke(&client, &session).await;
        return Err(error);
    }
    if let Some(Session { token, who, .. }) = earlier {
        let access_token = token;
        let _ = revoke(&client, &LoggedIn { access_token, who }).await;
    }
    print(&text)
}

async fn status(
    global: &Global,
    domain: &ApiBase,
    sessions: &Sessions,
    json: bool,
) -> anyhow::Result<()> {
    let found = logged_in_now(global, domain, sessions).await?;
    if json {
        print(&status_object(domain, found.as_ref().ok()))?;
        return found.map(drop);
    }
    print(&logged_in(domain, &found?))
}

/// Who is logged in, or why no one is.
async fn logged_in_now(
    global: &Global,
    domain: &ApiBase,
    sessions: &Sessions,
) -> anyhow::Result<anyhow::Result<WhoAmI>> {
    let Some(session) = sessions.load(domain)? else {
        let url = domain.domain();
        let text = format!("no one is logged in at {url}; run: infisical login --domain {url}");
        return Ok(Err(
            Failure::of(Code::Permission, anyhow::Error::msg(text)).into()
        ));
    };
    let client = client(global, domain)?;
    let asking = client.get("asking who is logged in", LOGIN, &session.token);
    match progress::show("Waiting for the platform", asking).await {
        Ok(who) => Ok(Ok(who)),
        Err(error) if is_unknown(&error) => Ok(Err(session.ended())),
        Err(error) => Err(refused(error)),
    }
}

fn status_object(domain: &ApiBase, who: Option<&WhoAmI>) -> String {
    let list = |of: fn(&WhoAmI) -> &Vec<String>| who.map(of).cloned().unwrap_or_default();
    json_object([
        ("domain", json!(domain.domain())),
        ("logged_in", json!(who.is_some())),
        ("id", json!(who.and_then(|who| who.id.as_ref()))),
        ("name", json!(who.map(|who| &who.name))),
        ("roles", json!(list(|who| &who.roles))),
        ("groups", json!(list(|who| &who.groups))),
        (
            "expires_at",
            json!(who.and_then(|who| who.expires_at.as_ref())),
        ),
    ])
}

pub(crate) async fn log_out(args: LogoutArgs, global: &Global) -> anyhow::Result<()> {
    let sessions = sessions(global)?;
    let ending = if args.all {
        sessions.all()?
    } else {
        let domain = global.client_domain(LOCAL_DOMAIN)?;
        sessions.load(&domain)?.into_iter().collect()
    };
    if ending.is_empty() {
        return print("No one is logged in.\n");
    }
    let mut failure = None;
    for Session { domain, token, who } in ending {
        let (name, end) = (who.name.clone(), until(&who));
        let url = domain.domain();
        let session = LoggedIn {
            access_token: token,
            who,
        };
        let revoked = revoke(&client(global, &domain)?, &session).await;
        sessions.remove(&domain)?;
        match revoked {
            Ok(()) => print(&format!(
                "Logged out at {url}, where {name} was logged in\n"
            ))?,
            Err(error) => {
                let text = format!(
                    "the session of {name} at {url} was removed here, but the platform was not told: it \
                     is valid {end}"
                );
                failure = Some(refused(error).context(text));
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Ends a session at the platform; one that it does not know has ended.
async fn revoke(client: &Client, session: &LoggedIn) -> Result<(), api::Error> {
    let asking = client.delete("ending the session", LOGIN, &session.access_token);
    match progress::show("Waiting for the platform", asking).await {
        Err(error) if is_unknown(&error) => Ok(()),
        answer => answer.map(drop),
    }
}

/// The platform does not know the token, or no longer.
fn is_unknown(error: &api::Error) -> bool {
    matches!(error.class(), Class::Reauthenticate | Class::Reenroll)
}

/// A login that did not succeed.
fn refused(error: api::Error) -> anyhow::Error {
    admin::refused(error)
}

fn until(who: &WhoAmI) -> String {
    match &who.expires_at {
        Some(end) => format!("until {}", minutes(end)),
        None => "without an end".to_owned(),
    }
}

fn logged_in(domain: &ApiBase, who: &WhoAmI) -> String {
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    format!(
        "Logged in at {} as {}, {} (roles: {}; groups: {})\n",
        domain.domain(),
        who.name,
        until(who),
        list(&who.roles),
        list(&who.groups)
    )
}
