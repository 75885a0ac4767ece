//! `infisical platform`: the embedded platform; words to settings, settings to a running platform.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use ipnet::IpNet;
use tokio::sync::watch;

use super::exit::Failure;
use super::global::Global;
use super::platform_backup as backup;
use super::platform_oidc::OidcArgs;
use super::{admin, install};
use crate::agent::status::document::Origin;
use crate::config::listen;
use crate::config::metrics::MetricsListen;
use crate::health;
use crate::host::limits;
use crate::host::privileges::Keep;
use crate::host::signals::Hangups;
use crate::host::watchdog;
use crate::metrics::{self, Counted, Sources};
use crate::platform::authority::KeyAlgorithm;
use crate::platform::metrics::Metrics as PlatformMetrics;
use crate::platform::{
    self, AUDIT_RETENTIONS, DEFAULT_AUDIT_RETENTION, PublicUrl, Settings, TlsFiles,
};
use crate::scope::Scope;

/// Where it serves unless told otherwise.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Ports below need a capability (ip(7)).
const LOW_PORTS: u16 = 1024;

/// Run the small platform that is built in, or administer it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Administrators ask the platform at http://127.0.0.1:8080 unless --domain or INFISICAL_API_URL says otherwise.

Examples:
  infisical platform start
  infisical platform enrollment-token create --gateway edge-1 --output edge-1.token
  infisical platform gateway list")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(Start),
    Systemd(install::PlatformArgs),
    Backup(Box<backup::Backup>),
    Restore(backup::RestoreArgs),
    #[command(flatten)]
    Administer(admin::Command),
}

/// Start a platform and serve until it is stopped
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The state directory holds everything: the database, the administrator's token (admin-token) and the secret that \
relays of the instance share with the platform (relay-auth-secret), each readable by its owner alone.

Examples:
  infisical platform start
  infisical platform start --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem")]
struct Start {
    /// Where to serve: an address and a port, or only a port, which is then on 127.0.0.1; port 0
    /// takes a free one. Other than loopback needs --tls-cert and --tls-key
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::parse,
        default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Directory that holds the state, by default /var/lib/infisical/platform for root,
    /// ~/.local/state/infisical/platform for others
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Which keys a new platform makes: ed25519 (the default; X.509 is then ecdsa-p256),
    /// ecdsa-p256, or rsa-2048
    #[arg(long, value_name = "ALGORITHM")]
    key_algorithm: Option<KeyAlgorithm>,
    /// Certificate to serve HTTPS with: PEM, with its chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name of the organization, which appears in certificates
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// File to write the URL to once it is served
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
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
    /// For tests: the certificates of gateways end after so many seconds instead of a day
    #[arg(long, value_name = "SECONDS", hide = true)]
    gateway_certificate_lifetime: Option<NonZeroU32>,
}

/// What stands in front of a platform.
#[derive(Debug, ClapArgs)]
pub(super) struct ProxyArgs {
    /// Reverse proxy whose X-Forwarded-For says for whom it asks: an address or a network; can be
    /// given several times. The header of anyone else is ignored
    #[arg(long = "trusted-proxy", value_name = "CIDR", value_parser = network)]
    trusted: Vec<IpNet>,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| "give an address or a network, such as 127.0.0.1 or 10.0.0.0/8")
}

impl ProxyArgs {
    /// The same as arguments.
    pub(super) fn words(&self) -> Vec<String> {
        let trusted = self.trusted.iter();
        trusted
            .map(|network| format!("--trusted-proxy={network}"))
            .collect()
    }
}

/// How others reach a platform.
#[derive(Debug, ClapArgs)]
pub(super) struct PublicArgs {
    /// URL by which browsers and gateways reach the platform, where that is another address than
    /// the one it serves at, as behind a reverse proxy: https://platform.example.com
    #[arg(long, value_name = "URL")]
    public_url: Option<PublicUrl>,
}

impl PublicArgs {
    /// The same as arguments.
    pub(super) fn words(&self) -> Vec<String> {
        let url = self.public_url.iter();
        url.map(|url| format!("--public-url={url}")).collect()
    }
}

/// How long a platform keeps its record.
#[derive(Debug, ClapArgs)]
pub(super) struct RetentionArgs {
    /// Days for which entries of the record (infisical platform audit) are kept, 1 to 3650, and
    /// never more than 250,000 of them
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_AUDIT_RETENTION,
        value_parser = retention())]
    audit_retention: u16,
}

fn retention() -> clap::builder::RangedI64ValueParser<u16> {
    let (least, most) = AUDIT_RETENTIONS.into_inner();
    clap::value_parser!(u16).range(i64::from(least)..=i64::from(most))
}

