//! What tests of the assembly give: flags, environment and files, all made up.

use std::io;
use std::path::Path;

use super::assemble::Inputs;
use super::effective::EffectiveConfig;
use super::env::{Environment, Variable};
use super::file::{self, Entry};
use super::raw::Flags;
use super::warning::{Problem, Warning};

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
    pub(super) fn assemble<S>(
        &self,
        assemble: impl FnOnce(&Inputs<'_>) -> Result<(S, Vec<Warning>), Vec<Problem>>,
    ) -> Result<(S, Vec<Warning>), Vec<String>> {
        let mut flags = Flags::default();
        for (variable, flag, value) in self.flags {
            flags.add(variable, flag, Some(value));
        }
        let environment = Environment::from_vars(self.variables.iter().copied());
        let inputs = Inputs {
            flags: &flags,
            environment: &environment,
            config: self.config.map(Path::new),
            directory: Path::new(DIRECTORY),
            load: &|path| self.load(path),
        };
        assemble(&inputs).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    pub(super) fn explain(
        &self,
        explain: impl FnOnce(&Inputs<'_>) -> Result<EffectiveConfig, Vec<Problem>>,
    ) -> EffectiveConfig {
        let explained = self.assemble(|inputs| Ok((explain(inputs)?, vec![])));
        explained.expect("a configuration").0
    }

    /// The only problem there is.
    pub(super) fn problem<S: std::fmt::Debug>(
        &self,
        assemble: impl FnOnce(&Inputs<'_>) -> Result<(S, Vec<Warning>), Vec<Problem>>,
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
