//! `infisical connect`: a client's way to a service.

use super::exit::Failure;
use super::global::Global;
use crate::scope::Scope;

/// Reach a service behind a gateway, through a local port or standard input and output
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[expect(clippy::unused_async, reason = "the role is still being written")]
pub(crate) async fn run(_args: Args, _global: &Global, _scope: Scope) -> anyhow::Result<()> {
    Err(Failure::usage("this command is not available yet").into())
}
