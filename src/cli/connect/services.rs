//! `infisical connect GATEWAY SERVICE…` and `--all`: named services, each at a local port.
//!
//! One that fails does not end the others; the command fails if none can be served.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::super::admin;
use super::super::exit::{Code, Failure};
use super::super::print::table;
use super::super::progress;
use super::{Args, Client, DEFAULT_LISTEN, copy_stdio, failure, target};
use crate::api;
use crate::api::services::{REACHABLE_SERVICES, Service};
use crate::connect::Forwarder;
use crate::error::chain;
use crate::host::{notify, ready_file};
use crate::names::{GatewayName, ServiceName};
use crate::scope::Scope;

/// Services of one command: each takes a port and, once it is used, some memory.
const MAX_SERVICES: usize = 256;
/// Services whose sessions are tried at the same time.
const CHECKS: usize = 8;
/// How long a wrong command line waits for the names that could be in it.
const HINT_LIMIT: Duration = Duration::from_secs(3);

/// The services that `args` name, as the platform has them for this client.
pub(super) async fn choose(client: &Client, args: &Args) -> anyhow::Result<Vec<Service>> {
    let nothing_named = !args.all && args.services.is_empty();
    let listing = list(client, args.gateway.as_ref());
    if nothing_named {
        let known = tokio::time::timeout(HINT_LIMIT, listing).await;
        return Err(nothing_is_named(
            &known.ok().and_then(Result::ok).unwrap_or_default(),
        ));
    }
    let known = listing.await?;
    let chosen = if args.all {
        known
    } else {
        let mut seen = BTreeSet::new();
        let names = args.services.iter().filter(|name| seen.insert(*name));
        names
            .map(|name| find(name, args.gateway.as_ref(), &known))
            .collect::<Result<_, _>>()?
    };
    if chosen.is_empty() {
        let text = format!(
            "there is no service{} that you may reach",
            behind(args.gateway.as_ref())
        );
        return Err(unknown(&text, &chosen));
    }
    if chosen.len() > MAX_SERVICES {
        let text = format!(
            "these are {} services, and at most {MAX_SERVICES} can be served at once; name some of them",
            chosen.len()
        );
        return Err(Failure::of(Code::Usage, anyhow::Error::msg(text)).into());
    }
    if chosen.len() > 1 && (args.listen.is_some() || args.stdio) {
        return Err(Failure::usage("--listen and --stdio are for one service").into());
    }
    Ok(chosen)
}

/// The services that this client may reach, behind one gateway or behind every one.
async fn list(client: &Client, gateway: Option<&GatewayName>) -> anyhow::Result<Vec<Service>> {
    let platform = api::Client::try_new(&client.domain, &client.headers, &client.proxies)
        .map_err(admin::refused)?;
    let asking = platform.get("listing the services", REACHABLE_SERVICES, &client.token);
    let mut known: Vec<Service> = progress::show("Waiting for the platform", asking)
        .await
        .map_err(admin::refused)?;
    known.retain(|service| gateway.is_none_or(|gateway| service.gateway == *gateway));
    Ok(known)
}

/// Which services were looked at.
fn behind(gateway: Option<&GatewayName>) -> String {
    gateway.map_or_else(String::new, |name| format!(" behind gateway {name}"))
}

fn find(
    name: &ServiceName,
    gateway: Option<&GatewayName>,
    known: &[Service],
) -> anyhow::Result<Service> {
    let found = known.iter().find(|service| service.name == *name);
    found.cloned().ok_or_else(|| {
        let text = format!(
            "there is no service {name}{} that you may reach",
            behind(gateway)
        );
        unknown(&text, known)
    })
}

/// The command line has a gateway only, which is wrong whether or not the platform answers.
pub(super) fn nothing_is_named(known: &[Service]) -> anyhow::Error {
    let services = names(known).map(|names| format!(" (they are: {names})"));
    let text = format!(
        "nothing is named that is to be reached behind this gateway: name services of it{}, or add \
         --all, --to HOST:PORT, --socks or --http-connect",
        services.unwrap_or_default()
    );
    Failure::of(Code::Usage, anyhow::Error::msg(text)).into()
}

