//! One connection on standard input and output, so that `ssh -o ProxyCommand` can use it.
//!
//! The end of the input is passed on as a half-close. The end of the remote side is a half-close
//! too: input that is there is still sent, and the whole ends once the input has ended or nothing
//! of it has come for [`IDLE`]. After any ending but an orderly one the caller must end the remote
//! side abnormally. Knows nothing of how the remote side was reached.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::ending::Ending;
use crate::net::pooled_buf_reader::BUFFER;

/// Time for our own end to be sent after the remote side's.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Once the remote side has ended, input that is open and silent for this long is not waited for: a
/// program that has nothing to say keeps it open until we exit.
const IDLE: Duration = Duration::from_millis(500);
/// Once the remote side has ended, it must take some of the input within this time.
const STALLED: Duration = Duration::from_secs(30);

/// Copies until both sides have ended, or the remote side has and no input comes.
///
/// A remote side that takes no more of what we send may still have an answer on the way, which is
/// received first.
pub(super) async fn copy<I, O, R>(input: I, mut output: O, remote: R) -> Ending
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (from_remote, mut to_remote) = tokio::io::split(remote);
    let progress = Progress::default();
    let ending = {
        let send = send(input, &mut to_remote, &progress);
        let receive = receive(from_remote, &mut output);
        tokio::pin!(send, receive);
        let (sent, received) = tokio::select! {
            // A failure to send is not missed because the answer has come meanwhile.
            biased;
            sent = &mut send => {
                if let Err(error) = &sent {
                    tracing::debug!(%error, "the remote side takes no more");
                }
                (Some(sent), receive.await)
            }
            ending = &mut receive => {
                let sent = match ending.is_orderly() {
                    true => finish_sending(send, &progress).await,
                    false => None,
                };
                (sent, ending)
            }
        };
        match (received, sent) {
            // The input had ended too.
            (Ending::Wordless, Some(Ok(()))) => Ending::Complete,
            (Ending::Wordless | Ending::Complete, Some(Err(error))) => Ending::Unsent(error),
            (ending, _) => ending,
        }
    };
    if ending.is_orderly() {
        let _ = tokio::time::timeout(CLOSE_WAIT, to_remote.shutdown()).await;
    }
    ending
}

/// How far sending is.
#[derive(Debug, Default, Clone, PartialEq)]
struct Progress {
    /// Bytes that the remote side has taken.
    sent: Cell<u64>,
    /// Some input was read and not sent yet.
    has_unsent: Cell<bool>,
}

async fn send<I, R>(mut input: I, remote: &mut R, progress: &Progress) -> io::Result<()>
where
    I: AsyncRead + Unpin,
    R: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = input.read(&mut buffer).await?;
        let mut unsent = buffer.get(..count).unwrap_or_default();
        if unsent.is_empty() {
            break;
        }
        progress.has_unsent.set(true);
        while !unsent.is_empty() {
            let count = remote.write(unsent).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            unsent = unsent.get(count..).unwrap_or_default();
            progress.sent.set(progress.sent.get() + count as u64);
        }
        remote.flush().await?;
        progress.has_unsent.set(false);
    }
    // A reader that is gone and had taken every byte misses nothing.
    let _ = remote.shutdown().await;
    Ok(())
}

/// Goes on with `sending` after the remote side has ended; `None` if there was nothing more to
/// send.
async fn finish_sending(
    mut sending: std::pin::Pin<&mut impl Future<Output = io::Result<()>>>,
    progress: &Progress,
) -> Option<io::Result<()>> {
    loop {
        let before = progress.clone();
        let limit = if before.has_unsent.get() {
            STALLED
        } else {
            IDLE
        };
        if let Ok(sent) = tokio::time::timeout(limit, sending.as_mut()).await {
            return Some(sent);
        }
        if *progress == before {
            let is_stalled = before.has_unsent.get();
            return is_stalled.then(|| Err(io::ErrorKind::TimedOut.into()));
        }
    }
}

