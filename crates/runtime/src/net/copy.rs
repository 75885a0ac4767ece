//! Copies bytes both ways between two streams, honouring half-close, counts them, and reports how
//! each direction ended.
//!
//! The end of one direction is passed on as the end of that direction only (a shut-down write
//! side); the other goes on. A stream that takes no more bytes may still have some to give, an
//! answer that explains why, so after a failed write the other direction goes on until nothing has
//! moved for [`LINGER`]; a failed read ends both.
//!
//! Only the end of a stream is passed on here. After a failure, or when the copy was stopped, at
//! least one direction is not complete ([`Copied::is_complete`]): the caller must then end both
//! streams abnormally, or what was cut off would look whole to anyone who reads it.
//!
//! There is no buffer here: each stream's bytes are written from where that stream has them, and
//! count as read once they are written. A stream without a buffer of its own, or with one that is
//! too small, gets one that comes and goes
//! ([`PooledBufReader`](super::pooled_buf_reader::PooledBufReader)), so that a silent pair holds
//! none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::traffic::Traffic;
use super::yield_budget::YieldBudget;

/// How long a stream that takes no more bytes may be silent before the copy ends.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// What was copied, and how it ended.
#[derive(Debug, Default)]
pub struct Copied {
    /// From the first stream to the second.
    pub a_to_b: Flow,
    /// From the second stream to the first.
    pub b_to_a: Flow,
    /// The stream that ended first, if one did.
    pub ended_first: Option<Side>,
    /// The first failure.
    pub failure: Option<Failure>,
}

/// One direction of a copy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Bytes written.
    pub bytes: u64,
    /// The reader's end was reached, and everything before it was written.
    pub is_complete: bool,
}

/// What went wrong.
#[derive(Debug)]
pub struct Failure {
    /// The stream that failed.
    pub side: Side,
    /// Whether it failed to be read or to be written.
    pub operation: Operation,
    /// How.
    pub error: io::Error,
}

/// What is done with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    A,
    /// The second one.
    B,
}

impl Copied {
    /// True if both directions came to their end. Otherwise something was cut off, and both streams
    /// must end abnormally.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.a_to_b.is_complete && self.b_to_a.is_complete
    }
}

/// Copies until both directions have ended, or one failed and the other had its time.
pub async fn copy_both<A, B>(a: &mut A, b: &mut B) -> Copied
where
    A: AsyncBufRead + AsyncWrite + Unpin,
    B: AsyncBufRead + AsyncWrite + Unpin,
{
    let (copied, _) =
        copy_both_until(a, b, std::future::pending::<std::convert::Infallible>()).await;
    copied
}

/// Copies like [`copy_both`], or until `stop` resolves, whose output is then there too. The counts
/// are true in all cases.
pub async fn copy_both_until<A, B, S>(a: &mut A, b: &mut B, stop: S) -> (Copied, Option<S::Output>)
where
    A: AsyncBufRead + AsyncWrite + Unpin,
    B: AsyncBufRead + AsyncWrite + Unpin,
    S: Future,
{
    copy_counted_until(a, b, None, stop).await
}

