//! `infisical gateway policy`: what the policy for targets says, as the configuration has it now.
//! Names are looked up here, and nothing is connected to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::check;
use super::exit::{Code, Failure};
use super::global::Global;
use super::print::{json_object, print, table};
use super::setting_args::Gateway;
use super::start::Start;
use crate::config::effective::EffectiveConfig;
use crate::config::metrics::MetricsListen;
use crate::config::targets::{TargetHost, Verdict};
use crate::config::{GatewayTargets, assemble_gateway_targets};
use crate::connect::target::Target;
use crate::gateway::targets::judge;
use crate::humanize::Count;
use crate::net::{own_sockets, resolve};

/// How long the resolver may take; as long as for a session.
const LOOKUP: Duration = Duration::from_secs(10);

/// The arguments of `policy`.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show whether sessions may reach a target, and which rule decides
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
}

const CHECK_HELP: &str = "\
Rules are read from the configuration as it is now; a gateway that runs uses them from its next reload or restart on. \
The name is looked up on this machine, and nothing is connected to. The exit code is 0 if a session may reach the \
target at one address at least, and 1 if it may not.

Examples:
  infisical gateway policy check db.internal:5432
  infisical gateway policy check 169.254.169.254:80 edge-1 --json";

#[derive(Debug, Args)]
struct CheckArgs {
    /// The target
    #[arg(value_name = "HOST:PORT")]
    target: Target,
    /// Name of the gateway [env: INFISICAL_GATEWAY_NAME]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Configuration file of the gateway
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long)]
    json: bool,
}

/// The verdict on one address; without one, that on the name alone.
struct Judged<'a> {
    address: Option<SocketAddr>,
    verdict: Verdict<'a>,
}

pub(super) async fn run(args: &PolicyArgs, global: &Global) -> anyhow::Result<()> {
    let PolicyCommand::Check(args) = &args.command;
    let start = Start::<Gateway>::named(args.name.clone(), args.config.clone());
    let checked = check::read_part(&start, global, "policy check", assemble_gateway_targets).await;
    let checked = checked.map_err(Failure::problems)?;
    let judged = judge_all(&args.target, &checked.settings).await?;
    let is_allowed = judged.iter().any(|judged| judged.verdict.is_allowed());
    let (settings, effective) = (&checked.settings, &checked.effective);
    print(&if args.json {
        as_json(&args.target, settings, effective, &judged)
    } else {
        as_text(&args.target, settings, effective, &judged)
    })?;
    if is_allowed {
        return Ok(());
    }
    Err(Failure::of(
        Code::Degraded,
        anyhow::Error::msg("the target is not allowed"),
    )
    .into())
}

async fn judge_all<'a>(
    target: &Target,
    settings: &'a GatewayTargets,
) -> anyhow::Result<Vec<Judged<'a>>> {
    let policy = &settings.targets;
    let host = TargetHost::parse(target.host()).map_err(Failure::unavailable)?;
    if let Some(verdict) = policy.judge_name(&host, target.port()) {
        let address = None;
        return Ok(vec![Judged { address, verdict }]);
    }
    let own = |to: SocketAddr| match settings.metrics {
        Some(MetricsListen::Tcp(socket)) if own_sockets::is_reached(socket, to) => Some(socket),
        Some(MetricsListen::Tcp(_) | MetricsListen::Unix(_)) | None => None,
    };
    let lookup = resolve::lookup(host.as_str(), target.port());
    let addresses = tokio::time::timeout(LOOKUP, lookup).await;
    let addresses = addresses
        .map_err(anyhow::Error::new)
        .and_then(|found| found.map_err(anyhow::Error::new))
        .with_context(|| format!("cannot resolve {}", target.host()))
        .map_err(|error| Failure::of(Code::Unavailable, error))?;
    let judged = addresses.into_iter().map(|address| Judged {
        address: Some(address),
        verdict: judge(policy, &host, address, own),
    });
    Ok(judged.collect())
}

fn as_text(
    target: &Target,
    settings: &GatewayTargets,
    effective: &EffectiveConfig,
    judged: &[Judged<'_>],
) -> String {
    let rows = judged.iter().map(|Judged { address, verdict }| {
        [
            address.map_or_else(|| "any".to_owned(), |address| address.ip().to_string()),
            word(verdict.is_allowed()).to_owned(),
            verdict.to_string(),
        ]
    });
    let policy = &settings.targets;
    let (allow, deny) = (policy.allow.len(), policy.deny.len());
    let allowed = judged.iter().any(|judged| judged.verdict.is_allowed());
    format!(
        "{}\nSessions may {}reach {target}. Rules: {} and {}, {}\n",
        table(["ADDRESS", "VERDICT", "WHY"], rows),
        if allowed { "" } else { "not " },
        Count(allow, "allow rule"),
        Count(deny, "deny rule"),
        effective.file.display()
    )
}

fn word(is_allowed: bool) -> &'static str {
    if is_allowed { "allowed" } else { "refused" }
}

fn as_json(
    target: &Target,
    settings: &GatewayTargets,
    effective: &EffectiveConfig,
    judged: &[Judged<'_>],
) -> String {
    let allowed = judged.iter().any(|judged| judged.verdict.is_allowed());
    let verdicts = judged.iter().map(|Judged { address, verdict }| {
        json!({
            "address": address.map(|address| address.ip().to_string()),
            "allowed": verdict.is_allowed(),
            "verdict": verdict.word(),
            "rule": verdict.rule().map(ToString::to_string),
            "why": verdict.to_string(),
        })
    });
    json_object([
        ("target", json!(target.to_string())),
        ("allowed", json!(allowed)),
        ("verdicts", verdicts.collect()),
        ("allow_rules", json!(settings.targets.allow.len())),
        ("deny_rules", json!(settings.targets.deny.len())),
        ("file", json!(effective.file.display().to_string())),
    ])
}
