//! Probes gateways and relays while someone watches a page, so that the page shows within seconds
//! what heartbeats would show within minutes.
//!
//! There is one prober, however many watch; it probes nothing without a watcher but one round for a
//! page that was loaded. Those that could be reached are probed by rounds of their own
//! ([`Lane::Reached`]), so that any number of others, each of which takes a while to fail, does not
//! delay the news that one of them is gone. Results are kept in memory ([`crate::observations`]);
//! the store has heartbeats only.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::error::Elapsed;

use crate::api::types::{ClientPki, SessionCredentials};
use crate::observations::Observations;
use crate::probe;
use crate::routes::{App, Signer, gateways, relays};
use crate::store::{self, Gateway, Relay};

/// Time between the ends of a round and the next one.
const INTERVAL: Duration = Duration::from_secs(3);
/// Limit for one probe: less than that of a heartbeat's, as the next one comes soon.
const LIMIT: Duration = Duration::from_secs(5);
/// Probes of a lane at once. One that is answered takes milliseconds.
const AT_ONCE: usize = 64;
/// Gateways, and relays, that are probed.
const MAX_PROBED: usize = 1000;
/// How long certificates for probes are used; they are valid for five minutes.
const CERTIFICATES: Duration = Duration::from_secs(120);

/// Those that are probed by the same rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// The last probe has reached them, or there was none.
    Reached,
    /// The last probe has failed.
    Failed,
}

impl Lane {
    /// That of the gateway or relay with this id.
    fn of(id: &str, observations: &Observations) -> Self {
        match observations.of(id).and_then(|seen| seen.failed_since) {
            None => Self::Reached,
            Some(_) => Self::Failed,
        }
    }
}

/// Who watches, and what has changed.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// How many watch.
    watchers: watch::Sender<usize>,
    /// Counts pages that were loaded.
    loaded: watch::Sender<u64>,
    /// Counts changes. Streams of pages have the other ends.
    changes: watch::Sender<u64>,
}

/// A watcher, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher(watch::Sender<usize>);

impl Watch {
    /// One more watcher.
    pub(crate) fn watcher(&self) -> Watcher {
        self.watchers.send_modify(|count| *count += 1);
        Watcher(self.watchers.clone())
    }

    /// Has one round of probes done soon, for the next load of a page.
    pub(crate) fn page_loaded(&self) {
        count(&self.loaded);
    }

    /// Notes that pages may show something else from now on.
    pub(crate) fn changed(&self) {
        count(&self.changes);
    }

    /// Counts changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn count(events: &watch::Sender<u64>) {
    events.send_modify(|count| *count = count.wrapping_add(1));
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Certificates for probes, by the id of the gateway or relay, with the id of the relay that they
/// are for.
#[derive(Debug)]
struct Prepared<T>(Mutex<HashMap<String, (String, Instant, T)>>);

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Prepared<T> {
    fn find(&self, id: &str, relay: &str) -> Option<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, made, _)| made.elapsed() < CERTIFICATES);
        let found = all.get(id).filter(|(of, _, _)| of == relay);
        found.map(|(_, _, credentials)| credentials.clone())
    }

    /// Those for `id`, which `make` makes if none are kept; `None` if it cannot.
    async fn get<E>(
        &self,
        id: &str,
        relay: &str,
        make: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        if let Some(found) = self.find(id, relay) {
            return Some(found);
        }
        let made = make.await.ok()?;
        self.keep(id, relay, &made);
        Some(made)
    }

    fn keep(&self, id: &str, relay: &str, credentials: &T) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (relay.to_owned(), Instant::now(), credentials.clone());
        all.insert(id.to_owned(), kept);
    }
}

struct Prober {
    app: App,
    for_gateways: Prepared<SessionCredentials>,
    for_relays: Prepared<ClientPki>,
}

/// Probes while someone watches, without end.
pub(crate) async fn run(app: App) {
    let prober = Prober {
        app,
        for_gateways: Prepared::default(),
        for_relays: Prepared::default(),
    };
    tokio::join!(prober.rounds(Lane::Reached), prober.rounds(Lane::Failed));
}

/// What was reached says when its certificate ends; `None` if nothing was tried.
type Reached = Option<Result<Option<SystemTime>, ()>>;

