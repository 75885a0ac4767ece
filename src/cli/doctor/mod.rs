//! `infisical gateway doctor` and `infisical relay doctor`: checks each layer between this machine
//! and a role that works, and names the one that failed and what to change.
//!
//! It never registers, logs in, sends a heartbeat or authenticates a tunnel: each of these would
//! disturb the role that runs, which is asked through its status socket instead. A check whose
//! layer depends on one that failed is not made.

mod configuration;
mod disk;
mod layer;
mod limits;
mod network;
mod platform;
mod proxy;
mod relay;
mod resolver;
mod service;
mod status;
mod text;
mod tls;

use serde_json::json;

use super::exit::{Code, Failure};
use super::global::Global;
use super::print::{json_object, print};
use super::progress;
use super::setting_args;
use super::start::{Daemon, Start};
use super::status::Colours;
use crate::agent::status::document::{Document, Serves, State};
use crate::api::types::Relay;
use crate::config::credential::{Credential, IdentityCredential};
use crate::config::settings::{GatewaySettings, RelayCredential, RelaySettings};
use crate::connect::Target;
use crate::install::place::Role;
use crate::secret::Secret;
use crate::trust;
use layer::{
    CLOCK, Check, DESCRIPTORS, Fault, HEARTBEAT, HOST_CERTIFICATE, MEMORY, Outcome, REGISTRATION,
    RELAY_TLS, RELOAD, SERVING, TOKEN, blocked,
};
use relay::Address;
use service::Unit;

const HELP: &str = "\
The other arguments are those of start. Nothing is registered, no login is made, and a tunnel that is up stays up.

Exit codes: 0 nothing failed, 1 a check failed.

Examples:
  sudo infisical gateway doctor
  sudo infisical gateway doctor edge-1 --target db.internal:5432
  sudo infisical gateway doctor --json
  sudo infisical relay doctor";

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args<R: Daemon> {
    #[command(flatten)]
    start: Start<R>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
}

/// The arguments of `doctor` of a gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    common: Args<setting_args::Gateway>,
    /// Also check that this machine reaches a target, as the gateway would
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
}

/// What differs between the settings of gateways and those of relays.
pub(crate) trait Examined: Daemon {
    /// The token that a request which changes nothing may show, or why there is none.
    fn token(settings: &Self::Settings) -> Result<&Secret, &'static str>;
    /// True if the next start exchanges a one-time token, and keeps what it gets in its file.
    fn enrolls(settings: &Self::Settings) -> bool;
    /// The host of the relay, as far as the settings and the platform's list tell.
    fn relay_host(settings: &Self::Settings, relays: &[Relay]) -> Option<String>;
}

/// Why a one-time token is not shown.
const SPENT: &str = "it would be spent; a start exchanges it";
/// Why no login is made.
const LOGIN: &str = "a login would make one more token; the registration shows whether it works";

impl Examined for setting_args::Gateway {
    fn token(settings: &GatewaySettings) -> Result<&Secret, &'static str> {
        match &settings.credential {
            Credential::Identity(IdentityCredential::Token(token))
            | Credential::AccessToken(token) => Ok(token),
            Credential::Identity(IdentityCredential::Login(_)) | Credential::Machine(_) => {
                Err(LOGIN)
            }
            Credential::Enroll { .. } => Err(SPENT),
        }
    }

    fn enrolls(settings: &GatewaySettings) -> bool {
        matches!(settings.credential, Credential::Enroll { .. })
    }

    fn relay_host(settings: &GatewaySettings, relays: &[Relay]) -> Option<String> {
        let name = settings.relay.as_ref()?;
        let relay = relays.iter().find(|relay| relay.name == *name)?;
        Some(relay.host.to_string())
    }
}

