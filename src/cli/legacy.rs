//! Commands of older programs that are understood only to say what came instead.

use std::path::Path;

use clap::Args;

use super::exit::{Code, Failure};
use crate::install::existing::{self, Existing};
use crate::install::place::{Place, Role, UNITS};

/// Whatever followed the command.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

const WHAT_CHANGED: &str = "\
The first version of the gateway is gone, and there is no upgrade in place: the new gateway is another one to the \
platform, with an id of its own.
  1. Create a gateway on the platform, and install it here: infisical gateway systemd install --enroll-method=token \
--token-file FILE
     (or run it by hand: infisical gateway start NAME)
  2. Point the resources that name the old gateway's id at the new one.
  3. Delete the old gateway on the platform.";

/// `infisical gateway`, `gateway install` and `gateway uninstall` of the first gateway.
pub(crate) fn first_gateway() -> anyhow::Error {
    let path = Path::new(UNITS).join("infisical-gateway.service");
    let there = Place::try_new(Role::Gateway, None)
        .ok()
        .and_then(|place| existing::load(&path, &place).ok());
    let text = match there {
        Some(Existing::First(_)) => first_unit(&path.display().to_string()),
        Some(_) | None => WHAT_CHANGED.to_owned(),
    };
    Failure::of(Code::Usage, anyhow::Error::msg(text)).into()
}

/// The unit of the first gateway is still there, at `path`.
pub(crate) fn first_unit(path: &str) -> String {
    format!(
        "{path} runs the first version of the gateway. To remove it (its configuration stays): \
         sudo infisical gateway systemd uninstall\n{WHAT_CHANGED}"
    )
}
