//! What is to be done, found out without changing anything: settings, configuration, unit files,
//! and everything that is wrong with them at once.

use std::io;
use std::path::Path;

use super::super::exit::Failure;
use super::super::service::say;
use super::Install;
use super::units::{Found, Opened, Retired};
use crate::config::credential::{Credential, IdentityCredential, LoginMethod, MachineProof};
use crate::config::env::{GATEWAY_NAME, LOG_FILE, TABLE, Variable};
use crate::config::file::{self, Entry};
use crate::config::metrics::MetricsListen;
use crate::config::raw::{Flags, Loaded, Raw};
use crate::config::settings::{
    CommonSettings, GatewaySettings, RelayCredential, RelayLimits, RelaySettings,
};
use crate::config::warning::{Problem, Problems, Warning};
use crate::config::{Inputs, assemble_gateway, assemble_relay};
use crate::error::chain;
use crate::host::unit::{Program, Version};
use crate::install::config_changes::{self, Proof};
use crate::install::existing::{self, Existing};
use crate::install::existing_unit;
use crate::install::foreign;
use crate::install::place::{self, LOGS, Role, UNITS};
use crate::install::plan::Change;
use crate::names::{SSH_PORT, TLS_PORT};
use crate::secret::Secret;
use crate::trust;

/// Settings that were judged, of whichever role.
pub(super) enum Settings {
    Gateway(GatewaySettings),
    Relay(RelaySettings),
}

impl Settings {
    pub(super) fn proof(&self) -> Proof {
        match self {
            Self::Gateway(settings) => (&settings.credential).into(),
            Self::Relay(settings) => (&settings.credential).into(),
        }
    }

    /// What every role has.
    pub(super) fn common(&self) -> &CommonSettings {
        match self {
            Self::Gateway(settings) => &settings.common,
            Self::Relay(settings) => &settings.common,
        }
    }

    /// How the role proves itself, unless it is a relay of the instance.
    fn credential(&self) -> Option<&Credential> {
        match self {
            Self::Gateway(settings) => Some(&settings.credential),
            Self::Relay(settings) => match &settings.credential {
                RelayCredential::Own(credential) => Some(credential),
                RelayCredential::AuthSecret(_) => None,
            },
        }
    }

    /// True if a one-time token is to be exchanged.
    pub(super) fn is_to_enroll(&self) -> bool {
        matches!(self.credential(), Some(Credential::Enroll { .. }))
    }

    /// True if a machine identity logs in with the token of the pod that it is in.
    pub(super) fn logs_in_as_pod(&self) -> bool {
        matches!(
            self.credential(),
            Some(Credential::Identity(IdentityCredential::Login(login)))
                if matches!(login.method, LoginMethod::Kubernetes { .. })
        )
    }

    /// What no service of systemd can be.
    fn impossible(&self) -> Option<Problem> {
        let Self::Gateway(settings) = self else {
            return None;
        };
        let Credential::Machine(machine) = &settings.credential else {
            return None;
        };
        matches!(machine.proof, MachineProof::Kubernetes { .. }).then(|| {
            Problem::new(
                "--enroll-method=kubernetes is for a gateway in a pod, and no service of systemd \
                 is in one; run 'infisical gateway start' in the pod, or enroll with token, aws \
                 or gcp",
            )
        })
    }

    /// True if a one-time token for a gateway is to be exchanged, which tells its name.
    pub(super) fn is_gateway_to_enroll(&self) -> bool {
        match self {
            Self::Gateway(_) => self.is_to_enroll(),
            Self::Relay(_) => false,
        }
    }

    /// What a relay can be made to hold in MiB, if its limits are not the usual ones.
    fn other_memory(&self) -> Option<usize> {
        match self {
            Self::Gateway(_) => None,
            Self::Relay(settings) => Some(settings.limits.memory_mib())
                .filter(|mib| *mib != RelayLimits::default().memory_mib()),
        }
    }

