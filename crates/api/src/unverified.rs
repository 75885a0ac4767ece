//! What a platform answers whose certificate was refused: its chain and its time, to tell why.
//!
//! The certificate is not verified, so the request holds nothing secret, neither a token nor the
//! headers of the settings, and nothing of the answer may be relied on but to word a diagnosis.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::redirect;

use crate::client::written_at;
use crate::clock::Clock;
use crate::config::proxy::{Proxies, Way};
use crate::config::settings::ApiBase;
use crate::trust::{Certificate, accepting_config};
use crate::{outbound, resolve};

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Unverified {
    /// The certificates that were presented, the server's own first.
    pub chain: Vec<Certificate>,
    /// The time that the answer has.
    pub date: Option<SystemTime>,
    /// This machine's clock against that time.
    pub clock: Clock,
}

/// Asks the platform below `base` once, by way of `proxies`, for at most `limit`.
pub async fn ask(base: &ApiBase, proxies: &Proxies, limit: Duration) -> Unverified {
    let mut seen = Unverified::default();
    // The password of a proxy would go to a peer that is not verified.
    if let Way::Proxy(proxy) = proxies.way(base.as_url())
        && proxy.url().scheme() == "https"
    {
        return seen;
    }
    let Ok((tls, presented)) = accepting_config() else {
        return seen;
    };
    let builder = reqwest::Client::builder()
        .timeout(limit)
        .dns_resolver(Arc::new(resolve::Resolver))
        .redirect(redirect::Policy::none());
    let Ok((builder, _)) = outbound::route(builder, proxies, base.as_url()) else {
        return seen;
    };
    let Ok(http) = builder.tls_backend_preconfigured(tls).build() else {
        return seen;
    };
    let asked = seen.clock.ask();
    if let Ok(response) = http.get(base.as_url().clone()).send().await {
        seen.date = written_at(response.headers());
    }
    if let Some(date) = seen.date {
        seen.clock.observe(date, asked);
    }
    seen.chain = presented.certificates();
    seen
}
