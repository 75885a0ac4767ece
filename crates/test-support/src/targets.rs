//! Sample private services, each on the case's own loopback address; they end with the case.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::noise::{self, Sum};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The page that [`Target::http`] serves.
pub const PAGE: &str = "a private page\n";

/// A service that runs until dropped.
pub struct Target {
    pub address: SocketAddr,
    /// Connections taken so far.
    accepted: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Target {
    /// Hands each connection to `handle`.
    pub async fn serve<F, Fut>(host: Ipv4Addr, handle: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                counter.fetch_add(1, Ordering::SeqCst);
                let connection = handle(stream);
                connections.spawn(async move {
                    // A broken connection is the other side's to report.
                    let _ = connection.await;
                });
            }
        });
        Self {
            address,
            accepted,
            _task: task,
        }
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Sends back every byte, and the end after the end.
    pub async fn echo(host: Ipv4Addr) -> Self {
        Self::serve(host, |mut stream| async move {
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        })
        .await
    }

    /// Reads to the end, and only then says how many bytes came.
    pub async fn count(host: Ipv4Addr) -> Self {
        Self::serve(host, |mut stream| async move {
            let mut sink = tokio::io::sink();
            let (mut reader, mut writer) = stream.split();
            let count = tokio::io::copy(&mut reader, &mut sink).await?;
            writer.write_all(format!("{count}\n").as_bytes()).await?;
            writer.shutdown().await
        })
        .await
    }

    /// Says `message` and ends its own direction first, then reads to the end; what it read is
    /// handed to `told`.
    pub async fn end_first(
        host: Ipv4Addr,
        message: &'static str,
        told: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
    ) -> Self {
        Self::serve(host, move |mut stream| {
            let told = told.clone();
            async move {
                stream.write_all(message.as_bytes()).await?;
                stream.shutdown().await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                let _ = told.send(rest);
                Ok(())
            }
        })
        .await
    }

    /// Sends `mib` MiB of noise and reads to the end, both at once and neither waiting for the
    /// other; what it sent and what it read is handed to `told`.
    pub async fn exchange(
        host: Ipv4Addr,
        mib: usize,
        told: tokio::sync::mpsc::UnboundedSender<(Sum, Sum)>,
    ) -> Self {
        Self::serve(host, move |stream| {
            let told = told.clone();
            async move {
                let (reader, writer) = stream.into_split();
                let both = tokio::try_join!(noise::send(writer, 2, mib), noise::receive(reader))?;
                let _ = told.send(both);
                Ok(())
            }
        })
        .await
    }

    /// One page for every request (HTTP/1.1, connection closed after it), whose headers come back
    /// below it.
    pub async fn http(host: Ipv4Addr) -> Self {
        Self::serve(host, |mut stream| async move {
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut chunk).await? {
                    0 => return Ok(()),
                    n => request.extend_from_slice(&chunk[..n]),
                }
            }
            let body = format!("{PAGE}{}", String::from_utf8_lossy(&request));
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await
        })
        .await
    }

    /// Takes connections and never says nor reads anything.
    pub async fn hang(host: Ipv4Addr) -> Self {
        Self::serve(host, |stream| async move {
            let _stream = stream;
            std::future::pending().await
        })
        .await
    }

    /// Resets every connection once it has read one byte.
    pub async fn reset(host: Ipv4Addr) -> Self {
        Self::serve(host, |mut stream| async move {
            stream.read_u8().await?;
            // Closing with a zero linger time sends RST instead of FIN.
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
            drop(stream);
            Ok(())
        })
        .await
    }

    /// A port of `host` on which no one listens; no one else uses that address.
    pub fn refusing(host: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((host, 9))
    }
}
