//! Configuration as it was given: optional texts, each with where it comes from, and who wins.
//!
//! Precedence is flag, environment, file, and last the variables that other programs share. Nothing
//! is judged here. White space around a text is not part of it, and an empty text counts as not
//! given, as scripts pass variables that may be empty.

use std::fmt;
use std::path::{Path, PathBuf};

use super::env::{Environment, FOREIGN, Kind, Used, Variable, is_standard};
use super::file::{Entry, Form};
use super::value::{absolute_path, clean};
use super::warning::Problem;
use crate::secret::Secret;

/// Where a value may come from, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A variable of the environment that other programs may use as well.
    Shared,
    /// A configuration file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl Source {
    /// All of them, the one that wins first.
    pub(crate) const BY_PRECEDENCE: [Self; 4] =
        [Self::Flag, Self::Environment, Self::File, Self::Shared];
}

/// Exactly where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A flag, or what a flag told to read.
    Flag(&'static str),
    /// An environment variable, by the name that is set.
    Environment(&'static str),
    /// A line of a file.
    File {
        /// The file.
        path: &'a Path,
        /// Counted from 1.
        line: usize,
        /// The key as the file spells it.
        name: &'a str,
    },
    /// A file of the deployed CLI, and what it is.
    Cli(&'a str),
    /// What holds if nothing is said.
    Default,
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Cli(text) => f.write_str(text),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line, name } => {
                write!(f, "{name} in {} line {line}", path.display())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// A text and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    /// The text, secret or not.
    pub text: &'a Secret,
    /// Where it comes from.
    pub origin: Origin<'a>,
}

/// The flags of one command.
#[derive(Debug, Default)]
pub struct Flags {
    given: Vec<Given>,
    /// What is wrong with the flags themselves.
    pub problems: Vec<Problem>,
    /// Settings that a flag gives in a way that is one of the `problems`.
    failed: Vec<&'static Variable>,
}

#[derive(Debug)]
struct Given {
    variable: &'static Variable,
    flag: &'static str,
    value: Secret,
    in_arguments: bool,
}

impl Flags {
    /// Adds the value of `flag`, which sets `variable`; of several flags for the same variable the
    /// first added wins.
    pub fn add(&mut self, variable: &'static Variable, flag: &'static str, value: Option<&str>) {
        self.push(variable, flag, value.map(Secret::new), true);
    }

    /// Adds a value that is not in the argument list, but was read from where `flag` says.
    pub fn add_read(&mut self, variable: &'static Variable, flag: &'static str, value: Secret) {
        self.push(variable, flag, Some(value), false);
    }

    /// Adds a flag that gives `variable`, but as `problem` says.
    pub fn add_failed(&mut self, variable: &'static Variable, problem: Problem) {
        self.failed.push(variable);
        self.problems.push(problem);
    }

    /// Makes every path absolute that was typed in `directory`, for a program that runs elsewhere.
    pub fn make_paths_absolute(&mut self, directory: &Path) {
        let is_path = |given: &&mut Given| given.variable.kind == Kind::Path;
        for given in self.given.iter_mut().filter(is_path) {
            given.value = Secret::new(absolute_path(directory, given.value.expose()));
        }
    }

    /// True if a flag gives `variable` in a way that cannot be used.
    #[must_use]
    pub(crate) fn has_failed(&self, variable: &Variable) -> bool {
        self.failed.contains(&variable)
    }

    fn push(
        &mut self,
        variable: &'static Variable,
        flag: &'static str,
        value: Option<Secret>,
        in_arguments: bool,
    ) {
        let value = value.map(|value| Secret::new(clean(value.expose())));
        if let Some(value) = value.filter(|value| !value.is_empty() && variable != &FOREIGN) {
            self.given.push(Given {
                variable,
                flag,
                value,
                in_arguments,
            });
        }
    }

    /// What flags set that no `role` acts on: which setting, and the flag.
    pub(crate) fn without_effect(
        &self,
        role: Used,
    ) -> impl Iterator<Item = (&'static Variable, &'static str)> {
        let idle = move |given: &&Given| !given.variable.used.includes(role);
        let given = self.given.iter().filter(idle);
        given.map(|given| (given.variable, given.flag))
    }

    /// The flags whose secret every user of the machine can see.
    pub fn exposed(&self) -> impl Iterator<Item = &'static str> {
        let exposed = |given: &&Given| given.in_arguments && given.variable.secret;
        self.given.iter().filter(exposed).map(|given| given.flag)
    }
}

/// A configuration file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// Where it is.
    pub path: PathBuf,
    /// What it sets.
    pub entries: Vec<Entry>,
}

