//! A TLS stream that distinguishes its ends: orderly (`close_notify`), cut off, or failed.
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

use rustls::CommonState;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::alert;
use crate::net::progress::{LOOK_AGAIN, Progress, ProgressTimeout};

/// A TLS stream of the library, of either side.
pub trait Tls: AsyncBufRead + AsyncWrite + Progress + Unpin {
    /// Decrypted bytes that have not been read.
    fn plaintext(&mut self) -> &[u8];
    /// The state of the connection.
    fn state(&self) -> &CommonState;
    /// The same, to be changed.
    fn state_mut(&mut self) -> &mut CommonState;
    /// Encrypts bytes without sending them; how many, which is none if 64 KiB wait already.
    fn hold(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! impl_tls {
    ($stream:ty) => {
        impl<S: AsyncRead + AsyncWrite + Progress + Unpin> Tls for $stream {
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

            fn hold(&mut self, bytes: &[u8]) -> io::Result<usize> {
                io::Write::write(&mut self.get_mut().1.writer(), bytes)
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
    batches: bool,
    /// What comes after the bytes that were received before it.
    failure: Option<io::Error>,
}

impl<T: Tls> SecureStream<T> {
    /// An end without `close_notify` is an error.
    pub fn new(inner: T) -> Self {
        Self {
            inner: Box::new(inner),
            tolerates_truncation: false,
            batches: false,
            failure: None,
        }
    }

    /// When the certificate expires that the other side has shown, if it has shown one.
    pub fn peer_certificate_expires(&self) -> Option<std::time::SystemTime> {
        let shown = self.inner.state().peer_certificates()?;
        super::expires_der(shown.first()?)
    }

    /// An end without `close_notify` is an end like any other, if the layer below ended in order.
    pub fn tolerate_truncation(&mut self) {
        self.tolerates_truncation = true;
    }

    /// From now on what is written waits, up to 64 KiB of it, until there is more or it is flushed:
    /// each write to the layer below costs as much for a few bytes as for many.
    pub fn batch_writes(&mut self) {
        self.batches = true;
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
    /// before), and shuts down the layer below. Gives up when the peer's [time](ProgressTimeout) to
    /// take it is over. May be called again.
    pub async fn abort(&mut self) {
        self.abort_within(&mut ProgressTimeout::new()).await;
    }

    /// The same with a time that has begun.
    pub async fn abort_within(&mut self, timeout: &mut ProgressTimeout) {
        alert::send(self.inner.state_mut());
        while !timeout.is_over(self.inner.progress()) {
            let shutdown = tokio::time::timeout(LOOK_AGAIN, self.inner.shutdown());
            if shutdown.await.is_ok() {
                return;
            }
        }
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

impl<T: Tls> Progress for SecureStream<T> {
    fn progress(&self) -> u64 {
        self.inner.progress()
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.batches {
            let mut held = self.inner.hold(bytes)?;
            if held == 0 {
                ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
                held = self.inner.hold(bytes)?;
            }
            if held > 0 {
                return Poll::Ready(Ok(held));
            }
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.batches {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, ready};

    use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
    use rustls_pki_types::{PrivateKeyDer, ServerName};
    use tokio::io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
    };
    use tokio::time::{Instant, Sleep, sleep};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::SecureStream;
    use crate::net::pooled_buf_reader::BUFFER;
    use crate::net::progress::{DELIVERY, DELIVERY_AT_MOST, LOOK_AGAIN, Progress};
    use crate::tls::provider;

    type Client = SecureStream<client::TlsStream<DuplexStream>>;
    type Server<S> = SecureStream<server::TlsStream<S>>;

    async fn pair(version: &'static SupportedProtocolVersion) -> (Client, Server<DuplexStream>) {
        let (near, far) = duplex(1 << 20);
        pair_over(version, near, far).await
    }

    async fn pair_over<S>(
        version: &'static SupportedProtocolVersion,
        near: DuplexStream,
        far: S,
    ) -> (Client, Server<S>)
    where
        S: AsyncRead + AsyncWrite + Progress + Unpin,
    {
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
    async fn abort_follows_all_that_was_written() {
        for version in [&version::TLS12, &version::TLS13] {
            for is_half_closed in [false, true] {
                let (mut client, mut server) = pair(version).await;
                if is_half_closed {
                    client.shutdown().await.expect("our end");
                    assert_eq!(server.read(&mut [0]).await.expect("its end"), 0);
                }
                let sent = vec![7; 100_000];
                server.write_all(&sent).await.expect("written");
                server.abort().await;
                let mut received = Vec::new();
                let end = client.read_to_end(&mut received).await;
                let error = end.expect_err("an alert");
                assert!(error.to_string().contains("reports"), "{error}");
                assert_eq!(received, sent);
            }
        }
    }

    /// Takes some bytes, and then none for a while, once it is slow.
    struct Slow {
        stream: DuplexStream,
        is_slow: Arc<AtomicBool>,
        /// Bytes that it takes at once.
        step: usize,
        pause: Pin<Box<Sleep>>,
        taken: u64,
    }

    impl Progress for Slow {
        fn progress(&self) -> u64 {
            self.taken
        }
    }

    impl AsyncRead for Slow {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            mut bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_slow.load(Ordering::SeqCst) {
                if self.step == 0 {
                    return Poll::Pending;
                }
                ready!(self.pause.as_mut().poll(cx));
                self.pause.as_mut().reset(Instant::now() + DELIVERY * 4 / 5);
                bytes = &bytes[..bytes.len().min(self.step)];
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            self.taken += written as u64;
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// Bytes that TLS takes although the layer below takes none.
    const HELD: usize = 60_000;

    /// A layer below that takes everything at once, and counts it.
    fn counting(stream: DuplexStream) -> Slow {
        Slow {
            stream,
            is_slow: Arc::default(),
            step: 0,
            pause: Box::pin(sleep(DELIVERY)),
            taken: 0,
        }
    }

    #[tokio::test]
    async fn batched_writes_wait_for_a_flush() {
        const ALL: usize = 200_000;
        for version in [&version::TLS12, &version::TLS13] {
            let (near, far) = duplex(1 << 20);
            let (mut client, mut server) = pair_over(version, near, counting(far)).await;
            server.flush().await.expect("the handshake's end");
            server.batch_writes();
            let before = server.progress();
            server.write_all(&[7; 1000]).await.expect("taken");
            assert_eq!(server.progress(), before, "it waits");
            server.flush().await.expect("sent");
            assert!(server.progress() > before + 1000);
            let before = server.progress();
            server.write_all(&[7; ALL]).await.expect("taken");
            let sent = usize::try_from(server.progress() - before).expect("fits");
            assert!((ALL - 64 * 1024..ALL).contains(&sent), "{sent}");
            server.shutdown().await.expect("the end");
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.expect("all of it");
            assert_eq!(received, [7; 1000 + ALL]);
        }
    }

    #[tokio::test]
    async fn copied_write_fits_into_one_packet() {
        for version in [&version::TLS12, &version::TLS13] {
            let (near, far) = duplex(1 << 20);
            let (_client, mut server) = pair_over(version, near, counting(far)).await;
            let before = server.progress();
            server.write_all(&[7; BUFFER]).await.expect("taken");
            server.flush().await.expect("taken");
            let bytes = server.progress() - before;
            assert!(
                (32_000..=32 * 1024).contains(&bytes),
                "{bytes} with {version:?}"
            );
        }
    }

    /// Ends a stream abnormally that holds [`HELD`] bytes, of which the layer below takes `step` at
    /// a time. Gives how long that took, and what the client read, up to its failure.
    async fn abort_slowly(step: usize) -> (std::time::Duration, Vec<u8>, String) {
        let (near, far) = duplex(1 << 20);
        let is_slow = Arc::new(AtomicBool::new(false));
        let slow = Slow {
            stream: far,
            is_slow: Arc::clone(&is_slow),
            step,
            pause: Box::pin(sleep(DELIVERY * 4 / 5)),
            taken: 0,
        };
        let (mut client, mut server) = pair_over(&version::TLS13, near, slow).await;
        is_slow.store(true, Ordering::SeqCst);
        server.write_all(&[7; HELD]).await.expect("taken");
        let begin = Instant::now();
        server.abort().await;
        let took = begin.elapsed();
        drop(server);
        let mut received = Vec::new();
        let end = client.read_to_end(&mut received).await;
        let error = end.expect_err("not an orderly end").to_string();
        (took, received, error)
    }

    #[tokio::test(start_paused = true)]
    async fn abort_waits_for_a_slow_peer() {
        let (took, received, error) = abort_slowly(4096).await;
        assert!(took > DELIVERY * 2, "{took:?}");
        assert_eq!(received, [7; HELD]);
        assert!(error.contains("reports"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn abort_does_not_wait_beyond_its_bound() {
        let (took, received, error) = abort_slowly(16).await;
        assert!(
            (DELIVERY_AT_MOST..=DELIVERY_AT_MOST + LOOK_AGAIN).contains(&took),
            "{took:?}"
        );
        assert!(received.is_empty() && error.contains("cut off"), "{error}");
        // And one that takes nothing has less time.
        let (took, _, error) = abort_slowly(0).await;
        assert!(
            (DELIVERY..=DELIVERY + LOOK_AGAIN).contains(&took),
            "{took:?}"
        );
        assert!(error.contains("cut off"), "{error}");
    }

    #[tokio::test]
    async fn missing_close_notify_is_error_unless_tolerated() {
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
    async fn no_alert_follows_the_own_end() {
        let (mut client, mut server) = pair(&version::TLS13).await;
        server.shutdown().await.expect("its end");
        server.abort().await;
        let mut nothing = Vec::new();
        client.read_to_end(&mut nothing).await.expect("an end");
        assert!(nothing.is_empty());
    }
}