impl Prober {
    async fn rounds(&self, lane: Lane) {
        let watch = self.app.watch();
        let mut watchers = watch.watchers.subscribe();
        let mut loaded = watch.loaded.subscribe();
        loop {
            // The senders live as long as the platform.
            let goes_on = tokio::select! {
                watched = watchers.wait_for(|count| *count > 0) => watched.is_ok(),
                changed = loaded.changed() => changed.is_ok(),
            };
            if !goes_on {
                return;
            }
            // A database that fails is logged where someone asks for what is in it.
            let _ = self.round(lane).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Probes the relays of this lane, then its gateways: of those at a relay that was not reached,
    /// nothing has to be tried.
    async fn round(&self, lane: Lane) -> Result<(), store::Error> {
        let gateways = self.app.store().gateways().await?;
        let relays = self.app.store().relays().await?;
        let observations = self.app.observations();
        let ids = gateways.iter().map(|gateway| gateway.id.as_str());
        let known: HashSet<&str> = ids.chain(relays.iter().map(|r| r.id.as_str())).collect();
        observations.retain(|id| known.contains(id));
        let is_due = |id: &str| Lane::of(id, observations) == lane;
        let relays = relays.iter().take(MAX_PROBED).filter(|r| is_due(&r.id));
        stream::iter(relays)
            .for_each_concurrent(AT_ONCE, async |relay| {
                let reached = Box::pin(self.probe_relay(relay)).await;
                self.note(&relay.id, reached);
            })
            .await;
        let gateways = gateways.iter().take(MAX_PROBED);
        stream::iter(gateways.filter(|gateway| is_due(gateway.id.as_str())))
            .for_each_concurrent(AT_ONCE, async |gateway| {
                let reached = Box::pin(self.probe_gateway(gateway)).await;
                self.note(gateway.id.as_str(), reached);
            })
            .await;
        Ok(())
    }

    fn note(&self, id: &str, reached: Reached) {
        // Otherwise nothing was tried.
        if let Some(reached) = reached
            && (self.app.observations()).note(id, reached, SystemTime::now())
        {
            self.app.watch().changed();
        }
    }

    async fn probe_gateway(&self, gateway: &Gateway) -> Reached {
        let relay = gateway.relay.as_ref()?;
        if Lane::of(&relay.id, self.app.observations()) == Lane::Failed {
            return Some(Err(()));
        }
        let signer = Signer::Gateway(gateway.id.clone());
        let make = gateways::probe_credentials(&self.app, signer, gateway, relay);
        let credentials = self.for_gateways.get(gateway.id.as_str(), &relay.id, make);
        let credentials = credentials.await?;
        let probed = probe::reach_gateway(&credentials);
        let probed = tokio::time::timeout(LIMIT, probed).await;
        outcome(&probed.map(|probed| probed.map(|reached| reached.certificate_ends)))
    }

    async fn probe_relay(&self, relay: &Relay) -> Reached {
        let signer = Signer::Relay(relay.id.clone());
        let make = relays::probe_credentials(&self.app, signer, relay);
        let pki = self.for_relays.get(&relay.id, &relay.id, make).await?;
        let probed = probe::reach_relay(&relay.host, &pki);
        outcome(&tokio::time::timeout(LIMIT, probed).await)
    }
}

fn outcome(probed: &Result<Result<Option<SystemTime>, probe::Error>, Elapsed>) -> Reached {
    match probed {
        Ok(Ok(certificate_ends)) => Some(Ok(*certificate_ends)),
        Ok(Err(probe::Error::Local(_))) => None,
        Ok(Err(_)) | Err(Elapsed { .. }) => Some(Err(())),
    }
}

#[cfg(test)]
mod tests {
    use super::Lane;
    use crate::observations::Observations;
    use std::time::SystemTime;

    #[test]
    fn those_that_fail_have_another_lane() {
        let (all, now) = (Observations::default(), SystemTime::UNIX_EPOCH);
        assert_eq!(Lane::of("one", &all), Lane::Reached);
        all.note("one", Err(()), now);
        assert_eq!(Lane::of("one", &all), Lane::Failed);
        all.note("one", Ok(None), now);
        assert_eq!(Lane::of("one", &all), Lane::Reached);
    }
}