fn names(services: &[Service]) -> Option<String> {
    let names: Vec<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Nothing is called so, or no access rule allows it, which looks the same.
fn unknown(what: &str, known: &[Service]) -> anyhow::Error {
    let text = match names(known) {
        None => format!(
            "{what}; an operator defines services (infisical platform service add), and an administrator \
             allows access to them (infisical platform access allow)"
        ),
        Some(names) => format!("{what}; these are: {names}"),
    };
    Failure::of(Code::Configuration, anyhow::Error::msg(text)).into()
}

/// Serves them until `scope` is cancelled.
pub(super) async fn run(
    services: Vec<Service>,
    client: &Client,
    args: &Args,
    token_source: &str,
    scope: Scope,
) -> anyhow::Result<()> {
    if args.stdio
        && let [service] = services.as_slice()
    {
        let waiting = format!("Waiting for gateway {}", service.gateway);
        let settings = client.settings(service.gateway.clone());
        let target = target(&service.target())?;
        let copying = copy_stdio(settings, target, &waiting, &scope);
        return copying.await.map_err(|error| failure(error, token_source));
    }
    let mut bound = Vec::new();
    let mut first_failure = None;
    for service in services {
        match bind(&service, client, args, token_source) {
            Ok(forwarder) => bound.push((service, forwarder)),
            Err(error) => set_aside(&service, error, &mut first_failure),
        }
    }
    let check = |(service, forwarder): (Service, Forwarder)| {
        let scope = &scope;
        async move {
            let checked = forwarder.check(scope).await;
            (service, forwarder, checked)
        }
    };
    let checking = stream::iter(bound).map(check).buffered(CHECKS);
    let checked: Vec<_> = progress::show("Waiting for the gateways", checking.collect()).await;
    let mut served = Vec::new();
    for (service, forwarder, checked) in checked {
        match checked {
            Err(error) if error.is_final() => {
                set_aside(&service, failure(error, token_source), &mut first_failure);
            }
            Err(error) => {
                let error = chain(&error).to_string();
                let line = format!("{}: {error}; each connection tries again", named(&service));
                let _ = writeln!(io::stderr(), "{line}");
                served.push((service, forwarder));
            }
            Ok(()) => served.push((service, forwarder)),
        }
    }
    if let Some(error) = first_failure {
        if served.is_empty() {
            return Err(error);
        }
        let _ = writeln!(io::stderr(), "{error:#}");
    }
    announce(&served, args)?;
    notify::ready();
    serve(served, &scope).await;
    Ok(())
}

/// Listens where the service is expected, or, if another program does, at a free port.
fn bind(
    service: &Service,
    client: &Client,
    args: &Args,
    token_source: &str,
) -> anyhow::Result<Forwarder> {
    let target = target(&service.target())?;
    let bind = |address| {
        let settings = client.settings(service.gateway.clone());
        Forwarder::bind(settings, target.clone(), address)
    };
    let failure = |error| failure(error, token_source);
    if let Some(address) = args.listen {
        return bind(address).map_err(failure);
    }
    let address = SocketAddr::new(DEFAULT_LISTEN.ip(), service.local_port());
    bind(address).or_else(|error| {
        let forwarder = bind(DEFAULT_LISTEN).map_err(failure)?;
        let line = format!(
            "{}: {}; it is at {} instead",
            named(service),
            chain(&error),
            forwarder.address()
        );
        let _ = writeln!(io::stderr(), "{line}");
        Ok(forwarder)
    })
}

/// As a person may type it behind `connect`, with a slash.
fn named(service: &Service) -> String {
    format!("{}/{}", service.gateway, service.name)
}

/// Tells of a service that is not served; the first such failure is kept for its exit code.
fn set_aside(service: &Service, error: anyhow::Error, first: &mut Option<anyhow::Error>) {
    let error = error.context(format!("{} is not served", named(service)));
    if first.is_none() {
        *first = Some(error);
        return;
    }
    let _ = writeln!(io::stderr(), "{error:#}");
}

/// For people on standard error; programs wait for the ready file.
fn announce(served: &[(Service, Forwarder)], args: &Args) -> anyhow::Result<()> {
    let rows = served.iter().map(|(service, forwarder)| {
        let address = forwarder.address().to_string();
        [named(service), address, service.target()]
    });
    let shown = table(["NAME", "LOCAL ADDRESS", "TARGET"], rows);
    let _ = io::stderr().write_all(shown.as_bytes());
    if let Some(path) = &args.ready_file {
        let line = |(service, forwarder): &(Service, Forwarder)| {
            format!("{} {}", forwarder.address(), named(service))
        };
        let lines: Vec<String> = served.iter().map(line).collect();
        ready_file::write(path, &lines.join("\n")).map_err(Failure::unavailable)?;
    }
    Ok(())
}

/// Until `scope` is cancelled, or all have ended.
async fn serve(served: Vec<(Service, Forwarder)>, scope: &Scope) {
    let serving = served.into_iter().map(|(service, forwarder)| {
        let scope = scope.clone();
        async move {
            if let Err(error) = forwarder.run(scope).await {
                let name = named(&service);
                let error = chain(&error).to_string();
                tracing::error!(
                    service.name = name,
                    error,
                    "the service is served no longer"
                );
            }
        }
    });
    futures_util::future::join_all(serving).await;
}
