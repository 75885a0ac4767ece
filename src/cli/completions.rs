//! `infisical completions`: scripts with which shells ask this program for the words that may come
//! next.
//!
//! A script calls the program with [`VARIABLE`] set; [`answer`] prints the candidates, from the
//! definition of the command line. Both sides are `clap_complete`'s. Nothing is connected to, and
//! of files only the names of configurations are read.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Command, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Shells, Zsh};
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};

use super::print::print;
use crate::config::default_directory;
use crate::config::env::Environment;
use crate::install::place::{CONFIGURATION, Role};
use crate::unit_name;

/// Names the shell that asks.
const VARIABLE: &str = "INFISICAL_COMPLETE";
/// What shells complete, and call.
const PROGRAM: &str = "infisical";
/// Print a script that completes commands, flags and names in a shell
///
/// Packages and `make install` install the scripts where shells find them. The script asks the
/// program called infisical for the words that may come next; names are those of the gateways and
/// relays whose configuration you may list.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(infisical completions bash)
  infisical completions zsh >~/.zfunc/_infisical
  infisical completions fish >~/.config/fish/completions/infisical.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
    /// The name by which the program is called; packages that call it otherwise say so
    #[arg(long, value_name = "NAME", default_value = PROGRAM, hide = true)]
    program: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = args.program.as_str();
    let (completer, more): (&dyn EnvCompleter, _) = match args.shell {
        Shell::Bash => (&Bash, String::new()),
        Shell::Zsh => (&Zsh, zsh_autoload(program)),
        Shell::Fish => (&Fish, String::new()),
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, program, program, program, &mut script)?;
    print(&format!("{}{more}", String::from_utf8_lossy(&script)))
}

/// Zsh loads the installed file as the function of its name at the first completion, and expects
/// that one to be answered.
fn zsh_autoload(program: &str) -> String {
    let function = program.replace('-', "_");
    format!(
        "[ \"${{funcstack[1]}}\" != _{program} ] || _clap_dynamic_completer_{function} \"$@\"\n"
    )
}

/// Answers a shell that asks for the words that may come next; false if none asks.
pub(super) fn answer(
    command: fn() -> Command,
    words: Vec<OsString>,
    environment: &Environment,
) -> Result<bool, clap::Error> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| with_names(command(), environment))
        .var(VARIABLE)
        .shells(Shells(&[&Bash, &Zsh, &Fish]))
        .try_complete(words, directory.as_deref())
}

/// The commands whose positional arguments are names, and whose names they are.
const NAMING: [(&str, Role); 3] = [
    ("gateway", Role::Gateway),
    ("relay", Role::Relay),
    ("connect", Role::Gateway),
];

/// `command` with names for the positional arguments of the commands that are [`NAMING`].
fn with_names(command: Command, environment: &Environment) -> Command {
    NAMING.into_iter().fold(command, |command, (word, role)| {
        let is_root = nix::unistd::geteuid().is_root();
        let folder = role.keys().folder;
        let directories = [
            default_directory(environment, is_root, folder),
            Path::new(CONFIGURATION).join(folder),
        ];
        command.mut_subcommand(word, |command| name_positionals(command, &directories))
    })
}

fn name_positionals(command: Command, directories: &[PathBuf]) -> Command {
    let named = |arg: clap::Arg| {
        if !arg.is_positional() {
            return arg;
        }
        let directories = directories.to_vec();
        arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
            let typed = typed.to_string_lossy().into_owned();
            let names = names(&directories).into_iter();
            let names = names.filter(|name| name.starts_with(&typed));
            names.map(CompletionCandidate::new).collect()
        }))
    };
    let command = command.mut_args(named);
    let commands = command.get_subcommands();
    let commands: Vec<String> = commands.map(|c| c.get_name().to_owned()).collect();
    commands.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| name_positionals(command, directories))
    })
}

/// Whose configuration is in one of `directories`, as far as they can be listed.
fn names(directories: &[PathBuf]) -> BTreeSet<String> {
    let entries = directories.iter().filter_map(|d| d.read_dir().ok());
    let entries = entries.flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let file = entry.file_name().into_string().ok()?;
        // Beside some lie settings that the deployed program keeps.
        let stem = file
            .strip_suffix(".conf")
            .filter(|stem| !stem.ends_with(".env"))?;
        unit_name::name_of_file(stem)
    };
    entries.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    use clap::Command;
    use clap_complete::engine::complete;

    use super::with_names;
    use crate::cli::Cli;
    use crate::config::env::Environment;

    fn candidates(command: &Command, words: &[String]) -> BTreeSet<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let last = words.len() - 1;
        let found = complete(&mut command.clone(), words, last, None).expect("candidates");
        let value = |candidate: &clap_complete::CompletionCandidate| {
            candidate.get_value().to_string_lossy().into_owned()
        };
        found.iter().map(value).collect()
    }

    /// Checks `command`, which `words` lead to, and all below it; gives how many were checked.
    fn check(root: &Command, command: &Command, words: &[String]) -> usize {
        let with = |last: &str| [words, &[last.to_owned()]].concat();
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags: BTreeSet<String> = flags
            .filter_map(clap::Arg::get_long)
            .map(|flag| format!("--{flag}"))
            .collect();
        assert!(flags.contains("--help") && flags.contains("--log-level"));
        assert_eq!(candidates(root, &with("--")), flags, "{words:?}");
        let shown = || command.get_subcommands().filter(|c| !c.is_hide_set());
        let found = candidates(root, &with(""));
        for below in shown() {
            assert!(found.contains(below.get_name()), "{words:?}: {found:?}");
        }
        let below = shown().filter(|below| below.get_name() != "help");
        1 + below
            .map(|below| check(root, below, &with(below.get_name())))
            .sum::<usize>()
    }

    #[test]
    fn every_command_and_flag_is_completed() {
        let mut root = Cli::full_command();
        root.build();
        assert!(check(&root, &root, &["infisical".to_owned()]) > 20);
    }

    #[test]
    fn names_of_configured_gateways_are_completed() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join(".infisical/gateways");
        std::fs::create_dir_all(&folder).expect("a directory");
        for file in [
            "edge-1.conf",
            "My@x20Gateway.conf",
            "edge-1.token",
            "edge-1.env.conf",
        ] {
            std::fs::write(folder.join(file), "").expect("written");
        }
        let directories = [folder, home.path().join("absent")];
        let names = super::names(&directories);
        assert_eq!(Vec::from_iter(names), ["My Gateway", "edge-1"]);
        let command = Cli::full_command();
        let command = command.mut_subcommand("gateway", |command| {
            super::name_positionals(command, &directories)
        });
        let command = command.mut_subcommand("connect", |command| {
            super::name_positionals(command, &directories)
        });
        for path in [
            &["gateway", "start"][..],
            &["gateway", "systemd", "uninstall"],
            &["gateway", "reconnect"],
            &["connect"],
        ] {
            let words = [&["infisical"], path, &["ed"]].concat();
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert!(candidates(&command, &words).contains("edge-1"), "{path:?}");
        }
        // Those of this machine are of no interest here.
        with_names(Cli::full_command(), &Environment::default()).debug_assert();
    }
}
