//! Where requests go: the target's address, and connections to it.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::body::Upload;
use super::trust::{self, Trust};
use super::{MAX_HEAD, MAX_HEADERS};
use crate::error::chain;
use crate::net::dial;
use crate::scope::Scope;
use crate::targets::{self, NotAllowed, TargetAccess};

/// An address that cannot be a target's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the target {given:?} is not valid: {rule}")]
pub(super) struct InvalidTarget {
    given: String,
    rule: &'static str,
}

/// Scheme, host and port of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// As the resolver wants it: IPv6 without brackets.
    host: String,
    port: u16,
    /// The name in the target's certificate; absent for plain http.
    tls: Option<ServerName<'static>>,
    /// The value of `Host`.
    pub(super) authority: HeaderValue,
}

impl Origin {
    /// Reads a target host, which may begin with a scheme (none means http), and adds the port.
    ///
    /// # Errors
    /// A host that is neither a name nor an address (a path, a port or a user beside it included),
    /// or no port.
    pub(super) fn parse(target_host: &str, port: u16) -> Result<Self, InvalidTarget> {
        let invalid = |rule| InvalidTarget {
            given: target_host.to_owned(),
            rule,
        };
        if port == 0 {
            return Err(invalid("it has no port"));
        }
        let (https, rest) = match target_host.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (
                false,
                target_host.strip_prefix("http://").unwrap_or(target_host),
            ),
        };
        let inner = rest.strip_prefix('[').and_then(|r| r.strip_suffix(']'));
        let host = inner.unwrap_or(rest);
        // A zone chooses the interface here and means nothing to the target (RFC 9110 §7.2, RFC
        // 6874).
        let address = host.split_once('%').map_or(host, |(address, _)| address);
        let name = if address.parse::<Ipv6Addr>().is_ok() {
            format!("[{address}]")
        } else if inner.is_none() && is_name(host) {
            host.to_owned()
        } else {
            return Err(invalid("the host is neither a name nor an address"));
        };
        let default_port = if https { 443 } else { 80 };
        let authority = if port == default_port {
            name
        } else {
            format!("{name}:{port}")
        };
        let authority = HeaderValue::try_from(authority)
            .map_err(|_| invalid("the host is neither a name nor an address"))?;
        let tls = https
            .then(|| ServerName::try_from(address.to_owned()))
            .transpose()
            .map_err(|_| invalid("no certificate can be for this host"))?;
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
            authority,
        })
    }
}

/// A DNS name, or an IPv4 address. Lenient: the resolver has the last word.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Why a target does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    NotAllowed(NotAllowed),
    #[error(transparent)]
    Dial(dial::Error),
    #[error(transparent)]
    Trust(#[from] trust::Error),
    #[error("TLS with {peer} failed")]
    Tls {
        peer: String,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS with {peer} was not up within {} s", .after.as_secs())]
    TlsTimedOut { peer: String, after: Duration },
    #[error("the exchange with the target failed")]
    Exchange(#[source] hyper::Error),
    #[error("the target did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the target switched protocols without being asked")]
    SwitchedProtocols,
    #[error("the target used a transfer coding other than chunked")]
    TransferCoding,
}

impl From<targets::Error> for Error {
    fn from(error: targets::Error) -> Self {
        match error {
            targets::Error::NotAllowed(error) => Self::NotAllowed(error),
            targets::Error::Dial(error) => Self::Dial(error),
        }
    }
}

impl Error {
    /// What it is, in one word for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "not_permitted",
            Self::Dial(error) => error.reason(),
            Self::Trust(_) | Self::Tls { .. } | Self::TlsTimedOut { .. } => "tls",
            Self::Exchange(_)
            | Self::NoAnswer(_)
            | Self::SwitchedProtocols
            | Self::TransferCoding => "http",
        }
    }
}

