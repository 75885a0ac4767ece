//! How a connection ended, and whom that blames.
//!
//! A gateway that cannot reach its target ends the stream without a word (protocol.md §5), so the only sign
//! of it is an end before the first byte, while our side still had something to say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::Error;
use super::route::Route;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Both sides had their say.
    Complete,
    /// The other side ended before its first byte and before our side's end.
    Wordless,
    /// The other side failed, after so many bytes from it.
    Remote(io::Error, u64),
    /// Our side failed.
    Local(io::Error),
}

impl Ending {
    /// The error, if it is one.
    pub(super) fn judge(self, route: &Route) -> Result<(), Error> {
        let (gateway, target) = (route.gateway().clone(), route.target().clone());
        Err(match self {
            Self::Complete => return Ok(()),
            Self::Wordless => Error::Target {
                gateway,
                target,
                source: io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it closed before the first byte; its log says why",
                ),
            },
            Self::Remote(source, 0) => Error::Target {
                gateway,
                target,
                source,
            },
            Self::Remote(source, _) => Error::Broken { target, source },
            Self::Local(source) => Error::Local(source),
        })
    }
}

/// The local stream, and what its two directions tell about the end.
#[derive(Debug)]
pub(super) struct Witness<S> {
    inner: S,
    /// The local program has ended its side.
    ended: bool,
    /// The other side ended first.
    overtaken: bool,
    /// The local stream failed, so an error is not the other side's.
    failed: bool,
}

impl<S> Witness<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            ended: false,
            overtaken: false,
            failed: false,
        }
    }

    /// The verdict on a copy that received so many bytes.
    pub(super) fn ending(&self, received: u64, result: io::Result<()>) -> Ending {
        match result {
            Err(error) if self.failed => Ending::Local(error),
            Err(error) => Ending::Remote(error, received),
            Ok(()) if received == 0 && self.overtaken => Ending::Wordless,
            Ok(()) => Ending::Complete,
        }
    }

    fn note<T>(&mut self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.failed |= matches!(poll, Poll::Ready(Err(_)));
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Witness<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let nothing = buffer.filled().len() == before;
        self.ended |= nothing && matches!(poll, Poll::Ready(Ok(())));
        self.note(poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Witness<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.overtaken |= !self.ended;
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note(poll)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Witness};
    use crate::net::copy::copy_both;
    use crate::net::on_demand::OnDemand;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn an_end_before_the_first_byte_is_wordless() {
        let (mut program, local) = duplex(16);
        let (remote, far) = duplex(16);
        drop(far);
        let mut local = Witness::new(local);
        let talk = async {
            let mut answer = Vec::new();
            program.read_to_end(&mut answer).await.expect("an end");
            drop(program);
        };
        let mut buffered = (OnDemand::new(&mut local), OnDemand::new(remote));
        let copying = copy_both(&mut buffered.0, &mut buffered.1);
        let ((copied, result), ()) = tokio::join!(copying, talk);
        let ending = local.ending(copied.b_to_a, result);
        assert!(matches!(ending, Ending::Wordless), "{ending:?}");
    }

    #[tokio::test]
    async fn a_program_that_has_ended_its_side_needs_no_answer() {
        let (mut program, local) = duplex(16);
        let (remote, mut far) = duplex(16);
        let mut local = Witness::new(local);
        let talk = async {
            program.write_all(b"note this").await.expect("write");
            program.shutdown().await.expect("half-close");
            let mut note = Vec::new();
            far.read_to_end(&mut note).await.expect("an end");
            drop(far);
        };
        let mut buffered = (OnDemand::new(&mut local), OnDemand::new(remote));
        let copying = copy_both(&mut buffered.0, &mut buffered.1);
        let ((copied, result), ()) = tokio::join!(copying, talk);
        let ending = local.ending(copied.b_to_a, result);
        assert!(matches!(ending, Ending::Complete), "{ending:?}");
    }

    #[tokio::test]
    async fn a_failing_program_is_not_the_other_sides_fault() {
        let (program, local) = duplex(16);
        let (remote, mut far) = duplex(16);
        drop(program);
        let mut local = Witness::new(local);
        let talk = async {
            far.write_all(b"too late").await.expect("write");
        };
        let mut buffered = (OnDemand::new(&mut local), OnDemand::new(remote));
        let copying = copy_both(&mut buffered.0, &mut buffered.1);
        let ((copied, result), ()) = tokio::join!(copying, talk);
        let ending = local.ending(copied.b_to_a, result);
        assert!(matches!(ending, Ending::Local(_)), "{ending:?}");
    }
}
