//! Wire types of the platform's HTTP API (protocol.md §1), one definition for both ends: the
//! gateway, relay and client read what the embedded platform writes.
//!
//! Unknown fields are ignored, as they must be: the platform adds some with every version. Of
//! answers only the fields that are used are required; the others may be missing, null or of
//! another type.

use serde::{Deserialize, Serialize};

use super::lenient;
use crate::names::{GatewayId, GatewayName, RelayHost, RelayId, RelayName};
use crate::secret::Secret;

/// Writes a secret on the wire, the one place where it may be serialised.
pub(crate) fn expose<S: serde::Serializer>(secret: &Secret, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(secret.expose())
}

/// `POST /v2/gateways`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterGateway {
    /// The relay that the gateway will dial.
    pub relay_name: RelayName,
    /// The gateway's name; the platform creates it when it does not exist.
    pub name: GatewayName,
}

/// `POST /v3/gateways/connect`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectGateway {
    /// The relay that the gateway will dial; the platform chooses where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_name: Option<RelayName>,
}

/// `POST /v3/gateways/token-auth/enroll`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollGateway {
    /// The one-time enrollment token.
    #[serde(serialize_with = "expose")]
    pub token: Secret,
}

/// Answer to an enrollment or a gateway's login.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayLogin {
    /// The gateway access token.
    #[serde(serialize_with = "expose", deserialize_with = "lenient::token")]
    pub access_token: Secret,
    /// The gateway's id.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub gateway_id: Option<GatewayId>,
    /// The gateway's name, from platforms that tell it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub name: Option<GatewayName>,
}

/// Credentials G.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCredentials {
    /// The gateway's id.
    #[serde(deserialize_with = "lenient::required")]
    pub gateway_id: GatewayId,
    /// The gateway's name, from platforms that tell it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub name: Option<GatewayName>,
    /// The relay to dial.
    pub relay_host: RelayHost,
    /// TLS 2.
    pub pki: ServerPki,
    /// The tunnel.
    pub ssh: GatewaySsh,
    /// Which of [`GatewayHeartbeat::capabilities`] the platform knows: the embedded one says so, the
    /// deployed one never does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_capabilities: Vec<String>,
}

/// Capability of a gateway that judges the addresses which it dials by the rules of a certificate.
pub const TARGET_ADDRESSES: &str = "targetAddresses";

/// X.509 material of a TLS server: the gateway's (TLS 2) or the relay's (TLS 1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerPki {
    /// PEM, one certificate.
    pub server_certificate: String,
    /// PEM, PKCS#8.
    #[serde(serialize_with = "expose")]
    pub server_private_key: Secret,
    /// PEM, the trust anchors for client certificates.
    pub client_certificate_chain: String,
}

/// SSH material of a gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySsh {
    /// One `authorized_keys`-style line: a user certificate.
    pub client_certificate: String,
    /// OpenSSH PEM.
    #[serde(serialize_with = "expose")]
    pub client_private_key: Secret,
    /// One `authorized_keys`-style line: the CA of the relay's host certificate.
    #[serde(rename = "serverCAPublicKey")]
    pub server_ca_public_key: String,
}

/// Credentials R.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayCredentials {
    /// The relay's name, from platforms that tell it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub name: Option<RelayName>,
    /// TLS 1.
    pub pki: ServerPki,
    /// The SSH server.
    pub ssh: RelaySsh,
}

/// SSH material of a relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelaySsh {
    /// One `authorized_keys`-style line: a host certificate.
    pub server_certificate: String,
    /// OpenSSH PEM.
    #[serde(serialize_with = "expose")]
    pub server_private_key: Secret,
    /// One `authorized_keys`-style line: the CA of the gateways' user certificates.
    #[serde(rename = "clientCAPublicKey")]
    pub client_ca_public_key: String,
}

/// `POST /v1/relays/register-org-relay` and `…/register-instance-relay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterRelay {
    /// Where gateways, clients and the platform reach the relay.
    pub host: RelayHost,
    /// Its name.
    pub name: RelayName,
}

/// `POST /v1/relays/heartbeat-org-relay` and `…/heartbeat-instance-relay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayHeartbeat {
    /// The relay's name.
    pub name: RelayName,
}

