//! `infisical gateway doctor` and `infisical relay doctor`: checks each layer between this machine
//! and a role that works, and names the one that failed and what to change.
//!
//! It never registers, logs in, sends a heartbeat or authenticates a tunnel: each of these would
//! disturb the role that runs, which is asked through its status socket instead. A check whose
//! layer depends on one that failed is not made.

mod bundle;
mod configuration;
mod disk;
mod hardening;
mod layer;
mod limits;
mod network;
mod platform;
mod proxy;
mod redaction;
mod relay;
mod resolver;
mod running;
mod service;
mod status;
mod text;
mod tls;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::check;
use super::exit::{Code, Failure};
use super::global::Global;
use super::print::{json_object, print, width};
use super::progress;
use super::setting_args;
use super::start::{Daemon, Start};
use super::status::Colours;
use crate::agent::status::document::{Document, Serves, State};
use crate::api::types::Relay;
use crate::config::credential::{Credential, IdentityCredential};
use crate::config::settings::{GatewaySettings, RelayCredential, RelaySettings};
use crate::connect::Target;
use crate::install::existing_unit;
use crate::install::place::Role;
use crate::secret::Secret;
use crate::trust;
use bundle::{Bundle, Entry};
use configuration::Configuration;
use layer::{
    CLOCK, CREDENTIALS, Check, DESCRIPTORS, Fault, HEARTBEAT, HOST_CERTIFICATE, MEMORY, Outcome,
    REGISTRATION, RELAY_TLS, RELOAD, SERVING, TOKEN, blocked,
};
use redaction::Redaction;
use relay::Address;
use service::Unit;

/// Checks up to that of the process.
const BELOW_PROCESS: usize = 6;

const HELP: &str = "\
The other arguments are those of start; without them, those of the one that runs here count. Nothing is registered, no login is made, and a tunnel that is up stays up.

Exit codes: 0 nothing failed, 1 a check failed.

Examples:
  sudo infisical gateway doctor
  sudo infisical gateway doctor edge-1 --target db.internal:5432
  sudo infisical gateway doctor --json
  sudo infisical gateway doctor --bundle gateway.tar
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
    /// Also write what support needs into a tar file, which must not be there, without any secret
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
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
    // Before anything else: it must be possible, and paths are those of this directory.
    let bundle = args.bundle.as_deref().map(Bundle::create).transpose()?;
    let examining = async {
        tokio::join!(Box::pin(examine::<R>(&args.start, global)), async {
            match target {
                Some(target) => network::target(target.host(), target.port()).await,
                None => Vec::new(),
            }
        })
    };
    let (mut examined, reached) = progress::show("Checking each layer", examining).await;
    examined.checks.extend(reached);
    // Details quote what peers say. Before lines are broken, which would hide a part of a secret.
    for check in &mut examined.checks {
        check.change_texts(|text| examined.redaction.apply(text));
    }
    let checks = &examined.checks;
    let fault = first_fault(checks);
    let values: Vec<_> = checks.iter().map(Check::json).collect();
    let json = json_object([
        ("checks", values.into()),
        ("cause", json!(fault.map(|fault| &fault.cause))),
        ("fix", json!(fault.map(|fault| &fault.fix))),
    ]);
    if args.json {
        print(&json)?;
    } else {
        let colours = Colours::of_output(&global.environment);
        print(&text::render(checks, colours, width()))?;
    }
    if let Some(bundle) = bundle {
        let path = bundle.path().display().to_string();
        let members = members(json, &examined).await;
        bundle.write(&members, &examined.redaction)?;
        if !args.json {
            print(&format!("\nBundle: {path} (without secrets)\n"))?;
        }
    }
    match fault {
        None => Ok(()),
        Some(_) => Err(Failure::of(Code::Degraded, anyhow::Error::msg("see above")).into()),
    }
}

/// What goes into the bundle beside `doctor`, what was found.
async fn members(doctor: String, examined: &Findings) -> Vec<Entry> {
    let entry = |name, text| Entry { name, text };
    vec![
        entry("doctor.json", doctor),
        entry("status.json", examined.status.clone()),
        entry("settings.txt", examined.settings.clone()),
        bundle::unit(&examined.unit),
        bundle::journal(&examined.unit).await,
        bundle::versions(&examined.unit),
    ]
}

/// The failure of the lowest layer.
fn first_fault(checks: &[Check]) -> Option<&Fault> {
    checks.iter().find_map(|check| match &check.outcome {
        Outcome::Failed(fault) => Some(fault),
        Outcome::Good(_) | Outcome::Skipped { .. } => None,
    })
}

/// What was found.
struct Findings {
    checks: Vec<Check>,
    unit: Unit,
    /// The effective settings, as text.
    settings: String,
    /// What the status sockets serve, as JSON.
    status: String,
    redaction: Redaction,
}

