//! Dials back: proves that a relay, or a gateway behind its relay, can be reached from here.
//!
//! A probe says which half of the path is broken, because the one who asked for it has the other
//! half up.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::api::types::{ClientPki, SessionCredentials};
use crate::clock::Clock;
use crate::error::chain;
use crate::names::RelayHost;
use crate::pki;
use crate::pki::dial::{GatewayDialer, RelayDialer};

/// Limit for a whole probe; the caller's HTTP request waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
/// The services that prove a gateway, as the deployed platform offers them (protocol.md §5). The
/// gateway chooses health if it has it.
const SERVICES: [&str; 2] = ["infisical-health", "infisical-ping"];
/// A failed probe is answered no sooner: a name that does not resolve, a port that refuses and a
/// peer that is no relay all fail at once, and the caller, who chose the host, is not told which it
/// was. A host that drops packets takes longer.
const FAILED_AFTER: Duration = Duration::from_secs(1);
/// Longest answer of a gateway.
const MAX_ANSWER: u64 = 1024;
/// Time between heartbeats, for a gateway that names none (protocol.md §5).
const USUAL_TTL: u64 = 180;

/// Which half failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the platform cannot reach the relay at {host}")]
    Relay {
        host: RelayHost,
        #[source]
        source: pki::Error,
    },
    #[error("the relay at {host} is reachable, but the gateway is not connected to it")]
    NotConnected {
        host: RelayHost,
        #[source]
        source: pki::Error,
    },
    #[error("the gateway is connected to the relay at {host}, but does not answer: {reason}")]
    NoAnswer { host: RelayHost, reason: String },
    #[error("the platform's own certificates cannot be used")]
    Local(#[source] pki::Error),
}

/// A gateway that was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// How long its heartbeat counts.
    pub(super) heartbeat_ttl: Duration,
    /// When the certificate expires that it has shown.
    pub(super) certificate_ends: Option<SystemTime>,
}

/// What a gateway's health service says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: String,
    #[serde(default, rename = "heartbeatTTL")]
    heartbeat_ttl: Option<u64>,
}

/// [`reach_relay`] for a caller who chose the host.
pub(super) async fn relay(host: &RelayHost, pki: &ClientPki) -> Result<Option<SystemTime>, Error> {
    evenly(reach_relay(host, pki)).await
}

/// [`reach_gateway`] for a caller who chose the relay's host.
pub(super) async fn gateway(credentials: &SessionCredentials) -> Result<Reached, Error> {
    evenly(reach_gateway(credentials)).await
}

/// Has all quick failures take the same time.
async fn evenly<T>(probe: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let failed_at = Instant::now() + FAILED_AFTER;
    let result = probe.await;
    if result.is_err() {
        tokio::time::sleep_until(failed_at).await;
    }
    result
}

/// Completes TLS 1 with a relay and closes it; returns when the certificate expires that it has shown.
pub(super) async fn reach_relay(
    host: &RelayHost,
    pki: &ClientPki,
) -> Result<Option<SystemTime>, Error> {
    let end = Instant::now() + DEADLINE;
    let dialer = RelayDialer::try_new(host, pki, &Clock::new()).map_err(Error::Local)?;
    let mut stream = dialer.dial(DEADLINE).await.map_err(|source| Error::Relay {
        host: host.clone(),
        source,
    })?;
    let certificate_ends = stream.peer_certificate_expires();
    // It has proved itself; how it takes the end is of no interest, but it must not hold us up.
    let _ = tokio::time::timeout_at(end, stream.shutdown()).await;
    Ok(certificate_ends)
}

