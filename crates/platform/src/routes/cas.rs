//! Rotation of all CAs: administrators begin it and may force its steps; the platform takes each by
//! itself when no one is cut off by it.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use axum::extract::State;

use super::auth::{Administrators, By};
use super::body::Json;
use super::error::ApiError;
use super::{App, rfc3339};
use crate::api::types::{AdvanceCas, CaGeneration, CaHolder, CaStatus, HeartbeatAnswer};
use crate::authority::{self, Authority, CA_LIFETIME};
use crate::names::GatewayId;
use crate::rotation::{self, Phase, Rotation, signing};
use crate::store::{Generation, Holder, IssuedCredentials, Requester};

/// Seconds between heartbeats of this program, so that a rotation takes minutes.
const INTERVAL: u32 = 30;
/// The same while a rotation is under way.
const HASTENED: u32 = 10;

/// Generates the CAs of a platform; the new ones sign later.
async fn generate(
    authority: Arc<Authority>,
    now: SystemTime,
) -> Result<Vec<authority::CaRecord>, ApiError> {
    let (algorithm, organization) = (authority.algorithm(), authority.organization().clone());
    // RSA keys: some seconds.
    let generate = move || Authority::generate(algorithm, &organization, now);
    let generated = tokio::task::spawn_blocking(generate).await;
    Ok(generated.map_err(|error| ApiError::internal(&error))??)
}

/// Who takes a step by itself.
fn platform() -> Requester {
    Requester {
        kind: "platform",
        id: None,
        name: None,
        source: None,
    }
}