impl Examined for setting_args::Relay {
    fn token(settings: &RelaySettings) -> Result<&Secret, &'static str> {
        match &settings.credential {
            RelayCredential::Own(Credential::Identity(IdentityCredential::Token(token))) => {
                Ok(token)
            }
            RelayCredential::Own(Credential::Enroll { .. }) => Err(SPENT),
            RelayCredential::Own(Credential::Identity(_) | Credential::Machine(_)) => Err(LOGIN),
            RelayCredential::AuthSecret(_) | RelayCredential::Own(Credential::AccessToken(_)) => {
                Err("a relay can only register with it; the registration shows whether it works")
            }
        }
    }

    fn enrolls(settings: &RelaySettings) -> bool {
        let credential = &settings.credential;
        matches!(credential, RelayCredential::Own(Credential::Enroll { .. }))
    }

    fn relay_host(settings: &RelaySettings, _: &[Relay]) -> Option<String> {
        settings.host.as_ref().map(ToString::to_string)
    }
}

/// `infisical gateway doctor`.
pub(super) async fn gateway(args: &GatewayArgs, global: &Global) -> anyhow::Result<()> {
    let usage = |error| Failure::of(Code::Usage, anyhow::Error::new(error).context("--target"));
    let target = args.target.as_deref().map(str::parse::<Target>);
    let target = target.transpose().map_err(usage)?;
    run(&args.common, target.as_ref(), global).await
}

/// `infisical relay doctor`.
pub(super) async fn relay(args: &Args<setting_args::Relay>, global: &Global) -> anyhow::Result<()> {
    run(args, None, global).await
}

/// Checks everything, and prints what was found.
async fn run<R: Examined>(
    args: &Args<R>,
    target: Option<&Target>,
    global: &Global,
) -> anyhow::Result<()> {
    let examining = async {
        tokio::join!(Box::pin(examine::<R>(&args.start, global)), async {
            match target {
                Some(target) => network::target(target.host(), target.port()).await,
                None => Vec::new(),
            }
        })
    };
    let (mut checks, reached) = progress::show("Checking each layer", examining).await;
    checks.extend(reached);
    let fault = first_fault(&checks);
    if args.json {
        let checks: Vec<_> = checks.iter().map(Check::json).collect();
        print(&json_object([
            ("checks", checks.into()),
            ("cause", json!(fault.map(|fault| &fault.cause))),
            ("fix", json!(fault.map(|fault| &fault.fix))),
        ]))?;
    } else {
        print(&text::render(
            &checks,
            Colours::of_output(&global.environment),
        ))?;
    }
    match fault {
        None => Ok(()),
        Some(_) => Err(Failure::of(Code::Degraded, anyhow::Error::msg("see above")).into()),
    }
}

/// The failure of the lowest layer.
fn first_fault(checks: &[Check]) -> Option<&Fault> {
    checks.iter().find_map(|check| match &check.outcome {
        Outcome::Failed(fault) => Some(fault),
        Outcome::Good(_) | Outcome::Skipped { .. } => None,
    })
}

