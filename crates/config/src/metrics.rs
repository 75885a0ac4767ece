//! Where metrics are served.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::listen;

/// A place to serve metrics at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why a text names no such place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum InvalidMetricsListen {
    #[error(transparent)]
    Address(#[from] listen::InvalidListen),
    #[error("write the whole path behind unix:, such as unix:/run/infisical-gateway/metrics.sock")]
    Path,
    #[error(
        "other machines can reach {0}: write 127.0.0.1:{port}, or add --metrics-allow-remote",
        port = .0.port()
    )]
    Remote(SocketAddr),
}

impl MetricsListen {
    /// Reads `ADDR:PORT` or `unix:PATH`; an address that is not this machine's own is refused
    /// unless `allow_remote`.
    ///
    /// # Errors
    /// [`InvalidMetricsListen`] says what to write.
    pub fn parse(text: &str, allow_remote: bool) -> Result<Self, InvalidMetricsListen> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(InvalidMetricsListen::Path)
            };
        }
        let address = listen::parse(text)?;
        if !allow_remote && !address.ip().to_canonical().is_loopback() {
            return Err(InvalidMetricsListen::Remote(address));
        }
        Ok(Self::Tcp(address))
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidMetricsListen, MetricsListen};

    #[test]
    fn only_loopback_needs_no_permission() {
        let tcp = |text: &str| MetricsListen::Tcp(text.parse().expect("an address"));
        for local in ["127.0.0.1:9090", "[::1]:9090", "[::ffff:127.0.0.1]:9090"] {
            assert_eq!(MetricsListen::parse(local, false), Ok(tcp(local)));
        }
        for remote in ["0.0.0.0:9090", "[::]:9090", "192.0.2.1:9090"] {
            let refused = MetricsListen::parse(remote, false).expect_err("refused");
            assert!(refused.to_string().contains("127.0.0.1:9090"), "{refused}");
            assert_eq!(MetricsListen::parse(remote, true), Ok(tcp(remote)));
        }
    }

    #[test]
    fn unix_socket_needs_a_whole_path() {
        let socket = MetricsListen::Unix("/run/metrics.sock".into());
        assert_eq!(
            MetricsListen::parse("unix:/run/metrics.sock", false),
            Ok(socket)
        );
        for wrong in ["unix:", "unix:metrics.sock"] {
            let refused = MetricsListen::parse(wrong, true);
            assert_eq!(refused, Err(InvalidMetricsListen::Path), "{wrong}");
        }
    }
}
