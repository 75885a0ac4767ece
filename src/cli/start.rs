//! What starting a gateway and starting a relay have in common: from flags to settings, with
//! everything that is wrong reported and everything remarkable logged, and what runs beside the
//! role.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::exit::Failure;
use super::front::{Front, Tasks};
use super::global::Global;
use super::handover::{Handing, InitialCharge};
use super::logging::{self, Handle};
use super::reload;
use super::setting_args::{self, SettingArgs};
use super::status;
use crate::agent::announce;
use crate::agent::last_known_good::LastKnownGood;
use crate::agent::status::document::{Configuration, Document, Origin, Sessions};
use crate::agent::status::socket::StatusSocket;
use crate::agent::status::{Monitor, Reporter};
use crate::config::env::Environment;
use crate::config::file;
use crate::config::raw::Flags;
use crate::config::role::RoleKeys;
use crate::config::settings::{CommonSettings, GatewaySettings, LogSettings, RelaySettings};
use crate::config::warning::Warning;
use crate::config::{Assembled, Inputs, assemble_gateway, assemble_relay, default_directory};
use crate::error::{Reason, chain};
use crate::health::{self, LivenessResponder};
use crate::host::signals::Hangups;
use crate::host::{limits, notify, watchdog};
use crate::install::place::Role;
use crate::metrics::{self, Counted, Sources};
use crate::scope::Scope;
use crate::trust;

/// What differs between the commands of gateways and those of relays.
pub(crate) trait Daemon: setting_args::Role + fmt::Debug + 'static {
    type Settings: PartialEq + Send + Sync;
    const ROLE: Role;
    /// What `--help` says about the positional name; hidden if that is only tolerated.
    const NAME: (&'static str, bool);
    /// The end of the help of `systemd install`.
    const INSTALL_HELP: &'static str;
    const ASSEMBLE: fn(&Inputs<'_>) -> Assembled<Self::Settings>;
    const COMMON: fn(&Self::Settings) -> &CommonSettings;
    const NAME_OF: fn(&Self::Settings) -> &str;
}

macro_rules! install_help {
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

impl Daemon for setting_args::Gateway {
    type Settings = GatewaySettings;
    const ROLE: Role = Role::Gateway;
    const NAME: (&'static str, bool) = ("Name of the gateway [env: INFISICAL_GATEWAY_NAME]", false);
    const INSTALL_HELP: &'static str = install_help!(
        "  sudo infisical gateway systemd install --enroll-method=token --token-file enrollment-token --user\n\
         \x20 sudo infisical gateway systemd install edge-2 --token-file token --target-relay-name eu-1"
    );
    const ASSEMBLE: fn(&Inputs<'_>) -> Assembled<GatewaySettings> = assemble_gateway;
    const COMMON: fn(&GatewaySettings) -> &CommonSettings = |settings| &settings.common;
    const NAME_OF: fn(&GatewaySettings) -> &str = |settings| settings.name.as_str();
}

impl Daemon for setting_args::Relay {
    type Settings = RelaySettings;
    const ROLE: Role = Role::Relay;
    const NAME: (&'static str, bool) = ("Name of the relay, as a gateway's is given", true);
    const INSTALL_HELP: &'static str = install_help!(
        "  sudo infisical relay systemd install --name eu-1 --host relay.example.com \\\n\
         \x20   --enroll-method=token --token-file enrollment-token --user"
    );
    const ASSEMBLE: fn(&Inputs<'_>) -> Assembled<RelaySettings> = assemble_relay;
    const COMMON: fn(&RelaySettings) -> &CommonSettings = |settings| &settings.common;
    const NAME_OF: fn(&RelaySettings) -> &str = |settings| settings.name.as_str();
}

/// The arguments of `start` and `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Start<R: Daemon> {
    #[arg(id = "NAME", help = R::NAME.0, hide = R::NAME.1)]
    name: Option<String>,
    #[arg(long, value_name = "FILE", help = format!(
        "Configuration file, which also keeps the access token of an enrolled {}", R::ROLE))]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs<R>,
}

