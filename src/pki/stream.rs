//! A TLS stream whose ends are told apart: orderly (`close_notify`), cut off, or failed.
//!
//! An end without `close_notify` is an error (`UnexpectedEof`), unless the reader
//! [tolerates](SecureStream::tolerate_truncation) it, and only where the layer below ended in
//! order: a failure below is passed on as it is. All that was received before a failure is read
//! first; the TLS library alone would lose what came in the same read as the alert.
//!
//! What foreign clients do at their end (measured with TLS 1.3 over loopback). Each of them sends
//! RST in the place of FIN if it has not read everything, a ticket of TLS 1.3 included:
//!
//! | client | what it sends |
//! | --- | --- |
//! | Go 1.26 `tls.Conn.Close` | `close_notify`, then FIN |
//! | Go `tls.Conn.CloseWrite` | `close_notify`, and goes on reading |
//! | Go process that exits without `Close` | FIN alone |
//! | Node 20 `socket.end()` | `close_notify`, then FIN |
//! | Node `socket.destroy()`, or `process.exit` | FIN alone |
//! | curl, OpenSSL `s_client` at end of input | `close_notify`, then FIN |
//!
//! A server that ends without `close_notify` has ended in order for Go and Node, and for curl and
//! OpenSSL it has not; a fatal alert is an error for all of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::alert;

/// A TLS stream of the library, of either side.
pub trait Tls: AsyncBufRead + AsyncWrite + Unpin {
    /// Decrypted bytes that have not been read.
    fn plaintext(&mut self) -> &[u8];
    /// The state of the connection.
    fn state(&self) -> &CommonState;
    /// The same, to be changed.
    fn state_mut(&mut self) -> &mut CommonState;
}

macro_rules! impl_tls {
    ($stream:ty) => {
        impl<S: AsyncRead + AsyncWrite + Unpin> Tls for $stream {
            fn plaintext(&mut self) -> &[u8] {
                let reader = self.get_mut().1.reader();
                reader.into_first_chunk().unwrap_or_default()
            }

            fn state(&self) -> &CommonState {
                self.get_ref().1
            }

            fn state_mut(&mut self) -> &mut CommonState {
                self.get_mut().1
            }
        }
    };
}

impl_tls!(tokio_rustls::client::TlsStream<S>);
impl_tls!(tokio_rustls::server::TlsStream<S>);

/// Why a stream ended abnormally.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection was cut off before its end")]
    CutOff,
    #[error("the other side reports that the connection broke")]
    Reported,
}

/// See the module.
#[derive(Debug)]
pub struct SecureStream<T> {
    inner: Box<T>,
    tolerates_truncation: bool,
    /// What comes after the bytes that were received before it.
    failure: Option<io::Error>,
}

impl<T: Tls> SecureStream<T> {
    /// An end without `close_notify` is an error.
    pub fn new(inner: T) -> Self {
        Self {
            inner: Box::new(inner),
            tolerates_truncation: false,
            failure: None,
        }
    }

    /// An end without `close_notify` is an end like any other, if the layer below ended in order.
    pub fn tolerate_truncation(&mut self) {
        self.tolerates_truncation = true;
    }

    /// The library's stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The state of the connection.
    pub fn state(&self) -> &CommonState {
        self.inner.state()
    }

    /// Ends abnormally: sends what was written, then a fatal alert (unless this side had ended
    /// before), and shuts down the layer below. Gives up after `limit`. May be called again.
    pub async fn abort(&mut self, limit: Duration) {
        alert::send(self.inner.state_mut());
        let _ = tokio::time::timeout(limit, self.inner.shutdown()).await;
    }

    /// What `failure` is for the reader, once; later its kind alone is left.
    fn end(&mut self, failure: io::Error) -> io::Result<()> {
        let kind = failure.kind();
        self.failure = Some(kind.into());
        if kind == io::ErrorKind::UnexpectedEof {
            if self.tolerates_truncation {
                return Ok(());
            }
            return Err(io::Error::new(kind, Broken::CutOff));
        }
        let library = failure.get_ref().and_then(|e| e.downcast_ref());
        if let Some(rustls::Error::AlertReceived(_)) = library {
            return Err(io::Error::new(kind, Broken::Reported));
        }
        Err(failure)
    }
}

