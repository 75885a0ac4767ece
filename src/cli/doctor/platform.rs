//! The platform, layer by layer: name, proxy, TCP, TLS, an answer, its clock, the token. Nothing is
//! registered, no login is made, and no token is spent.

use std::time::Duration;

use tokio::time::timeout;

use super::layer::{
    CLOCK, Check, Fault, Layer, PLATFORM_ANSWER, PLATFORM_DNS, PLATFORM_TCP, PLATFORM_TLS, PROXY,
    TOKEN, blocked,
};
use super::network::{connects, resolves};
use super::proxy;
use super::tls;
use crate::agent::access;
use crate::agent::status::condition::CLOCK_SKEW;
use crate::api::types::Relay;
use crate::api::{self, Client};
use crate::clock::Clock;
use crate::config::proxy::Way;
use crate::config::settings::CommonSettings;
use crate::error::{Class, chain};
use crate::secret::Secret;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Around an IPv6 address in a URL.
const BRACKETS: [char; 2] = ['[', ']'];

/// What was found of the platform.
pub(super) struct Platform {
    pub(super) checks: Vec<Check>,
    /// The relays that it lists.
    pub(super) relays: Vec<Relay>,
}

/// None of its layers can be checked because of `configuration`.
pub(super) fn unknown(configuration: &Check) -> Platform {
    let layers = [
        &PLATFORM_DNS,
        &PROXY,
        &PLATFORM_TCP,
        &PLATFORM_TLS,
        &PLATFORM_ANSWER,
        &CLOCK,
        &TOKEN,
    ];
    let checks = layers
        .into_iter()
        .filter_map(|layer| blocked(layer, &[configuration]));
    Platform {
        checks: checks.collect(),
        relays: Vec::new(),
    }
}

/// Checks each layer; `token` is what may be shown to the platform, or why nothing is.
pub(super) async fn examine(
    settings: &CommonSettings,
    token: Result<&Secret, &'static str>,
) -> Platform {
    let url = settings.domain.as_url();
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_matches(BRACKETS).to_owned();
    let port = url.port_or_known_default().unwrap_or_default();
    let [dns, proxy, tcp] = match settings.proxies.way(url) {
        Way::Proxy(through) => {
            let is_of_proxy = format!("the proxy does it for {host}");
            let check = proxy::examine(through, url).await;
            let tcp = blocked(&PLATFORM_TCP, &[&check])
                .unwrap_or_else(|| Check::skipped(&PLATFORM_TCP, is_of_proxy.clone()));
            [Check::skipped(&PLATFORM_DNS, is_of_proxy), check, tcp]
        }
        way @ (Way::Direct | Way::Loopback | Way::Bypassed) => {
            let proxy = Check::good(&PROXY, way.to_string());
            let dns = resolves(&PLATFORM_DNS, &host).await;
            let tcp = match blocked(&PLATFORM_TCP, &[&dns]) {
                Some(tcp) => tcp,
                None => {
                    connects(&PLATFORM_TCP, (&host, port), "the platform")
                        .await
                        .0
                }
            };
            [dns, proxy, tcp]
        }
    };
    let (mut above, relays) = match blocked(&PLATFORM_TLS, &[&tcp]) {
        Some(tls) => (unreached(tls), Vec::new()),
        None => ask(settings, token).await,
    };
    let mut checks = vec![dns, proxy, tcp];
    checks.append(&mut above);
    Platform { checks, relays }
}

/// TLS is as `tls` says, so there is no answer.
fn unreached(tls: Check) -> Vec<Check> {
    let rest: Vec<Check> = [&PLATFORM_ANSWER, &CLOCK, &TOKEN]
        .into_iter()
        .filter_map(|layer| blocked(layer, &[&tls]))
        .collect();
    std::iter::once(tls).chain(rest).collect()
}

