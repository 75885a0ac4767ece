//! The round trip: a page and a checksum, fetched through relay and gateway by `infisical connect`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Error;
use super::console::Console;
use super::sample::Sample;
use super::stack::{ClientAccess, Stack};

/// Bytes sent to the echo.
const ECHO_BYTES: usize = 8 * 1024 * 1024;
/// Bytes written or read at once.
const CHUNK: usize = 64 * 1024;
/// Limit for one transfer.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(60);

pub(super) async fn run(
    stack: &mut Stack,
    access: &ClientAccess,
    sample: Sample,
    console: &mut Console,
) -> Result<(), Error> {
    let since = Instant::now();
    let page = stack.connect(access, "connect-page", sample.page).await?;
    let line = within("page", fetch_first_line(page)).await?;
    console.done("page", format_args!("“{line}”"), since);

    let echo = stack.connect(access, "connect-echo", sample.echo).await?;
    let since = Instant::now();
    let (sent, received) = within("echo", send_and_receive(echo)).await?;
    if sent != received {
        return Err(Error::Differs { sent, received });
    }
    let size = ECHO_BYTES / (1024 * 1024);
    console.done("echo", format_args!("{size} MiB there and back"), since);
    console.remark(format_args!("sent      SHA-256 {sent}"));
    console.remark(format_args!("received  SHA-256 {received}"));
    Ok(())
}

async fn within<T>(
    what: &'static str,
    transfer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(TRANSFER_DEADLINE, transfer)
        .await
        .unwrap_or(Err(Error::Slow {
            what,
            after: TRANSFER_DEADLINE,
        }))
}

async fn fetch_first_line(address: SocketAddr) -> Result<String, Error> {
    let fetch = async {
        // A proxy of the environment knows nothing of our loopback.
        // The page is plain HTTP; a machine without any root certificates has it too.
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let client = client.build()?;
        let response = client.get(format!("http://{address}/")).send().await?;
        response.error_for_status()?.text().await
    };
    let text = fetch.await.map_err(Error::Page)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Sends random bytes, then the end, and reads to the end; gives both checksums.
async fn send_and_receive(address: SocketAddr) -> Result<(String, String), Error> {
    let mut stream = TcpStream::connect(address).await.map_err(Error::Echo)?;
    let (mut from, mut to) = stream.split();
    let send = async {
        let mut sum = Context::new(&SHA256);
        let mut chunk = vec![0; CHUNK];
        for _ in 0..ECHO_BYTES / CHUNK {
            getrandom::fill(&mut chunk).map_err(std::io::Error::other)?;
            sum.update(&chunk);
            to.write_all(&chunk).await?;
        }
        to.shutdown().await?;
        Ok(hex(sum))
    };
    let receive = async {
        let mut sum = Context::new(&SHA256);
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk).await? {
                0 => return Ok(hex(sum)),
                n => sum.update(chunk.get(..n).unwrap_or_default()),
            }
        }
    };
    tokio::try_join!(send, receive).map_err(Error::Echo)
}

fn hex(sum: Context) -> String {
    let mut text = String::new();
    for byte in sum.finish().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
