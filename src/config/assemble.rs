//! What the assembly of every role has in common: where its file is, and reading one setting at a time while
//! collecting everything that is wrong.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use super::account::{Account, Notes};
use super::env::{
    API_URL, AUTH_METHOD, CLIENT_ID, CLIENT_SECRET, CUSTOM_HEADERS, Environment, LOG_FILE,
    LOG_LEVEL, TOKEN, Used, Variable,
};
use super::file::{self, Entry};
use super::raw::{Flags, Loaded, Origin, Raw, Source};
use super::remark::{Problem, Remark};
use super::settings::{
    ApiBase, CustomHeaders, DEFAULT_DOMAIN, IdentityCredential, LogLevel, LogSettings,
};
use crate::secret::Secret;

/// Ways in which a machine identity may log in (protocol.md §6); only the first is supported today.
pub const AUTH_METHODS: [&str; 8] = [
    UNIVERSAL_AUTH,
    "kubernetes",
    "azure",
    "gcp-id-token",
    "gcp-iam",
    "aws-iam",
    "oidc-auth",
    "jwt-auth",
];
const UNIVERSAL_AUTH: &str = "universal-auth";

/// Ways to enroll (protocol.md §6); only the first is supported today.
pub const ENROLL_METHODS: [&str; 2] = ["token", "aws"];

const NOT_SUPPORTED: &str = "not supported yet in this version";

/// What an assembly begins with. It reads no other file and no environment, so that tests give all of it.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The flags of the command.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a Environment,
    /// The file that `--config` names.
    pub config: Option<&'a Path>,
    /// Where files named after the role's name are.
    pub directory: &'a Path,
    /// Reads a file.
    pub load: &'a dyn Fn(&Path) -> Result<Vec<Entry>, file::Error>,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("flags", self.flags)
            .field("environment", self.environment)
            .field("config", &self.config)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Where files named after a role's name are by default: `/etc/infisical` for root, else the user's
/// `~/.infisical`, else (a service without a home) its state directory. `roles` is `gateways` or `relays`.
#[must_use]
pub fn default_directory(environment: &Environment, is_root: bool, roles: &str) -> PathBuf {
    let base = if is_root {
        PathBuf::from("/etc/infisical")
    } else if let Some(home) = &environment.home {
        home.join(".infisical")
    } else if let Some(state) = &environment.state_directory {
        state.clone()
    } else {
        PathBuf::from("/var/lib/infisical")
    };
    base.join(roles)
}

impl Inputs<'_> {
    fn raw(&self) -> Raw<'_> {
        Raw {
            flags: self.flags,
            environment: self.environment,
            file: None,
        }
    }

    /// The path of the role's file: as `--config` says, else after the role's name, if flag or environment give
    /// a usable one.
    pub(super) fn path<N: std::str::FromStr + std::fmt::Display>(
        &self,
        name: &'static Variable,
    ) -> Option<PathBuf> {
        if let Some(path) = self.config {
            return Some(path.to_owned());
        }
        let value = self.raw().value(name)?;
        let name: N = value.text.expose().parse().ok()?;
        Some(self.directory.join(format!("{name}.conf")))
    }

    /// The file at `path`. A file that `--config` names must be there, unless an enrollment is about to make it.
    pub(super) fn load(
        &self,
        path: &Path,
        enroll_method: &'static Variable,
        problems: &mut Vec<Problem>,
    ) -> Option<Loaded> {
        let may_be_absent = self.config.is_none() || self.raw().value(enroll_method).is_some();
        match (self.load)(path) {
            Ok(entries) => {
                return Some(Loaded {
                    path: path.to_owned(),
                    entries,
                });
            }
            Err(error) if error.is_absent() && may_be_absent => {}
            Err(file::Error::Lines { path, lines }) => {
                let texts = lines
                    .iter()
                    .map(|line| format!("{} {line}", path.display()));
                problems.extend(texts.map(Problem::new));
            }
            Err(error) => problems.push(Problem::new(crate::error::chain(&error).to_string())),
        }
        None
    }
}

/// Whether a role enrolls, or is already enrolled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Enrollment {
    /// The token that an earlier enrollment bought.
    Stored(Secret),
    /// This one-time token is still to be spent.
    New(Secret),
}