/// `POST /v2/relays/login`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayLogin {
    /// `"token"`.
    pub method: String,
    /// The one-time enrollment token.
    #[serde(serialize_with = "expose")]
    pub token: Secret,
}

/// Answer to `POST /v2/relays/login`; further fields are the platform's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayLoggedIn {
    /// The relay access token.
    #[serde(serialize_with = "expose", deserialize_with = "lenient::token")]
    pub access_token: Secret,
    /// The relay's name, from platforms that tell it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub name: Option<RelayName>,
}

/// `POST /v2/gateways/heartbeat`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GatewayHeartbeat {
    /// Later services announce themselves here. Left out while it is empty, as deployed gateways
    /// do.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub capabilities: serde_json::Map<String, serde_json::Value>,
}

/// Any answer that is only a sentence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The sentence.
    #[serde(default, deserialize_with = "lenient::text")]
    pub message: String,
}

/// Answer to a heartbeat that succeeded. The deployed platform's has the sentence alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAnswer {
    /// The sentence.
    #[serde(default, deserialize_with = "lenient::text")]
    pub message: String,
    /// The sender is to ask for new credentials now: the embedded platform rotates its CAs.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub renew_credentials: Option<bool>,
    /// The next heartbeat is wanted after so many seconds, if that is sooner than the sender's own
    /// interval.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub next_heartbeat_seconds: Option<u32>,
}

/// One row of `GET /v1/relays`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relay {
    /// The relay's id.
    #[serde(default, deserialize_with = "lenient::text")]
    pub id: String,
    /// RFC 3339.
    #[serde(default, deserialize_with = "lenient::text")]
    pub created_at: String,
    /// RFC 3339.
    #[serde(default, deserialize_with = "lenient::text")]
    pub updated_at: String,
    /// The organization that owns it; null for the instance's.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub org_id: Option<String>,
    /// The machine identity that registered it.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub identity_id: Option<String>,
    /// Its name.
    pub name: RelayName,
    /// Where it is reached.
    pub host: RelayHost,
    /// The last successful heartbeat, RFC 3339.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub heartbeat: Option<String>,
}

/// One row of `GET /v2/gateways`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The gateway's id.
    #[serde(deserialize_with = "lenient::required")]
    pub id: GatewayId,
    /// The machine identity that registered it; null for an enrolled one.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub identity_id: Option<String>,
    /// Its name.
    pub name: GatewayName,
    /// RFC 3339.
    #[serde(default, deserialize_with = "lenient::text")]
    pub created_at: String,
    /// RFC 3339.
    #[serde(default, deserialize_with = "lenient::text")]
    pub updated_at: String,
    /// The last successful heartbeat, RFC 3339.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub heartbeat: Option<String>,
}

/// What the embedded platform's lists say of the heartbeats of a gateway or relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Whether it can be reached.
    pub status: Status,
    /// Since when it is not, RFC 3339.
    #[serde(default)]
    pub unreachable_since: Option<String>,
    /// Age of the last successful heartbeat, by the platform's clock.
    #[serde(default)]
    pub heartbeat_age_seconds: Option<u64>,
    /// The version of the program, if it said so.
    #[serde(default)]
    pub program_version: Option<String>,
}

/// Whether a gateway or relay can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A heartbeat has succeeded lately.
    Reachable,
    /// Heartbeats fail, or have ceased.
    Unreachable,
    /// No heartbeat ever succeeded.
    NeverSeen,
}

/// A machine identity in the embedded platform's list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The identity's id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// Whose access rules are for it as well.
    #[serde(default)]
    pub groups: Vec<String>,
    /// With which it logs in; null where it has an access token.
    pub client_id: Option<String>,
    /// The address or the subject of the person who it is; null where it is none.
    #[serde(default)]
    pub person: Option<String>,
    /// RFC 3339.
    pub created_at: String,
}

/// The answer to `POST /v1/embedded/backup-snapshots`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupSnapshot {
    /// Of the file in the state directory.
    pub name: String,
}

/// `POST /v1/auth/universal-auth/login`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UniversalAuthLogin {
    /// The client id.
    pub client_id: String,
    /// The client secret.
    #[serde(serialize_with = "expose")]
    pub client_secret: Secret,
    /// The sub-organization that the token is to be for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_slug: Option<String>,
}