async fn receive<R, O>(mut remote: R, output: &mut O) -> Ending
where
    R: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let mut received = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        match remote.read(&mut buffer).await {
            Ok(0) => break,
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or_default();
                if let Err(error) = write(output, bytes).await {
                    return Ending::Local(error);
                }
                received += n as u64;
            }
            Err(error) => return Ending::Remote(error, received),
        }
    }
    match output.shutdown().await {
        Err(error) => Ending::Local(error),
        Ok(()) if received == 0 => Ending::Wordless,
        Ok(()) => Ending::Complete,
    }
}

/// Writes and flushes: what an interactive program waits for must not stay in a buffer.
async fn write<O: AsyncWrite + Unpin>(output: &mut O, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes).await?;
    output.flush().await
}

#[cfg(test)]
mod tests {
    use super::{Ending, copy};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, empty};

    #[tokio::test]
    async fn end_of_input_is_a_half_close() {
        let (remote, mut far) = duplex(16);
        let far = async move {
            let mut question = String::new();
            far.read_to_string(&mut question).await.expect("it ends");
            far.write_all(b"a rather long answer")
                .await
                .expect("answer");
            question
        };
        let mut output = Vec::new();
        let copying = copy(&b"a question that fills the pipe"[..], &mut output, remote);
        let (ended, question) = tokio::join!(copying, far);
        assert_eq!(question, "a question that fills the pipe");
        assert!(matches!(ended, Ending::Complete), "{ended:?}");
        assert_eq!(output, b"a rather long answer");
    }

    /// A target that says everything first and goes on reading must get the whole upload.
    #[tokio::test(start_paused = true)]
    async fn input_is_sent_after_remote_end() {
        let (remote, mut far) = duplex(16);
        let (mut program, input) = duplex(16);
        let far = async move {
            far.write_all(b"hello").await.expect("answer");
            far.shutdown().await.expect("half-close");
            let mut upload = Vec::new();
            far.read_to_end(&mut upload).await.expect("it ends");
            upload.len()
        };
        let program = async move {
            for _ in 0..10 {
                program.write_all(&[7; 1000]).await.expect("write");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        let mut output = Vec::new();
        let copying = copy(input, &mut output, remote);
        let (ended, uploaded, ()) = tokio::join!(copying, far, program);
        assert!(matches!(ended, Ending::Complete), "{ended:?}");
        assert_eq!((uploaded, output.as_slice()), (10_000, &b"hello"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn input_that_is_never_taken_is_unsent() {
        let (remote, mut far) = duplex(16);
        let (mut program, input) = duplex(64);
        program.write_all(&[7; 64]).await.expect("write");
        far.shutdown().await.expect("half-close");
        let ended = copy(input, Vec::new(), remote).await;
        assert!(matches!(ended, Ending::Unsent(_)), "{ended:?}");
        drop((far, program));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_remote_side() {
        let (input, _held_open) = duplex(16);
        let (remote, mut far) = duplex(16);
        let far = async move {
            far.write_all(b"bye").await.expect("answer");
        };
        let mut output = Vec::new();
        let (ended, ()) = tokio::join!(copy(input, &mut output, remote), far);
        assert!(matches!(ended, Ending::Complete), "{ended:?}");
        assert_eq!(output, b"bye");
    }

    #[tokio::test]
    async fn answer_arrives_after_remote_stops_reading() {
        // A remote side that fails every write, and answers.
        struct Deaf(&'static [u8]);
        impl tokio::io::AsyncRead for Deaf {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
            }
        }
        impl tokio::io::AsyncWrite for Deaf {
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
        let mut output = Vec::new();
        let ended = copy(&b"unwanted"[..], &mut output, Deaf(b"sorry")).await;
        assert!(matches!(ended, Ending::Unsent(_)), "{ended:?}");
        assert_eq!(output, b"sorry");
    }

    #[tokio::test]
    async fn end_of_empty_answer_is_reported() {
        let (input, _held_open) = duplex(16);
        let (remote, far) = duplex(16);
        drop(far);
        let ended = copy(input, Vec::new(), remote).await;
        assert!(matches!(ended, Ending::Wordless), "{ended:?}");

        let (remote, mut far) = duplex(16);
        let far = async move {
            let mut question = Vec::new();
            far.read_to_end(&mut question).await.expect("it ends");
        };
        let (ended, ()) = tokio::join!(copy(empty(), Vec::new(), remote), far);
        assert!(matches!(ended, Ending::Complete), "{ended:?}");
    }
}