/// What a service does besides its role.
pub(super) struct Duties {
    /// What is shown of its sessions.
    pub(super) counted: Counted,
    pub(super) charge: InitialCharge,
    /// How it gets a successor, if it can.
    pub(super) handing: Option<Handing>,
}

/// The end of the help of `check`.
pub(super) fn check_help(role: Role) -> String {
    format!(
        "The arguments are those of start. Without a name and --config the file is /etc/infisical/{role}.conf. Secrets are \
         shown as <secret>; no connection is made. All mistakes are reported at once, with exit code 78."
    )
}

impl<R: Daemon> Start<R> {
    /// The arguments that say no more than a name and a file.
    pub(super) fn named(name: Option<String>, config: Option<PathBuf>) -> Self {
        Self {
            name,
            config,
            settings: SettingArgs::default(),
        }
    }

    /// True if the arguments say nothing but, perhaps, a name.
    pub(super) fn is_bare(&self) -> bool {
        self.config.is_none() && self.settings.is_empty()
    }

    /// The name among the arguments.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn flags(&self, global: &Global, input: impl io::Read) -> Flags {
        let mut flags = Flags::default();
        flags.add(R::ROLE.keys().name, "NAME", self.name.as_deref());
        self.settings.add_to(&mut flags, input);
        global.args.add_to(&mut flags);
        flags
    }

    /// The role's own flags, without reading anything.
    pub(super) fn flags_unread(&self) -> Flags {
        let mut flags = Flags::default();
        flags.add(R::ROLE.keys().name, "NAME", self.name.as_deref());
        self.settings.add_unread(&mut flags);
        flags
    }

    /// Settings from `flags`, the environment and the file, which is named by `--config` or after
    /// the role's name. They go through `log`, so that what is remarkable about them is logged as
    /// they say.
    fn assemble(
        &self,
        global: &Global,
        flags: &Flags,
        log: &dyn Fn(&LogSettings) -> anyhow::Result<()>,
    ) -> anyhow::Result<R::Settings> {
        let config = self.config.as_deref();
        let keys = R::ROLE.keys();
        let assembled = with_inputs(&global.environment, flags, config, keys, R::ASSEMBLE);
        let (settings, effective) = assembled.map_err(Failure::problems)?;
        let common = (R::COMMON)(&settings);
        trust::roots().set_source(common.roots.clone());
        log(&common.log)?;
        effective.warnings.iter().for_each(Warning::log);
        Ok(settings)
    }

    /// Runs `role` with its settings, which follow a reload, announces what it reports, and serves
    /// its status and metrics, from when this process has the service. The
    /// error that ends it is the last that the service manager hears of it.
    pub(super) async fn run<E>(
        &self,
        global: &Global,
        logs: &Handle,
        scope: Scope,
        duties: Duties,
        role: impl AsyncFnOnce(
            watch::Receiver<R::Settings>,
            LastKnownGood,
            Reporter,
            LivenessResponder,
            Scope,
        ) -> Result<(), E>,
        reason: impl Fn(&E) -> Reason,
    ) -> anyhow::Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let Duties {
            counted,
            charge,
            handing,
        } = duties;
        let flags = self.flags(global, io::stdin());
        let settings = self.assemble(global, &flags, &|log| {
            logs.apply(log).map_err(logging::failure)
        })?;
        super::stop_on_signal(&scope, logs)?;
        let hangups = Hangups::catch().map_err(Failure::unavailable)?;
        limits::raise_descriptors();
        let (settings, followed) = watch::channel(settings);
        let (responder, probe) = health::liveness();
        let again = || {
            let taken = self.assemble(global, &flags, &|log| {
                logs.follow(log);
                Ok(())
            });
            taken.inspect_err(|_| logs.reopen())
        };
        let handed_over = reload::is_handed_over(self.config.as_deref(), &global.environment);
        let (reporter, monitor) = R::ROLE.status();
        let runtime = global.environment.runtime_directory.clone();
        let announce = Box::pin(async move {
            announce::announce(monitor, runtime.as_deref()).await;
        });
        let store = (R::COMMON)(&followed.borrow()).store.clone();
        let origin = Origin {
            role: R::ROLE.word().to_owned(),
            name: (R::NAME_OF)(&followed.borrow()).to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            configuration: Some(Configuration {
                file: std::path::absolute(&store).unwrap_or(store),
                is_copy: handed_over,
            }),
        };
        let shown = counted.clone();
        let sessions = move || shown.sessions();
        let (environment, current) = (&global.environment, reporter.monitor());
        let status = serve_status::<R, _>(origin.clone(), current, sessions, environment);
        let watchdog = Box::pin(watchdog::run(probe.clone()));
        let sources = Sources {
            origin,
            monitor: Some(reporter.monitor()),
            probe,
            counted,
        };
        let place = |settings: &R::Settings| (R::COMMON)(settings).metrics.clone();
        let tasks = Tasks {
            announce,
            status: Box::pin(status),
            metrics: Box::pin(metrics::server::follow(followed.clone(), place, sources)),
            watchdog,
        };
        let front = Front::new();
        let (told, reports) = (reporter.clone(), reporter.clone());
        let stop = scope.clone();
        let handing_over = async {
            if let Err(error) = charge.wait().await {
                stop.cancel();
                return error;
            }
            front.start(tasks);
            if let Some(handing) = handing {
                handing.run(&reports, &front).await;
            }
            std::future::pending().await
        };
        let refused = move |refused| told.configuration(refused);
        let reloading = reload::follow(hangups, handed_over, again, settings, refused);
        let last_known_good = LastKnownGood::new(global.environment.state_directory.clone());
        let running = role(followed, last_known_good, reporter, responder, scope);
        let ended = {
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                error = handing_over => {
                    // It has no service, but may have a tunnel, which it closes in an orderly way.
                    let _ = running.await;
                    return Err(error);
                }
                () = reloading => Ok(()),
            }
        };
        front.finish().await;
        ended.map_err(|error| failed(reason(&error), error))
    }
}

