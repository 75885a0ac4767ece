//! The first line of an `infisical-http-proxy` connection: how TLS to the target is verified
//! (protocol.md §5).
//!
//! White-space separated words up to the first `\n`: `ca=` with base64 of PEM certificates, and
//! `verify=true` or `verify=false`. Any other word is ignored, and so is an empty line. The last of
//! several equal words counts. Bytes after the line stay in the reader: they are HTTP.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::trust::Roots;
use crate::pki;

/// Longest line, its end included: a bundle of a dozen certificates fits.
pub const MAX_LINE: usize = 64 * 1024;

/// What the line says.
#[derive(Debug, Default)]
pub struct ConfigLine {
    /// The only roots that may vouch for an https target; the system's where absent.
    pub roots: Option<Roots>,
    /// Whether an https target's certificate is verified. Absent means no, as deployed.
    pub verify: bool,
}

/// Why the line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client left, or did not end its line.
    #[error("the connection ended before the end of the configuration line")]
    Unfinished,
    /// More than [`MAX_LINE`] bytes without a line end.
    #[error("the configuration line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The client did not send its line in time.
    #[error("no configuration line within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection failed.
    #[error("the connection failed before the end of the configuration line")]
    Io(#[source] io::Error),
    /// The word `ca=` is not base64.
    #[error("the word ca= of the configuration line is not base64")]
    CaEncoding(#[source] base64::DecodeError),
    /// The word `ca=` holds no usable certificate.
    #[error("the word ca= of the configuration line is not usable")]
    Ca(#[source] pki::Error),
    /// The word `verify=` is neither `true` nor `false`.
    #[error("the word verify= of the configuration line must be true or false, not {0:?}")]
    Verify(String),
}

/// Reads the line within `deadline` and nothing beyond it.
///
/// # Errors
/// See [`Error`].
pub async fn read<R>(reader: &mut R, deadline: Duration) -> Result<ConfigLine, Error>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    let mut bounded = reader.take(MAX_LINE as u64);
    tokio::time::timeout(deadline, bounded.read_until(b'\n', &mut line))
        .await
        .map_err(|_| Error::TimedOut(deadline))?
        .map_err(Error::Io)?;
    match line.last() {
        Some(b'\n') => parse(&line),
        _ if line.len() >= MAX_LINE => Err(Error::TooLong),
        _ => Err(Error::Unfinished),
    }
}

/// Reads the words of a line; its end may be there or not.
///
/// # Errors
/// A word that is known, with a value that is not.
pub fn parse(line: &[u8]) -> Result<ConfigLine, Error> {
    let mut config = ConfigLine::default();
    for word in line.split(u8::is_ascii_whitespace) {
        if let Some(value) = word.strip_prefix(b"ca=") {
            config.roots = parse_ca(value)?;
        } else if let Some(value) = word.strip_prefix(b"verify=") {
            config.verify = match value {
                b"true" => true,
                b"false" => false,
                _ => return Err(Error::Verify(excerpt(value))),
            };
        }
    }
    Ok(config)
}

/// An empty value means no CA, as deployed.
fn parse_ca(value: &[u8]) -> Result<Option<Roots>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let pem = STANDARD.decode(value).map_err(Error::CaEncoding)?;
    Roots::parse("ca", &pem).map(Some).map_err(Error::Ca)
}

/// As much of a foreign value as an error may repeat.
fn excerpt(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(40).collect()
}