/// Copies like [`copy_both_until`], and counts in `traffic` meanwhile.
pub async fn copy_counted_until<A, B, S>(
    a: &mut A,
    b: &mut B,
    traffic: Option<&Traffic>,
    stop: S,
) -> (Copied, Option<S::Output>)
where
    A: AsyncBufRead + AsyncWrite + Unpin,
    B: AsyncBufRead + AsyncWrite + Unpin,
    S: Future,
{
    let mut there = Direction::default();
    let mut back = Direction::default();
    let mut is_turn_of_a = false;
    let mut ended_first = None;
    let mut failures = Failures::default();
    let copying = std::future::poll_fn(|cx| {
        // Both are polled each time, and each is first every other time: one that never has to wait
        // uses up the task's budget, and would starve the other.
        is_turn_of_a = !is_turn_of_a;
        let mut polls = [Poll::Pending; 2];
        for turn in [is_turn_of_a, !is_turn_of_a] {
            let (poll, from, to) = if turn {
                (there.poll(cx, a, b), Side::A, Side::B)
            } else {
                (back.poll(cx, b, a), Side::B, Side::A)
            };
            let reverse = if turn { &mut back } else { &mut there };
            let Ok(poll) = failures.sift(poll, from, to, reverse) else {
                return Poll::Ready(());
            };
            let [first, second] = &mut polls;
            *(if turn { first } else { second }) = poll;
        }
        if ended_first.is_none() {
            ended_first = match (there.read_ended, back.read_ended) {
                (true, _) => Some(Side::A),
                (false, true) => Some(Side::B),
                (false, false) => None,
            };
        }
        if let Some(traffic) = traffic {
            traffic.set(there.total, back.total);
        }
        let moved = there.total.saturating_add(back.total);
        if polls.iter().all(Poll::is_ready) || failures.is_over(cx, moved) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let stopped = tokio::select! {
        // What has been copied to its end was not stopped.
        biased;
        () = copying => None,
        output = stop => Some(output),
    };
    if let Some(traffic) = traffic {
        traffic.set(there.total, back.total);
    }
    let copied = Copied {
        a_to_b: there.flow(),
        b_to_a: back.flow(),
        ended_first,
        failure: failures.first,
    };
    (copied, stopped)
}

/// The first failure, and how long the other direction still has.
#[derive(Default)]
struct Failures {
    first: Option<Failure>,
    end: Option<Pin<Box<Sleep>>>,
    /// Bytes of both directions when the time began.
    moved: u64,
}

impl Failures {
    /// Notes what failed. A failed read ends the copy (`Err`); after a failed write that direction
    /// has ended.
    fn sift(
        &mut self,
        poll: Poll<Result<(), Fault>>,
        from: Side,
        to: Side,
        reverse: &mut Direction,
    ) -> Result<Poll<()>, ()> {
        match poll {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(Fault::Read(error))) => {
                self.note(from, Operation::Read, error);
                Err(())
            }
            Poll::Ready(Err(Fault::Write(error))) => {
                // A socket that was reset reports it once: whatever is called first fails, and
                // later reads end as if the peer had ended in order. A peer that had, and was
                // written to after that, gives a broken pipe.
                reverse.is_end_doubtful = error.kind() == io::ErrorKind::ConnectionReset;
                self.note(to, Operation::Write, error);
                self.end = Some(Box::pin(tokio::time::sleep(LINGER)));
                Ok(Poll::Ready(()))
            }
        }
    }

    fn note(&mut self, side: Side, operation: Operation, error: io::Error) {
        self.first.get_or_insert(Failure {
            side,
            operation,
            error,
        });
    }

    /// True once the other direction's time is over: it lasts for as long as something moves.
    fn is_over(&mut self, cx: &mut Context<'_>, moved: u64) -> bool {
        let Some(end) = &mut self.end else {
            return false;
        };
        while Future::poll(end.as_mut(), cx).is_ready() {
            if moved == self.moved {
                return true;
            }
            self.moved = moved;
            end.as_mut().reset(Instant::now() + LINGER);
        }
        false
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
    budget: YieldBudget,
    read_ended: bool,
    /// An end that is read from now on may be that of a connection that was reset.
    is_end_doubtful: bool,
    shut_down: bool,
    unflushed: bool,
    /// A write failed: nothing more is copied.
    failed: bool,
}

impl Direction {
    fn flow(&self) -> Flow {
        Flow {
            bytes: self.total,
            is_complete: self.shut_down,
        }
    }

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
            ready!(self.budget.poll_next(cx));
            match Pin::new(&mut *from)
                .poll_fill_buf(cx)
                .map_err(Fault::Read)?
            {
                Poll::Ready([]) if self.is_end_doubtful => {
                    let reset = io::ErrorKind::ConnectionReset.into();
                    return Poll::Ready(Err(Fault::Read(reset)));
                }
                Poll::Ready([]) => self.read_ended = true,
                Poll::Ready(bytes) => {
                    let n =
                        ready!(Pin::new(&mut *to).poll_write(cx, bytes)).map_err(Fault::Write)?;
                    if n == 0 {
                        return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                    }
                    Pin::new(&mut *from).consume(n);
                    self.total = self.total.saturating_add(n as u64);
                    self.budget.moved(n);
                    self.unflushed = true;
                }
                Poll::Pending => {
                    // Nothing more for now: what was written must not wait in a buffer of `to`.
                    ready!(self.poll_flush(cx, to))?;
                    return Poll::Pending;
                }
            }
        }
        ready!(self.poll_flush(cx, to))?;
        if !self.shut_down {
            // A reader that is gone and had taken every byte misses nothing.
            let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
            self.shut_down = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), Fault>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx)).map_err(Fault::Write)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{LINGER, Operation, Side, copy_both, copy_both_until};
    use crate::net::pooled_buf_reader::{BUFFER, PooledBufReader};
    use crate::net::yield_budget::BYTES;
    use std::cell::Cell;
    use std::io;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

    /// It ends after so many bytes, so that a copy that waits for nothing does not go on forever.
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
    fn busy_streams_let_other_tasks_run() {
        let moved = Rc::new(Cell::new(0));
        let stream = || PooledBufReader::new(Endless(Rc::clone(&moved)));
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
    async fn end_of_one_direction_leaves_the_other() {
        let (mut client, a) = tokio::io::duplex(16);
        let (mut server, b) = tokio::io::duplex(16);
        let copy = tokio::task::LocalSet::new();
        copy.run_until(async {
            let copying = tokio::task::spawn_local(async move {
                copy_both(&mut PooledBufReader::new(a), &mut PooledBufReader::new(b)).await
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
            let copied = copying.await.expect("no panic");
            assert!(copied.is_complete(), "{copied:?}");
            assert_eq!((copied.a_to_b.bytes, copied.b_to_a.bytes), (8, 40));
        })
        .await;
    }

    /// Gives an answer, takes nothing.
    struct Stubborn(&'static [u8], io::ErrorKind);

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
            std::task::Poll::Ready(Err(self.1.into()))
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
    async fn failed_write_keeps_what_is_readable() {
        let (mut client, a) = tokio::io::duplex(1024);
        let mut a = PooledBufReader::new(a);
        let mut target =
            PooledBufReader::new(Stubborn(b"413 too large", io::ErrorKind::BrokenPipe));
        client.write_all(b"upload").await.expect("written");
        let copied = copy_both(&mut a, &mut target).await;
        assert!(!copied.a_to_b.is_complete && copied.b_to_a.is_complete);
        let failure = copied.failure.expect("it failed");
        assert_eq!(
            (failure.side, failure.operation, failure.error.kind()),
            (Side::B, Operation::Write, io::ErrorKind::BrokenPipe)
        );
        drop(a);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer, b"413 too large");
    }

    /// The kernel reports a reset once; a read after that ends as if the peer had ended in order.
    #[tokio::test]
    async fn end_after_reset_is_an_error() {
        let (mut client, a) = tokio::io::duplex(1024);
        let mut a = PooledBufReader::new(a);
        let mut target =
            PooledBufReader::new(Stubborn(b"half an ans", io::ErrorKind::ConnectionReset));
        client.write_all(b"upload").await.expect("written");
        let copied = copy_both(&mut a, &mut target).await;
        assert!(!copied.b_to_a.is_complete, "{copied:?}");
        assert_eq!(copied.b_to_a.bytes, 11, "what came before is passed on");
    }

    /// The time of a direction that goes on after a failure begins again with each byte.
    #[tokio::test(start_paused = true)]
    async fn slow_reader_gets_all_after_failed_write() {
        let (mut client, a) = tokio::io::duplex(4);
        let mut a = PooledBufReader::new(a);
        let mut target =
            PooledBufReader::new(Stubborn(b"413 too large", io::ErrorKind::BrokenPipe));
        let reading = async {
            client.write_all(b"up").await.expect("written");
            let mut answer = Vec::new();
            let mut bytes = [0; 4];
            loop {
                tokio::time::sleep(LINGER / 2).await;
                match client.read(&mut bytes).await.expect("read") {
                    0 => return answer,
                    n => answer.extend_from_slice(&bytes[..n]),
                }
            }
        };
        let (copied, answer) = tokio::join!(copy_both(&mut a, &mut target), reading);
        assert!(copied.b_to_a.is_complete, "{copied:?}");
        assert_eq!(answer, b"413 too large");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_write_does_not_await_silence() {
        let (mut client, a) = tokio::io::duplex(1024);
        let (b, gone) = tokio::io::duplex(1024);
        client.write_all(b"upload").await.expect("written");
        drop(gone);
        let copied = copy_both(&mut PooledBufReader::new(a), &mut PooledBufReader::new(b)).await;
        assert!(!copied.is_complete() && copied.failure.is_some());
    }

    #[tokio::test]
    async fn silent_pair_holds_no_buffer() {
        let (mut client, a) = tokio::io::duplex(16);
        let (mut server, b) = tokio::io::duplex(4);
        let (mut a, mut b) = (PooledBufReader::new(a), PooledBufReader::new(b));
        // Stopped as soon as it has nothing more to do.
        let (copied, _) = copy_both_until(&mut a, &mut b, async {}).await;
        assert_eq!(copied.a_to_b.bytes, 0);
        assert!(!a.holds_buffer() && !b.holds_buffer(), "before any byte");

        let asking = client.write_all(b"more than the pipe holds");
        let stop = async { asking.await.expect("room in pipe and buffer") };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert_eq!(copied.a_to_b.bytes, 4);
        assert!(a.holds_buffer(), "what the writer has not taken");

        let mut question = [0; 24];
        let stop = async { server.read_exact(&mut question).await.expect("question") };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert_eq!(copied.a_to_b.bytes, 20);
        assert_eq!(&question, b"more than the pipe holds");
        assert!(
            !a.holds_buffer() && !b.holds_buffer(),
            "once all is passed on"
        );
    }

    #[tokio::test]
    async fn busy_direction_leaves_the_other_its_turn() {
        let endless = || {
            tokio::io::join(
                PooledBufReader::new(tokio::io::repeat(1)),
                tokio::io::sink(),
            )
        };
        let (mut a, mut b) = (endless(), endless());
        let stop = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        let (copied, _) = copy_both_until(&mut a, &mut b, stop).await;
        assert!(
            copied.a_to_b.bytes > 0 && copied.b_to_a.bytes > 0,
            "{copied:?}"
        );
    }
}