/// Asks a gateway's health service, through its relay.
pub(super) async fn reach_gateway(credentials: &SessionCredentials) -> Result<Reached, Error> {
    let end = Instant::now() + DEADLINE;
    let left = || end.saturating_duration_since(Instant::now());
    let host = || credentials.relay_host.clone();
    let dialer =
        GatewayDialer::try_new(credentials, &SERVICES, &Clock::new()).map_err(Error::Local)?;
    let outer = dialer
        .relay()
        .dial(left())
        .await
        .map_err(|source| Error::Relay {
            host: host(),
            source,
        })?;
    let mut stream =
        dialer
            .dial_through(outer, left())
            .await
            .map_err(|source| Error::NotConnected {
                host: host(),
                source,
            })?;
    let certificate_ends = stream.peer_certificate_expires();
    let no_answer = |reason: String| Error::NoAnswer {
        host: host(),
        reason,
    };
    let line = tokio::time::timeout_at(end, read_line(&mut stream))
        .await
        .map_err(|_| no_answer(format!("nothing within {} s", DEADLINE.as_secs())))?
        .map_err(|error| no_answer(chain(&error).to_string()))?;
    Ok(Reached {
        heartbeat_ttl: parse(&line).map_err(no_answer)?,
        certificate_ends,
    })
}

/// Reads up to the end of the first line, or of the stream.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut stream = stream.take(MAX_ANSWER);
    while !line.contains(&b'\n') {
        match stream.read_buf(&mut line).await {
            Ok(0) => break,
            Ok(_) => {}
            // Some gateways end the connection without `close_notify`.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !line.is_empty() => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

/// Understands a health service's answer.
fn parse(answer: &[u8]) -> Result<Duration, String> {
    let line = answer
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let health: Health =
        serde_json::from_slice(line).map_err(|_| "its answer is not JSON".to_owned())?;
    if health.status != "ok" {
        return Err(format!("its status is {:?}", health.status));
    }
    let ttl = health.heartbeat_ttl.filter(|ttl| *ttl > 0);
    Ok(Duration::from_secs(ttl.unwrap_or(USUAL_TTL)))
}

#[cfg(test)]
mod tests {
    use super::{Error, FAILED_AFTER, evenly, parse, read_line};
    use std::time::Duration;
    use tokio::time::Instant;

    /// How soon a probe fails does not tell why.
    #[tokio::test(start_paused = true)]
    async fn quick_failures_take_the_same_time() {
        for after in [Duration::ZERO, FAILED_AFTER / 2, FAILED_AFTER] {
            let begin = Instant::now();
            let failing = async move {
                tokio::time::sleep(after).await;
                Err::<(), _>(Error::NoAnswer {
                    host: "192.0.2.1".parse().expect("a host"),
                    reason: String::new(),
                })
            };
            evenly(failing).await.expect_err("failed");
            assert_eq!(begin.elapsed(), FAILED_AFTER, "{after:?}");
        }
        let begin = Instant::now();
        evenly(async { Ok(()) }).await.expect("reached");
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[test]
    fn the_answer_tells_how_long_it_counts() {
        let ttl = parse(b"{\"status\":\"ok\",\"heartbeatTTL\":60}\n").expect("ok");
        assert_eq!(ttl, Duration::from_secs(60));
        for usual in [
            &b"{\"status\":\"ok\"}"[..],
            b"{\"status\":\"ok\",\"heartbeatTTL\":0}\nx",
        ] {
            assert_eq!(parse(usual).expect("ok"), Duration::from_secs(180));
        }
    }

    #[test]
    fn any_other_answer_is_none() {
        for bad in [
            &b""[..],
            b"\n",
            b"PONG\n",
            b"{\"status\":\"draining\"}\n",
            b"{}",
            b"{\"status\":\"ok\",\"heartbeatTTL\":-1}",
            b"\xff",
        ] {
            parse(bad).expect_err("not an answer");
        }
    }

    #[tokio::test]
    async fn endless_answer_is_not_read_forever() {
        let mut endless = tokio::io::repeat(b'x');
        let line = read_line(&mut endless).await.expect("read");
        assert_eq!(line.len(), 1024);
    }
}
