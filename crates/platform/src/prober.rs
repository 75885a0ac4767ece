//! Probes gateways and relays while someone watches a page, so that the page shows within seconds
//! what heartbeats would show within minutes.
//!
//! There is one prober, however many watch; it probes [`AT_ONCE`] at once, each at most once per
//! [`INTERVAL`], and nothing without a watcher but one round for a page that was loaded. Results
//! are kept in memory ([`crate::observations`]); the store has heartbeats only.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::{Notify, watch};

use crate::api::types::SessionCredentials;
use crate::probe;
use crate::routes::{App, Signer, gateways, relays};
use crate::store::{Gateway, Relay};

/// Time between the ends of a round and the next one.
const INTERVAL: Duration = Duration::from_secs(3);
/// Limit for one probe: less than that of a heartbeat's, as the next one comes soon.
const LIMIT: Duration = Duration::from_secs(5);
/// Probes at once.
const AT_ONCE: usize = 16;
/// Gateways, and relays, of one round.
const MAX_PROBED: usize = 1000;
/// How long certificates for probes are used; they are valid for five minutes.
const CERTIFICATES: Duration = Duration::from_secs(120);

/// Who watches, and what has changed.
#[derive(Debug)]
pub(crate) struct Watch {
    /// How many watch.
    watchers: watch::Sender<usize>,
    /// A page was loaded.
    loaded: Notify,
    /// Counts changes. Streams of pages have the other ends.
    changes: watch::Sender<u64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            watchers: watch::Sender::new(0),
            loaded: Notify::new(),
            changes: watch::Sender::new(0),
        }
    }
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
        self.loaded.notify_one();
    }

    /// Notes that pages may show something else from now on.
    pub(crate) fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Counts changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Certificates for probes of gateways, with the relay that they are for.
#[derive(Debug, Default)]
struct Prepared(Mutex<HashMap<String, (String, Instant, SessionCredentials)>>);

impl Prepared {
    fn find(&self, gateway: &str, relay: &str) -> Option<SessionCredentials> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, made, _)| made.elapsed() < CERTIFICATES);
        let found = all.get(gateway).filter(|(of, _, _)| of == relay);
        found.map(|(_, _, credentials)| credentials.clone())
    }

    fn keep(&self, gateway: &str, relay: &str, credentials: &SessionCredentials) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (relay.to_owned(), Instant::now(), credentials.clone());
        all.insert(gateway.to_owned(), kept);
    }
}

/// Probes while someone watches, without end.
pub(crate) async fn run(app: App) {
    let prepared = Prepared::default();
    let watch = app.watch();
    let mut watchers = watch.watchers.subscribe();
    loop {
        tokio::select! {
            // The sender lives as long as the platform.
            watched = watchers.wait_for(|count| *count > 0) => if watched.is_err() { return },
            () = watch.loaded.notified() => {}
        }
        round(&app, &prepared).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn round(app: &App, prepared: &Prepared) {
    // A database that fails is logged where someone asks for what is in it.
    let Ok(gateways) = app.store().gateways().await else {
        return;
    };
    let Ok(relays) = app.store().relays().await else {
        return;
    };
    let ids = gateways.iter().map(|gateway| gateway.id.as_str());
    let known: HashSet<&str> = ids.chain(relays.iter().map(|r| r.id.as_str())).collect();
    app.observations().retain(|id| known.contains(id));
    let relays = relays.into_iter().take(MAX_PROBED).map(Probed::Relay);
    let gateways = gateways.into_iter().take(MAX_PROBED).map(Probed::Gateway);
    stream::iter(relays.chain(gateways))
        .for_each_concurrent(AT_ONCE, |probed| probe(app, prepared, probed))
        .await;
}

enum Probed {
    Gateway(Gateway),
    Relay(Relay),
}

async fn probe(app: &App, prepared: &Prepared, probed: Probed) {
    let (id, reached) = match probed {
        Probed::Gateway(gateway) => {
            let probe = probe_gateway(app, prepared, &gateway);
            (gateway.id.to_string(), Box::pin(probe).await)
        }
        Probed::Relay(relay) => {
            let probe = probe_relay(app, &relay);
            (relay.id.clone(), Box::pin(probe).await)
        }
    };
    // Otherwise nothing was tried.
    if let Some(reached) = reached
        && app.observations().note(&id, reached, SystemTime::now())
    {
        app.watch().changed();
    }
}

/// What was reached says when its certificate ends; `None` if nothing was tried.
type Reached = Option<Result<Option<SystemTime>, ()>>;

async fn probe_gateway(app: &App, prepared: &Prepared, gateway: &Gateway) -> Reached {
    let relay = gateway.relay.as_ref()?;
    let id = gateway.id.as_str();
    let credentials = match prepared.find(id, &relay.id) {
        Some(credentials) => credentials,
        None => {
            let signer = Signer::Gateway(gateway.id.clone());
            let made = gateways::probe_credentials(app, signer, gateway, relay).await;
            let made = made.ok()?;
            prepared.keep(id, &relay.id, &made);
            made
        }
    };
    let probed = tokio::time::timeout(LIMIT, probe::gateway(&credentials)).await;
    match probed {
        Ok(Ok(reached)) => Some(Ok(reached.certificate_ends)),
        Ok(Err(probe::Error::Local(_))) => None,
        Ok(Err(_)) | Err(_) => Some(Err(())),
    }
}

async fn probe_relay(app: &App, relay: &Relay) -> Reached {
    let signer = Signer::Relay(relay.id.clone());
    let pki = relays::probe_credentials(app, signer, relay).await.ok()?;
    let probed = tokio::time::timeout(LIMIT, probe::relay(&relay.host, &pki)).await;
    match probed {
        Ok(Ok(certificate_ends)) => Some(Ok(certificate_ends)),
        Ok(Err(probe::Error::Local(_))) => None,
        Ok(Err(_)) | Err(_) => Some(Err(())),
    }
}