/// Serves the status where the commands look for it.
fn serve_status<R: Daemon, F: Fn() -> Sessions + Send + 'static>(
    origin: Origin,
    monitor: Monitor,
    sessions: F,
    environment: &Environment,
) -> impl Future<Output = ()> + use<R, F> {
    let is_root = nix::unistd::geteuid().is_root();
    let path = status::of_this_process(R::ROLE, &origin.name, is_root, environment);
    let is_service = environment.runtime_directory.is_some();
    async move {
        let Some(path) = path else {
            return;
        };
        match StatusSocket::bind(path) {
            Ok(socket) => {
                let document = move || Document::new(origin.clone(), &monitor.now(), sessions());
                socket.serve(document).await;
            }
            // The role works without; only those who ask get no answer.
            Err(error) if is_service => {
                tracing::warn!(error = %chain(&error), "the status is not served");
            }
            Err(error) => tracing::info!(error = %chain(&error), "the status is not served"),
        }
    }
}

/// The error that ends a role; it is the last that the service manager hears of it.
fn failed(reason: Reason, error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    notify::status(&format!("failed: {}", chain(&error)));
    // A unit is not restarted after 77. Final for a role are the platform's refusal and a place
    // where it can keep nothing: another file that is denied now may be just being replaced.
    Failure::of(reason.into(), error.into()).into()
}

/// Hands `read` what an assembly begins with.
pub(crate) fn with_inputs<T>(
    environment: &Environment,
    flags: &Flags,
    config: Option<&Path>,
    keys: &RoleKeys,
    read: impl FnOnce(&Inputs<'_>) -> T,
) -> T {
    let is_root = nix::unistd::geteuid().is_root();
    let directory = default_directory(environment, is_root, keys.folder);
    let credentials = environment.credentials_directory.as_deref();
    let is_pod = environment.kubernetes_api.is_some();
    let load = |path: &Path| match credentials {
        Some(credentials) if path.starts_with(credentials) => file::load_credential(path),
        Some(_) | None if is_pod => file::load_in_pod(path),
        Some(_) | None => file::load_own(path),
    };
    read(&Inputs {
        flags,
        environment,
        config,
        directory: &directory,
        load: &load,
    })
}
