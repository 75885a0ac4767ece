//! How a connection ended, and which part of the way failed.
//!
//! A gateway of this program says whether it reached the target ([`status`](crate::net::status)).
//! Others, when they cannot, end the stream in order and without a word (protocol.md §5), so the
//! only sign of it is an end before the first byte, while our side still had something to say.

use std::io;

use super::error::Error;
use super::route::{Remote, Route};
use crate::net::copy::{Copied, Side};

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Both directions came to their end.
    Complete,
    /// The other side ended before its first byte and before our side's end.
    Wordless,
    /// The other side failed, after so many bytes from it.
    Remote(io::Error, u64),
    /// The other side ended, but did not take all that our side had for it.
    Unsent(io::Error),
    /// Our side failed.
    Local(io::Error),
    /// The program was told to stop.
    Stopped,
}

impl Ending {
    /// That of a copy whose first stream is the local one.
    pub(super) fn of(copied: Copied, is_stopped: bool) -> Self {
        let received = copied.b_to_a.bytes;
        if copied.is_complete() {
            return if received == 0 && copied.ended_first == Some(Side::B) {
                Self::Wordless
            } else {
                Self::Complete
            };
        }
        match copied.failure {
            _ if is_stopped => Self::Stopped,
            None => Self::Stopped,
            Some(failure) if failure.side == Side::A => Self::Local(failure.error),
            Some(failure) if copied.b_to_a.is_complete => Self::Unsent(failure.error),
            Some(failure) => Self::Remote(failure.error, received),
        }
    }

    /// True if nothing was cut off. Otherwise both sides must end abnormally.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(self, Self::Complete | Self::Wordless)
    }

    /// The error, if it is one.
    pub(super) fn judge(self, route: &Route, remote: &Remote) -> Result<(), Error> {
        let is_target_reached = remote.is_target_reached;
        let (gateway, target) = (route.gateway().clone(), route.target().clone());
        Err(match self {
            Self::Complete => return Ok(()),
            Self::Wordless if is_target_reached => return Ok(()),
            Self::Wordless => Error::Silent {
                gateway,
                target,
                source: io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it closed before the first byte; its log says why",
                ),
            },
            Self::Remote(source, 0) if !is_target_reached => Error::Silent {
                gateway,
                target,
                source,
            },
            // An error of the system is one of the only socket, which is connected to the relay.
            Self::Remote(source, _) if source.raw_os_error().is_some() => Error::RelayLost {
                target,
                relay: remote.relay.clone(),
                source,
            },
            Self::Remote(source, _) => Error::Broken { target, source },
            Self::Unsent(source) => Error::Unsent { target, source },
            Self::Local(source) => Error::Local(source),
            Self::Stopped => Error::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ending;
    use crate::net::copy::copy_both;
    use crate::net::pooled_buf_reader::PooledBufReader;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    async fn copy(local: DuplexStream, remote: DuplexStream) -> Ending {
        let (mut local, mut remote) = (PooledBufReader::new(local), PooledBufReader::new(remote));
        Ending::of(copy_both(&mut local, &mut remote).await, false)
    }

    #[tokio::test]
    async fn end_before_the_first_byte_is_silent() {
        let (mut program, local) = duplex(16);
        let (remote, far) = duplex(16);
        drop(far);
        let talk = async {
            let mut answer = Vec::new();
            program.read_to_end(&mut answer).await.expect("an end");
            drop(program);
        };
        let (ending, ()) = tokio::join!(copy(local, remote), talk);
        assert!(matches!(ending, Ending::Wordless), "{ending:?}");
    }

    #[tokio::test]
    async fn finished_program_needs_no_answer() {
        let (mut program, local) = duplex(16);
        let (remote, mut far) = duplex(16);
        let talk = async {
            program.write_all(b"note this").await.expect("write");
            program.shutdown().await.expect("half-close");
            let mut note = Vec::new();
            far.read_to_end(&mut note).await.expect("an end");
            drop(far);
        };
        let (ending, ()) = tokio::join!(copy(local, remote), talk);
        assert!(matches!(ending, Ending::Complete), "{ending:?}");
    }

    #[tokio::test]
    async fn failing_program_is_not_blamed_on_remote() {
        let (program, local) = duplex(16);
        let (remote, mut far) = duplex(16);
        drop(program);
        let talk = async {
            far.write_all(b"too late").await.expect("write");
        };
        let (ending, ()) = tokio::join!(copy(local, remote), talk);
        assert!(matches!(ending, Ending::Local(_)), "{ending:?}");
    }
}
