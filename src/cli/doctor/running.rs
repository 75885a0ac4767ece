//! What the settings of doctor are where its arguments do not tell: those of the role that runs
//! here, as its command line and its environment give them, or those of the only one installed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::FromArgMatches as _;

use super::super::Cli;
use super::super::check;
use super::super::global::{Global, GlobalArgs};
use super::super::start::{Daemon, Start};
use crate::agent::status::document::Document;
use crate::config::default_directory;
use crate::config::env::Environment;
use crate::install::place::{CONFIGURATION, Role};

/// The arguments and the environment of a start.
pub(super) struct Given<R: Daemon> {
    pub(super) start: Start<R>,
    pub(super) global: Global,
}

/// Those of the process that `document` is of, as far as this user may read them. Paths of its
/// arguments are then read as it reads them, from its directory.
pub(super) fn of_process<R: Daemon>(document: &Document) -> Option<Given<R>> {
    let pid = document.origin.pid;
    let words = strings(pid, "cmdline")?;
    // What it read from standard input cannot be read again.
    if words.iter().any(|word| word.as_bytes().ends_with(b"-")) {
        return None;
    }
    let environment = strings(pid, "environ")?;
    let split = |variable: &OsString| {
        let bytes = variable.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (bytes.get(..at)?, bytes.get(at + 1..)?);
        Some((
            OsStr::from_bytes(name).to_owned(),
            OsStr::from_bytes(value).to_owned(),
        ))
    };
    let environment = Environment::from_vars(environment.iter().filter_map(split));
    let (mut start, args) = parse::<R>(words)?;
    let copies = environment.credentials_directory.as_deref();
    let is_copy = |config: &Path| copies.is_some_and(|copies| config.starts_with(copies));
    if start.config.as_deref().is_some_and(is_copy) {
        start.config = Some(original(
            R::ROLE,
            environment.runtime_directory.as_deref()?,
        )?);
    }
    std::env::set_current_dir(format!("/proc/{pid}/cwd")).ok()?;
    let global = Global::new(args, environment);
    Some(Given { start, global })
}

/// Those of the only one of its role that has a configuration here, if there is no nameless one.
pub(super) fn of_only_one<R: Daemon>(global: &Global) -> Option<Given<R>> {
    let nameless = Path::new(CONFIGURATION).join(format!("{}.conf", R::ROLE));
    if nameless.exists() {
        return None;
    }
    let is_root = nix::unistd::geteuid().is_root();
    let directory = default_directory(&global.environment, is_root, R::ROLE.keys().folder);
    let names = check::names(&directory);
    let [name] = names.as_slice() else {
        return None;
    };
    let config = directory.join(format!("{name}.conf"));
    let words = ["infisical", R::ROLE.word(), "start", "--config"].map(OsString::from);
    let (start, args) = parse::<R>(words.into_iter().chain([config.into_os_string()]))?;
    let global = Global::new(args, global.environment.clone());
    Some(Given { start, global })
}

/// The file of which a service with this runtime directory has a copy.
fn original(role: Role, runtime: &Path) -> Option<PathBuf> {
    let directory = runtime.file_name()?.to_str()?;
    let rest = directory.strip_prefix(&format!("infisical-{role}"))?;
    let configuration = Path::new(CONFIGURATION);
    Some(match rest.strip_prefix('@') {
        Some(name) => configuration
            .join(role.keys().folder)
            .join(format!("{name}.conf")),
        None => configuration.join(format!("{role}.conf")),
    })
}

fn parse<R: Daemon>(words: impl IntoIterator<Item = OsString>) -> Option<(Start<R>, GlobalArgs)> {
    let matches = Cli::full_command().try_get_matches_from(words).ok()?;
    let global = GlobalArgs::from_arg_matches(&matches).ok()?;
    let role = matches.subcommand_matches(R::ROLE.word())?;
    let start = role.subcommand_matches("start")?;
    Some((Start::from_arg_matches(start).ok()?, global))
}

/// The strings of a file of the process `pid`, each of which ends with a zero.
fn strings(pid: u32, file: &str) -> Option<Vec<OsString>> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    let strings = bytes.split(|byte| *byte == 0);
    Some(
        strings
            .map(|text| OsStr::from_bytes(text).to_owned())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::super::super::setting_args::{Gateway, Relay};
    use super::{Role, original, parse};

    #[test]
    fn command_line_of_a_start_is_read() {
        let words = [
            "infisical",
            "--domain=http://h:1",
            "gateway",
            "start",
            "edge",
            "--config",
            "/c",
        ];
        let (start, _) = parse::<Gateway>(words.map(OsString::from)).expect("a start");
        assert_eq!(start.name(), Some("edge"));
        assert_eq!(start.config.as_deref(), Some(Path::new("/c")));
        let words = ["infisical", "gateway", "status"].map(OsString::from);
        assert!(parse::<Gateway>(words).is_none());
        let words = ["infisical", "relay", "start", "--name", "eu"].map(OsString::from);
        assert!(parse::<Relay>(words).is_some());
    }

    #[test]
    fn copied_file_is_found_by_the_service() {
        for (runtime, file) in [
            (
                "/run/infisical-gateway",
                Some("/etc/infisical/gateway.conf"),
            ),
            (
                "/run/infisical-gateway@a",
                Some("/etc/infisical/gateways/a.conf"),
            ),
            ("/run/other", None),
        ] {
            let found = original(Role::Gateway, Path::new(runtime));
            assert_eq!(found.as_deref(), file.map(Path::new), "{runtime}");
        }
    }
}
