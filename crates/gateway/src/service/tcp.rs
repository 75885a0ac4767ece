//! `infisical-tcp-proxy`: connects to the target of the certificate and copies both ways.
//!
//! The end of one direction is passed on as such. Anything else, a failure of either side, a lost
//! tunnel, the end of the gateway's drain or a panic, resets the target, which would take half an
//! upload for the whole; the caller ends TLS 2 with a fatal alert. Both are given what was received
//! for them first.

use std::io;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use tokio::time::Instant;

use super::{Context, Error, Stream};
use crate::error::chain;
use crate::net::copy::{self, Side};
use crate::net::pooled_buf_reader::PooledBufReader;
use crate::net::status::{Class, NotReached};
use crate::net::{reset, status};
use crate::pki::extensions::Route;
use crate::targets::TargetAccess;

/// Limit for the connection to the target.
const CONNECT: Duration = Duration::from_secs(10);
/// Limit for telling the client what came of it.
const STATUS: Duration = Duration::from_secs(5);

/// Tells a client that expects a status why there is no target.
pub(super) async fn tell_not_reached(stream: &mut Stream, error: &Error) {
    let not_reached = NotReached {
        class: match error {
            Error::Target(_) => Class::Unreachable,
            Error::Stopped => Class::Draining,
            Error::Handshake(_)
            | Error::HandshakeTimedOut
            | Error::NoService
            | Error::TooManySessions
            | Error::Claims(_)
            | Error::OtherGateway(_)
            | Error::NoTarget
            | Error::NotAllowed(_)
            | Error::Http(_)
            | Error::Client(_)
            | Error::Broken { .. } => Class::Refused,
        },
        reason: chain(error).to_string(),
    };
    // A client that is gone does not need it.
    let _ = tokio::time::timeout(STATUS, status::send_not_reached(stream, &not_reached)).await;
}

pub(super) async fn serve(
    stream: &mut Stream,
    route: &Route,
    sends_status: bool,
    context: Context<'_>,
) -> Result<(), Error> {
    let Context {
        stop,
        session,
        targets,
        ..
    } = context;
    let host = route
        .target_host
        .trim_start_matches('[')
        .trim_end_matches(']');
    let begin = Instant::now();
    let access = TargetAccess::new(targets, session, &route.target_addresses);
    let dialling = Box::pin(access.connect(host, route.target_port, CONNECT));
    let dialled = stop.run(dialling).await.ok_or(Error::Stopped);
    let mut target = match dialled.and_then(|dialled| Ok(dialled?)) {
        Ok(target) => target,
        Err(error) => {
            if let Error::Target(error) = &error {
                session.metrics().target_failed(error.reason());
            }
            if sends_status {
                tell_not_reached(stream, &error).await;
            }
            return Err(error);
        }
    };
    session.metrics().target_reached(begin.elapsed());
    session.reached(target.peer_addr().ok());
    reset::arm(&target);
    if sends_status {
        let sent = tokio::time::timeout(STATUS, status::send_reached(stream)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(Error::Client)?;
    }
    let stopping = async {
        tokio::select! {
            () = stop.cancelled() => Error::Stopped,
            refused = access.revoked() => refused.into(),
        }
    };
    #[cfg(test)]
    let stopping = super::panic_tests::or_panic(stopping);
    // TLS lends one record at a time, of which a client makes large and tiny ones in turn: a buffer
    // joins them.
    let copying = async {
        let (mut stream, mut target) = (
            PooledBufReader::new(&mut *stream),
            PooledBufReader::new(&mut target),
        );
        let traffic = Some(session.traffic());
        copy::copy_counted_until(&mut stream, &mut target, traffic, stopping).await
    };
    let copied = AssertUnwindSafe(Box::pin(copying)).catch_unwind().await;
    let (copied, stopped) = match copied {
        Ok(copied) => copied,
        Err(panic) => {
            tokio::join!(stream.abort(), reset::delivered(&target));
            std::panic::resume_unwind(panic)
        }
    };
    if copied.is_complete() {
        reset::disarm(&target);
        return Ok(());
    }
    // Neither waits for the other.
    tokio::join!(stream.abort(), reset::delivered(&target));
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    let Some(failure) = copied.failure else {
        return Err(Error::Stopped);
    };
    Err(match failure.side {
        Side::A => Error::Client(failure.error),
        Side::B => Error::Broken {
            target: format!("{}:{}", route.target_host, route.target_port),
            after_client: copied.a_to_b.is_complete,
            source: failure.error,
        },
    })
}
