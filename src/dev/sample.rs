//! Two private services to reach: a page over HTTP, and a TCP service that sends back what it gets.
//!
//! Both listen on loopback only, on ports that the kernel chooses.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::chain;
use crate::net::accept::Acceptor;
use crate::net::listen;
use crate::scope::Scope;

/// Connections of each service at once.
const MAX_CONNECTIONS: usize = 256;
/// What the page says; its first line is shown by the check.
const PAGE: &str = "Hello from a private service behind your gateway.\n\
    Nothing listens for this page outside this machine: the request came through relay and gateway.\n";

/// The services could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Listen(#[from] listen::Error),
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
    Ok(Sample {
        page: serve(scope, "page", show_page)?,
        echo: serve(scope, "echo", send_back)?,
    })
}

/// Serves each connection with `handle`, and returns where.
fn serve<F>(
    scope: &Scope,
    service: &'static str,
    handle: impl Fn(TcpStream) -> F + Send + 'static,
) -> Result<SocketAddr, Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut acceptor = Acceptor::new(listen::bind(Some(any), 0)?, MAX_CONNECTIONS);
    let address = acceptor.local_addr().map_err(Error::Address)?;
    let stop = scope.clone();
    scope.spawn_essential(service, async move {
        while let Some(accepted) = stop.run(acceptor.accept()).await {
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(error = %chain(&error), service, "sample service ended");
                    break;
                }
            };
            let (until, handled) = (stop.clone(), handle(accepted.stream));
            stop.spawn("sample connection", async move {
                let _permit = accepted.permit;
                until.run(handled).await;
            });
        }
    });
    Ok(address)
}

async fn show_page(stream: TcpStream) {
    let page = service_fn(|_| async { Ok::<_, Infallible>(Response::new(PAGE.to_owned())) });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), page);
    if let Err(error) = served.await {
        tracing::debug!(error = %chain(&error), "a request of the page broke off");
    }
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
    async fn page_answers_and_echo_half_closes() {
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
