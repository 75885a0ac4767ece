//! Asks the platform for credentials: which relay, then the certificates for it (protocol.md §1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::accepted_capabilities::AcceptedCapabilities;
use super::connection::cached_relay::CachedRelay;
use super::connection::policy::PROBE_DEADLINE;
use super::connection::relay_selection;
use super::identity::Identity;
use super::platform_auth::PlatformAuth;
use crate::agent::last_known_good::Fingerprint;
use crate::api::types::{
    ConnectGateway, GatewayHeartbeat, RegisterGateway, Relay, TARGET_ADDRESSES,
};
use crate::api::{self, Client};
use crate::error::{Class, Reason, kind};
use crate::names::{GatewayName, RelayName, TLS_PORT};
use crate::net::dial;

/// Limit for one attempt. Each of its calls and probes has a limit of its own; this one bounds
/// their sum, whatever they become, so that the link never waits forever.
const ATTEMPT: Duration = Duration::from_secs(120);

/// How long a relay that failed is chosen only when there is no other.
const AVOIDED_FOR: Duration = Duration::from_secs(60);
/// How often a relay is probed before it is worth a move.
const PROBES: usize = 3;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Error {
    #[error(transparent)]
    Api(#[from] api::Error),
    #[error(transparent)]
    Identity(#[from] crate::agent::credentials::Error),
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    TimedOut,
    #[error("the relay answers again, and the platform does not yet")]
    RelayAnsweredFirst,
    #[error("none of the {0} relays that the platform lists has reported within the last hour")]
    NoHealthyRelay(usize),
}

/// Asks for credentials, for one gateway.
#[derive(Debug)]
pub(crate) struct CredentialClient {
    client: Client,
    auth: PlatformAuth,
    name: GatewayName,
    /// The relay that the configuration names; never exchanged for another.
    pinned: Option<RelayName>,
    /// What the choice of the run before was.
    cached_relay: Option<CachedRelay>,
    choice: Mutex<Choice>,
    /// That the platform's name is another one was logged.
    has_warned_of_name: AtomicBool,
    accepted_capabilities: AcceptedCapabilities,
}

/// What is known of the relays. Locked for a moment at a time.
#[derive(Debug, Clone, Default)]
struct Choice {
    /// The one chosen last; renewals stay with it.
    chosen: Option<RelayName>,
    /// Those that came after it when they were measured, best first.
    others: Vec<RelayName>,
    /// The ones that failed, and when.
    failed: Vec<(RelayName, Instant)>,
    /// For which one the platform was asked last, whatever became of it: where it takes the gateway
    /// to be.
    asked: Option<RelayName>,
}

impl Choice {
    fn is_avoided(&self, relay: &RelayName, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < AVOIDED_FOR;
        self.failed
            .iter()
            .any(|(failed, at)| failed == relay && recent(*at))
    }

    /// The next best of those that were measured with the one that fails now.
    fn second(&mut self, now: Instant) -> Option<RelayName> {
        let chosen = self.chosen.as_ref()?;
        if !self.is_avoided(chosen, now) {
            return None;
        }
        let others = std::mem::take(&mut self.others);
        let mut rest = others
            .into_iter()
            .skip_while(|relay| self.is_avoided(relay, now));
        let second = rest.next();
        self.others = rest.collect();
        second
    }
}

impl CredentialClient {
    pub(crate) fn new(
        client: Client,
        auth: PlatformAuth,
        name: GatewayName,
        pinned: Option<RelayName>,
    ) -> Self {
        Self {
            client,
            auth,
            name,
            pinned,
            cached_relay: None,
            choice: Mutex::default(),
            has_warned_of_name: AtomicBool::new(false),
            accepted_capabilities: AcceptedCapabilities::default(),
        }
    }

    /// The same; it begins with the relay of the run before, and keeps its own for the next one.
    pub(crate) fn with_cached_relay(self, cached_relay: CachedRelay) -> Self {
        Self {
            cached_relay: Some(cached_relay),
            ..self
        }
    }

    /// Asks as other settings say from now on, but stays with the relay that is in use if it may.
    pub(crate) fn succeeding(mut self, before: &Self) -> Self {
        self.cached_relay.clone_from(&before.cached_relay);
        let same_platform = self.client.base() == before.client.base();
        if same_platform {
            let choice = before.choice().clone();
            *self.choice() = choice;
            self.accepted_capabilities = before.accepted_capabilities.clone();
        }
        self
    }

    /// The time by which the relays' heartbeats are dated.
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from(self.client.clock().now())
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tunnel to `relay` could not be made or was lost: others are better for a while.
    pub(crate) fn failed(&self, relay: &RelayName) {
        let now = Instant::now();
        let mut choice = self.choice();
        choice.failed.retain(|(failed, at)| {
            failed != relay && now.saturating_duration_since(*at) < AVOIDED_FOR
        });
        choice.failed.push((relay.clone(), now));
    }

    /// True if the platform may take the gateway to be at another relay than `relay`.
    pub(crate) fn is_asked_elsewhere(&self, relay: &RelayName) -> bool {
        self.choice()
            .asked
            .as_ref()
            .is_some_and(|asked| asked != relay)
    }

    /// The gateway is at `relay`, and stays.
    pub(crate) fn stay_at(&self, relay: &RelayName) {
        self.choice().chosen = Some(relay.clone());
    }

    /// A relay that is clearly better than `used`, which is up, if there is one; from then on it is
    /// the chosen one.
    ///
    /// # Errors
    /// The platform does not list its relays.
    pub(crate) async fn look_for_better(
        &self,
        used: &RelayName,
    ) -> Result<Option<RelayName>, api::Error> {
        if self.is_pinned() {
            return Ok(None);
        }
        let token = self.auth.token().await?;
        let relays = self.client.relays(&token).await?;
        let ranked = relay_selection::rank(&relays, self.now(), probe_well).await;
        let used = ranked.iter().find(|measured| measured.relay.name == *used);
        let best = ranked.first().filter(|best| best.is_clear_gain_over(used));
        let Some(best) = best else { return Ok(None) };
        let mut choice = self.choice();
        if choice.is_avoided(&best.relay.name, Instant::now()) {
            return Ok(None);
        }
        choice.chosen = Some(best.relay.name.clone());
        Ok(choice.chosen.clone())
    }

    /// What each heartbeat announces.
    pub(crate) fn heartbeat(&self) -> GatewayHeartbeat {
        let mut heartbeat = GatewayHeartbeat::default();
        if self.accepted_capabilities.target_addresses() {
            let name = TARGET_ADDRESSES.to_owned();
            heartbeat.capabilities.insert(name, true.into());
        }
        heartbeat
    }

    /// True if the platform takes reports of sessions.
    pub(crate) fn accepts_session_reports(&self) -> bool {
        self.accepted_capabilities.session_reports()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn auth(&self) -> &PlatformAuth {
        &self.auth
    }

    /// What the platform knows the gateway by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.auth.fingerprint(self.client.base())
    }

    /// True if the configuration names the relay.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// New credentials for a relay chosen now.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn obtain(&self) -> Result<Identity, (Error, Class)> {
        self.issue_for(false).await
    }

    /// New credentials for the relay that is in use.
    ///
    /// # Errors
    /// With the class that says what to do about it.
    pub(crate) async fn renew(&self) -> Result<Identity, (Error, Class)> {
        self.issue_for(true).await
    }

    async fn issue_for(&self, keep_relay: bool) -> Result<Identity, (Error, Class)> {
        tokio::time::timeout(ATTEMPT, self.attempt(keep_relay))
            .await
            .unwrap_or(Err((Error::TimedOut, Class::Retry)))
    }

    async fn attempt(&self, keep_relay: bool) -> Result<Identity, (Error, Class)> {
        let token = match self.auth.token().await {
            Ok(token) => token,
            Err(error) => {
                let class = self.auth.class(&error, None).await;
                return Err((error.into(), class));
            }
        };
        match self.ask(&token, keep_relay).await {
            Ok(identity) => Ok(identity),
            Err(Error::Api(error)) => {
                let mut class = self.auth.class(&error, Some(&token)).await;
                // A relay that was chosen from a list may be gone by now; a pinned one is an order.
                let relay_may_be_gone = error.is_not_found()
                    && self.pinned.is_none()
                    && matches!(self.auth, PlatformAuth::Identity(_));
                if relay_may_be_gone {
                    class = Class::Retry;
                }
                if error.is_not_found() {
                    // Whatever was measured or chosen is no guide any more.
                    let mut choice = self.choice();
                    (choice.chosen, choice.others) = (None, Vec::new());
                }
                Err((error.into(), class))
            }
            Err(
                error @ (Error::NoHealthyRelay(_) | Error::TimedOut | Error::RelayAnsweredFirst),
            ) => Err((error, Class::Retry)),
            // Another answer may be better, but not soon.
            Err(error @ Error::Identity(_)) => {
                Err((error, Class::RetryAfter(Duration::from_secs(10))))
            }
        }
    }

    async fn ask(
        &self,
        token: &crate::secret::Secret,
        keep_relay: bool,
    ) -> Result<Identity, Error> {
        let relay_name = match &self.pinned {
            Some(pinned) => pinned.clone(),
            None => self.choose(token, keep_relay).await?,
        };
        self.choice().asked = Some(relay_name.clone());
        let credentials = match &self.auth {
            PlatformAuth::Identity(_) => {
                let request = RegisterGateway {
                    relay_name: relay_name.clone(),
                    name: self.name.clone(),
                };
                self.client.register_gateway(token, &request).await?
            }
            PlatformAuth::Gateway(_) => {
                let request = ConnectGateway {
                    relay_name: Some(relay_name.clone()),
                };
                self.client.connect_gateway(token, &request).await?
            }
        };
        self.accepted_capabilities
            .set(&credentials.accepted_capabilities);
        let mut identity =
            Identity::try_new(relay_name.clone(), &credentials, self.client.clock())?;
        if matches!(self.auth, PlatformAuth::Identity(_)) {
            // The platform has just taken over the name that was asked for.
            identity
                .gateway_name
                .get_or_insert_with(|| self.name.clone());
        }
        self.compare_names(identity.gateway_name.as_ref());
        tracing::debug!(
            gateway.id = %identity.gateway_id,
            relay.name = %relay_name,
            relay.host = %identity.relay_host,
            "credentials received"
        );
        if let Some(cached) = self.cached_relay.as_ref().filter(|_| !self.is_pinned()) {
            cached.keep(&relay_name);
        }
        self.choice().chosen = Some(relay_name);
        Ok(identity)
    }

    /// Warns, once, if the platform has another name for the gateway than the configuration.
    fn compare_names(&self, known: Option<&GatewayName>) {
        let Some(known) = known.filter(|known| **known != self.name) else {
            return;
        };
        if !self.has_warned_of_name.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                gateway.name = %known,
                configured = %self.name,
                "the platform knows this gateway by another name than the configuration; \
                 the platform's name counts"
            );
        }
    }

    async fn choose(
        &self,
        token: &crate::secret::Secret,
        keep_relay: bool,
    ) -> Result<RelayName, Error> {
        let now = Instant::now();
        if keep_relay && let Some(chosen) = self.choice().chosen.clone() {
            return Ok(chosen);
        }
        // Chosen beforehand: anyone who has lost its relay need not measure first.
        if let Some(second) = self.choice().second(now) {
            return Ok(second);
        }
        let relays = self.client.relays(token).await?;
        if let Some(cached) = self.cached_relay(&relays).await {
            return Ok(cached);
        }
        let ranked = relay_selection::rank(&relays, self.now(), probe).await;
        let mut choice = self.choice();
        let names = ranked.iter().map(|measured| measured.relay.name.clone());
        let (avoided, good): (Vec<_>, Vec<_>) =
            names.partition(|relay| choice.is_avoided(relay, now));
        let mut names = good.into_iter().chain(avoided);
        let best = names.next().ok_or(Error::NoHealthyRelay(relays.len()))?;
        choice.others = names.collect();
        Ok(best)
    }
}

