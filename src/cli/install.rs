//! `infisical gateway systemd` and `infisical relay systemd`: words to a plan, the plan to an account of what was done.
//!
//! The order is what makes it safe to run: everything is judged before anything is written; a one-time token is spent
//! next, and what it buys is saved at once; units come last. What fails can be run again, and does only what is left.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::exit::Failure;
use super::global::Global;
use super::identity::IdentityArgs;
use super::service::{self, say};
use crate::config::env::{
    GATEWAY_ENROLL_METHOD, GATEWAY_NAME, LOG_FILE, RELAY_AUTH_SECRET, RELAY_ENROLL_METHOD,
    RELAY_HOST, RELAY_NAME, RELAY_SSH_LISTEN, RELAY_TLS_LISTEN, RELAY_TYPE,
};
use crate::config::file::{self, Entry};
use crate::config::raw::{Flags, Loaded, Raw};
use crate::config::remark::{Problem, Problems, Remark};
use crate::config::settings::{GatewaySettings, RelaySettings};
use crate::config::{Inputs, assemble_gateway, assemble_relay};
use crate::error::{Reason, chain};
use crate::host::systemd::Systemd;
use crate::host::unit::{PACKAGED, Program, Version};
use crate::install::existing::{self, Existing};
use crate::install::place::{self, PACKAGED_UNITS, Place, Role, UNITS};
use crate::install::plan::Change;
use crate::install::program;
use crate::install::shipped::{self, LOG_DROP_IN, LogDirectory, PORT_DROP_IN, USER_DROP_IN};
use crate::install::wanted::{self, Proof};
use crate::names::{SSH_PORT, TLS_PORT};
use crate::scope::Scope;
use crate::secret::Secret;

/// How long the platform may be away while an enrollment token is to be exchanged: a person is watching.
const PATIENCE: Duration = Duration::from_secs(60);

/// Install a gateway as a systemd service, or remove it
#[derive(Debug, ClapArgs)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    Install(Box<GatewayInstall>),
    Uninstall(service::UninstallArgs),
}

/// Install a relay as a systemd service, or remove it
#[derive(Debug, ClapArgs)]
pub(crate) struct RelayArgs {
    #[command(subcommand)]
    command: RelayCommand,
}

#[derive(Debug, Subcommand)]
enum RelayCommand {
    Install(Box<RelayInstall>),
    Uninstall(service::UninstallArgs),
}

