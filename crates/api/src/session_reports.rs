//! Reports of open sessions, from gateways to the embedded platform (`/v1/embedded/session-reports`),
//! and its list of them (`/v1/embedded/sessions`); not part of the deployed API.

use serde::{Deserialize, Serialize};

/// Capability of a platform that takes reports. One that does not name it never gets any.
pub const SESSION_REPORTS: &str = "sessionReports";

/// Open sessions of a report.
pub const MAX_REPORTED: usize = 200;

/// The sessions of a gateway that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// How many there are.
    pub open: u64,
    /// The newest of them, the newest first: at most [`MAX_REPORTED`].
    pub sessions: Vec<ReportedSession>,
}

/// A session that is open. Who it is for is what the client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedSession {
    /// Its number in the gateway's log, unique as long as that process runs.
    pub id: u64,
    /// `user`, for instance.
    pub actor_type: Option<String>,
    /// The identity's id; null for the holder of the administrator's token.
    pub actor_id: Option<String>,
    /// What people call the actor.
    pub actor_name: Option<String>,
    /// `host:port`.
    pub target: Option<String>,
    /// RFC 3339.
    pub since: String,
    /// Bytes from the client to the target.
    pub bytes_to_target: u64,
    /// Bytes from the target to the client.
    pub bytes_from_target: u64,
}

/// The platform's list of open sessions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OpenSessions {
    /// Each gateway, by name.
    pub gateways: Vec<GatewaySessions>,
}

/// What is known of the open sessions of a gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySessions {
    /// The gateway's id.
    pub gateway_id: String,
    /// Its name.
    pub gateway_name: String,
    /// How many are open; null where no report is recent, and to callers who see their own only.
    pub open: Option<u64>,
    /// Age of the report by the platform's clock; null where none is recent.
    pub reported_age_seconds: Option<u64>,
    /// As in [`SessionReport::sessions`], those that the caller may see.
    pub sessions: Vec<ReportedSession>,
}