impl Loaded {
    /// How it is written.
    #[must_use]
    pub(crate) fn form(&self) -> Form {
        let first = self.entries.first();
        first.map_or(Form::KeyValue, |entry| entry.form)
    }

    /// The lines for other programs, each with where it stands.
    pub(super) fn foreign(&self) -> impl Iterator<Item = (&Entry, Origin<'_>)> {
        let foreign = self.entries.iter().filter(|entry| entry.key == &FOREIGN);
        foreign.map(|entry| (entry, self.origin(entry)))
    }

    /// What it sets that no `role` acts on: which setting, and where.
    pub(crate) fn without_effect(
        &self,
        role: Used,
    ) -> impl Iterator<Item = (&'static Variable, Origin<'_>)> {
        let idle = move |entry: &&Entry| {
            !entry.key.used.includes(role) && !is_standard(&entry.name) && !entry.value.is_empty()
        };
        self.entries
            .iter()
            .filter(idle)
            .map(|entry| (entry.key, self.origin(entry)))
    }

    fn origin<'a>(&'a self, entry: &'a Entry) -> Origin<'a> {
        Origin::File {
            path: &self.path,
            line: entry.line,
            name: &entry.name,
        }
    }
}

/// Everything that was given.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// The flags of the command.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a Environment,
    /// The file, if there is one.
    pub file: Option<&'a Loaded>,
}

impl<'a> Raw<'a> {
    /// The value that wins.
    #[must_use]
    pub fn value(&self, variable: &'static Variable) -> Option<Value<'a>> {
        Source::BY_PRECEDENCE
            .into_iter()
            .find_map(|source| self.value_from(source, variable))
    }

    /// Every value, the one that wins first.
    #[must_use]
    pub(crate) fn values(&self, variable: &'static Variable) -> Vec<Value<'a>> {
        let sources = Source::BY_PRECEDENCE.into_iter();
        let values = sources.flat_map(|source| self.values_from(source, variable));
        values.collect()
    }

    /// The value that `source` gives.
    #[must_use]
    pub fn value_from(&self, source: Source, variable: &'static Variable) -> Option<Value<'a>> {
        self.values_from(source, variable).into_iter().next()
    }

    /// The values that `source` gives, by whichever of the setting's flags or names, the strongest
    /// first.
    fn values_from(&self, source: Source, variable: &'static Variable) -> Vec<Value<'a>> {
        let of_environment = |(name, text)| Value {
            text,
            origin: Origin::Environment(name),
        };
        match source {
            Source::Flag => {
                let given = self.flags.given.iter();
                let given = given.filter(|given| given.variable == variable);
                let value = |given: &'a Given| Value {
                    text: &given.value,
                    origin: Origin::Flag(given.flag),
                };
                given.map(value).collect()
            }
            Source::Environment => {
                let values = self.environment.values_with_names(variable);
                values.map(of_environment).collect()
            }
            Source::Shared => {
                let values = self.environment.shared_values(variable);
                values.map(of_environment).collect()
            }
            Source::File => self.values_of_file(variable),
        }
    }

    fn values_of_file(&self, variable: &'static Variable) -> Vec<Value<'a>> {
        let Some(file) = self.file else {
            return Vec::new();
        };
        let is_given = |entry: &&Entry| entry.key == variable && !entry.value.is_empty();
        let mut entries: Vec<&'a Entry> = file.entries.iter().filter(is_given).collect();
        // TOML has one name for each setting.
        let strength = |entry: &&Entry| {
            let mut names = variable.names();
            names.position(|name| entry.form == Form::Toml || entry.name == name)
        };
        entries.retain(|entry| strength(entry).is_some());
        entries.sort_by_key(strength);
        let value = |entry: &'a Entry| Value {
            text: &entry.value,
            origin: file.origin(entry),
        };
        entries.into_iter().map(value).collect()
    }

    /// The strongest source that gives a value.
    #[must_use]
    pub fn source(&self, variable: &'static Variable) -> Option<Source> {
        Source::BY_PRECEDENCE
            .into_iter()
            .find(|source| self.value_from(*source, variable).is_some())
    }
}
