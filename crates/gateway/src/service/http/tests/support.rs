//! A client, targets, and HTTP messages as raw as they are on the wire.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    DuplexStream,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::{Cluster, Deadlines, Error, Request, serve_within};
use crate::audit::Audit;
use crate::config::targets::TargetPolicy;
use crate::pki::extensions::{Actor, Route};
use crate::scope::Scope;
use crate::targets::{TargetAccess, Targets};

/// Long enough for the slowest machine; reached only by a defect.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not happen"),
    }
}

/// A request or an answer.
#[derive(Debug)]
pub(super) struct Message {
    /// Start line and headers, without the empty line.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn start_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn status(&self) -> u16 {
        let code = self.start_line().split(' ').nth(1).unwrap_or_default();
        code.parse().expect("a status")
    }

    /// All values of a header, in order.
    pub(super) fn headers(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The message of our own JSON answers.
    pub(super) fn json(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(
            self.text().starts_with("{\"message\": \"gateway: "),
            "{}",
            self.text()
        );
        let value: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        value["message"].as_str().expect("a message").to_owned()
    }
}

/// Reads a head; `None` where the stream ends first.
pub(super) async fn read_head<R>(reader: &mut BufReader<R>) -> Option<String>
where
    R: AsyncRead + Unpin,
{
    let mut head = Vec::new();
    loop {
        let from = head.len();
        if reader.read_until(b'\n', &mut head).await.ok()? == 0 {
            return None;
        }
        if &head[from..] == b"\r\n" {
            head.truncate(from);
            return Some(String::from_utf8(head).expect("a head in UTF-8"));
        }
    }
}

/// Reads the body that `head` announces; `Err` holds what came before the stream ended too early.
pub(super) async fn read_body<R>(reader: &mut BufReader<R>, head: &str) -> Result<Vec<u8>, Vec<u8>>
where
    R: AsyncRead + Unpin,
{
    let mut message = Message {
        head: head.to_owned(),
        body: Vec::new(),
    };
    if let Some(length) = message.header("content-length") {
        let length: u64 = length.parse().expect("a length");
        let mut body = Vec::new();
        reader
            .take(length)
            .read_to_end(&mut body)
            .await
            .expect("the body");
        return if body.len() as u64 == length {
            Ok(body)
        } else {
            Err(body)
        };
    }
    if message.header("transfer-encoding") != Some("chunked") {
        return Ok(message.body);
    }
    loop {
        let mut size = String::new();
        if reader.read_line(&mut size).await.unwrap_or(0) == 0 {
            return Err(message.body);
        }
        let size = u64::from_str_radix(size.trim(), 16).expect("a chunk size");
        if size == 0 {
            // The trailers and the empty line.
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).await.expect("a trailer");
                if line == "\r\n" || line.is_empty() {
                    return Ok(message.body);
                }
            }
        }
        let before = message.body.len() as u64;
        reader
            .take(size)
            .read_to_end(&mut message.body)
            .await
            .expect("a chunk");
        if message.body.len() as u64 != before + size {
            return Err(message.body);
        }
        let mut end = String::new();
        reader.read_line(&mut end).await.expect("a chunk's end");
    }
}

/// The client's side of a connection that is being served.
pub(super) struct Client {
    pub(super) stream: BufReader<DuplexStream>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// How to serve a connection.
pub(super) struct Setup {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) actor: Option<&'static str>,
    pub(super) cluster: Cluster,
    pub(super) policy: Arc<TargetPolicy>,
    pub(super) deadlines: Deadlines,
    /// Bytes that fit between client and service.
    pub(super) pipe: usize,
}

