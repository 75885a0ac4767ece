//! The stream that says to a page's script when to fetch the page again (Server-Sent Events).
//!
//! It has no content of its own, so it shows no one anything. Streams are bounded, in all and for
//! each owner of sessions; they end with their session, and when the platform stops. While there is
//! one, gateways and relays are probed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::watch;

use super::session::Owner;
use super::visitor::{PageError, Visitor};
use crate::prober::Watcher;
use crate::routes::{ApiError, App};
use crate::secret::Secret;
use crate::server::Stopping;

/// Streams at once.
const MAX_STREAMS: usize = 128;
/// Streams of one owner of sessions: one for each page that is seen.
const MAX_OF_OWNER: usize = 32;
/// When a stream that was refused may be asked for again.
const RETRY: Duration = Duration::from_secs(10);
/// Changes so close together are said once.
const TOGETHER: Duration = Duration::from_millis(700);
/// Without a change pages are fetched again after this: ages grow. It keeps the connection alive
/// too.
const TICK: Duration = Duration::from_secs(10);

/// What the script listens for. `retry` is in milliseconds.
const FIRST: &[u8] = b"retry: 2000\n\n";
const CHANGED: &[u8] = b"event: changed\ndata:\n\n";

/// Where it is.
pub(super) const PATH: &str = "/events";

/// How many streams each owner of sessions has.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Owner, usize>>>);

/// The place of a stream, until it is dropped.
#[derive(Debug)]
struct Place {
    streams: Streams,
    owner: Owner,
}

impl Streams {
    fn take(&self, owner: Owner) -> Result<Place, ApiError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= MAX_STREAMS {
            let message = "too many pages are being watched";
            return Err(ApiError::unavailable(message, RETRY));
        }
        let count = all.entry(owner.clone()).or_default();
        if *count >= MAX_OF_OWNER {
            return Err(ApiError::rate_limited(RETRY));
        }
        *count += 1;
        Ok(Place {
            streams: self.clone(),
            owner,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self
            .streams
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.owner);
            }
        }
    }
}

/// One page's stream.
struct Stream {
    app: App,
    cookie: Secret,
    changes: watch::Receiver<u64>,
    stopping: Stopping,
    has_begun: bool,
    _place: Place,
    _watcher: Watcher,
}

/// `GET /events`
pub(super) async fn events(
    State(app): State<App>,
    visitor: Visitor,
    Extension(stopping): Extension<Stopping>,
) -> Result<Response, PageError> {
    let place = app.web().streams.take(visitor.owner())?;
    let stream = Stream {
        changes: app.watch().changes(),
        _watcher: app.watch().watcher(),
        cookie: visitor.cookie,
        stopping,
        has_begun: false,
        _place: place,
        app,
    };
    let parts = stream::unfold(stream, async |mut stream| {
        let part = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from_static(part)), stream))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(parts)).into_response())
}

impl Stream {
    /// What is sent next; `None` ends the stream.
    async fn next(&mut self) -> Option<&'static [u8]> {
        if !self.has_begun {
            self.has_begun = true;
            return Some(FIRST);
        }
        let due = async {
            // The sender lives as long as the platform.
            let _ = tokio::time::timeout(TICK, self.changes.changed()).await;
            tokio::time::sleep(TOGETHER).await;
        };
        tokio::select! {
            () = due => {}
            () = self.stopping.0.cancelled() => return None,
        }
        self.changes.mark_unchanged();
        let visitor = Visitor::with_cookie(&self.app, self.cookie.clone(), true, None).await;
        visitor.ok().flatten().map(|_| CHANGED)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_OF_OWNER, MAX_STREAMS, Owner, Streams};

    #[test]
    fn streams_are_bounded() {
        let streams = Streams::default();
        let take = |owner: usize| streams.take(Owner::Identity(owner.to_string()));
        let mut places = Vec::new();
        for count in 0..MAX_STREAMS {
            places.push(take(count / MAX_OF_OWNER).expect("a place"));
            if count + 1 == MAX_OF_OWNER {
                assert_eq!(take(0).expect_err("too many").status, 429);
            }
        }
        assert_eq!(take(1000).expect_err("too many").status, 503);
        places.clear();
        assert!(streams.0.lock().expect("a lock").is_empty());
    }
}
