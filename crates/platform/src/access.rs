//! Whether a client may reach a target: its access rules, judged. Pure.
//!
//! A target that is an address is judged here. What a name stands for only the gateway knows: a rule
//! for the name, or for every host, lets it be asked for; rules for addresses travel in the
//! certificate to the gateway, which judges each address that it resolves the name to.

use std::fmt;

use crate::config::targets::{InvalidHost, TargetHost};
use crate::store::{AccessRights, AccessRule, Gateway};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The caller is an administrator.
    Unrestricted,
    /// This rule allows it.
    Allowed(AccessRule),
    /// The gateway decides by these rules.
    OnAddresses(Vec<AccessRule>),
    /// There is no rule for it.
    Denied,
    /// More rules for addresses apply than a certificate holds.
    TooMany,
    /// The caller is no client.
    NoRole,
}

/// Rules for addresses that travel in one certificate: it must fit into a handshake.
const MAX_ON_ADDRESSES: usize = 64;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrestricted => f.write_str("an administrator may reach everything"),
            Self::Allowed(rule) => write!(f, "access rule {} allows it", rule.number),
            Self::OnAddresses(_) => f.write_str(
                "no access rule is for this name; the gateway decides by the rules for addresses, \
                 when it knows which address the name stands for",
            ),
            Self::Denied => f.write_str(
                "no access rule allows this identity to reach this target through this gateway; an \
                 administrator adds one: infisical platform access allow",
            ),
            Self::TooMany => write!(
                f,
                "no access rule is for this name, and there are more than {MAX_ON_ADDRESSES} rules \
                 for addresses on this port; an administrator adds a rule for the name: infisical \
                 platform access allow"
            ),
            Self::NoRole => f.write_str("this needs an identity with the role client"),
        }
    }
}

/// Why rules for addresses do not let a client reach a name through `gateway`.
pub(crate) fn cannot_judge(gateway: &Gateway) -> String {
    format!(
        "no access rule is for this name, and the gateway {} cannot apply the rules for addresses: its \
         program does not know them, or has not sent a heartbeat yet; name the address, or have an \
         administrator add a rule for the name: infisical platform access allow",
        gateway.name
    )
}

/// The host of a request; for HTTP a scheme may stand before it. Anything else that a URL may have
/// would make the host that is judged another one than the gateway dials.
pub(crate) fn host(text: &str) -> Result<TargetHost, InvalidHost> {
    let text = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    let host = TargetHost::parse(text)?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let zone = host.as_str().split_once('%').map(|(_, zone)| zone);
    match host.name().or(zone) {
        Some(text) if !text.chars().all(is_part) => Err(InvalidHost),
        Some(_) | None => Ok(host),
    }
}

/// Judges `host` and `port` by what the client's access to the gateway is.
pub(crate) fn judge(access: AccessRights, host: &TargetHost, port: u16) -> Verdict {
    let rules = match access {
        AccessRights::NoRole => return Verdict::NoRole,
        AccessRights::Unrestricted => return Verdict::Unrestricted,
        AccessRights::Rules(rules) => rules,
    };
    let allows = |rule: &&AccessRule| match host.address() {
        Some(address) => rule.target.allows(host, port, address),
        None => host
            .name()
            .is_some_and(|name| rule.target.matches_name(name, port)),
    };
    if let Some(rule) = rules.iter().find(allows) {
        return Verdict::Allowed(rule.clone());
    }
    if host.address().is_some() {
        return Verdict::Denied;
    }
    let on_addresses = |rule: &AccessRule| rule.target.is_for_addresses(port);
    let rules: Vec<_> = rules.into_iter().filter(on_addresses).collect();
    match rules.len() {
        0 => Verdict::Denied,
        1..=MAX_ON_ADDRESSES => Verdict::OnAddresses(rules),
        _ => Verdict::TooMany,
    }
}
