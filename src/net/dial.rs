//! Outbound TCP connections with a deadline, and errors that say which host and why.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

/// Silence after which the kernel begins to probe an idle connection.
const TCP_KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Why a connection could not be made. The text names host and port; the class of failure is the variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Name resolution failed.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The name exists but has no address.
    #[error("{host} resolves to no address")]
    NoAddress {
        /// The name that was looked up.
        host: String,
    },
    /// Every address failed; this is the last one's error.
    #[error("cannot connect to {host}:{port} ({address})")]
    Connect {
        /// The host as given.
        host: String,
        /// The port.
        port: u16,
        /// The address tried last.
        address: SocketAddr,
        /// Its error.
        #[source]
        source: io::Error,
    },
    /// The deadline passed.
    #[error("no connection to {host}:{port} within {} s", .after.as_secs())]
    TimedOut {
        /// The host as given.
        host: String,
        /// The port.
        port: u16,
        /// The deadline that passed.
        after: Duration,
    },
}

/// Connects to `host` (a name or an address; IPv6 without brackets) within `deadline`, resolution
/// included. Addresses are resolved anew at each call and tried in the resolver's order; no address
/// may use more than its share of what is left of the deadline.
///
/// # Errors
/// See [`Error`].
pub async fn connect(host: &str, port: u16, deadline: Duration) -> Result<TcpStream, Error> {
    let attempt = async {
        let end = Instant::now() + deadline;
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| Error::Resolve {
                host: host.to_owned(),
                source,
            })?
            .collect();
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut last = Error::NoAddress {
            host: host.to_owned(),
        };
        for address in addresses {
            let share = end.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            let connected = tokio::time::timeout(share, TcpStream::connect(address)).await;
            let source = match connected {
                Ok(Ok(stream)) => {
                    prepare(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            last = Error::Connect {
                host: host.to_owned(),
                port,
                address,
                source,
            };
        }
        Err(last)
    };
    tokio::time::timeout(deadline, attempt)
        .await
        .unwrap_or_else(|_| {
            Err(Error::TimedOut {
                host: host.to_owned(),
                port,
                after: deadline,
            })
        })
}

/// Sets what every connection of this program wants: no Nagle delay, and probes of an idle peer. Failures
/// are ignored: the connection works without.
pub fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE_AFTER);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use super::{Error, connect};
    use std::time::Duration;

    #[tokio::test]
    async fn a_refused_connection_names_host_and_port() {
        // Bound and dropped: nobody listens there now.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let error = connect("127.0.0.1", port, Duration::from_secs(5))
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_unknown_name_is_a_resolver_error() {
        let error = connect("no-such-host.invalid", 1, Duration::from_secs(20))
            .await
            .expect_err("unknown");
        assert!(
            matches!(error, Error::Resolve { .. } | Error::TimedOut { .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("no-such-host.invalid"),
            "{error}"
        );
    }
}
