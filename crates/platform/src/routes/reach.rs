//! What lists say of the heartbeats of gateways and relays, and the version that these report.

use std::convert::Infallible;
use std::time::SystemTime;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::rfc3339;
use crate::api::types::{Reach, Status};
use crate::store::{Heartbeats, Reachability};

/// Where this program says its version.
const VERSION_HEADER: &str = "x-infisical-gateway-version";
/// Longest version that is kept, in bytes.
const MAX_VERSION: usize = 64;

/// The version of the program that asks, if it says so.
#[derive(Debug)]
pub(super) struct ProgramVersion(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for ProgramVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let version = parts.headers.get(VERSION_HEADER);
        // Text in this form holds no control characters.
        let version = version.and_then(|version| version.to_str().ok());
        let version = version.filter(|version| (1..=MAX_VERSION).contains(&version.len()));
        Ok(Self(version.map(str::to_owned)))
    }
}

/// What a list says at `now`.
pub(super) fn reach(reachability: Reachability, heartbeats: &Heartbeats, now: SystemTime) -> Reach {
    let (status, since) = match reachability {
        Reachability::Reachable => (Status::Reachable, None),
        Reachability::Unreachable { since } => (Status::Unreachable, Some(since)),
        Reachability::NeverSeen => (Status::NeverSeen, None),
    };
    let age = |at| now.duration_since(at).unwrap_or_default().as_secs();
    Reach {
        status,
        unreachable_since: since.map(rfc3339),
        heartbeat_age_seconds: heartbeats.succeeded_at.map(age),
        program_version: heartbeats.program_version.clone(),
    }
}
