//! `infisical platform systemd`: the embedded platform as a service with a user of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::super::exit::Failure;
use super::super::hand_over_tls::{self, HandOverTlsArgs};
use super::super::platform::{DEFAULT_LISTEN, MetricsArgs, ProxyArgs, PublicArgs, RetentionArgs};
use super::super::platform_oidc::OidcArgs;
use super::super::service::{self, say};
use super::Steps;
use super::execute::show;
use crate::config::listen;
use crate::config::metrics::MetricsListen;
use crate::error::chain;
use crate::host::systemd::{State, Systemd};
use crate::host::unit::{Program, Version};
use crate::install::place::UNITS;
use crate::install::plan::{self, Change};
use crate::install::platform::{DROP_IN, PRIVATE_STATE, SERVICE, STATE, Settings, UNIT};
use crate::install::unit_templates::MARK;
use crate::install::{platform, program};
use crate::platform::authority::KeyAlgorithm;
use crate::scope::Scope;

/// Where a platform keeps its state that root has started by hand.
const BY_HAND: &str = "/var/lib/infisical/platform";
/// Install the platform as a systemd service, or remove it
#[derive(Debug, Args)]
pub(crate) struct PlatformArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Install(Box<Install>),
    Uninstall(Uninstall),
    #[command(hide = true)]
    HandOverTls(HandOverTlsArgs),
}

/// Write the unit, enable it for boot and start it; it runs as the user infisical-platform
#[derive(Debug, Args)]
#[command(after_help = "\
The state is in /var/lib/infisical-platform. The same command run again changes what differs, and nothing else.

Examples:
  sudo infisical platform systemd install
  sudo infisical platform systemd install --listen 0.0.0.0:443 --tls-cert /etc/tls/cert.pem --tls-key /etc/tls/key.pem")]
struct Install {
    /// Where to serve: an address and a port, or only a port, which is then on 127.0.0.1. Other
    /// than loopback needs --tls-cert and --tls-key
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::parse,
        default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Which keys a new platform makes: ed25519 (the default), ecdsa-p256 or rsa-2048
    #[arg(long, value_name = "ALGORITHM")]
    key_algorithm: Option<KeyAlgorithm>,
    /// Certificate to serve HTTPS with: PEM, with its chain. It is read
    /// again at every start and reload
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM; it may be readable by root alone
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name of the organization, which appears in certificates
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    #[command(flatten)]
    proxies: ProxyArgs,
    #[command(flatten)]
    public: PublicArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    #[command(flatten)]
    oidc: OidcArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    steps: Steps,
}

/// Stop it, remove the unit, and keep its state
#[derive(Debug, Args)]
struct Uninstall {
    /// Remove its state too: the keys of its certification authorities and the administrator's
    /// token
    #[arg(long)]
    purge: bool,
}

/// `infisical platform systemd …`.
pub(crate) async fn platform(args: PlatformArgs, scope: &Scope) -> anyhow::Result<()> {
    match args.command {
        Command::Install(install) => install.run(scope).await,
        Command::Uninstall(uninstall) => uninstall.run(scope).await,
        Command::HandOverTls(args) => hand_over_tls::run(args),
    }
}