/// Reads settings one by one; what is wrong is collected.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) raw: Raw<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<Remark>,
    pub(super) notes: Notes<'a>,
    /// The file cannot be used: what seems to be missing may well be in it, and its problem is the one to solve.
    pub(super) file_failed: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: Raw<'a>, mut problems: Vec<Problem>) -> Self {
        let file_failed = !problems.is_empty();
        problems.extend(raw.flags.problems.iter().cloned());
        for variable in &raw.environment.unreadable {
            let origin = Origin::Environment(variable);
            problems.push(Problem::at(&origin, "the value is not UTF-8 text"));
        }
        let remarks = raw
            .flags
            .exposed()
            .map(|flag| Remark::SecretInArguments { flag })
            .collect();
        Self {
            raw,
            problems,
            remarks,
            notes: Notes::default(),
            file_failed,
        }
    }

    /// The settings of `role`, whose file is at `path`, and the account of them, if nothing was wrong.
    pub(super) fn finish<S>(
        mut self,
        settings: Option<S>,
        role: Used,
        path: Option<PathBuf>,
    ) -> Result<(S, Account), Vec<Problem>> {
        if let Some(file) = self.raw.file {
            let remark = |(key, origin): (_, Origin<'_>)| Remark::WithoutEffect {
                key,
                place: origin.to_string(),
            };
            self.remarks.extend(file.without_effect(role).map(remark));
        }
        match (settings, path) {
            (Some(settings), Some(path)) if self.problems.is_empty() => {
                let account = self.notes.finish(self.raw, role, path, self.remarks);
                Ok((settings, account))
            }
            (Some(_) | None, Some(_) | None) => Err(self.problems),
        }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A setting that may be missing.
    pub(super) fn parsed<T, E: StdError + 'static>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Some(value) = self.raw.value(variable) else {
            self.notes.unset(variable);
            return None;
        };
        self.notes.holds(variable, &value);
        parse(value.text.expose())
            .map_err(|error| self.problem(Problem::of(&value.origin, &error)))
            .ok()
    }

    /// A setting without which nothing works; `missing` says how to give it.
    pub(super) fn required<T, E: StdError + 'static>(
        &mut self,
        variable: &'static Variable,
        missing: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.raw.value(variable).is_none() && !self.file_failed {
            self.problem(Problem::new(missing));
        }
        self.parsed(variable, parse)
    }

    /// The platform: as configured, else where the role enrolled, else the default.
    pub(super) fn domain(&mut self, stored: &'static Variable) -> Option<ApiBase> {
        let of = |variable| Some((variable, self.raw.value(variable)?));
        let parsed = match of(&API_URL).or_else(|| of(stored)) {
            Some((variable, value)) => {
                self.notes.holds(variable, &value);
                ApiBase::parse(value.text.expose())
                    .map_err(|error| Problem::of(&value.origin, &error))
            }
            None => {
                // Whoever set it means another platform than the default, which must not see the credential.
                if let Some(old) = self.raw.environment.older_name(&API_URL) {
                    self.problem(Problem::renamed(old, &API_URL));
                    return None;
                }
                self.notes.unset(&API_URL);
                ApiBase::parse(DEFAULT_DOMAIN)
                    .map_err(|error| Problem::of(&Origin::Default, &error))
            }
        };
        match parsed {
            Ok(domain) => {
                if domain.is_plain_http_beyond_loopback() {
                    self.remarks.push(Remark::PlainHttp {
                        domain: domain.to_string(),
                    });
                }
                Some(domain)
            }
            Err(problem) => {
                let named = format!("{problem} (the platform's domain)");
                self.problem(Problem::new(named));
                None
            }
        }
    }

    /// The extra headers of every request.
    pub(super) fn headers(&mut self) -> CustomHeaders {
        let Some(value) = self.raw.value(&CUSTOM_HEADERS) else {
            self.notes.unset(&CUSTOM_HEADERS);
            return CustomHeaders::default();
        };
        match CustomHeaders::parse(value.text.expose()) {
            Ok(headers) => {
                self.notes
                    .shown(&CUSTOM_HEADERS, headers.masked(), value.origin);
                headers
            }
            Err(error) => {
                self.problem(Problem::of(&value.origin, &error));
                CustomHeaders::default()
            }
        }
    }

    /// What is logged, and where to.
    pub(super) fn log(&mut self) -> LogSettings {
        LogSettings {
            level: self.parsed(&LOG_LEVEL, str::parse::<LogLevel>),
            file: self.parsed(&LOG_FILE, |text| Ok::<_, Infallible>(PathBuf::from(text))),
        }
    }

    /// The machine identity that `source` gives: a token, else a way to log in; `None` if it gives neither.
    /// The inner `None` is one that cannot be used, which was noted.
    pub(super) fn identity(&mut self, source: Source) -> Option<Option<IdentityCredential>> {
        if let Some(token) = self.raw.value_from(source, &TOKEN) {
            let credential = "access token of a machine identity";
            self.notes.proves(credential, &TOKEN, &token);
            return Some(Some(IdentityCredential::Token(token.text.clone())));
        }
        let method = self.raw.value_from(source, &AUTH_METHOD)?;
        match method.text.expose() {
            UNIVERSAL_AUTH => {
                let credential = "universal auth of a machine identity";
                self.notes.proves(credential, &AUTH_METHOD, &method);
                Some(self.universal_auth())
            }
            known if AUTH_METHODS.contains(&known) => {
                self.problem(Problem::at(
                    &method.origin,
                    format_args!("{known} is {NOT_SUPPORTED}; use {UNIVERSAL_AUTH} or a token"),
                ));
                Some(None)
            }
            _ => {
                self.problem(Problem::at(
                    &method.origin,
                    format_args!("unknown method; use one of {}", AUTH_METHODS.join(", ")),
                ));
                Some(None)
            }
        }
    }

    fn universal_auth(&mut self) -> Option<IdentityCredential> {
        let id = self.raw.value(&CLIENT_ID);
        let secret = self.raw.value(&CLIENT_SECRET);
        for (value, flag, variable) in [
            (&id, "--client-id", &CLIENT_ID),
            (&secret, "--client-secret", &CLIENT_SECRET),
        ] {
            match value {
                Some(value) => self.notes.holds(variable, value),
                None => {
                    let text = format!("{UNIVERSAL_AUTH} needs {flag} or {}", variable.name);
                    self.problems.push(Problem::new(text));
                }
            }
        }
        Some(IdentityCredential::UniversalAuth {
            client_id: id?.text.expose().to_owned(),
            client_secret: secret?.text.clone(),
        })
    }

    /// True if an enrollment is asked for, and no way to log in is asked for by something stronger.
    pub(super) fn enrolls(&self, method: &'static Variable) -> bool {
        let asked = self.raw.source(method);
        let stronger = |source: Source| Some(source) > asked;
        asked.is_some() && !self.raw.source(&AUTH_METHOD).is_some_and(stronger)
    }

    /// What an enrollment comes to, given the variables that hold its method, what it bought and with what.
    pub(super) fn enrollment(
        &mut self,
        method: &'static Variable,
        bought: &'static Variable,
        with: &'static Variable,
    ) -> Option<Enrollment> {
        let asked = self.raw.value(method)?;
        match asked.text.expose() {
            "token" => {}
            "aws" => {
                let text = format_args!("aws is {NOT_SUPPORTED}; use token");
                self.problem(Problem::at(&asked.origin, text));
                return None;
            }
            _ => {
                let text = format_args!("unknown method; use {}", ENROLL_METHODS.join(" or "));
                self.problem(Problem::at(&asked.origin, text));
                return None;
            }
        }
        self.notes.holds(method, &asked);
        let enrolled = "access token that an enrollment bought";
        let Some(token) = self.raw.value(&TOKEN) else {
            // Units that name the method but keep no token around, since it is spent.
            if let Some(kept) = self.raw.value(bought) {
                self.notes.proves(enrolled, bought, &kept);
                return Some(Enrollment::Stored(kept.text.clone()));
            }
            self.problem(Problem::new(format!(
                "enrolling needs the one-time enrollment token: give --token-file FILE or set {}",
                TOKEN.name
            )));
            return None;
        };
        let kept = self.raw.value_from(Source::File, bought);
        let spent = self.raw.value_from(Source::File, with);
        match (kept, spent) {
            (Some(kept), Some(spent)) if spent.text == token.text => {
                self.remarks.push(Remark::AlreadyEnrolled);
                self.notes.proves(enrolled, bought, &kept);
                self.notes.holds(&TOKEN, &token);
                Some(Enrollment::Stored(kept.text.clone()))
            }
            (Some(_) | None, Some(_) | None) => {
                let credential = "one-time enrollment token, which the first start spends";
                self.notes.proves(credential, &TOKEN, &token);
                Some(Enrollment::New(token.text.clone()))
            }
        }
    }

    /// The access token that an earlier enrollment kept, if there is one.
    pub(super) fn kept_token(&mut self, bought: &'static Variable) -> Option<Secret> {
        let token = self.raw.value(bought)?;
        let credential = "access token that an enrollment bought";
        self.notes.proves(credential, bought, &token);
        Some(token.text.clone())
    }

    /// Nothing proves who this is: says what could, with a hint at what was begun.
    pub(super) fn no_credential(&mut self, kept: &'static Variable) {
        if self.file_failed {
            return;
        }
        if let Some(old) = self.raw.environment.older_name(&TOKEN) {
            self.problem(Problem::renamed(old, &TOKEN));
            return;
        }
        let hint = if self.raw.value(&CLIENT_ID).is_some() {
            format!("; a client id alone does nothing, add --auth-method={UNIVERSAL_AUTH}")
        } else {
            String::new()
        };
        self.problem(Problem::new(format!(
            "no credential: give --token-file FILE, set {}, log in with --auth-method={UNIVERSAL_AUTH}, or \
             enroll with --enroll-method=token (an enrolled one is kept as {}){hint}",
            TOKEN.name, kept.name
        )));
    }
}