impl Setup {
    pub(super) fn to(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            actor: Some("user"),
            cluster: Cluster {
                token: Path::new("/nonexistent/token").to_owned(),
                ca: Path::new("/nonexistent/ca.crt").to_owned(),
                api: None,
            },
            policy: Arc::default(),
            deadlines: Deadlines::DEFAULT,
            pipe: 64 * 1024,
        }
    }

    pub(super) fn serve(self, scope: &Scope) -> Client {
        let (ours, theirs) = tokio::io::duplex(self.pipe);
        let (sent, ended) = oneshot::channel();
        let serving = scope.clone();
        scope.spawn("serve", async move {
            let route = Route {
                target_host: self.host,
                target_port: self.port,
                target_addresses: Vec::new(),
            };
            let actor = self.actor.map(|kind| Actor {
                kind: kind.to_owned(),
                id: None,
                name: None,
            });
            let gateway = "5f0c7f3e-0000-4000-8000-000000000001".parse();
            let record = Audit::default().begin(&gateway.expect("an id"));
            let targets = Targets::new(watch::channel(self.policy).1);
            let request = Request {
                route: &route,
                actor: actor.as_ref(),
                access: &TargetAccess::new(&targets, record.session(), &[]),
            };
            let result =
                serve_within(theirs, request, &self.cluster, &serving, &self.deadlines).await;
            let _ = sent.send(result);
        });
        Client {
            stream: BufReader::new(ours),
            ended,
        }
    }

    /// Serves, and sends an empty configuration line.
    pub(super) async fn serve_plain(self, scope: &Scope) -> Client {
        let mut client = self.serve(scope);
        client.send("\n").await;
        client
    }
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        soon("sending", self.stream.write_all(text.as_bytes()))
            .await
            .expect("the service reads");
    }

    /// The next answer to a request that is not HEAD.
    pub(super) async fn answer(&mut self) -> Message {
        soon("an answer", async {
            let head = read_head(&mut self.stream).await.expect("an answer");
            let body = read_body(&mut self.stream, &head)
                .await
                .expect("a whole body");
            Message { head, body }
        })
        .await
    }

    /// The next answer, of which only a head is expected.
    pub(super) async fn head(&mut self) -> Message {
        let head = soon("an answer", read_head(&mut self.stream)).await;
        Message {
            head: head.expect("an answer"),
            body: Vec::new(),
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: client\r\n\r\n"))
            .await;
        self.answer().await
    }

    /// Ends the client's side and expects the service to end without another byte.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        self.stream.shutdown().await.expect("half-close");
        let mut rest = Vec::new();
        soon("the end", self.stream.read_to_end(&mut rest))
            .await
            .expect("the end");
        assert_eq!(String::from_utf8_lossy(&rest), "");
        self.ended().await
    }

    /// How the service ended. Nothing of it is left.
    pub(super) async fn ended(self) -> Result<(), Error> {
        soon("the service's end", self.ended)
            .await
            .expect("the service did not panic")
    }
}

/// What a target saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// The how-manieth connection, from 0.
    pub(super) connection: usize,
    pub(super) request: Message,
}

/// A target that records requests and answers them.
pub(super) struct TestTarget {
    pub(super) port: u16,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl TestTarget {
    pub(super) async fn seen(&mut self) -> Seen {
        soon("a request at the target", self.seen.recv())
            .await
            .expect("the target runs")
    }

    pub(super) fn saw_nothing_more(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }
}

pub(super) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A target that answers each request with what `reply` makes of it, byte for byte. It closes the
/// connection after an answer with `Connection: close`, and after an empty one.
pub(super) async fn target<F>(scope: &Scope, reply: F) -> TestTarget
where
    F: Fn(&Seen) -> String + Send + Sync + 'static,
{
    let (listener, port) = listen().await;
    target_on(scope, listener, port, None, reply)
}

/// The same on a given listener, with TLS or without.
pub(super) fn target_on<F>(
    scope: &Scope,
    listener: TcpListener,
    port: u16,
    tls: Option<tokio_rustls::TlsAcceptor>,
    reply: F,
) -> TestTarget
where
    F: Fn(&Seen) -> String + Send + Sync + 'static,
{
    let (sender, seen) = mpsc::unbounded_channel();
    let reply = Arc::new(reply);
    let tasks = scope.clone();
    scope.spawn("test target", async move {
        for connection in 0.. {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let (tls, sender, reply) = (tls.clone(), sender.clone(), Arc::clone(&reply));
            tasks.spawn("test target connection", async move {
                match tls {
                    None => converse(tcp, connection, &sender, &*reply).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(tcp).await {
                            converse(stream, connection, &sender, &*reply).await;
                        }
                    }
                }
            });
        }
    });
    TestTarget { port, seen }
}

async fn converse<S, F>(
    stream: S,
    connection: usize,
    sender: &mpsc::UnboundedSender<Seen>,
    reply: &F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&Seen) -> String,
{
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await {
        let Ok(body) = read_body(&mut stream, &head).await else {
            return;
        };
        let seen = Seen {
            connection,
            request: Message { head, body },
        };
        let answer = reply(&seen);
        let _ = sender.send(seen);
        let closes = answer.is_empty() || answer.to_ascii_lowercase().contains("connection: close");
        if stream.write_all(answer.as_bytes()).await.is_err() || closes {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// A plain answer.
pub(super) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