/// `POST /v1/auth/{kubernetes-auth,azure-auth,gcp-auth,oidc-auth,jwt-auth}/login`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtLogin {
    /// The machine identity.
    pub identity_id: String,
    /// A token of anyone who vouches for it.
    #[serde(serialize_with = "expose")]
    pub jwt: Secret,
    /// The sub-organization that the token is to be for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_slug: Option<String>,
}

/// `POST /v3/gateways/login` of a gateway that is enrolled with kubernetes or gcp
/// (protocol-addendum.md §1).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayJwtLogin {
    /// `"kubernetes"` or `"gcp"`.
    pub method: &'static str,
    /// The gateway.
    pub gateway_id: String,
    /// A token of the cluster or of GCP.
    #[serde(serialize_with = "expose")]
    pub jwt: Secret,
}

/// `POST /v1/auth/aws-auth/login`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsLogin {
    /// Who vouches for it.
    #[serde(flatten)]
    pub proof: AwsProof,
    /// The machine identity.
    pub identity_id: String,
    /// The sub-organization that the token is to be for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_slug: Option<String>,
}

/// `POST /v3/gateways/login`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAwsLogin {
    /// `"aws"`.
    pub method: String,
    /// The gateway.
    pub gateway_id: GatewayId,
    /// Who vouches for it.
    #[serde(flatten)]
    pub proof: AwsProof,
}

/// `POST /v2/relays/login` of a relay that is enrolled with its AWS role.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayAwsLogin {
    /// `"aws"`.
    pub method: String,
    /// The relay.
    pub relay_id: RelayId,
    /// Who vouches for it.
    #[serde(flatten)]
    pub proof: AwsProof,
}

/// A signed request to AWS, which the platform sends on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsProof {
    /// `"POST"`.
    pub iam_http_request_method: String,
    /// Base64.
    pub iam_request_body: String,
    /// Base64 of a JSON object, signature included.
    #[serde(serialize_with = "expose")]
    pub iam_request_headers: Secret,
}

/// Answer to the login of a gateway or relay with its AWS role; further fields are the platform's
/// own.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleToken {
    /// The access token.
    #[serde(deserialize_with = "lenient::token")]
    pub access_token: Secret,
}

/// `POST /v1/auth/token/renew`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewToken {
    /// The token to extend.
    #[serde(serialize_with = "expose")]
    pub access_token: Secret,
}

/// Login L.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The identity access token.
    #[serde(serialize_with = "expose", deserialize_with = "lenient::token")]
    pub access_token: Secret,
    /// Seconds until it expires; 0 or nothing is never.
    #[serde(default, deserialize_with = "lenient::seconds")]
    pub expires_in: u64,
    /// Seconds beyond which no renewal extends it; 0 or nothing is any.
    #[serde(
        default,
        rename = "accessTokenMaxTTL",
        deserialize_with = "lenient::seconds"
    )]
    pub access_token_max_ttl: u64,
    /// `"Bearer"`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub token_type: String,
}

/// An error of the API. `message` is a string or, for validation errors, an array of details.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What went wrong.
    #[serde(default)]
    pub message: serde_json::Value,
    /// The HTTP status again.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub status_code: Option<u16>,
    /// A short name of the kind of error.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub error: Option<String>,
    /// The platform's own id of the request, for its operators.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub req_id: Option<String>,
}

impl ErrorBody {
    /// The message as one text; `None` if there is none, and so the body is not the platform's.
    #[must_use]
    pub(crate) fn text(&self) -> Option<String> {
        match &self.message {
            serde_json::Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            // Details of a validation.
            details @ serde_json::Value::Array(_) => Some(details.to_string()),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_)
            | serde_json::Value::Object(_) => None,
        }
    }
}

/// Ask the embedded platform for a way to a target (`POST /v1/embedded/gateways/{name}/sessions`;
/// not part of the deployed API).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSession {
    /// The target's host, as the gateway resolves it.
    pub target_host: String,
    /// The target's port.
    pub target_port: u16,
}