impl RetentionArgs {
    /// The same as arguments.
    pub(super) fn words(&self) -> Vec<String> {
        match self.audit_retention {
            DEFAULT_AUDIT_RETENTION => Vec::new(),
            days => vec![format!("--audit-retention={days}")],
        }
    }
}

/// Where a platform serves metrics.
#[derive(Debug, ClapArgs)]
pub(super) struct MetricsArgs {
    /// Serve metrics there: an address and a port, only a port, which is then on 127.0.0.1, or
    /// unix:PATH
    #[arg(long, value_name = "PLACE")]
    metrics_listen: Option<String>,
    /// Allow --metrics-listen to name an address that other machines can reach
    #[arg(long, requires = "metrics_listen")]
    metrics_allow_remote: bool,
}

impl MetricsArgs {
    pub(super) fn listen(&self) -> anyhow::Result<Option<MetricsListen>> {
        let parse = |text| MetricsListen::parse(text, self.metrics_allow_remote);
        let listen = self.metrics_listen.as_deref().map(parse).transpose();
        listen.map_err(|error| {
            Failure::configuration(anyhow::Error::new(error).context("--metrics-listen"))
        })
    }

    /// The same as arguments.
    pub(super) fn words(&self) -> Vec<String> {
        let listen = self.metrics_listen.iter();
        let mut words: Vec<_> = listen
            .map(|place| format!("--metrics-listen={place}"))
            .collect();
        if self.metrics_allow_remote {
            words.push("--metrics-allow-remote".to_owned());
        }
        words
    }
}

impl Args {
    /// What a platform that starts needs of root's powers; `None` for other commands.
    pub(crate) fn keeps(&self) -> Option<Keep> {
        match &self.command {
            Command::Start(start) if (1..LOW_PORTS).contains(&start.listen.port()) => {
                Some(Keep::LowPorts)
            }
            Command::Start(_) => Some(Keep::Nothing),
            Command::Systemd(_)
            | Command::Backup(_)
            | Command::Restore(_)
            | Command::Administer(_) => None,
        }
    }
}

pub(crate) async fn run(args: Args, global: &Global, scope: Scope) -> anyhow::Result<()> {
    let command = match args.command {
        Command::Start(start) => return Box::pin(start_platform(start, global, scope)).await,
        Command::Systemd(args) => return Box::pin(install::platform(args, &scope)).await,
        Command::Backup(args) => return Box::pin(args.run(global)).await,
        Command::Restore(args) => return Box::pin(args.run(global)).await,
        Command::Administer(command) => command,
    };
    // One request, which a signal may end at any time.
    let request = Box::pin(command.run(global));
    let interrupted = || Err(Failure::unavailable(anyhow::Error::msg("interrupted")));
    scope.run(request).await.unwrap_or_else(interrupted)
}

async fn start_platform(args: Start, global: &Global, scope: Scope) -> anyhow::Result<()> {
    limits::raise_descriptors();
    let state_dir = args
        .state_dir
        .or_else(|| global.platform_directory())
        .ok_or_else(|| {
            Failure::configuration(anyhow::Error::msg(
                "HOME is not set; set it, or give --state-dir DIR",
            ))
        })?;
    let tls = args
        .tls_cert
        .zip(args.tls_key)
        .map(|(certificate, key)| TlsFiles { certificate, key });
    let metrics_listen = args.metrics.listen()?;
    let settings = Settings {
        listen: args.listen,
        state_dir,
        key_algorithm: args.key_algorithm,
        organization: args.organization,
        tls,
        trusted_proxies: args.proxies.trusted,
        ready_file: args.ready_file,
        public_url: args.public.public_url,
        audit_retention: args.retention.audit_retention,
        oidc: args.oidc.settings(global)?,
        session_lifetime: args.oidc.session_lifetime(),
        gateway_lifetime: args
            .gateway_certificate_lifetime
            .map(|seconds| Duration::from_secs(u64::from(seconds.get()))),
    };
    let hangups = Hangups::catch().map_err(Failure::unavailable)?;
    let (mut responder, probe) = health::liveness();
    let beside = Scope::new("beside the platform");
    beside.spawn("watchdog", watchdog::run(probe.clone()));
    let counted = PlatformMetrics::default();
    if metrics_listen.is_some() {
        let sources = Sources {
            origin: Origin {
                role: "platform".to_owned(),
                name: settings.organization.clone().unwrap_or_default(),
                program_version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                configuration: None,
            },
            monitor: None,
            probe,
            counted: Counted::Platform(counted.clone()),
        };
        let (_, place) = watch::channel(metrics_listen);
        beside.spawn(
            "metrics",
            metrics::server::follow(place, Option::clone, sources),
        );
    }
    responder
        .during(|| (), platform::run(settings, counted, hangups, scope))
        .await
        .map_err(|error| Failure::new(error.reason(), error).into())
}
