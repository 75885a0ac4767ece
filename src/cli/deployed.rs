//! Words of the deployed CLI that this program does not take as they are: long flags with one dash, and commands that only
//! the deployed CLI has.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of the deployed CLI that this program does not have.
const COMMANDS: &[&str] = &[
    "agent",
    "bootstrap",
    "cert-manager",
    "completion",
    "dynamic-secrets",
    "export",
    "folders",
    "init",
    "kmip",
    "login",
    "logout",
    "network",
    "pam",
    "pki",
    "proxy",
    "reset",
    "run",
    "scan",
    "secrets",
    "service-token",
    "ssh",
    "token",
    "update",
    "upgrade",
    "user",
    "vault",
];

/// Commands whose task this program has under another name.
const RENAMED: &[(&str, &str)] = &[
    ("network", "infisical relay start"),
    ("proxy", "infisical relay start"),
];

/// The arguments with a second dash before every long flag of `command` that has one, as Go's flags may be typed.
pub(crate) fn with_two_dashes(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let flags = long_flags(command);
    let mut is_over = false;
    let double = |argument: OsString| {
        is_over |= argument == "--";
        let text = argument.to_str().and_then(|text| text.strip_prefix('-'));
        let Some(text) = text.filter(|text| !is_over && text.len() > 1) else {
            return argument;
        };
        let word = text.split_once('=').map_or(text, |(word, _)| word);
        if flags.contains(word) {
            OsString::from(format!("--{text}"))
        } else {
            argument
        }
    };
    arguments.into_iter().map(double).collect()
}

fn long_flags(command: &Command) -> BTreeSet<String> {
    let mut flags: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        let own = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.extend(own.map(str::to_owned));
        commands.extend(command.get_subcommands());
    }
    flags
}

/// What to do instead of the command that `error` does not know, if the deployed CLI has it.
pub(crate) fn hint(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let ContextValue::String(word) = error.get(ContextKind::InvalidSubcommand)? else {
        return None;
    };
    if let Some((_, now)) = RENAMED.iter().find(|(old, _)| old == word) {
        return Some(format!(
            "there is no command {word} here; a relay is started with: {now}"
        ));
    }
    COMMANDS.contains(&word.as_str()).then(|| {
        format!(
            "{word} is a command of the Infisical CLI, another program that is called infisical too; this \
             one runs gateways and relays and has no {word}. Where both are installed, call the CLI by its \
             path. Its documentation: https://infisical.com/docs/cli/overview"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory as _;

    use super::{COMMANDS, with_two_dashes};
    use crate::cli::Cli;

    #[test]
    fn long_flags_may_have_one_dash() {
        for (given, expected) in [
            ("-domain=https://a", "--domain=https://a"),
            ("-enroll-method", "--enroll-method"),
            ("-help", "--help"),
            ("-l", "-l"),
            ("-ldebug", "-ldebug"),
            ("-h", "-h"),
            ("-", "-"),
            ("-no-such-flag", "-no-such-flag"),
            ("--name", "--name"),
            ("edge", "edge"),
        ] {
            let doubled = with_two_dashes(&Cli::command(), [OsString::from(given)]);
            assert_eq!(doubled, [OsString::from(expected)]);
        }
        let after = ["--", "-domain"].map(OsString::from);
        assert_eq!(with_two_dashes(&Cli::command(), after.clone()), after);
    }

    #[test]
    fn no_command_of_ours_is_called_another_programs() {
        let command = Cli::command();
        for ours in command.get_subcommands() {
            assert!(!COMMANDS.contains(&ours.get_name()), "{}", ours.get_name());
        }
    }
}