impl CredentialClient {
    /// The relay of the run before, if this is the first choice of this run, and the relay is
    /// healthy and answers.
    async fn cached_relay(&self, relays: &[Relay]) -> Option<RelayName> {
        let name = self.cached_relay.as_ref()?.take_first()?;
        let relay = relay_selection::healthy(relays, self.now()).find(|relay| relay.name == name);
        let Some(relay) = relay else {
            tracing::debug!(relay.name = %name, "the relay of the last run is not healthy");
            return None;
        };
        if probe(relay).await.is_none() {
            tracing::debug!(relay.name = %name, "the relay of the last run does not answer");
            return None;
        }
        Some(name)
    }
}

/// The TCP connect time to the relay's TLS port.
async fn probe(relay: &Relay) -> Option<Duration> {
    let begin = Instant::now();
    let connected = dial::connect(relay.host.as_str(), TLS_PORT, PROBE_DEADLINE).await;
    connected.ok().map(|_| begin.elapsed())
}

/// The least of several.
async fn probe_well(relay: &Relay) -> Option<Duration> {
    let mut least = None;
    for _ in 0..PROBES {
        let time = probe(relay).await?;
        least = Some(least.map_or(time, |least: Duration| least.min(time)));
    }
    least
}

impl Error {
    /// What it is, without what changes from one time to the next: for keeping the log quiet.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Api(error) => error.kind(),
            Self::Identity(_)
            | Self::TimedOut
            | Self::RelayAnsweredFirst
            | Self::NoHealthyRelay(_) => kind(self),
        }
    }

    /// Whose fault it is when it is final.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Api(error) => match error.class() {
                Class::Fatal(reason) => reason,
                Class::Reauthenticate | Class::Reenroll => Reason::Permission,
                Class::Retry | Class::RetryAfter(_) => Reason::Unavailable,
            },
            Self::Identity(_) | Self::NoHealthyRelay(_) => Reason::Configuration,
            Self::TimedOut | Self::RelayAnsweredFirst => Reason::Unavailable,
        }
    }
}