impl<T: Tls> AsyncBufRead for SecureStream<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.failure.is_none() {
            let filled = ready!(Pin::new(&mut *this.inner).poll_fill_buf(cx));
            if let Err(error) = filled.map(|_| ()) {
                this.failure = Some(error);
            }
        }
        if this.inner.plaintext().is_empty()
            && let Some(failure) = this.failure.take()
        {
            return Poll::Ready(this.end(failure).map(|()| &[][..]));
        }
        Poll::Ready(Ok(this.inner.plaintext()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut *self.get_mut().inner).consume(amount);
    }
}

impl<T: Tls> AsyncRead for SecureStream<T> {
    /// As many records as there are and fit.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            let has_some = buffer.filled().len() > before;
            let bytes = match self.as_mut().poll_fill_buf(cx) {
                Poll::Pending if has_some => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(bytes)) => bytes,
                Poll::Ready(Err(error)) if has_some => {
                    self.failure = Some(error);
                    break;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            };
            let amount = bytes.len().min(buffer.remaining());
            if amount == 0 {
                break;
            }
            buffer.put_slice(bytes.get(..amount).unwrap_or_default());
            self.as_mut().consume(amount);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Tls> AsyncWrite for SecureStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
    use rustls_pki_types::{PrivateKeyDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::SecureStream;
    use crate::pki::tls::provider;

    type Client = SecureStream<client::TlsStream<DuplexStream>>;
    type Server = SecureStream<server::TlsStream<DuplexStream>>;

    const SOON: Duration = Duration::from_secs(20);

    async fn pair(version: &'static SupportedProtocolVersion) -> (Client, Server) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("an anchor");
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        let name = ServerName::try_from("localhost").expect("a name");
        let (near, far) = duplex(1 << 20);
        let (client, server) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, near),
            TlsAcceptor::from(Arc::new(server)).accept(far)
        );
        (
            SecureStream::new(client.expect("TLS")),
            SecureStream::new(server.expect("TLS")),
        )
    }

    /// Also where the peer has ended its own side, after which the library reads nothing more.
    #[tokio::test]
    async fn an_abort_is_an_error_after_all_that_was_written() {
        for version in [&version::TLS12, &version::TLS13] {
            for is_half_closed in [false, true] {
                let (mut client, mut server) = pair(version).await;
                if is_half_closed {
                    client.shutdown().await.expect("our end");
                    assert_eq!(server.read(&mut [0]).await.expect("its end"), 0);
                }
                let sent = vec![7; 100_000];
                server.write_all(&sent).await.expect("written");
                server.abort(SOON).await;
                let mut received = Vec::new();
                let end = client.read_to_end(&mut received).await;
                let error = end.expect_err("an alert");
                assert!(error.to_string().contains("reports"), "{error}");
                assert_eq!(received, sent);
            }
        }
    }

    #[tokio::test]
    async fn an_end_without_close_notify_is_an_error_unless_tolerated() {
        for is_tolerated in [false, true] {
            let (mut client, mut server) = pair(&version::TLS13).await;
            if is_tolerated {
                client.tolerate_truncation();
            }
            server.write_all(b"some").await.expect("written");
            server.flush().await.expect("flushed");
            drop(server);
            let mut received = Vec::new();
            let end = client.read_to_end(&mut received).await;
            assert_eq!(received, b"some");
            match end {
                Ok(_) => assert!(is_tolerated),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                    assert!(!is_tolerated && !error.to_string().contains("http"));
                }
            }
        }
    }

    #[tokio::test]
    async fn after_its_own_end_a_side_sends_no_alert() {
        let (mut client, mut server) = pair(&version::TLS13).await;
        server.shutdown().await.expect("its end");
        server.abort(SOON).await;
        let mut nothing = Vec::new();
        client.read_to_end(&mut nothing).await.expect("an end");
        assert!(nothing.is_empty());
    }
}