    /// The ports to listen on that are not those that the unit opens; `None` if the unit allows all
    /// that is needed.
    fn other_ports(&self) -> Option<Vec<u16>> {
        let (own, common) = match self {
            Self::Gateway(settings) => ([None, None], &settings.common),
            Self::Relay(settings) => ([settings.ssh_listen, settings.tls_listen], &settings.common),
        };
        let own = own.into_iter().flatten();
        let (metrics, has_socket) = match common.metrics {
            Some(MetricsListen::Tcp(address)) => (Some(address), false),
            Some(MetricsListen::Unix(_)) => (None, true),
            None => (None, false),
        };
        let ports: Vec<u16> = own
            .map(|address| address.port())
            .filter(|port| !matches!(*port, SSH_PORT | TLS_PORT))
            .chain(metrics.map(|address| address.port()))
            .collect();
        // The unit of a gateway forbids to listen at all.
        let listens = has_socket && matches!(self, Self::Gateway(_));
        (listens || !ports.is_empty()).then_some(ports)
    }
}

/// Everything that was found out before the first change.
pub(super) struct Decided {
    pub(super) settings: Settings,
    pub(super) changes: Vec<(&'static Variable, Secret)>,
    pub(super) before: Vec<Entry>,
    pub(super) files: Vec<Change>,
    pub(super) program: Program,
    /// Lines of the deployed relay's file that are no settings, and must not be lost.
    pub(super) foreign: Vec<String>,
    /// No name was given: the gateway has the machine's, unless the platform tells another.
    pub(super) is_named_after_host: bool,
    /// An earlier unit of the same gateway or relay.
    pub(super) retired: Retired,
    /// It runs as a user of its own.
    pub(super) own_user: bool,
}

/// Says how a gateway is called that nothing else names.
pub(super) fn say_name_of_host(name: &str) {
    say(&format!(
        "No name is given: the gateway is called {name}, like this machine."
    ));
}

impl Install<'_> {
    /// Judges everything, and changes nothing.
    pub(super) fn decide(
        &self,
        mut flags: Flags,
        found: Found,
        version: Version,
    ) -> anyhow::Result<Decided> {
        let path = self.place.configuration();
        let mut problems = Vec::new();
        // The service does not start where this command was typed.
        let directory = std::env::current_dir().unwrap_or_default();
        flags.make_paths_absolute(&directory);
        let environment = &self.global.environment.with_absolute_paths(&directory);
        let before = self.load(&path).unwrap_or_default();
        let foreign = self.add_deployed_settings(&mut flags, &mut problems);
        self.say_what_is_not_kept(&before, &foreign);
        let name_of_host = self.add_name_of_host(&mut flags, &before);
        let loaded = Loaded {
            path: path.clone(),
            entries: before.clone(),
        };
        let inputs = Inputs {
            flags: &flags,
            environment,
            config: Some(&path),
            directory: Path::new(place::CONFIGURATION),
            load: &|path| self.load(path),
        };
        let assembled = match self.place.role() {
            Role::Gateway => {
                assemble_gateway(&inputs).map(|(s, told)| (Settings::Gateway(s), told))
            }
            Role::Relay => assemble_relay(&inputs).map(|(s, told)| (Settings::Relay(s), told)),
        };
        let settings = match assembled {
            Ok((settings, effective)) => {
                effective.warnings.iter().for_each(Warning::log);
                problems.extend(self.unusable_roots(&settings));
                problems.extend(settings.impossible());
                Some(settings)
            }
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let raw = Raw {
            flags: &flags,
            environment,
            file: Some(&loaded),
        };
        let logs = self.log_directory(&raw, &mut problems);
        let ports = settings.as_ref().and_then(Settings::other_ports);
        let memory = settings.as_ref().and_then(Settings::other_memory);
        let opened = Opened {
            logs,
            ports,
            memory,
        };
        self.refuse_losses(&raw, &mut problems);
        let units = self.units(&opened, found, version, &mut problems)?;
        let (sandbox, own_user) = (&units.sandbox, units.own_user);
        self.judge_paths(settings.as_ref(), &raw, sandbox, own_user, &mut problems);
        match settings {
            Some(settings) if problems.is_empty() => {
                let changes = config_changes::changes(self.place.role(), settings.proof(), &raw);
                if let Some(name) = &name_of_host {
                    if settings.is_gateway_to_enroll() {
                        say("No name is given: the platform tells it with the access token.");
                    } else {
                        say_name_of_host(name);
                    }
                }
                Ok(Decided {
                    settings,
                    changes,
                    before,
                    files: units.files,
                    program: units.program,
                    foreign,
                    is_named_after_host: name_of_host.is_some(),
                    retired: units.retired,
                    own_user: units.own_user,
                })
            }
            Some(_) | None => Err(Failure::configuration(Problems(problems))),
        }
    }

    /// What is wrong with the files of root certificates that settings name.
    fn unusable_roots(&self, settings: &Settings) -> Option<Problem> {
        // Without root, a dry run may not be able to read them.
        let error = trust::roots().check(&settings.common().roots).err()?;
        let is_judged = error.is_configuration() && !self.unit.steps.dry_run;
        is_judged.then(|| Problem::new(chain(&error).to_string()))
    }

    /// The configuration file; one that is not there yet says nothing. A dry run need not be able
    /// to read it.
    fn load(&self, path: &Path) -> Result<Vec<Entry>, file::Error> {
        match file::load(path) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(file::Error::Read { source, .. })
                if self.unit.steps.dry_run && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Says which variables hold for this command and will not for the service: an exchange that
    /// takes a proxy says nothing about a service that does not know it.
    fn say_what_is_not_kept(&self, before: &[Entry], foreign: &[String]) {
        let is_in_file = |name: &str| {
            before.iter().any(|entry| entry.name == name)
                || foreign.iter().any(|line| foreign::key(line) == Some(name))
        };
        let names = self.global.environment.of_connection();
        for name in names.into_iter().filter(|name| !is_in_file(name)) {
            say(&format!(
                "{name} is set for this command only; to give it to the service, add a line \
                 {name}=… to {}",
                self.place.configuration().display()
            ));
        }
    }

    /// What a relay of the deployed program was told, as far as the command does not say otherwise.
    /// Gives the lines of its file that are no settings.
    fn add_deployed_settings(&self, flags: &mut Flags, problems: &mut Vec<Problem>) -> Vec<String> {
        let unit = Path::new(UNITS).join(self.place.service());
        let there = existing::load(&unit, &self.place);
        let (Ok(Existing::Deployed(_)), Some(path)) = (there, self.place.deployed_environment())
        else {
            return Vec::new();
        };
        match self.load(&path) {
            Ok(entries) => {
                let is_setting = |entry: &Entry| TABLE.contains(&entry.key);
                for entry in entries.into_iter().filter(is_setting) {
                    let value = entry.value.clone();
                    flags.add_read(entry.key, "the deployed relay's NAME.env.conf", value);
                }
            }
            Err(error) => problems.push(Problem::new(chain(&error).to_string())),
        }
        foreign::lines(&std::fs::read_to_string(&path).unwrap_or_default())
    }

    /// A gateway without a name in the command is called like its machine; gives that name.
    fn add_name_of_host(&self, flags: &mut Flags, before: &[Entry]) -> Option<String> {
        let environment = &self.global.environment;
        let in_file = before
            .iter()
            .any(|e| e.key == &GATEWAY_NAME && !e.value.is_empty());
        let raw = Raw {
            flags,
            environment,
            file: None,
        };
        if self.place.role() != Role::Gateway || in_file || raw.value(&GATEWAY_NAME).is_some() {
            return None;
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = place::name_of_host(host.trim())?;
        flags.add(&GATEWAY_NAME, "the machine's name", Some(&name));
        Some(name)
    }

    /// What a unit that is to be replaced says itself must not be lost with it.
    fn refuse_losses(&self, raw: &Raw<'_>, problems: &mut Vec<Problem>) {
        let place = &self.place;
        let path = Path::new(UNITS).join(place.service());
        // Its drop-ins stay in force.
        let Ok(Existing::Deployed(text)) = existing::load(&path, place) else {
            return;
        };
        let lost = existing_unit::lost(&text, place.role(), raw);
        if !lost.is_empty() {
            problems.push(Problem::new(format!(
                "{} itself sets what the new configuration has not, or has otherwise: {}; give it by flags, or put it \
                 into {}",
                path.display(),
                lost.join(", "),
                place.configuration().display()
            )));
        }
        let log = existing_unit::log_file(&text).filter(|_| raw.value(&LOG_FILE).is_none());
        if let Some(log) = log {
            say(&format!(
                "{} logs to {log}, which the new unit does not: it logs to the journal. To have a \
                 file again: --log-file {LOGS}/infisical/{}.log",
                path.display(),
                place.role()
            ));
        }
        let others = existing_unit::others(&text);
        if !others.is_empty() {
            say(&format!(
                "{} sets variables that are not carried over: {}; to keep them: systemctl edit {}",
                path.display(),
                others.join(", "),
                place.short()
            ));
        }
    }
}
