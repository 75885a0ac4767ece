//! Copies bytes both ways between two streams, honouring half-close, and counts them.
//!
//! The end of one direction is passed on as the end of that direction only (a shut-down write side);
//! the other goes on. A stream that takes no more bytes may still have some to give, an answer that explains
//! why, so after a failed write the other direction goes on for [`LINGER`] at most; a failed read ends
//! both.
//!
//! There is no buffer here: each stream's bytes are written from where that stream has them, and count as read once
//! they are written. A stream without a buffer of its own, or with one that is too small, gets one that comes and goes
//! ([`OnDemand`](super::on_demand::OnDemand)), so that a silent pair holds none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::Sleep;

use super::turn::Turn;

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
    A: AsyncBufRead + AsyncWrite + Unpin,
    B: AsyncBufRead + AsyncWrite + Unpin,
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
    A: AsyncBufRead + AsyncWrite + Unpin,
    B: AsyncBufRead + AsyncWrite + Unpin,
    S: Future,
{
    let mut there = Direction::default();
    let mut back = Direction::default();
    let mut is_turn_of_a = false;
    let mut ended_first = None;
    let mut failure = Failure::default();
    let copying = std::future::poll_fn(|cx| {
        // Both are polled each time, and each is first every other time: one that never has to wait uses up the
        // task's budget, and would starve the other.
        is_turn_of_a = !is_turn_of_a;
        let (first, second) = if is_turn_of_a {
            let first = failure.sift(there.poll(cx, a, b))?;
            (first, failure.sift(back.poll(cx, b, a))?)
        } else {
            let first = failure.sift(back.poll(cx, b, a))?;
            (first, failure.sift(there.poll(cx, a, b))?)
        };
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

/// One direction's progress.
#[derive(Default)]
struct Direction {
    total: u64,
    turn: Turn,
    read_ended: bool,
    shut_down: bool,
    unflushed: bool,
    /// A write failed: nothing more is copied.
    failed: bool,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncBufRead + Unpin,
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
        R: AsyncBufRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.read_ended {
            ready!(self.turn.poll_next(cx));
            match Pin::new(&mut *from)
                .poll_fill_buf(cx)
                .map_err(Fault::Read)?
            {
                Poll::Ready([]) => self.read_ended = true,
                Poll::Ready(bytes) => {
                    let n =
                        ready!(Pin::new(&mut *to).poll_write(cx, bytes)).map_err(Fault::Write)?;
                    if n == 0 {
                        return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                    }
                    Pin::new(&mut *from).consume(n);
                    self.total = self.total.saturating_add(n as u64);
                    self.turn.moved(n);
                    self.unflushed = true;
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
        if !self.shut_down {
            ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Write)?;
            self.shut_down = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{copy_both, copy_both_until};
    use crate::net::on_demand::{BUFFER, OnDemand};
    use crate::net::turn::BYTES;
    use std::cell::Cell;
    use std::io;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

    /// After so many bytes it ends, lest a copy that waits for nothing goes on for ever.
    const MUCH: usize = 64 << 20;

    /// Never has to wait, in either direction.
    struct Endless(Rc<Cell<usize>>);

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0.get() < MUCH {
                buffer.put_slice(&[7; 4096]);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.set(self.0.get() + bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn streams_that_never_have_to_wait_let_other_tasks_have_their_turn() {
        let moved = Rc::new(Cell::new(0));
        let stream = || OnDemand::new(Endless(Rc::clone(&moved)));
        let (mut a, mut b) = (stream(), stream());
        let mut copying = pin!(copy_both(&mut a, &mut b));
        let mut cx = Context::from_waker(Waker::noop());
        for turn in 1..=10 {
            assert!(copying.as_mut().poll(&mut cx).is_pending());
            // A turn for each direction, and what the last of its reads has beyond it.
            let most = 2 * turn * (BYTES + BUFFER);
            assert!((1..=most).contains(&moved.get()), "{}", moved.get());
        }
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, a) = tokio::io::duplex(16);
        let (mut server, b) = tokio::io::duplex(16);
        let copy = tokio::task::LocalSet::new();
        copy.run_until(async {
            let copying = tokio::task::spawn_local(async move {
                copy_both(&mut OnDemand::new(a), &mut OnDemand::new(b)).await
            });
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
        let (mut client, a) = tokio::io::duplex(1024);
        let mut a = OnDemand::new(a);
        let mut target = OnDemand::new(Stubborn(b"413 too large"));
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
        let (mut client, a) = tokio::io::duplex(1024);
        let (b, gone) = tokio::io::duplex(1024);
        client.write_all(b"upload").await.expect("written");
        drop(gone);
        let (_, result) = copy_both(&mut OnDemand::new(a), &mut OnDemand::new(b)).await;
        assert!(result.is_err());
    }

    #[tokio::test]
    async fn a_silent_pair_holds_no_buffer_and_one_that_waits_for_a_writer_does() {
        let (mut client, a) = tokio::io::duplex(16);
        let (mut server, b) = tokio::io::duplex(4);
        let (mut a, mut b) = (OnDemand::new(a), OnDemand::new(b));
        // Stopped as soon as it has nothing more to do.
        let (copied, _) = copy_both_until(&mut a, &mut b, async {}).await;
        assert_eq!(copied.a_to_b, 0);
        assert!(!a.holds_buffer() && !b.holds_buffer(), "before any byte");

        let asking = client.write_all(b"more than the pipe holds");
        let stop = async { asking.await.expect("room in pipe and buffer") };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert_eq!(copied.a_to_b, 4);
        assert!(a.holds_buffer(), "what the writer has not taken");

        let mut question = [0; 24];
        let stop = async { server.read_exact(&mut question).await.expect("question") };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert_eq!(copied.a_to_b, 20);
        assert_eq!(&question, b"more than the pipe holds");
        assert!(
            !a.holds_buffer() && !b.holds_buffer(),
            "once all is passed on"
        );
    }

    #[tokio::test]
    async fn a_direction_that_never_waits_leaves_the_other_its_turn() {
        let endless = || tokio::io::join(OnDemand::new(tokio::io::repeat(1)), tokio::io::sink());
        let (mut a, mut b) = (endless(), endless());
        let stop = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert!(copied.a_to_b > 0 && copied.b_to_a > 0, "{copied:?}");
    }
}
