//! Commands of older programs that are understood only to say what came instead, or that it is to come.

use clap::Args;

use super::exit::Failure;

/// Whatever followed the command.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

/// `infisical gateway` and `infisical gateway install`, the first gateway.
pub(crate) fn first_gateway() -> anyhow::Error {
    Failure::usage(
        "the first version of the gateway is gone; use: infisical gateway start NAME\n\
         The new gateway has a new id: enroll it, then point the resources that name the old gateway at it.",
    )
    .into()
}

/// `infisical gateway systemd` and `infisical relay systemd`.
pub(crate) fn systemd() -> anyhow::Error {
    Failure::usage(
        "installing a unit is not supported yet in this version; \
         let a unit of your own run: infisical gateway start NAME, or infisical relay start",
    )
    .into()
}