/// An entry of the platform's record (`GET /v1/embedded/audit`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Counts up from 1, and never comes again.
    pub number: i64,
    /// RFC 3339.
    pub time: String,
    /// `session`, `login`, `enrollment` or `administration`.
    pub kind: String,
    /// What was asked for, such as `open-session` or `create-identity`.
    pub action: String,
    /// Who asked.
    pub actor: AuditActor,
    /// The address from which it was asked.
    pub source: Option<String>,
    /// What it is about.
    pub subject: Option<AuditSubject>,
    /// Of a session, host and port that were asked for; of others, what an administrator has to
    /// know.
    pub details: Option<String>,
    /// The kind of the refusal; `None` if it was not refused.
    pub class: Option<String>,
    /// Its sentence.
    pub reason: Option<String>,
    /// Refusals before this entry that are not on record, because there were too many; of
    /// `count-logins`, the logins and logouts that it sums up.
    pub left_out: u64,
    /// SHA-256 over this entry and the hash of the one before, in hexadecimal digits.
    pub hash: String,
}

/// Who asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditActor {
    /// `administrator`, `identity`, `gateway`, `relay` or `unauthenticated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The platform's id of it.
    pub id: Option<String>,
    /// Its name at that time.
    pub name: Option<String>,
}

/// What an entry of the record is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditSubject {
    /// `gateway`, `relay`, `identity`, `access-rule` or `relay-auth-secret`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `None` if there was none of that name.
    pub id: Option<String>,
    /// As it was asked for, or its name at that time.
    pub name: Option<String>,
}

/// What verifying the record has found (`GET /v1/embedded/audit-chain`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditVerification {
    /// The last entry that the retention has removed; 0 if there is none.
    pub removed: i64,
    /// Entries from there on that are as they were written.
    pub entries: u64,
    /// The last of them, or the last removed one.
    pub number: i64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
    /// Where the chain breaks first.
    pub broken: Option<AuditBreak>,
    /// The hash of the entry that was asked about, if it is there and comes before any break.
    pub asked: Option<String>,
}

/// Where the chain of the record breaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditBreak {
    /// The first entry that does not hold.
    pub number: i64,
    /// Why.
    pub reason: String,
}

/// What a client needs to reach a target: the certificates of TLS 1 and TLS 2. The same shape as
/// the deployed platform hands to its own clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCredentials {
    /// The gateway's id.
    #[serde(deserialize_with = "lenient::required")]
    pub gateway_id: GatewayId,
    /// The relay through which it is reached.
    pub relay_host: RelayHost,
    /// TLS 1.
    pub relay: ClientPki,
    /// TLS 2.
    pub gateway: ClientPki,
    /// When the platform last reached the gateway, as RFC 3339 has it. Of the embedded platform
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_heartbeat: Option<String>,
}

/// X.509 material of a TLS client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientPki {
    /// PEM, one certificate.
    pub client_certificate: String,
    /// PEM, PKCS#8.
    #[serde(serialize_with = "expose")]
    pub client_private_key: Secret,
    /// PEM, the trust anchors for the server's certificate.
    pub server_certificate_chain: String,
}

/// The platform's CAs and their rotation (`GET /v1/embedded/certification-authorities`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// `settled`, `distribute` or `retire`.
    pub phase: String,
    /// Those that are kept, the oldest first.
    pub generations: Vec<CaGeneration>,
    /// Gateways and relays that the next step of a rotation waits for.
    pub waits_for: Vec<CaHolder>,
    /// RFC 3339; the next step comes no sooner.
    pub not_before: Option<String>,
}

/// All CAs that were made at one time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaGeneration {
    /// Counts up from 1, and never comes again.
    pub number: i64,
    /// Whether it signs; if not, it is an anchor only.
    pub signs: bool,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `None` if it has not signed yet.
    pub signs_since: Option<String>,
    /// RFC 3339: when its certificates expire.
    pub expires_at: String,
    /// The names of its CAs.
    pub authorities: Vec<String>,
}

/// A gateway or relay that a rotation waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaHolder {
    /// `gateway` or `relay`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// RFC 3339: when its credentials expire, and the rotation goes on without it.
    pub expires_at: String,
}

/// Take the next step of a rotation (`POST /v1/embedded/certification-authorities/advance`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdvanceCas {
    /// Even if that cuts gateways or relays off.
    pub force: bool,
}
