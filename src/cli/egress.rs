//! `infisical gateway egress`: what a firewall has to let through, from the settings of a gateway
//! and its status. It connects to nothing but the status socket.

use std::net::IpAddr;

use clap::Args;
use serde_json::json;

use super::check;
use super::exit::Failure;
use super::global::Global;
use super::print::{json_object, print, table};
use super::setting_args::Gateway;
use super::start::Start;
use super::status;
use crate::config::proxy::Way;
use crate::config::{GatewayEgress, assemble_gateway_egress};
use crate::install::place::Role;
use crate::names::{SSH_PORT, TLS_PORT};

/// The port of a proxy whose URL has none: SOCKS (RFC 1928 §3).
const SOCKS_PORT: u16 = 1080;

/// The arguments of `egress`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is connected to. The host of the relay is known while the gateway runs.

Examples:
  infisical gateway egress edge-1
  infisical gateway egress edge-1 --json
  infisical gateway egress edge-1 --nftables")]
pub(crate) struct EgressArgs {
    #[command(flatten)]
    start: Start<Gateway>,
    /// Print JSON (version 1, docs/json.md)
    #[arg(long, conflicts_with = "nftables")]
    json: bool,
    /// Print rules for nftables
    #[arg(long)]
    nftables: bool,
}

/// A connection that is made.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    from: &'static str,
    /// `None` where it is not known.
    host: Option<String>,
    port: u16,
    purpose: &'static str,
}

const FROM_GATEWAY: &str = "gateway";

/// Prints what has to be open.
pub(super) async fn run(args: &EgressArgs, global: &Global) -> anyhow::Result<()> {
    let assemble = assemble_gateway_egress;
    let checked = check::read_part(&args.start, global, "egress", assemble).await;
    let settings = checked.map_err(Failure::problems)?.settings;
    let found = status::find(Role::Gateway, Some(settings.name.as_str()), global).await;
    let relay_host = found
        .into_iter()
        .flatten()
        .find_map(|found| found.relay_host);
    let flows = flows(&settings, relay_host);
    print(&if args.json {
        as_json(&flows)
    } else if args.nftables {
        as_nftables(&flows)
    } else {
        as_text(&flows)
    })
}

fn flows(settings: &GatewayEgress, relay_host: Option<String>) -> Vec<Flow> {
    let platform = settings.common.domain.as_url();
    let (url, purpose) = match settings.common.proxies.way(platform) {
        Way::Proxy(proxy) => (proxy.url(), "the proxy on the way to the platform"),
        Way::Direct | Way::Loopback | Way::Bypassed => (platform, "the platform"),
    };
    let flow = |from, host, port, purpose| Flow {
        from,
        host,
        port,
        purpose,
    };
    let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
    let host = url.host_str().map(|host| bare(host).to_owned());
    vec![
        flow(FROM_GATEWAY, host, port, purpose),
        flow(FROM_GATEWAY, relay_host.clone(), SSH_PORT, "the relay"),
        flow("Infisical, clients", relay_host, TLS_PORT, "the relay"),
    ]
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn as_text(flows: &[Flow]) -> String {
    let rows = flows.iter().map(|flow| {
        let host = flow.host.clone();
        [
            flow.from.to_owned(),
            host.unwrap_or_else(|| "(known while the gateway runs)".to_owned()),
            format!("{}/tcp", flow.port),
            flow.purpose.to_owned(),
        ]
    });
    table(["FROM", "TO", "PORT", "WHAT"], rows)
}

fn as_json(flows: &[Flow]) -> String {
    let flows = flows.iter().map(|flow| {
        json!({
            "from": flow.from,
            "host": flow.host,
            "port": flow.port,
            "protocol": "tcp",
            "purpose": flow.purpose,
        })
    });
    let flows: Vec<_> = flows.collect();
    json_object([("egress", flows.into())])
}

/// Rules for a chain of output. nftables takes no name that has several addresses: only addresses
/// narrow a rule, and a name is its comment.
fn as_nftables(flows: &[Flow]) -> String {
    let own = flows.iter().filter(|flow| flow.from == FROM_GATEWAY);
    let rules = own.map(|flow| {
        let host = flow.host.as_deref().unwrap_or_default();
        let address = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => format!("ip daddr {address} "),
            Ok(IpAddr::V6(address)) => format!("ip6 daddr {address} "),
            Err(_) => String::new(),
        };
        let comment = format!("{} {host}", flow.purpose);
        let (port, comment) = (flow.port, comment.trim_end().replace('"', ""));
        format!("    {address}tcp dport {port} accept comment \"{comment}\"\n")
    });
    format!(
        "table inet infisical_gateway {{\n  chain egress {{\n    \
         type filter hook output priority filter; policy accept;\n{}  }}\n}}\n",
        rules.collect::<String>()
    )
}
