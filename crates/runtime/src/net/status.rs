//! The status of `infisical-tcp-proxy-status`: whether the target was reached, and if not, why.
//!
//! The service is `infisical-tcp-proxy`, except that the gateway sends one status before the
//! target's bytes. Only `infisical connect` offers the name, together with that of the plain
//! service, for gateways that do not know it; nothing is added to the stream of any other client.
//! Clients of this service always send `close_notify`, so an end without it is abnormal.
//!
//! ```text
//! byte    length      reason
//! 0       1           0 to 255 bytes of UTF-8
//! ```
//!
//! Byte 0 is 0 if the target was reached (the length is 0 then, and the target's bytes follow) and
//! 1 if it was not.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The name of the service.
pub const ALPN: &str = "infisical-tcp-proxy-status";

const REACHED: u8 = 0;
const NOT_REACHED: u8 = 1;

/// Sends that the target was reached.
///
/// # Errors
/// The stream failed.
pub async fn send_reached<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&[REACHED, 0]).await?;
    stream.flush().await
}

/// Sends why the target was not reached; of a long reason, the beginning.
///
/// # Errors
/// The stream failed.
pub async fn send_not_reached<S: AsyncWrite + Unpin>(
    stream: &mut S,
    reason: &str,
) -> io::Result<()> {
    let end = reason.floor_char_boundary(usize::from(u8::MAX));
    let reason = reason.get(..end).unwrap_or_default();
    let length = u8::try_from(reason.len()).unwrap_or_default();
    let mut frame = vec![NOT_REACHED, length];
    frame.extend_from_slice(reason.as_bytes());
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads the status: `Err` holds the reason why the target was not reached.
///
/// # Errors
/// The stream failed, or is not of this service.
pub async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<(), String>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let [status, length] = head;
    let mut reason = vec![0; usize::from(length)];
    stream.read_exact(&mut reason).await?;
    match status {
        REACHED => Ok(Ok(())),
        NOT_REACHED => Ok(Err(String::from_utf8_lossy(&reason).into_owned())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{receive, send_not_reached, send_reached};

    #[tokio::test]
    async fn status_is_received_as_sent() {
        let mut wire = Vec::new();
        send_reached(&mut wire).await.expect("written");
        assert_eq!(wire, [0, 0]);
        wire.extend_from_slice(b"bytes of the target");
        let mut rest = &wire[..];
        assert_eq!(receive(&mut rest).await.expect("a status"), Ok(()));
        assert_eq!(rest, b"bytes of the target");

        // Cut between characters where it is too long.
        let long = "é".repeat(200);
        for (reason, received) in [("refused", "refused"), (&*long, &long[..254])] {
            let mut wire = Vec::new();
            send_not_reached(&mut wire, reason).await.expect("written");
            let status = receive(&mut &wire[..]).await.expect("a status");
            assert_eq!(status, Err(received.to_owned()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        for wrong in [&b""[..], b"\0", b"\x01\x05no", b"HTTP/1.1 400"] {
            receive(&mut &wrong[..]).await.expect_err("no status");
        }
    }
}
