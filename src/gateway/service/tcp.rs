//! `infisical-tcp-proxy`: connects to the target of the certificate and copies both ways.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::Error;
use crate::net::on_demand::OnDemand;
use crate::net::{copy, dial};
use crate::pki::extensions::Route;

/// Limit for the connection to the target.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) async fn serve<S>(mut stream: S, route: &Route) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = route
        .target_host
        .trim_start_matches('[')
        .trim_end_matches(']');
    let target = match Box::pin(dial::connect_target(host, route.target_port, CONNECT)).await {
        Ok(target) => target,
        Err(error) => {
            // Without a word, as deployed gateways do: the client sees the end of the stream.
            let _ = stream.shutdown().await;
            return Err(error.into());
        }
    };
    // TLS lends one record at a time, of which a client makes large and tiny ones in turn: a buffer joins them.
    let (mut stream, mut target) = (OnDemand::new(stream), OnDemand::new(target));
    let (copied, result) = copy::copy_both(&mut stream, &mut target).await;
    tracing::debug!(
        bytes.to_target = copied.a_to_b,
        bytes.from_target = copied.b_to_a,
        "session copied"
    );
    Ok(result?)
}