/// A target that can be connected to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) origin: Origin,
    trust: Trust,
    /// Made for the first connection: reading the system's roots may fail, and costs.
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Target {
    pub(super) fn new(origin: Origin, trust: Trust) -> Self {
        Self {
            origin,
            trust,
            tls: OnceCell::new(),
        }
    }

    /// Connects, TLS included, within `deadline`. The connection's task runs in `scope` until the
    /// connection ends or `cut` is cancelled.
    pub(super) async fn connect(
        &self,
        access: &TargetAccess<'_>,
        scope: &Scope,
        cut: CancellationToken,
        deadline: Duration,
    ) -> Result<Connection, Error> {
        let end = Instant::now() + deadline;
        let Origin { host, port, .. } = &self.origin;
        let tcp = access.connect(host, *port, deadline).await?;
        let address = tcp.peer_addr().ok();
        let Some(name) = &self.origin.tls else {
            return Connection::start(tcp, address, scope, cut).await;
        };
        let config = self
            .tls
            .get_or_try_init(|| trust::client(&self.trust))
            .await?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp);
        let peer = || format!("{host}:{port}");
        let stream = tokio::time::timeout_at(end, handshake)
            .await
            .map_err(|_| Error::TlsTimedOut {
                peer: peer(),
                after: deadline,
            })?
            .map_err(|source| Error::Tls {
                peer: peer(),
                source,
            })?;
        Connection::start(stream, address, scope, cut).await
    }
}

/// A connection to a target; dropping it lets the exchange in progress, if any, come to its end.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    address: Option<SocketAddr>,
    /// Ends the connection's task.
    cut: CancellationToken,
    kept: bool,
}

/// Why a connection gave no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection was closed before the request was on it.
    Unsent(Box<Request<Upload>>, hyper::Error),
    /// The exchange broke off.
    Broken(hyper::Error),
    /// Nothing happened for too long.
    NoAnswer(Duration),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unsent(_, error) | Refusal::Broken(error) => Self::Exchange(error),
            Refusal::NoAnswer(after) => Self::NoAnswer(after),
        }
    }
}

impl Connection {
    async fn start<S>(
        stream: S,
        address: Option<SocketAddr>,
        scope: &Scope,
        cut: CancellationToken,
    ) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .preserve_header_case(true)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Error::Exchange)?;
        let cutter = cut.clone();
        scope.spawn("http target", async move {
            if let Some(Err(error)) = cutter.run_until_cancelled_owned(connection).await {
                tracing::debug!(error = %chain(&error), "connection to an HTTP target ended");
            }
        });
        Ok(Self {
            sender,
            address,
            cut,
            kept: false,
        })
    }

    /// What it is connected to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Resolves when the next request can be sent (true), or never can be.
    pub(super) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request; resolves with the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Refusal> {
        self.sender
            .try_send_request(request)
            .await
            .map_err(|mut error| match error.take_message() {
                Some(request) => Refusal::Unsent(Box::new(request), error.into_error()),
                None => Refusal::Broken(error.into_error()),
            })
    }

    /// The same connection, marked as one that has served a request.
    pub(super) fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// True for a connection that has served a request before.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Ends the connection now.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// What [`Self::cut`] cancels.
    pub(super) fn cutter(&self) -> CancellationToken {
        self.cut.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn scheme_host_and_port_make_an_origin() {
        for (given, port, https, host, authority) in [
            ("web.internal", 80, false, "web.internal", "web.internal"),
            (
                "web.internal",
                443,
                false,
                "web.internal",
                "web.internal:443",
            ),
            ("http://web_1", 8080, false, "web_1", "web_1:8080"),
            ("https://web", 443, true, "web", "web"),
            ("https://web", 80, true, "web", "web:80"),
            ("10.0.0.1", 81, false, "10.0.0.1", "10.0.0.1:81"),
            ("::1", 80, false, "::1", "[::1]"),
            ("[::1]", 8080, false, "::1", "[::1]:8080"),
            ("https://fd00::1", 443, true, "fd00::1", "[fd00::1]"),
            ("https://[fd00::1]", 1, true, "fd00::1", "[fd00::1]:1"),
            ("fe80::1%eth0", 80, false, "fe80::1%eth0", "[fe80::1]"),
        ] {
            let origin = Origin::parse(given, port).expect(given);
            assert_eq!(
                (origin.tls.is_some(), origin.host.as_str()),
                (https, host),
                "{given}"
            );
            assert_eq!(origin.authority, authority, "{given}");
        }
    }

    #[test]
    fn invalid_host_is_refused_by_name() {
        for (given, port) in [
            ("", 80),
            ("http://", 80),
            ("web", 0),
            ("HTTPS://web", 443),
            ("https://http://web", 443),
            ("web/path", 80),
            ("web:81", 80),
            ("user@web", 80),
            ("[web]", 80),
            ("[::1", 80),
            ("web?x", 80),
            ("wéb", 80),
        ] {
            let error = Origin::parse(given, port).expect_err(given).to_string();
            assert!(error.contains(&format!("{given:?}")), "{error}");
        }
    }
}
