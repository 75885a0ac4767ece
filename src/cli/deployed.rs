//! Words that this program answers with a hint: long flags with one dash, and commands that only
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

/// The error for the first long flag of `command` that has one dash, which neither the deployed CLI
/// nor this program understands.
pub(crate) fn one_dash(command: &Command, arguments: &[OsString]) -> Option<clap::Error> {
    let flags = long_flags(command);
    let mut before_end = arguments.iter().take_while(|argument| *argument != "--");
    let word = before_end.find_map(|argument| {
        let text = argument.to_str()?.strip_prefix('-')?;
        let word = text.split_once('=').map_or(text, |(word, _)| word);
        flags.contains(word).then_some(word)
    })?;
    let hint = format!("use --{word} (two dashes)");
    let mut error = clap::Error::raw(ErrorKind::UnknownArgument, format!("{hint}\n"));
    error.insert(ContextKind::Custom, ContextValue::String(hint));
    Some(error)
}

/// Takes the commands that `--help` does not show out of what `error` suggests.
pub(crate) fn without_hidden(command: &Command, mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::Strings(suggested)) = error.remove(ContextKind::SuggestedSubcommand)
    else {
        return error;
    };
    let hidden = hidden_commands(command);
    let shown: Vec<_> = suggested
        .into_iter()
        .filter(|name| !hidden.contains(name))
        .collect();
    if !shown.is_empty() {
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(shown),
        );
    }
    error
}

fn hidden_commands(command: &Command) -> BTreeSet<String> {
    let mut hidden = BTreeSet::new();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        if command.is_hide_set() {
            hidden.insert(command.get_name().to_owned());
        }
        commands.extend(command.get_subcommands());
    }
    hidden
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
    if let Some(ContextValue::String(hint)) = error.get(ContextKind::Custom) {
        return Some(hint.clone());
    }
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

    use super::{COMMANDS, hint, one_dash};
    use crate::cli::Cli;

    #[test]
    fn single_dash_long_flags_get_a_hint() {
        let hint_for = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            one_dash(&Cli::command(), &words).and_then(|error| hint(&error))
        };
        for (word, expected) in [
            ("-domain=https://a", Some("use --domain (two dashes)")),
            ("-enroll-method", Some("use --enroll-method (two dashes)")),
            ("-help", Some("use --help (two dashes)")),
            ("-l", None),
            ("-ldebug", None),
            ("-h", None),
            ("-", None),
            ("-no-such-flag", None),
            ("--name", None),
            ("edge", None),
        ] {
            assert_eq!(hint_for(&[word]).as_deref(), expected, "{word}");
        }
        assert_eq!(hint_for(&["--", "-domain"]), None);
    }

    #[test]
    fn hidden_commands_are_not_suggested() {
        for word in ["stat", "list", "instal"] {
            let words = ["infisical", "gateway", word].map(OsString::from);
            let error = Cli::parse_words(words).expect_err("no such command");
            let text = error.to_string();
            assert!(!text.contains("'install'"), "{text}");
        }
        let words = ["infisical", "gateway", "systemdd"].map(OsString::from);
        let error = Cli::parse_words(words).expect_err("no such command");
        assert!(error.to_string().contains("'systemd'"), "{error}");
    }

    #[test]
    fn our_commands_shadow_no_other_programs() {
        let command = Cli::command();
        for ours in command.get_subcommands() {
            assert!(!COMMANDS.contains(&ours.get_name()), "{}", ours.get_name());
        }
    }
}
