//! `infisical connect`: a client's way to a service.

mod services;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::exit::{Code, Failure};
use super::global::{Global, LOCAL_DOMAIN, Purpose};
use super::print::output_failed;
use super::progress;
use crate::config::listen;
use crate::config::proxy::Proxies;
use crate::config::settings::{ApiBase, CustomHeaders};
use crate::connect::{self, Connection, Forwarder, Protocol, Proxy, Settings, Target};
use crate::error::chain;
use crate::host::{notify, ready_file};
use crate::names::{GatewayName, ServiceName};
use crate::scope::Scope;
use crate::secret::Secret;

/// A port that the kernel chooses.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Reach a service behind a gateway, through a local port or standard input and output
///
/// The embedded platform grants the session; the gateway resolves the target's name. Every
/// connection to the local port becomes a connection of its own to the target.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infisical connect edge-1 postgres redis
  infisical connect --all
  infisical connect edge-1 --to db.internal:5432 --listen 127.0.0.1:5432
  infisical connect edge-1 --socks 1080 --http-connect 3128
  ssh -o ProxyCommand='infisical connect edge-1 --to \"[%h]:%p\" --stdio' admin@build-7

Operators define services: infisical platform service add. If a service's local port is taken,
another one is used and shown.

Without --domain and INFISICAL_API_URL it is the platform of the only session (infisical login), or
http://127.0.0.1:8080.")]
pub(crate) struct Args {
    /// Name of the gateway
    #[arg(required_unless_present = "all")]
    gateway: Option<GatewayName>,
    /// Names of services behind it, each of which gets a local port
    #[arg(
        value_name = "SERVICE",
        conflicts_with_all = ["all", "to", "socks", "http_connect"]
    )]
    services: Vec<ServiceName>,
    /// All services that you may reach: those behind the gateway, or behind every one
    #[arg(
        long,
        conflicts_with_all = ["to", "socks", "http_connect", "listen", "stdio"]
    )]
    all: bool,
    /// The service to reach, as seen from the gateway; an IPv6 address in brackets, which any host
    /// may have
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with_all = ["socks", "http_connect"]
    )]
    to: Option<String>,
    /// Local address to listen on, or only a port, which is then on 127.0.0.1; port 0 lets the
    /// system choose [default: 127.0.0.1:0]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_parser = listen::parse,
        conflicts_with_all = ["stdio", "socks", "http_connect"]
    )]
    listen: Option<SocketAddr>,
    /// One connection, on standard input and output
    #[arg(long, conflicts_with_all = ["socks", "http_connect"])]
    stdio: bool,
    /// Local address of a SOCKS5 proxy, or only a port: programs choose the services that they
    /// reach, and the gateway resolves the names
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::parse)]
    socks: Option<SocketAddr>,
    /// The same as an HTTP proxy, for the method CONNECT
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::parse)]
    http_connect: Option<SocketAddr>,
    /// The proxies may listen where other machines reach them, which then reach all that the token
    /// permits
    #[arg(long)]
    allow_remote: bool,
    /// File with the token that permits sessions [env: INFISICAL_TOKEN] [default: that of infisical
    /// login, or, to a platform on this machine, its administrator's]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File to write the local address to once it can be used, one line for each; of a service its
    /// gateway and name stand behind the address
    #[arg(long, value_name = "FILE", conflicts_with = "stdio")]
    ready_file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, global: &Global, scope: Scope) -> anyhow::Result<()> {
    let target = args.to.as_deref().map(target).transpose()?;
    let proxies_at = proxies_at(&args)?;
    let domain = global.client_domain(LOCAL_DOMAIN)?;
    let (headers, proxies) = (global.headers()?, global.proxies()?);
    let is_by_address = target.is_some() || !proxies_at.is_empty();
    let nothing_named = !is_by_address && !args.all && args.services.is_empty();
    let token = global.client_token(args.token_file.as_deref(), &domain, Purpose::Connect);
    let (token, token_source) = match token {
        // Without a token the platform does not tell what could be named.
        Err(_) if nothing_named => return Err(services::nothing_is_named(&[])),
        token => token?,
    };
    let failure = |error| failure(error, &token_source);
    let client = Client {
        domain,
        headers,
        proxies,
        token,
    };
    let Some(gateway) = args.gateway.clone().filter(|_| is_by_address) else {
        let chosen = services::choose(&client, &args).await;
        let chosen = chosen.map_err(|error| refused(error, &token_source))?;
        return services::run(chosen, &client, &args, &token_source, scope).await;
    };
    let waiting = format!("Waiting for gateway {gateway}");
    let settings = client.settings(gateway);
    let Some(target) = target else {
        let proxy = Proxy::bind(settings, proxies_at).map_err(failure)?;
        return serve_proxies(proxy, args.ready_file.as_deref(), scope)
            .await?
            .map_err(failure);
    };
    if args.stdio {
        let copying = copy_stdio(settings, target, &waiting, &scope);
        return copying.await.map_err(failure);
    }
    let address = args.listen.unwrap_or(DEFAULT_LISTEN);
    let forwarder = Forwarder::bind(settings, target, address).map_err(failure)?;
    // An unknown gateway, or one that is not connected, is reported before anything waits for it.
    match progress::show(&waiting, forwarder.check(&scope)).await {
        Err(error) if error.is_final() => return Err(failure(error)),
        Err(error) => {
            // Like the line below for people, so that the two come in this order.
            let _ = writeln!(
                io::stderr(),
                "{}; each connection tries again",
                chain(&error)
            );
        }
        Ok(()) => {}
    }
    let address = forwarder.address();
    // For people; programs wait for the ready file.
    let _ = writeln!(io::stderr(), "Listening on {address}");
    if let Some(path) = &args.ready_file {
        ready_file::write(path, &address.to_string()).map_err(Failure::unavailable)?;
    }
    notify::ready();
    forwarder.run(scope).await.map_err(failure)
}