impl Install {
    async fn run(&self, scope: &Scope) -> anyhow::Result<()> {
        let steps = &self.steps;
        let systemd = steps.systemd("infisical platform systemd install").await?;
        let version = systemd.as_ref().map_or(Version::NEWEST, Systemd::version);
        let settings = self.settings()?;
        let program = match program::find(UNIT) {
            Err(error) if steps.dry_run => {
                say(&format!(
                    "It could not be installed from here: {}",
                    chain(&error)
                ));
                Program::try_new(program::recommended()).map_err(Failure::configuration)?
            }
            found => found.map_err(Failure::configuration)?,
        };
        let unit = platform::unit(&program, version);
        let drop_in = platform::drop_in(&settings, &program, version);
        let changes = [
            Change::of(unit_path(), Some(unit))?,
            Change::of(drop_in_path(), Some(drop_in))?,
        ];
        refuse_foreign()?;
        let Some(systemd) = systemd.filter(|_| !steps.dry_run) else {
            say("Nothing is written. This would be:");
            show(&changes);
            return Ok(());
        };
        let _lock = service::alone(scope).await?;
        service::make(&changes)?;
        let state = systemd.show(SERVICE).await?;
        systemd.reload_units().await?;
        if !steps.no_enable {
            systemd.act("enable", SERVICE).await?;
            say(&format!("{SERVICE} starts at boot"));
        }
        if steps.no_start {
            say("Not started; to start it: systemctl start infisical-platform");
            return Ok(());
        }
        let changed = changes.iter().any(Change::is_due)
            || state.stale
            || program::is_other(state.main_pid, program.path());
        start(&systemd, &state, changed, scope).await?;
        say(&format!(
            "The administrator's token is in {STATE}/admin-token; root on this machine needs no \
             --token-file."
        ));
        Ok(())
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let refused = |text: String| Failure::configuration(anyhow::Error::msg(text));
        if self.tls_cert.is_none() && !self.listen.ip().to_canonical().is_loopback() {
            let text = format!(
                "plain HTTP is served on loopback only; give --tls-cert and --tls-key to listen on {}",
                self.listen
            );
            return Err(refused(text));
        }
        if self.listen.port() == 0 {
            return Err(refused(
                "--listen needs a port that stays the same".to_owned(),
            ));
        }
        if Path::new(BY_HAND).join("platform.db").exists() && !Path::new(STATE).exists() {
            let text = format!(
                "{BY_HAND} holds the state of a platform that was started by hand; stop it and move \
                 the directory first: mv {BY_HAND} {STATE}"
            );
            return Err(refused(text));
        }
        // Links stay: clients of ACME renew a certificate by making them lead elsewhere.
        let absolute = |path: &PathBuf| {
            let found = std::fs::metadata(path).and_then(|_| std::path::absolute(path));
            found.map_err(|e| Failure::configuration(plan::Error::new("read", path, e)))
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((absolute(certificate)?, absolute(key)?)),
            _ => None,
        };
        let oidc_client_secret = self.oidc.secret_file().map(absolute).transpose()?;
        let mut arguments = self.oidc.words()?;
        if let Some(algorithm) = self.key_algorithm {
            arguments.extend(["--key-algorithm".to_owned(), algorithm.to_string()]);
        }
        if let Some(name) = &self.organization {
            if name.chars().any(char::is_control) {
                return Err(refused("--organization has a control character".to_owned()));
            }
            arguments.push(format!("--organization={name}"));
        }
        let metrics_port = match self.metrics.listen()? {
            Some(MetricsListen::Tcp(address)) => Some(address.port()),
            Some(MetricsListen::Unix(_)) | None => None,
        };
        arguments.extend(self.proxies.words());
        arguments.extend(self.public.words());
        arguments.extend(self.retention.words());
        arguments.extend(self.metrics.words());
        Ok(Settings {
            listen: self.listen,
            metrics_port,
            tls,
            oidc_client_secret,
            arguments,
        })
    }
}

fn unit_path() -> PathBuf {
    Path::new(UNITS).join(SERVICE)
}

fn drop_in_path() -> PathBuf {
    let folder = Path::new(UNITS).join(format!("{SERVICE}.d"));
    folder.join(DROP_IN)
}

/// Refuses to touch a unit that this installer did not write.
fn refuse_foreign() -> anyhow::Result<()> {
    let path = unit_path();
    let is_foreign = match std::fs::read_to_string(&path) {
        Ok(text) => !text.starts_with(MARK),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if !is_foreign {
        return Ok(());
    }
    let text = format!(
        "{} was not written by this installer; move it away first",
        path.display()
    );
    Err(Failure::configuration(anyhow::Error::msg(text)))
}

/// Starts or restarts it, and waits until it serves or has failed.
async fn start(
    systemd: &Systemd,
    before: &State,
    changed: bool,
    scope: &Scope,
) -> anyhow::Result<()> {
    if before.is_up() && !changed {
        say(&format!("{SERVICE} runs already, and nothing has changed."));
        return Ok(());
    }
    let problem = match service::launch(systemd, SERVICE, before, scope).await? {
        None => return Err(service::interrupted("it is being started")),
        Some(state) if state.is_up() => {
            say(&format!("{SERVICE} runs."));
            return Ok(());
        }
        Some(state) if state.has_failed() => "failed".to_owned(),
        Some(_) => format!("does not serve after {} s", service::WATCH.as_secs()),
    };
    let text = format!("{SERVICE} {problem}; to see why: journalctl -u infisical-platform");
    Err(Failure::unavailable(anyhow::Error::msg(text)))
}

impl Uninstall {
    async fn run(&self, scope: &Scope) -> anyhow::Result<()> {
        let systemd = service::administrator("infisical platform systemd uninstall").await?;
        let _lock = service::alone(scope).await?;
        refuse_foreign()?;
        let removals = [
            Change::of(drop_in_path(), None)?,
            Change::of(unit_path(), None)?,
        ];
        service::remove(&systemd, &[SERVICE.to_owned()], &removals).await?;
        say(&format!("{SERVICE} is stopped and removed."));
        if !self.purge {
            if Path::new(STATE).exists() {
                say(&format!("Its state stays: {STATE} (--purge removes it)"));
            }
            return Ok(());
        }
        for path in [STATE, PRIVATE_STATE].map(Path::new) {
            service::purge(path)?;
        }
        Ok(())
    }
}