/// TLS, an answer, the clock and the token.
async fn ask(
    settings: &CommonSettings,
    token: Result<&Secret, &'static str>,
) -> (Vec<Check>, Vec<Relay>) {
    let is_https = settings.domain.as_url().scheme() == "https";
    let client = match access::client(settings) {
        Ok(client) => client,
        Err(error) => {
            let cause = "This machine cannot make requests to the platform.";
            let fix = "Correct what the detail names.";
            let fault = Fault::new(chain(&error).to_string(), cause, fix);
            return (unreached(Check::failed(&PLATFORM_TLS, fault)), Vec::new());
        }
    };
    let tls_good = || match is_https {
        true => Check::good(&PLATFORM_TLS, "the certificate is verified"),
        false => Check::skipped(&PLATFORM_TLS, "the platform's address begins with http://"),
    };
    let (tls, answer) = match timeout(ANSWER, client.status()).await {
        Ok(Ok(())) => (tls_good(), Check::good(&PLATFORM_ANSWER, "it answers")),
        // One without this endpoint.
        Ok(Err(error @ api::Error::Refused { .. })) if error.class() != Class::Retry => {
            (tls_good(), Check::good(&PLATFORM_ANSWER, "it answers"))
        }
        Ok(Err(error @ api::Error::Refused { .. })) => {
            let cause = "The platform is there, and not well.";
            let fix = "Look into the platform's own log, with the request id of the detail.";
            let fault = Fault::new(chain(&error).to_string(), cause, fix);
            (tls_good(), Check::failed(&PLATFORM_ANSWER, fault))
        }
        Ok(Err(error @ api::Error::Transport { .. })) if is_https => {
            let (tls, clock) = tls::refused(&error, settings).await;
            let above = |layer| blocked(layer, &[&tls]);
            let [answer, token] = [&PLATFORM_ANSWER, &TOKEN].map(above);
            let clock = clock.or_else(|| blocked(&CLOCK, &[&tls]));
            let checks = [Some(tls), answer, clock, token];
            return (checks.into_iter().flatten().collect(), Vec::new());
        }
        Ok(Err(error)) => (
            tls_good(),
            Check::failed(&PLATFORM_ANSWER, foreign_answer(&error)),
        ),
        Err(_) => {
            let detail = format!("no answer in {} s", ANSWER.as_secs());
            let cause = "The platform, or a proxy before it, accepts connections and hangs.";
            let fault = Fault::new(detail, cause, "Restart the platform or that proxy.");
            let tls = match is_https {
                true => {
                    Check::skipped(&PLATFORM_TLS, "no answer came, by which it could be judged")
                }
                false => tls_good(),
            };
            (tls, Check::failed(&PLATFORM_ANSWER, fault))
        }
    };
    let clock = blocked(&CLOCK, &[&answer]).unwrap_or_else(|| judge(client.clock()));
    let (token, relays) = match (blocked(&TOKEN, &[&answer]), token) {
        (Some(token), _) => (token, Vec::new()),
        (None, Err(why)) => (Check::skipped(&TOKEN, why), Vec::new()),
        (None, Ok(token)) => show(&client, token).await,
    };
    (vec![tls, answer, clock, token], relays)
}

/// Judges `clock`, which was compared with the time of an answer.
pub(super) fn judge(clock: &Clock) -> Check {
    match clock.skew() {
        None => Check::good(&CLOCK, "agrees with the platform's"),
        Some(skew) => {
            let (cause, fix) = (CLOCK_SKEW.cause, CLOCK_SKEW.fix);
            Check::failed(&CLOCK, Fault::new(skew.to_string(), cause, fix))
        }
    }
}

/// Lists the relays with `token`, which changes nothing.
async fn show(client: &Client, token: &Secret) -> (Check, Vec<Relay>) {
    let layer: &'static Layer = &TOKEN;
    match timeout(ANSWER, client.relays(token)).await {
        Ok(Ok(relays)) => (Check::good(layer, "accepted"), relays),
        Ok(Err(error)) => {
            let detail = chain(&error).to_string();
            let check = match error.status() {
                Some(401) => {
                    let cause = "The platform does not accept the token, which is wrong, expired or \
                                 revoked.";
                    let fix = "Create a new token on the platform, and install or start with it.";
                    Check::failed(layer, Fault::new(detail, cause, fix))
                }
                Some(403) => Check::good(layer, "known to the platform"),
                Some(404) => {
                    let cause = "The platform does not know the gateway of this token any more.";
                    let fix = "Create it again on the platform, and install with its new \
                               enrollment token.";
                    Check::failed(layer, Fault::new(detail, cause, fix))
                }
                Some(_) | None => Check::skipped(layer, detail),
            };
            (check, Vec::new())
        }
        Err(_) => {
            let because = format!("no answer in {} s", ANSWER.as_secs());
            (Check::skipped(layer, because), Vec::new())
        }
    }
}

/// An answer that is not the platform's.
fn foreign_answer(error: &api::Error) -> Fault {
    let (cause, fix) = match error.http_status() {
        Some(407) => (
            "A proxy on the way, which the settings do not name, wants a user name and a password.",
            "Set HTTPS_PROXY to its URL: http://USER:PASSWORD@HOST:PORT",
        ),
        Some(502..=504) => (
            "What stands before the platform, a load balancer or a proxy, does not reach it.",
            "Start the platform, or repair the way to it from what stands before it.",
        ),
        Some(300..=399) => (
            "Something redirects requests: the domain is not the platform's address, or a captive \
             portal wants a login.",
            "Set the domain to the address that the detail names if that is the platform; \
             otherwise log in, or let the portal pass the platform.",
        ),
        Some(_) | None => (
            "Something else than the platform answers at this address.",
            "Correct the domain, or let proxies and captive portals pass the platform.",
        ),
    };
    Fault::new(chain(error).to_string(), cause, fix)
}
