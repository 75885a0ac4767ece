//! Roles of machine identities: which they are, and which an identity has.

/// What an identity may do. It can have several roles, and without any it may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything that the administrator's token may do.
    Admin,
    /// Enroll, list and remove gateways and relays.
    Operator,
    /// Register one gateway.
    Gateway,
    /// Register relays.
    Relay,
    /// Open sessions through gateways.
    Client,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::Gateway,
        Self::Relay,
        Self::Client,
    ];

    /// The name in the API, on the command line and in the tables.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            Self::Client => "client",
        }
    }

    /// The role of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}
