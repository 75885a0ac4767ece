//! One connection on standard input and output, so that `ssh -o ProxyCommand` can use it.
//!
//! The end of the input is passed on as a half-close; the whole ends when the remote side ends,
//! whether or not the input is still open. After any other ending the caller must end the remote
//! side abnormally. Knows nothing of how the remote side was reached.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::ending::Ending;
use crate::net::on_demand::BUFFER;

/// Time for our own end to be sent after the remote side's.
const FAREWELL: Duration = Duration::from_secs(1);

/// Copies until the remote side has ended.
///
/// A remote side that takes no more of what we send may still have an answer on the way, which is
/// received first.
pub(super) async fn copy<I, O, R>(mut input: I, mut output: O, remote: R) -> Ending
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (from_remote, mut to_remote) = tokio::io::split(remote);
    let ending = {
        let send = async {
            tokio::io::copy(&mut input, &mut to_remote).await?;
            // A reader that is gone and had taken every byte misses nothing.
            let _ = to_remote.shutdown().await;
            Ok::<(), io::Error>(())
        };
        let receive = receive(from_remote, &mut output);
        tokio::pin!(send, receive);
        tokio::select! {
            // A failure to send is not missed because the answer has come meanwhile.
            biased;
            sent = &mut send => {
                if let Err(error) = &sent {
                    tracing::debug!(%error, "the remote side takes no more");
                }
                match (receive.await, sent) {
                    // The input had ended too.
                    (Ending::Wordless, Ok(())) => Ending::Complete,
                    (Ending::Wordless | Ending::Complete, Err(error)) => Ending::Unsent(error),
                    (ending, _) => ending,
                }
            }
            ending = &mut receive => ending,
        }
    };
    if ending.is_orderly() {
        let _ = tokio::time::timeout(FAREWELL, to_remote.shutdown()).await;
    }
    ending
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
    async fn the_end_of_the_input_is_a_half_close() {
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

    #[tokio::test]
    async fn it_ends_with_the_remote_side_although_the_input_is_open() {
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
    async fn an_answer_still_arrives_when_the_remote_side_takes_no_more() {
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
    async fn an_end_before_the_first_byte_is_told_from_an_answer_that_is_empty() {
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
