//! Examples at the end of the help of commands whose definition has none: short ones, and those of
//! commands that several roles share.

use clap::Command;
use clap::builder::StyledStr;

/// The command without the program's name, and its examples.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "gateway",
        &[
            "infisical gateway start edge-1 --token-file token",
            "sudo infisical gateway systemd install --token-file token --user",
        ],
    ),
    ("gateway check", &["infisical gateway check edge-1"]),
    (
        "gateway systemd",
        &["sudo infisical gateway systemd install --token-file token --user"],
    ),
    (
        "gateway systemd uninstall",
        &[
            "sudo infisical gateway systemd uninstall",
            "sudo infisical gateway systemd uninstall edge-2 --purge",
        ],
    ),
    (
        "gateway wait-online",
        &["infisical gateway wait-online --timeout 30"],
    ),
    (
        "gateway policy",
        &["infisical gateway policy check db.internal:5432"],
    ),
    ("gateway reconnect", &["sudo infisical gateway reconnect"]),
    (
        "gateway upgrade",
        &[
            "sudo infisical gateway upgrade",
            "sudo infisical gateway upgrade edge-2",
        ],
    ),
    (
        "gateway healthcheck",
        &["HEALTHCHECK CMD infisical gateway healthcheck"],
    ),
    (
        "relay healthcheck",
        &["HEALTHCHECK CMD infisical relay healthcheck"],
    ),
    (
        "relay",
        &["infisical relay start --name eu-1 --host relay.example.com --token-file token"],
    ),
    (
        "relay check",
        &["infisical relay check --name eu-1 --host relay.example.com"],
    ),
    (
        "relay systemd",
        &[
            "sudo infisical relay systemd install --name eu-1 --host relay.example.com \\\n    \
             --token-file token --user",
        ],
    ),
    (
        "relay systemd uninstall",
        &["sudo infisical relay systemd uninstall"],
    ),
    (
        "platform systemd",
        &["sudo infisical platform systemd install"],
    ),
    (
        "platform systemd uninstall",
        &["sudo infisical platform systemd uninstall"],
    ),
    (
        "platform identity",
        &[
            "infisical platform identity create ci --role client",
            "infisical platform identity list",
        ],
    ),
    (
        "platform identity create",
        &[
            "infisical platform identity create ci --role client --output ci.token",
            "infisical platform identity create edge-1 --universal-auth --output edge-1.conf",
        ],
    ),
    (
        "platform access",
        &[
            "infisical platform access allow --who alice --gateway prod --target db.internal:5432",
            "infisical platform access list",
        ],
    ),
    (
        "platform access list",
        &["infisical platform access list --json"],
    ),
    (
        "platform access remove",
        &["infisical platform access remove 3"],
    ),
    (
        "platform ca",
        &[
            "infisical platform ca rotate",
            "infisical platform ca status",
        ],
    ),
    ("platform ca rotate", &["infisical platform ca rotate"]),
    (
        "platform ca status",
        &["infisical platform ca status --json"],
    ),
    (
        "platform ca advance",
        &["infisical platform ca advance --force"],
    ),
    (
        "platform service",
        &[
            "infisical platform service add postgres --gateway prod --target db.internal:5432",
            "infisical platform service list",
        ],
    ),
    (
        "platform service list",
        &["infisical platform service list --json"],
    ),
    (
        "platform service remove",
        &["infisical platform service remove postgres --gateway prod"],
    ),
    (
        "platform identity set-groups",
        &["infisical platform identity set-groups alice dba ops"],
    ),
    (
        "platform identity list",
        &["infisical platform identity list --json"],
    ),
    (
        "platform identity remove",
        &["infisical platform identity remove 3f0c9d2e-6d0b-4a57-9f53-0f2d6b1c7a11"],
    ),
    (
        "platform enrollment-token",
        &[
            "infisical platform enrollment-token create --gateway edge-1 --output edge-1.token",
            "infisical platform enrollment-token list",
        ],
    ),
    (
        "platform enrollment-token create",
        &[
            "infisical platform enrollment-token create --gateway edge-1 --output edge-1.token",
            "infisical platform enrollment-token create --relay eu-1 --host relay.example.com",
        ],
    ),
    (
        "platform enrollment-token list",
        &["infisical platform enrollment-token list --json"],
    ),
    (
        "platform enrollment-token revoke",
        &["infisical platform enrollment-token revoke --gateway edge-1"],
    ),
    ("platform gateway", &["infisical platform gateway list"]),
    (
        "platform gateway list",
        &["infisical platform gateway list --json"],
    ),
    (
        "platform gateway remove",
        &["infisical platform gateway remove edge-1"],
    ),
    ("platform relay", &["infisical platform relay list"]),
    (
        "platform relay list",
        &["infisical platform relay list --json"],
    ),
    (
        "platform relay remove",
        &["infisical platform relay remove eu-1"],
    ),
    (
        "dev",
        &[
            "infisical dev",
            "infisical dev --dir ~/infisical-dev",
            "infisical dev --check",
        ],
    ),
];

/// Adds the examples to the commands below `command`.
pub(super) fn add_to(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let path: Vec<&str> = path.split(' ').collect();
        below(command, &path, examples)
    })
}

fn below(command: Command, path: &[&str], examples: &[&str]) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let notes = command.get_after_help().map(StyledStr::to_string);
        let notes = notes
            .map(|notes| format!("{notes}\n\n"))
            .unwrap_or_default();
        let text = format!("{notes}Examples:\n  {}", examples.join("\n  "));
        return command.after_help(text);
    };
    command.mut_subcommand(first, |command| below(command, rest, examples))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Command;

    use crate::cli::Cli;

    /// Calls `check` with each shown command and the words that lead to it.
    fn each(command: &Command, words: &[String], check: &mut impl FnMut(&Command, &[String])) {
        check(command, words);
        for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let words = [words, &[below.get_name().to_owned()]].concat();
            each(below, &words, check);
        }
    }

    #[test]
    fn every_commands_help_has_an_example() {
        let root = Cli::full_command();
        let mut checked = 0;
        each(&root, &["infisical".to_owned()], &mut |command, words| {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert_eq!(help.matches("Example").count(), 1, "{words:?}: {help}");
            let call = words.join(" ");
            assert!(help.contains(&call), "{words:?}: {help}");
            checked += 1;
        });
        assert!(checked > 25, "{checked}");
    }

    /// Commands of the examples are understood; their options are too.
    #[test]
    fn examples_are_understood() {
        let mut tried = 0;
        each(
            &Cli::full_command(),
            &["infisical".to_owned()],
            &mut |command, words| {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default().replace("\\\n", " ");
                let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
                let calls = examples.lines().map(str::trim);
                let calls = calls.map(|call| {
                    let prefixes = ["sudo ", "HEALTHCHECK CMD "];
                    let without = prefixes.iter().find_map(|prefix| call.strip_prefix(prefix));
                    without.unwrap_or(call)
                });
                let before = tried;
                for call in calls.filter(|call| call.starts_with("infisical ")) {
                    let call = call.split(['>', '|']).next().unwrap_or_default();
                    // Before a description.
                    let call = call.split("  ").next().unwrap_or_default();
                    // A quoted pattern is one word without its quotes.
                    let given = call.split_whitespace().map(|word| word.trim_matches('\''));
                    let parsed = Cli::parse_words(given.map(OsString::from));
                    assert!(parsed.is_ok(), "{words:?}: {call}: {:?}", parsed.err());
                    tried += 1;
                }
                assert!(tried > before, "{words:?} has no example: {help}");
            },
        );
        assert!(tried > 25, "{tried}");
    }
}
