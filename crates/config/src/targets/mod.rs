//! Which targets a gateway may dial: the policy of its owner (`[targets]` of its file). Pure.
//!
//! A target is judged by the name that was asked for and by the address that is then dialled, each
//! address for itself:
//! 1. What a deny rule matches is refused.
//! 2. Cloud metadata and the gateway's own sockets are refused, unless an allow rule is exactly
//!    that address.
//! 3. If there are allow rules, one of them must match.
//!
//! Deny rules and the second step see through every form of an address that may end at the same
//! place ([`address`]); allow rules only through forms that always do.

pub mod address;
mod host;
mod metadata;
mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use address::{allowed_forms, forms};
pub use host::{InvalidHost, TargetHost};
pub use rule::{InvalidRule, InvalidRules, Rule};

/// The rules of a gateway's owner. Without any, every target is allowed but the protected ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// If there are any, other targets are refused.
    pub allow: Vec<Rule>,
    /// They win over the others.
    pub deny: Vec<Rule>,
}

/// What the policy says of one address of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// No rule refuses it, and there are no allow rules.
    Unrestricted,
    /// This rule allows it.
    Allowed(&'a Rule),
    /// This rule refuses it.
    Denied(&'a Rule),
    /// There are allow rules, and none matches.
    NotListed,
    /// The platform granted the session for addresses of which it is none.
    NotGranted,
    /// It is where a cloud gives credentials to its machines.
    Metadata,
    /// The gateway itself listens there.
    OwnSocket(SocketAddr),
}

impl Verdict<'_> {
    /// True if it may be dialled.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Unrestricted | Self::Allowed(_))
    }

    /// The verdict in one word, for metrics and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unrestricted => "unrestricted",
            Self::Allowed(_) => "allowed",
            Self::Denied(_) => "denied",
            Self::NotListed => "not_listed",
            Self::NotGranted => "not_granted",
            Self::Metadata => "metadata",
            Self::OwnSocket(_) => "own_socket",
        }
    }

    /// The rule that decided, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Allowed(rule) | Self::Denied(rule) => Some(rule),
            Self::Unrestricted
            | Self::NotListed
            | Self::NotGranted
            | Self::Metadata
            | Self::OwnSocket(_) => None,
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrestricted => f.write_str("there are no allow rules, and no deny rule matches"),
            Self::Allowed(rule) => write!(f, "allow rule {rule}"),
            Self::Denied(rule) => write!(f, "deny rule {rule}"),
            Self::NotListed => f.write_str("no allow rule matches"),
            Self::NotGranted => f.write_str("no access rule of the platform is for this address"),
            Self::Metadata => f.write_str(
                "cloud metadata is refused unless an allow rule names exactly this address",
            ),
            Self::OwnSocket(socket) => write!(
                f,
                "the gateway itself listens at {socket}, which is refused unless an allow rule \
                 names exactly this address"
            ),
        }
    }
}

impl Rule {
    /// True if this rule alone allows `address`, one of those of `host`, as an allow rule of a
    /// policy would: cloud metadata only if it names exactly that address.
    #[must_use]
    pub fn allows(&self, host: &TargetHost, port: u16, address: IpAddr) -> bool {
        let policy = TargetPolicy {
            allow: vec![self.clone()],
            deny: Vec::new(),
        };
        policy.judge(host, port, address, None).is_allowed()
    }
}

impl TargetPolicy {
    /// True if there is a rule.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.allow.is_empty() || !self.deny.is_empty()
    }

    /// What is known before the name is resolved: a deny rule that matches it, if one does.
    #[must_use]
    pub fn judge_name(&self, host: &TargetHost, port: u16) -> Option<Verdict<'_>> {
        let name = host.name()?;
        let denies = |rule: &&Rule| rule.matches_name(name, port);
        self.deny.iter().find(denies).map(Verdict::Denied)
    }

    /// Judges `address`, one of those of `host`; `own` is the socket of the gateway that a
    /// connection to it would reach, if there is one.
    #[must_use]
    pub fn judge(
        &self,
        host: &TargetHost,
        port: u16,
        address: IpAddr,
        own: Option<SocketAddr>,
    ) -> Verdict<'_> {
        let forms = forms(address);
        let matches_name = |rule: &Rule| {
            let name = host.name();
            name.is_some_and(|name| rule.matches_name(name, port))
        };
        let denies = |rule: &&Rule| {
            matches_name(rule) || forms.iter().any(|form| rule.matches_address(*form, port))
        };
        if let Some(rule) = self.deny.iter().find(denies) {
            return Verdict::Denied(rule);
        }
        let protected = if forms.iter().any(metadata::is_metadata) {
            Some(Verdict::Metadata)
        } else {
            own.map(Verdict::OwnSocket)
        };
        if let Some(protected) = protected {
            let names_it = |rule: &&Rule| rule.is_exactly(address.to_canonical(), port);
            let named = self.allow.iter().find(names_it);
            return named.map_or(protected, Verdict::Allowed);
        }
        if self.allow.is_empty() {
            return Verdict::Unrestricted;
        }
        let forms = allowed_forms(address);
        let allows = |rule: &&Rule| {
            matches_name(rule) || forms.iter().any(|form| rule.matches_address(*form, port))
        };
        let found = self.allow.iter().find(allows);
        found.map_or(Verdict::NotListed, Verdict::Allowed)
    }
}
