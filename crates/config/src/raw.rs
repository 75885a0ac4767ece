//! Configuration as it was given: optional texts, each with where it comes from, and who wins.
//!
//! Precedence is flag, environment, file, and last the variables that other programs share. Nothing
//! is judged here. White space around a text is not part of it, and an empty text counts as not
//! given, as scripts pass variables that may be empty.

use std::cmp::Reverse;
use std::fmt;
use std::path::{Path, PathBuf};

use super::env::{
    DISABLE_UPDATE_CHECK, Environment, FOREIGN, Kind, TABLE, Used, Variable, is_shared, is_standard,
};
use super::file::{Entry, Form, has_no_secret};
use super::value::{absolute_path, clean};
use super::warning::{Problem, Warning};
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

/// A value that was given for `variable`.
struct Candidate<'a> {
    source: Source,
    variable: &'static Variable,
    /// Of several names of the setting that one source gives, the lowest wins.
    rank: usize,
    value: Value<'a>,
}

impl<'a> Raw<'a> {
    /// Everything that was given, empty texts aside.
    fn candidates(&self) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        self.given()
            .filter(|candidate| !candidate.value.text.is_empty())
    }

    fn given(&self) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        let flags = self.flags.given.iter().map(|given| Candidate {
            source: Source::Flag,
            variable: given.variable,
            rank: 0,
            value: Value {
                text: &given.value,
                origin: Origin::Flag(given.flag),
            },
        });
        let file = self.file.into_iter().flat_map(|file| {
            file.entries.iter().map(|entry| Candidate {
                source: Source::File,
                variable: entry.key,
                // TOML has one name for each setting.
                rank: match entry.form {
                    Form::KeyValue => entry.key.rank(&entry.name),
                    Form::Toml => 0,
                },
                value: Value {
                    text: &entry.value,
                    origin: file.origin(entry),
                },
            })
        });
        let environment = self.environment.values.iter();
        let environment = environment.map(|(variable, name, text)| Candidate {
            source: match is_shared(name) {
                true => Source::Shared,
                false => Source::Environment,
            },
            variable,
            rank: variable.rank(name),
            value: Value {
                text,
                origin: Origin::Environment(name),
            },
        });
        flags.chain(file).chain(environment)
    }

    /// The places that give `variable` without a value.
    pub(super) fn emptied(&self, variable: &'static Variable) -> Vec<Origin<'a>> {
        let is_it = |found: &Candidate<'_>| found.variable == variable;
        let empty = self
            .given()
            .filter(|found| is_it(found) && found.value.text.is_empty());
        empty.map(|found| found.value.origin).collect()
    }

    /// Every value of `variable` with its source, the one that wins first.
    fn ranked(&self, variable: &'static Variable) -> Vec<Candidate<'a>> {
        let of_it = self.candidates().filter(|found| found.variable == variable);
        let mut ranked: Vec<_> = of_it.collect();
        ranked.sort_by_key(|found| (Reverse(found.source), found.rank));
        ranked
    }

    /// The value that wins.
    #[must_use]
    pub fn value(&self, variable: &'static Variable) -> Option<Value<'a>> {
        self.values(variable).into_iter().next()
    }

    /// Every value, the one that wins first.
    #[must_use]
    pub(crate) fn values(&self, variable: &'static Variable) -> Vec<Value<'a>> {
        let ranked = self.ranked(variable).into_iter();
        ranked.map(|found| found.value).collect()
    }

    /// Every secret that was given, whether it wins or not.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let known = TABLE.iter().filter(|known| known.secret);
        let values = known.flat_map(|known| self.values(known));
        let mut secrets: Vec<Secret> = values.map(|value| value.text.clone()).collect();
        let foreign = self.file.into_iter().flat_map(Loaded::foreign);
        let foreign = foreign.filter(|(entry, _)| !has_no_secret(entry));
        secrets.extend(foreign.map(|(entry, _)| entry.value.clone()));
        secrets.extend(self.environment.proxy.secrets());
        secrets
    }

    /// The value that `source` gives.
    #[must_use]
    pub fn value_from(&self, source: Source, variable: &'static Variable) -> Option<Value<'a>> {
        let mut ranked = self.ranked(variable).into_iter();
        let found = ranked.find(|found| found.source == source);
        found.map(|found| found.value)
    }

    /// The strongest source that gives a value.
    #[must_use]
    pub fn source(&self, variable: &'static Variable) -> Option<Source> {
        self.ranked(variable).first().map(|found| found.source)
    }

    /// A warning for each value that no `role` acts on.
    pub(super) fn without_effect(&self, role: Used) -> impl Iterator<Item = Warning> {
        let is_idle = move |found: &Candidate<'_>| match found.source {
            Source::Flag => !found.variable.used.includes(role),
            Source::File => {
                let is_standard =
                    matches!(found.value.origin, Origin::File { name, .. } if is_standard(name));
                !found.variable.used.includes(role) && !is_standard
            }
            // Several roles may share an environment. Without a search for updates, the variable
            // against it has the effect that it asks for.
            Source::Environment | Source::Shared => {
                found.variable.used == Used::ByNone && found.variable != &DISABLE_UPDATE_CHECK
            }
        };
        let idle = self.candidates().filter(is_idle);
        idle.map(|found| Warning::WithoutEffect {
            key: found.variable,
            place: found.value.origin.to_string(),
        })
    }
}
