//! `infisical platform access`: which clients may reach which targets.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{Administrator, identity_called};
use super::exit::{Code, Failure};
use super::global::Global;
use super::platform_lists::{Format, minutes};
use super::print::{json_object, print};
use crate::api::access::{
    AccessRule, AccessVerdict, AllowAccess, CheckAccess, EVERY_GATEWAY, Outcome,
};
use crate::connect::target::Target;

const RULES: &str = "/v1/embedded/access-rules";

/// Rules of access, without which a client reaches nothing
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let an identity with the role client, or a group of them, reach targets through a gateway
    #[command(after_help = ALLOW_HELP)]
    Allow(Allow),
    /// List the rules
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Remove a rule; sessions that are open go on, and certificates that were issued are valid for up
    /// to five minutes
    Remove {
        /// Its number, which list shows
        number: i64,
        #[command(flatten)]
        administrator: Administrator,
    },
    /// Show whether an identity may reach a target through a gateway, and which rule decides
    #[command(after_help = "\
The exit code is 0 if a session would be granted, and 1 if it would not.

Examples:
  infisical platform access check --who alice --gateway prod --target db.internal:5432")]
    Check(Check),
}

const ALLOW_HELP: &str = "\
A target is HOST, HOST:PORT or HOST:FIRST-LAST. The host is a name as clients give it, a suffix (*.internal: names below \
it), an address, a network, or * for everything. A rule for addresses also lets clients ask for names: the gateway then \
judges each address that it resolves the name to; a gateway whose program does not know such rules gets no such session. \
Cloud metadata (169.254.169.254 and the like) is reached only by a rule for exactly that address.

Examples:
  infisical platform access allow --who alice --gateway prod --target db.internal:5432
  infisical platform access allow --who group:dba --gateway prod --target 10.0.0.0/16:443 --target '*.db.internal:5432'";

#[derive(Debug, Args)]
pub(super) struct Allow {
    /// Name or id of the identity, or group:NAME
    #[arg(long, value_name = "IDENTITY|group:NAME")]
    who: String,
    /// Name of the gateway, or * for every one
    #[arg(long, value_name = "GATEWAY")]
    gateway: String,
    /// What may be reached; can be given several times
    #[arg(long = "target", value_name = "TARGET", required = true)]
    targets: Vec<String>,
    #[command(flatten)]
    administrator: Administrator,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Name or id of the identity
    #[arg(long, value_name = "IDENTITY", value_parser = identity_called)]
    who: String,
    /// Name of the gateway
    #[arg(long, value_name = "GATEWAY")]
    gateway: String,
    /// What it wants to reach
    #[arg(long, value_name = "HOST:PORT")]
    target: Target,
    #[arg(long)]
    /// Print JSON (version 1, docs/json.md)
    json: bool,
    #[command(flatten)]
    administrator: Administrator,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Allow(args) => args.run(global).await,
            Self::List {
                format,
                administrator,
            } => {
                let admin = administrator.connect(global)?;
                let rules: Vec<AccessRule> = admin.get("listing the access rules", RULES).await?;
                let head = ["NUMBER", "WHO", "GATEWAY", "TARGET", "CREATED"];
                format.print("access_rules", &rules, object, head, |rule| {
                    [
                        rule.number.to_string(),
                        rule.who.clone(),
                        rule.gateway.clone(),
                        rule.target.clone(),
                        minutes(&rule.created_at),
                    ]
                })
            }
            Self::Remove {
                number,
                administrator,
            } => {
                let admin = administrator.connect(global)?;
                let path = format!("{RULES}/{number}");
                admin.delete("removing the access rule", &path).await
            }
            Self::Check(args) => args.run(global).await,
        }
    }
}

impl Allow {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = self.administrator.connect(global)?;
        let request = json!(AllowAccess {
            who: self.who,
            gateway: self.gateway,
            targets: self.targets,
        });
        let rules: Vec<AccessRule> = admin.post("adding access rules", RULES, &request).await?;
        // One request names one gateway.
        let gateway = rules.first().map(|rule| rule.gateway.as_str());
        if let Some(name) = gateway.filter(|name| *name != EVERY_GATEWAY) {
            let then = "the rules are for the one that will be called so";
            admin.warn_unless_gateway(name, then).await?;
        }
        print(&rules.iter().map(sentence).collect::<String>())
    }
}

impl Check {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = self.administrator.connect(global)?;
        let request = json!(CheckAccess {
            who: self.who,
            gateway: self.gateway,
            target_host: self.target.host().to_owned(),
            target_port: self.target.port(),
        });
        let path = format!("{RULES}/check");
        let verdict: AccessVerdict = admin.post("checking access", &path, &request).await?;
        print(&if self.json {
            let rules: Vec<_> = verdict.rules.iter().map(object).collect();
            json_object([
                ("outcome", json!(verdict.outcome)),
                ("reason", json!(verdict.reason)),
                ("access_rules", rules.into()),
            ])
        } else {
            let outcome = match verdict.outcome {
                Outcome::Allowed => "allowed",
                Outcome::GatewayDecides => "the gateway decides",
                Outcome::Denied => "denied",
            };
            let rules: String = verdict.rules.iter().map(sentence).collect();
            format!("{outcome}: {}\n{rules}", verdict.reason)
        })?;
        match verdict.outcome {
            Outcome::Allowed | Outcome::GatewayDecides => Ok(()),
            Outcome::Denied => {
                let denied = anyhow::Error::msg("no session would be granted");
                Err(Failure::of(Code::Degraded, denied).into())
            }
        }
    }
}

fn object(rule: &AccessRule) -> Value {
    json!({
        "number": rule.number,
        "who": rule.who,
        "identity_id": rule.identity_id,
        "gateway": rule.gateway,
        "target": rule.target,
        "created_at": rule.created_at,
    })
}

fn sentence(rule: &AccessRule) -> String {
    let AccessRule {
        number,
        who,
        gateway,
        target,
        ..
    } = rule;
    let through = match gateway.as_str() {
        EVERY_GATEWAY => "every gateway".to_owned(),
        name => format!("gateway {name}"),
    };
    format!("rule {number}: {who} may reach {target} through {through}\n")
}