/// Checks each layer, with the arguments of `start`, or those of the role that runs here.
async fn examine<R: Examined>(start: &Start<R>, global: &Global) -> Findings {
    let role = R::ROLE;
    let found = super::status::find(role, start.name(), global).await;
    let only = match found.as_slice() {
        [Ok(document)] => Some(document),
        _ => None,
    };
    let is_bare = start.is_bare() && global.args.settings.is_empty();
    let given = is_bare.then(|| match only {
        Some(document) => running::of_process(document),
        None if start.name().is_none() => running::of_only_one(global),
        None => None,
    });
    let given = given.flatten();
    let (used, used_global) = match &given {
        Some(given) => (&given.start, &given.global),
        None => (start, global),
    };
    let running = only.map(|document| document.origin.name.as_str());
    let (configuration, unit) = tokio::join!(
        configuration::examine(used, used_global),
        Unit::find(role, start.name(), running.or_else(|| used.name())),
    );
    // One that the settings name, and that was not asked for by its name.
    let name = configuration.settings.as_ref().map(R::NAME_OF);
    let wanted = found.iter().flatten().find(|document| {
        let names = [
            Some(document.origin.name.as_str()),
            document.platform_name.as_deref(),
        ];
        start.name().is_some() || name.is_none() || names.contains(&name)
    });
    let unit_check = unit.check(role, wanted.is_some());
    let disk = match (&configuration.settings, &configuration.file) {
        (Some(settings), Some(file)) => disk::examine(file, R::enrolls(settings)),
        _ => disk::unknown(&configuration.check),
    };
    let causes = [&configuration.check, &disk, &unit_check];
    let (running, document) = service::running(role, &found, wanted, &unit, &causes);
    let settings = &configuration.settings;
    let (platform, early) = tokio::join!(
        async {
            match settings {
                Some(settings) => {
                    let common = (R::COMMON)(settings);
                    trust::roots().set_source(common.roots.clone());
                    platform::examine(common, R::token(settings)).await
                }
                None => platform::unknown(&configuration.check),
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
            let causes: Vec<&Check> = [&configuration.check, &disk]
                .into_iter()
                .chain(refused)
                .collect();
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
                None => relay::unknown(&[&configuration.check]),
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
    let redaction = redaction(
        used,
        used_global,
        configuration.file.as_deref(),
        document,
        &unit,
    );
    let Configuration {
        check,
        effective,
        file,
        text,
        ..
    } = configuration;
    let mut checks = vec![check, effective, disk, unit_check, unit.hardened(), running];
    let process = document.map(|document| {
        let copy = service::copy(document, file.as_deref(), &unit);
        let reload = checks
            .first()
            .map(|check| service::reload(document, check, file.as_deref(), &unit));
        (document, copy, reload)
    });
    join(&mut checks, process, platform.checks, relay);
    Findings {
        checks,
        settings: text,
        status: super::status::as_json(role, &found),
        unit,
        redaction,
    }
}

/// Knows every secret that was read: of the settings, of the copy of them that the process of
/// `document` has, and of the unit.
fn redaction<R: Examined>(
    start: &Start<R>,
    global: &Global,
    file: Option<&Path>,
    document: Option<&Document>,
    unit: &Unit,
) -> Redaction {
    let mut files: Vec<PathBuf> = file.map(Path::to_owned).into_iter().collect();
    files.extend(document.and_then(|document| {
        let own = document.origin.configuration.as_ref()?;
        Some(service::seen_by(document.origin.pid, &own.file))
    }));
    let mut secrets = check::secrets(start, global, &files);
    if let Unit::Installed { text, .. } = unit {
        secrets.extend(existing_unit::secrets(text, R::ROLE));
    }
    Redaction::new(secrets)
}

/// Adds everything above the process to `checks`, which end with it: what the role says of itself
/// is judged by the layers below. `process` is what runs, with its copy of the settings and whether
/// it uses the newest.
fn join(
    checks: &mut Vec<Check>,
    process: Option<(&Document, Check, Option<Check>)>,
    platform: Vec<Check>,
    relay: Vec<Check>,
) {
    let Some((document, copy, reload)) = process else {
        let skipped = |layer, checks: &[Check]| {
            let needs: Vec<&Check> = checks.iter().take(BELOW_PROCESS).collect();
            blocked(layer, &needs).unwrap_or_else(|| Check::skipped(layer, "it does not run"))
        };
        checks.push(skipped(&CREDENTIALS, checks));
        checks.push(skipped(&RELOAD, checks));
        checks.extend(platform);
        checks.push(skipped(&REGISTRATION, checks));
        checks.extend(relay);
        for layer in [&SERVING, &HEARTBEAT, &DESCRIPTORS, &MEMORY] {
            checks.push(skipped(layer, checks));
        }
        return;
    };
    let below: Vec<&Check> = platform.iter().chain([&copy]).collect();
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
    let reload = reload.map(|reload| reload.unless_caused_by(&[&copy]));
    checks.push(copy);
    checks.extend(reload);
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
