//! A client that is not ours: `tests/interop/go`, whose `crypto/tls` reads and writes pieces of 32
//! KiB.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use infisical_api::types::{ClientPki, SessionCredentials};
use infisical_runtime::names::TLS_PORT;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use crate::measure::Direction;
use crate::stack::write_secret;
use crate::within;

/// Limit for all streams to be open.
const OPEN: Duration = Duration::from_secs(15);
/// The program, and where it is built.
pub(crate) struct GoProgram {
    path: &'static Path,
    dir: TempDir,
}

impl GoProgram {
    /// Builds it. `None` if this machine has no Go.
    pub(crate) async fn build() -> anyhow::Result<Option<Arc<Self>>> {
        let built = tokio::task::spawn_blocking(infisical_test_support::go::program);
        let Some(path) = built.await? else {
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        Ok(Some(Arc::new(Self { path, dir })))
    }

    /// A client of the tunnel, TLS in TLS.
    pub(crate) fn tunnel(
        self: &Arc<Self>,
        credentials: &SessionCredentials,
    ) -> anyhow::Result<GoClient> {
        let leaf = |pki: &ClientPki| {
            json!({
                "certificate": pki.client_certificate,
                "key": pki.client_private_key.expose(),
            })
        };
        let way = json!({
            "relayLeaf": leaf(&credentials.relay),
            "relayAnchors": credentials.relay.server_certificate_chain,
            "gatewayLeaf": leaf(&credentials.gateway),
            "gatewayAnchors": credentials.gateway.server_certificate_chain,
        });
        let path = self.dir.path().join("way.json");
        write_secret(&path, &way.to_string())?;
        Ok(GoClient {
            program: Arc::clone(self),
            to: format!("{}:{TLS_PORT}", credentials.relay_host.as_str()),
            way: Some(path),
        })
    }

    /// A client of a port that a peer forwards, without TLS.
    pub(crate) fn plain(self: &Arc<Self>, address: SocketAddr) -> GoClient {
        GoClient {
            program: Arc::clone(self),
            to: address.to_string(),
            way: None,
        }
    }
}

/// A way to the target for the program.
#[derive(Clone)]
pub(crate) struct GoClient {
    program: Arc<GoProgram>,
    to: String,
    way: Option<PathBuf>,
}

impl GoClient {
    /// Starts a process of it and opens the streams; nothing moves yet.
    pub(crate) async fn open(
        &self,
        (streams, direction): (u64, Direction),
        bytes: u64,
    ) -> anyhow::Result<GoTransfer> {
        let mut command = Command::new(self.program.path);
        command.args(["transfer", "-to", &self.to]);
        command.args(["-streams", &streams.to_string()]);
        command.args(["-bytes", &bytes.to_string()]);
        if let Some(way) = &self.way {
            command.arg("-way").arg(way);
        }
        if direction == Direction::Upload {
            command.arg("-upload");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut transfer = GoTransfer {
            child,
            lines: BufReader::new(output).lines(),
        };
        let ready = within("the Go client", OPEN, transfer.lines.next_line()).await?;
        if ready.as_deref() != Some("ready") {
            bail!("the Go client said {ready:?}");
        }
        Ok(transfer)
    }
}

/// Streams that are open.
pub(crate) struct GoTransfer {
    child: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl GoTransfer {
    /// Moves the bytes; gives the seconds that it took.
    pub(crate) async fn run(mut self) -> anyhow::Result<f64> {
        let mut input = self.child.stdin.take().context("no input")?;
        input.write_all(b"go\n").await?;
        let line = self.lines.next_line().await?.unwrap_or_default();
        let seconds = line.strip_prefix("seconds ");
        let seconds = seconds.with_context(|| format!("the Go client said {line:?}"))?;
        Ok(seconds.parse()?)
    }
}