macro_rules! after_help {
    ($examples:literal) => {
        concat!(
            "What flags and environment give is kept in the configuration file, which only root can read; a one-time token is \
             exchanged at once. The same command run again changes what differs, and nothing else.\n\n\
             The service logs to the journal, or with --log-file to a file in a directory of its own below /var/log.\n\n\
             Examples:\n",
            $examples
        )
    };
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = after_help!(
    "  sudo infisical gateway systemd install --enroll-method=token --token-file enrollment-token --user\n\
     \x20 sudo infisical gateway systemd install edge-2 --token-file token --target-relay-name eu-1"
))]
struct GatewayInstall {
    /// Name of the gateway as one of several on this machine: its service is infisical-gateway@NAME. Without it the
    /// service is infisical-gateway
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    /// Name of the only gateway, by default that of the machine [env: INFISICAL_GATEWAY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Use this relay; otherwise the nearest healthy one is chosen [env: INFISICAL_RELAY_NAME]
    #[arg(long, value_name = "NAME")]
    target_relay_name: Option<String>,
    /// Older spelling of --target-relay-name
    #[arg(long, value_name = "NAME", hide = true)]
    relay: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Write the configuration and the unit, enable it for boot and start it
#[derive(Debug, ClapArgs)]
#[command(after_help = after_help!(
    "  sudo infisical relay systemd install --name eu-1 --host relay.example.com \\\n\
     \x20   --enroll-method=token --token-file enrollment-token --user"
))]
struct RelayInstall {
    /// Name of the relay as one of several on this machine: its service is infisical-relay@NAME. Without it the service
    /// is infisical-relay
    #[arg(value_name = "NAME")]
    instance: Option<String>,
    /// Name of the only relay [env: INFISICAL_RELAY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// DNS name or IP address at which gateways and clients reach it [env: INFISICAL_RELAY_HOST]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Whose relay it is, by default org: the organization's or the whole instance's [env: INFISICAL_RELAY_TYPE]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["org", "instance"])]
    kind: Option<String>,
    /// Where gateways are awaited, by default port 2222 of every address
    #[arg(long, value_name = "ADDR:PORT")]
    ssh_listen: Option<SocketAddr>,
    /// Where clients are awaited, by default port 8443 of every address
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Option<SocketAddr>,
    /// Secret that the instance shares with its relays, for --type=instance; rather give it by the environment
    /// [env: INFISICAL_RELAY_AUTH_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = "Credentials")]
    relay_auth_secret: Option<String>,
    #[command(flatten)]
    unit: UnitArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

#[derive(Debug, ClapArgs)]
struct UnitArgs {
    /// Recommended: run as a user of its own instead of root
    #[arg(long, visible_alias = "dynamic-user", help_heading = "Service")]
    user: bool,
    /// Do not start it at boot
    #[arg(long, help_heading = "Service")]
    no_enable: bool,
    /// Do not start it now
    #[arg(long, help_heading = "Service")]
    no_start: bool,
    /// Show what would be written, and write nothing
    #[arg(long, help_heading = "Service")]
    dry_run: bool,
}

/// `infisical gateway systemd …`.
pub(crate) async fn gateway(
    args: GatewayArgs,
    global: &Global,
    scope: &Scope,
) -> anyhow::Result<()> {
    match args.command {
        GatewayCommand::Uninstall(args) => service::uninstall(Role::Gateway, &args).await,
        GatewayCommand::Install(args) => {
            let place = service::place(Role::Gateway, args.instance.as_deref())?;
            let mut flags = Flags::default();
            flags.add(&GATEWAY_NAME, "NAME", args.instance.as_deref());
            flags.add(&GATEWAY_NAME, "--name", args.name.as_deref());
            flags.add(
                &RELAY_NAME,
                "--target-relay-name",
                args.target_relay_name.as_deref(),
            );
            flags.add(&RELAY_NAME, "--relay", args.relay.as_deref());
            let method = args.identity.enroll_method.as_deref();
            flags.add(&GATEWAY_ENROLL_METHOD, "--enroll-method", method);
            one_name(args.instance.as_deref(), args.name.as_deref(), &mut flags);
            add_common(&mut flags, global, &args.identity);
            Install {
                place,
                unit: &args.unit,
                global,
                scope,
            }
            .run(flags)
            .await
        }
    }
}

/// `infisical relay systemd …`.
pub(crate) async fn relay(args: RelayArgs, global: &Global, scope: &Scope) -> anyhow::Result<()> {
    match args.command {
        RelayCommand::Uninstall(args) => service::uninstall(Role::Relay, &args).await,
        RelayCommand::Install(args) => {
            let place = service::place(Role::Relay, args.instance.as_deref())?;
            let mut flags = Flags::default();
            flags.add(&RELAY_NAME, "NAME", args.instance.as_deref());
            flags.add(&RELAY_NAME, "--name", args.name.as_deref());
            flags.add(&RELAY_HOST, "--host", args.host.as_deref());
            flags.add(&RELAY_TYPE, "--type", args.kind.as_deref());
            let secret = args.relay_auth_secret.as_deref();
            flags.add(&RELAY_AUTH_SECRET, "--relay-auth-secret", secret);
            let listen = |address: Option<SocketAddr>| address.map(|address| address.to_string());
            flags.add(
                &RELAY_SSH_LISTEN,
                "--ssh-listen",
                listen(args.ssh_listen).as_deref(),
            );
            flags.add(
                &RELAY_TLS_LISTEN,
                "--tls-listen",
                listen(args.tls_listen).as_deref(),
            );
            let method = args.identity.enroll_method.as_deref();
            flags.add(&RELAY_ENROLL_METHOD, "--enroll-method", method);
            one_name(args.instance.as_deref(), args.name.as_deref(), &mut flags);
            add_common(&mut flags, global, &args.identity);
            Install {
                place,
                unit: &args.unit,
                global,
                scope,
            }
            .run(flags)
            .await
        }
    }
}

fn one_name(instance: Option<&str>, name: Option<&str>, flags: &mut Flags) {
    if instance.is_some() && name.is_some() && instance != name {
        let text = "NAME and --name differ: NAME is the name of one of several, --name that of the only one";
        flags.problems.push(Problem::new(text));
    }
}

fn add_common(flags: &mut Flags, global: &Global, identity: &IdentityArgs) {
    global.args.add_to(flags);
    identity.add_to(flags, io::stdin());
}

/// Settings that were judged, of whichever role.
enum Settings {
    Gateway(GatewaySettings),
    Relay(RelaySettings),
}

impl Settings {
    fn proof(&self) -> Proof {
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

/// What all steps of one installation need.
struct Install<'a> {
    place: Place,
    unit: &'a UnitArgs,
    global: &'a Global,
    scope: &'a Scope,
}

/// Everything that was found out before the first change.
struct Decided {
    settings: Settings,
    changes: Vec<(&'static crate::config::env::Variable, Secret)>,
    before: Vec<Entry>,
    files: Vec<Change>,
    program: Program,
    /// A unit of the deployed program that runs the same role, to be stopped and removed.
    deployed: Option<String>,
}

impl Install<'_> {
    async fn run(&self, flags: Flags) -> anyhow::Result<()> {
        let systemd = if self.unit.dry_run {
            Systemd::find().await.ok()
        } else {
            Some(service::administrator(&self.place.command("install")).await?)
        };
        let version = systemd.as_ref().map_or(Version::NEWEST, Systemd::version);
        let decided = self.decide(flags, version)?;
        match systemd.filter(|_| !self.unit.dry_run) {
            Some(systemd) => self.execute(decided, &systemd).await,
            None => {
                self.show(&decided);
                Ok(())
            }
        }
    }

