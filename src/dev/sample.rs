//! Two private services to reach: a page over HTTP, and a TCP service that sends back what it gets.
//!
//! Both listen on loopback only, on ports that the kernel chooses.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpStream;

use crate::error::chain;
use crate::net::accept::Acceptor;
use crate::net::listen;
use crate::scope::Scope;

/// Connections of the echo at once.
const MAX_ECHOES: usize = 256;
/// What the page says; its first line is shown by the check.
const PAGE: &str = "Hello from a private service behind your gateway.\n\
    Nothing listens for this page outside this machine: the request came through relay and gateway.\n";

/// The services could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// The kernel does not say which port.
    #[error("cannot tell the address of a sample service")]
    Address(#[source] std::io::Error),
}

/// Where the sample services are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// The page.
    pub(super) page: SocketAddr,
    /// The echo.
    pub(super) echo: SocketAddr,
}

/// Starts both; they end with `scope`.
pub(super) fn start(scope: &Scope) -> Result<Sample, Error> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let page = listen::bind(Some(any), 0)?;
    let mut echo = Acceptor::new(listen::bind(Some(any), 0)?, MAX_ECHOES);
    let sample = Sample {
        page: page.local_addr().map_err(Error::Address)?,
        echo: echo.local_addr().map_err(Error::Address)?,
    };
    let stop = scope.clone();
    scope.spawn_essential("page", async move {
        let router = Router::new().route("/", get(|| async { PAGE }));
        let serve = axum::serve(page, router).into_future();
        if let Some(Err(error)) = stop.run(serve).await {
            tracing::error!(error = %chain(&error), "the sample page ended");
        }
    });
    let stop = scope.clone();
    scope.spawn_essential("echo", async move {
        loop {
            match stop.run(echo.accept()).await {
                Some(Ok(accepted)) => {
                    let until = stop.clone();
                    stop.spawn("echo connection", async move {
                        let _permit = accepted.permit;
                        until.run(send_back(accepted.stream)).await;
                    });
                }
                Some(Err(error)) => {
                    tracing::error!(error = %chain(&error), "the sample echo ended");
                    break;
                }
                None => break,
            }
        }
    });
    Ok(sample)
}

async fn send_back(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let sent = tokio::io::copy(&mut from, &mut to).await;
    // The end is sent back, too, once everything else was.
    let ended = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    if let Err(error) = sent.and(ended) {
        tracing::debug!(%error, "an echo broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, start};
    use crate::scope::Scope;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn ask(address: std::net::SocketAddr, question: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(question.as_bytes()).await.expect("asked");
        stream.shutdown().await.expect("half-closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn the_page_answers_and_the_echo_honours_half_close() {
        let scope = Scope::new("test");
        let sample = start(&scope).expect("started");
        assert_eq!(ask(sample.echo, "hello").await, "hello");
        let request = "GET / HTTP/1.1\r\nHost: sample\r\nConnection: close\r\n\r\n";
        let answer = ask(sample.page, request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(PAGE), "{answer}");
        scope.cancel();
        assert!(scope.finish(Duration::from_secs(10)).await);
    }
}
