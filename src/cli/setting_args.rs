//! The arguments of a command, made of the table of settings: every flag that the command's role
//! understands, and those that every command does.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint};

use crate::config::env::{Flag, Group, Kind, TABLE, TOKEN, Used, Variable, word};
use crate::config::raw::Flags;
use crate::config::token;
use crate::config::value::clean;
use crate::config::warning::Problem;
use crate::error::chain;
use crate::secret::Secret;

/// The role of a command.
pub(crate) trait Role {
    /// Which settings the command understands.
    const USED: Used;
}

/// All commands.
#[derive(Debug)]
pub(crate) enum Every {}
/// Commands of gateways.
#[derive(Debug)]
pub(crate) enum Gateway {}
/// Commands of relays.
#[derive(Debug)]
pub(crate) enum Relay {}

impl Role for Every {
    const USED: Used = Used::ByAll;
}

impl Role for Gateway {
    const USED: Used = Used::ByGateways;
}

impl Role for Relay {
    const USED: Used = Used::ByRelays;
}

/// What the flags of a command give, in the order of the table.
pub(crate) struct SettingArgs<R> {
    given: Vec<(&'static Variable, &'static Flag, Secret)>,
    role: PhantomData<R>,
}

impl<R> fmt::Debug for SettingArgs<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.given).finish()
    }
}

impl<R> Default for SettingArgs<R> {
    fn default() -> Self {
        Self {
            given: Vec::new(),
            role: PhantomData,
        }
    }
}

impl<R> SettingArgs<R> {
    /// What was given for `variable`, by whichever of its flags.
    pub(crate) fn of(&self, variable: &Variable) -> Option<&str> {
        let given = self.given.iter().find(|(given, _, _)| *given == variable);
        given.map(|(_, _, value)| value.expose())
    }

    /// Arguments that give `variable`, if there is a `value`.
    #[cfg(test)]
    pub(crate) fn giving(variable: &'static Variable, value: Option<&str>) -> Self {
        let flag = variable.flags.first().expect("a flag");
        let given = value.map(|value| (variable, flag, Secret::new(value)));
        Self {
            given: Vec::from_iter(given),
            role: PhantomData,
        }
    }

    /// True if nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The word that was given for `flag`.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        let given = self.given.iter().find(|(_, given, _)| given.name == flag);
        given.map(|(_, _, value)| value.expose())
    }

    /// Adds what is given to `flags`. Files of secrets are read, and `input` for `--token -`.
    pub(crate) fn add_to(&self, flags: &mut Flags, input: impl io::Read) {
        let mut input = Some(input);
        for (variable, flag, value) in &self.given {
            let standard_input = value.expose() == "-" && *variable == &TOKEN;
            let (name, read) = match (standard_input, flag.reads_file) {
                (true, false) => {
                    let Some(input) = input.take() else { continue };
                    let from = "standard input".to_owned();
                    ("--token -", token::read(input, from))
                }
                (_, true) if clean(value.expose()).is_empty() => continue,
                (_, true) => match Kind::Path.check(value.expose()) {
                    Ok(()) => (flag.name, token::load(Path::new(value.expose()))),
                    Err(error) => {
                        let text = format!("{}: {error}", flag.name);
                        flags.add_failed(variable, Problem::new(text));
                        continue;
                    }
                },
                (false, false) => {
                    flags.add(variable, flag.name, Some(value.expose()));
                    continue;
                }
            };
            match read {
                Ok(value) => flags.add_read(variable, name, value),
                Err(error) => {
                    let text = format!("{name}: {}", chain(&error));
                    flags.add_failed(variable, Problem::new(text));
                }
            }
        }
    }

    /// Adds what is given, without reading anything.
    pub(crate) fn add_unread(&self, flags: &mut Flags) {
        for (variable, flag, value) in self.given.iter().filter(|(_, flag, _)| !flag.reads_file) {
            flags.add(variable, flag.name, Some(value.expose()));
        }
    }
}

impl<R: Role> clap::FromArgMatches for SettingArgs<R> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (variable, flag) in settings(R::USED) {
            if let Some(value) = matches.get_one::<String>(flag.word()) {
                self.given.push((variable, flag, Secret::new(value)));
            }
        }
        Ok(())
    }
}

impl<R: Role> clap::Args for SettingArgs<R> {
    fn augment_args(command: Command) -> Command {
        settings(R::USED).fold(command, |command, (variable, flag)| {
            command.arg(argument(variable, flag))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The settings that commands of a role understand, with their flags: of one role without those of
/// every command, of all roles only those.
fn settings(role: Used) -> impl Iterator<Item = (&'static Variable, &'static Flag)> {
    let is_of_every = role == Used::ByAll;
    let own = TABLE.iter();
    let own = own.filter(move |known| (known.group == Group::Global) == is_of_every);
    own.flat_map(move |known| {
        let known = *known;
        known.flags_of(role).map(move |flag| (known, flag))
    })
}

fn argument(variable: &'static Variable, flag: &'static Flag) -> Arg {
    let name = flag.word();
    let mut argument = Arg::new(name)
        .long(name)
        .help(flag_help(variable, flag))
        .value_name(value_name(variable, flag))
        .hide(flag.is_older)
        .global(variable.group == Group::Global);
    if flag.reads_file || matches!(variable.kind, Kind::Path) {
        argument = argument.value_hint(ValueHint::FilePath);
    }
    if let Some(letter) = flag.short {
        argument = argument.short(letter);
    }
    if let Some(keyword) = variable.keyword {
        let parse = move |text: &str| keyword(text).map(str::to_owned);
        argument = argument.value_parser(parse);
    }
    if let Some(heading) = variable.group.heading() {
        argument = argument.help_heading(heading);
    }
    if let Kind::Choice(words) = variable.kind {
        argument = argument
            .value_parser(PossibleValuesParser::new(words.iter().copied()))
            .hide_possible_values(true);
    }
    if matches!(variable.kind, Kind::Switch) {
        argument = argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    for other in flag.excludes {
        argument = argument.conflicts_with(word(other));
    }
    argument
}

fn value_name(variable: &Variable, flag: &Flag) -> &'static str {
    if flag.reads_file {
        return Kind::Path.value_name();
    }
    match variable.kind {
        Kind::Choice(_) if flag.name.ends_with("type") => "TYPE",
        kind => kind.value_name(),
    }
}

fn flag_help(variable: &Variable, flag: &Flag) -> String {
    if flag.is_older {
        return format!("Older spelling, see {}", variable.name);
    }
    if flag.reads_file {
        return "File with the token, on one line".to_owned();
    }
    if variable.used == Used::ByNone {
        return format!(
            "Accepted, without effect in this version: {}",
            variable.meaning
        );
    }
    // What it sets, the default and the variable.
    let (meaning, default) = flag.meaning.unwrap_or((variable.meaning, variable.default));
    let mut text = capitalized(meaning);
    if variable.secret {
        text.push_str(
            "; other users of this machine can see arguments: use a file or the environment",
        );
    }
    if !matches!(default, "" | "required") {
        text.push_str(" [default: ");
        text.push_str(default);
        text.push(']');
    }
    text.push_str(" [env: ");
    text.push_str(variable.name);
    text.push(']');
    text
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(chars)
        .collect()
}
