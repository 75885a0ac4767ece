//! `infisical dev`: everything on one machine.

use super::exit::Failure;
use super::global::Global;
use crate::scope::Scope;

/// Try everything: platform, relay, gateway and a sample service on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[expect(clippy::unused_async, reason = "the role is still being written")]
pub(crate) async fn run(_args: Args, _global: &Global, _scope: Scope) -> anyhow::Result<()> {
    Err(Failure::usage("this command is not available yet").into())
}
