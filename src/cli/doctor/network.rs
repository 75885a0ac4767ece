//! Names and TCP: what each way of not being connected comes from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::layer::{Check, Fault, Layer, TARGET_DNS, TARGET_TCP, blocked};
use super::resolver::{self, Diagnosis};
use crate::error::chain;
use crate::net::{dial, resolve};

/// How long a resolver may take.
const LOOKUP: Duration = Duration::from_secs(3);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Looks `host` up, and shows the answer.
pub(super) async fn resolves(layer: &'static Layer, host: &str) -> Check {
    if host.parse::<IpAddr>().is_ok() {
        return Check::good(layer, format!("{host} is an address"));
    }
    let seen = match timeout(LOOKUP, resolve::lookup(host, 0)).await {
        Err(_) => format!("no answer for {host} in {} s", LOOKUP.as_secs()),
        Ok(Err(error)) => format!("cannot resolve {host}: {}", chain(&error)),
        Ok(Ok(addresses)) if addresses.is_empty() => format!("{host} resolves to no address"),
        Ok(Ok(addresses)) => {
            let addresses: Vec<String> = addresses
                .iter()
                .map(|address| address.ip().to_string())
                .collect();
            return Check::good(layer, format!("{host} is {}", addresses.join(", ")));
        }
    };
    Check::failed(layer, unresolved(seen, host).await)
}

/// `host` does not resolve, as was `seen`.
async fn unresolved(seen: String, host: &str) -> Fault {
    let Diagnosis { asked, cause, fix } = resolver::diagnose(host).await;
    Fault::new(format!("{seen}; {asked}"), cause, fix)
}

/// Checks that this machine reaches a target, as a gateway does for a session.
pub(super) async fn target(host: &str, port: u16) -> Vec<Check> {
    let dns = resolves(&TARGET_DNS, host).await;
    let tcp = match blocked(&TARGET_TCP, &[&dns]) {
        Some(tcp) => tcp,
        None => connects(&TARGET_TCP, (host, port), "the target").await.0,
    };
    vec![dns, tcp]
}

/// Connects to `host` and `port`, where `peer` is to be.
pub(super) async fn connects(
    layer: &'static Layer,
    (host, port): (&str, u16),
    peer: &str,
) -> (Check, Option<TcpStream>) {
    match dial::connect(host, port, CONNECT).await {
        Ok(stream) => {
            let address = stream.peer_addr().map(|address| address.to_string());
            let detail = format!("connected to {}", address.unwrap_or_default());
            (Check::good(layer, detail), Some(stream))
        }
        Err(error) => {
            let fault = fault(&error, (host, port), peer).await;
            (Check::failed(layer, fault), None)
        }
    }
}

async fn fault(error: &dial::Error, (host, port): (&str, u16), peer: &str) -> Fault {
    let detail = chain(error).to_string();
    let (cause, fix) = match error {
        dial::Error::Resolve { .. }
        | dial::Error::NoAddress { .. }
        | dial::Error::NotPermitted { .. } => {
            return unresolved(detail, host).await;
        }
        dial::Error::Connect {
            source, address, ..
        } => connect_cause(source, *address, peer),
        dial::Error::TimedOut { .. } | dial::Error::Silent { .. } => (
            format!("A firewall drops the packets, or the host of {peer} is down."),
            format!(
                "Open port {port} to {host} in the firewalls on the way, or start the host; to \
                 try it: nc -vz {host} {port}"
            ),
        ),
    };
    Fault::new(detail, cause, fix)
}

fn connect_cause(error: &io::Error, address: SocketAddr, peer: &str) -> (String, String) {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            format!(
                "Nothing listens on port {port} of {peer}, or a firewall rejects the connection."
            ),
            format!("Start {peer}, or open port {port} to this machine."),
        ),
        io::ErrorKind::ConnectionReset => (
            format!("Something between this machine and {peer} cuts connections."),
            format!("Let firewalls and proxies on the way pass port {port}."),
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            format!("This machine has no route to {peer}, or a firewall rejects the packets."),
            format!(
                "Repair the route, or open port {port} in the firewall; to see the route: ip \
                 route get {}",
                address.ip()
            ),
        ),
        _ => (
            format!("The system does not let this machine connect to {peer}."),
            format!("Remove what the detail names, for port {port}."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::connect_cause;

    #[test]
    fn each_refusal_has_its_own_cause() {
        let kinds = [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::NetworkUnreachable,
            ErrorKind::PermissionDenied,
        ];
        let address = ([192, 0, 2, 1], 443).into();
        let mut causes: Vec<_> = kinds
            .iter()
            .map(|kind| connect_cause(&(*kind).into(), address, "the platform").0)
            .collect();
        causes.dedup();
        assert_eq!(causes.len(), kinds.len(), "{causes:?}");
    }
}
