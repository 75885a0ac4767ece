//! What an entry of the record holds.

use std::net::IpAddr;

/// One entry, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditEntry {
    pub(crate) number: i64,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    /// An [`AuditKind`].
    pub(crate) kind: String,
    /// An [`Action`].
    pub(crate) action: String,
    pub(crate) actor_kind: String,
    pub(crate) actor_id: Option<String>,
    /// The name that it had then.
    pub(crate) actor_name: Option<String>,
    /// The address from which the request came.
    pub(crate) source: Option<String>,
    pub(crate) subject_kind: Option<String>,
    pub(crate) subject_id: Option<String>,
    pub(crate) subject_name: Option<String>,
    /// A session's target; of others, what an administrator has to know.
    pub(crate) details: Option<String>,
    /// The kind of the API's error, such as `NotFound`, if it was refused.
    pub(crate) refusal_class: Option<String>,
    /// Its sentence.
    pub(crate) refusal_reason: Option<String>,
    /// Refusals before this entry that are not on record, because there were too many; of
    /// [`Action::CountLogins`], the logins and logouts that it sums up.
    pub(crate) left_out: i64,
    /// See [`super::chain::hash`].
    pub(crate) hash: Vec<u8>,
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Field<'a> {
    Number(i64),
    Text(Option<&'a str>),
}

impl AuditEntry {
    /// All that the hash is over, in the order of the encoding.
    pub(super) fn fields(&self) -> [Field<'_>; 15] {
        [
            Field::Number(self.number),
            Field::Number(self.at),
            Field::Text(Some(&self.kind)),
            Field::Text(Some(&self.action)),
            Field::Text(Some(&self.actor_kind)),
            Field::Text(self.actor_id.as_deref()),
            Field::Text(self.actor_name.as_deref()),
            Field::Text(self.source.as_deref()),
            Field::Text(self.subject_kind.as_deref()),
            Field::Text(self.subject_id.as_deref()),
            Field::Text(self.subject_name.as_deref()),
            Field::Text(self.details.as_deref()),
            Field::Text(self.refusal_class.as_deref()),
            Field::Text(self.refusal_reason.as_deref()),
            Field::Number(self.left_out),
        ]
    }
}

/// Which of the records an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditKind {
    Session,
    Login,
    Enrollment,
    Administration,
}

impl AuditKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::Session,
        Self::Login,
        Self::Enrollment,
        Self::Administration,
    ];

    /// The one of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name in the API, on the command line and in the tables.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Login => "login",
            Self::Enrollment => "enrollment",
            Self::Administration => "administration",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    OpenSession,
    LogIn,
    LogOut,
    /// Sums up logins and logouts of the requester that have no entries of their own.
    CountLogins,
    Enroll,
    CreateIdentity,
    DeleteIdentity,
    SetGroups,
    CreateEnrollmentToken,
    RevokeEnrollmentTokens,
    DeleteGateway,
    DeleteRelay,
    AddAccessRule,
    RemoveAccessRule,
    AddService,
    RemoveService,
    ReadRelayAuthSecret,
    BackUp,
    RotateCas,
    SwitchCas,
    RemoveCas,
}

impl Action {
    /// The name in the API and in the tables.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OpenSession => "open-session",
            Self::LogIn => "log-in",
            Self::LogOut => "log-out",
            Self::CountLogins => "count-logins",
            Self::Enroll => "enroll",
            Self::CreateIdentity => "create-identity",
            Self::DeleteIdentity => "delete-identity",
            Self::SetGroups => "set-groups",
            Self::CreateEnrollmentToken => "create-enrollment-token",
            Self::RevokeEnrollmentTokens => "revoke-enrollment-tokens",
            Self::DeleteGateway => "delete-gateway",
            Self::DeleteRelay => "delete-relay",
            Self::AddAccessRule => "add-access-rule",
            Self::RemoveAccessRule => "remove-access-rule",
            Self::AddService => "add-service",
            Self::RemoveService => "remove-service",
            Self::ReadRelayAuthSecret => "read-relay-auth-secret",
            Self::BackUp => "back-up",
            Self::RotateCas => "rotate-cas",
            Self::SwitchCas => "switch-cas",
            Self::RemoveCas => "remove-cas",
        }
    }

    /// The record it is in.
    pub(in crate::store) const fn kind(self) -> AuditKind {
        match self {
            Self::OpenSession => AuditKind::Session,
            Self::LogIn | Self::LogOut | Self::CountLogins => AuditKind::Login,
            Self::Enroll => AuditKind::Enrollment,
            Self::CreateIdentity
            | Self::DeleteIdentity
            | Self::SetGroups
            | Self::CreateEnrollmentToken
            | Self::RevokeEnrollmentTokens
            | Self::DeleteGateway
            | Self::DeleteRelay
            | Self::AddAccessRule
            | Self::RemoveAccessRule
            | Self::AddService
            | Self::RemoveService
            | Self::ReadRelayAuthSecret
            | Self::BackUp
            | Self::RotateCas
            | Self::SwitchCas
            | Self::RemoveCas => AuditKind::Administration,
        }
    }
}

/// Who asks, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    /// `administrator` for the token of that name; `identity`, `gateway`, `relay`, `platform` for
    /// what it does by itself, or `unauthenticated`.
    pub(crate) kind: &'static str,
    pub(crate) id: Option<String>,
    /// If it is known; the store looks it up otherwise.
    pub(crate) name: Option<String>,
    pub(crate) source: Option<IpAddr>,
}

/// What an entry is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) kind: &'static str,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

impl Subject {
    /// By its name, if that is known.
    pub(crate) fn named(kind: &'static str, name: Option<&str>) -> Self {
        Self {
            kind,
            id: None,
            name: name.map(str::to_owned),
        }
    }

    /// By its id, and its name if that is known.
    pub(crate) fn with_id(kind: &'static str, id: &str, name: Option<&str>) -> Self {
        Self {
            id: Some(id.to_owned()),
            ..Self::named(kind, name)
        }
    }
}

/// What is to be recorded; the store adds number, time, hash, and the names and ids that it knows.
#[derive(Debug)]
pub(crate) struct NewAuditEntry {
    pub(crate) action: Action,
    pub(crate) requester: Requester,
    pub(crate) subject: Option<Subject>,
    pub(crate) details: Option<String>,
    /// The kind of the API's error, and its sentence.
    pub(crate) refusal: Option<(String, String)>,
    pub(crate) left_out: u64,
}
