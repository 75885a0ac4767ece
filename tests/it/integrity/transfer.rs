//! Transfers that are cut in the middle: services that send or take a known number of bytes and
//! never end, and clients that tell what they had of them.

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::support::process::{Process, infisical};
use crate::support::stack::{GATEWAY, Stack};
use crate::support::targets::Target;
use crate::support::{eventually, soon};

/// Bytes of a transfer before it is cut; more than fits into one record or packet.
pub(super) const BYTES: usize = 300_000;
/// Bytes of a line of it, with its end.
const LINE: usize = 10;

/// What a reader saw of the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Orderly,
    Reset,
    Other(String),
}

/// What a reader had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: usize,
    pub(super) end: End,
}

impl Received {
    /// All of the transfer so far, and then a reset.
    pub(super) fn cut() -> Self {
        Self {
            bytes: BYTES,
            end: End::Reset,
        }
    }
}

/// The bytes of a transfer, in lines.
pub(super) fn bytes() -> Vec<u8> {
    let lines = (0..BYTES / LINE).map(|number| format!("{number:09}\n"));
    lines.collect::<String>().into_bytes()
}

/// Reads to the end, whatever it is.
pub(super) async fn receive(mut reader: impl AsyncRead + Unpin, count: &AtomicUsize) -> Received {
    let mut buffer = vec![0; 16 * 1024];
    let mut bytes = 0;
    let end = loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break End::Orderly,
            Ok(n) => {
                bytes += n;
                count.fetch_add(n, Ordering::SeqCst);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(error) => break End::Other(error.to_string()),
        }
    };
    Received { bytes, end }
}

/// Waits until `count` has come to so many bytes.
pub(super) async fn counted(what: &str, count: &AtomicUsize, bytes: usize) {
    eventually(what, || async {
        let now = count.load(Ordering::SeqCst);
        if now >= bytes {
            Ok(())
        } else {
            Err(format!("{now} of {bytes} bytes"))
        }
    })
    .await;
}

/// Two services: one sends [`BYTES`] and no end, one takes what comes.
pub(super) struct Services {
    pub(super) source: Target,
    pub(super) sink: Target,
    /// What all connections of the sink have received so far.
    pub(super) taken: Arc<AtomicUsize>,
    /// What each of them received, once it has ended.
    pub(super) ended: mpsc::UnboundedReceiver<Received>,
    reset: watch::Sender<bool>,
}

impl Services {
    pub(super) async fn start(host: std::net::Ipv4Addr) -> Self {
        let (reset, _) = watch::channel(false);
        let cut = reset.clone();
        let source = Target::serve(host, move |mut stream| {
            let mut cut = cut.subscribe();
            async move {
                stream.write_all(&bytes()).await?;
                infisical_runtime::net::reset::delivered(&stream).await;
                let _ = cut.wait_for(|cut| *cut).await;
                reset_now(&stream);
                Ok(())
            }
        })
        .await;
        let taken = Arc::new(AtomicUsize::new(0));
        let (told, ended) = mpsc::unbounded_channel();
        let (count, cut) = (Arc::clone(&taken), reset.clone());
        let sink = Target::serve(host, move |mut stream| {
            let (told, count) = (told.clone(), Arc::clone(&count));
            let mut cut = cut.subscribe();
            async move {
                tokio::select! {
                    received = receive(&mut stream, &count) => {
                        let _ = told.send(received);
                    }
                    _ = cut.wait_for(|cut| *cut) => reset_now(&stream),
                }
                Ok(())
            }
        })
        .await;
        Self {
            source,
            sink,
            taken,
            ended,
            reset,
        }
    }

    /// Resets every connection.
    pub(super) fn reset(&self) {
        self.reset.send_replace(true);
    }

    /// What the sink's next connection that ends had received.
    pub(super) async fn next_end(&mut self) -> Received {
        let ended = soon("the end of an upload", self.ended.recv()).await;
        ended.expect("the services live")
    }
}

/// Closing it from now on resets it.
pub(super) fn reset_now(stream: &TcpStream) {
    let linger = Some(Duration::ZERO);
    let _ = socket2::SockRef::from(stream).set_linger(linger);
}

/// `infisical connect --stdio` to `target`.
pub(super) fn connect_stdio(stack: &Stack, target: &str) -> Process {
    let mut command = infisical(stack.dir());
    command.args(["connect", GATEWAY, "--to", target, "--stdio"]);
    command.args(["--domain", &stack.platform.url]);
    command.arg("--token-file").arg(stack.platform.token_file());
    Process::spawn("connect --stdio", command)
}

/// What the one task of `tasks` gave.
pub(super) async fn joined(what: &str, tasks: &mut JoinSet<Received>) -> Received {
    let joined = soon(what, tasks.join_next()).await;
    joined.expect("a task").expect("no panic")
}

/// Bytes that such a process has written.
pub(super) fn printed(process: &Process) -> usize {
    process.stdout().lines().count() * LINE
}

/// The four transfers that can be cut: each direction, through a local port and through standard
/// input and output.
pub(super) struct Transfers {
    pub(super) services: Services,
    /// A download through a local port; what it received, once it has ended.
    pub(super) download: JoinSet<Received>,
    /// An upload through a local port, as its sender sees the end.
    pub(super) upload: JoinSet<Received>,
    pub(super) stdio_download: Process,
    pub(super) stdio_upload: Process,
    /// The two that listen.
    pub(super) forwarders: Vec<Process>,
}

impl Transfers {
    /// Starts them, and waits until every byte has arrived and none of them has ended.
    pub(super) async fn start(stack: &Stack) -> Self {
        let services = Services::start(stack.host).await;
        let (source, sink) = (
            services.source.address.to_string(),
            services.sink.address.to_string(),
        );
        let (down, address) = stack.connect(&source).await;
        let stream = TcpStream::connect(address).await.expect("the local port");
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let mut download = JoinSet::new();
        download.spawn(async move { receive(stream, &counter).await });
        counted("the download", &count, BYTES).await;

        let (up, address) = stack.connect(&sink).await;
        let mut stream = TcpStream::connect(address).await.expect("the local port");
        let mut upload = JoinSet::new();
        upload.spawn(async move {
            stream.write_all(&bytes()).await.expect("taken");
            receive(stream, &AtomicUsize::new(0)).await
        });
        let mut stdio_upload = connect_stdio(stack, &sink);
        let mut input = stdio_upload.take_stdin();
        let feeding = tokio::task::spawn_blocking(move || {
            input.write_all(&bytes()).expect("taken");
            input
        });
        // Open until the process has ended.
        let input = soon("the input", feeding).await.expect("no panic");
        std::mem::forget(input);
        counted("both uploads", &services.taken, 2 * BYTES).await;
        let stdio_download = connect_stdio(stack, &source);
        eventually("the output", || async {
            let bytes = printed(&stdio_download);
            if bytes == BYTES {
                Ok(())
            } else {
                Err(format!("{bytes} bytes"))
            }
        })
        .await;
        Self {
            services,
            download,
            upload,
            stdio_download,
            stdio_upload,
            forwarders: vec![down, up],
        }
    }
}
