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
//! 1 if it was not. The reason begins with a word for its [`Class`] and `": "`; without a known word
//! it is that of earlier gateways, which gave a reason only.

use std::io;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The name of the service.
pub const ALPN: &str = "infisical-tcp-proxy-status";

const REACHED: u8 = 0;
const NOT_REACHED: u8 = 1;

/// Why there is no connection to the target, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The target does not answer, refuses, or its name has no address.
    Unreachable,
    /// The gateway refuses: the client's certificate, or one session more than it accepts.
    Refused,
    /// The gateway stops.
    Draining,
}

impl Class {
    const ALL: [Self; 3] = [Self::Unreachable, Self::Refused, Self::Draining];

    /// The word, which the record of sessions has too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Draining => "draining",
        }
    }
}

/// Why there is no connection to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReached {
    /// In one word.
    pub class: Class,
    /// As the gateway has it on record.
    pub reason: String,
}

impl FromStr for NotReached {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Class::ALL.into_iter().find_map(|class| {
            let reason = text.strip_prefix(class.as_str())?.strip_prefix(": ")?;
            Some((class, reason))
        });
        let (class, reason) = known.unwrap_or((Class::Unreachable, text));
        let reason = reason.to_owned();
        Ok(Self { class, reason })
    }
}

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
    NotReached { class, reason }: &NotReached,
) -> io::Result<()> {
    let text = format!("{}: {reason}", class.as_str());
    let end = text.floor_char_boundary(usize::from(u8::MAX));
    let text = text.get(..end).unwrap_or_default();
    let length = u8::try_from(text.len()).unwrap_or_default();
    let mut frame = vec![NOT_REACHED, length];
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads the status: `Err` says why the target was not reached.
///
/// # Errors
/// The stream failed, or is not of this service.
pub async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<(), NotReached>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let [status, length] = head;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    match status {
        REACHED => Ok(Ok(())),
        NOT_REACHED => {
            let Ok(not_reached) = String::from_utf8_lossy(&text).parse();
            Ok(Err(not_reached))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, NotReached, receive, send_not_reached, send_reached};

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
        for class in Class::ALL {
            for reason in ["refused", "unreachable: it is", &long] {
                let mut wire = Vec::new();
                let reason = reason.to_owned();
                let sent = NotReached { class, reason };
                send_not_reached(&mut wire, &sent).await.expect("written");
                let received = receive(&mut &wire[..]).await.expect("a status");
                let received = received.expect_err("a reason");
                assert_eq!(received.class, class);
                assert!(sent.reason.starts_with(&received.reason), "{received:?}");
                assert!(received.reason.len() >= sent.reason.len().min(240));
            }
        }
    }

    #[tokio::test]
    async fn reason_without_a_class_is_understood() {
        for reason in ["connection refused", "refused", "other: words", ""] {
            let mut wire = vec![1, u8::try_from(reason.len()).expect("short")];
            wire.extend_from_slice(reason.as_bytes());
            let received = receive(&mut &wire[..]).await.expect("a status");
            let expected = NotReached {
                class: Class::Unreachable,
                reason: reason.to_owned(),
            };
            assert_eq!(received, Err(expected));
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        for wrong in [&b""[..], b"\0", b"\x01\x05no", b"HTTP/1.1 400"] {
            receive(&mut &wrong[..]).await.expect_err("no status");
        }
    }
}
