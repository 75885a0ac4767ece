//! Copies bytes both ways between two streams, honouring half-close, and counts them.
//!
//! The end of one direction is passed on as the end of that direction only (a shut-down write side);
//! the other goes on. A stream that takes no more bytes may still have some to give, an answer that explains
//! why, so after a failed write the other direction goes on for [`LINGER`] at most; a failed read ends
//! both. Memory per pair: two buffers of [`BUFFER`] bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes buffered in each direction: one full SSH packet's worth of channel data.
pub const BUFFER: usize = 32 * 1024;

/// How long a stream that takes no more bytes is still heard.
pub const LINGER: Duration = Duration::from_secs(5);

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Bytes from the first stream to the second.
    pub a_to_b: u64,
    /// Bytes from the second stream to the first.
    pub b_to_a: u64,
    /// The stream that ended first, if one did.
    pub ended_first: Option<Side>,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    A,
    /// The second one.
    B,
}

/// Copies until both directions have ended, or one failed and the other had its time. The counts are true
/// in both cases.
pub async fn copy_both<A, B>(a: &mut A, b: &mut B) -> (Copied, io::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    match copy_both_until(a, b, std::future::pending::<std::convert::Infallible>()).await {
        (copied, Ok(result)) => (copied, result),
        (_, Err(never)) => match never {},
    }
}

/// Copies like [`copy_both`], or until `stop` resolves, whose output is then the `Err`. The counts are
/// true in all cases.
pub async fn copy_both_until<A, B, S>(
    a: &mut A,
    b: &mut B,
    stop: S,
) -> (Copied, Result<io::Result<()>, S::Output>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    S: Future,
{
    let mut there = Direction::new();
    let mut back = Direction::new();
    let mut ended_first = None;
    let mut failure = Failure::default();
    let copying = std::future::poll_fn(|cx| {
        // Both are polled each time, so neither direction can starve the other.
        let first = failure.sift(there.poll(cx, a, b))?;
        let second = failure.sift(back.poll(cx, b, a))?;
        if ended_first.is_none() {
            ended_first = match (there.read_ended, back.read_ended) {
                (true, _) => Some(Side::A),
                (false, true) => Some(Side::B),
                (false, false) => None,
            };
        }
        if (first.is_ready() && second.is_ready()) || failure.is_over(cx) {
            Poll::Ready(failure.error.take().map_or(Ok(()), Err))
        } else {
            Poll::Pending
        }
    });
    let result = tokio::select! {
        // What has been copied to its end was not stopped.
        biased;
        result = copying => Ok(result),
        output = stop => Err(output),
    };
    (
        Copied {
            a_to_b: there.total,
            b_to_a: back.total,
            ended_first,
        },
        result,
    )
}

/// The first failed write, and how long the other direction still has.
#[derive(Default)]
struct Failure {
    error: Option<io::Error>,
    end: Option<Pin<Box<Sleep>>>,
}

impl Failure {
    /// Keeps a failed write for later: that direction has ended. A failed read is passed on.
    fn sift(&mut self, poll: Poll<Result<(), Fault>>) -> Poll<io::Result<()>> {
        match poll {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(Fault::Read(error))) => Poll::Ready(Err(error)),
            Poll::Ready(Err(Fault::Write(error))) => {
                if self.error.is_none() {
                    self.error = Some(error);
                    self.end = Some(Box::pin(tokio::time::sleep(LINGER)));
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// True once the other direction's time is over.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let end = self.end.as_mut();
        end.is_some_and(|end| Future::poll(end.as_mut(), cx).is_ready())
    }
}

/// Which side of a direction failed.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

/// One direction's buffer and progress.
struct Direction {
    buffer: Box<[u8]>,
    filled: usize,
    written: usize,
    total: u64,
    read_ended: bool,
    shut_down: bool,
    unflushed: bool,
    /// A write failed: nothing more is copied.
    failed: bool,
}

impl Direction {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            written: 0,
            total: 0,
            read_ended: false,
            shut_down: false,
            unflushed: false,
            failed: false,
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.failed {
            return Poll::Ready(Ok(()));
        }
        let poll = self.advance(cx, from, to);
        self.failed = matches!(poll, Poll::Ready(Err(Fault::Write(_))));
        poll
    }

    fn advance<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.written < self.filled {
                let rest = self
                    .buffer
                    .get(self.written..self.filled)
                    .unwrap_or_default();
                let n = ready!(Pin::new(&mut *to).poll_write(cx, rest)).map_err(Fault::Write)?;
                if n == 0 {
                    return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                }
                self.written = self.written.saturating_add(n);
                self.total = self.total.saturating_add(n as u64);
                self.unflushed = true;
            }
            if self.read_ended {
                if !self.shut_down {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Write)?;
                    self.shut_down = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *from)
                .poll_read(cx, &mut buffer)
                .map_err(Fault::Read)?
            {
                Poll::Ready(()) => {
                    self.filled = buffer.filled().len();
                    self.written = 0;
                    self.read_ended = self.filled == 0;
                }
                Poll::Pending => {
                    // Nothing more for now: what was written must not wait in a buffer of `to`.
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::Write)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::copy_both;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut a) = tokio::io::duplex(16);
        let (mut server, mut b) = tokio::io::duplex(16);
        let copy = tokio::task::LocalSet::new();
        copy.run_until(async {
            let copying = tokio::task::spawn_local(async move { copy_both(&mut a, &mut b).await });
            client.write_all(b"question").await.expect("write");
            client.shutdown().await.expect("half-close");
            let mut question = String::new();
            server
                .read_to_string(&mut question)
                .await
                .expect("the question ends");
            assert_eq!(question, "question");
            server
                .write_all(b"a much longer answer than the pipe holds")
                .await
                .expect("answer");
            drop(server);
            let mut answer = String::new();
            client
                .read_to_string(&mut answer)
                .await
                .expect("the answer ends");
            assert_eq!(answer, "a much longer answer than the pipe holds");
            let (copied, result) = copying.await.expect("no panic");
            result.expect("clean end");
            assert_eq!((copied.a_to_b, copied.b_to_a), (8, 40));
        })
        .await;
    }

    /// Gives an answer, takes nothing.
    struct Stubborn(&'static [u8]);

    impl tokio::io::AsyncRead for Stubborn {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.0));
            std::task::Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for Stubborn {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_failed_write_does_not_lose_what_can_be_read() {
        let (mut client, mut a) = tokio::io::duplex(1024);
        let mut target = Stubborn(b"413 too large");
        client.write_all(b"upload").await.expect("written");
        let (_, result) = copy_both(&mut a, &mut target).await;
        assert_eq!(
            result.expect_err("it failed").kind(),
            std::io::ErrorKind::BrokenPipe
        );
        drop(a);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer, b"413 too large");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failed_write_a_silent_other_side_is_not_waited_for() {
        let (mut client, mut a) = tokio::io::duplex(1024);
        let (mut b, gone) = tokio::io::duplex(1024);
        client.write_all(b"upload").await.expect("written");
        drop(gone);
        let (_, result) = copy_both(&mut a, &mut b).await;
        assert!(result.is_err());
    }
}