/// Who asks which platform.
struct Client {
    domain: ApiBase,
    headers: CustomHeaders,
    proxies: Proxies,
    token: Secret,
}

impl Client {
    fn settings(&self, gateway: GatewayName) -> Settings {
        Settings {
            domain: self.domain.clone(),
            headers: self.headers.clone(),
            proxies: self.proxies.clone(),
            token: self.token.clone(),
            gateway,
        }
    }
}

/// One connection, on standard input and output.
async fn copy_stdio(
    settings: Settings,
    target: Target,
    waiting: &str,
    scope: &Scope,
) -> Result<(), connect::Error> {
    let opening = Connection::open(settings, target, scope);
    let connection = progress::show(waiting, opening).await?;
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    connection.copy(input, output, scope).await
}

/// Where the proxies are to listen.
fn proxies_at(args: &Args) -> anyhow::Result<Vec<(Protocol, SocketAddr)>> {
    let socks = args.socks.map(|address| (Protocol::Socks5, address));
    let http = args
        .http_connect
        .map(|address| (Protocol::HttpConnect, address));
    let all: Vec<_> = socks.into_iter().chain(http).collect();
    let is_remote = |(_, address): &(Protocol, SocketAddr)| {
        let address = address.ip().to_canonical();
        !address.is_loopback() && !args.allow_remote
    };
    if all.iter().any(is_remote) {
        const TEXT: &str = "other machines can reach that address, and through the proxy whatever the token permits: \
                            write 127.0.0.1, or add --allow-remote";
        return Err(Failure::usage(TEXT).into());
    }
    Ok(all)
}

/// Serves until `scope` is cancelled.
async fn serve_proxies(
    proxy: Proxy,
    announced_in: Option<&Path>,
    scope: Scope,
) -> anyhow::Result<Result<(), connect::Error>> {
    let mut lines = Vec::new();
    for (protocol, address) in proxy.addresses() {
        let name = match protocol {
            Protocol::Socks5 => "SOCKS5",
            Protocol::HttpConnect => "HTTP CONNECT",
        };
        let _ = writeln!(io::stderr(), "Listening on {address} for {name}");
        lines.push(address.to_string());
    }
    if let Some(path) = announced_in {
        ready_file::write(path, &lines.join("\n")).map_err(Failure::unavailable)?;
    }
    notify::ready();
    Ok(proxy.run(scope).await)
}

/// Not by the argument parser, which would repeat the password of a URL.
fn target(text: &str) -> anyhow::Result<Target> {
    let usage = |error| Failure::of(Code::Usage, anyhow::Error::new(error).context("--to"));
    text.parse().map_err(|error| usage(error).into())
}

fn failure(error: connect::Error, token_source: &str) -> anyhow::Error {
    // The reader of standard output has gone.
    if let connect::Error::Local(error) = error {
        return output_failed(error);
    }
    let is_about_the_token = error.is_about_the_token();
    let failure = anyhow::Error::from(Failure::new(error.reason(), error));
    if is_about_the_token {
        return failure.context(format!("the token from {token_source} was refused"));
    }
    failure
}

/// The platform did not say which services there are.
fn refused(error: anyhow::Error, token_source: &str) -> anyhow::Error {
    match Code::of(&error) {
        Code::Permission => error.context(format!("the token from {token_source} was refused")),
        _ => error,
    }
}
