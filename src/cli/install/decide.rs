//! What is to be done, found out without changing anything: settings, configuration, unit files, and everything that is
//! wrong with them at once.

use std::io;
use std::path::Path;

use super::super::exit::Failure;
use super::super::legacy;
use super::super::service::say;
use super::Install;
use crate::config::env::{GATEWAY_NAME, LOG_FILE, Variable};
use crate::config::file::{self, Entry};
use crate::config::raw::{Flags, Loaded, Raw};
use crate::config::remark::{Problem, Problems, Remark};
use crate::config::settings::{GatewaySettings, RelaySettings};
use crate::config::{Inputs, assemble_gateway, assemble_relay};
use crate::error::chain;
use crate::host::unit::{self, PACKAGED, Program, Version};
use crate::install::existing::{self, Existing};
use crate::install::place::{self, PACKAGED_UNITS, Place, Role, UNITS};
use crate::install::plan::Change;
use crate::install::shipped::{self, LOG_DROP_IN, LogDirectory, PORT_DROP_IN, USER_DROP_IN};
use crate::install::wanted::{self, Proof};
use crate::install::{program, replaced};
use crate::names::{SSH_PORT, TLS_PORT};
use crate::secret::Secret;

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

    /// The ports of a relay that are not those that its unit opens.
    fn other_ports(&self) -> Vec<u16> {
        match self {
            Self::Gateway(_) => Vec::new(),
            Self::Relay(settings) => [settings.ssh_listen, settings.tls_listen]
                .into_iter()
                .flatten()
                .map(|address| address.port())
                .filter(|port| !matches!(*port, SSH_PORT | TLS_PORT))
                .collect(),
        }
    }
}

/// What the sandbox must let through beyond what the unit says.
struct Opened {
    logs: Option<LogDirectory>,
    ports: Vec<u16>,
}

