//! The relay, layer by layer: name, its two ports, and its host certificate. The key exchange ends
//! there, before anything is authenticated, so that the tunnel of a running gateway stays.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::layer::{
    Check, Fault, HOST_CERTIFICATE, Outcome, RELAY_DNS, RELAY_SSH, RELAY_TLS, blocked,
};
use super::network::{connects, resolves};
use crate::error::chain;
use crate::names::{SSH_PORT, TLS_PORT};
use crate::ssh::cert::{self, HostPolicy};
use crate::ssh::{self, client, keys};

/// How long the key exchange may take.
const KEY_EXCHANGE: Duration = Duration::from_secs(4);

/// The relay to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    /// The CA of its host certificate, if it is known here.
    pub(super) host_ca: Option<String>,
    /// True if gateways have tunnels to it, so that port 2222 is open.
    pub(super) has_gateways: bool,
    /// True if the platform reaches it, as the heartbeats show, so that port 8443 is open.
    pub(super) is_reached: bool,
}

/// Its layers cannot be checked: `needs` failed, or the relay is not known.
pub(super) fn unknown(needs: &[&Check]) -> Vec<Check> {
    let because = "the relay is known once the platform was asked for one";
    [&RELAY_DNS, &RELAY_SSH, &RELAY_TLS, &HOST_CERTIFICATE]
        .into_iter()
        .map(|layer| blocked(layer, needs).unwrap_or_else(|| Check::skipped(layer, because)))
        .collect()
}

/// Checks each layer.
pub(super) async fn examine(address: &Address) -> Vec<Check> {
    let host = address.host.as_str();
    let dns = resolves(&RELAY_DNS, host).await;
    if let Some(ssh) = blocked(&RELAY_SSH, &[&dns]) {
        let rest = [&RELAY_TLS, &HOST_CERTIFICATE];
        let rest = rest.into_iter().filter_map(|layer| blocked(layer, &[&dns]));
        let rest: Vec<Check> = rest.collect();
        return [dns, ssh].into_iter().chain(rest).collect();
    }
    let ((ssh, stream), (tls, _)) = tokio::join!(
        connects(&RELAY_SSH, (host, SSH_PORT), "the relay"),
        connects(&RELAY_TLS, (host, TLS_PORT), "the relay"),
    );
    // A network may not let a machine reach its own public address, and a gateway needs port 2222
    // only.
    let from_outside = |check: Check, is_open: bool, peers: &str| match is_open && !check.is_good()
    {
        true => Check::good(
            check.layer,
            format!("not reachable from this machine, which is not needed: {peers} it"),
        ),
        false => check,
    };
    let ssh = from_outside(ssh, address.has_gateways, "gateways reach");
    let mut tls = from_outside(tls, address.is_reached, "the platform reaches");
    if let Outcome::Failed(fault) = &mut tls.outcome {
        fault.fix = format!(
            "Open port {TLS_PORT} of {host} to the platform and to clients; a gateway does not \
             need it."
        );
    }
    // One relay that is down is one failure.
    let tls = tls.unless_caused_by(&[&ssh]);
    let certificate = match (stream, &address.host_ca) {
        (Some(stream), Some(ca)) => host_certificate(stream, host, ca).await,
        (Some(_), None) => {
            let because = "its CA is known to the running role only, once it has registered";
            Check::skipped(&HOST_CERTIFICATE, because)
        }
        (None, _) => blocked(&HOST_CERTIFICATE, &[&ssh])
            .unwrap_or_else(|| Check::skipped(&HOST_CERTIFICATE, "there is no connection")),
    };
    vec![dns, ssh, tls, certificate]
}

async fn host_certificate(stream: TcpStream, host: &str, ca: &str) -> Check {
    let Ok(ca) = keys::parse_public_key(ca) else {
        return Check::skipped(&HOST_CERTIFICATE, "the CA cannot be read");
    };
    let policy = HostPolicy {
        ca,
        principal: format!("{host}:{SSH_PORT}"),
    };
    let (reader, writer) = stream.into_split();
    match client::verify_host(reader, writer, policy, KEY_EXCHANGE).await {
        Ok(()) => Check::good(
            &HOST_CERTIFICATE,
            "signed by the CA that the platform named",
        ),
        Err(error) => Check::failed(&HOST_CERTIFICATE, fault(&error)),
    }
}

fn fault(error: &ssh::Error) -> Fault {
    let detail = chain(error).to_string();
    let (cause, fix) = match error {
        ssh::Error::Certificate(cert::Error::Expired(_) | cert::Error::NotYetValid(_)) => (
            "The relay's certificate is not valid at this time.",
            "See on the relay whether it renews its certificate (infisical relay doctor), and \
             whether its clock is right.",
        ),
        ssh::Error::Certificate(_) | ssh::Error::RawHostKey => (
            "What answers on port 2222 is not the relay that the platform named.",
            "Point the relay's host at the right machine, or restart the relay so that it gets a \
             new certificate.",
        ),
        ssh::Error::HandshakeTimedOut(_) => (
            "Port 2222 accepts connections and says nothing: the relay hangs, or a load balancer \
             has no relay behind it.",
            "Restart the relay, or correct what the load balancer points to.",
        ),
        ssh::Error::Io(source) if source.kind() == io::ErrorKind::ConnectionReset => (
            "Something on the way cuts the connection as soon as SSH begins.",
            "Let firewalls on the way pass SSH on port 2222, without inspecting it.",
        ),
        ssh::Error::Protocol(_) => (
            "What answers on port 2222 does not speak SSH as a relay does.",
            "Point the relay's host at the relay, and port 2222 of a load balancer at its port \
             2222.",
        ),
        ssh::Error::Closed | ssh::Error::Disconnected { .. } => (
            "What answers on port 2222 ends the connection before the SSH key exchange.",
            "Check that it is a relay and not another service, and read why in the relay's log.",
        ),
        _ => (
            "What answers on port 2222 does not complete an SSH key exchange.",
            "Check that it is a relay, and that no firewall on the way inspects SSH.",
        ),
    };
    Fault::new(detail, cause, fix)
}
