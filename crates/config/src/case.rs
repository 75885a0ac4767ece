//! What tests of the assembly give: flags, environment and files, all made up.

use std::io;
use std::path::Path;

use super::assemble::{Assembled, Inputs};
use super::effective::EffectiveConfig;
use super::env::{Environment, Variable};
use super::file::{self, Entry};
use super::raw::Flags;
use super::warning::Warning;

/// Where the files of a role are, in tests.
pub(super) const DIRECTORY: &str = "/conf";

/// One configuration.
#[derive(Default)]
pub(super) struct Case<'a> {
    pub(super) flags: &'a [(&'static Variable, &'static str, &'a str)],
    pub(super) variables: &'a [(&'a str, &'a str)],
    /// Path and text of the only file that exists.
    pub(super) file: Option<(&'a str, &'a str)>,
    /// `--config`.
    pub(super) config: Option<&'a str>,
}

impl Case<'_> {
    pub(super) fn read<T>(&self, read: impl FnOnce(&Inputs<'_>) -> T) -> T {
        let mut flags = Flags::default();
        for (variable, flag, value) in self.flags {
            flags.add(variable, flag, Some(value));
        }
        let environment = Environment::from_vars(self.variables.iter().copied());
        read(&Inputs {
            flags: &flags,
            environment: &environment,
            config: self.config.map(Path::new),
            directory: Path::new(DIRECTORY),
            load: &|path| self.load(path),
        })
    }

    pub(super) fn assemble<S>(
        &self,
        assemble: impl FnOnce(&Inputs<'_>) -> Assembled<S>,
    ) -> Result<(S, Vec<Warning>), Vec<String>> {
        match self.read(assemble) {
            Ok((settings, effective)) => Ok((settings, effective.warnings)),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    pub(super) fn explain<S>(
        &self,
        assemble: impl FnOnce(&Inputs<'_>) -> Assembled<S>,
    ) -> EffectiveConfig {
        let assembled = self.read(assemble).map(|(_, effective)| effective);
        assembled.expect("a configuration")
    }

    /// The only problem there is.
    pub(super) fn problem<S: std::fmt::Debug>(
        &self,
        assemble: impl FnOnce(&Inputs<'_>) -> Assembled<S>,
    ) -> String {
        let problems = self.assemble(assemble).expect_err("a problem");
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.concat()
    }

    fn load(&self, path: &Path) -> Result<Vec<Entry>, file::Error> {
        let path = path.to_owned();
        match self.file {
            Some((name, text)) if path == Path::new(name) => {
                file::parse(text).map_err(|lines| file::Error::Lines { path, lines })
            }
            Some(_) | None => Err(file::Error::Read {
                path,
                source: io::Error::from(io::ErrorKind::NotFound),
            }),
        }
    }
}