async fn examine<R: Examined>(start: &Start<R>, global: &Global) -> Vec<Check> {
    let role = R::ROLE;
    let (configuration, read) = configuration::examine(start, global).await;
    let disk = match &read {
        Some((settings, file)) => disk::examine(file, R::enrolls(settings)),
        None => disk::unknown(&configuration),
    };
    let settings = read.map(|(settings, _)| settings);
    let name = settings.as_ref().map(|settings| (R::NAME_OF)(settings));
    let name = name.or_else(|| start.name());
    let (unit, found) = tokio::join!(
        Unit::find(role, start.name()),
        super::status::find(role, name, global),
    );
    let unit_check = unit.check(role, found.iter().any(Result::is_ok));
    let (running, document) =
        service::running(role, &found, &unit, &[&configuration, &disk, &unit_check]);
    let (platform, early) = tokio::join!(
        async {
            match &settings {
                Some(settings) => {
                    let common = (R::COMMON)(settings);
                    trust::roots().set_source(common.roots.clone());
                    platform::examine(common, R::token(settings)).await
                }
                None => platform::unknown(&configuration),
            }
        },
        async {
            match document.and_then(address) {
                Some(address) => Some(relay::examine(&address).await),
                None => None,
            }
        },
    );
    // A service that cannot read its settings, or whose token is refused, has ended.
    let (unit_check, running) = match unit.has_failed() {
        true => {
            let refused = platform.checks.iter().find(|check| *check.layer == TOKEN);
            let causes: Vec<&Check> = [&configuration, &disk].into_iter().chain(refused).collect();
            let unit_check = unit_check.unless_caused_by(&causes);
            let running = running.unless_caused_by(&[&unit_check]);
            (unit_check, running)
        }
        false => (unit_check, running),
    };
    let relay = match early {
        Some(checks) => checks,
        None => {
            let host = settings
                .as_ref()
                .and_then(|settings| R::relay_host(settings, &platform.relays));
            match host {
                Some(host) => {
                    let address = Address {
                        host,
                        host_ca: None,
                        has_gateways: false,
                        is_reached: false,
                    };
                    relay::examine(&address).await
                }
                None => relay::unknown(&[&configuration]),
            }
        }
    };
    // A wrong clock makes a good certificate look expired, and the ports of a relay are its own.
    let clock = platform.checks.iter().find(|check| *check.layer == CLOCK);
    let judged = |check: Check| {
        let clock = clock.filter(|_| *check.layer == HOST_CERTIFICATE);
        let process = (role == Role::Relay).then_some(&running);
        let causes: Vec<&Check> = process.into_iter().chain(clock).collect();
        check.unless_caused_by(&causes)
    };
    let relay = relay.into_iter().map(judged).collect();
    let mut checks = vec![configuration, disk, unit_check, running];
    join(&mut checks, document, platform.checks, relay);
    checks
}

/// Adds everything above the process to `checks`, which end with it: what the role says of itself
/// is judged by the layers below.
fn join(
    checks: &mut Vec<Check>,
    document: Option<&Document>,
    platform: Vec<Check>,
    relay: Vec<Check>,
) {
    let Some(document) = document else {
        let skipped = |layer, checks: &[Check]| {
            let needs: Vec<&Check> = checks.iter().take(4).collect();
            blocked(layer, &needs).unwrap_or_else(|| Check::skipped(layer, "it does not run"))
        };
        checks.push(skipped(&RELOAD, checks));
        checks.extend(platform);
        checks.push(skipped(&REGISTRATION, checks));
        checks.extend(relay);
        for layer in [&SERVING, &HEARTBEAT, &DESCRIPTORS, &MEMORY] {
            checks.push(skipped(layer, checks));
        }
        return;
    };
    let configuration = checks.first().cloned();
    let below: Vec<&Check> = platform.iter().collect();
    let registration = status::registration(document).unless_caused_by(&below);
    let below: Vec<&Check> = below
        .into_iter()
        .chain([&registration])
        .chain(&relay)
        .collect();
    let serving = status::serving(document).unless_caused_by(&below);
    let below: Vec<&Check> = below.into_iter().chain([&serving]).collect();
    let relay_tls = relay.iter().find(|check| *check.layer == RELAY_TLS);
    let heartbeat = status::heartbeat(document, relay_tls).unless_caused_by(&below);
    if let Some(configuration) = configuration {
        checks.push(service::reload(document, &configuration));
    }
    checks.extend(platform);
    checks.push(registration);
    checks.extend(relay);
    checks.extend([serving, heartbeat]);
    checks.extend(limits::examine(document.origin.pid));
}

/// The relay that the running role uses, or is.
fn address(document: &Document) -> Option<Address> {
    let is_reached = document
        .heartbeat
        .as_ref()
        .is_some_and(|heartbeat| heartbeat.ok);
    Some(Address {
        host: document.relay_host.clone()?,
        host_ca: document.relay_host_ca.clone(),
        has_gateways: matches!(document.serves, Serves::Relay { gateways: 1.., .. }),
        is_reached: is_reached && document.state == State::Up,
    })
}