impl App {
    /// The CAs as they are now.
    pub(super) fn authority(&self) -> Arc<Authority> {
        let authority = self.0.authority.read();
        Arc::clone(&authority.unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the CAs of the store from now on.
    async fn reload_cas(&self) -> Result<(), ApiError> {
        let generations = self.store().generations().await?;
        let used = self.authority();
        let load = move || {
            let organization = used.organization().clone();
            let loaded = rotation::load(used.algorithm(), organization, &generations)?;
            Ok::<_, authority::Error>(loaded.with_gateway_lifetime(used.gateway_lifetime()))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|error| ApiError::internal(&error))??;
        let authority = self.0.authority.write();
        *authority.unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }

    /// The newest generation whose anchors the gateway and the relay with these ids hold, if that is
    /// known.
    pub(super) async fn held_by(
        &self,
        gateway: Option<&GatewayId>,
        relay: &str,
    ) -> Result<Option<i64>, ApiError> {
        if !self.authority().trusts_others() {
            return Ok(None);
        }
        let mut held = self.store().holder("relay", relay.to_owned()).await?;
        if let Some(gateway) = gateway {
            let gateway = self.store().holder("gateway", gateway.to_string()).await?;
            let both = held.zip(gateway);
            held = both.map(|(a, b)| if a.anchors < b.anchors { a } else { b });
        }
        Ok(held.map(|held| held.anchors))
    }

    /// The generation of the credentials of the relay with this id, if that is known and there is
    /// more than one.
    pub(super) async fn relay_generation(&self, relay: &str) -> Result<Option<i64>, ApiError> {
        if !self.authority().trusts_others() {
            return Ok(None);
        }
        let held = self.store().holder("relay", relay.to_owned()).await?;
        Ok(held.map(|held| held.signed_by))
    }

    /// Notes that a gateway or relay gets anchors up to the generation `anchors`, and certificates
    /// that `signed_by` has signed at the oldest. Takes the step that is due then.
    pub(super) async fn note_credentials(
        &self,
        kind: &'static str,
        id: String,
        anchors: i64,
        signed_by: i64,
    ) -> Result<(), ApiError> {
        let issued = IssuedCredentials {
            anchors,
            signed_by,
            expires_at: SystemTime::now() + self.authority().gateway_lifetime(),
        };
        self.store().note_credentials(kind, id, issued).await?;
        // The credentials are good in any case.
        if let Err(error) = self.advance_cas().await {
            tracing::warn!(
                error = error.reason(),
                "cannot take the next step of the rotation of the CAs; retrying"
            );
        }
        Ok(())
    }

    /// Takes the step that is due, if one is.
    pub(super) async fn advance_cas(&self) -> Result<(), ApiError> {
        if !self.authority().trusts_others() {
            return Ok(());
        }
        self.step(platform(), false).await.map(drop)
    }

    /// Takes the next step if it is due, or if `force` says so. The answer is the refusal of one that
    /// is not due.
    async fn step(&self, requester: Requester, force: bool) -> Result<Option<String>, ApiError> {
        let _one_at_a_time = self.0.rotating.lock().await;
        let (generations, holders) = (
            self.store().generations().await?,
            self.store().holders().await?,
        );
        let now = SystemTime::now();
        let Some(rotation) = Rotation::at(&generations, &holders, now) else {
            return Ok(None);
        };
        if !force && !rotation.is_due(now) {
            return Ok(Some(refusal(&rotation)));
        }
        let details = match rotation.waits_for.len() {
            0 => "no gateway or relay was waited for".to_owned(),
            count => format!("forced; gateways and relays that are not ready: {count}"),
        };
        let (newest, store) = (rotation.newest, self.store());
        match rotation.phase {
            Phase::Settled => return Ok(None),
            Phase::Distribute => store.sign_with(requester, newest, details, now).await?,
            Phase::Retire => {
                store
                    .remove_generations_before(requester, newest, details)
                    .await?;
            }
        }
        self.reload_cas().await?;
        Ok(None)
    }

    /// The answer to a heartbeat that succeeded. For a program that gives its `version` it says
    /// whether to ask for credentials now, and when the next heartbeat is wanted; for any other it is
    /// the sentence alone.
    pub(super) async fn heartbeat_answer(
        &self,
        version: Option<&str>,
        (kind, id): (&'static str, &str),
        relay: Option<&str>,
    ) -> Result<HeartbeatAnswer, ApiError> {
        let mut answer = HeartbeatAnswer {
            message: "Successfully triggered heartbeat".to_owned(),
            ..HeartbeatAnswer::default()
        };
        if version.is_some() {
            let is_rotating = self.authority().trusts_others();
            answer.next_heartbeat_seconds = Some(if is_rotating { HASTENED } else { INTERVAL });
            let is_to_renew = self.is_to_renew(kind, id, relay).await?;
            answer.renew_credentials = is_to_renew.then_some(true);
        }
        Ok(answer)
    }

    /// Whether a gateway or relay is to ask for credentials, as far as a rotation needs that.
    async fn is_to_renew(
        &self,
        kind: &'static str,
        id: &str,
        relay: Option<&str>,
    ) -> Result<bool, ApiError> {
        let authority = self.authority();
        if !authority.trusts_others() {
            return Ok(false);
        }
        let Some(holder) = self.store().holder(kind, id.to_owned()).await? else {
            return Ok(true);
        };
        let obtainable = match relay {
            Some(relay) => authority.ssh_generation(self.relay_generation(relay).await?),
            None => authority.generation(),
        };
        Ok(holder.anchors < authority.newest_generation() || holder.signed_by < obtainable)
    }
}

/// Why the next step is not taken.
fn refusal(rotation: &Rotation<'_>) -> String {
    let names = rotation.waits_for.iter().take(10);
    let mut names: Vec<_> = names
        .map(|holder| format!("{} {}", holder.kind, holder.name))
        .collect();
    let more = rotation.waits_for.len().saturating_sub(names.len());
    if more > 0 {
        names.push(format!("{more} more"));
    }
    match (names.as_slice(), rotation.not_before) {
        ([], Some(at)) => format!(
            "certificates of the old generation are valid until {}; --force removes it now",
            rfc3339(at)
        ),
        (names, _) => format!(
            "the rotation waits for {}; --force cuts them off until they get new credentials",
            names.join(", ")
        ),
    }
}

/// `GET certification-authorities`
pub(super) async fn status(
    State(app): State<App>,
    _: By<Administrators>,
) -> Result<axum::Json<CaStatus>, ApiError> {
    app.ca_status().await.map(axum::Json)
}

/// `POST certification-authorities/rotate`
pub(super) async fn rotate(
    State(app): State<App>,
    by: By<Administrators>,
) -> Result<axum::Json<CaStatus>, ApiError> {
    let now = SystemTime::now();
    let cas = generate(app.authority(), now).await?;
    {
        let _one_at_a_time = app.0.rotating.lock().await;
        app.store().add_generation(by.requester, cas, now).await?;
        app.reload_cas().await?;
    }
    app.advance_cas().await?;
    app.ca_status().await.map(axum::Json)
}

/// `POST certification-authorities/advance`
pub(super) async fn advance(
    State(app): State<App>,
    by: By<Administrators>,
    Json(request): Json<AdvanceCas>,
) -> Result<axum::Json<CaStatus>, ApiError> {
    if let Some(refusal) = app.step(by.requester, request.force).await? {
        return Err(ApiError::bad_request(refusal));
    }
    app.ca_status().await.map(axum::Json)
}

impl App {
    async fn ca_status(&self) -> Result<CaStatus, ApiError> {
        let (generations, holders) = (
            self.store().generations().await?,
            self.store().holders().await?,
        );
        let now = SystemTime::now();
        let rotation = Rotation::at(&generations, &holders, now);
        let signing = signing(&generations).map(|generation| generation.number);
        let row = |generation: &Generation| CaGeneration {
            number: generation.number,
            signs: Some(generation.number) == signing,
            created_at: rfc3339(generation.created_at),
            signs_since: generation.signs_since.map(rfc3339),
            expires_at: rfc3339(generation.created_at + CA_LIFETIME),
            authorities: generation.cas.iter().map(|ca| ca.name.clone()).collect(),
        };
        let waited_for = |holder: &&Holder| CaHolder {
            kind: holder.kind.to_owned(),
            name: holder.name.clone(),
            expires_at: rfc3339(holder.expires_at),
        };
        let rotation = rotation.as_ref();
        Ok(CaStatus {
            phase: rotation
                .map_or(Phase::Settled, |rotation| rotation.phase)
                .as_str()
                .to_owned(),
            generations: generations.iter().map(row).collect(),
            waits_for: rotation.map_or_else(Vec::new, |rotation| {
                rotation.waits_for.iter().map(waited_for).collect()
            }),
            not_before: rotation
                .and_then(|rotation| rotation.not_before)
                .map(rfc3339),
        })
    }
}
