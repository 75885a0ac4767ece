//! `infisical platform service`: names for targets behind gateways.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::Administrator;
use super::global::Global;
use super::platform_lists::{Format, NONE};
use super::print::print;
use crate::api::services::{SERVICES, Service};
use crate::api::types::Message;
use crate::connect::target::Target;
use crate::names::{GatewayName, ServiceName};

/// Named services, which clients reach by infisical connect GATEWAY SERVICE
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give a target behind a gateway a name; access rules say who reaches it
    #[command(after_help = "\
Examples:
  infisical platform service add postgres --gateway prod --target db.internal:5432
  infisical platform service add grafana --gateway prod --target 10.0.4.7:80 --local-port 3000")]
    Add(Add),
    /// List the services, all of them
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Remove a service; sessions that are open go on
    Remove {
        /// Its name
        name: ServiceName,
        /// Name of its gateway
        #[arg(long, value_name = "GATEWAY")]
        gateway: GatewayName,
        #[command(flatten)]
        administrator: Administrator,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Its name, which no other service of the gateway has
    name: ServiceName,
    /// Name of the gateway
    #[arg(long, value_name = "GATEWAY")]
    gateway: GatewayName,
    /// What it is, as seen from the gateway
    #[arg(long, value_name = "HOST:PORT")]
    target: Target,
    /// Port at which clients listen for it unless told otherwise [default: the target's port]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    local_port: Option<u16>,
    /// What people should know about it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    administrator: Administrator,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Add(args) => args.run(global).await,
            Self::List {
                format,
                administrator,
            } => {
                let admin = administrator.connect(global)?;
                let services: Vec<Service> = admin.get("listing the services", SERVICES).await?;
                let head = ["NAME", "GATEWAY", "TARGET", "LOCAL PORT", "DESCRIPTION"];
                format.print("services", &services, object, head, |service| {
                    [
                        service.name.to_string(),
                        service.gateway.to_string(),
                        service.target(),
                        service.local_port().to_string(),
                        service.description.as_deref().unwrap_or(NONE).to_owned(),
                    ]
                })
            }
            Self::Remove {
                name,
                gateway,
                administrator,
            } => {
                let admin = administrator.connect(global)?;
                let path = format!("{SERVICES}/{}/{name}", gateway.url_segment());
                admin.delete("removing the service", &path).await
            }
        }
    }
}

impl Add {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = self.administrator.connect(global)?;
        let service = Service {
            name: self.name,
            gateway: self.gateway,
            target_host: self.target.host().to_owned(),
            target_port: self.target.port(),
            local_port: self.local_port,
            description: self.description,
        };
        let request = json!(service);
        let added: Message = admin.post("adding the service", SERVICES, &request).await?;
        let then = "the service is behind the one that will be called so";
        admin
            .warn_unless_gateway(service.gateway.as_str(), then)
            .await?;
        print(&format!("{}\n", added.message))
    }
}

fn object(service: &Service) -> Value {
    json!({
        "name": service.name,
        "gateway": service.gateway,
        "target": service.target(),
        "local_port": service.local_port(),
        "description": service.description,
    })
}