/// Everything that was found out before the first change.
pub(super) struct Decided {
    pub(super) settings: Settings,
    pub(super) changes: Vec<(&'static Variable, Secret)>,
    pub(super) before: Vec<Entry>,
    pub(super) files: Vec<Change>,
    pub(super) program: Program,
    /// A unit of the deployed program that runs the same role.
    pub(super) deployed: Option<Deployed>,
    /// It runs as a user of its own.
    pub(super) own_user: bool,
}

/// A unit that gives way to ours, under another name.
pub(super) struct Deployed {
    /// To be stopped and disabled.
    pub(super) unit: String,
    /// And its file removed.
    pub(super) removal: Change,
}

/// The unit and what belongs to it.
struct Units {
    program: Program,
    files: Vec<Change>,
    deployed: Option<Deployed>,
    own_user: bool,
}

impl Install<'_> {
    /// Judges everything, and changes nothing.
    pub(super) fn decide(&self, mut flags: Flags, version: Version) -> anyhow::Result<Decided> {
        let path = self.place.configuration();
        let mut problems = Vec::new();
        let before = self.load(&path).unwrap_or_default();
        self.add_deployed_settings(&mut flags, &mut problems);
        self.add_name_of_host(&mut flags, &before);
        let loaded = Loaded {
            path: path.clone(),
            entries: before.clone(),
        };
        let environment = &self.global.environment;
        let inputs = Inputs {
            flags: &flags,
            environment,
            config: Some(&path),
            directory: Path::new(place::CONFIGURATION),
            load: &|path| self.load(path),
        };
        let assembled = match self.place.role() {
            Role::Gateway => {
                assemble_gateway(&inputs).map(|(s, remarks)| (Settings::Gateway(s), remarks))
            }
            Role::Relay => {
                assemble_relay(&inputs).map(|(s, remarks)| (Settings::Relay(s), remarks))
            }
        };
        let settings = match assembled {
            Ok((settings, remarks)) => {
                remarks.iter().for_each(Remark::log);
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
        let logs = raw.value(&LOG_FILE).and_then(|value| {
            let of = LogDirectory::of(Path::new(value.text.expose()), self.place.role());
            of.map_err(|error| problems.push(Problem::of(&value.origin, &error)))
                .ok()
        });
        let ports = settings
            .as_ref()
            .map_or_else(Vec::new, Settings::other_ports);
        let opened = Opened { logs, ports };
        self.refuse_losses(&raw, &mut problems);
        let units = self.files(&opened, version, &mut problems)?;
        match settings {
            Some(settings) if problems.is_empty() => {
                let changes = wanted::changes(self.place.role(), settings.proof(), &raw);
                Ok(Decided {
                    settings,
                    changes,
                    before,
                    files: units.files,
                    program: units.program,
                    deployed: units.deployed,
                    own_user: units.own_user,
                })
            }
            Some(_) | None => Err(Failure::configuration(Problems(problems))),
        }
    }

    /// The configuration file; one that is not there yet says nothing. A dry run need not be able to read it.
    fn load(&self, path: &Path) -> Result<Vec<Entry>, file::Error> {
        match file::load(path) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(file::Error::Read { source, .. })
                if self.unit.dry_run && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// What a relay of the deployed program was told, as far as nobody says otherwise.
    fn add_deployed_settings(&self, flags: &mut Flags, problems: &mut Vec<Problem>) {
        let unit = self
            .place
            .deployed_unit_file()
            .map(|name| Path::new(UNITS).join(name));
        let there = unit.and_then(|path| existing::load(&path, &self.place).ok());
        let (Some(Existing::Deployed(_)), Some(path)) = (there, self.place.deployed_environment())
        else {
            return;
        };
        match self.load(&path) {
            Ok(entries) => {
                for entry in entries {
                    let value = entry.value.clone();
                    flags.add_read(entry.key, "the deployed relay's NAME.env.conf", value);
                }
            }
            Err(error) => problems.push(Problem::new(chain(&error).to_string())),
        }
    }

    /// A gateway that nobody named is called like its machine.
    fn add_name_of_host(&self, flags: &mut Flags, before: &[Entry]) {
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
            return;
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        if let Some(name) = place::name_of_host(host.trim()) {
            say(&format!(
                "No name is given: the gateway is called {name}, like this machine."
            ));
            flags.add(&GATEWAY_NAME, "the machine's name", Some(&name));
        }
    }

    /// The unit and its drop-ins with what becomes of them, and a unit of the deployed program.
    fn files(
        &self,
        opened: &Opened,
        version: Version,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<Units> {
        let place = &self.place;
        let units = Path::new(UNITS);
        let path = units.join(place.unit_file());
        let there = existing::load(&path, place).map_err(Failure::unavailable)?;
        problems.extend(refusal(&there, place, &path));
        let packaged = PACKAGED_UNITS
            .iter()
            .map(|folder| Path::new(folder).join(place.unit_file()))
            .find(|path| path.is_file());
        let program = self.program(packaged.as_deref(), problems)?;
        let drop_ins = place.drop_ins();
        let user = drop_ins.join(USER_DROP_IN);
        // Once without root, it goes back only by a person's hand: a forgotten flag must not.
        let own_user = self.unit.user || user.exists();
        if own_user && version < Version::CREDENTIALS {
            let text = "--user needs systemd 247 or newer, which hands over credentials";
            problems.push(Problem::new(text));
        }
        let mut files = Vec::new();
        match &packaged {
            Some(packaged) => {
                say(&format!(
                    "{} is a package's: it is used as it is.",
                    packaged.display()
                ));
                // What was installed before the package would hide its unit.
                if there.text().is_some() {
                    files.push(Change::of(path, None)?);
                }
            }
            None => files.push(Change::of(
                path,
                Some(shipped::unit_for(place, &program, version)),
            )?),
        }
        if own_user {
            let text = shipped::user_for(place, &program, version);
            files.push(Change::of(user, Some(text))?);
        }
        let logs = opened.logs.as_ref();
        let ports = Some(&opened.ports).filter(|ports| !ports.is_empty());
        for (name, text) in [
            (
                LOG_DROP_IN,
                logs.map(|logs| shipped::logs_for(place, logs, own_user, version)),
            ),
            (
                PORT_DROP_IN,
                ports.map(|ports| shipped::ports_for(place, ports)),
            ),
        ] {
            let path = drop_ins.join(name);
            if text.is_some() || path.exists() {
                files.push(Change::of(path, text)?);
            }
        }
        let mut deployed = None;
        if let Some(name) = place.deployed_unit_file() {
            let path = units.join(&name);
            if matches!(existing::load(&path, place), Ok(Existing::Deployed(_))) {
                let removal = Change::of(path, None)?;
                deployed = Some(Deployed {
                    unit: name,
                    removal,
                });
            }
        }
        Ok(Units {
            program,
            files,
            deployed,
            own_user,
        })
    }

    /// What a unit that is to be replaced says itself must not be lost with it.
    fn refuse_losses(&self, raw: &Raw<'_>, problems: &mut Vec<Problem>) {
        let place = &self.place;
        let names = [Some(place.unit_file()), place.deployed_unit_file()];
        for path in names
            .into_iter()
            .flatten()
            .map(|name| Path::new(UNITS).join(name))
        {
            let Ok(Existing::Deployed(mut text)) = existing::load(&path, place) else {
                continue;
            };
            // Those of a unit that keeps its name stay in force.
            if path != Path::new(UNITS).join(place.unit_file()) {
                text.push_str(&existing::drop_ins(&path));
            }
            let lost = replaced::lost(&text, place.role(), raw);
            if !lost.is_empty() {
                problems.push(Problem::new(format!(
                    "{} itself sets what the new configuration has not, or has otherwise: {}; give it by flags, or put it \
                     into {}",
                    path.display(),
                    lost.join(", "),
                    place.configuration().display()
                )));
            }
            let others = replaced::others(&text);
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

    /// The program that the unit starts: the package's, or this one.
    fn program(
        &self,
        packaged: Option<&Path>,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<Program> {
        if let Some(unit) = packaged {
            let text = std::fs::read_to_string(unit).map_err(Failure::unavailable)?;
            let path = unit::values(&text, "ExecStart").next().unwrap_or(PACKAGED);
            let program = Program::try_new(Path::new(path)).map_err(Failure::configuration)?;
            if let Err(error) = program::judge(&program, &text) {
                self.say_or_refuse(&error, problems);
            }
            return Ok(program);
        }
        match program::find(shipped::unit(&self.place)) {
            Ok(program) => Ok(program),
            Err(error) => {
                self.say_or_refuse(&error, problems);
                Program::try_new(Path::new(PACKAGED)).map_err(Failure::configuration)
            }
        }
    }

    /// The program cannot run where it lies; a dry run goes on all the same.
    fn say_or_refuse(&self, error: &program::Error, problems: &mut Vec<Problem>) {
        let text = chain(error).to_string();
        if self.unit.dry_run {
            say(&format!("It could not be installed from here: {text}"));
        } else {
            problems.push(Problem::new(text));
        }
    }
}

/// Why the unit that is there is not replaced.
pub(crate) fn refusal(there: &Existing, place: &Place, path: &Path) -> Option<Problem> {
    let path = path.display();
    let text = match there {
        Existing::Absent | Existing::Ours(_) | Existing::Deployed(_) => return None,
        Existing::First(_) => legacy::first_unit(&path.to_string()),
        Existing::Masked => format!("{path} is masked; run: systemctl unmask {}", place.short()),
        Existing::Foreign if place.instance().is_none() => {
            format!(
                "{path} was not written by this installer: move it away, or install under a NAME"
            )
        }
        Existing::Foreign => format!("{path} was not written by this installer: move it away"),
    };
    Some(Problem::new(text))
}