    /// Judges everything, and changes nothing.
    fn decide(&self, mut flags: Flags, version: Version) -> anyhow::Result<Decided> {
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
        let (program, files, deployed) = self.files(&opened, version, &mut problems)?;
        match settings {
            Some(settings) if problems.is_empty() => {
                let changes = wanted::changes(self.place.role(), settings.proof(), &raw);
                Ok(Decided {
                    settings,
                    changes,
                    before,
                    files,
                    program,
                    deployed,
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
    ) -> anyhow::Result<(Program, Vec<Change>, Option<String>)> {
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
                files.push(Change::of(path, None)?);
                deployed = Some(name);
            }
        }
        Ok((program, files, deployed))
    }

    /// The program that the unit starts: the package's, or this one.
    fn program(
        &self,
        packaged: Option<&Path>,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<Program> {
        if let Some(unit) = packaged {
            let text = std::fs::read_to_string(unit).map_err(Failure::unavailable)?;
            let path = crate::host::unit::values(&text, "ExecStart")
                .next()
                .unwrap_or(PACKAGED);
            return Program::try_new(Path::new(path)).map_err(Failure::configuration);
        }
        match program::find(shipped::unit(&self.place)) {
            Ok(program) => Ok(program),
            Err(error) => {
                let text = chain(&error).to_string();
                if self.unit.dry_run {
                    say(&format!("It could not be installed from here: {text}"));
                } else {
                    problems.push(Problem::new(text));
                }
                Program::try_new(Path::new(PACKAGED)).map_err(Failure::configuration)
            }
        }
    }

    /// A dry run's account.
    fn show(&self, decided: &Decided) {
        say("Nothing is written. This would be:");
        let path = self.place.configuration();
        say(&format!("\n# {} (mode 0600)", path.display()));
        for line in wanted::differences(&[], &wanted::changed(&decided.before, &decided.changes)) {
            say(&line.text);
        }
        if decided.settings.proof() == Proof::Enrollment {
            say("# and the access token that the enrollment buys, or bought");
        }
        for change in &decided.files {
            say(&format!("\n{change}"));
            if let Some(text) = change.text().filter(|_| change.is_due()) {
                say(text);
            }
        }
        if !nix::unistd::geteuid().is_root() {
            say("\nWithout root, an existing configuration may not have been looked at.");
        }
    }

    async fn execute(&self, decided: Decided, systemd: &Systemd) -> anyhow::Result<()> {
        let path = self.place.configuration();
        service::private_directories(&path)?;
        let is_new = !path.exists();
        if let Err(error) = self.exchange(&decided.settings).await {
            if is_new {
                // It holds no more than the proof that it could be written.
                let _ = std::fs::remove_file(&path);
            }
            return Err(error);
        }
        let changes: Vec<_> = decided
            .changes
            .iter()
            .map(|(key, value)| (*key, value))
            .collect();
        if !changes.is_empty() {
            file::update(&path, &changes).map_err(Failure::unavailable)?;
        }
        let after = file::load(&path).map_err(Failure::configuration)?;
        let differences = wanted::differences(&decided.before, &after);
        let sign = match (decided.before.is_empty(), differences.is_empty()) {
            (_, true) => '=',
            (true, false) => '+',
            (false, false) => '~',
        };
        say(&format!("{sign} {}", path.display()));
        for line in &differences {
            say(&format!("    {} {}", line.sign, line.text));
        }
        if let Some(unit) = &decided.deployed {
            systemd.act("stop", unit).await?;
            systemd.act("disable", unit).await?;
        }
        for change in &decided.files {
            change.make()?;
            say(&change.to_string());
        }
        let service = self.place.service();
        // Whether these files changed or a package's: it costs nothing.
        let units_changed = decided.files.iter().any(Change::is_due);
        let state = systemd.show(&service).await?;
        systemd.reload_units().await?;
        if !self.unit.no_enable {
            systemd.act("enable", &service).await?;
        }
        if self.unit.no_start {
            let short = self.place.short();
            say(&if state.is_up() {
                format!("It runs as it did before; to restart it: systemctl restart {short}")
            } else {
                format!("Not started; to start it: systemctl start {short}")
            });
            return Ok(());
        }
        let is_older = program::is_other(state.main_pid, decided.program.path());
        let changed = units_changed || state.stale || is_older || !differences.is_empty();
        service::start(systemd, &self.place, changed, self.scope).await
    }

    /// Spends a one-time token, if there is one, within bounds.
    async fn exchange(&self, settings: &Settings) -> anyhow::Result<()> {
        let scope = self.scope.child("enrollment");
        let limit = scope.clone();
        scope.spawn("patience", async move {
            if limit.run(tokio::time::sleep(PATIENCE)).await.is_some() {
                limit.cancel();
            }
        });
        let done = match settings {
            Settings::Gateway(settings) => {
                let ended = crate::gateway::enroll::exchange(settings, |_, _| {}, &scope).await;
                ended.map_err(|error| Failure::new(error.reason(), error))?
            }
            Settings::Relay(settings) => {
                let ended = crate::relay::register::exchange(settings, &scope).await;
                ended.map_err(|error| Failure::new(error.reason(), error))?
            }
        };
        scope.cancel();
        if done {
            return Ok(());
        }
        let text = "the platform could not be reached, so the enrollment token was not exchanged and nothing was installed; \
                    run the same command again";
        Err(Failure::new(Reason::Unavailable, anyhow::Error::msg(text)).into())
    }
}

/// Why the unit that is there is not replaced.
fn refusal(there: &Existing, place: &Place, path: &Path) -> Option<Problem> {
    let path = path.display();
    let text = match there {
        Existing::Absent | Existing::Ours(_) | Existing::Deployed(_) => return None,
        Existing::First(_) => super::legacy::first_unit(&path.to_string()),
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
